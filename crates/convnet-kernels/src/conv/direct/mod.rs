//! Direct convolution: an indirect matrix product of the image's own pixels with packed weights.
//!
//! Every dense convolution runs here, with any kernel, stride, dilation, padding and groups; 1×1 convolutions and fully
//! connected layers are the case of one tap. An image of very few channels is first copied into a frame of zeros,
//! so that each kernel row is one tap of S·C numbers.

mod geometry;
mod run;

use super::{Algorithm, ConvShape, Epilogue, Pass, reference};
use crate::gemm::Kernels;
use crate::{Isa, Machine};
use geometry::Problem;

/// The row of the table.
pub const fn algorithm() -> Algorithm<f32> {
    let reference: Algorithm<f32> = reference::algorithm();
    Algorithm {
        name: "direct",
        accepts,
        packed_len,
        pack,
        scratch_len,
        forward,
        backward_input,
        backward_weight: reference.backward_weight,
    }
}

/// Below this many channels an image is read row by row of the kernel.
const FEW_CHANNELS: usize = 8;

fn accepts(_: &ConvShape, _: Isa) -> Result<(), &'static str> {
    Ok(())
}

/// How the forward pass reads its input.
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
    if height * width > 4 * (shape.h() + h.size) * (shape.w() + w.size) { Reading::Taps } else { Reading::PaddedRows([height, width]) }
}

fn problem(shape: &ConvShape, pass: Pass) -> Problem {
    if pass == Pass::BackwardInput { Problem::backward_input(shape) } else { Problem::forward(shape) }
}

fn packed_len(shape: &ConvShape, isa: Isa, pass: Pass) -> usize {
    if pass == Pass::BackwardWeight {
        return 0;
    }
    let (problem, panel) = (problem(shape, pass), Kernels::of(isa).panel());
    problem.phases().map(|phase| problem.weight_order(shape, phase).packed_len(panel)).sum()
}

fn pack(machine: &Machine, shape: &ConvShape, pass: Pass, weights: &[f32], packed: &mut [f32]) {
    if pass == Pass::BackwardWeight {
        return;
    }
    let (problem, panel) = (problem(shape, pass), Kernels::of(machine.isa).panel());
    let mut rest = packed;
    for phase in problem.phases() {
        let order = problem.weight_order(shape, phase);
        let (now, later) = rest.split_at_mut(order.packed_len(panel));
        order.pack(&machine.threads, panel, weights, now);
        rest = later;
    }
}

fn scratch_len(shape: &ConvShape, _: Isa, pass: Pass) -> usize {
    match (pass, reading(shape)) {
        (Pass::Forward, Reading::PaddedRows([height, width])) => shape.n() * height * width * shape.c(),
        _ => 0,
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
    let (top, left) = (shape.window().h.pad_before, shape.window().w.pad_before * shape.c());
    let row_len = width * shape.c();
    machine.threads.chunks_mut(padded, height * row_len, |image, padded| {
        for (row, padded) in padded.chunks_exact_mut(row_len).enumerate() {
            let inside = row >= top && row - top < shape.h();
            if !inside {
                padded.fill(0.0);
                continue;
            }
            let start = (image * shape.h() + row - top) * shape.w() * shape.c();
            let count = (shape.w() * shape.c()).min(row_len - left.min(row_len));
            let (before, rest) = padded.split_at_mut(left.min(row_len));
            let (middle, after) = rest.split_at_mut(count);
            before.fill(0.0);
            middle.copy_from_slice(&x[start..start + count]);
            after.fill(0.0);
        }
    });
}

fn backward_input(machine: &Machine, shape: &ConvShape, dy: &[f32], packed: &[f32], dx: &mut [f32], _: &mut [f32]) {
    run::run(machine, &Problem::backward_input(shape), dy, packed, &Epilogue::NONE, dx);
}
