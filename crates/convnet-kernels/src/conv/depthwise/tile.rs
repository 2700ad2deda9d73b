//! The inner loops for windows of a few widths without dilation: P output pixels that follow each other in a row share
//! every number that they read.
//!
//! For each row of the kernel, S weights stay in registers while the (P − 1)·stride + S input columns pass by; each is
//! loaded once. Columns outside the image are left out. Vectors run over channels, so a tile reads whole pieces of rows.

// Loops over constant ranges are what the compiler unrolls into registers.
#![allow(clippy::needless_range_loop)]

use crate::Isa;
use crate::isa::portable::F32x4;
use crate::isa::vector::Vector;

/// Numbers of output pixels that there are kernels for, largest first.
pub(super) const PIXELS: [usize; 5] = [8, 7, 4, 2, 1];

/// Channels whose weights lie side by side.
pub(super) const GROUP: usize = 16;

/// What a tile reads and writes. Distances are in numbers.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// The first input column of the first kernel row. It may lie outside the image.
    pub x: *const f32,
    /// From one kernel row to the next, in x.
    pub x_row: isize,
    /// From one input column to the next.
    pub x_col: usize,
    /// The input columns inside the image, counted from `x`: first and end.
    pub columns: [usize; 2],
    /// The weights of the first input column and kernel row; for gradients their sums, which are added to.
    pub weights: *mut f32,
    /// From one kernel row, and from one column of the kernel, to the next, in the weights.
    pub weight_steps: [isize; 2],
    /// From one group of [`GROUP`] channels to the next, in the weights.
    pub weight_group: usize,
    /// Number of kernel rows.
    pub rows: usize,
    /// Number of channels.
    pub channels: usize,
    /// The first output; for gradients that of dy, which is read.
    pub y: *mut f32,
    /// From one output pixel to the next.
    pub y_col: usize,
    /// Two rows of x of which all channels of as many columns will be read later, to be brought nearer now. Or null.
    pub ahead: [*const f32; 2],
    /// The same of a row of y, where it is read.
    pub y_ahead: *const f32,
    /// Added at the end; or null.
    pub bias: *const f32,
    /// Added at the end, laid out as y; or null.
    pub residual: *const f32,
    /// Whether negative results become zero.
    pub relu: bool,
    /// Whether outputs go past the caches; each vector of them then lies at a multiple of its size.
    pub stream: bool,
}

/// Reads a vector, or the first `rest` numbers of one.
///
/// # Safety
/// The CPU has the instructions of `V`, and the numbers may be read.
#[inline(always)]
unsafe fn load<V: Vector, const FULL: bool>(from: *const f32, rest: usize) -> V {
    // SAFETY: by the contract.
    unsafe { if FULL { V::load(from) } else { V::load_first(from, rest) } }
}

/// Asks, beside the vector of channels at `c`, for its part of so many columns of a row. In the order in which they lie, so that
/// the processor foresees what follows; the second-level cache is near enough.
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn ask_for<V: Vector>(row: *const f32, c: usize, columns: usize) {
    for vector in 0..if row.is_null() { 0 } else { columns } {
        // SAFETY: by the contract; an address that is only asked for need not be valid.
        unsafe { V::prefetch_early(row.wrapping_add(c * columns + vector * V::LANES)) };
    }
}

/// Runs a block for input columns 0, 1, … of a tile, with the number as a constant in each.
macro_rules! for_columns {
    (($S:ident, $STRIDE:ident, $P:ident), $column:ident => $block:block) => {
        for_columns!(($S, $STRIDE, $P), $column => $block, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18)
    };
    (($S:ident, $STRIDE:ident, $P:ident), $column:ident => $block:block, $($number:literal)*) => {
        $(if $number < ($P - 1) * $STRIDE + $S {
            let $column: usize = $number;
            $block
        })*
    };
}

/// One vector of channels of P output pixels; `FULL` says that it is read and written whole.
///
/// # Safety
/// The CPU has the instructions of `V`, and the pointers of `t` hold what [`Tile`] says.
#[inline(always)]
unsafe fn outputs_of_vector<V: Vector, const S: usize, const STRIDE: usize, const P: usize, const FULL: bool>(t: &Tile, c: usize) {
    // SAFETY: by this function's contract; only `channels` numbers are touched at each place.
    unsafe {
        let rest = t.channels - c;
        let mut sums = [V::zero(); P];
        let mut x = t.x.wrapping_add(c);
        let mut weight = t.weights.wrapping_add(c / GROUP * t.weight_group + c % GROUP);
        ask_for::<V>(t.ahead[0], c, P * STRIDE);
        ask_for::<V>(t.ahead[1], c, P * STRIDE);
        for _ in 0..t.rows {
            let mut weights = [V::zero(); S];
            for s in 0..S {
                weights[s] = load::<V, FULL>(weight.wrapping_offset(s as isize * t.weight_steps[1]), rest);
            }
            for_columns!((S, STRIDE, P), column => {
                if column >= t.columns[0] && column < t.columns[1] {
                    let x = load::<V, FULL>(x.wrapping_add(column * t.x_col), rest);
                    for p in 0..P {
                        if p * STRIDE <= column && column - p * STRIDE < S {
                            sums[p] = x.mul_add(weights[column - p * STRIDE], sums[p]);
                        }
                    }
                }
            });
            x = x.wrapping_offset(t.x_row);
            weight = weight.wrapping_offset(t.weight_steps[0]);
        }
        finish::<V, P, FULL>(t, c, sums);
    }
}

/// Adds bias and residual, cuts off and writes.
///
/// # Safety
/// As [`outputs_of_vector`].
#[inline(always)]
unsafe fn finish<V: Vector, const P: usize, const FULL: bool>(t: &Tile, c: usize, mut sums: [V; P]) {
    // SAFETY: by the contract.
    unsafe {
        let rest = t.channels - c;
        if !t.bias.is_null() {
            let bias = load::<V, FULL>(t.bias.add(c), rest);
            for p in 0..P {
                sums[p] = sums[p].add(bias);
            }
        }
        if !t.residual.is_null() {
            for p in 0..P {
                sums[p] = sums[p].add(load::<V, FULL>(t.residual.add(c + p * t.y_col), rest));
            }
        }
        if t.relu {
            for p in 0..P {
                sums[p] = sums[p].relu();
            }
        }
        let y = t.y.add(c);
        if !FULL {
            for p in 0..P {
                sums[p].store_first(y.add(p * t.y_col), rest);
            }
        } else if t.stream {
            for p in 0..P {
                sums[p].stream(y.add(p * t.y_col));
            }
        } else {
            for p in 0..P {
                sums[p].store(y.add(p * t.y_col));
            }
        }
    }
}

/// Adds, for one vector of channels, the products of x and of P pixels of dy to the sums of the kernel rows.
///
/// # Safety
/// As [`outputs_of_vector`].
#[inline(always)]
unsafe fn gradients_of_vector<V: Vector, const S: usize, const STRIDE: usize, const P: usize, const FULL: bool>(t: &Tile, c: usize) {
    // SAFETY: by the contract; only `channels` numbers are touched at each place.
    unsafe {
        let rest = t.channels - c;
        let mut dy = [V::zero(); P];
        for p in 0..P {
            dy[p] = load::<V, FULL>(t.y.add(c + p * t.y_col), rest);
        }
        let mut x = t.x.wrapping_add(c);
        let mut weight = t.weights.wrapping_add(c / GROUP * t.weight_group + c % GROUP);
        ask_for::<V>(t.ahead[0], c, P * STRIDE);
        ask_for::<V>(t.ahead[1], c, P * STRIDE);
        ask_for::<V>(t.y_ahead, c, P);
        for _ in 0..t.rows {
            let mut sums = [V::zero(); S];
            for s in 0..S {
                sums[s] = load::<V, FULL>(weight.wrapping_offset(s as isize * t.weight_steps[1]), rest);
            }
            for_columns!((S, STRIDE, P), column => {
                if column >= t.columns[0] && column < t.columns[1] {
                    let x = load::<V, FULL>(x.wrapping_add(column * t.x_col), rest);
                    for p in 0..P {
                        if p * STRIDE <= column && column - p * STRIDE < S {
                            sums[column - p * STRIDE] = x.mul_add(dy[p], sums[column - p * STRIDE]);
                        }
                    }
                }
            });
            for s in 0..S {
                let place = weight.wrapping_offset(s as isize * t.weight_steps[1]);
                if FULL { sums[s].store(place) } else { sums[s].store_first(place, rest) }
            }
            x = x.wrapping_offset(t.x_row);
            weight = weight.wrapping_offset(t.weight_steps[0]);
        }
    }
}

/// The kernels for S columns of the kernel and one stride, by place in [`PIXELS`].
pub(super) struct Kernels {
    pub outputs: [unsafe fn(&Tile); PIXELS.len()],
    pub gradients: [unsafe fn(&Tile); PIXELS.len()],
}

impl Kernels {
    /// Those for this many columns of the kernel and this stride, if there are any.
    pub fn of(isa: Isa, size: usize, stride: usize) -> Option<&'static Self> {
        match isa {
            Isa::Portable => portable::kernels(size, stride),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => avx2::kernels(size, stride),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) | Isa::Amx(_) => avx512::kernels(size, stride),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon(_) => neon::kernels(size, stride),
            _ => portable::kernels(size, stride),
        }
    }
}

/// Compiles the kernels for one instruction set.
macro_rules! kernels {
    ($module:ident, $vector:ty, [$($S:literal / $STRIDE:literal),*] $(, $attribute:meta)?) => {
        mod $module {
            use super::*;

            /// # Safety
            /// As [`outputs_of_vector`].
            $(#[$attribute])?
            unsafe fn outputs<const S: usize, const STRIDE: usize, const P: usize>(t: &Tile) {
                // SAFETY: the caller keeps the contract; the instructions are this function's features.
                unsafe {
                    let mut c = 0;
                    while c + <$vector>::LANES <= t.channels {
                        outputs_of_vector::<$vector, S, STRIDE, P, true>(t, c);
                        c += <$vector>::LANES;
                    }
                    if c < t.channels {
                        outputs_of_vector::<$vector, S, STRIDE, P, false>(t, c);
                    }
                }
            }

            /// # Safety
            /// As [`outputs_of_vector`].
            $(#[$attribute])?
            unsafe fn gradients<const S: usize, const STRIDE: usize, const P: usize>(t: &Tile) {
                // SAFETY: the caller keeps the contract; the instructions are this function's features.
                unsafe {
                    let mut c = 0;
                    while c + <$vector>::LANES <= t.channels {
                        gradients_of_vector::<$vector, S, STRIDE, P, true>(t, c);
                        c += <$vector>::LANES;
                    }
                    if c < t.channels {
                        gradients_of_vector::<$vector, S, STRIDE, P, false>(t, c);
                    }
                }
            }

            const fn table<const S: usize, const STRIDE: usize>() -> Kernels {
                Kernels {
                    outputs: [outputs::<S, STRIDE, 8>, outputs::<S, STRIDE, 7>, outputs::<S, STRIDE, 4>, outputs::<S, STRIDE, 2>, outputs::<S, STRIDE, 1>],
                    gradients: [gradients::<S, STRIDE, 8>, gradients::<S, STRIDE, 7>, gradients::<S, STRIDE, 4>, gradients::<S, STRIDE, 2>, gradients::<S, STRIDE, 1>],
                }
            }

            pub fn kernels(size: usize, stride: usize) -> Option<&'static Kernels> {
                Some(match (size, stride) {
                    $(($S, $STRIDE) => const { &table::<$S, $STRIDE>() },)*
                    _ => return None,
                })
            }
        }
    };
}

kernels!(portable, F32x4, [1 / 1, 2 / 1, 3 / 1, 5 / 1, 7 / 1, 3 / 2, 5 / 2]);
#[cfg(target_arch = "x86_64")]
kernels!(avx2, std::arch::x86_64::__m256, [1 / 1, 2 / 1, 3 / 1, 5 / 1, 7 / 1, 3 / 2, 5 / 2], target_feature(enable = "avx2,fma"));
#[cfg(target_arch = "x86_64")]
kernels!(
    avx512,
    std::arch::x86_64::__m512,
    [1 / 1, 2 / 1, 3 / 1, 5 / 1, 7 / 1, 3 / 2, 5 / 2],
    target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
);
#[cfg(target_arch = "aarch64")]
kernels!(neon, std::arch::aarch64::float32x4_t, [1 / 1, 2 / 1, 3 / 1, 5 / 1, 7 / 1, 3 / 2, 5 / 2], target_feature(enable = "neon"));
