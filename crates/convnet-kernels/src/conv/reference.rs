//! Convolution as its definition: three passes as plain loops. Every other algorithm is compared with this one.

use super::{Algorithm, ConvShape, Epilogue, Pass, no_cost};
use crate::{Isa, Machine, Precision, Real};

/// The row of the table.
pub const fn algorithm<T: Real>() -> Algorithm<T> {
    Algorithm {
        name: "reference",
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

fn accepts(_: &ConvShape, _: Isa) -> Result<(), &'static str> {
    Ok(())
}

/// One multiply-add at a time, and no sum kept in a register.
fn cost(shape: &ConvShape, _: Isa, _: Pass) -> f64 {
    8.0 * shape.macs() as f64
}

fn packed_len(shape: &ConvShape, _: Isa, pass: Pass) -> usize {
    if pass == Pass::BackwardWeight { 0 } else { shape.weight_len() }
}

fn pack<T: Real>(_: &Machine, _: &ConvShape, pass: Pass, weights: &[T], packed: &mut [T]) {
    if pass != Pass::BackwardWeight {
        packed.copy_from_slice(weights);
    }
}

fn scratch_len(_: &ConvShape, _: Isa, _: Pass) -> usize {
    0
}

/// Calls `visit(output, input, weight)` with the three indices of every product of output row `row = n·OH + oy`.
#[inline(always)]
fn products(shape: &ConvShape, row: usize, mut visit: impl FnMut(usize, usize, usize)) {
    let (cg, kg, window) = (shape.group_channels(), shape.group_filters(), shape.window());
    let (n, oy) = (row / shape.oh(), row % shape.oh());
    for ox in 0..shape.ow() {
        for k in 0..shape.k() {
            let output = (row * shape.ow() + ox) * shape.k() + k;
            for ky in window.h.taps(oy, shape.h()) {
                let iy = window.h.position(oy, ky) as usize;
                for kx in window.w.taps(ox, shape.w()) {
                    let ix = window.w.position(ox, kx) as usize;
                    let input = ((n * shape.h() + iy) * shape.w() + ix) * shape.c() + k / kg * cg;
                    let weight = (k * cg * window.h.size + ky) * window.w.size + kx;
                    for c in 0..cg {
                        visit(output, input + c, weight + c * window.taps());
                    }
                }
            }
        }
    }
}

fn forward<T: Real>(machine: &Machine, shape: &ConvShape, x: &[T], w: &[T], epilogue: &Epilogue<'_, T>, y: &mut [T], _: &mut [T]) {
    let length = shape.ow() * shape.k();
    machine.threads.chunks_mut(y, length, |row, y| {
        y.fill(T::ZERO);
        products(shape, row, |output, input, weight| y[output - row * length] += x[input] * w[weight]);
        for (place, y) in y.iter_mut().enumerate() {
            *y += epilogue.bias.map_or(T::ZERO, |bias| bias[place % shape.k()]);
            *y += epilogue.residual.map_or(T::ZERO, |residual| residual[row * length + place]);
            if epilogue.relu && *y < T::ZERO {
                *y = T::ZERO;
            }
        }
    });
}

fn backward_input<T: Real>(machine: &Machine, shape: &ConvShape, dy: &[T], w: &[T], dx: &mut [T], _: &mut [T]) {
    let image = shape.h() * shape.w() * shape.c();
    machine.threads.chunks_mut(dx, image, |n, dx| {
        dx.fill(T::ZERO);
        for row in n * shape.oh()..(n + 1) * shape.oh() {
            products(shape, row, |output, input, weight| dx[input - n * image] += dy[output] * w[weight]);
        }
    });
}

fn backward_weight<T: Real>(_: &Machine, shape: &ConvShape, x: &[T], dy: &[T], dw: &mut [T], _: &mut [T]) {
    for row in 0..shape.n() * shape.oh() {
        products(shape, row, |output, input, weight| dw[weight] += dy[output] * x[input]);
    }
}
