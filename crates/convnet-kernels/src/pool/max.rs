//! The maximum of each window. The first of equal numbers in row-major order wins; a NaN wins over every number; padding
//! never wins.

use super::{PoolShape, Span, compiled_here};
use crate::blocks::{block, blocks, by_channels};
use crate::real::Generic;
use crate::threads::Pieces;
use crate::{Machine, Real, per_isa};

/// The index of a window that covers no element; its maximum is −∞.
pub const NO_ELEMENT: u32 = u32::MAX;

/// Fewer channels than this do not fill a vector.
const FEW_CHANNELS: usize = 16;

/// The longest line of an image, in numbers, that is kept on the stack.
const LINE: usize = 1024;

/// The maximum of one window, in all channels.
#[inline(always)]
fn max_of_pixels<T: Real>(rows: &Span, cols: &Span, image: &[T], width: usize, y: &mut [T]) {
    y.fill(T::NEG_INFINITY);
    for row in 0..rows.count {
        for col in 0..cols.count {
            let x = &image[(rows.at(row) * width + cols.at(col)) * y.len()..][..y.len()];
            for (best, &x) in y.iter_mut().zip(x) {
                *best = if wins(x, *best) { x } else { *best };
            }
        }
    }
}

/// The maximum of each column of the rows: few channels fill vectors along a line.
#[inline(always)]
fn max_of_rows<T: Real>(rows: &Span, image: &[T], line: &mut [T]) {
    line.fill(T::NEG_INFINITY);
    for row in 0..rows.count {
        let x = &image[rows.at(row) * line.len()..][..line.len()];
        for (best, &x) in line.iter_mut().zip(x) {
            *best = if wins(x, *best) { x } else { *best };
        }
    }
}

per_isa! {
    fn max_lines<T: Real, const N: usize>(shape: &PoolShape, first: usize, x: &[T], y: &mut [T]) {
        let c = shape.c;
        let mut line = [T::ZERO; LINE];
        let line = &mut line[..shape.w.input * c];
        for (row, y) in y.chunks_exact_mut(shape.ow() * c).enumerate() {
            let (n, oy) = ((first + row) / shape.oh(), (first + row) % shape.oh());
            max_of_rows(&shape.h.span(oy), &x[n * shape.input_image()..(n + 1) * shape.input_image()], line);
            for (ox, y) in y.chunks_exact_mut(c).enumerate() {
                let cols = shape.w.span(ox);
                for start in blocks::<N>(c) {
                    let mut best = [T::NEG_INFINITY; N];
                    for col in 0..cols.count {
                        for (best, &x) in best.iter_mut().zip(block::<T, N>(line, cols.at(col) * c + start)) {
                            *best = if wins(x, *best) { x } else { *best };
                        }
                    }
                    y[start..start + N].copy_from_slice(&best);
                }
            }
        }
    }
}

per_isa! {
    fn max_rows<T: Real, const N: usize>(shape: &PoolShape, first: usize, x: &[T], y: &mut [T]) {
        let (c, width) = (shape.c, shape.w.input);
        let in_order = shape.pays_in_order();
        for (row, y) in y.chunks_exact_mut(shape.ow() * c).enumerate() {
            let (n, oy) = ((first + row) / shape.oh(), (first + row) % shape.oh());
            let image = &x[n * shape.input_image()..(n + 1) * shape.input_image()];
            let rows = shape.h.span(oy);
            for (ox, y) in y.chunks_exact_mut(c).enumerate() {
                let cols = shape.w.span(ox);
                if in_order {
                    max_of_pixels(&rows, &cols, image, width, y);
                    continue;
                }
                for start in blocks::<N>(c) {
                    let mut best = [T::NEG_INFINITY; N];
                    for row in 0..rows.count {
                        for col in 0..cols.count {
                            let x = block::<T, N>(image, (rows.at(row) * width + cols.at(col)) * c + start);
                            for (best, &x) in best.iter_mut().zip(x) {
                                *best = if wins(x, *best) { x } else { *best };
                            }
                        }
                    }
                    y[start..start + N].copy_from_slice(&best);
                }
            }
        }
    }
}

/// As [`max_of_pixels`], and the index of the pixel that holds each maximum: `first` unless a number wins.
#[inline(always)]
fn max_of_pixels_with_indices<T: Real>([rows, cols]: [&Span; 2], image: &[T], width: usize, first: u32, y: &mut [T], indices: &mut [u32]) {
    y.fill(T::NEG_INFINITY);
    indices.fill(first);
    for row in 0..rows.count {
        for col in 0..cols.count {
            let place = rows.at(row) * width + cols.at(col);
            let x = &image[place * y.len()..][..y.len()];
            for ((best, index), &x) in y.iter_mut().zip(&mut *indices).zip(x) {
                let wins = wins(x, *best);
                *best = if wins { x } else { *best };
                *index = if wins { place as u32 } else { *index };
            }
        }
    }
}

/// Whether `x` takes the place of the best so far: it is larger, or the first NaN.
#[inline(always)]
#[allow(clippy::eq_op, clippy::neg_cmp_op_on_partial_ord)]
fn wins<T: Real>(x: T, best: T) -> bool {
    !(x <= best) & (best == best)
}

per_isa! {
    fn max_rows_with_indices<T: Real, const N: usize>(shape: &PoolShape, first: usize, x: &[T], y: &mut [T], indices: &mut [u32]) {
        let (c, width) = (shape.c, shape.w.input);
        let in_order = shape.pays_in_order();
        let length = shape.ow() * c;
        for (row, (y, indices)) in y.chunks_exact_mut(length).zip(indices.chunks_exact_mut(length)).enumerate() {
            let (n, oy) = ((first + row) / shape.oh(), (first + row) % shape.oh());
            let image = &x[n * shape.input_image()..(n + 1) * shape.input_image()];
            let rows = shape.h.span(oy);
            for (ox, (y, indices)) in y.chunks_exact_mut(c).zip(indices.chunks_exact_mut(c)).enumerate() {
                let cols = shape.w.span(ox);
                let empty = rows.count == 0 || cols.count == 0;
                let first_index = if empty { NO_ELEMENT } else { (rows.first * width + cols.first) as u32 };
                if in_order {
                    max_of_pixels_with_indices([&rows, &cols], image, width, first_index, y, indices);
                    continue;
                }
                for start in blocks::<N>(c) {
                    let mut best = [T::NEG_INFINITY; N];
                    let mut index = [first_index; N];
                    for row in 0..rows.count {
                        for col in 0..cols.count {
                            let place = rows.at(row) * width + cols.at(col);
                            let x = block::<T, N>(image, place * c + start);
                            for ((best, index), &x) in best.iter_mut().zip(&mut index).zip(x) {
                                let wins = wins(x, *best);
                                *best = if wins { x } else { *best };
                                *index = if wins { place as u32 } else { *index };
                            }
                        }
                    }
                    y[start..start + N].copy_from_slice(&best);
                    indices[start..start + N].copy_from_slice(&index);
                }
            }
        }
    }
}

fn forward<T: Real>(machine: &Machine, shape: &PoolShape, x: &[T], y: &mut [T], indices: &mut [u32]) {
    let rows = shape.rows_of_piece(shape.oh());
    let length = rows * shape.ow() * shape.c;
    let record = !indices.is_empty();
    assert!(y.len() == shape.output_len() && (!record || indices.len() == y.len()), "output of the wrong length");
    let indices = Pieces::new(indices, length);
    machine.threads.chunks_mut(y, length, |piece, y| {
        // SAFETY: `chunks_mut` calls this once for each number.
        let indices = unsafe { indices.get(piece) };
        if record {
            by_channels!(16, shape.c, max_rows_with_indices::<T>(machine.isa, shape, piece * rows, x, y, indices));
        } else if shape.c < FEW_CHANNELS && shape.w.input * shape.c <= LINE {
            by_channels!(16, shape.c, max_lines::<T>(machine.isa, shape, piece * rows, x, y));
        } else {
            by_channels!(32, shape.c, max_rows::<T>(machine.isa, shape, piece * rows, x, y));
        }
    });
}

compiled_here! {
    /// Writes the maximum of each window to `y`, and the number `y·W + x` of the pixel that holds it to `indices`, unless
    /// that is empty. A window without any element gives −∞ and [`NO_ELEMENT`].
    ///
    /// # Panics
    /// If a slice is shorter than the shape says.
    pub fn max_forward<T>(x: &'a [T], y: &'a mut [T], indices: &'a mut [u32]) = forward
}

per_isa! {
    fn max_gradient_rows<T: Real, const N: usize>(shape: &PoolShape, first: usize, dy: &[T], indices: &[u32], dx: &mut [T]) {
        let (c, width) = (shape.c, shape.w.input);
        for (row, dx) in dx.chunks_exact_mut(width * c).enumerate() {
            let (n, iy) = ((first + row) / shape.h.input, (first + row) % shape.h.input);
            let rows = shape.h.around(iy);
            for (ix, dx) in dx.chunks_exact_mut(c).enumerate() {
                let cols = shape.w.around(ix);
                let place = (iy * width + ix) as u32;
                for start in blocks::<N>(c) {
                    let mut sum = [T::ZERO; N];
                    for oy in rows.clone() {
                        for ox in cols.clone() {
                            let at = ((n * shape.oh() + oy) * shape.ow() + ox) * c + start;
                            let (dy, indices) = (block::<T, N>(dy, at), block::<u32, N>(indices, at));
                            for ((sum, &dy), &index) in sum.iter_mut().zip(dy).zip(indices) {
                                *sum += if index == place { dy } else { T::ZERO };
                            }
                        }
                    }
                    dx[start..start + N].copy_from_slice(&sum);
                }
            }
        }
    }
}

/// The same sums in the same order for few channels, of which blocks would hold little: each window gives its gradient away.
/// Windows that reach into other rows leave those to the pieces that they belong to.
fn max_gradient_scattered<T: Real>(shape: &PoolShape, first: usize, dy: &[T], indices: &[u32], dx: &mut [T]) {
    let (c, width, height) = (shape.c, shape.w.input, shape.h.input);
    let length = shape.ow() * c;
    dx.fill(T::ZERO);
    let mut left = dx;
    let mut row = first;
    while !left.is_empty() {
        // The rows of this piece that lie in one image.
        let (n, top) = (row / height, row % height);
        let rows = (height - top).min(left.len() / (width * c));
        let (here, rest) = left.split_at_mut(rows * width * c);
        let (begin, pixels) = (top * width, rows * width);
        for oy in shape.h.around(top).start..shape.h.around(top + rows - 1).end {
            let at = (n * shape.oh() + oy) * length;
            let windows = dy[at..at + length].chunks_exact(c).zip(indices[at..at + length].chunks_exact(c));
            for (dy, indices) in windows {
                for (channel, (&dy, &index)) in dy.iter().zip(indices).enumerate() {
                    let pixel = (index as usize).wrapping_sub(begin);
                    if pixel < pixels {
                        here[pixel * c + channel] += dy;
                    }
                }
            }
        }
        left = rest;
        row += rows;
    }
}

fn backward<T: Real>(machine: &Machine, shape: &PoolShape, dy: &[T], indices: &[u32], dx: &mut [T]) {
    assert!(dx.len() == shape.input_len(), "input of the wrong length");
    let rows = shape.rows_of_piece(shape.h.input);
    machine.threads.chunks_mut(dx, rows * shape.w.input * shape.c, |piece, dx| {
        if shape.c < FEW_CHANNELS {
            max_gradient_scattered(shape, piece * rows, dy, indices, dx);
        } else {
            by_channels!(32, shape.c, max_gradient_rows::<T>(machine.isa, shape, piece * rows, dy, indices, dx));
        }
    });
}

compiled_here! {
    /// Writes the gradient of the input: each window's gradient goes to the pixel that [`max_forward`] noted in `indices`.
    ///
    /// # Panics
    /// If a slice is shorter than the shape says.
    pub fn max_backward<T>(dy: &'a [T], indices: &'a [u32], dx: &'a mut [T]) = backward
}
