//! The innermost loops: a block of sums held in registers while products run through them.
//!
//! [`tile`] serves every dense convolution, forward and backward to input, and every matrix product. For P pixels and
//! N vectors of filters it keeps P·N vectors of sums. Each step of the reduction loads N vectors of packed weights once
//! and one number of each pixel, and makes P·N multiply-adds of them: with 14 × 2 that is 28 multiply-adds for 16 loads,
//! so that neither port has to wait for the other. Which numbers a pixel reads is told by a pointer for each tap
//! (an *indirect* product): padding is a pointer to zeros, and no image is ever copied into columns.

use crate::isa::vector::Vector;

/// What [`tile`] reads and writes.
///
/// All pointers of `pixels` have `channels` readable numbers, the weights `panel` numbers for each channel, and
/// the outputs room for (N − 1)·LANES + `lanes` numbers.
pub(crate) struct Tile {
    /// For each tap, one pointer for each of the P pixels, to the first channel.
    pub pixels: *const *const f32,
    /// For each tap, where its weights begin, in numbers from `weights`.
    pub tap_weights: *const usize,
    /// Number of taps.
    pub taps: usize,
    /// Channels that each tap reads.
    pub channels: usize,
    /// The packed weights: 2·LANES numbers for each channel.
    pub weights: *const f32,
    /// For each pixel, where its output begins, in numbers from `y`.
    pub outputs: *const usize,
    /// The output at the first filter of this panel.
    pub y: *mut f32,
    /// Filters that the last vector really has.
    pub lanes: usize,
    /// Whether the sums start from what `y` holds.
    pub accumulate: bool,
    /// Added at the end, at the first filter of this panel; or null.
    pub bias: *const f32,
    /// Added at the end, laid out as `y`; or null.
    pub residual: *const f32,
    /// Whether negative results become zero.
    pub relu: bool,
}

/// Computes P pixels × N vectors of filters.
///
/// # Safety
/// The CPU has the instructions of `V`, and the pointers of `t` hold what [`Tile`] says.
#[inline(always)]
pub(crate) unsafe fn tile<V: Vector, const P: usize, const N: usize>(t: &Tile) {
    // SAFETY: by this function's contract. Only (N − 1)·LANES + `lanes` numbers of each output, the bias and the
    // residual are touched.
    unsafe {
        let mut sums = [[V::zero(); N]; P];
        let mut pixels = t.pixels;
        for tap in 0..t.taps {
            let mut from = [std::ptr::null::<f32>(); P];
            for p in 0..P {
                from[p] = *pixels.add(p);
            }
            let mut weights = t.weights.add(*t.tap_weights.add(tap));
            for c in 0..t.channels {
                let mut w = [V::zero(); N];
                for v in 0..N {
                    w[v] = V::load(weights.add(v * V::LANES));
                }
                for p in 0..P {
                    let x = V::splat(*from[p].add(c));
                    for v in 0..N {
                        sums[p][v] = x.mul_add(w[v], sums[p][v]);
                    }
                }
                weights = weights.add(2 * V::LANES);
            }
            pixels = pixels.add(P);
        }
        for v in 0..N {
            let place = v * V::LANES;
            if v + 1 < N || t.lanes == V::LANES {
                let bias = if t.bias.is_null() { V::zero() } else { V::load(t.bias.add(place)) };
                for p in 0..P {
                    let output = *t.outputs.add(p) + place;
                    let mut sum = sums[p][v];
                    if t.accumulate {
                        sum = V::load(t.y.add(output)).add(sum);
                    }
                    sum = sum.add(bias);
                    if !t.residual.is_null() {
                        sum = sum.add(V::load(t.residual.add(output)));
                    }
                    if t.relu {
                        sum = sum.relu();
                    }
                    sum.store(t.y.add(output));
                }
            } else {
                let bias = if t.bias.is_null() { V::zero() } else { V::load_first(t.bias.add(place), t.lanes) };
                for p in 0..P {
                    let output = *t.outputs.add(p) + place;
                    let mut sum = sums[p][v];
                    if t.accumulate {
                        sum = V::load_first(t.y.add(output), t.lanes).add(sum);
                    }
                    sum = sum.add(bias);
                    if !t.residual.is_null() {
                        sum = sum.add(V::load_first(t.residual.add(output), t.lanes));
                    }
                    if t.relu {
                        sum = sum.relu();
                    }
                    sum.store_first(t.y.add(output), t.lanes);
                }
            }
        }
    }
}
