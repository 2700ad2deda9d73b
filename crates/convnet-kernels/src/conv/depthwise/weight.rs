//! The gradient of depthwise weights: for each channel and tap, the sum over pixels of x times dy.
//!
//! The rows are cut into a fixed number of ranges whose partial sums, `[channel / 16][tap][channel % 16]`, are added in order. Kernels of a
//! few widths go through each row in tiles; for the others, rows and columns that see the same taps inside the image are
//! summed together, up to nine taps at a time.

use std::ops::Range;

use super::kernel::{Gradients, Kernels, MAX_TAPS};
use super::tile::{self, GROUP, PIXELS, Tile};
use crate::conv::ConvShape;
use crate::gemm::Target;
use crate::{Isa, Machine};

/// Most rows that are listed at once.
const MAX_ROWS: usize = 32;
/// Channels of a piece when there are too few rows.
const CHANNELS: usize = 64;
/// Pieces that a large problem is cut into: ranges, each of which has partial sums of its own, as long as there are rows enough.
const PIECES: usize = 32;
/// Multiply-adds that are worth a piece of their own.
const PIECE_MACS: usize = 1 << 17;
/// Rows of a range beyond those of the kernel, so that most input rows are read by one piece alone.
const ROWS: usize = 4;
/// Multiply-adds of a range for each of its sums, so that adding the sums up is little work beside.
const MACS_PER_SUM: usize = 128;
/// Partial sums that are worth a piece of work.
const PART: usize = 1 << 14;
/// Numbers of images that a core's own cache does not hold.
const FAR: usize = 1 << 18;

/// Ranges of rows, each with its own partial sums, and blocks of channels.
fn cut(shape: &ConvShape) -> [usize; 2] {
    let (macs, rows) = (shape.macs() as usize, shape.n() * shape.oh());
    let wanted = (macs / PIECE_MACS).clamp(1, PIECES);
    let most = (macs / shape.weight_len() / MACS_PER_SUM).clamp(1, PIECES);
    let ranges = wanted.min(most).min(rows.div_ceil(ROWS + shape.window().h.size));
    [ranges, wanted.div_ceil(ranges).min(shape.c().div_ceil(CHANNELS))]
}

/// Sums of one range.
fn range_len(shape: &ConvShape) -> usize {
    shape.c().next_multiple_of(GROUP) * shape.window().taps()
}

/// Numbers of working memory.
pub(super) fn scratch_len(shape: &ConvShape) -> usize {
    cut(shape)[0] * range_len(shape)
}

/// Adds to the gradient of the weights `dw`.
pub(super) fn run(machine: &Machine, shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &mut [f32]) {
    assert!(x.len() == shape.input_len() && dy.len() == shape.output_len(), "image of the wrong length");
    assert!(dw.len() == shape.weight_len() && scratch.len() >= scratch_len(shape), "gradient or scratch of the wrong length");
    let ([ranges, blocks], rows) = (cut(shape), shape.n() * shape.oh());
    let sums = Target::new(scratch);
    machine.threads.run(ranges * blocks, |piece| {
        let (range, block) = (piece / blocks, piece % blocks);
        // Whole vectors in all blocks but the last.
        let part = |block: usize| (block * shape.c() / blocks).next_multiple_of(16).min(shape.c());
        let channels = part(block)..part(block + 1);
        let piece = Piece { shape, isa: machine.isa, channels, first_sum: range * range_len(shape), x, dy, sums };
        piece.run(range * rows / ranges..(range + 1) * rows / ranges);
    });
    let (sums, taps) = (&scratch[..ranges * range_len(shape)], shape.window().taps());
    // Whole groups of channels in each part, and few parts when there is little to add.
    let part = GROUP * taps * PART.div_ceil(GROUP * taps * ranges);
    machine.threads.chunks_mut(dw, part, |index, dw| {
        for (group, dw) in dw.chunks_mut(GROUP * taps).enumerate() {
            add_partial_sums(sums, range_len(shape), index * part + group * GROUP * taps, taps, dw);
        }
    });
}

/// Adds the partial sums of a group of channels, which begin at `first` in each range, to `dw`, whose order is
/// `[channel][tap]`.
fn add_partial_sums(sums: &[f32], range_len: usize, first: usize, taps: usize, dw: &mut [f32]) {
    for tap in 0..taps {
        let mut totals = [0.0; GROUP];
        for range in sums.chunks_exact(range_len) {
            totals.iter_mut().zip(&range[first + tap * GROUP..][..GROUP]).for_each(|(total, sum)| *total += sum);
        }
        for (dw, total) in dw[tap..].iter_mut().step_by(taps).zip(totals) {
            *dw += total;
        }
    }
}

/// Some rows of some channels.
struct Piece<'a> {
    shape: &'a ConvShape,
    isa: Isa,
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
        let taps = shape.window().taps();
        let first = self.first_sum + self.channels.start * taps;
        let own = self.channels.len().next_multiple_of(GROUP) * taps;
        // SAFETY: the scratch holds all ranges and groups of channels; these groups of this range are this piece's own, as
        // blocks of channels begin with whole groups.
        unsafe { std::slice::from_raw_parts_mut(self.sums.pointer().add(first), own) }.fill(0.0);
        let axis = shape.window().w;
        let is_dense = axis.dilation == 1 || axis.size == 1;
        match tile::Kernels::of(self.isa, axis.size, axis.stride) {
            Some(kernels) if is_dense => rows.for_each(|row| self.tiles(kernels, row)),
            _ => self.listed_rows(rows),
        }
    }

    /// One row of dy in tiles.
    fn tiles(&self, kernels: &tile::Kernels, row: usize) {
        let (shape, window) = (self.shape, self.shape.window());
        let (image, oy) = (row / shape.oh(), row % shape.oh());
        let taps = window.h.taps(oy, shape.h());
        if taps.is_empty() {
            return;
        }
        let c = shape.c();
        let x_row = self
            .x
            .as_ptr()
            .wrapping_add((image * shape.h() + window.h.position(oy, taps.start) as usize) * shape.w() * c + self.channels.start);
        // What the next row sees for the first time: new rows of x, and its own row of dy.
        // Blocks of channels would not lie in order.
        let is_far = self.x.len() >= FAR && self.channels.len() == c && row + 1 < shape.n() * shape.oh();
        let next = |new: usize, start: usize| {
            let row = x_row.wrapping_add(((taps.len() * window.h.dilation + new) * shape.w() + start * window.w.stride) * c);
            if is_far && new < window.h.stride { row } else { std::ptr::null() }
        };
        let mut start = 0;
        while start < shape.ow() {
            let rest = shape.ow() - start;
            let step = PIXELS.iter().position(|&pixels| pixels == rest || pixels < rest && rest % pixels.max(4) == 0);
            let step = step.or_else(|| PIXELS.iter().position(|&pixels| pixels <= rest)).unwrap_or(PIXELS.len() - 1);
            let ix = window.w.start(start);
            let inside = |column: isize| (column - ix).max(0) as usize;
            let dy = self.dy[(row * shape.ow() + start) * c + self.channels.start..].as_ptr();
            let sums = self.first_sum + self.channels.start * window.taps() + taps.start * window.w.size * GROUP;
            let tile = Tile {
                x: x_row.wrapping_offset(ix * c as isize),
                x_row: (window.h.dilation * shape.w() * c) as isize,
                x_col: c,
                columns: [inside(0), inside(shape.w() as isize)],
                weights: self.sums.pointer().wrapping_add(sums),
                weight_steps: [(window.w.size * GROUP) as isize, GROUP as isize],
                weight_group: GROUP * window.taps(),
                rows: taps.len(),
                channels: self.channels.len(),
                y: dy.cast_mut(),
                y_col: c,
                ahead: [next(0, start), next(1, start)],
                y_ahead: if is_far { dy.wrapping_add(shape.ow() * c) } else { std::ptr::null() },
                bias: std::ptr::null(),
                residual: std::ptr::null(),
                relu: false,
                stream: false,
            };
            // SAFETY: the kernels were chosen by the token of their instructions, and read dy only. `run` checked the
            // lengths of the slices. The kernel rows lie inside the image, and of its columns only those named in
            // `columns` are read. These channels of this range of sums are this piece's own.
            unsafe { kernels.gradients[step](&tile) };
            start += PIXELS[step];
        }
    }

    /// Rows that follow each other, for kernels that there are no tiles for.
    fn listed_rows(&self, rows: Range<usize>) {
        let shape = self.shape;
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
                sum_places[slot] = ((tap_rows.start + row) * window.w.size + tap_cols.start + col) * GROUP;
            }
            for first in self.channels.clone().step_by(GROUP) {
                let gradients = Gradients {
                    x: self.x[ix * shape.c() + first..].as_ptr(),
                    places: places.as_ptr(),
                    dy: self.dy[cols.start * shape.c() + first..].as_ptr(),
                    rows: rows.as_ptr(),
                    row_count: rows.len(),
                    cols: cols.len(),
                    steps: [window.w.stride * shape.c(), shape.c()],
                    channels: GROUP.min(self.channels.end - first),
                    sums: self.sums.pointer().wrapping_add(self.first_sum + first * window.taps()),
                    sum_places: sum_places.as_ptr(),
                };
                // SAFETY: the kernels were chosen by the token of their instructions. `run` checked the lengths of the
                // slices, and these rows and columns see these taps inside the image, by the formulas of `window`. These
                // channels of this range of sums are this piece's own.
                unsafe { Kernels::of(self.isa).gradients[taps.len() - 1](&gradients) };
            }
        }
    }
}
