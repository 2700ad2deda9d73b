//! Results so large that they would push everything else out of the caches: written past them, without being read first.
//!
//! Whether that is done is a matter of the size alone, and it changes no number.

use crate::isa::portable::F32x4;
use crate::isa::vector::Vector;
use crate::{Isa, Real};

/// Bytes of a result beyond which most of it would be gone from the caches before it is read again.
const LARGE: usize = 16 << 20;
/// The same of all that is read and written together.
const LARGE_IN_ALL: usize = 32 << 20;
/// Bytes of a cache line.
const LINE: usize = 64;

/// How many numbers must be read for each number of a result if it is to be written past the caches.
pub(crate) fn large_from<T>(y: &[T]) -> usize {
    match size_of_val(y) {
        _ if !y.as_ptr().addr().is_multiple_of(LINE) => usize::MAX,
        LARGE.. => 0,
        bytes => LARGE_IN_ALL.div_ceil(bytes.max(1)) - 1,
    }
}

/// Whether a result is to be written past the caches, whatever is read for it.
pub(crate) fn is_large<T>(y: &[T]) -> bool {
    large_from(y) == 0
}

/// These numbers, if they are `f32`.
fn as_f32<T: Real>(x: &[T]) -> Option<&[f32]> {
    // SAFETY: only `f32` and `f64` are `Real`, so that four bytes are an `f32`.
    (size_of::<T>() == size_of::<f32>()).then(|| unsafe { std::slice::from_raw_parts(x.as_ptr().cast(), x.len()) })
}

/// These numbers, if they are `f32`.
fn as_f32_mut<T: Real>(x: &mut [T]) -> Option<&mut [f32]> {
    // SAFETY: as above; the borrow passes on.
    (size_of::<T>() == size_of::<f32>()).then(|| unsafe { std::slice::from_raw_parts_mut(x.as_mut_ptr().cast(), x.len()) })
}

/// A function of the numbers at one place of N slices and of K repeating ones.
pub(crate) trait Lanewise<const N: usize, const K: usize>: Copy {
    /// Its value for a vector of places.
    ///
    /// # Safety
    /// The CPU has the instructions of `V`.
    unsafe fn value<V: Vector>(self, x: [V; N], repeated: [V; K]) -> V;
}

/// What [`write`] computes with: N slices as long as the result, and K that repeat over and over, all as long as the first.
struct Operands<'a, const N: usize, const K: usize> {
    x: [&'a [f32]; N],
    repeated: [&'a [f32]; K],
    y: &'a mut [f32],
}

/// y ← the function of x and the repeated numbers, past the caches; y begins a cache line. Returns whether it was done:
/// it is for `f32`, when the repeated numbers fill whole cache lines and there are at least so many operands as [`large_from`] says.
pub(crate) fn write<T: Real, L: Lanewise<N, K>, const N: usize, const K: usize>(
    large_from: usize,
    isa: Isa,
    function: L,
    x: [&[T]; N],
    repeated: [&[T]; K],
    y: &mut [T],
) -> bool {
    if N < large_from {
        return false;
    }
    let period = repeated.first().map_or(LINE / size_of::<f32>(), |first| first.len());
    assert!(x.iter().all(|x| x.len() == y.len()) && repeated.iter().all(|repeated| repeated.len() == period), "slices of one length");
    if !y.as_ptr().addr().is_multiple_of(LINE) || !(period * size_of::<T>()).is_multiple_of(LINE) || period == 0 {
        return false;
    }
    let Some(y) = as_f32_mut(y) else { return false };
    let operands = Operands { x: x.map(|x| as_f32(x).unwrap_or_default()), repeated: repeated.map(|x| as_f32(x).unwrap_or_default()), y };
    match isa {
        // SAFETY: the token proves the instructions; the lengths and the place of y were looked at above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(_) | Isa::Amx(_) => unsafe { avx512(function, operands, period) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) => unsafe { avx2(function, operands, period) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(_) => unsafe { neon(function, operands, period) },
        // SAFETY: as above; these vectors need no special instructions.
        _ => unsafe { periods::<F32x4, L, N, K>(function, operands, period) },
    }
    true
}

/// # Safety
/// As [`periods`], with AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn avx512<L: Lanewise<N, K>, const N: usize, const K: usize>(function: L, operands: Operands<'_, N, K>, period: usize) {
    // SAFETY: by this function's contract.
    unsafe { periods::<std::arch::x86_64::__m512, L, N, K>(function, operands, period) }
}

/// # Safety
/// As [`periods`], with AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<L: Lanewise<N, K>, const N: usize, const K: usize>(function: L, operands: Operands<'_, N, K>, period: usize) {
    // SAFETY: by this function's contract.
    unsafe { periods::<std::arch::x86_64::__m256, L, N, K>(function, operands, period) }
}

/// # Safety
/// As [`periods`], with NEON.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
unsafe fn neon<L: Lanewise<N, K>, const N: usize, const K: usize>(function: L, operands: Operands<'_, N, K>, period: usize) {
    // SAFETY: by this function's contract.
    unsafe { periods::<std::arch::aarch64::float32x4_t, L, N, K>(function, operands, period) }
}

/// # Safety
/// The CPU has the instructions of `V`. The operands are as long as [`Operands`] says, the repeated ones `period` numbers,
/// which are a whole number of vectors, and `y` begins a cache line.
#[inline(always)]
unsafe fn periods<V: Vector, L: Lanewise<N, K>, const N: usize, const K: usize>(function: L, operands: Operands<'_, N, K>, period: usize) {
    let Operands { x, repeated, y } = operands;
    let len = y.len();
    let whole = len - len % V::LANES;
    let (x, repeated, y) = (x.map(<[f32]>::as_ptr), repeated.map(<[f32]>::as_ptr), y.as_mut_ptr());
    for start in (0..whole).step_by(period) {
        for place in (0..period.min(whole - start)).step_by(V::LANES) {
            // SAFETY: the vectors at these places lie inside the slices; those of y at multiples of their size.
            unsafe {
                let value = function.value(x.map(|x| V::load(x.add(start + place))), repeated.map(|repeated| V::load(repeated.add(place))));
                value.stream(y.add(start + place));
            }
        }
    }
    let rest = len - whole;
    if rest > 0 {
        // SAFETY: only what is left is read and written.
        unsafe {
            let place = whole % period;
            let load = |x: *const f32| V::load_first(x, rest);
            let value = function.value(x.map(|x| load(x.add(whole))), repeated.map(|repeated| load(repeated.add(place))));
            value.store_first(y.add(whole), rest);
        }
    }
    // SAFETY: the instruction is there by the contract.
    unsafe { V::fence() };
}

/// Makes what was streamed visible before whatever this thread writes next.
pub(crate) fn fence(isa: Isa) {
    match isa {
        Isa::Portable => {}
        // SAFETY: the instruction is part of every x86-64.
        #[cfg(target_arch = "x86_64")]
        _ => unsafe { std::arch::x86_64::__m256::fence() },
        #[cfg(not(target_arch = "x86_64"))]
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    struct ScaledDifference;

    impl Lanewise<2, 1> for ScaledDifference {
        unsafe fn value<V: Vector>(self, [a, b]: [V; 2], [scale]: [V; 1]) -> V {
            // SAFETY: by the contract.
            unsafe { a.sub(b).mul(scale) }
        }
    }

    #[test]
    fn every_place_is_written_and_nothing_beside() {
        let mut memory = vec![f32::NAN; 5000];
        let first = memory.as_ptr().align_offset(LINE);
        let numbers = |count: usize, factor: usize| (0..count).map(|place| (place * factor % 13) as f32).collect::<Vec<_>>();
        for isa in Isa::available() {
            for (count, period) in [(0, 16), (5, 16), (64, 16), (777, 48), (4000, 256), (100, 160)] {
                let (a, b, scale) = (numbers(count, 3), numbers(count, 5), numbers(period, 1));
                memory.fill(-1.0);
                assert!(write(0, isa, ScaledDifference, [&a, &b], [&scale], &mut memory[first..first + count]));
                let expected = |place: usize| (a[place] - b[place]) * scale[place % period];
                assert!((0..count).all(|place| memory[first + place] == expected(place)), "{isa}, {count} numbers");
                assert!(memory[..first].iter().chain(&memory[first + count..]).all(|&number| number == -1.0));
            }
            assert!(!write(0, isa, ScaledDifference, [&[1.0; 9], &[0.0; 9]], [&[1.0; 9]], &mut memory[first..first + 9]));
            assert!(!write(0, isa, ScaledDifference, [&[1.0_f64; 16], &[0.0; 16]], [&[1.0; 16]], &mut [0.0; 16]));
        }
    }
}
