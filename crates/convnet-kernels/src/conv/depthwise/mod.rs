//! Depthwise convolution: one filter for each channel, so that vectors run over channels.
//!
//! There is little arithmetic for each number read; what counts is that images are read in order, once, and that each
//! load of a weight serves several pixels.

mod kernel;
mod run;
mod tile;
mod weight;

use super::direct::{self, geometry::Problem};
use super::{Algorithm, ConvShape, Epilogue, Pass, no_cost};
use crate::{Isa, Machine, Precision};

/// The row of the table.
pub const fn algorithm() -> Algorithm<f32> {
    Algorithm {
        name: "depthwise",
        precision: Precision::F32,
        exact: true,
        accepts,
        cost,
        packing_cost: no_cost,
        packed_len,
        pack,
        scratch_len,
        forward,
        backward_input,
        backward_weight,
    }
}

fn accepts(shape: &ConvShape, isa: Isa) -> Result<(), &'static str> {
    if shape.group_channels() > 1 || shape.group_filters() > 1 {
        return Err("not depthwise: a group has more than one channel or filter");
    }
    direct::accepts(shape, isa)
}

/// A load takes about as long as a multiply-add, and each multiply-add needs one.
fn cost(shape: &ConvShape, isa: Isa, _: Pass) -> f64 {
    2.0 * shape.macs() as f64 / isa.f32_lanes() as f64
}

fn problem(shape: &ConvShape, pass: Pass) -> Problem {
    if pass == Pass::BackwardInput { Problem::backward_input(shape) } else { Problem::forward(shape) }
}

/// Taps of all phases together.
fn packed_taps(problem: &Problem) -> usize {
    taps_before(problem, [problem.h.phases(), 0])
}

/// Taps of the phases before this one.
fn taps_before(problem: &Problem, phase: [usize; 2]) -> usize {
    problem.phases().take_while(|&other| other < phase).map(|[h, w]| problem.h.taps(h).range.count * problem.w.taps(w).range.count).sum()
}

fn packed_len(shape: &ConvShape, _: Isa, pass: Pass) -> usize {
    if pass == Pass::BackwardWeight { 0 } else { packed_taps(&problem(shape, pass)) * shape.c() }
}

/// `[phase][tap][channel]`
fn pack(_: &Machine, shape: &ConvShape, pass: Pass, weights: &[f32], packed: &mut [f32]) {
    if pass == Pass::BackwardWeight {
        return;
    }
    let problem = problem(shape, pass);
    let mut rows = packed.chunks_exact_mut(shape.c());
    for [h, w] in problem.phases() {
        let (h, w) = (problem.h.taps(h).range, problem.w.taps(w).range);
        for tap in 0..h.count * w.count {
            let (row, col) = (h.first + tap / w.count * h.step, w.first + tap % w.count * w.step);
            let filters = weights.iter().skip(row * shape.window().w.size + col).step_by(shape.window().taps());
            if let Some(packed) = rows.next() {
                packed.iter_mut().zip(filters).for_each(|(packed, weight)| *packed = *weight);
            }
        }
    }
}

fn scratch_len(shape: &ConvShape, _: Isa, pass: Pass) -> usize {
    if pass == Pass::BackwardWeight { weight::scratch_len(shape) } else { 0 }
}

fn forward(machine: &Machine, shape: &ConvShape, x: &[f32], packed: &[f32], epilogue: &Epilogue<'_, f32>, y: &mut [f32], _: &mut [f32]) {
    run::run(machine, &Problem::forward(shape), x, packed, epilogue, y);
}

fn backward_input(machine: &Machine, shape: &ConvShape, dy: &[f32], packed: &[f32], dx: &mut [f32], _: &mut [f32]) {
    run::run(machine, &Problem::backward_input(shape), dy, packed, &Epilogue::NONE, dx);
}

fn backward_weight(machine: &Machine, shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &mut [f32]) {
    weight::run(machine, shape, x, dy, dw, scratch);
}
