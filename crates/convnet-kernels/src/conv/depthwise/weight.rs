//! The gradient of depthwise weights: for each channel and tap, the sum over pixels of x times dy.
//!
//! The rows are cut into a fixed number of ranges whose partial sums, `[tap][channel]`, are added in order. Rows and
//! columns that see the same taps inside the image are summed together, up to nine taps at a time.

use std::ops::Range;

use super::kernel::{Gradients, Kernels, MAX_TAPS};
use crate::Machine;
use crate::conv::ConvShape;
use crate::gemm::Target;

/// Most rows that are listed at once.
const MAX_ROWS: usize = 32;
/// Channels that a piece works on.
const CHANNELS: usize = 64;
/// Pieces that a large problem is cut into.
const PIECES: usize = 64;
/// Multiply-adds that are worth a piece of their own.
const PIECE_MACS: usize = 1 << 17;

/// Ranges of rows, each with its own partial sums.
fn ranges(shape: &ConvShape) -> usize {
    let macs = shape.macs() as usize;
    let wanted = (macs / PIECE_MACS).clamp(1, PIECES).div_ceil(shape.c().div_ceil(CHANNELS));
    wanted.min(shape.n() * shape.oh())
}

/// Numbers of working memory.
pub(super) fn scratch_len(shape: &ConvShape) -> usize {
    ranges(shape) * shape.weight_len()
}

/// Adds to the gradient of the weights `dw`.
pub(super) fn run(machine: &Machine, shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &mut [f32]) {
    assert!(x.len() == shape.input_len() && dy.len() == shape.output_len(), "image of the wrong length");
    assert!(dw.len() == shape.weight_len() && scratch.len() >= scratch_len(shape), "gradient or scratch of the wrong length");
    let (ranges, blocks, rows) = (ranges(shape), shape.c().div_ceil(CHANNELS), shape.n() * shape.oh());
    let sums = Target::new(scratch);
    let work = |piece: usize| {
        let (range, block) = (piece / blocks, piece % blocks);
        let channels = block * CHANNELS..((block + 1) * CHANNELS).min(shape.c());
        let piece = Piece { shape, kernels: Kernels::of(machine.isa), channels, first_sum: range * shape.weight_len(), x, dy, sums };
        piece.run(range * rows / ranges..(range + 1) * rows / ranges);
    };
    let pieces = ranges * blocks;
    if (shape.macs() as usize) < PIECE_MACS {
        (0..pieces).for_each(work)
    } else {
        machine.threads.run(pieces, work)
    }
    add_partial_sums(shape, scratch, dw);
}

/// Adds the partial sums in their order, then to `dw`, whose order is `[channel][tap]`.
fn add_partial_sums(shape: &ConvShape, scratch: &mut [f32], dw: &mut [f32]) {
    let (length, taps) = (shape.weight_len(), shape.window().taps());
    let (sums, others) = scratch.split_at_mut(length);
    for other in others.chunks_exact(length).take(ranges(shape) - 1) {
        sums.iter_mut().zip(other).for_each(|(sum, other)| *sum += other);
    }
    for (channel, dw) in dw.chunks_exact_mut(taps).enumerate() {
        for (tap, dw) in dw.iter_mut().enumerate() {
            *dw += sums[tap * shape.c() + channel];
        }
    }
}

/// Some rows of some channels.
struct Piece<'a> {
    shape: &'a ConvShape,
    kernels: &'static Kernels,
    channels: Range<usize>,
    /// Where the partial sums of this range begin.
    first_sum: usize,
    x: &'a [f32],
    dy: &'a [f32],
    sums: Target,
}

impl Piece<'_> {
    fn run(&self, rows: Range<usize>) {
        let shape = self.shape;
        for tap in 0..shape.window().taps() {
            let place = self.first_sum + tap * shape.c() + self.channels.start;
            // SAFETY: the scratch holds all ranges, taps and channels; these channels of this range are this piece's own.
            unsafe { std::slice::from_raw_parts_mut(self.sums.pointer().add(place), self.channels.len()) }.fill(0.0);
        }
        // Rows that follow each other and see the same taps go together; those of different images too.
        let mut list = [[0; 2]; MAX_ROWS];
        let (mut count, mut seen) = (0, 0..0);
        for row in rows {
            let (image, oy) = (row / shape.oh(), row % shape.oh());
            let taps = shape.window().h.taps(oy, shape.h());
            if taps.is_empty() {
                continue;
            }
            if count == MAX_ROWS || count > 0 && taps != seen {
                self.columns(&seen, &list[..count]);
                count = 0;
            }
            let iy = shape.window().h.position(oy, taps.start) as usize;
            list[count] = [(image * shape.h() + iy) * shape.w() * shape.c(), row * shape.ow() * shape.c()];
            (count, seen) = (count + 1, taps);
        }
        if count > 0 {
            self.columns(&seen, &list[..count]);
        }
    }

    /// All columns of the listed rows: those that see all taps together, those at the edges one by one.
    fn columns(&self, tap_rows: &Range<usize>, rows: &[[usize; 2]]) {
        let (axis, shape) = (self.shape.window().w, self.shape);
        let first = axis.outputs_of_tap(0, shape.w(), shape.ow());
        let last = axis.outputs_of_tap(axis.size - 1, shape.w(), shape.ow());
        let inner = first.start.max(last.start)..first.end.min(last.end);
        let inner = if inner.is_empty() { 0..0 } else { inner };
        for col in (0..inner.start).chain(inner.end..shape.ow()) {
            self.taps(tap_rows, &axis.taps(col, shape.w()), rows, col..col + 1);
        }
        if !inner.is_empty() {
            self.taps(tap_rows, &(0..axis.size), rows, inner);
        }
    }

    /// Some columns of the listed rows that see these taps.
    fn taps(&self, tap_rows: &Range<usize>, tap_cols: &Range<usize>, rows: &[[usize; 2]], cols: Range<usize>) {
        let (shape, window) = (self.shape, self.shape.window());
        if tap_cols.is_empty() {
            return;
        }
        let ix = window.w.position(cols.start, tap_cols.start) as usize;
        let (mut places, mut sum_places) = ([0; MAX_TAPS], [0; MAX_TAPS]);
        let total = tap_rows.len() * tap_cols.len();
        for first in (0..total).step_by(MAX_TAPS) {
            let taps = first..(first + MAX_TAPS).min(total);
            for (slot, tap) in taps.clone().enumerate() {
                let (row, col) = (tap / tap_cols.len(), tap % tap_cols.len());
                places[slot] = (row * window.h.dilation * shape.w() + col * window.w.dilation) * shape.c();
                sum_places[slot] = ((tap_rows.start + row) * window.w.size + tap_cols.start + col) * shape.c();
            }
            let gradients = Gradients {
                x: self.x[ix * shape.c() + self.channels.start..].as_ptr(),
                places: places.as_ptr(),
                dy: self.dy[cols.start * shape.c() + self.channels.start..].as_ptr(),
                rows: rows.as_ptr(),
                row_count: rows.len(),
                cols: cols.len(),
                steps: [window.w.stride * shape.c(), shape.c()],
                channels: self.channels.len(),
                sums: self.sums.pointer().wrapping_add(self.first_sum + self.channels.start),
                sum_places: sum_places.as_ptr(),
            };
            // SAFETY: the kernels were chosen by the token of their instructions. `run` checked the lengths of the slices,
            // and these rows and columns see these taps inside the image, by the formulas of `window`. These channels of
            // this range of sums are this piece's own.
            unsafe { self.kernels.gradients[taps.len() - 1](&gradients) };
        }
    }
}
