//! Depthwise convolution forward and to the gradient of the input, row by row.

use super::kernel::{Kernels, Pixels};
use super::tile::{self, GROUP, PIXELS, Tile};
use crate::conv::Epilogue;
use crate::conv::direct::geometry::{AxisTaps, Problem, ProblemAxis};
use crate::gemm::Target;
use crate::{Isa, Machine, stream};

/// Pieces that a large problem is cut into.
const PIECES: usize = 64;
/// Pieces that are enough to keep threads equally busy, without cutting the channels.
const FEW_PIECES: usize = 16;
/// Multiply-adds that are worth a piece of their own.
const PIECE_MACS: usize = 1 << 17;
/// Rows of a piece, so that most input rows are read by one piece alone; and as many again as the kernel has.
const ROWS: usize = 4;
/// Channels of a piece when there are too few rows.
const CHANNELS: usize = 64;
/// Numbers of an input that a core's own cache does not hold.
const FAR: usize = 1 << 18;

/// Computes `y` from `x`; the packed weights are `[phase][tap][channel]`.
///
/// # Panics
/// If a slice has another length than the problem says.
pub(super) fn run(machine: &Machine, problem: &Problem, x: &[f32], packed: &[f32], epilogue: &Epilogue<'_, f32>, y: &mut [f32]) {
    let channels = problem.groups;
    assert!(
        x.len() == problem.images * problem.input.image && y.len() == problem.images * problem.output.image,
        "image of the wrong length"
    );
    assert!(packed.len() >= super::packed_taps(problem) * channels, "packed weights of the wrong length");
    assert!(epilogue.bias.is_none_or(|bias| bias.len() == channels), "bias of the wrong length");
    assert!(epilogue.residual.is_none_or(|residual| residual.len() == y.len()), "residual of the wrong length");
    let macs = y_macs(problem);
    let rows = problem.images * problem.h.outputs(0);
    let wanted = (macs / PIECE_MACS).clamp(1, PIECES);
    let row_blocks = wanted.min(rows.div_ceil(ROWS + problem.h.taps(0).range.count));
    let channel_blocks = wanted.min(FEW_PIECES).div_ceil(row_blocks).min(channels.div_ceil(CHANNELS));
    let stream = stream::is_large(y) && channels.is_multiple_of(16);
    let y = Target::new(y);
    let work = |piece: usize| {
        let (row_block, block) = (piece / channel_blocks, piece % channel_blocks);
        // Whole vectors in all blocks but the last.
        let part = |block: usize| (block * channels / channel_blocks).next_multiple_of(16).min(channels);
        let channels = [part(block), part(block + 1)];
        let piece =
            Piece { problem, isa: machine.isa, channels, x, packed, epilogue, y, stream, far: channel_blocks == 1 && x.len() >= FAR };
        for row in row_block * rows / row_blocks..(row_block + 1) * rows / row_blocks {
            piece.row(row / problem.h.outputs(0), row % problem.h.outputs(0));
        }
        if stream {
            stream::fence(machine.isa);
        }
    };
    machine.threads.run(row_blocks * channel_blocks, work);
}

/// Multiply-adds of the problem.
fn y_macs(problem: &Problem) -> usize {
    let pixels = problem.images * problem.h.outputs(0) * problem.w.outputs(0);
    pixels * problem.groups * super::packed_taps(problem)
}

/// Some channels of some rows, in all phases.
struct Piece<'a> {
    problem: &'a Problem,
    isa: Isa,
    /// First channel and end.
    channels: [usize; 2],
    x: &'a [f32],
    packed: &'a [f32],
    epilogue: &'a Epilogue<'a, f32>,
    y: Target,
    /// Whether outputs go past the caches.
    stream: bool,
    /// Whether inputs must be asked for before they are needed.
    far: bool,
}

impl Piece<'_> {
    /// The output rows of all phases that have this number within their phase: their inputs are nearly the same.
    fn row(&self, image: usize, row: usize) {
        let Problem { h, w, groups, .. } = self.problem;
        let mut weights = self.packed;
        for phase in self.problem.phases() {
            let (rows, cols) = (h.taps(phase[0]), w.taps(phase[1]));
            if row < h.outputs(phase[0]) {
                Strip { piece: self, phase, rows, cols, weights }.row(image, row);
            }
            weights = &weights[rows.range.count * cols.range.count * groups..];
        }
    }
}

/// Some channels of the rows of one phase.
struct Strip<'a> {
    piece: &'a Piece<'a>,
    phase: [usize; 2],
    rows: AxisTaps,
    cols: AxisTaps,
    /// From the first weight of this phase on.
    weights: &'a [f32],
}

/// The taps (numbered within the phase) that output `place` sees inside the image: first and end.
fn taps_inside(axis: &ProblemAxis, taps: &AxisTaps, place: usize) -> [usize; 2] {
    let start = (place * axis.step()) as isize + taps.offset;
    let inside = |tap: usize| ((start + tap as isize * taps.offset_step) as usize) < axis.input;
    let first = (0..taps.range.count).find(|&tap| inside(tap)).unwrap_or(0);
    let count = (first..taps.range.count).take_while(|&tap| inside(tap)).count();
    [first, first + count]
}

impl Strip<'_> {
    /// One output row.
    fn row(&self, image: usize, row: usize) {
        let Problem { h, w, .. } = self.piece.problem;
        let rows = taps_inside(h, &self.rows, row);
        // With one tap there is no direction; a kernel of the other direction is read from its end.
        let neighbours = self.cols.offset_step.abs() == 1 || self.cols.range.count == 1;
        match tile::Kernels::of(self.piece.isa, self.cols.range.count, w.step()) {
            Some(kernels) if neighbours => self.tiles(kernels, image, row, rows),
            _ => self.inner_and_edges(image, row, rows),
        }
    }

    /// The row in tiles.
    fn tiles(&self, kernels: &tile::Kernels, image: usize, row: usize, rows: [usize; 2]) {
        let &Piece { problem, channels: [first, last], x, epilogue, stream, far, .. } = self.piece;
        let Problem { h, w, input, output, groups, .. } = problem;
        let (width, taps) = (w.outputs(self.phase[1]), self.cols.range.count);
        let iy = (row * h.step()) as isize + self.rows.offset + rows[0] as isize * self.rows.offset_step;
        let row_start = image * input.image + first;
        // The taps from left to right.
        let is_turned = self.cols.offset_step < 0;
        let left = if is_turned { self.cols.offset - (taps as isize - 1) } else { self.cols.offset };
        let weights = self.weights.as_ptr().wrapping_add(rows[0] * taps * groups + if is_turned { (taps - 1) * groups } else { 0 } + first);
        let weight_col = if is_turned { -(*groups as isize) } else { *groups as isize };
        let y = image * output.image + (self.phase[0] + row * h.output_step()) * output.row + self.phase[1] * output.col + first;
        let y_col = w.output_step() * output.col;
        // The input rows that the next row sees for the first time; other phases see the same.
        let lowest = (row * h.step()) as isize
            + self.rows.offset.max(self.rows.offset + (self.rows.range.count as isize - 1) * self.rows.offset_step);
        let ahead = [1, 2].map(|next| {
            let wanted = far && self.phase == [0, 0] && next <= h.step() as isize && lowest + next < h.input as isize;
            wanted.then(|| x.as_ptr().wrapping_offset((lowest + next) * input.row as isize).wrapping_add(row_start))
        });
        let step = PIXELS.iter().position(|&pixels| pixels <= width && width.is_multiple_of(pixels.max(4)));
        let step = step.or_else(|| PIXELS.iter().position(|&pixels| pixels <= width)).unwrap_or(PIXELS.len() - 1);
        for start in (0..width).step_by(PIXELS[step]) {
            // The last tile may overlap the one before it, and computes the same numbers again.
            let start = start.min(width - PIXELS[step]);
            let ix = (start * w.step()) as isize + left;
            let inside = |column: isize| (column - ix).max(0) as usize;
            let ahead_of_tile =
                |row: Option<*const f32>| row.map_or(std::ptr::null(), |row| row.wrapping_add(start * w.step() * input.col));
            let place = y + start * y_col;
            let tile = Tile {
                x: x.as_ptr().wrapping_add(row_start).wrapping_offset(iy * input.row as isize + ix * input.col as isize),
                x_row: self.rows.offset_step * input.row as isize,
                x_col: input.col,
                columns: [inside(0), inside(w.input as isize)],
                weights: weights.cast_mut(),
                weight_steps: [(taps * groups) as isize, weight_col],
                weight_group: GROUP,
                rows: rows[1] - rows[0],
                channels: last - first,
                y: self.piece.y.pointer().wrapping_add(place),
                y_col,
                ahead: ahead.map(ahead_of_tile),
                y_ahead: std::ptr::null(),
                bias: epilogue.bias.map_or(std::ptr::null(), |bias| bias[first..].as_ptr()),
                residual: epilogue.residual.map_or(std::ptr::null(), |residual| residual[place..].as_ptr()),
                relu: epilogue.relu,
                stream,
            };
            // SAFETY: the kernels were chosen by the token of their instructions. `run` checked the lengths of all slices.
            // The kernel rows lie inside the image, and of its columns only those named in `columns` are read. The
            // outputs, in these channels, belong to this piece alone: pieces differ in rows or channels. They are at
            // multiples of a vector's size if `stream` says so.
            unsafe { kernels.outputs[step](&tile) };
        }
    }

    /// The row, the pixels that see all columns of the kernel together, those at the edges one by one.
    fn inner_and_edges(&self, image: usize, row: usize, rows: [usize; 2]) {
        let w = &self.piece.problem.w;
        let width = w.outputs(self.phase[1]);
        let all = [0, self.cols.range.count];
        let is_inner = |place: usize| taps_inside(w, &self.cols, place) == all;
        let first = (0..width).find(|&place| is_inner(place)).unwrap_or(width);
        let last = (first..width).rev().find(|&place| is_inner(place)).map_or(first, |last| last + 1);
        for col in (0..first).chain(last..width) {
            self.pixels(image, row, col, 1, rows, taps_inside(w, &self.cols, col));
        }
        if first < last {
            self.pixels(image, row, first, last - first, rows, all);
        }
    }

    /// `count` pixels of one row that see these taps.
    fn pixels(&self, image: usize, row: usize, col: usize, count: usize, rows: [usize; 2], cols: [usize; 2]) {
        let &Piece { problem, channels: [first, last], x: images, epilogue, .. } = self.piece;
        let Problem { h, w, input, output, groups: channels, .. } = problem;
        let kernels = Kernels::of(self.piece.isa);
        let iy = (row * h.step()) as isize + self.rows.offset + rows[0] as isize * self.rows.offset_step;
        let ix = (col * w.step()) as isize + self.cols.offset + cols[0] as isize * self.cols.offset_step;
        let nothing = rows[0] == rows[1] || cols[0] == cols[1];
        let x = if nothing { 0 } else { image * input.image + iy as usize * input.row + ix as usize * input.col };
        let y = image * output.image
            + (self.phase[0] + row * h.output_step()) * output.row
            + (self.phase[1] + col * w.output_step()) * output.col
            + first;
        let columns = self.cols.range.count;
        let weights = if nothing { 0 } else { (rows[0] * columns + cols[0]) * channels + first };
        let mut pixels = Pixels {
            x: images.as_ptr().wrapping_add(x + first),
            x_tap: [self.rows.offset_step * input.row as isize, self.cols.offset_step * input.col as isize],
            x_step: w.step() * input.col,
            weights: self.weights.as_ptr().wrapping_add(weights),
            weight_tap: [columns * channels, *channels],
            taps: if nothing { [0, 0] } else { [rows[1] - rows[0], cols[1] - cols[0]] },
            tiles: 1,
            channels: last - first,
            y: self.piece.y.pointer().wrapping_add(y),
            y_step: w.output_step() * output.col,
            bias: epilogue.bias.map_or(std::ptr::null(), |bias| bias[first..].as_ptr()),
            residual: epilogue.residual.map_or(std::ptr::null(), |residual| residual[y..].as_ptr()),
            relu: epilogue.relu,
        };
        let most = kernels.pixels.len();
        for (size, tiles) in [(most, count / most), (count % most, 1)] {
            if size == 0 || tiles == 0 {
                continue;
            }
            pixels.tiles = tiles;
            // SAFETY: the kernels were chosen by the token of their instructions. `run` checked the lengths of all slices.
            // All these pixels see these taps inside the image; their outputs, in these channels, belong to this piece
            // alone: pieces differ in rows or channels.
            unsafe { kernels.pixels[size - 1](&pixels) };
            pixels.x = pixels.x.wrapping_add(size * tiles * pixels.x_step);
            pixels.y = pixels.y.wrapping_add(size * tiles * pixels.y_step);
            if !pixels.residual.is_null() {
                pixels.residual = pixels.residual.wrapping_add(size * tiles * pixels.y_step);
            }
        }
    }
}
