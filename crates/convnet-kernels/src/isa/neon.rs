//! Vectors of 64-bit ARM: 128 bits with NEON, which has no masks. The first numbers of a vector are read and written by halves
//! and single lanes. Nothing is written past the caches: these processors notice by themselves when lines are written whole.

use std::arch::aarch64::*;
use std::arch::asm;

use super::vector::Vector;

impl Vector for float32x4_t {
    const LANES: usize = 4;
    const BY_LANE: bool = true;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: NEON by the trait's contract.
        unsafe { vdupq_n_f32(0.0) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: NEON by the trait's contract.
        unsafe { vdupq_n_f32(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: NEON and 4 readable numbers by the trait's contract.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: NEON and room for 4 numbers by the trait's contract.
        unsafe { vst1q_f32(to, self) }
    }

    #[inline(always)]
    unsafe fn prefetch(from: *const f32) {
        // SAFETY: a prefetch of any address is no access.
        unsafe { asm!("prfm pldl1keep, [{}]", in(reg) from, options(nomem, nostack, preserves_flags)) }
    }

    #[inline(always)]
    unsafe fn prefetch_early(from: *const f32) {
        // SAFETY: a prefetch of any address is no access.
        unsafe { asm!("prfm pldl2keep, [{}]", in(reg) from, options(nomem, nostack, preserves_flags)) }
    }

    #[inline(always)]
    unsafe fn prefetch_for_write(to: *mut f32) {
        // SAFETY: a prefetch of any address is no access.
        unsafe { asm!("prfm pstl1keep, [{}]", in(reg) to, options(nomem, nostack, preserves_flags)) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        // SAFETY: NEON and `count` readable numbers by the trait's contract; each arm reads as many.
        unsafe {
            let zero = vdupq_n_f32(0.0);
            match count {
                0 => zero,
                1 => vld1q_lane_f32::<0>(from, zero),
                2 => vcombine_f32(vld1_f32(from), vget_high_f32(zero)),
                3 => vld1q_lane_f32::<2>(from.add(2), vcombine_f32(vld1_f32(from), vget_high_f32(zero))),
                _ => vld1q_f32(from),
            }
        }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        // SAFETY: NEON and room for `count` numbers by the trait's contract; each arm writes as many.
        unsafe {
            match count {
                0 => {}
                1 => vst1q_lane_f32::<0>(to, self),
                2 => vst1_f32(to, vget_low_f32(self)),
                3 => {
                    vst1_f32(to, vget_low_f32(self));
                    vst1q_lane_f32::<2>(to.add(2), self);
                }
                _ => vst1q_f32(to, self),
            }
        }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        // SAFETY: NEON by the trait's contract.
        unsafe { vfmaq_f32(term, self, factor) }
    }

    #[inline(always)]
    unsafe fn mul_add_lane<const LANE: usize>(self, factors: Self, term: Self) -> Self {
        // SAFETY: NEON by the trait's contract.
        unsafe {
            match LANE {
                0 => vfmaq_laneq_f32::<0>(term, self, factors),
                1 => vfmaq_laneq_f32::<1>(term, self, factors),
                2 => vfmaq_laneq_f32::<2>(term, self, factors),
                _ => vfmaq_laneq_f32::<3>(term, self, factors),
            }
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: NEON by the trait's contract.
        unsafe { vaddq_f32(self, other) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: NEON by the trait's contract.
        unsafe { vsubq_f32(self, other) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: NEON by the trait's contract.
        unsafe { vmulq_f32(self, other) }
    }

    #[inline(always)]
    unsafe fn relu(self) -> Self {
        // SAFETY: NEON by the trait's contract. A maximum would make a positive zero of a negative one, which other instruction
        // sets leave.
        unsafe { vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(self), vcltzq_f32(self))) }
    }

    #[inline(always)]
    unsafe fn where_positive(self, condition: Self) -> Self {
        // SAFETY: NEON by the trait's contract.
        unsafe { vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(self), vcgtzq_f32(condition))) }
    }
}
