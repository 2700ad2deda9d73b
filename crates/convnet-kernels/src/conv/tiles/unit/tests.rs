//! Every unit of this computer against the definition of TDPBF16PS.

use super::super::split::round;
use super::*;
use crate::isa::portable::F32x4;

/// Numbers below 2⁻¹²⁶ become zero, as everywhere in the definition.
fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0.0f32.copysign(x) } else { x }
}

/// The definition, one number at a time.
fn definition(sum: &mut [f32; SIDE * SIDE], left: &[u16; OPERAND], right: &[u16; OPERAND]) {
    for row in 0..SIDE {
        for column in 0..SIDE {
            let mut members = [0.0f32; 2];
            for pair in 0..SIDE {
                for (member, total) in members.iter_mut().enumerate() {
                    let a = flushed(widen(left[row * DEPTH + 2 * pair + member]));
                    let b = flushed(widen(right[pair * DEPTH + 2 * column + member]));
                    *total = flushed(a.mul_add(b, *total));
                }
            }
            let total = &mut sum[row * SIDE + column];
            *total = flushed(flushed(*total) + flushed(members[0] + members[1]));
        }
    }
}

struct Case {
    sums: Vec<f32>,
    left: [[u16; OPERAND]; 2],
    right: [[u16; OPERAND]; 2],
}

/// Numbers of both signs between 2^-`span` and 2^`span`, so that sums cancel and round at every place.
fn case(seed: u32, span: f32) -> Case {
    let mut state = seed.wrapping_mul(0x9e37_79b1) | 1;
    let mut number = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let size = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
        (size * span).exp2() * if state & 1 == 0 { 1.0 } else { -1.0 }
    };
    let sums = (0..4 * SIDE * SIDE).map(|_| number()).collect();
    let mut operand = || std::array::from_fn(|_| round(number()));
    Case { sums, left: [operand(), operand()], right: [operand(), operand()] }
}

/// What a unit makes of a case, with operands whose rows lie apart.
///
/// # Safety
/// The CPU has the instructions of `U`.
unsafe fn computed<U: Unit, const ROWS: usize, const COLUMNS: usize>(case: &Case) -> Vec<f32> {
    let step = DEPTH + 3;
    let spread = |operand: &[u16; OPERAND]| {
        let mut rows = vec![0xffff; SIDE * step];
        rows.chunks_exact_mut(step).zip(operand.chunks_exact(DEPTH)).for_each(|(to, from)| to[..DEPTH].copy_from_slice(from));
        rows
    };
    let left = [spread(&case.left[0]), spread(&case.left[1])];
    let mut sums = case.sums.clone();
    // SAFETY: by this function's contract; all operands have their full size, and there are 32 rows of 32 sums.
    unsafe {
        let mut unit = U::configured();
        unit.load_sums::<ROWS, COLUMNS>(sums.as_ptr(), 2 * SIDE);
        unit.load_left::<0>(left[0].as_ptr(), step);
        unit.load_left::<1>(left[1].as_ptr(), step);
        unit.load_right::<0>(case.right[0].as_ptr());
        unit.load_right::<1>(case.right[1].as_ptr());
        unit.multiply::<ROWS, COLUMNS>();
        unit.multiply::<ROWS, COLUMNS>();
        unit.store_sums::<ROWS, COLUMNS>(sums.as_mut_ptr(), 2 * SIDE);
        unit.clear::<ROWS, COLUMNS>();
        let mut cleared = vec![1.0f32; 4 * SIDE * SIDE];
        unit.store_sums::<ROWS, COLUMNS>(cleared.as_mut_ptr(), 2 * SIDE);
        assert_eq!(cleared.iter().filter(|number| **number == 0.0).count(), ROWS * COLUMNS * SIDE * SIDE);
    }
    sums
}

fn expected(case: &Case, rows: usize, columns: usize) -> Vec<f32> {
    let mut sums = case.sums.clone();
    for row in 0..rows {
        for column in 0..columns {
            let place = |index: usize| (SIDE * row + index / SIDE) * 2 * SIDE + SIDE * column + index % SIDE;
            let mut sum = std::array::from_fn(|index| sums[place(index)]);
            for _ in 0..2 {
                definition(&mut sum, &case.left[row], &case.right[column]);
            }
            sum.iter().enumerate().for_each(|(index, number)| sums[place(index)] = *number);
        }
    }
    sums
}

/// # Safety
/// The CPU has the instructions of `U`.
unsafe fn agrees<U: Unit>(name: &str, spans: &[f32]) {
    let bits = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
    for (seed, span) in spans.iter().cycle().take(4 * spans.len()).enumerate() {
        let case = case(seed as u32 + 1, *span);
        // SAFETY: by this function's contract.
        unsafe {
            assert!(bits(&computed::<U, 2, 2>(&case)) == bits(&expected(&case, 2, 2)), "{name} 2x2 seed {seed} span {span}");
            assert!(bits(&computed::<U, 1, 2>(&case)) == bits(&expected(&case, 1, 2)), "{name} 1x2 seed {seed} span {span}");
            assert!(bits(&computed::<U, 2, 1>(&case)) == bits(&expected(&case, 2, 1)), "{name} 2x1 seed {seed} span {span}");
            assert!(bits(&computed::<U, 1, 1>(&case)) == bits(&expected(&case, 1, 1)), "{name} 1x1 seed {seed} span {span}");
        }
    }
}

#[test]
fn every_unit_gives_the_bits_of_the_definition() {
    let normal = [0.5, 4.0, 20.0, 40.0];
    // SAFETY: portable operations need nothing.
    unsafe { agrees::<Emulated<F32x4, 4>>("portable", &normal) };
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m256, __m512};
        if crate::isa::Avx2::detect().is_some() {
            // SAFETY: the CPU has AVX2 and FMA.
            unsafe { agrees::<Emulated<__m256, 4>>("avx2", &normal) };
        }
        if crate::isa::Avx512::detect().is_some() {
            // SAFETY: the CPU has AVX-512.
            unsafe { agrees::<Emulated<__m512, 8>>("avx512", &normal) };
        }
        if crate::isa::Amx::detect().is_some() {
            // Products and sums below 2⁻¹²⁶ too, which are zero here and not in the emulation.
            // SAFETY: the CPU has AMX, and this process may use it.
            unsafe { agrees::<Tiles>("amx", &[0.5, 4.0, 20.0, 40.0, 70.0]) };
        }
    }
    #[cfg(target_arch = "aarch64")]
    if crate::isa::Neon::detect().is_some() {
        // SAFETY: the CPU has NEON.
        unsafe { agrees::<Emulated<std::arch::aarch64::float32x4_t, 8>>("neon", &normal) };
    }
}
