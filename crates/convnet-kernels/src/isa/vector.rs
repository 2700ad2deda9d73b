//! The few operations on vectors of `f32` that kernels are written with.
//!
//! A kernel is an `#[inline(always)]` function generic over [`Vector`]; one `#[target_feature]` function for each
//! instruction set gives it a body. The operations are `unsafe` because they execute instructions that the CPU must
//! have: whoever calls such a function holds the token that proves it.

/// Most numbers in one register of any instruction set.
const MOST_LANES: usize = 16;

/// A register full of `f32`.
///
/// # Safety
/// Every method may execute instructions of the instruction set that the type belongs to; the caller vouches for them.
/// Methods with pointers read or write exactly the stated number of `f32`, at any alignment.
pub(crate) trait Vector: Copy {
    /// Numbers in one register.
    const LANES: usize;
    /// Whether [`mul_add_lane`](Self::mul_add_lane) is one instruction, so that numbers that lie side by side are better read
    /// together than each into all lanes of a register.
    const BY_LANE: bool = false;

    /// All lanes zero.
    unsafe fn zero() -> Self;
    /// All lanes `value`.
    unsafe fn splat(value: f32) -> Self;
    /// Reads `LANES` numbers.
    unsafe fn load(from: *const f32) -> Self;
    /// Writes `LANES` numbers.
    unsafe fn store(self, to: *mut f32);
    /// Writes `LANES` numbers past the caches where the instruction set can, to a place whose address is a multiple of the
    /// register's size. [`fence`](Self::fence) must follow before another thread may read them.
    #[inline(always)]
    unsafe fn stream(self, to: *mut f32) {
        // SAFETY: by the trait's contract.
        unsafe { self.store(to) }
    }
    /// Makes what [`stream`](Self::stream) wrote visible before whatever this thread writes next.
    #[inline(always)]
    unsafe fn fence() {}
    /// Asks for the cache line of an address, which need not be a valid one.
    unsafe fn prefetch(from: *const f32);
    /// As [`prefetch`](Self::prefetch), but only into the second-level cache: for what is needed much later.
    unsafe fn prefetch_early(from: *const f32);
    /// As [`prefetch`](Self::prefetch), for a line that will be written.
    unsafe fn prefetch_for_write(to: *mut f32);
    /// Reads the first `count` ≤ `LANES` numbers and nothing beyond; the other lanes are zero.
    unsafe fn load_first(from: *const f32, count: usize) -> Self;
    /// Writes the first `count` ≤ `LANES` numbers and nothing beyond.
    unsafe fn store_first(self, to: *mut f32, count: usize);
    /// `self · factor + term`, rounded once where the instruction set can.
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self;
    /// `self · (lane LANE of factors) + term`, rounded as [`mul_add`](Self::mul_add).
    #[inline(always)]
    unsafe fn mul_add_lane<const LANE: usize>(self, factors: Self, term: Self) -> Self {
        let mut lanes = [0.0; MOST_LANES];
        // SAFETY: by the trait's contract; there is room for the numbers of any register.
        unsafe {
            factors.store(lanes.as_mut_ptr());
            Self::splat(lanes[LANE]).mul_add(self, term)
        }
    }
    /// `self + other`
    unsafe fn add(self, other: Self) -> Self;
    /// `self − other`
    unsafe fn sub(self, other: Self) -> Self;
    /// `self · other`
    unsafe fn mul(self, other: Self) -> Self;
    /// Negative lanes become zero; NaN stays NaN.
    unsafe fn relu(self) -> Self;
    /// Lanes stay where `condition` is above zero; the others become zero.
    unsafe fn where_positive(self, condition: Self) -> Self;
}

#[cfg(test)]
mod tests {
    use super::super::portable::F32x4;
    use super::*;

    #[repr(align(64))]
    struct Aligned([f32; 16]);

    /// Runs every operation on numbers whose results are known.
    ///
    /// # Safety
    /// The CPU has the instructions of `V`.
    unsafe fn every_operation<V: Vector>() {
        let numbers: Vec<f32> = (0..V::LANES).map(|lane| lane as f32 - 2.0).collect();
        let mut out = vec![0.0; V::LANES];
        // SAFETY: by this function's contract; `numbers` and `out` hold LANES numbers each.
        unsafe {
            let x = V::load(numbers.as_ptr());
            x.mul_add(V::splat(3.0), V::splat(0.5)).store(out.as_mut_ptr());
            assert!(out.iter().zip(&numbers).all(|(out, x)| *out == 3.0 * x + 0.5));
            let half = V::splat(0.5);
            let by_lane =
                [x.mul_add_lane::<0>(x, half), x.mul_add_lane::<1>(x, half), x.mul_add_lane::<2>(x, half), x.mul_add_lane::<3>(x, half)];
            for (by_lane, factor) in by_lane.into_iter().zip(&numbers) {
                by_lane.store(out.as_mut_ptr());
                assert!(out.iter().zip(&numbers).all(|(out, x)| *out == x * factor + 0.5));
            }
            x.sub(V::splat(3.0)).mul(x).store(out.as_mut_ptr());
            assert!(out.iter().zip(&numbers).all(|(out, x)| *out == (x - 3.0) * x));
            let mut aligned = Aligned([0.0; 16]);
            V::prefetch(aligned.0.as_ptr());
            V::prefetch_for_write(aligned.0.as_mut_ptr());
            x.stream(aligned.0.as_mut_ptr());
            V::fence();
            assert!(aligned.0.iter().zip(&numbers).all(|(out, x)| out == x));
            x.add(V::zero()).relu().store(out.as_mut_ptr());
            assert!(out.iter().zip(&numbers).all(|(out, x)| *out == x.max(0.0)));
            V::splat(f32::NAN).relu().store(out.as_mut_ptr());
            assert!(out.iter().all(|out| out.is_nan()));
            for count in 0..=V::LANES {
                out.fill(7.0);
                V::load_first(numbers.as_ptr(), count).store(out.as_mut_ptr());
                assert!((0..V::LANES).all(|lane| out[lane] == if lane < count { numbers[lane] } else { 0.0 }), "{count}");
                out.fill(7.0);
                x.store_first(out.as_mut_ptr(), count);
                assert!((0..V::LANES).all(|lane| out[lane] == if lane < count { numbers[lane] } else { 7.0 }), "{count}");
            }
        }
    }

    #[test]
    fn vectors_of_every_set_compute_the_same() {
        // SAFETY: portable operations need nothing.
        unsafe { every_operation::<F32x4>() };
        #[cfg(target_arch = "x86_64")]
        {
            if crate::isa::Avx2::detect().is_some() {
                // SAFETY: the CPU has AVX2 and FMA.
                unsafe { every_operation::<std::arch::x86_64::__m256>() };
            }
            if crate::isa::Avx512::detect().is_some() {
                // SAFETY: the CPU has AVX-512.
                unsafe { every_operation::<std::arch::x86_64::__m512>() };
            }
        }
        #[cfg(target_arch = "aarch64")]
        if crate::isa::Neon::detect().is_some() {
            // SAFETY: the CPU has NEON.
            unsafe { every_operation::<std::arch::aarch64::float32x4_t>() };
        }
    }
}
