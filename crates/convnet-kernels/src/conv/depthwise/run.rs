//! Depthwise convolution forward and to the gradient of the input, row by row.

use super::kernel::{Kernels, Pixels};
use crate::Machine;
use crate::conv::Epilogue;
use crate::conv::direct::geometry::{AxisTaps, Problem, ProblemAxis};
use crate::gemm::Target;

/// Channels that a piece works on: few enough for some rows of them to stay in the first-level cache.
const CHANNELS: usize = 128;
/// Pieces that a large problem is cut into.
const PIECES: usize = 96;
/// Multiply-adds that are worth a piece of their own.
const PIECE_MACS: usize = 1 << 16;

/// Computes `y` from `x`; the packed weights are `[phase][tap][channel]`.
///
/// # Panics
/// If a slice has another length than the problem says.
pub(super) fn run(machine: &Machine, problem: &Problem, x: &[f32], packed: &[f32], epilogue: &Epilogue<'_, f32>, y: &mut [f32]) {
    let (kernels, channels) = (Kernels::of(machine.isa), problem.groups);
    assert!(
        x.len() == problem.images * problem.input.image && y.len() == problem.images * problem.output.image,
        "image of the wrong length"
    );
    assert!(packed.len() >= super::packed_taps(problem) * channels, "packed weights of the wrong length");
    assert!(epilogue.bias.is_none_or(|bias| bias.len() == channels), "bias of the wrong length");
    assert!(epilogue.residual.is_none_or(|residual| residual.len() == y.len()), "residual of the wrong length");
    let y = Target::new(y);

    let macs = y_macs(problem);
    let blocks = channels.div_ceil(CHANNELS);
    let phases = problem.h.phases() * problem.w.phases();
    let rows = problem.images * problem.h.outputs(0);
    let wanted = (macs / PIECE_MACS).clamp(1, PIECES).div_ceil(blocks * phases);
    let row_blocks = wanted.min(rows);
    let work = |piece: usize| {
        let (rest, row_block) = (piece / row_blocks, piece % row_blocks);
        let (phase, block) = (rest / blocks, rest % blocks);
        let phase = [phase / problem.w.phases(), phase % problem.w.phases()];
        let height = problem.h.outputs(phase[0]);
        let rows = problem.images * height;
        let taps = (problem.h.taps(phase[0]), problem.w.taps(phase[1]));
        // Whole vectors in all blocks but the last.
        let part = |block: usize| (block * channels / blocks).next_multiple_of(16).min(channels);
        let first_channel = if block == 0 { 0 } else { part(block) };
        let last_channel = if block + 1 == blocks { channels } else { part(block + 1) };
        let weights = &packed[super::taps_before(problem, phase) * channels..];
        let strip =
            Strip { problem, kernels, phase, rows: taps.0, cols: taps.1, channels: [first_channel, last_channel], x, weights, epilogue, y };
        for row in row_block * rows / row_blocks..(row_block + 1) * rows / row_blocks {
            strip.row(row / height, row % height);
        }
    };
    let pieces = phases * blocks * row_blocks;
    if macs < PIECE_MACS { (0..pieces).for_each(work) } else { machine.threads.run(pieces, work) }
}

/// Multiply-adds of the problem.
fn y_macs(problem: &Problem) -> usize {
    let pixels = problem.images * problem.h.outputs(0) * problem.w.outputs(0);
    pixels * problem.groups * super::packed_taps(problem)
}

/// Some channels of the rows of one phase.
struct Strip<'a> {
    problem: &'a Problem,
    kernels: &'static Kernels,
    phase: [usize; 2],
    rows: AxisTaps,
    cols: AxisTaps,
    /// First channel and end.
    channels: [usize; 2],
    x: &'a [f32],
    /// From the first weight of this phase on.
    weights: &'a [f32],
    epilogue: &'a Epilogue<'a, f32>,
    y: Target,
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
    /// One output row: the pixels that see all columns of the kernel together, those at the edges one by one.
    fn row(&self, image: usize, row: usize) {
        let Problem { h, w, .. } = self.problem;
        let width = w.outputs(self.phase[1]);
        let rows = taps_inside(h, &self.rows, row);
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
        let Problem { h, w, input, output, groups: channels, .. } = self.problem;
        let first = self.channels[0];
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
            x: self.x.as_ptr().wrapping_add(x + first),
            x_tap: [self.rows.offset_step * input.row as isize, self.cols.offset_step * input.col as isize],
            x_step: w.step() * input.col,
            weights: self.weights.as_ptr().wrapping_add(weights),
            weight_tap: [columns * channels, *channels],
            taps: if nothing { [0, 0] } else { [rows[1] - rows[0], cols[1] - cols[0]] },
            tiles: 1,
            channels: self.channels[1] - first,
            y: self.y.pointer().wrapping_add(y),
            y_step: w.output_step() * output.col,
            bias: self.epilogue.bias.map_or(std::ptr::null(), |bias| bias[first..].as_ptr()),
            residual: self.epilogue.residual.map_or(std::ptr::null(), |residual| residual[y..].as_ptr()),
            relu: self.epilogue.relu,
        };
        let most = self.kernels.pixels.len();
        for (size, tiles) in [(most, count / most), (count % most, 1)] {
            if size == 0 || tiles == 0 {
                continue;
            }
            pixels.tiles = tiles;
            // SAFETY: the kernels were chosen by the token of their instructions. `run` checked the lengths of all slices.
            // All these pixels see these taps inside the image; their outputs, in these channels, belong to this piece
            // alone: pieces differ in phase, rows or channels.
            unsafe { self.kernels.pixels[size - 1](&pixels) };
            pixels.x = pixels.x.wrapping_add(size * tiles * pixels.x_step);
            pixels.y = pixels.y.wrapping_add(size * tiles * pixels.y_step);
            if !pixels.residual.is_null() {
                pixels.residual = pixels.residual.wrapping_add(size * tiles * pixels.y_step);
            }
        }
    }
}
