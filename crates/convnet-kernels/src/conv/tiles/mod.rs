//! Convolution with products of reduced [`Precision`], in the tiles of AMX where the CPU has them.
//!
//! Everything is one computation, a sum of products of 16×32 with 32×16 bfloat16 numbers in `f32`: over channels and taps
//! where a frame is multiplied with weights, over positions where it is multiplied with gradients (`frame.rs`). A CPU without
//! tiles computes the same sums, in the same order, with vectors (`unit.rs`): the same bits, at less than the speed of `f32`,
//! so that what was tried on one computer holds on the other.
//!
//! Operands are rounded where they are brought into the order of tiles; images, weights and gradients stay `f32` in memory, and so
//! do bias, residual and ReLU.

mod fill;
mod forward;
mod frame;
mod pack;
mod products;
mod split;
mod unit;
mod weight;

use super::{Algorithm, ConvShape, Epilogue, Pass, direct};
use crate::isa::portable::F32x4;
use crate::{Isa, Machine, Precision};
use fill::{Fill, Halves, Pairs};
use forward::Operands;
use frame::Frame;
use pack::Pack;
use unit::{Emulated, SIDE};

/// The row of products of bfloat16 numbers.
pub const fn bf16() -> Algorithm<f32> {
    algorithm::<1>("tiles bf16", Precision::Bf16)
}

/// The row of three products of two parts each.
pub const fn f32x3() -> Algorithm<f32> {
    algorithm::<2>("tiles f32x3", Precision::F32x3)
}

/// The row of six products of three parts each.
pub const fn f32x6() -> Algorithm<f32> {
    algorithm::<3>("tiles f32x6", Precision::F32x6)
}

const fn algorithm<const PARTS: usize>(name: &'static str, precision: Precision) -> Algorithm<f32> {
    Algorithm {
        name,
        precision,
        exact: true,
        accepts,
        cost: cost::<PARTS>,
        packing_cost: packing_cost::<PARTS>,
        packed_len: packed_len::<PARTS>,
        pack: pack::<PARTS>,
        scratch_len: scratch_len::<PARTS>,
        forward: forward::<PARTS>,
        backward_input: backward_input::<PARTS>,
        backward_weight: weight::run::<PARTS>,
    }
}

/// Most taps of a kernel.
const MOST_TAPS: usize = 256;

fn accepts(shape: &ConvShape, isa: Isa) -> Result<(), &'static str> {
    direct::accepts(shape, isa)?;
    if shape.group_channels() < SIDE || shape.group_filters() < SIDE {
        return Err("fewer than 16 channels or filters in a group would leave most of a tile empty");
    }
    if shape.window().taps() > MOST_TAPS {
        return Err("only for kernels of at most 256 taps");
    }
    if !Frame::forward(shape, 1).is_worthwhile() || !Frame::backward_input(shape, 1).is_worthwhile() {
        return Err("the padding is much larger than the image");
    }
    Ok(())
}

/// Multiply-adds of a step of tiles.
const STEP_MACS: f64 = (SIDE * SIDE * unit::DEPTH) as f64;
/// Time of a vector's multiply-add in which AMX does as much of a step: by its peak 15, and the operands have to be loaded.
const AMX_SPEED: f64 = 6.0;
/// The same for vectors that do a tile's work.
const EMULATED_SPEED: f64 = 0.7;
/// Converting a vector of numbers, in units of a vector's multiply-add.
const CONVERSION_PRICE: f64 = 8.0;
/// The same for weights, which are read across their order.
const PACK_PRICE: f64 = 30.0;

fn cost<const PARTS: usize>(shape: &ConvShape, isa: Isa, pass: Pass) -> f64 {
    let (steps, converted) = match pass {
        Pass::Forward | Pass::BackwardInput => (forward::steps(shape, pass, PARTS), forward::converted(shape, pass, PARTS)),
        Pass::BackwardWeight => {
            let cut = weight::Cut::new(shape, PARTS);
            (cut.products(), cut.converted())
        }
    };
    let speed = if matches!(isa, Isa::Amx(_)) { AMX_SPEED } else { EMULATED_SPEED };
    (steps * STEP_MACS / speed + converted * CONVERSION_PRICE) / isa.f32_lanes() as f64
}

fn packing_cost<const PARTS: usize>(shape: &ConvShape, isa: Isa, pass: Pass) -> f64 {
    PACK_PRICE * (packed_len::<PARTS>(shape, isa, pass) / isa.f32_lanes()) as f64
}

fn packed_len<const PARTS: usize>(shape: &ConvShape, _: Isa, pass: Pass) -> usize {
    if pass == Pass::BackwardWeight {
        return 0;
    }
    forward::orders(shape, pass).map(|order| pack::len(&order, PARTS)).sum::<usize>() / 2
}

fn pack<const PARTS: usize>(machine: &Machine, shape: &ConvShape, pass: Pass, weights: &[f32], packed: &mut [f32]) {
    if pass == Pass::BackwardWeight {
        return;
    }
    assert!(packed.len() >= packed_len::<PARTS>(shape, machine.isa, pass), "packed weights of the wrong length");
    let (routines, mut to) = (Routines::of(machine.isa, PARTS), Halves::new(packed));
    for order in forward::orders(shape, pass) {
        let work = Pack { order, weights, to };
        // SAFETY: the routines were chosen by the token of their instructions; the length was checked, and each piece is
        // worked on once.
        machine.threads.run(work.pieces(), |piece| unsafe { (routines.pack)(&work, piece) });
        to = to.after(pack::len(&order, PARTS));
    }
}

fn scratch_len<const PARTS: usize>(shape: &ConvShape, _: Isa, pass: Pass) -> usize {
    match pass {
        Pass::Forward | Pass::BackwardInput => forward::scratch_len(&forward::frame(shape, pass, PARTS), PARTS),
        Pass::BackwardWeight => weight::Cut::new(shape, PARTS).scratch_len(),
    }
}

fn forward<const PARTS: usize>(
    machine: &Machine,
    shape: &ConvShape,
    x: &[f32],
    packed: &[f32],
    epilogue: &Epilogue<'_, f32>,
    y: &mut [f32],
    scratch: &mut [f32],
) {
    forward::run::<PARTS>(machine, shape, Pass::Forward, &Operands { x, packed, epilogue }, y, scratch);
}

fn backward_input<const PARTS: usize>(
    machine: &Machine,
    shape: &ConvShape,
    dy: &[f32],
    packed: &[f32],
    dx: &mut [f32],
    scratch: &mut [f32],
) {
    let operands = Operands { x: dy, packed, epilogue: &Epilogue::NONE };
    forward::run::<PARTS>(machine, shape, Pass::BackwardInput, &operands, dx, scratch);
}

/// Products of parts that are worth waking threads for.
const SMALL_PRODUCTS: usize = 1 << 19;

/// Runs pieces of work of a shape: on all threads, or on this one alone where there is little to do.
fn each<'a, const PARTS: usize>(machine: &'a Machine, shape: &ConvShape) -> impl Fn(usize, &(dyn Fn(usize) + Sync)) + use<'a, PARTS> {
    let products = usize::try_from(shape.macs()).unwrap_or(usize::MAX).saturating_mul(products::count(PARTS));
    move |pieces, work| machine.threads.run_unless(products < SMALL_PRODUCTS, pieces, work)
}

/// The routines of one unit for numbers of so many parts; each does one piece of work.
struct Routines {
    fill: unsafe fn(&Fill<'_>, usize),
    planes: unsafe fn(&Fill<'_>, usize),
    pairs: unsafe fn(&Pairs<'_>, usize),
    pack: unsafe fn(&Pack<'_>, usize),
    forward: unsafe fn(&forward::Work<'_>, usize),
    weight: unsafe fn(&weight::Work<'_>, usize),
}

impl Routines {
    /// Those of this instruction set.
    fn of(isa: Isa, parts: usize) -> &'static Self {
        let of_parts = match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Amx(_) => &AMX,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => &AVX512,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => &AVX2,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon(_) => &NEON,
            _ => &PORTABLE,
        };
        &of_parts[parts - 1]
    }
}

/// Compiles the routines for one unit.
macro_rules! routines {
    ($table:ident, $module:ident, $unit:ty $(, $attribute:meta)?) => {
        mod $module {
            use super::*;

            routines!(@each $unit, [$($attribute)?]
                fill(Fill<'_>) = run::<PARTS>,
                planes(Fill<'_>) = run_planes::<PARTS>,
                pairs(Pairs<'_>) = run::<PARTS>,
                pack(Pack<'_>) = run::<PARTS>,
                forward(forward::Work<'_>) = run::<$unit, PARTS>,
                weight(weight::Work<'_>) = run::<$unit, PARTS>,
            );

            pub const fn of_parts<const PARTS: usize>() -> Routines {
                Routines {
                    fill: fill::<PARTS>,
                    planes: planes::<PARTS>,
                    pairs: pairs::<PARTS>,
                    pack: pack::<PARTS>,
                    forward: forward::<PARTS>,
                    weight: weight::<PARTS>,
                }
            }
        }

        static $table: [Routines; 3] = [$module::of_parts::<1>(), $module::of_parts::<2>(), $module::of_parts::<3>()];
    };
    (@each $unit:ty, $attribute:tt $($name:ident($work:ty) = $method:ident::<$($argument:ty),*>,)*) => {
        $(routines!(@one $attribute $name($work) = $method::<$($argument),*>);)*
    };
    (@one [$($attribute:meta)?] $name:ident($work:ty) = $method:ident::<$($argument:ty),*>) => {
        /// # Safety
        /// As the method of the work.
        $(#[$attribute])?
        unsafe fn $name<const PARTS: usize>(work: &$work, piece: usize) {
            // SAFETY: the caller keeps the contract; the instructions are this function's features.
            unsafe { work.$method::<$($argument),*>(piece) }
        }
    };
}

routines!(PORTABLE, portable, Emulated<F32x4, 4>);
#[cfg(target_arch = "x86_64")]
routines!(AVX2, avx2, Emulated<std::arch::x86_64::__m256, 4>, target_feature(enable = "avx2,fma"));
#[cfg(target_arch = "x86_64")]
routines!(
    AVX512,
    avx512,
    Emulated<std::arch::x86_64::__m512, 8>,
    target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
);
#[cfg(target_arch = "x86_64")]
routines!(AMX, amx, unit::Tiles, target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"));
#[cfg(target_arch = "aarch64")]
routines!(NEON, neon, Emulated<std::arch::aarch64::float32x4_t, 8>, target_feature(enable = "neon"));
