//! The inner loops of depthwise convolution: vectors run over channels, a few pixels share each load of a weight.

// Loops over constant ranges are what the compiler unrolls into registers.
#![allow(clippy::needless_range_loop)]

use crate::Isa;
use crate::isa::portable::F32x4;
use crate::isa::vector::Vector;

/// Most pixels that share the weights.
const MAX_PIXELS: usize = 8;
/// Most taps whose gradients are summed at once.
pub(super) const MAX_TAPS: usize = 9;

/// What [`pixels`] reads and writes: `tiles` times P output pixels of a row, all of which see the same taps inside the
/// image. Distances are in numbers.
#[derive(Clone, Copy)]
pub(super) struct Pixels {
    /// The first tap of the first pixel.
    pub x: *const f32,
    /// From one tap to the next along the height and the width.
    pub x_tap: [isize; 2],
    /// From one output pixel to the next, in x.
    pub x_step: usize,
    /// The weights of the first tap.
    pub weights: *const f32,
    /// From one tap to the next along the height and the width.
    pub weight_tap: [usize; 2],
    /// Number of taps along the height and the width.
    pub taps: [usize; 2],
    /// Number of tiles.
    pub tiles: usize,
    /// Number of channels.
    pub channels: usize,
    /// The first output.
    pub y: *mut f32,
    /// From one output pixel to the next, in y.
    pub y_step: usize,
    /// Added at the end; or null.
    pub bias: *const f32,
    /// Added at the end, laid out as y; or null.
    pub residual: *const f32,
    /// Whether negative results become zero.
    pub relu: bool,
}

/// What [`gradients`] reads and writes: for each row and column, T taps of x and one pixel of dy.
pub(super) struct Gradients {
    pub x: *const f32,
    /// T distances from x.
    pub places: *const usize,
    pub dy: *const f32,
    /// For each row of pixels, where it begins from `x` and from `dy`.
    pub rows: *const [usize; 2],
    pub row_count: usize,
    /// Pixels of each row.
    pub cols: usize,
    /// From one pixel to the next, in x and in dy.
    pub steps: [usize; 2],
    pub channels: usize,
    pub sums: *mut f32,
    /// T distances from `sums`, one for each tap. What is there is added to.
    pub sum_places: *const usize,
}

/// Computes P pixels at a time.
///
/// # Safety
/// The CPU has the instructions of `V`, and the pointers of `t` hold what [`Pixels`] says.
#[inline(always)]
unsafe fn pixels<V: Vector, const P: usize>(t: &Pixels) {
    // SAFETY: by this function's contract; only `channels` numbers are touched at each place.
    unsafe {
        let whole = t.channels - t.channels % V::LANES;
        for tile in 0..t.tiles {
            let mut c = 0;
            while c < whole {
                vector::<V, P, true>(t, tile * P, c);
                c += V::LANES;
            }
            if whole < t.channels {
                vector::<V, P, false>(t, tile * P, whole);
            }
        }
    }
}

/// One vector of channels of P pixels from pixel `first` on; `FULL` says that it is read and written whole.
///
/// # Safety
/// As [`pixels`].
#[inline(always)]
unsafe fn vector<V: Vector, const P: usize, const FULL: bool>(t: &Pixels, first: usize, c: usize) {
    // SAFETY: by the contract of `pixels`.
    unsafe {
        let rest = t.channels - c;
        let load = |from: *const f32| if FULL { V::load(from) } else { V::load_first(from, rest) };
        let mut sums = [V::zero(); P];
        let mut x_row = t.x.add(first * t.x_step + c);
        let mut weight_row = t.weights.add(c);
        for _ in 0..t.taps[0] {
            let (mut x, mut weight) = (x_row, weight_row);
            for _ in 0..t.taps[1] {
                let w = load(weight);
                for p in 0..P {
                    sums[p] = load(x.wrapping_add(p * t.x_step)).mul_add(w, sums[p]);
                }
                x = x.wrapping_offset(t.x_tap[1]);
                weight = weight.wrapping_add(t.weight_tap[1]);
            }
            x_row = x_row.wrapping_offset(t.x_tap[0]);
            weight_row = weight_row.wrapping_add(t.weight_tap[0]);
        }
        let place = first * t.y_step + c;
        if !t.bias.is_null() {
            let bias = load(t.bias.add(c));
            for p in 0..P {
                sums[p] = sums[p].add(bias);
            }
        }
        if !t.residual.is_null() {
            for p in 0..P {
                sums[p] = sums[p].add(load(t.residual.add(place + p * t.y_step)));
            }
        }
        if t.relu {
            for p in 0..P {
                sums[p] = sums[p].relu();
            }
        }
        for p in 0..P {
            let y = t.y.add(place + p * t.y_step);
            if FULL { sums[p].store(y) } else { sums[p].store_first(y, rest) }
        }
    }
}

/// Adds, for T taps, the products of x and dy to the sums.
///
/// # Safety
/// The CPU has the instructions of `V`, and the pointers of `t` hold what [`Gradients`] says.
#[inline(always)]
unsafe fn gradients<V: Vector, const T: usize>(t: &Gradients) {
    // SAFETY: by this function's contract.
    unsafe {
        let mut c = 0;
        while c + V::LANES <= t.channels {
            gradients_of_vector::<V, T, true>(t, c);
            c += V::LANES;
        }
        if c < t.channels {
            gradients_of_vector::<V, T, false>(t, c);
        }
    }
}

/// # Safety
/// As [`gradients`].
#[inline(always)]
unsafe fn gradients_of_vector<V: Vector, const T: usize, const FULL: bool>(t: &Gradients, c: usize) {
    // SAFETY: by the contract of `gradients`; only `channels` numbers are touched at each place.
    unsafe {
        let rest = t.channels - c;
        let load = |from: *const f32| if FULL { V::load(from) } else { V::load_first(from, rest) };
        let mut sums = [V::zero(); T];
        let mut places = [0; T];
        for tap in 0..T {
            sums[tap] = load(t.sums.add(*t.sum_places.add(tap) + c));
            places[tap] = *t.places.add(tap);
        }
        for row in 0..t.row_count {
            let [x, dy] = *t.rows.add(row);
            let (mut x, mut dy) = (t.x.add(x + c), t.dy.add(dy + c));
            for _ in 0..t.cols {
                let d = load(dy);
                for tap in 0..T {
                    sums[tap] = load(x.add(places[tap])).mul_add(d, sums[tap]);
                }
                // The last step would leave the buffer.
                x = x.wrapping_add(t.steps[0]);
                dy = dy.wrapping_add(t.steps[1]);
            }
        }
        for tap in 0..T {
            let place = t.sums.add(*t.sum_places.add(tap) + c);
            if FULL { sums[tap].store(place) } else { sums[tap].store_first(place, rest) }
        }
    }
}

/// The kernels of one instruction set.
pub(super) struct Kernels {
    /// By number of pixels, less one.
    pub pixels: [unsafe fn(&Pixels); MAX_PIXELS],
    /// By number of taps, less one.
    pub gradients: [unsafe fn(&Gradients); MAX_TAPS],
}

impl Kernels {
    /// Those of this instruction set.
    pub fn of(isa: Isa) -> &'static Self {
        match isa {
            Isa::Portable => &PORTABLE,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => &AVX2,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) | Isa::Amx(_) => &AVX512,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon(_) => &NEON,
            _ => &PORTABLE,
        }
    }
}

/// Compiles the kernels for one instruction set.
macro_rules! kernels {
    ($table:ident, $module:ident, $vector:ty $(, $attribute:meta)?) => {
        mod $module {
            use super::*;

            /// # Safety
            /// As [`super::pixels`].
            $(#[$attribute])?
            pub unsafe fn pixels<const P: usize>(t: &Pixels) {
                // SAFETY: the caller keeps the contract; the instructions are this function's features.
                unsafe { super::pixels::<$vector, P>(t) }
            }

            /// # Safety
            /// As [`super::gradients`].
            $(#[$attribute])?
            pub unsafe fn gradients<const T: usize>(t: &Gradients) {
                // SAFETY: the caller keeps the contract; the instructions are this function's features.
                unsafe { super::gradients::<$vector, T>(t) }
            }
        }

        static $table: Kernels = Kernels {
            pixels: [
                $module::pixels::<1>, $module::pixels::<2>, $module::pixels::<3>, $module::pixels::<4>, $module::pixels::<5>,
                $module::pixels::<6>, $module::pixels::<7>, $module::pixels::<8>,
            ],
            gradients: [
                $module::gradients::<1>, $module::gradients::<2>, $module::gradients::<3>, $module::gradients::<4>,
                $module::gradients::<5>, $module::gradients::<6>, $module::gradients::<7>, $module::gradients::<8>,
                $module::gradients::<9>,
            ],
        };
    };
}

kernels!(PORTABLE, portable, F32x4);
#[cfg(target_arch = "x86_64")]
kernels!(AVX2, avx2, std::arch::x86_64::__m256, target_feature(enable = "avx2,fma"));
#[cfg(target_arch = "x86_64")]
kernels!(AVX512, avx512, std::arch::x86_64::__m512, target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"));
#[cfg(target_arch = "aarch64")]
kernels!(NEON, neon, std::arch::aarch64::float32x4_t, target_feature(enable = "neon"));
