//! The innermost loop of sums so short that all their weights stay in registers or in the first-level cache.
//!
//! [`pixels`] goes along a row of pixels that lie at equal distances. For each it adds T products and writes the result; nothing
//! is set up for each few pixels, as [`tile`](super::microkernel::tile) must, which takes as long as 200 products do.
//!
//! With few registers two vectors of filters at once share the numbers of a pixel: 6 × 2 sums take 8 loads for 12 multiply-adds.

// Loops over constant ranges are what the compiler unrolls into registers.
#![allow(clippy::needless_range_loop)]

use crate::isa::vector::Vector;

/// What [`pixels`] reads and writes.
///
/// Each pixel has R rows of L readable numbers, the weights a vector for each of these, and the outputs room for `lanes` numbers.
pub(crate) struct Pixels {
    /// The first number of the first pixel.
    pub x: *const f32,
    /// From one pixel to the next.
    pub x_step: usize,
    /// From one of a pixel's rows to the next.
    pub x_row: usize,
    /// The weights of these filters: one or two vectors for each number of a pixel.
    pub weights: *const f32,
    /// From one weight to the next.
    pub weights_step: usize,
    /// The first pixel's output.
    pub y: *mut f32,
    /// From one pixel's output to the next.
    pub y_step: usize,
    /// How many pixels.
    pub count: usize,
    /// Filters that the last vector really has.
    pub lanes: usize,
    /// Added at the end; or null.
    pub bias: *const f32,
    /// Added at the end, laid out as `y`; or null.
    pub residual: *const f32,
    /// Whether negative results become zero.
    pub relu: bool,
    /// Whether the outputs are written past the caches: whole vectors, at multiples of their size.
    pub streamed: bool,
}

/// A loop compiled for one instruction set and one shape of a pixel.
pub(crate) struct ShortKernel {
    /// R
    pub rows: usize,
    /// L
    pub length: usize,
    /// [`pixels`] of one vector of filters.
    pub one: unsafe fn(&Pixels),
    /// That of two, where it is the better one.
    pub two: Option<unsafe fn(&Pixels)>,
}

/// Runs a block with constants 0, 1, … below a number of at most 36.
macro_rules! unrolled {
    ($count:expr, $number:ident => $block:block) => {
        unrolled!($count, $number => $block,
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35)
    };
    ($count:expr, $number:ident => $block:block, $($literal:literal)*) => {
        $(if $literal < $count {
            const $number: usize = $literal;
            $block
        })*
    };
}

/// Computes N vectors of filters at all pixels; T = R·L is the number of products, P the pixels that are computed side by side,
/// so that no product waits for the one before it, and HALF the half of these.
///
/// # Safety
/// The CPU has the instructions of `V`, and the pointers of `t` hold what [`Pixels`] says.
#[inline(always)]
pub(crate) unsafe fn pixels<V: Vector, const L: usize, const T: usize, const P: usize, const HALF: usize, const N: usize>(t: &Pixels) {
    // SAFETY: by this function's contract.
    unsafe {
        let mut weights = [V::zero(); T];
        if N == 1 {
            unrolled!(T, NUMBER => {
                weights[NUMBER] = V::load(t.weights.add(NUMBER * t.weights_step));
            });
        }
        let rest = t.count % P;
        for first in (0..t.count - rest).step_by(P) {
            group::<V, L, T, P, N>(t, &weights, first);
        }
        // The last pixels are computed together with some that are known already.
        match rest {
            0 => {}
            _ if rest > HALF && t.count >= P => group::<V, L, T, P, N>(t, &weights, t.count - P),
            _ if rest <= HALF && t.count >= HALF => group::<V, L, T, HALF, N>(t, &weights, t.count - HALF),
            _ => (t.count - rest..t.count).for_each(|first| group::<V, L, T, 1, N>(t, &weights, first)),
        }
    }
}

/// P pixels from `first` on. One vector's weights are given, those of two are read again.
///
/// # Safety
/// As [`pixels`], which has so many.
#[inline(always)]
unsafe fn group<V: Vector, const L: usize, const T: usize, const P: usize, const N: usize>(t: &Pixels, weights: &[V; T], first: usize) {
    // SAFETY: by this function's contract.
    unsafe {
        let x = t.x.add(first * t.x_step);
        let mut sums = [[V::zero(); N]; P];
        unrolled!(T, NUMBER => {
            let place = x.add(NUMBER / L * t.x_row + NUMBER % L);
            let mut w = [weights[NUMBER]; N];
            if N > 1 {
                for v in 0..N {
                    w[v] = V::load(t.weights.add(NUMBER * t.weights_step + v * V::LANES));
                }
            }
            for p in 0..P {
                let number = V::splat(*place.add(p * t.x_step));
                for v in 0..N {
                    sums[p][v] = number.mul_add(w[v], sums[p][v]);
                }
            }
        });
        let whole = t.lanes == V::LANES;
        let load = |from: *const f32, v: usize| {
            let from = from.add(v * V::LANES);
            if whole || v + 1 < N { V::load(from) } else { V::load_first(from, t.lanes) }
        };
        if !t.bias.is_null() {
            for p in 0..P {
                for v in 0..N {
                    sums[p][v] = sums[p][v].add(load(t.bias, v));
                }
            }
        }
        if !t.residual.is_null() {
            for p in 0..P {
                for v in 0..N {
                    sums[p][v] = sums[p][v].add(load(t.residual.add((first + p) * t.y_step), v));
                }
            }
        }
        if t.relu {
            for p in 0..P {
                for v in 0..N {
                    sums[p][v] = sums[p][v].relu();
                }
            }
        }
        let y = t.y.add(first * t.y_step);
        for p in 0..P {
            for v in 0..N {
                let y = y.add(p * t.y_step + v * V::LANES);
                if !whole && v + 1 == N {
                    sums[p][v].store_first(y, t.lanes);
                } else if t.streamed {
                    sums[p][v].stream(y);
                } else {
                    sums[p][v].store(y);
                }
            }
        }
    }
}
