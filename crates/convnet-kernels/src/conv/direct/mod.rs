//! Direct convolution: an indirect matrix product of the image's own pixels with packed weights.
//!
//! Every dense convolution runs here, with any kernel, stride, dilation, padding and groups; 1×1 convolutions and fully
//! connected layers are the case of one tap. An image of very few channels is first copied into a frame of zeros,
//! so that each kernel row is one tap of S·C numbers. Where setting up tiles would take as long as the products, two
//! loops of their own take over: `short` for rows of pixels with short sums, `few` for the gradient of 1×1 weights from few pixels.

mod few;
pub(super) mod geometry;
mod narrow;
mod order;
mod pointwise;
pub(super) mod ranges;
mod run;
mod short;
mod weight;

use super::{Algorithm, ConvShape, Epilogue, Pass};
use crate::gemm::Kernels;
use crate::gemm::pack::{TapPlace, WeightOrder};
use crate::{Isa, Machine, Precision};
use geometry::Problem;

/// The row of the table.
pub const fn algorithm() -> Algorithm<f32> {
    Algorithm {
        name: "direct",
        precision: Precision::F32,
        exact: true,
        accepts,
        cost,
        packing_cost,
        packed_len,
        pack,
        scratch_len,
        forward,
        backward_input,
        backward_weight,
    }
}

/// Numbers that one piece of work copies.
const COPY_NUMBERS: usize = 1 << 14;
/// Up to this many channels an image is read kernel row by kernel row.
const FEW_CHANNELS: usize = 8;

/// Largest stride, which bounds the number of phases of the gradient of the input.
const MAX_STRIDE: usize = 64;

pub(super) fn accepts(shape: &ConvShape, _: Isa) -> Result<(), &'static str> {
    if shape.window().h.stride.max(shape.window().w.stride) > MAX_STRIDE {
        return Err("a stride above 64 splits the gradient of the input into too many phases");
    }
    Ok(())
}

/// Vector multiply-adds that are left to do when the loop around them is counted in, per multiply-add of the definition.
const OVERHEAD: f64 = 1.15;

/// Packing a vector of weights, in units of a vector's multiply-add.
const PACK_PRICE: f64 = 30.0;

fn cost(shape: &ConvShape, isa: Isa, pass: Pass) -> f64 {
    let lanes = Kernels::of(isa).lanes;
    if pass == Pass::BackwardInput && narrow::pays(shape, isa) {
        return OVERHEAD * narrow::multiply_adds(shape, lanes);
    }
    let (summed, spread) = match pass {
        Pass::BackwardInput => (shape.group_filters(), shape.group_channels()),
        Pass::Forward | Pass::BackwardWeight => (shape.group_channels(), shape.group_filters()),
    };
    let pixels = (shape.n() * shape.oh() * shape.ow()) as f64;
    OVERHEAD * pixels * (shape.groups() * summed * spread.div_ceil(lanes)) as f64 * shape.window().taps() as f64
}

fn packing_cost(shape: &ConvShape, isa: Isa, pass: Pass) -> f64 {
    PACK_PRICE * (packed_len(shape, isa, pass) / Kernels::of(isa).lanes) as f64
}

/// How an image is read.
#[derive(Clone, Copy)]
enum Reading {
    /// Tap by tap.
    Taps,
    /// Kernel row by kernel row, from the image itself.
    Rows,
    /// Kernel row by kernel row, from a copy of this height and width.
    PaddedRows([usize; 2]),
}

fn reading(shape: &ConvShape) -> Reading {
    let (h, w) = (shape.window().h, shape.window().w);
    if shape.groups() > 1 || w.dilation > 1 || w.size == 1 || shape.c() > FEW_CHANNELS {
        return Reading::Taps;
    }
    if w.pad_before == 0 && w.pad_after == 0 {
        return Reading::Rows;
    }
    let height = (shape.oh() - 1) * h.stride + (h.size - 1) * h.dilation + 1;
    let width = (shape.ow() - 1) * w.stride + w.size;
    // The copy pays only while it is of the size of the image.
    if height.saturating_mul(width) > (shape.h() + h.size).saturating_mul(4 * (shape.w() + w.size)) {
        Reading::Taps
    } else {
        Reading::PaddedRows([height, width])
    }
}

/// The size of the image in which all taps of all outputs are inside, if the gradient of the weights reads it so, and
/// whether that is a copy.
fn reading_of_weight(shape: &ConvShape, isa: Isa) -> Option<([usize; 2], bool)> {
    if !weight::all_taps_fit(shape, isa) {
        return None;
    }
    match reading(shape) {
        Reading::Taps => None,
        Reading::PaddedRows(size) => Some((size, true)),
        Reading::Rows if shape.window().h.pad_before == 0 && shape.window().h.pad_after == 0 => Some(([shape.h(), shape.w()], false)),
        Reading::Rows => None,
    }
}

fn problem(shape: &ConvShape, isa: Isa, pass: Pass) -> Problem {
    match pass {
        Pass::BackwardInput if narrow::pays(shape, isa) => narrow::problem(shape),
        Pass::BackwardInput => Problem::backward_input(shape),
        _ => Problem::forward(shape),
    }
}

fn packed_len(shape: &ConvShape, isa: Isa, pass: Pass) -> usize {
    if pass == Pass::BackwardWeight {
        return 0;
    }
    let (problem, panel) = (problem(shape, isa, pass), Kernels::of(isa).panel());
    problem.phases().map(|phase| problem.weight_order(shape, phase).packed_len(panel)).sum()
}

fn pack(machine: &Machine, shape: &ConvShape, pass: Pass, weights: &[f32], packed: &mut [f32]) {
    if pass == Pass::BackwardWeight {
        return;
    }
    let panel = Kernels::of(machine.isa).panel();
    if pass == Pass::BackwardInput && narrow::pays(shape, machine.isa) {
        return narrow::pack(shape, panel, weights, packed);
    }
    let problem = problem(shape, machine.isa, pass);
    let packed = &mut packed[..packed_len(shape, machine.isa, pass)];
    let mut orders = problem.phases().map(|phase| problem.weight_order(shape, phase));
    // Where one phase has all taps, the others have none.
    match orders.find(WeightOrder::has_all_taps) {
        Some(order) => order.pack(&machine.threads, panel, weights, packed),
        None => {
            let order = problem.weight_order(shape, [0, 0]);
            order.pack_phases(&machine.threads, panel, &tap_places(shape, &problem, panel), weights, packed);
        }
    }
}

/// Where each tap is in the packed weights of the gradient of the input: `[phase][group][panel][tap][channel][lane]`.
fn tap_places(shape: &ConvShape, problem: &Problem, panel: usize) -> Vec<TapPlace> {
    let mut places = vec![TapPlace { taken: false, first: 0, panel_step: 0 }; shape.window().taps()];
    let mut before = 0;
    for order in problem.phases().map(|phase| problem.weight_order(shape, phase)) {
        let panel_step = order.panel_len(panel);
        for (number, tap) in order.taps().enumerate() {
            places[tap] = TapPlace { taken: true, first: before + number * order.channels * panel, panel_step };
        }
        before += order.packed_len(panel);
    }
    places
}

fn scratch_len(shape: &ConvShape, isa: Isa, pass: Pass) -> usize {
    let padded_len = |[height, width]: [usize; 2]| shape.n() * height * width * shape.c();
    match pass {
        Pass::Forward => match reading(shape) {
            Reading::PaddedRows(size) => padded_len(size),
            _ => 0,
        },
        Pass::BackwardInput if narrow::pays(shape, isa) => narrow::scratch_len(shape),
        Pass::BackwardInput => 0,
        Pass::BackwardWeight if few::pays(shape, isa) => 0,
        Pass::BackwardWeight if pointwise::pays(shape, isa) => pointwise::Plan::new(shape, isa).scratch_len(),
        Pass::BackwardWeight => {
            let reading = reading_of_weight(shape, isa);
            let sums = weight::Plan::new(shape, isa, reading.map(|(size, _)| size)).scratch_len();
            sums + reading.filter(|(_, copied)| *copied).map_or(0, |(size, _)| padded_len(size))
        }
    }
}

fn forward(
    machine: &Machine,
    shape: &ConvShape,
    x: &[f32],
    packed: &[f32],
    epilogue: &Epilogue<'_, f32>,
    y: &mut [f32],
    scratch: &mut [f32],
) {
    match reading(shape) {
        Reading::Taps => run::run(machine, &Problem::forward(shape), x, packed, epilogue, y),
        Reading::Rows => run::run(machine, &Problem::forward_by_rows(shape, None), x, packed, epilogue, y),
        Reading::PaddedRows(size) => {
            copy_padded(machine, shape, size, x, scratch);
            run::run(machine, &Problem::forward_by_rows(shape, Some(size)), scratch, packed, epilogue, y);
        }
    }
}

/// Copies each image into a frame of zeros. What no window sees is left out.
fn copy_padded(machine: &Machine, shape: &ConvShape, [height, width]: [usize; 2], x: &[f32], padded: &mut [f32]) {
    let padded = &mut padded[..shape.n() * height * width * shape.c()];
    let (top, left) = (shape.window().h.pad_before, shape.window().w.pad_before * shape.c());
    let row_len = width * shape.c();
    let rows_of_piece = COPY_NUMBERS.div_ceil(row_len);
    machine.threads.chunks_mut(padded, rows_of_piece * row_len, |piece, padded| {
        for (number, padded) in padded.chunks_exact_mut(row_len).enumerate() {
            let (image, row) = ((piece * rows_of_piece + number) / height, (piece * rows_of_piece + number) % height);
            if row < top || row - top >= shape.h() {
                padded.fill(0.0);
                continue;
            }
            let start = (image * shape.h() + row - top) * shape.w() * shape.c();
            let (before, rest) = padded.split_at_mut(left.min(row_len));
            let (middle, after) = rest.split_at_mut((shape.w() * shape.c()).min(rest.len()));
            before.fill(0.0);
            middle.copy_from_slice(&x[start..start + middle.len()]);
            after.fill(0.0);
        }
    });
}

fn backward_input(machine: &Machine, shape: &ConvShape, dy: &[f32], packed: &[f32], dx: &mut [f32], scratch: &mut [f32]) {
    if narrow::pays(shape, machine.isa) {
        return narrow::backward_input(machine, shape, dy, packed, dx, scratch);
    }
    run::run(machine, &Problem::backward_input(shape), dy, packed, &Epilogue::NONE, dx);
}

fn backward_weight(machine: &Machine, shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &mut [f32]) {
    if few::pays(shape, machine.isa) {
        return few::run(machine, shape, x, dy, dw);
    }
    if pointwise::pays(shape, machine.isa) {
        return pointwise::Plan::new(shape, machine.isa).run(machine, shape, x, dy, dw, scratch);
    }
    let reading = reading_of_weight(shape, machine.isa);
    let plan = weight::Plan::new(shape, machine.isa, reading.map(|(size, _)| size));
    let (sums, rest) = scratch.split_at_mut(plan.scratch_len());
    match reading {
        Some((size, true)) => {
            copy_padded(machine, shape, size, x, rest);
            plan.run(machine, shape, rest, dy, dw, sums);
        }
        _ => plan.run(machine, shape, x, dy, dw, sums),
    }
}
