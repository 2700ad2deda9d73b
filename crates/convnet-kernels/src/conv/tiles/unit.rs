//! The tile unit: four sums of 16×16 numbers, two operands for their rows and two for their columns.
//!
//! ```text
//! sum(l, r)[i][j] ← sum(l, r)[i][j] + (Σ over p of left(l)[i][2p] · right(r)[p][2j]) + (Σ over p of left(l)[i][2p + 1] · right(r)[p][2j + 1])
//! ```
//!
//! with p from 0 to 15. This is TDPBF16PS of AMX (Intel, "Architecture Instruction Set Extensions Programming Reference", 2023): both sums
//! over p begin at zero and are added up in order with fused multiply-adds, then they are added to each other, then to what
//! was there, each time rounded to the nearest. [`Emulated`] does the same with vectors, so that every computer gets the same
//! bits. One thing differs: AMX takes numbers below 2⁻¹²⁶ for zero wherever they come up in sums. Operands never have any, as
//! [`split`](super::split) sees to.
//!
//! The product of two bfloat16 numbers has at most 16 bits, so that it is exact in `f32`, and a multiplication with an
//! addition rounds as a fused one does.

use std::marker::PhantomData;

use super::split::widen;
use crate::isa::vector::Vector;

/// Rows of a sum and of a left operand, columns of a sum and of a right operand, and pairs of both operands.
pub(super) const SIDE: usize = 16;
/// Numbers of a left operand's row, and of a right operand's column: what one step sums over.
pub(super) const DEPTH: usize = 2 * SIDE;
/// Numbers of an operand.
pub(super) const OPERAND: usize = SIDE * DEPTH;

/// Where something is computed.
///
/// # Safety
/// The methods may execute instructions that the CPU must have; whoever calls [`configured`](Self::configured) vouches for them.
/// Pointers must be good for what the methods say they read or write.
pub(super) trait Unit {
    /// Vectors that the same CPU has, for what is done around products.
    type V: Vector;

    /// A unit ready for work, its contents undefined. It is given back when it is dropped.
    unsafe fn configured() -> Self;

    /// The first `ROWS` by `COLUMNS` sums (each of one or two) ← 0
    unsafe fn clear<const ROWS: usize, const COLUMNS: usize>(&mut self);

    /// The first `ROWS` by `COLUMNS` sums ← 16·`ROWS` rows of 16·`COLUMNS` numbers that begin `step` numbers apart
    unsafe fn load_sums<const ROWS: usize, const COLUMNS: usize>(&mut self, from: *const f32, step: usize);

    /// The reverse of [`load_sums`](Self::load_sums).
    unsafe fn store_sums<const ROWS: usize, const COLUMNS: usize>(&self, to: *mut f32, step: usize);

    /// Left operand `INDEX` ← 16 rows of 32 bfloat16 numbers that begin `step` numbers apart
    unsafe fn load_left<const INDEX: usize>(&mut self, from: *const u16, step: usize);

    /// Right operand `INDEX` ← 512 bfloat16 numbers, `[pair][column][member of the pair]`
    unsafe fn load_right<const INDEX: usize>(&mut self, from: *const u16);

    /// Adds to the first `ROWS` by `COLUMNS` sums the products of their operands.
    unsafe fn multiply<const ROWS: usize, const COLUMNS: usize>(&mut self);
}

/// A unit of vectors, for computers without tiles. `BLOCK` rows of a sum are computed at a time.
#[repr(align(64))]
pub(super) struct Emulated<V, const BLOCK: usize> {
    /// `[2·left + right][row][column]`
    sums: [[f32; SIDE * SIDE]; 4],
    /// `[row][number]`
    left: [[f32; OPERAND]; 2],
    /// `[member of the pair][pair][column]`
    right: [[f32; OPERAND]; 2],
    vector: PhantomData<V>,
}

impl<V: Vector, const BLOCK: usize> Unit for Emulated<V, BLOCK> {
    type V = V;

    #[inline(always)]
    unsafe fn configured() -> Self {
        Self { sums: [[0.0; SIDE * SIDE]; 4], left: [[0.0; OPERAND]; 2], right: [[0.0; OPERAND]; 2], vector: PhantomData }
    }

    #[inline(always)]
    unsafe fn clear<const ROWS: usize, const COLUMNS: usize>(&mut self) {
        for row in 0..ROWS {
            for column in 0..COLUMNS {
                self.sums[2 * row + column].fill(0.0);
            }
        }
    }

    #[inline(always)]
    unsafe fn load_sums<const ROWS: usize, const COLUMNS: usize>(&mut self, from: *const f32, step: usize) {
        for row in 0..ROWS {
            for column in 0..COLUMNS {
                for (line, numbers) in self.sums[2 * row + column].chunks_exact_mut(SIDE).enumerate() {
                    // SAFETY: the rows can be read, by the trait's contract.
                    let from = unsafe { from.add((SIDE * row + line) * step + SIDE * column).cast::<[f32; SIDE]>().read_unaligned() };
                    numbers.copy_from_slice(&from);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn store_sums<const ROWS: usize, const COLUMNS: usize>(&self, to: *mut f32, step: usize) {
        for row in 0..ROWS {
            for column in 0..COLUMNS {
                for (line, numbers) in self.sums[2 * row + column].as_chunks::<SIDE>().0.iter().enumerate() {
                    // SAFETY: the rows can be written, by the trait's contract.
                    unsafe { to.add((SIDE * row + line) * step + SIDE * column).cast::<[f32; SIDE]>().write_unaligned(*numbers) };
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn load_left<const INDEX: usize>(&mut self, from: *const u16, step: usize) {
        for (row, numbers) in self.left[INDEX].chunks_exact_mut(DEPTH).enumerate() {
            // SAFETY: the row can be read, by the trait's contract.
            let from = unsafe { from.add(row * step).cast::<[u16; DEPTH]>().read_unaligned() };
            for (number, bits) in numbers.iter_mut().zip(from) {
                *number = widen(bits);
            }
        }
    }

    #[inline(always)]
    unsafe fn load_right<const INDEX: usize>(&mut self, from: *const u16) {
        let (first, second) = self.right[INDEX].split_at_mut(OPERAND / 2);
        for (place, (first, second)) in first.iter_mut().zip(second).enumerate() {
            // SAFETY: the operand can be read, by the trait's contract.
            [*first, *second] = of_pair(unsafe { from.cast::<u32>().add(place).read_unaligned() });
        }
    }

    #[inline(always)]
    unsafe fn multiply<const ROWS: usize, const COLUMNS: usize>(&mut self) {
        for row in 0..ROWS {
            for column in 0..COLUMNS {
                // SAFETY: the CPU has the instructions of `V`, by the trait's contract.
                unsafe { dot::<V, BLOCK>(&mut self.sums[2 * row + column], &self.left[row], &self.right[column]) };
            }
        }
    }
}

/// Both members of a pair that was read as one number.
#[inline(always)]
fn of_pair(pair: u32) -> [f32; 2] {
    let pair = if cfg!(target_endian = "big") { pair.rotate_left(16) } else { pair };
    [f32::from_bits(pair << 16), f32::from_bits(pair & 0xffff_0000)]
}

/// Adds the products of two operands to a sum, `BLOCK` rows at a time.
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn dot<V: Vector, const BLOCK: usize>(sum: &mut [f32; SIDE * SIDE], left: &[f32; OPERAND], right: &[f32; OPERAND]) {
    for first in (0..SIDE).step_by(V::LANES) {
        for (sum, left) in sum.chunks_exact_mut(BLOCK * SIDE).zip(left.chunks_exact(BLOCK * DEPTH)) {
            // SAFETY: by the contract. A row of the sum has 16 columns, whole vectors, and so has each member of a pair.
            unsafe {
                let (mut even, mut odd) = ([V::zero(); BLOCK], [V::zero(); BLOCK]);
                for pair in 0..SIDE {
                    let place = pair * SIDE + first;
                    let [first_member, second_member] =
                        [place, place + OPERAND / 2].map(|place| V::load(right[place..][..V::LANES].as_ptr()));
                    for row in 0..BLOCK {
                        even[row] = V::splat(left[row * DEPTH + 2 * pair]).mul_add(first_member, even[row]);
                        odd[row] = V::splat(left[row * DEPTH + 2 * pair + 1]).mul_add(second_member, odd[row]);
                    }
                }
                for row in 0..BLOCK {
                    let numbers = &mut sum[row * SIDE + first..][..V::LANES];
                    let total = V::load(numbers.as_ptr()).add(even[row].add(odd[row]));
                    total.store(numbers.as_mut_ptr());
                }
            }
        }
    }
}

/// The tile registers of AMX: sums in tiles 0 to 3, left operands in 4 and 5, right operands in 6 and 7.
#[cfg(target_arch = "x86_64")]
pub(super) struct Tiles(());

#[cfg(target_arch = "x86_64")]
impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: who made this vouched for AMX.
        unsafe { crate::isa::amx::release() };
    }
}

#[cfg(target_arch = "x86_64")]
impl Unit for Tiles {
    type V = std::arch::x86_64::__m512;

    #[inline(always)]
    unsafe fn configured() -> Self {
        // SAFETY: AMX by the trait's contract; dropping the unit releases the tiles.
        unsafe { crate::isa::amx::configure() };
        Self(())
    }

    #[inline(always)]
    unsafe fn clear<const ROWS: usize, const COLUMNS: usize>(&mut self) {
        use crate::isa::amx::zero;
        // SAFETY: the tiles are configured while `self` is there.
        unsafe {
            zero::<0>();
            if COLUMNS > 1 {
                zero::<1>();
            }
            if ROWS > 1 {
                zero::<2>();
            }
            if ROWS > 1 && COLUMNS > 1 {
                zero::<3>();
            }
        }
    }

    #[inline(always)]
    unsafe fn load_sums<const ROWS: usize, const COLUMNS: usize>(&mut self, from: *const f32, step: usize) {
        use crate::isa::amx::load;
        let from = |row: usize, column: usize| from.wrapping_add(SIDE * (row * step + column)).cast::<u8>();
        // SAFETY: the tiles are configured while `self` is there, and the rows can be read, by the trait's contract.
        unsafe {
            load::<0>(from(0, 0), 4 * step);
            if COLUMNS > 1 {
                load::<1>(from(0, 1), 4 * step);
            }
            if ROWS > 1 {
                load::<2>(from(1, 0), 4 * step);
            }
            if ROWS > 1 && COLUMNS > 1 {
                load::<3>(from(1, 1), 4 * step);
            }
        }
    }

    #[inline(always)]
    unsafe fn store_sums<const ROWS: usize, const COLUMNS: usize>(&self, to: *mut f32, step: usize) {
        use crate::isa::amx::store;
        let to = |row: usize, column: usize| to.wrapping_add(SIDE * (row * step + column)).cast::<u8>();
        // SAFETY: the tiles are configured while `self` is there, and the rows can be written, by the trait's contract.
        unsafe {
            store::<0>(to(0, 0), 4 * step);
            if COLUMNS > 1 {
                store::<1>(to(0, 1), 4 * step);
            }
            if ROWS > 1 {
                store::<2>(to(1, 0), 4 * step);
            }
            if ROWS > 1 && COLUMNS > 1 {
                store::<3>(to(1, 1), 4 * step);
            }
        }
    }

    #[inline(always)]
    unsafe fn load_left<const INDEX: usize>(&mut self, from: *const u16, step: usize) {
        // SAFETY: the tiles are configured while `self` is there, and the rows can be read, by the trait's contract.
        unsafe {
            match INDEX {
                0 => crate::isa::amx::load::<4>(from.cast(), 2 * step),
                _ => crate::isa::amx::load::<5>(from.cast(), 2 * step),
            }
        }
    }

    #[inline(always)]
    unsafe fn load_right<const INDEX: usize>(&mut self, from: *const u16) {
        // SAFETY: the tiles are configured while `self` is there, and the operand can be read, by the trait's contract.
        unsafe {
            match INDEX {
                0 => crate::isa::amx::load::<6>(from.cast(), 2 * DEPTH),
                _ => crate::isa::amx::load::<7>(from.cast(), 2 * DEPTH),
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply<const ROWS: usize, const COLUMNS: usize>(&mut self) {
        use crate::isa::amx::dot;
        // SAFETY: the tiles are configured while `self` is there.
        unsafe {
            dot::<0, 0>();
            if COLUMNS > 1 {
                dot::<0, 1>();
            }
            if ROWS > 1 {
                dot::<1, 0>();
            }
            if ROWS > 1 && COLUMNS > 1 {
                dot::<1, 1>();
            }
        }
    }
}

#[cfg(test)]
mod tests;
