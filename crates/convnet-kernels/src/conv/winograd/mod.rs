//! Winograd's convolution for 3×3 kernels of stride 1: fewer multiplications, for three transforms.
//!
//! The output is cut into tiles of O×O pixels. Each tile's input is transformed to I² = (O + 2)² numbers per channel, and
//! for each of these *products* there is a matrix product of tiles × channels with channels × filters; the results are
//! transformed back. The definition has 9·O² multiplications where this has I²: 2.25 times as many for O = 2, 4 times for
//! O = 4. The gradient of the input is the same with the kernel turned around; the gradient of the weights is the
//! transposed formula.
//!
//! The numbers are rounded at more places than in the definition, so small integers do not give exact sums. Against `f64`
//! the root mean square of the error is up to 3 times that of the direct algorithm for O = 2 and up to 5 times for O = 4, at
//! most about 10⁻⁶ of that of the numbers (`tests/winograd.rs` holds it to that).

mod forward;
mod transform;
mod weight;

use super::{Algorithm, ConvShape, Epilogue, Pass};
use crate::gemm::Kernels;
use crate::{Isa, Machine, Precision};
use forward::{Frame, product_step};
use transform::{Four, TAPS, Transform, Two};

/// The row of tiles of 4×4 outputs.
pub const fn four() -> Algorithm<f32> {
    algorithm::<Four>()
}

/// The row of tiles of 2×2 outputs.
pub const fn two() -> Algorithm<f32> {
    algorithm::<Two>()
}

const fn algorithm<T: Transform>() -> Algorithm<f32> {
    Algorithm {
        name: T::NAME,
        precision: Precision::F32,
        exact: false,
        accepts,
        cost: cost::<T>,
        packing_cost: packing_cost::<T>,
        packed_len: packed_len::<T>,
        pack: forward::pack::<T>,
        scratch_len: scratch_len::<T>,
        forward: forward::<T>,
        backward_input: backward_input::<T>,
        backward_weight: weight::run::<T>,
    }
}

fn accepts(shape: &ConvShape, _: Isa) -> Result<(), &'static str> {
    for axis in [shape.window().h, shape.window().w] {
        if axis.size != TAPS || axis.stride != 1 || axis.dilation != 1 {
            return Err("only for 3x3 kernels of stride 1 and dilation 1");
        }
        if axis.pad_before >= TAPS || axis.pad_after >= TAPS {
            return Err("the padding is as large as the kernel");
        }
    }
    if shape.groups() > 1 {
        return Err("only for one group");
    }
    Ok(())
}

/// Products of a tile.
const fn products<T: Transform>() -> usize {
    T::INPUT * T::INPUT
}

/// Packing a vector of transformed weights, in units of a vector's multiply-add.
const PACK_PRICE: f64 = 28.0;

/// What the parts of a pass take, in units of a vector's multiply-add. The figures were fitted to measurements.
struct Price {
    /// A vector multiply-add of the matrix products.
    product: f64,
    /// The transforms of a vector, for each product of a tile.
    transform: f64,
    /// Moving a vector of transformed weights, or of their gradients, between the caches.
    weights: f64,
}

fn packing_cost<T: Transform>(shape: &ConvShape, isa: Isa, pass: Pass) -> f64 {
    PACK_PRICE * (packed_len::<T>(shape, isa, pass) / Kernels::of(isa).lanes) as f64
}

fn cost<T: Transform>(shape: &ConvShape, isa: Isa, pass: Pass) -> f64 {
    let vectors = |numbers: usize| numbers.div_ceil(Kernels::of(isa).lanes) as f64;
    let frame = if pass == Pass::BackwardInput { Frame::backward_input(shape) } else { Frame::forward(shape) };
    let tiles = frame.tiles::<T>();
    // How often all weights are moved: for each block, and for their own transform where that is not done once.
    let (price, moves) = match pass {
        Pass::Forward | Pass::BackwardInput => {
            (Price { product: 1.18, transform: 12.0, weights: 4.0 }, tiles.div_ceil(forward::tiles_of_block::<T>(isa, frame.channels)))
        }
        Pass::BackwardWeight => (Price { product: 1.4, transform: 18.0, weights: 6.0 }, 3 + weight::Cut::new::<T>(shape, isa).blocks()),
    };
    let per_tile = frame.channels as f64 * vectors(frame.filters) * price.product
        + (vectors(frame.channels) + vectors(frame.filters)) * price.transform;
    let weights = frame.channels as f64 * vectors(frame.filters);
    products::<T>() as f64 * (tiles as f64 * per_tile + moves as f64 * price.weights * weights)
}

fn packed_len<T: Transform>(shape: &ConvShape, isa: Isa, pass: Pass) -> usize {
    let panel = Kernels::of(isa).panel();
    let len = |channels: usize, filters: usize| products::<T>() * filters.div_ceil(panel) * product_step(channels, panel);
    match pass {
        Pass::Forward => len(shape.c(), shape.k()),
        Pass::BackwardInput => len(shape.k(), shape.c()),
        Pass::BackwardWeight => 0,
    }
}

fn scratch_len<T: Transform>(shape: &ConvShape, isa: Isa, pass: Pass) -> usize {
    match pass {
        Pass::Forward => forward::Cut::new::<T>(&Frame::forward(shape), isa).scratch_len(),
        Pass::BackwardInput => forward::Cut::new::<T>(&Frame::backward_input(shape), isa).scratch_len(),
        Pass::BackwardWeight => weight::Cut::new::<T>(shape, isa).scratch_len(),
    }
}

fn forward<T: Transform>(
    machine: &Machine,
    shape: &ConvShape,
    x: &[f32],
    packed: &[f32],
    epilogue: &Epilogue<'_, f32>,
    y: &mut [f32],
    scratch: &mut [f32],
) {
    forward::run::<T>(machine, &Frame::forward(shape), x, packed, epilogue, y, scratch);
}

fn backward_input<T: Transform>(machine: &Machine, shape: &ConvShape, dy: &[f32], packed: &[f32], dx: &mut [f32], scratch: &mut [f32]) {
    forward::run::<T>(machine, &Frame::backward_input(shape), dy, packed, &Epilogue::NONE, dx, scratch);
}
