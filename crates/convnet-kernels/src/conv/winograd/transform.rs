//! The transforms of Winograd's minimal filtering in one dimension, and the kernels that apply them to both.
//!
//! With polynomials evaluated at points p (Toom and Cook), O outputs of a kernel of three taps take I = O + 2 products:
//!
//! ```text
//! y = Aᵀ [ (G w) ⊙ (Bᵀ d) ]        A[p] = (1, p, p², …),  G[p] = (1, p, p²) / Π (p − q),  B[p] = Π (x − q),  q ≠ p
//! ```
//!
//! In two dimensions every transform is applied to the columns and then to the rows. The gradient of the weights is the
//! same formula read backwards: dw = Gᵀ [ (Bᵀ d) ⊙ (A dy) ]. (Winograd 1980; Lavin and Gray 2016.)

// Loops over constant ranges are what the compiler unrolls into registers.
#![allow(clippy::needless_range_loop)]

use crate::Isa;
use crate::isa::portable::F32x4;
use crate::isa::vector::Vector;

/// Most inputs of a transform.
pub(super) const MAX_INPUT: usize = 6;
/// Most outputs of a transform.
pub(super) const MAX_OUTPUT: usize = 4;
/// Taps of the kernel along one axis.
pub(super) const TAPS: usize = 3;

/// The transforms of one tile size. Arrays are as long as the largest tile needs; what is beyond `INPUT` or `OUTPUT` is
/// neither read nor of interest.
pub(super) trait Transform: Sized + 'static {
    /// Inputs of a tile along one axis.
    const INPUT: usize;
    /// Outputs of a tile along one axis.
    const OUTPUT: usize;
    /// The name in reports.
    const NAME: &'static str;
    /// The kernels of an instruction set.
    fn kernels(isa: Isa) -> &'static Kernels;

    /// Bᵀ d
    ///
    /// # Safety
    /// The CPU has the instructions of `V`; so for all of these.
    unsafe fn input<V: Vector>(d: [V; MAX_INPUT]) -> [V; MAX_INPUT];
    /// Aᵀ m
    ///
    /// # Safety
    /// As [`input`](Self::input).
    unsafe fn output<V: Vector>(m: [V; MAX_INPUT]) -> [V; MAX_OUTPUT];
    /// A dy
    ///
    /// # Safety
    /// As [`input`](Self::input).
    unsafe fn gradient<V: Vector>(dy: [V; MAX_OUTPUT]) -> [V; MAX_INPUT];
    /// G w
    ///
    /// # Safety
    /// As [`input`](Self::input).
    unsafe fn weights<V: Vector>(w: [V; TAPS]) -> [V; MAX_INPUT];
    /// Gᵀ u
    ///
    /// # Safety
    /// As [`input`](Self::input).
    unsafe fn weight_gradient<V: Vector>(u: [V; MAX_INPUT]) -> [V; TAPS];
}

/// F(2×2, 3×3): points 0, 1, −1, ∞. 16 products where the definition has 36.
pub(super) struct Two;

/// F(4×4, 3×3): points 0, ±a, ±b, ∞. 36 products where the definition has 144.
pub(super) struct Four;

impl Transform for Two {
    const INPUT: usize = 4;
    const OUTPUT: usize = 2;
    const NAME: &'static str = "winograd 2x2";

    fn kernels(isa: Isa) -> &'static Kernels {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => &AVX2_TWO,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) | Isa::Amx(_) => &AVX512_TWO,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon(_) => &NEON_TWO,
            _ => &PORTABLE_TWO,
        }
    }

    #[inline(always)]
    unsafe fn input<V: Vector>(d: [V; MAX_INPUT]) -> [V; MAX_INPUT] {
        // SAFETY: by the trait's contract.
        unsafe { [d[0].sub(d[2]), d[1].add(d[2]), d[2].sub(d[1]), d[3].sub(d[1]), d[4], d[5]] }
    }

    #[inline(always)]
    unsafe fn output<V: Vector>(m: [V; MAX_INPUT]) -> [V; MAX_OUTPUT] {
        // SAFETY: by the trait's contract.
        unsafe { [m[0].add(m[1].add(m[2])), m[1].sub(m[2]).add(m[3]), m[4], m[5]] }
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(dy: [V; MAX_OUTPUT]) -> [V; MAX_INPUT] {
        // SAFETY: by the trait's contract.
        unsafe { [dy[0], dy[0].add(dy[1]), dy[0].sub(dy[1]), dy[1], dy[2], dy[3]] }
    }

    #[inline(always)]
    unsafe fn weights<V: Vector>(w: [V; TAPS]) -> [V; MAX_INPUT] {
        // SAFETY: by the trait's contract.
        unsafe {
            let half = V::splat(0.5);
            let even = w[0].add(w[2]).mul(half);
            let odd = w[1].mul(half);
            [w[0], even.add(odd), even.sub(odd), w[2], w[2], w[2]]
        }
    }

    #[inline(always)]
    unsafe fn weight_gradient<V: Vector>(u: [V; MAX_INPUT]) -> [V; TAPS] {
        // SAFETY: by the trait's contract.
        unsafe {
            let half = V::splat(0.5);
            let even = u[1].add(u[2]).mul(half);
            [u[0].add(even), u[1].sub(u[2]).mul(half), u[3].add(even)]
        }
    }
}

/// The points of [`Four`] beside 0 and ∞ are ±a and ±b, chosen so that no transform has large numbers beside small ones.
const A: f32 = 0.625;
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;
/// Π (p − q) at 0, at ±a and at ±b.
const AT_ZERO: f32 = A2 * B2;
const AT_A: f32 = 2.0 * A2 * (A2 - B2);
const AT_B: f32 = 2.0 * B2 * (B2 - A2);

impl Transform for Four {
    const INPUT: usize = 6;
    const OUTPUT: usize = 4;
    const NAME: &'static str = "winograd 4x4";

    fn kernels(isa: Isa) -> &'static Kernels {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => &AVX2_FOUR,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) | Isa::Amx(_) => &AVX512_FOUR,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon(_) => &NEON_FOUR,
            _ => &PORTABLE_FOUR,
        }
    }

    #[inline(always)]
    unsafe fn input<V: Vector>(d: [V; MAX_INPUT]) -> [V; MAX_INPUT] {
        // SAFETY: by the trait's contract.
        unsafe {
            let c = |value| V::splat(value);
            // (x² − a²)(x² − b²), and the same times x.
            let first = d[2].mul_add(c(-(A2 + B2)), d[0].mul_add(c(A2 * B2), d[4]));
            let last = d[3].mul_add(c(-(A2 + B2)), d[1].mul_add(c(A2 * B2), d[5]));
            // x (x ± p)(x² − q²) for both pairs: even powers ± p · odd powers.
            let (even_a, odd_a) = (d[2].mul_add(c(-B2), d[4]), d[1].mul_add(c(-B2), d[3]));
            let (even_b, odd_b) = (d[2].mul_add(c(-A2), d[4]), d[1].mul_add(c(-A2), d[3]));
            [
                first,
                odd_a.mul_add(c(A), even_a),
                odd_a.mul_add(c(-A), even_a),
                odd_b.mul_add(c(B), even_b),
                odd_b.mul_add(c(-B), even_b),
                last,
            ]
        }
    }

    #[inline(always)]
    unsafe fn output<V: Vector>(m: [V; MAX_INPUT]) -> [V; MAX_OUTPUT] {
        // SAFETY: by the trait's contract.
        unsafe {
            let c = |value| V::splat(value);
            let (sum_a, difference_a) = (m[1].add(m[2]), m[1].sub(m[2]));
            let (sum_b, difference_b) = (m[3].add(m[4]), m[3].sub(m[4]));
            [
                m[0].add(sum_a).add(sum_b),
                difference_b.mul_add(c(B), difference_a.mul(c(A))),
                sum_b.mul_add(c(B2), sum_a.mul(c(A2))),
                difference_b.mul_add(c(B * B2), difference_a.mul_add(c(A * A2), m[5])),
            ]
        }
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(dy: [V; MAX_OUTPUT]) -> [V; MAX_INPUT] {
        // SAFETY: by the trait's contract.
        unsafe {
            let c = |value| V::splat(value);
            let (even_a, odd_a) = (dy[2].mul_add(c(A2), dy[0]), dy[3].mul_add(c(A2), dy[1]));
            let (even_b, odd_b) = (dy[2].mul_add(c(B2), dy[0]), dy[3].mul_add(c(B2), dy[1]));
            [
                dy[0],
                odd_a.mul_add(c(A), even_a),
                odd_a.mul_add(c(-A), even_a),
                odd_b.mul_add(c(B), even_b),
                odd_b.mul_add(c(-B), even_b),
                dy[3],
            ]
        }
    }

    #[inline(always)]
    unsafe fn weights<V: Vector>(w: [V; TAPS]) -> [V; MAX_INPUT] {
        // SAFETY: by the trait's contract.
        unsafe {
            let c = |value| V::splat(value);
            let even_a = w[2].mul_add(c(A2 / AT_A), w[0].mul(c(1.0 / AT_A)));
            let even_b = w[2].mul_add(c(B2 / AT_B), w[0].mul(c(1.0 / AT_B)));
            [
                w[0].mul(c(1.0 / AT_ZERO)),
                w[1].mul_add(c(A / AT_A), even_a),
                w[1].mul_add(c(-A / AT_A), even_a),
                w[1].mul_add(c(B / AT_B), even_b),
                w[1].mul_add(c(-B / AT_B), even_b),
                w[2],
            ]
        }
    }

    #[inline(always)]
    unsafe fn weight_gradient<V: Vector>(u: [V; MAX_INPUT]) -> [V; TAPS] {
        // SAFETY: by the trait's contract.
        unsafe {
            let c = |value| V::splat(value);
            let (sum_a, sum_b) = (u[1].add(u[2]), u[3].add(u[4]));
            let (difference_a, difference_b) = (u[1].sub(u[2]), u[3].sub(u[4]));
            [
                sum_b.mul_add(c(1.0 / AT_B), sum_a.mul_add(c(1.0 / AT_A), u[0].mul(c(1.0 / AT_ZERO)))),
                difference_b.mul_add(c(B / AT_B), difference_a.mul(c(A / AT_A))),
                sum_b.mul_add(c(B2 / AT_B), sum_a.mul_add(c(A2 / AT_A), u[5])),
            ]
        }
    }
}

/// What [`scatter`] reads and writes.
pub(super) struct Scatter {
    /// A pointer to `channels` numbers for each pixel of the tile, row by row.
    pub pixels: *const *const f32,
    /// Number of channels.
    pub channels: usize,
    /// Where the first product's numbers go: room for whole vectors.
    pub products: *mut f32,
    /// Numbers from one product to the next.
    pub step: usize,
}

/// What [`gather`] reads and writes.
pub(super) struct Gather {
    /// The numbers of the first product: `filters` of them, readable up to whole vectors.
    pub products: *const f32,
    /// Numbers from one product to the next.
    pub step: usize,
    /// Number of filters.
    pub filters: usize,
    /// For each pixel of the tile, row by row, where its output begins from `y`; [`OUTSIDE`] where there is none.
    pub outputs: *const usize,
    /// The output at the first of these filters.
    pub y: *mut f32,
    /// Added at the end; or null.
    pub bias: *const f32,
    /// Added at the end, laid out as `y`; or null.
    pub residual: *const f32,
    /// Whether negative results become zero.
    pub relu: bool,
    /// Whether the outputs are written past the caches: whole vectors, at multiples of their size.
    pub streamed: bool,
}

/// The output of a pixel that is beyond the image.
pub(super) const OUTSIDE: usize = usize::MAX;

/// Vectors that stand for rows of kernels: [`spread_weights`] makes I² of nine, [`collect_weights`] nine of I².
pub(super) struct Rows {
    pub from: *const f32,
    /// Numbers from one tap, or product, to the next in `from`; negative when taps are read from last to first.
    pub from_step: isize,
    pub to: *mut f32,
    /// Numbers from one product, or tap, to the next in `to`.
    pub to_step: usize,
    /// Numbers: a multiple of the lanes.
    pub count: usize,
}

/// Transforms a tile of the input (I × I pixels, Bᵀ) or of the output's gradient (O × O pixels, A) to I² products.
///
/// # Safety
/// The CPU has the instructions of `V`, and the pointers of `t` hold what [`Scatter`] says.
#[inline(always)]
unsafe fn scatter<T: Transform, V: Vector, const GRADIENT: bool>(t: &Scatter) {
    // SAFETY: by this function's contract; `channels` numbers of each pixel are read.
    unsafe {
        let mut c = 0;
        while c + V::LANES <= t.channels {
            scatter_vector::<T, V, GRADIENT, true>(t, c);
            c += V::LANES;
        }
        if c < t.channels {
            scatter_vector::<T, V, GRADIENT, false>(t, c);
        }
    }
}

/// # Safety
/// As [`scatter`]; `FULL` says that a whole vector of each pixel is read.
#[inline(always)]
unsafe fn scatter_vector<T: Transform, V: Vector, const GRADIENT: bool, const FULL: bool>(t: &Scatter, c: usize) {
    // SAFETY: by the contract of `scatter`.
    unsafe {
        let size = if GRADIENT { T::OUTPUT } else { T::INPUT };
        let mut columns = [[V::zero(); MAX_INPUT]; MAX_INPUT];
        for col in 0..size {
            let mut d = [V::zero(); MAX_INPUT];
            for row in 0..size {
                let from = (*t.pixels.add(row * size + col)).add(c);
                d[row] = if FULL { V::load(from) } else { V::load_first(from, t.channels - c) };
            }
            let d = if GRADIENT { T::gradient([d[0], d[1], d[2], d[3]]) } else { T::input(d) };
            for row in 0..T::INPUT {
                columns[row][col] = d[row];
            }
        }
        for row in 0..T::INPUT {
            let d = columns[row];
            let d = if GRADIENT { T::gradient([d[0], d[1], d[2], d[3]]) } else { T::input(d) };
            for col in 0..T::INPUT {
                d[col].store(t.products.add((row * T::INPUT + col) * t.step + c));
            }
        }
    }
}

/// Transforms I² products to a tile of the output (O × O pixels), and writes it with what is added.
///
/// # Safety
/// The CPU has the instructions of `V`, and the pointers of `t` hold what [`Gather`] says.
#[inline(always)]
unsafe fn gather<T: Transform, V: Vector>(t: &Gather) {
    // SAFETY: by this function's contract; `filters` numbers of each output are touched.
    unsafe {
        let mut k = 0;
        while k + V::LANES <= t.filters {
            gather_vector::<T, V, true>(t, k);
            k += V::LANES;
        }
        if k < t.filters {
            gather_vector::<T, V, false>(t, k);
        }
    }
}

/// # Safety
/// As [`gather`]; `FULL` says that a whole vector of each output is written.
#[inline(always)]
unsafe fn gather_vector<T: Transform, V: Vector, const FULL: bool>(t: &Gather, k: usize) {
    // SAFETY: by the contract of `gather`.
    unsafe {
        let rest = t.filters - k;
        let load = |from: *const f32| if FULL { V::load(from) } else { V::load_first(from, rest) };
        let mut columns = [[V::zero(); MAX_INPUT]; MAX_OUTPUT];
        for col in 0..T::INPUT {
            let mut m = [V::zero(); MAX_INPUT];
            for row in 0..T::INPUT {
                m[row] = V::load(t.products.add((row * T::INPUT + col) * t.step + k));
            }
            let m = T::output(m);
            for row in 0..T::OUTPUT {
                columns[row][col] = m[row];
            }
        }
        let bias = if t.bias.is_null() { V::zero() } else { load(t.bias.add(k)) };
        for row in 0..T::OUTPUT {
            let numbers = T::output(columns[row]);
            for col in 0..T::OUTPUT {
                let place = *t.outputs.add(row * T::OUTPUT + col);
                if place == OUTSIDE {
                    continue;
                }
                let mut number = numbers[col].add(bias);
                if !t.residual.is_null() {
                    number = number.add(load(t.residual.add(place + k)));
                }
                if t.relu {
                    number = number.relu();
                }
                let y = t.y.add(place + k);
                match (FULL, t.streamed) {
                    (true, true) => number.stream(y),
                    (true, false) => number.store(y),
                    _ => number.store_first(y, rest),
                }
            }
        }
    }
}

/// Nine taps to I² products, G.
///
/// # Safety
/// The CPU has the instructions of `V`, and the pointers of `t` hold what [`Rows`] says.
#[inline(always)]
unsafe fn spread_weights<T: Transform, V: Vector>(t: &Rows) {
    // SAFETY: by this function's contract.
    unsafe {
        for place in (0..t.count).step_by(V::LANES) {
            let mut columns = [[V::zero(); TAPS]; MAX_INPUT];
            for col in 0..TAPS {
                let mut w = [V::zero(); TAPS];
                for row in 0..TAPS {
                    w[row] = V::load(t.from.offset((row * TAPS + col) as isize * t.from_step).add(place));
                }
                let u = T::weights(w);
                for row in 0..T::INPUT {
                    columns[row][col] = u[row];
                }
            }
            for row in 0..T::INPUT {
                let u = T::weights(columns[row]);
                for col in 0..T::INPUT {
                    u[col].store(t.to.add((row * T::INPUT + col) * t.to_step + place));
                }
            }
        }
    }
}

/// I² products to the gradients of nine taps, Gᵀ.
///
/// # Safety
/// As [`spread_weights`].
#[inline(always)]
unsafe fn collect_weights<T: Transform, V: Vector>(t: &Rows) {
    // SAFETY: by this function's contract.
    unsafe {
        for place in (0..t.count).step_by(V::LANES) {
            let mut columns = [[V::zero(); MAX_INPUT]; TAPS];
            for col in 0..T::INPUT {
                let mut u = [V::zero(); MAX_INPUT];
                for row in 0..T::INPUT {
                    u[row] = V::load(t.from.offset((row * T::INPUT + col) as isize * t.from_step).add(place));
                }
                let w = T::weight_gradient(u);
                for row in 0..TAPS {
                    columns[row][col] = w[row];
                }
            }
            for row in 0..TAPS {
                let w = T::weight_gradient(columns[row]);
                for col in 0..TAPS {
                    w[col].store(t.to.add((row * TAPS + col) * t.to_step + place));
                }
            }
        }
    }
}

/// The kernels of one tile size and one instruction set.
pub(super) struct Kernels {
    /// A tile of the input to products.
    pub input: unsafe fn(&Scatter),
    /// A tile of the output's gradient to products.
    pub gradient: unsafe fn(&Scatter),
    /// Products to a tile of the output.
    pub output: unsafe fn(&Gather),
    /// Taps to products.
    pub spread_weights: unsafe fn(&Rows),
    /// Products to gradients of taps.
    pub collect_weights: unsafe fn(&Rows),
}

/// Compiles the kernels of both tile sizes for one instruction set.
macro_rules! kernels {
    ($two:ident, $four:ident, $module:ident, $vector:ty $(, $attribute:meta)?) => {
        mod $module {
            use super::*;

            /// # Safety
            /// As [`super::scatter`].
            $(#[$attribute])?
            pub unsafe fn scatter<T: Transform, const GRADIENT: bool>(t: &Scatter) {
                // SAFETY: the caller keeps the contract; the instructions are this function's features.
                unsafe { super::scatter::<T, $vector, GRADIENT>(t) }
            }

            /// # Safety
            /// As [`super::gather`].
            $(#[$attribute])?
            pub unsafe fn gather<T: Transform>(t: &Gather) {
                // SAFETY: as above.
                unsafe { super::gather::<T, $vector>(t) }
            }

            /// # Safety
            /// As [`super::spread_weights`].
            $(#[$attribute])?
            pub unsafe fn spread_weights<T: Transform>(t: &Rows) {
                // SAFETY: as above.
                unsafe { super::spread_weights::<T, $vector>(t) }
            }

            /// # Safety
            /// As [`super::collect_weights`].
            $(#[$attribute])?
            pub unsafe fn collect_weights<T: Transform>(t: &Rows) {
                // SAFETY: as above.
                unsafe { super::collect_weights::<T, $vector>(t) }
            }

            pub const fn kernels<T: Transform>() -> Kernels {
                Kernels {
                    input: scatter::<T, false>,
                    gradient: scatter::<T, true>,
                    output: gather::<T>,
                    spread_weights: spread_weights::<T>,
                    collect_weights: collect_weights::<T>,
                }
            }
        }

        static $two: Kernels = $module::kernels::<Two>();
        static $four: Kernels = $module::kernels::<Four>();
    };
}

kernels!(PORTABLE_TWO, PORTABLE_FOUR, portable, F32x4);
#[cfg(target_arch = "x86_64")]
kernels!(AVX2_TWO, AVX2_FOUR, avx2, std::arch::x86_64::__m256, target_feature(enable = "avx2,fma"));
#[cfg(target_arch = "x86_64")]
kernels!(
    AVX512_TWO,
    AVX512_FOUR,
    avx512,
    std::arch::x86_64::__m512,
    target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
);
#[cfg(target_arch = "aarch64")]
kernels!(NEON_TWO, NEON_FOUR, neon, std::arch::aarch64::float32x4_t, target_feature(enable = "neon"));
