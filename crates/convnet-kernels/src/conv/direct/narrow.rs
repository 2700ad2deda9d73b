//! The gradient of an input of few channels, such as an image of one or three.
//!
//! A vector that runs over the input's channels would be mostly empty. So the product is made for all (kernel column,
//! channel) pairs of a pixel of the output's gradient at once, S·C numbers, and these are added, column by column, to where
//! they belong in the row:
//!
//! ```text
//! u[n, iy, ox, (s, c)] = Σ over r, k of  dy[n, oy(iy, r), ox, k] · w[k, c, r, s]
//! dx[n, iy, ix, c]     = Σ over s of     u[n, iy, ox(ix, s), (s, c)]
//! ```

use super::FEW_CHANNELS;
use super::geometry::{Problem, ProblemAxis, dense};
use super::ranges::product;
use super::run;
use crate::conv::{ConvShape, Epilogue};
use crate::gemm::Kernels;
use crate::window::Axis;
use crate::{Isa, Machine};

/// Whether this way takes at most four fifths of the multiply-adds, and `u` is not much larger than the images.
pub(super) fn pays(shape: &ConvShape, isa: Isa) -> bool {
    let (c, lanes) = (shape.c(), Kernels::of(isa).lanes);
    if shape.groups() > 1 || c > FEW_CHANNELS {
        return false;
    }
    let by_taps = pixels(shape) * (shape.window().taps() * shape.k() * c.div_ceil(lanes)) as f64;
    let small = scratch_len(shape) <= 4 * (shape.output_len() + shape.input_len());
    5.0 * multiply_adds(shape, lanes) <= 4.0 * by_taps && small
}

/// Pixels of all output gradients.
fn pixels(shape: &ConvShape) -> f64 {
    (shape.n() * shape.oh() * shape.ow()) as f64
}

/// Vector multiply-adds of the first sum and additions of the second.
pub(super) fn multiply_adds(shape: &ConvShape, lanes: usize) -> f64 {
    let (axis, columns) = (shape.window().h, shape.window().w.size * shape.c());
    pixels(shape) * (axis.size * shape.k() * columns.div_ceil(lanes) + axis.stride * columns) as f64
}

/// Numbers of `u`.
pub(super) fn scratch_len(shape: &ConvShape) -> usize {
    product([shape.n(), shape.h(), shape.ow(), shape.window().w.size, shape.c()])
}

/// The problem whose output is `u`.
pub(super) fn problem(shape: &ConvShape) -> Problem {
    let mut problem = Problem::backward_input(shape);
    problem.w = ProblemAxis { window: Axis::new(1), input: shape.ow(), output: shape.ow(), backward: true };
    problem.filters = shape.window().w.size * shape.c();
    problem.output = dense(shape.h(), shape.ow(), problem.filters, 0);
    problem
}

/// Packs the weights `[phase][panel][kernel row][filter][lane]`, a lane for each (kernel column, channel).
pub(super) fn pack(shape: &ConvShape, panel: usize, weights: &[f32], packed: &mut [f32]) {
    let (problem, columns) = (problem(shape), shape.window().w.size);
    let mut lanes = packed.chunks_exact_mut(panel);
    for phase in problem.phases() {
        let rows = problem.h.taps(phase[0]).range;
        for first in (0..problem.filters).step_by(panel) {
            for row in (0..rows.count).map(|row| rows.first + row * rows.step) {
                for k in 0..shape.k() {
                    let Some(lanes) = lanes.next() else { return };
                    for (lane, number) in lanes.iter_mut().enumerate() {
                        let (column, c) = ((first + lane) / shape.c(), (first + lane) % shape.c());
                        let weight = ((k * shape.c() + c) * shape.window().h.size + row) * columns + column;
                        *number = if column < columns { weights[weight] } else { 0.0 };
                    }
                }
            }
        }
    }
}

/// Writes the gradient of the input.
pub(super) fn backward_input(machine: &Machine, shape: &ConvShape, dy: &[f32], packed: &[f32], dx: &mut [f32], scratch: &mut [f32]) {
    let u = &mut scratch[..scratch_len(shape)];
    run::run(machine, &problem(shape), dy, packed, &Epilogue::NONE, u);
    let (u_row, dx_row) = (shape.ow() * shape.window().w.size * shape.c(), shape.w() * shape.c());
    let rows_of_piece = (1usize << 13).div_ceil(u_row);
    machine.threads.chunks_mut(dx, rows_of_piece * dx_row, |piece, dx| {
        let u = &u[piece * rows_of_piece * u_row..];
        for (dx, u) in dx.chunks_exact_mut(dx_row).zip(u.chunks_exact(u_row)) {
            match shape.c() {
                1 => add_row::<1>(shape, u, dx),
                2 => add_row::<2>(shape, u, dx),
                3 => add_row::<3>(shape, u, dx),
                4 => add_row::<4>(shape, u, dx),
                _ => add_row::<0>(shape, u, dx),
            }
        }
    });
}

/// One row of the second sum; `C` is the number of channels, or zero when the compiler does not know it.
fn add_row<const C: usize>(shape: &ConvShape, u: &[f32], dx: &mut [f32]) {
    let (axis, c) = (shape.window().w, if C == 0 { shape.c() } else { C });
    dx.fill(0.0);
    for column in 0..axis.size {
        let outputs = axis.outputs_of_tap(column, shape.w(), shape.ow());
        if outputs.is_empty() {
            continue;
        }
        let first = axis.position(outputs.start, column) as usize * c;
        let u = u[outputs.start * axis.size * c..].chunks_exact(axis.size * c).take(outputs.len());
        for (dx, u) in dx[first..].chunks_mut(axis.stride * c).zip(u) {
            for (dx, u) in dx[..c].iter_mut().zip(&u[column * c..(column + 1) * c]) {
                *dx += u;
            }
        }
    }
}
