//! Matrix products: the micro-kernels of each instruction set, and the order in which they read their operands.

pub(crate) mod block;
pub(crate) mod microkernel;
pub(crate) mod pack;
pub(crate) mod short;

use crate::Isa;
use crate::isa::portable::F32x4;
use microkernel::{Outer, Rows, Tile};
use short::{Pixels, ShortKernel};

/// A micro-kernel compiled for one instruction set, one number of pixels and one number of vectors.
pub(crate) type TileKernel = unsafe fn(&Tile);

/// As [`TileKernel`], for sums of outer products.
pub(crate) type OuterKernel = unsafe fn(&Outer);

/// As [`TileKernel`], for copies of rows.
pub(crate) type CopyKernel = unsafe fn(&Rows);

/// The micro-kernels of one instruction set.
pub(crate) struct Kernels {
    /// Numbers in one vector.
    pub lanes: usize,
    /// Most pixels that a tile may have.
    pub pixels: usize,
    /// `tiles[vectors − 1][pixels − 1]`
    tiles: [&'static [TileKernel]; 2],
    /// `outers[gather][vectors − 1][pixels − 1]`
    outers: [[&'static [OuterKernel]; 2]; 2],
    /// `copies[vectors − 1]`
    copies: [CopyKernel; 2],
    /// Loops for short sums.
    pub shorts: &'static [ShortKernel],
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

    /// Filters that one panel of packed weights holds: two vectors.
    pub fn panel(&self) -> usize {
        2 * self.lanes
    }

    /// The kernel for that many pixels and vectors of filters.
    pub fn tile(&self, pixels: usize, vectors: usize) -> TileKernel {
        self.tiles[vectors - 1][pixels - 1]
    }

    /// The kernel for that many numbers of the input and vectors of filters.
    pub fn outer(&self, numbers: usize, vectors: usize, gather: bool) -> OuterKernel {
        self.outers[usize::from(gather)][vectors - 1][numbers - 1]
    }

    /// The kernel that copies rows of that many vectors.
    pub fn copy(&self, vectors: usize) -> CopyKernel {
        self.copies[vectors - 1]
    }
}

/// Compiles the micro-kernels for one instruction set.
macro_rules! kernels {
    (
        $table:ident, $module:ident, $vector:ty, [$($pixels:literal)*],
        [$($rows:literal x $length:literal by $side_by_side:literal $(or $pairs:literal)?)*] $(, $attribute:meta)?
    ) => {
        mod $module {
            use super::*;

            /// # Safety
            /// As [`microkernel::tile`].
            $(#[$attribute])?
            pub unsafe fn tile<const P: usize, const N: usize>(t: &Tile) {
                // SAFETY: the caller keeps the contract of `tile`; the instructions are this function's features.
                unsafe { microkernel::tile::<$vector, P, N>(t) }
            }

            /// # Safety
            /// As [`microkernel::outer`].
            $(#[$attribute])?
            pub unsafe fn outer<const P: usize, const N: usize, const GATHER: bool>(t: &Outer) {
                // SAFETY: the caller keeps the contract of `outer`; the instructions are this function's features.
                unsafe { microkernel::outer::<$vector, P, N, GATHER>(t) }
            }

            /// # Safety
            /// As [`microkernel::copy`].
            $(#[$attribute])?
            pub unsafe fn copy<const N: usize>(r: &Rows) {
                // SAFETY: the caller keeps the contract of `copy`; the instructions are this function's features.
                unsafe { microkernel::copy::<$vector, N>(r) }
            }

            /// # Safety
            /// As [`short::pixels`].
            $(#[$attribute])?
            pub unsafe fn pixels<const L: usize, const T: usize, const P: usize, const HALF: usize, const N: usize>(t: &Pixels) {
                // SAFETY: the caller keeps the contract of `pixels`; the instructions are this function's features.
                unsafe { short::pixels::<$vector, L, T, P, HALF, N>(t) }
            }
        }

        static $table: Kernels = Kernels {
            lanes: <$vector as crate::isa::vector::Vector>::LANES,
            pixels: [$($pixels),*].len(),
            tiles: [&[$($module::tile::<$pixels, 1>),*], &[$($module::tile::<$pixels, 2>),*]],
            outers: [
                [&[$($module::outer::<$pixels, 1, false>),*], &[$($module::outer::<$pixels, 2, false>),*]],
                [&[$($module::outer::<$pixels, 1, true>),*], &[$($module::outer::<$pixels, 2, true>),*]],
            ],
            copies: [$module::copy::<1>, $module::copy::<2>],
            shorts: &[$(ShortKernel {
                rows: $rows,
                length: $length,
                one: $module::pixels::<$length, { $rows * $length }, $side_by_side, { $side_by_side / 2 }, 1>,
                two: [$($module::pixels::<$length, { $rows * $length }, $pairs, { $pairs / 2 }, 2> as unsafe fn(&Pixels))?].first().copied(),
            }),*],
        };
    };
}

kernels!(PORTABLE, portable, F32x4, [1 2 3 4], [3 x 3 by 4]);
#[cfg(target_arch = "x86_64")]
kernels!(
    AVX2,
    avx2,
    std::arch::x86_64::__m256,
    [1 2 3 4 5 6],
    [3 x 3 by 4  3 x 9 by 8 or 6  5 x 5 by 8 or 6  1 x 8 by 4  1 x 12 by 8 or 6  1 x 16 by 8 or 6  1 x 24 by 8 or 6  1 x 32 by 8 or 6],
    target_feature(enable = "avx2,fma")
);
#[cfg(target_arch = "x86_64")]
kernels!(
    AVX512,
    avx512,
    std::arch::x86_64::__m512,
    [1 2 3 4 5 6 7 8 9 10 11 12 13 14],
    // There are 32 registers, and what they cannot hold comes from the first-level cache as fast.
    [3 x 3 by 8  3 x 6 by 8  3 x 9 by 4  3 x 12 by 8  5 x 5 by 6  1 x 4 by 8  1 x 8 by 8  1 x 12 by 8  1 x 16 by 8  1 x 24 by 6  1 x 32 by 8],
    target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
);
#[cfg(target_arch = "aarch64")]
kernels!(NEON, neon, std::arch::aarch64::float32x4_t, [1 2 3 4 5 6 7 8], [3 x 3 by 8], target_feature(enable = "neon"));

/// A pointer to numbers that several threads write, each its own.
#[derive(Clone, Copy)]
pub(crate) struct Target(*mut f32);

// SAFETY: it is only a place; whoever writes through it says why nobody else writes there.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    /// Where these numbers are.
    pub fn new(numbers: &mut [f32]) -> Self {
        Self(numbers.as_mut_ptr())
    }

    /// The first number.
    pub fn pointer(self) -> *mut f32 {
        self.0
    }
}

/// Zeros that pixels in the padding point to.
pub(crate) static ZEROS: [f32; 1024] = [0.0; 1024];
