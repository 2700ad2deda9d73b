//! Runs a [`Problem`]: cuts it into pieces, lists the pixels of each tile, calls the micro-kernel.
//!
//! The reduction (taps × channels) is done in blocks whose weights stay in the second-level cache; between blocks the
//! sums rest in the output. Within a block a tile of pixels meets one panel of filters after the other, so that its
//! pixels stay in the first-level cache.

use super::geometry::{AxisTaps, Problem};
use crate::Machine;
use crate::conv::Epilogue;
use crate::gemm::microkernel::Tile;
use crate::gemm::{Kernels, Target, ZEROS};

/// Most pixels that a tile of any instruction set has.
const MAX_PIXELS: usize = 14;
/// Most taps that are listed at once.
const MAX_TAPS: usize = 32;
/// Most products that are added in registers before the sums go back to memory.
const DEPTH: usize = 768;
/// Bytes of packed weights that a piece works with at a time: half of a usual second-level cache.
const WEIGHT_BYTES: usize = 384 << 10;
/// Pieces that a large problem is cut into.
const PIECES: usize = 128;
/// Multiply-adds that are worth a piece of their own.
const PIECE_MACS: usize = 1 << 18;

/// How a problem is cut. It depends on the problem and the instruction set alone.
struct Cut {
    /// Panels of filters in one group.
    panels: usize,
    /// Groups of panels in one group of filters.
    panel_groups: usize,
    /// Pixels of a piece.
    pixels: usize,
    /// Pieces along the pixels.
    blocks: usize,
    /// Taps and channels of one block of the reduction.
    depth: [usize; 2],
    /// Whether all of it is less work than one piece should be.
    small: bool,
}

impl Cut {
    fn new(problem: &Problem, kernels: &Kernels) -> Self {
        let taps = problem.phases().map(|[h, w]| problem.h.taps(h).range.count * problem.w.taps(w).range.count).max().unwrap_or(0);
        let block_taps = taps.clamp(1, MAX_TAPS);
        let channels = (DEPTH / block_taps).clamp(16, ZEROS.len());
        let channels = problem.channels.div_ceil(problem.channels.div_ceil(channels));
        let panels = problem.filters.div_ceil(kernels.panel());
        let phases = problem.h.phases() * problem.w.phases();
        let pixels = problem.images * problem.h.outputs(0) * problem.w.outputs(0);
        let tiles = pixels.div_ceil(kernels.pixels);

        let macs = taps.max(1) * problem.channels * panels * kernels.panel() * pixels;
        let wanted = (macs / PIECE_MACS).clamp(1, PIECES).div_ceil(problem.groups * phases);
        let together = (WEIGHT_BYTES / (block_taps * channels * kernels.panel() * 4)).clamp(1, panels);
        let panel_groups = panels.div_ceil(together).max(wanted.div_ceil(tiles).min(panels));
        let blocks = wanted.div_ceil(panel_groups).clamp(1, tiles);
        let pixels_of_piece = tiles.div_ceil(blocks) * kernels.pixels;
        Self {
            panels,
            panel_groups,
            pixels: pixels_of_piece,
            blocks: pixels.div_ceil(pixels_of_piece),
            depth: [block_taps, channels],
            small: macs * problem.groups * phases < PIECE_MACS,
        }
    }
}

/// Computes `y` from `x`; the packed weights hold the phases one after the other.
///
/// # Panics
/// If a slice is shorter than the problem says.
pub(super) fn run(machine: &Machine, problem: &Problem, x: &[f32], packed: &[f32], epilogue: &Epilogue<'_, f32>, y: &mut [f32]) {
    let kernels = Kernels::of(machine.isa);
    let (input, output) = (problem.input, problem.output);
    assert!(x.len() >= problem.images * input.image && y.len() == problem.images * output.image, "image of the wrong length");
    assert!(epilogue.bias.is_none_or(|bias| bias.len() == problem.groups * problem.filters), "bias of the wrong length");
    assert!(epilogue.residual.is_none_or(|residual| residual.len() == y.len()), "residual of the wrong length");
    let cut = Cut::new(problem, kernels);
    let weight_taps = |axis: &super::geometry::ProblemAxis| (0..axis.phases()).map(|phase| axis.taps(phase).range.count).sum::<usize>();
    let taps = weight_taps(&problem.h) * weight_taps(&problem.w);
    let per_tap = problem.groups * cut.panels * problem.channels * kernels.panel();
    assert!(packed.len() >= taps * per_tap, "packed weights of the wrong length");

    let y = Target::new(y);
    let phases: usize = problem.h.phases() * problem.w.phases();
    let pieces = phases * problem.groups * cut.panel_groups * cut.blocks;
    let work = |piece: usize| {
        let (rest, block) = (piece / cut.blocks, piece % cut.blocks);
        let (rest, panel_group) = (rest / cut.panel_groups, rest % cut.panel_groups);
        let (phase, group) = (rest / problem.groups, rest % problem.groups);
        let phase = [phase / problem.w.phases(), phase % problem.w.phases()];
        let pixels = problem.images * problem.h.outputs(phase[0]) * problem.w.outputs(phase[1]);
        let part = |index: usize| index * cut.panels / cut.panel_groups;
        let piece = Piece {
            problem,
            kernels,
            phase,
            group,
            panels: [part(panel_group), part(panel_group + 1)],
            pixels: [(block * cut.pixels).min(pixels), ((block + 1) * cut.pixels).min(pixels)],
            depth: cut.depth,
            x,
            packed: &packed[taps_before(problem, phase) * per_tap..],
            epilogue,
            y,
        };
        piece.run();
    };
    if cut.small {
        // Waking the threads would take longer.
        (0..pieces).for_each(work);
    } else {
        machine.threads.run(pieces, work);
    }
}

/// Taps of all phases before this one.
fn taps_before(problem: &Problem, phase: [usize; 2]) -> usize {
    let count = |axis: &super::geometry::ProblemAxis, phases: usize| (0..phases).map(|phase| axis.taps(phase).range.count).sum::<usize>();
    count(&problem.h, phase[0]) * count(&problem.w, problem.w.phases()) + problem.h.taps(phase[0]).range.count * count(&problem.w, phase[1])
}

/// Some pixels and some panels of filters of one phase and one group.
struct Piece<'a> {
    problem: &'a Problem,
    kernels: &'static Kernels,
    phase: [usize; 2],
    group: usize,
    /// First panel and end.
    panels: [usize; 2],
    /// First pixel and end, counted over all images.
    pixels: [usize; 2],
    /// Most taps and channels in one block of the reduction.
    depth: [usize; 2],
    x: &'a [f32],
    /// From the first weight of this phase on.
    packed: &'a [f32],
    epilogue: &'a Epilogue<'a, f32>,
    y: Target,
}

/// The pixels of one tile: where each begins to look in the input, and where its output is.
struct Pixels {
    count: usize,
    row: [isize; MAX_PIXELS],
    col: [isize; MAX_PIXELS],
    input: [isize; MAX_PIXELS],
    output: [usize; MAX_PIXELS],
}

impl Piece<'_> {
    fn run(&self) {
        let [from, to] = self.pixels;
        if from == to {
            return;
        }
        let problem = self.problem;
        let (rows, cols) = (problem.h.taps(self.phase[0]), problem.w.taps(self.phase[1]));
        let taps = rows.range.count * cols.range.count;
        let tiles = (to - from).div_ceil(self.kernels.pixels);
        let tap_blocks = taps.div_ceil(self.depth[0]).max(1);
        let channel_blocks = problem.channels.div_ceil(self.depth[1]);
        let mut pixels = Pixels { count: 0, row: [0; MAX_PIXELS], col: [0; MAX_PIXELS], input: [0; MAX_PIXELS], output: [0; MAX_PIXELS] };
        let mut pointers = [std::ptr::null::<f32>(); MAX_PIXELS * MAX_TAPS];
        let mut tap_weights = [0; MAX_TAPS];
        for block in 0..tap_blocks * channel_blocks {
            let (tap_block, channel_block) = (block / channel_blocks, block % channel_blocks);
            let tap_range = [tap_block * self.depth[0], ((tap_block + 1) * self.depth[0]).min(taps)];
            let first = channel_block * self.depth[1];
            let channels = self.depth[1].min(problem.channels - first);
            let last = block + 1 == tap_blocks * channel_blocks;
            for tile in 0..tiles {
                let begin = from + tile * (to - from) / tiles;
                let end = from + (tile + 1) * (to - from) / tiles;
                self.locate(begin, end, &rows, &cols, &mut pixels);
                let taps = self.list(&pixels, &rows, &cols, tap_range, first, &mut pointers, &mut tap_weights);
                for panel in self.panels[0]..self.panels[1] {
                    self.call(&pixels, panel, &pointers, &tap_weights[..taps], channels, block > 0, last);
                }
            }
        }
    }

    /// Finds the pixels `begin..end`.
    fn locate(&self, begin: usize, end: usize, rows: &AxisTaps, cols: &AxisTaps, pixels: &mut Pixels) {
        let Problem { h, w, input, output, .. } = self.problem;
        let (height, width) = (h.outputs(self.phase[0]), w.outputs(self.phase[1]));
        let (mut image, rest) = (begin / (height * width), begin % (height * width));
        let (mut row, mut col) = (rest / width, rest % width);
        let first_output = self.phase[0] * output.row + self.phase[1] * output.col;
        pixels.count = end - begin;
        for p in 0..pixels.count {
            let iy = (row * h.step()) as isize + rows.offset;
            let ix = (col * w.step()) as isize + cols.offset;
            pixels.row[p] = iy;
            pixels.col[p] = ix;
            pixels.input[p] = (image * input.image + self.group * input.group) as isize + iy * input.row as isize + ix * input.col as isize;
            pixels.output[p] =
                first_output + image * output.image + row * h.output_step() * output.row + col * w.output_step() * output.col;
            col += 1;
            if col == width {
                (col, row) = (0, row + 1);
                if row == height {
                    (row, image) = (0, image + 1);
                }
            }
        }
    }

    /// Lists, for each tap of the range that any of the pixels sees, where each pixel reads it. Returns how many taps.
    #[allow(clippy::too_many_arguments)]
    fn list(
        &self,
        pixels: &Pixels,
        rows: &AxisTaps,
        cols: &AxisTaps,
        taps: [usize; 2],
        first: usize,
        pointers: &mut [*const f32; MAX_PIXELS * MAX_TAPS],
        tap_weights: &mut [usize; MAX_TAPS],
    ) -> usize {
        let Problem { h, w, input, channels, .. } = self.problem;
        let x = self.x.as_ptr().wrapping_add(first);
        let mut count = 0;
        for tap in taps[0]..taps[1] {
            let dy = (tap / cols.range.count) as isize * rows.offset_step;
            let dx = (tap % cols.range.count) as isize * cols.offset_step;
            let offset = dy * input.row as isize + dx * input.col as isize;
            let list = &mut pointers[count * pixels.count..(count + 1) * pixels.count];
            let mut seen = false;
            for (p, pointer) in list.iter_mut().enumerate() {
                // A negative position becomes a large one.
                let inside = ((pixels.row[p] + dy) as usize) < h.input && ((pixels.col[p] + dx) as usize) < w.input;
                seen |= inside;
                *pointer = if inside { x.wrapping_offset(pixels.input[p] + offset) } else { ZEROS.as_ptr() };
            }
            if seen {
                tap_weights[count] = (tap * channels + first) * self.kernels.panel();
                count += 1;
            }
        }
        count
    }

    /// Multiplies the listed pixels with one panel of filters.
    #[allow(clippy::too_many_arguments)]
    fn call(
        &self,
        pixels: &Pixels,
        panel: usize,
        pointers: &[*const f32; MAX_PIXELS * MAX_TAPS],
        tap_weights: &[usize],
        channels: usize,
        accumulate: bool,
        last: bool,
    ) {
        let problem = self.problem;
        let (width, lanes) = (self.kernels.panel(), self.kernels.lanes);
        let panels = problem.filters.div_ceil(width);
        let panel_len = problem.h.taps(self.phase[0]).range.count * problem.w.taps(self.phase[1]).range.count * problem.channels * width;
        let start = (self.group * panels + panel) * panel_len;
        let filters = width.min(problem.filters - panel * width);
        let vectors = filters.div_ceil(lanes);
        let filter = self.group * problem.filters + panel * width;
        let at_filter = |numbers: Option<&[f32]>| match numbers {
            Some(numbers) if last => numbers[filter..].as_ptr(),
            _ => std::ptr::null(),
        };
        let tile = Tile {
            pixels: pointers.as_ptr(),
            tap_weights: tap_weights.as_ptr(),
            taps: tap_weights.len(),
            channels,
            weights: self.packed[start..start + panel_len].as_ptr(),
            outputs: pixels.output.as_ptr(),
            y: self.y.pointer().wrapping_add(filter),
            lanes: filters - (vectors - 1) * lanes,
            accumulate,
            bias: at_filter(self.epilogue.bias),
            residual: at_filter(self.epilogue.residual),
            relu: last && self.epilogue.relu,
        };
        // SAFETY: `kernels` was chosen by the token of its instructions. `run` checked the lengths of all slices. Every
        // pointer was listed for a pixel inside the image, with `channels` numbers of this group behind it, or points
        // to `ZEROS`, which has as many. The outputs of these pixels and filters belong to this piece alone: pieces
        // differ in phase, pixels, group or panels.
        unsafe { self.kernels.tile(pixels.count, vectors)(&tile) }
    }
}
