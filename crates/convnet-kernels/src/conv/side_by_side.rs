//! Few filters: neighbouring outputs of a row as the filters of one.
//!
//! A vector that runs over the K filters is mostly empty when these are few. But P neighbouring outputs of a row, P·K numbers
//! that follow each other, are the filters of a convolution that moves by P·S columns at a time: the same kernels, each
//! again for every neighbour, moved by S columns within a window of F + (P − 1)·S:
//!
//! ```text
//! y[n, oy, P·j + p, k] = bias[k] + Σ over r, t, c of  x[n, oy·S − P_h + r, j·(P·S) − P_w + t, c] · v[(p, k), c, r, t]
//! v[(p, k), c, r, t]   = w[k, c, r, t − p·S]  where that is a column of the kernel, 0 elsewhere
//! ```
//!
//! The direct algorithm computes it. The gradient of `w` is the sum of the parts of the gradient of `v`; the gradient of the
//! input gains nothing from few filters, over which it only sums.

use std::ops::Range;

use super::{Algorithm, ConvShape, Epilogue, Pass, direct, no_cost};
use crate::gemm::Kernels;
use crate::window::Window;
use crate::{Isa, Machine, Precision};

const DIRECT: Algorithm<f32> = direct::algorithm();

/// The row of the table.
pub const fn algorithm() -> Algorithm<f32> {
    Algorithm {
        name: "side by side",
        precision: Precision::F32,
        exact: true,
        accepts,
        cost,
        packing_cost: no_cost,
        packed_len,
        pack,
        scratch_len,
        forward,
        backward_input: DIRECT.backward_input,
        backward_weight,
    }
}

/// The problem of P neighbours at a time, and P.
struct Wide {
    shape: ConvShape,
    neighbours: usize,
}

impl Wide {
    /// As many neighbours as fill a vector best.
    fn of(shape: &ConvShape, isa: Isa) -> Option<Self> {
        let most = Kernels::of(isa).lanes / shape.k();
        let divisors = (2..=most).filter(|neighbours| shape.ow().is_multiple_of(*neighbours));
        let wide = divisors.filter_map(|neighbours| Self::with(shape, isa, neighbours));
        let cost = |wide: &Self| (DIRECT.cost)(&wide.shape, isa, Pass::Forward);
        wide.min_by(|one, other| cost(one).total_cmp(&cost(other)))
    }

    fn with(shape: &ConvShape, isa: Isa, neighbours: usize) -> Option<Self> {
        let Window { h, mut w } = *shape.window();
        w.size += (neighbours - 1) * w.stride;
        w.stride *= neighbours;
        let filters = neighbours * shape.k();
        let wide = ConvShape::new(shape.n(), shape.c(), [shape.h(), shape.w()], filters, Window { h, w }, 1).ok()?;
        let accepted = (wide.oh(), wide.ow() * neighbours) == (shape.oh(), shape.ow()) && direct::accepts(&wide, isa).is_ok();
        accepted.then_some(Self { shape: wide, neighbours })
    }

    /// For callers of an accepted shape.
    fn accepted(shape: &ConvShape, isa: Isa) -> Self {
        Self::of(shape, isa).expect("the shape was accepted")
    }

    /// Calls `each` with the places in the weights and in the wide weights of every kernel row of every neighbour.
    fn rows(&self, shape: &ConvShape, mut each: impl FnMut(Range<usize>, Range<usize>)) {
        let (columns, wide_columns) = (shape.window().w.size, self.shape.window().w.size);
        let per_filter = shape.group_channels() * shape.window().h.size;
        let rows = shape.k() * per_filter;
        for row in 0..rows {
            for neighbour in 0..self.neighbours {
                let first = (neighbour * rows + row) * wide_columns + neighbour * shape.window().w.stride;
                each(row * columns..(row + 1) * columns, first..first + columns);
            }
        }
    }
}

fn accepts(shape: &ConvShape, isa: Isa) -> Result<(), &'static str> {
    direct::accepts(shape, isa)?;
    if shape.groups() > 1 || shape.window().w.dilation > 1 {
        return Err("only for one group and neighbouring kernel columns");
    }
    if 2 * shape.k() > Kernels::of(isa).lanes {
        return Err("the filters fill a vector");
    }
    Wide::of(shape, isa).map(|_| ()).ok_or("the width of the output cannot be divided into neighbours")
}

fn cost(shape: &ConvShape, isa: Isa, pass: Pass) -> f64 {
    match pass {
        // The very same routine, so the plainer name should be chosen.
        Pass::BackwardInput => 2.0 * (DIRECT.cost)(shape, isa, pass),
        Pass::Forward | Pass::BackwardWeight => (DIRECT.cost)(&Wide::accepted(shape, isa).shape, isa, pass),
    }
}

fn packed_len(shape: &ConvShape, isa: Isa, pass: Pass) -> usize {
    match pass {
        Pass::Forward => (DIRECT.packed_len)(&Wide::accepted(shape, isa).shape, isa, pass),
        _ => (DIRECT.packed_len)(shape, isa, pass),
    }
}

fn pack(machine: &Machine, shape: &ConvShape, pass: Pass, weights: &[f32], packed: &mut [f32]) {
    if pass != Pass::Forward {
        return (DIRECT.pack)(machine, shape, pass, weights, packed);
    }
    let wide = Wide::accepted(shape, machine.isa);
    let mut wide_weights = vec![0.0; wide.shape.weight_len()];
    wide.rows(shape, |row, wide_row| wide_weights[wide_row].copy_from_slice(&weights[row]));
    (DIRECT.pack)(machine, &wide.shape, pass, &wide_weights, packed);
}

/// Numbers that come before the working memory of the direct algorithm: the biases of all neighbours, or the gradient of `v`.
fn own_scratch_len(wide: &Wide, pass: Pass) -> usize {
    if pass == Pass::Forward { wide.shape.k() } else { wide.shape.weight_len() }
}

fn scratch_len(shape: &ConvShape, isa: Isa, pass: Pass) -> usize {
    if pass == Pass::BackwardInput {
        return (DIRECT.scratch_len)(shape, isa, pass);
    }
    let wide = Wide::accepted(shape, isa);
    own_scratch_len(&wide, pass) + (DIRECT.scratch_len)(&wide.shape, isa, pass)
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
    let wide = Wide::accepted(shape, machine.isa);
    let (biases, scratch) = scratch.split_at_mut(own_scratch_len(&wide, Pass::Forward));
    let bias = epilogue.bias.map(|bias| {
        biases.chunks_exact_mut(bias.len()).for_each(|biases| biases.copy_from_slice(bias));
        &*biases
    });
    (DIRECT.forward)(machine, &wide.shape, x, packed, &Epilogue { bias, ..*epilogue }, y, scratch);
}

fn backward_weight(machine: &Machine, shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &mut [f32]) {
    let wide = Wide::accepted(shape, machine.isa);
    let (gradient, scratch) = scratch.split_at_mut(own_scratch_len(&wide, Pass::BackwardWeight));
    gradient.fill(0.0);
    (DIRECT.backward_weight)(machine, &wide.shape, x, dy, gradient, scratch);
    wide.rows(shape, |row, wide_row| {
        for (sum, part) in dw[row].iter_mut().zip(&gradient[wide_row]) {
            *sum += part;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::choose;
    use super::*;
    use crate::Means;

    #[test]
    fn the_few_filters_of_a_grey_image_are_computed_two_outputs_at_a_time() {
        let shape: ConvShape = "conv n16 c1 32x32 -> 6 w5 s1 p0".parse().unwrap();
        for isa in Isa::available().into_iter().filter(|isa| Kernels::of(*isa).lanes == 16) {
            let wide = Wide::of(&shape, isa).unwrap();
            assert_eq!(wide.shape.to_string(), "conv n16 c1 32x32 -> 12 w5x6 s1x2 p0");
            let means = Means { isa, inexact: true, uses: usize::MAX, precision: Precision::F32, tuning: None };
            let names = Pass::ALL.map(|pass| choose::<f32>(&shape, means, pass).name);
            assert_eq!(names, ["side by side", "direct", "side by side"]);
        }
    }

    #[test]
    fn what_does_not_come_in_neighbours_is_refused() {
        for isa in Isa::available().into_iter().filter(|isa| Kernels::of(*isa).lanes > 1) {
            let accepts = |text: &str| accepts(&text.parse().unwrap(), isa);
            assert!(accepts("conv n1 c1 13x13 -> 2 w3 s1 p1").unwrap_err().contains("width"), "13 outputs: {isa}");
            assert!(accepts("conv n1 c1 9x9 -> 2 w3 s1 p1 d2").unwrap_err().contains("neighbouring"));
            assert!(accepts("conv n1 c1 9x8 -> 16 w3 s1 p1").unwrap_err().contains("fill"));
            assert_eq!(accepts("conv n1 c1 9x9 -> 2 w3 s2 p0"), Ok(()));
        }
    }
}
