//! The innermost loops: a block of sums held in registers while products run through them.
//!
//! [`tile`] serves every dense convolution, forward and backward to input, and every matrix product. For P pixels and
//! N vectors of filters it keeps P·N vectors of sums. Each step of the reduction loads N vectors of packed weights once
//! and one number of each pixel, and makes P·N multiply-adds of them: with 14 × 2 that is 28 multiply-adds for 16 loads,
//! so that neither port has to wait for the other. Which numbers a pixel reads is told by a pointer for each tap
//! (an *indirect* product): padding is a pointer to zeros, and no image is ever copied into columns.
//!
//! Where an instruction multiplies with a single lane of a register ([`Vector::BY_LANE`]), each pixel's numbers are read a vector
//! at a time: 8 × 2 vectors of four make 64 multiply-adds for 16 loads, with 16 sums under way at once.

// Loops over constant ranges are what the compiler unrolls into registers.
#![allow(clippy::needless_range_loop)]

use crate::isa::vector::Vector;

/// Numbers of a cache line.
const LINE: usize = 16;

/// What [`tile`] reads and writes.
///
/// All pointers of `pixels` have `channels` readable numbers, the weights `panel` numbers for each channel, and
/// the outputs room for (N − 1)·LANES + `lanes` numbers.
pub(crate) struct Tile {
    /// For each tap, one pointer for each of the P pixels, to the first channel.
    pub pixels: *const *const f32,
    /// Pointers from one tap to the next: at least P.
    pub pixels_step: usize,
    /// For each tap, where its weights begin, in numbers from `weights`.
    pub tap_weights: *const usize,
    /// Number of taps.
    pub taps: usize,
    /// Channels that each tap reads.
    pub channels: usize,
    /// What the next tile will read of the only tap, which is asked for in time; or null.
    pub ahead: *const f32,
    /// From one of its pixels to the next.
    pub ahead_step: usize,
    /// Whether the outputs are likely to be in no cache, so that it pays to ask for their lines before the sums are ready.
    pub outputs_afar: bool,
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
    /// Whether the outputs are written past the caches: whole vectors, at multiples of their size.
    pub streamed: bool,
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
        let fetches = t.outputs_afar || !t.ahead.is_null();
        let mut pixels = t.pixels;
        for tap in 0..t.taps {
            let mut from = [std::ptr::null::<f32>(); P];
            for p in 0..P {
                from[p] = *pixels.add(p);
            }
            let weights = t.weights.add(*t.tap_weights.add(tap));
            sums = if fetches && tap == 0 {
                add_tap::<V, P, N, true>(t, from, weights, sums)
            } else {
                add_tap::<V, P, N, false>(t, from, weights, sums)
            };
            pixels = pixels.add(t.pixels_step);
        }
        if t.lanes == V::LANES { finish::<V, P, N, true>(t, sums) } else { finish::<V, P, N, false>(t, sums) }
    }
}

/// Adds the products of one tap. With `FETCH`, what the tile will need is asked for beside: the outputs and the numbers of the
/// next tile, a line or a few with each channel, since a core waits for no more than about twenty lines at once, and weights
/// and pixels queue up behind them.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn add_tap<V: Vector, const P: usize, const N: usize, const FETCH: bool>(
    t: &Tile,
    from: [*const f32; P],
    mut weights: *const f32,
    mut sums: [[V; N]; P],
) -> [[V; N]; P] {
    // SAFETY: by the contract of `tile`.
    unsafe {
        let mut c = 0;
        while V::BY_LANE && c + V::LANES <= t.channels {
            if FETCH {
                for channel in c..c + V::LANES {
                    fetch::<V, P, N>(t, channel);
                }
            }
            sums = add_channels(from, c, weights, sums);
            weights = weights.add(2 * V::LANES * V::LANES);
            c += V::LANES;
        }
        while c < t.channels {
            if FETCH {
                fetch::<V, P, N>(t, c);
            }
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
            c += 1;
        }
        sums
    }
}

/// Asks, beside channel `c`, for the output of one pixel and for a line of the next tile.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn fetch<V: Vector, const P: usize, const N: usize>(t: &Tile, c: usize) {
    // SAFETY: by the contract of `tile`; an address that is only asked for need not be valid.
    unsafe {
        if t.outputs_afar && c < P {
            for v in 0..N {
                V::prefetch_for_write(t.y.wrapping_add(*t.outputs.add(c) + v * V::LANES));
            }
        }
        let pixel = c % LINE;
        if !t.ahead.is_null() && pixel < P {
            V::prefetch(t.ahead.wrapping_add(pixel * t.ahead_step + c - pixel));
        }
    }
}

/// Runs a block for lanes 0, 1, … of a vector, with the number as a constant in each.
macro_rules! for_lanes {
    ($V:ident, $LANE:ident => $block:block) => {
        for_lanes!($V, $LANE => $block, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    ($V:ident, $LANE:ident => $block:block, $($number:literal)*) => {
        $(if $number < $V::LANES {
            const $LANE: usize = $number;
            $block
        })*
    };
}

/// Adds the products of LANES channels from `c` on, which are read as one vector of each pixel.
///
/// # Safety
/// As [`tile`]: each pixel has LANES readable numbers, and each of their channels its weights.
#[inline(always)]
unsafe fn add_channels<V: Vector, const P: usize, const N: usize>(
    from: [*const f32; P],
    c: usize,
    weights: *const f32,
    mut sums: [[V; N]; P],
) -> [[V; N]; P] {
    // SAFETY: by this function's contract.
    unsafe {
        let mut x = [V::zero(); P];
        for p in 0..P {
            x[p] = V::load(from[p].add(c));
        }
        for_lanes!(V, LANE => {
            let mut w = [V::zero(); N];
            for v in 0..N {
                w[v] = V::load(weights.add((2 * LANE + v) * V::LANES));
            }
            for p in 0..P {
                for v in 0..N {
                    sums[p][v] = w[v].mul_add_lane::<LANE>(x[p], sums[p][v]);
                }
            }
        });
    }
    sums
}

/// Adds what is to be added and writes the sums. Each step is a small loop of its own, which the compiler unrolls, so that
/// the sums never leave their registers.
///
/// # Safety
/// As [`tile`]; `FULL` says that the last vector is written whole.
#[inline(always)]
unsafe fn finish<V: Vector, const P: usize, const N: usize, const FULL: bool>(t: &Tile, mut sums: [[V; N]; P]) {
    // SAFETY: by the contract of `tile`. Only (N − 1)·LANES + `lanes` numbers of each output, the bias and the residual
    // are touched.
    unsafe {
        let load = |from: *const f32, v: usize| {
            if FULL || v + 1 < N { V::load(from.add(v * V::LANES)) } else { V::load_first(from.add(v * V::LANES), t.lanes) }
        };
        if t.accumulate {
            for p in 0..P {
                for v in 0..N {
                    sums[p][v] = load(t.y.add(*t.outputs.add(p)), v).add(sums[p][v]);
                }
            }
        }
        if !t.bias.is_null() {
            let mut bias = [V::zero(); N];
            for v in 0..N {
                bias[v] = load(t.bias, v);
            }
            for p in 0..P {
                for v in 0..N {
                    sums[p][v] = sums[p][v].add(bias[v]);
                }
            }
        }
        if !t.residual.is_null() {
            for p in 0..P {
                for v in 0..N {
                    sums[p][v] = sums[p][v].add(load(t.residual.add(*t.outputs.add(p)), v));
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
        if FULL && t.streamed {
            for p in 0..P {
                for v in 0..N {
                    sums[p][v].stream(t.y.add(*t.outputs.add(p) + v * V::LANES));
                }
            }
            return;
        }
        for p in 0..P {
            let y = t.y.add(*t.outputs.add(p));
            for v in 0..N {
                if FULL || v + 1 < N {
                    sums[p][v].store(y.add(v * V::LANES));
                } else {
                    sums[p][v].store_first(y.add(v * V::LANES), t.lanes);
                }
            }
        }
    }
}

/// What [`outer`] reads and writes.
///
/// For every row and column, x has a readable number at each of the P places and dy has (N − 1)·LANES + `lanes`
/// numbers; `sums` has room for P rows of N·LANES numbers, or of 2·LANES where it is `filled`.
pub(crate) struct Outer {
    /// The input; where each of the P places is from here is told by `places`, or they follow each other.
    pub x: *const f32,
    /// P distances from `x`; not read when the places follow each other.
    pub places: *const usize,
    /// The gradient of the output at the first filter of this panel.
    pub dy: *const f32,
    /// For each row of pixels, where it begins from `x` and from `dy`.
    pub rows: *const [usize; 2],
    /// Number of rows.
    pub row_count: usize,
    /// Pixels of each row.
    pub cols: usize,
    /// From one pixel to the next in x.
    pub x_step: usize,
    /// From one pixel to the next in dy.
    pub dy_step: usize,
    /// How far behind the number of the next pixel lie others that will be read before long, and are asked for; or zeros.
    pub ahead: [usize; 2],
    /// What a later call will read, of which each pixel asks for a line; or null.
    pub later: *const f32,
    /// From one of these lines to the next.
    pub later_step: usize,
    /// Filters that the last vector really has.
    pub lanes: usize,
    /// P rows of N·LANES sums.
    pub sums: *mut f32,
    /// From one row of sums to the next.
    pub sums_step: usize,
    /// Whether a row of one vector of sums gets a second one, of zeros.
    pub filled: bool,
    /// Whether the sums start from what is there.
    pub accumulate: bool,
}

/// Sums, over pixels, P numbers of the input times N vectors of the output's gradient: P rows of the gradient of the
/// weights. Nothing is packed, since channels last makes both operands contiguous. With `GATHER` the P numbers lie at
/// given places, which lets an image of one channel fill a tile with all positions of its kernel.
///
/// # Safety
/// The CPU has the instructions of `V`, and the pointers of `t` hold what [`Outer`] says.
#[inline(always)]
pub(crate) unsafe fn outer<V: Vector, const P: usize, const N: usize, const GATHER: bool>(t: &Outer) {
    // SAFETY: by this function's contract.
    unsafe {
        let mut sums = [[V::zero(); N]; P];
        if t.lanes == V::LANES {
            add_products::<V, P, N, GATHER, true>(t, &mut sums);
        } else {
            add_products::<V, P, N, GATHER, false>(t, &mut sums);
        }
        if t.accumulate {
            for p in 0..P {
                for v in 0..N {
                    sums[p][v] = V::load(t.sums.add(p * t.sums_step + v * V::LANES)).add(sums[p][v]);
                }
            }
        }
        for p in 0..P {
            for v in 0..N {
                sums[p][v].store(t.sums.add(p * t.sums_step + v * V::LANES));
            }
            if N == 1 && t.filled {
                V::zero().store(t.sums.add(p * t.sums_step + V::LANES));
            }
        }
    }
}

/// The loop of [`outer`]; `FULL` says that the last vector of dy is read whole.
///
/// # Safety
/// As [`outer`].
#[inline(always)]
unsafe fn add_products<V: Vector, const P: usize, const N: usize, const GATHER: bool, const FULL: bool>(t: &Outer, sums: &mut [[V; N]; P]) {
    // SAFETY: by the contract of `outer`.
    unsafe {
        let mut places = [0; P];
        for p in 0..P {
            places[p] = if GATHER { *t.places.add(p) } else { p };
        }
        let mut later = t.later;
        for row in 0..t.row_count {
            let [x, dy] = *t.rows.add(row);
            let (mut x, mut dy) = (t.x.add(x), t.dy.add(dy));
            for _ in 0..t.cols {
                // Before the products: the compiler would move them behind these branches, but their loads it may not move, and all
                // numbers would be in registers at once.
                for ahead in t.ahead {
                    if ahead > 0 {
                        V::prefetch_early(x.wrapping_add(t.x_step + ahead));
                    }
                }
                if !later.is_null() {
                    V::prefetch_early(later);
                    later = later.wrapping_add(t.later_step);
                }
                let mut d = [V::zero(); N];
                for v in 0..N {
                    d[v] = if FULL || v + 1 < N { V::load(dy.add(v * V::LANES)) } else { V::load_first(dy.add(v * V::LANES), t.lanes) };
                }
                if V::BY_LANE && !GATHER {
                    for first in (0..P).step_by(V::LANES) {
                        let numbers = V::load_first(x.add(first), V::LANES.min(P - first));
                        for_lanes!(V, LANE => {
                            if first + LANE < P {
                                for v in 0..N {
                                    sums[first + LANE][v] = d[v].mul_add_lane::<LANE>(numbers, sums[first + LANE][v]);
                                }
                            }
                        });
                    }
                } else {
                    for p in 0..P {
                        let number = V::splat(*x.add(places[p]));
                        for v in 0..N {
                            sums[p][v] = number.mul_add(d[v], sums[p][v]);
                        }
                    }
                }
                // The last step would leave the buffer.
                x = x.wrapping_add(t.x_step);
                dy = dy.wrapping_add(t.dy_step);
            }
        }
    }
}

/// Rows of numbers that lie apart, and where they are copied to.
///
/// `from` has `numbers` readable numbers at each of the rows; `to` has room for N·LANES at each.
pub(crate) struct Rows {
    /// The first number of the first row.
    pub from: *const f32,
    /// From one row to the next.
    pub from_step: usize,
    /// How many rows.
    pub rows: usize,
    /// Numbers of a row: at most N·LANES.
    pub numbers: usize,
    /// Where the first row goes.
    pub to: *mut f32,
    /// From one row to the next there.
    pub to_step: usize,
}

/// Copies rows of more than (N − 1)·LANES and at most N·LANES numbers, filled up with zeros.
///
/// # Safety
/// The CPU has the instructions of `V`, and the pointers of `r` hold what [`Rows`] says.
#[inline(always)]
pub(crate) unsafe fn copy<V: Vector, const N: usize>(r: &Rows) {
    // SAFETY: by this function's contract.
    unsafe {
        // Masks cost some processors several times a load.
        if r.numbers == N * V::LANES { copy_rows::<V, N, true>(r) } else { copy_rows::<V, N, false>(r) }
    }
}

/// The loop of [`copy`]; `FULL` says that the last vector is read whole.
///
/// # Safety
/// As [`copy`].
#[inline(always)]
unsafe fn copy_rows<V: Vector, const N: usize, const FULL: bool>(r: &Rows) {
    let end = (N - 1) * V::LANES;
    for row in 0..r.rows {
        // SAFETY: by the contract of `copy`.
        unsafe {
            let (from, to) = (r.from.add(row * r.from_step), r.to.add(row * r.to_step));
            for v in 0..N - 1 {
                V::load(from.add(v * V::LANES)).store(to.add(v * V::LANES));
            }
            let last = if FULL { V::load(from.add(end)) } else { V::load_first(from.add(end), r.numbers - end) };
            last.store(to.add(end));
        }
    }
}
