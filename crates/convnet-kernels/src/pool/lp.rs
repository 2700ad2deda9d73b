//! The L_p norm of each window: y = (Σ xᵖ)^(1/p).
//!
//! As in Torch and PyTorch the sum is the mean times the size of the whole kernel, which differs only for a window that
//! hangs over the end (rounding up), and x keeps its sign: with an odd p a negative sum has no root and gives NaN.

use super::{PoolShape, Span, Windows, compiled_here};
use crate::blocks::{block, blocks, by_channels};
use crate::real::Generic;
use crate::{Machine, Real, per_isa};

/// The exponent that has a form of its own; [`ANY`] stands for all others.
const TWO: usize = 2;
const ANY: usize = 0;

#[inline(always)]
fn power<T: Real, const P: usize>(x: T, p: T) -> T {
    if P == TWO { x * x } else { x.powf(p) }
}

#[inline(always)]
fn root<T: Real, const P: usize>(x: T, p: T) -> T {
    if P == TWO { x.sqrt() } else { x.powf(T::ONE / p) }
}

/// dy/dx = s·(x/y)ᵖ⁻¹, and 0 where y is 0 and has no slope.
#[inline(always)]
fn slope<T: Real, const P: usize>(x: T, y: T, scale: T, p: T) -> T {
    let slope = if P == TWO { x / y } else { (x / y).powf(p - T::ONE) };
    if y == T::ZERO && p != T::ONE { T::ZERO } else { scale * slope }
}

/// What the sum of a window is multiplied with: the kernel's size over the elements inside the padded input.
#[inline(always)]
fn scale<T: Real>(shape: &PoolShape, rows: &Span, cols: &Span) -> T {
    let size = |windows: Windows, span: &Span| match windows {
        Windows::Sliding(axis) => axis.size,
        Windows::Adaptive => span.count,
    };
    let kernel = size(shape.h.windows, rows) * size(shape.w.windows, cols);
    T::from_usize(kernel) / T::from_usize((rows.padded * cols.padded).max(1))
}

per_isa! {
    fn lp_rows<T: Real, const N: usize, const P: usize>(shape: &PoolShape, p: T, first: usize, x: &[T], y: &mut [T]) {
        let (c, width) = (shape.c, shape.w.input);
        for (row, y) in y.chunks_exact_mut(shape.ow() * c).enumerate() {
            let (n, oy) = ((first + row) / shape.oh(), (first + row) % shape.oh());
            let image = &x[n * shape.input_image()..(n + 1) * shape.input_image()];
            let rows = shape.h.span(oy);
            for (ox, y) in y.chunks_exact_mut(c).enumerate() {
                let cols = shape.w.span(ox);
                let scale: T = scale(shape, &rows, &cols);
                for start in blocks::<N>(c) {
                    let mut sum = [T::ZERO; N];
                    for row in 0..rows.count {
                        for col in 0..cols.count {
                            let x = block::<T, N>(image, (rows.at(row) * width + cols.at(col)) * c + start);
                            for (sum, &x) in sum.iter_mut().zip(x) {
                                *sum += power::<T, P>(x, p);
                            }
                        }
                    }
                    for (y, sum) in y[start..start + N].iter_mut().zip(sum) {
                        *y = root::<T, P>(sum * scale, p);
                    }
                }
            }
        }
    }
}

/// Calls a routine compiled for the exponent and the channels.
macro_rules! by_exponent {
    ($p:expr, $c:expr, $routine:ident::<$T:ident>($($argument:expr),*)) => {
        if $p == T::ONE + T::ONE {
            by_channels!(16, $c, $routine::<$T, TWO>($($argument),*))
        } else {
            // The powers take far longer than anything else.
            $routine::<$T, 1, ANY>($($argument),*)
        }
    };
}

fn forward<T: Real>(machine: &Machine, shape: &PoolShape, p: T, x: &[T], y: &mut [T]) {
    assert!(y.len() == shape.output_len(), "output of the wrong length");
    let rows = shape.rows_of_piece(shape.oh());
    machine.threads.chunks_mut(y, rows * shape.ow() * shape.c, |piece, y| {
        by_exponent!(p, shape.c, lp_rows::<T>(machine.isa, shape, p, piece * rows, x, y));
    });
}

compiled_here! {
    /// Writes (Σ xᵖ)^(1/p) of each window to `y`; p is positive.
    ///
    /// # Panics
    /// If a slice is shorter than the shape says.
    pub fn lp_forward<T>(p: T, x: &'a [T], y: &'a mut [T]) = forward
}

per_isa! {
    fn lp_gradient_rows<T: Real, const N: usize, const P: usize>(
        shape: &PoolShape,
        p: T,
        first: usize,
        x: &[T],
        y: &[T],
        dy: &[T],
        dx: &mut [T],
    ) {
        let (c, width) = (shape.c, shape.w.input);
        for (row, dx) in dx.chunks_exact_mut(width * c).enumerate() {
            let (n, iy) = ((first + row) / shape.h.input, (first + row) % shape.h.input);
            let rows = shape.h.around(iy);
            for (ix, dx) in dx.chunks_exact_mut(c).enumerate() {
                let cols = shape.w.around(ix);
                for start in blocks::<N>(c) {
                    let x = block::<T, N>(x, ((first + row) * width + ix) * c + start);
                    let mut sum = [T::ZERO; N];
                    for oy in rows.clone() {
                        let row_span = shape.h.span(oy);
                        for ox in cols.clone() {
                            let scale = scale(shape, &row_span, &shape.w.span(ox));
                            let at = ((n * shape.oh() + oy) * shape.ow() + ox) * c + start;
                            let (y, dy) = (block::<T, N>(y, at), block::<T, N>(dy, at));
                            for (((sum, &x), &y), &dy) in sum.iter_mut().zip(x).zip(y).zip(dy) {
                                *sum += dy * slope::<T, P>(x, y, scale, p);
                            }
                        }
                    }
                    dx[start..start + N].copy_from_slice(&sum);
                }
            }
        }
    }
}

fn backward<T: Real>(machine: &Machine, shape: &PoolShape, p: T, x: &[T], y: &[T], dy: &[T], dx: &mut [T]) {
    assert!(dx.len() == shape.input_len(), "input of the wrong length");
    let rows = shape.rows_of_piece(shape.h.input);
    machine.threads.chunks_mut(dx, rows * shape.w.input * shape.c, |piece, dx| {
        by_exponent!(p, shape.c, lp_gradient_rows::<T>(machine.isa, shape, p, piece * rows, x, y, dy, dx));
    });
}

compiled_here! {
    /// Writes the gradient of the input from the input `x`, the output `y` and its gradient `dy`. Where y is 0 there is no
    /// slope (p other than 1) and nothing flows. The window has no dilation.
    ///
    /// # Panics
    /// If a slice is shorter than the shape says.
    pub fn lp_backward<T>(p: T, x: &'a [T], y: &'a [T], dy: &'a [T], dx: &'a mut [T]) = backward
}
