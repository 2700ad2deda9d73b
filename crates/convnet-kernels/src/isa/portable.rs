//! Vectors for every computer: plain arrays that the compiler maps to the registers of its target.

use super::vector::Vector;

/// Four numbers, as wide as the registers that every common target has.
#[derive(Clone, Copy)]
#[repr(align(16))]
pub(crate) struct F32x4([f32; 4]);

impl Vector for F32x4 {
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; 4])
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller gives LANES readable numbers; the read allows any alignment.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller gives room for LANES numbers; the write allows any alignment.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn prefetch(_: *const f32) {}

    #[inline(always)]
    unsafe fn prefetch_early(_: *const f32) {}

    #[inline(always)]
    unsafe fn prefetch_for_write(_: *mut f32) {}

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        let mut lanes = [0.0; 4];
        for (lane, value) in lanes.iter_mut().enumerate().take(count) {
            // SAFETY: the caller gives `count` readable numbers.
            *value = unsafe { *from.add(lane) };
        }
        Self(lanes)
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        for (lane, value) in self.0.iter().enumerate().take(count) {
            // SAFETY: the caller gives room for `count` numbers.
            unsafe { *to.add(lane) = *value };
        }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        // Two roundings: a fused operation would be a library call where the target does not have it.
        let (x, f, t) = (self.0, factor.0, term.0);
        Self([x[0] * f[0] + t[0], x[1] * f[1] + t[1], x[2] * f[2] + t[2], x[3] * f[3] + t[3]])
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        let (x, y) = (self.0, other.0);
        Self([x[0] + y[0], x[1] + y[1], x[2] + y[2], x[3] + y[3]])
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        let (x, y) = (self.0, other.0);
        Self([x[0] - y[0], x[1] - y[1], x[2] - y[2], x[3] - y[3]])
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        let (x, y) = (self.0, other.0);
        Self([x[0] * y[0], x[1] * y[1], x[2] * y[2], x[3] * y[3]])
    }

    #[inline(always)]
    unsafe fn relu(self) -> Self {
        Self(self.0.map(|value| if value < 0.0 { 0.0 } else { value }))
    }

    #[inline(always)]
    unsafe fn where_positive(self, condition: Self) -> Self {
        let (x, c) = (self.0, condition.0);
        Self(std::array::from_fn(|lane| if c[lane] > 0.0 { x[lane] } else { 0.0 }))
    }
}
