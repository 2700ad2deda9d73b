//! The mean of each window.

use super::{PoolAxis, PoolShape, Span, Windows, compiled_here};
use crate::blocks::{block, blocks, by_channels};
use crate::real::Generic;
use crate::{Machine, Real, per_isa};

/// What the sum of a window is divided by: its elements inside the padded input, or inside the input. 1 when it has
/// none, so that the mean of nothing is 0.
#[inline(always)]
fn divisor<T: Real>(rows: &Span, cols: &Span, count_padding: bool) -> T {
    let count = if count_padding { rows.padded * cols.padded } else { rows.count * cols.count };
    T::from_usize(count.max(1))
}

/// The divisor, if all windows have the same.
fn common_divisor<T: Real>(shape: &PoolShape, count_padding: bool) -> Option<T> {
    let count = |axis: &PoolAxis| {
        // Only the first and the last window can hang over an end.
        let counts = [0, axis.output - 1].map(|output| {
            let span = axis.span(output);
            if count_padding { span.padded } else { span.count }
        });
        let whole = match axis.windows {
            Windows::Sliding(window) => counts == [window.size; 2],
            Windows::Adaptive => axis.input.is_multiple_of(axis.output),
        };
        whole.then_some(counts[0])
    };
    Some(T::from_usize(count(&shape.h)? * count(&shape.w)?))
}

/// Elements of a window so large that its pixels are added one after the other, all channels at once: memory is then read
/// in the order in which it lies.
const LARGE_WINDOW: usize = 16;

/// The mean of one window, in all channels.
#[inline(always)]
fn average_of_pixels<T: Real>(rows: &Span, cols: &Span, divisor: T, image: &[T], width: usize, y: &mut [T]) {
    y.fill(T::ZERO);
    for row in 0..rows.count {
        for col in 0..cols.count {
            let x = &image[(rows.at(row) * width + cols.at(col)) * y.len()..][..y.len()];
            for (y, &x) in y.iter_mut().zip(x) {
                *y += x;
            }
        }
    }
    for y in y {
        *y /= divisor;
    }
}

per_isa! {
    fn average_rows<T: Real, const N: usize>(shape: &PoolShape, count_padding: bool, first: usize, x: &[T], y: &mut [T]) {
        let (c, width) = (shape.c, shape.w.input);
        let in_order = shape.pays_in_order();
        for (row, y) in y.chunks_exact_mut(shape.ow() * c).enumerate() {
            let (n, oy) = ((first + row) / shape.oh(), (first + row) % shape.oh());
            let image = &x[n * shape.input_image()..(n + 1) * shape.input_image()];
            let rows = shape.h.span(oy);
            for (ox, y) in y.chunks_exact_mut(c).enumerate() {
                let cols = shape.w.span(ox);
                let divisor: T = divisor(&rows, &cols, count_padding);
                if in_order || rows.count * cols.count >= LARGE_WINDOW {
                    average_of_pixels(&rows, &cols, divisor, image, width, y);
                    continue;
                }
                for start in blocks::<N>(c) {
                    let mut sum = [T::ZERO; N];
                    for row in 0..rows.count {
                        for col in 0..cols.count {
                            let x = block::<T, N>(image, (rows.at(row) * width + cols.at(col)) * c + start);
                            for (sum, &x) in sum.iter_mut().zip(x) {
                                *sum += x;
                            }
                        }
                    }
                    for (y, sum) in y[start..start + N].iter_mut().zip(sum) {
                        *y = sum / divisor;
                    }
                }
            }
        }
    }
}

fn forward<T: Real>(machine: &Machine, shape: &PoolShape, count_padding: bool, x: &[T], y: &mut [T]) {
    assert!(y.len() == shape.output_len(), "output of the wrong length");
    let rows = shape.rows_of_piece(shape.oh());
    machine.threads.chunks_mut(y, rows * shape.ow() * shape.c, |piece, y| {
        by_channels!(32, shape.c, average_rows::<T>(machine.isa, shape, count_padding, piece * rows, x, y));
    });
}

compiled_here! {
    /// Writes the mean of each window to `y`. With `count_padding`, zeros in the padding count as elements; what a window
    /// covers beyond the padding (when rounding up) never does.
    ///
    /// # Panics
    /// If a slice is shorter than the shape says.
    pub fn average_forward<T>(count_padding: bool, x: &'a [T], y: &'a mut [T]) = forward
}

per_isa! {
    fn average_gradient_rows<T: Real, const N: usize>(shape: &PoolShape, count_padding: bool, first: usize, dy: &[T], dx: &mut [T]) {
        // A division for each pair of pixel and window would take longer than all the rest.
        let common_share = common_divisor(shape, count_padding).map(|divisor: T| T::ONE / divisor);
        let (c, width) = (shape.c, shape.w.input);
        for (row, dx) in dx.chunks_exact_mut(width * c).enumerate() {
            let (n, iy) = ((first + row) / shape.h.input, (first + row) % shape.h.input);
            let rows = shape.h.around(iy);
            for (ix, dx) in dx.chunks_exact_mut(c).enumerate() {
                let cols = shape.w.around(ix);
                for start in blocks::<N>(c) {
                    let mut sum = [T::ZERO; N];
                    for oy in rows.clone() {
                        let row_span = shape.h.span(oy);
                        for ox in cols.clone() {
                            let share = match common_share {
                                Some(share) => share,
                                None => T::ONE / divisor(&row_span, &shape.w.span(ox), count_padding),
                            };
                            let dy = block::<T, N>(dy, ((n * shape.oh() + oy) * shape.ow() + ox) * c + start);
                            for (sum, &dy) in sum.iter_mut().zip(dy) {
                                *sum += dy * share;
                            }
                        }
                    }
                    dx[start..start + N].copy_from_slice(&sum);
                }
            }
        }
    }
}

fn backward<T: Real>(machine: &Machine, shape: &PoolShape, count_padding: bool, dy: &[T], dx: &mut [T]) {
    assert!(dx.len() == shape.input_len(), "input of the wrong length");
    let rows = shape.rows_of_piece(shape.h.input);
    machine.threads.chunks_mut(dx, rows * shape.w.input * shape.c, |piece, dx| {
        by_channels!(32, shape.c, average_gradient_rows::<T>(machine.isa, shape, count_padding, piece * rows, dy, dx));
    });
}

compiled_here! {
    /// Writes the gradient of the input: each window's gradient is shared out evenly among its elements. The window has no
    /// dilation.
    ///
    /// # Panics
    /// If a slice is shorter than the shape says.
    pub fn average_backward<T>(count_padding: bool, dy: &'a [T], dx: &'a mut [T]) = backward
}
