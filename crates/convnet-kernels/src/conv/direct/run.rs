//! Runs a [`Problem`]: cuts it into pieces, lists the pixels of each tile, calls the micro-kernel.
//!
//! The reduction (taps × channels) is done in blocks whose weights stay in the second-level cache; between blocks the
//! sums rest in the output. Within a block a tile of pixels meets one panel of filters after the other, so that its
//! pixels stay in the first-level cache.

use super::geometry::{AxisTaps, Problem};
use super::order::{Class, Order};
use super::ranges::product;
use super::short::{self, Short};
use crate::conv::Epilogue;
use crate::gemm::microkernel::Tile;
use crate::gemm::{Kernels, Target, ZEROS};
use crate::memory::Room;
use crate::stream;
use crate::{Isa, Machine};

/// Most pixels that a tile of any instruction set has.
const MAX_PIXELS: usize = 14;
/// Most taps that are listed at once.
const MAX_TAPS: usize = 32;
/// Most products that are added in registers before the sums go back to memory.
const DEPTH: usize = 576;
/// Numbers between copied pixels: not a multiple of what a cache set repeats after.
const COPY_STEP: usize = DEPTH + 16;
/// Pixels at this distance, or a multiple of it, share a set of a usual first-level cache, which has room for eight.
const CACHE_WAY_BYTES: usize = 4096;
/// Panels of filters that are worth a copy of their pixels.
const PANELS_OF_COPY: usize = 4;
/// Pixels that may share a set without displacing each other, beside all else that is read.
const MAX_PIXELS_OF_SET: usize = 8;
/// Numbers of a cache line.
const LINE: usize = 16;
/// Numbers of an output that no second-level cache holds.
const AFAR_NUMBERS: usize = 1 << 18;
/// Bytes of packed weights that a piece works with at a time: half of a usual second-level cache.
const WEIGHT_BYTES: usize = 384 << 10;
/// Bytes of the input of a stretch of pixels: a small part of a usual third-level cache.
const STRETCH_BYTES: usize = 4 << 20;
/// Pieces that a large problem is cut into.
pub(super) const PIECES: usize = 128;
/// Multiply-adds that are worth a piece of their own.
pub(super) const PIECE_MACS: usize = 1 << 18;

/// How a problem is cut. It depends on the problem and the instruction set alone.
struct Cut {
    /// Panels of filters in one group.
    panels: usize,
    /// Groups of panels in one group of filters.
    panel_groups: usize,
    /// Pixels of a piece.
    pixels: usize,
    /// Pieces along the pixels of a stretch.
    blocks: usize,
    /// Stretches of pixels that are done one after the other, so that all panels find their input in a cache.
    stretches: usize,
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

        let macs = product([taps.max(1), problem.channels, panels * kernels.panel(), pixels]);
        let wanted = (macs / PIECE_MACS).clamp(1, PIECES).div_ceil(problem.groups * phases);
        let together = (WEIGHT_BYTES / (block_taps * channels * kernels.panel() * 4)).clamp(1, panels);
        // What a tile copies should be read by several panels.
        let copied = conflicts(problem, kernels.pixels);
        let apart = if copied { panels.div_ceil(PANELS_OF_COPY) } else { panels };
        let panel_groups = panels.div_ceil(together).max(wanted.div_ceil(tiles).min(apart));
        let blocks = wanted.div_ceil(panel_groups).clamp(1, tiles);
        let pixels_of_piece = tiles.div_ceil(blocks) * kernels.pixels;
        let blocks = pixels.div_ceil(pixels_of_piece);
        // Threads begin with neighbouring pieces: each should have its own part of the larger operand.
        let input_bytes = problem.images.saturating_mul(problem.input.image * 4);
        let weight_bytes = product([taps, problem.channels, panels * kernels.panel(), 4]);
        let stretches = if input_bytes < weight_bytes { 1 } else { input_bytes.div_ceil(STRETCH_BYTES).next_multiple_of(2).min(blocks) };
        Self {
            panels,
            panel_groups,
            pixels: pixels_of_piece,
            blocks: blocks.div_ceil(stretches),
            stretches,
            depth: [block_taps, channels],
            small: product([macs, problem.groups, phases]) < PIECE_MACS,
        }
    }
}

/// Whether so many neighbours of a row displace each other in a first-level cache while they are read number by number.
#[inline(always)]
fn conflicts(problem: &Problem, pixels: usize) -> bool {
    let distance = problem.w.step() * problem.input.col * 4;
    let sets = CACHE_WAY_BYTES >> distance.trailing_zeros().min(CACHE_WAY_BYTES.trailing_zeros());
    pixels > MAX_PIXELS_OF_SET * sets
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

    // Sums that go to memory in parts would be read from there again.
    let one_block = taps <= cut.depth[0] && problem.channels <= cut.depth[1];
    let streamed = one_block && stream::is_large(y) && output.col.is_multiple_of(LINE) && problem.filters.is_multiple_of(LINE);
    let y = Target::new(y);
    if let Some(kernel) = short::kernel(problem, machine.isa) {
        return Short { problem, kernel, x, packed, epilogue, streamed, y }.run(machine);
    }
    let phases: usize = problem.h.phases() * problem.w.phases();
    let pieces = phases * problem.groups * cut.stretches * cut.panel_groups * cut.blocks;
    let work = |piece: usize| {
        let (rest, block) = (piece / cut.blocks, piece % cut.blocks);
        let (rest, panel_group) = (rest / cut.panel_groups, rest % cut.panel_groups);
        let (rest, stretch) = (rest / cut.stretches, rest % cut.stretches);
        let block = stretch * cut.blocks + block;
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
            streamed,
            y,
        };
        piece.run(machine.isa);
        if streamed {
            stream::fence(machine.isa);
        }
    };
    machine.threads.run_unless(cut.small, pieces, work);
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
    /// Whether the output is written past the caches.
    streamed: bool,
    y: Target,
}

/// A piece with room for `L` pixels in a tile, whose lists the compiler can then make with vector instructions.
struct Tiles<'a, const L: usize> {
    piece: &'a Piece<'a>,
    rows: AxisTaps,
    cols: AxisTaps,
    /// Whether no pixel of the class sees a tap in the padding.
    all_inside: bool,
    /// Where the neighbours of a pixel are in the input, and in the output.
    neighbours: [[isize; L]; 2],
    pixels: Pixels<L>,
    pointers: [[*const f32; L]; MAX_TAPS],
    /// Where the weights of each listed tap begin within a panel.
    tap_weights: [usize; MAX_TAPS],
    /// Taps that are listed.
    taps: usize,
    /// Whether the output is larger than caches.
    afar: bool,
    /// Copies of the pixels, where these lie so that they would displace each other from the cache.
    copies: Room<{ MAX_PIXELS * COPY_STEP }>,
}

/// The pixels of one tile: where each begins to look in the input, and where its output is. Beyond `count`, pixels look at
/// nothing.
struct Pixels<const L: usize> {
    count: usize,
    /// Whether all see all taps inside the image. Their rows and columns are not written then.
    inside: bool,
    row: [isize; L],
    col: [isize; L],
    input: [isize; L],
    output: [usize; L],
}

/// Copies `count` numbers, a cache line's worth at a time: a call of a general routine would take longer than these few.
///
/// # Safety
/// `from` can be read and `to` written that far, and they do not overlap.
#[inline(always)]
unsafe fn copy_line_by_line(from: *const f32, to: *mut f32, count: usize) {
    // SAFETY: each place is at most `count − LINE` further, where a line is left.
    let copy = |first: usize| unsafe {
        to.add(first).cast::<[f32; LINE]>().write_unaligned(from.add(first).cast::<[f32; LINE]>().read_unaligned())
    };
    if count < LINE {
        // SAFETY: as the caller promises.
        return unsafe { std::ptr::copy_nonoverlapping(from, to, count) };
    }
    (0..count / LINE).for_each(|line| copy(line * LINE));
    // The last line may overlap the one before.
    copy(count - LINE);
}

/// Multiples of a distance: those of neighbours of one row.
#[inline(always)]
fn multiples<const L: usize>(distance: isize) -> [isize; L] {
    std::array::from_fn(|p| p as isize * distance)
}

/// A position that is outside of every image, with any tap added to it.
const NOWHERE: isize = isize::MIN / 2;

impl Piece<'_> {
    /// Runs the piece with the instructions that the kernels were chosen for.
    fn run(&self, isa: Isa) {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn avx512(piece: &Piece<'_>) {
            Tiles::<16>::new(piece).run();
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        fn avx2(piece: &Piece<'_>) {
            Tiles::<8>::new(piece).run();
        }
        if self.pixels[0] == self.pixels[1] {
            return;
        }
        match isa {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token exists only where the CPU has these instructions.
            Isa::Avx512(_) | Isa::Amx(_) => unsafe { avx512(self) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx2(_) => unsafe { avx2(self) },
            _ => Tiles::<8>::new(self).run(),
        }
    }
}

impl<'a, const L: usize> Tiles<'a, L> {
    #[inline(always)]
    fn new(piece: &'a Piece<'a>) -> Self {
        let Problem { h, w, input, output, .. } = piece.problem;
        let (rows, cols) = (h.taps(piece.phase[0]), w.taps(piece.phase[1]));
        Self {
            piece,
            rows,
            cols,
            all_inside: false,
            neighbours: [multiples((w.step() * input.col) as isize), multiples((w.output_step() * output.col) as isize)],
            pixels: Pixels { count: 0, inside: false, row: [NOWHERE; L], col: [NOWHERE; L], input: [0; L], output: [0; L] },
            pointers: [[std::ptr::null(); L]; MAX_TAPS],
            tap_weights: [0; MAX_TAPS],
            taps: 0,
            afar: !piece.streamed && piece.problem.images * piece.problem.output.image > AFAR_NUMBERS,
            copies: Room::new(),
        }
    }

    #[inline(always)]
    fn run(&mut self) {
        let Piece { problem, kernels, pixels: [from, to], depth, .. } = *self.piece;
        let taps = self.rows.range.count * self.cols.range.count;
        let tap_blocks = taps.div_ceil(depth[0]).max(1);
        let channel_blocks = problem.channels.div_ceil(depth[1]);
        let order = Order::new(problem, self.piece.phase, kernels.pixels);
        for block in 0..tap_blocks * channel_blocks {
            let (tap_block, channel_block) = (block / channel_blocks, block % channel_blocks);
            let tap_range = [tap_block * depth[0], ((tap_block + 1) * depth[0]).min(taps)];
            let first = channel_block * depth[1];
            let channels = depth[1].min(problem.channels - first);
            let last = block + 1 == tap_blocks * channel_blocks;
            for class in order.classes() {
                let (from, to) = (from.max(class.pixels[0]), to.min(class.pixels[1]));
                let tiles = to.saturating_sub(from).div_ceil(kernels.pixels);
                self.all_inside = self.rows.all_inside(&problem.h, class.first[0], class.size[0])
                    && self.cols.all_inside(&problem.w, class.first[1], class.size[1]);
                for tile in 0..tiles {
                    let begin = from + tile * (to - from) / tiles;
                    let end = from + (tile + 1) * (to - from) / tiles;
                    self.locate(&class, begin, end);
                    self.list(tap_range, first);
                    if conflicts(problem, self.pixels.count) {
                        self.copy(channels);
                    }
                    // More taps than one mostly find what earlier tiles have read.
                    let ahead = (self.taps == 1 && end < to).then(|| self.input_of(class.place(end)) + first as isize);
                    self.multiply(channels, ahead, block > 0, last);
                }
            }
        }
    }

    /// Finds the pixels `begin..end` of a class.
    #[inline(always)]
    fn locate(&mut self, class: &Class, begin: usize, end: usize) {
        let (piece, pixels) = (self.piece, &mut self.pixels);
        let Problem { h, w, input, output, .. } = piece.problem;
        let [mut image, mut row, mut col] = class.place(begin);
        let [end_row, end_col] = [0, 1].map(|axis| class.first[axis] + class.size[axis]);
        let (row_step, col_step) = (h.output_step() * output.row, w.output_step() * output.col);
        let first_output = piece.phase[0] * output.row + piece.phase[1] * output.col;
        let first_input = (piece.group * input.group) as isize;
        let x_step = w.step() as isize;
        pixels.count = end - begin;
        pixels.inside = self.all_inside;
        let mut done = 0;
        while done < pixels.count {
            // The pixels of one row.
            let iy = (row * h.step()) as isize + self.rows.offset;
            let ix = (col * w.step()) as isize + self.cols.offset;
            let start = first_input + (image * input.image) as isize + iy * input.row as isize + ix * input.col as isize;
            let place = first_output + image * output.image + row * row_step + col * col_step;
            let count = (pixels.count - done).min(end_col - col);
            if done == 0 {
                // All of a row are written, since that takes fewer instructions than some of them.
                for p in 0..L {
                    pixels.input[p] = start + self.neighbours[0][p];
                    pixels.output[p] = place.wrapping_add_signed(self.neighbours[1][p]);
                }
                if count == pixels.count {
                    pixels.inside |= self.rows.all_inside(h, row, 1) && self.cols.all_inside(w, col, count);
                }
            } else {
                for p in 0..count {
                    pixels.input[done + p] = start + self.neighbours[0][p];
                    pixels.output[done + p] = place + p * col_step;
                }
            }
            if !pixels.inside {
                if done == 0 {
                    pixels.row = [NOWHERE; L];
                }
                for p in 0..count {
                    pixels.row[done + p] = iy;
                    pixels.col[done + p] = ix + p as isize * x_step;
                }
            }
            done += count;
            (row, col) = (row + 1, class.first[1]);
            if row == end_row {
                (image, row) = (image + 1, class.first[0]);
            }
        }
    }

    /// Lists, for each tap of the range that any of the pixels sees, where each pixel reads it.
    #[inline(always)]
    fn list(&mut self, taps: [usize; 2], first: usize) {
        let Problem { h, w, input, channels, .. } = *self.piece.problem;
        let x = self.piece.x.as_ptr().wrapping_add(first);
        let zeros = ZEROS.as_ptr();
        self.taps = 0;
        let (mut row, mut col) = (0, 0);
        if taps[0] > 0 {
            (row, col) = (taps[0] / self.cols.range.count, taps[0] % self.cols.range.count);
        }
        for tap in taps[0]..taps[1] {
            let dy = row as isize * self.rows.offset_step;
            let dx = col as isize * self.cols.offset_step;
            let offset = dy * input.row as isize + dx * input.col as isize;
            let list = &mut self.pointers[self.taps];
            let mut seen = self.pixels.inside;
            if seen {
                let first = x.wrapping_offset(offset);
                for (pointer, place) in list.iter_mut().zip(self.pixels.input) {
                    *pointer = first.wrapping_offset(place);
                }
            } else {
                for (p, pointer) in list.iter_mut().enumerate() {
                    // A negative position becomes a large one.
                    let inside = ((self.pixels.row[p] + dy) as usize) < h.input && ((self.pixels.col[p] + dx) as usize) < w.input;
                    seen |= inside;
                    *pointer = if inside { x.wrapping_offset(self.pixels.input[p] + offset) } else { zeros };
                }
            }
            if seen {
                self.tap_weights[self.taps] = (tap * channels + first) * self.piece.kernels.panel();
                self.taps += 1;
            }
            col += 1;
            if col == self.cols.range.count {
                (row, col) = (row + 1, 0);
            }
        }
    }

    /// Where the first tap of this pixel looks.
    #[inline(always)]
    fn input_of(&self, [image, row, col]: [usize; 3]) -> isize {
        let Problem { h, w, input, .. } = self.piece.problem;
        let iy = (row * h.step()) as isize + self.rows.offset;
        let ix = (col * w.step()) as isize + self.cols.offset;
        (self.piece.group * input.group + image * input.image) as isize + iy * input.row as isize + ix * input.col as isize
    }

    /// Copies the channels of the listed taps to where the pixels do not displace each other.
    #[inline(always)]
    fn copy(&mut self, channels: usize) {
        for tap in 0..self.taps {
            for p in 0..self.pixels.count {
                let first = p * COPY_STEP + tap * channels;
                let copy = self.copies[first..first + channels].as_mut_ptr().cast::<f32>();
                // SAFETY: the pointer was listed with `channels` numbers behind it; the copy has room for them.
                unsafe { copy_line_by_line(self.pointers[tap][p], copy, channels) };
                self.pointers[tap][p] = copy;
            }
        }
    }

    /// Multiplies the listed pixels with all panels of the piece.
    #[inline(always)]
    fn multiply(&self, channels: usize, ahead: Option<isize>, accumulate: bool, last: bool) {
        let Piece { problem, kernels, group, panels, packed, epilogue, streamed, y, .. } = *self.piece;
        let (width, lanes) = (kernels.panel(), kernels.lanes);
        let panel_len = self.rows.range.count * self.cols.range.count * problem.channels * width;
        let all_panels = problem.filters.div_ceil(width);
        for panel in panels[0]..panels[1] {
            let start = (group * all_panels + panel) * panel_len;
            let filters = width.min(problem.filters - panel * width);
            let vectors = if filters > lanes { 2 } else { 1 };
            let filter = group * problem.filters + panel * width;
            let at_filter = |numbers: Option<&[f32]>| match numbers {
                Some(numbers) if last => numbers[filter..].as_ptr(),
                _ => std::ptr::null(),
            };
            let tile = Tile {
                pixels: self.pointers.as_ptr().cast(),
                pixels_step: L,
                tap_weights: self.tap_weights.as_ptr(),
                taps: self.taps,
                channels,
                ahead: ahead.filter(|_| panel == panels[0]).map_or(std::ptr::null(), |ahead| self.piece.x.as_ptr().wrapping_offset(ahead)),
                ahead_step: problem.w.step() * problem.input.col,
                outputs_afar: self.afar && !accumulate,
                weights: packed[start..start + panel_len].as_ptr(),
                outputs: self.pixels.output.as_ptr(),
                y: y.pointer().wrapping_add(filter),
                lanes: filters - (vectors - 1) * lanes,
                accumulate,
                bias: at_filter(epilogue.bias),
                residual: at_filter(epilogue.residual),
                relu: last && epilogue.relu,
                streamed,
            };
            // SAFETY: `kernels` was chosen by the token of its instructions. `run` checked the lengths of all slices. Every
            // pointer was listed for a pixel inside the image, with `channels` numbers of this group behind it, or points
            // to a copy of these or to `ZEROS`, which has as many. The outputs of these pixels and filters belong to
            // this piece alone: pieces differ in phase, pixels, group or panels.
            unsafe { kernels.tile(self.pixels.count, vectors)(&tile) }
        }
    }
}
