//! The gradient of the weights of a 1×1 kernel: a matrix product, summed over pixels, of the input's channels with the
//! output gradients.
//!
//! Each number is used by few others before the next pixel's come, so all depends on where it is read from. A piece of work
//! has some channels, some panels of filters and a range of the pixels. It takes a chunk of its pixels at a time: the
//! output gradients of each panel are copied side by side, then each tile of channels meets all panels. Meanwhile what
//! comes next is asked for, line by line: the next tile, while nobody has asked for it yet, and the next chunk.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::ranges::{Place, Ranges, copy_rows, part, product};
use crate::conv::ConvShape;
use crate::gemm::microkernel::Outer;
use crate::gemm::{Kernels, Target};
use crate::memory::Room;
use crate::{Isa, Machine};

/// Pixels of a chunk at most.
const CHUNK: usize = 256;
/// Filters of a piece at most.
const FILTERS: usize = 128;
/// Numbers of the input that are copied side by side for a chunk: 128 KiB.
const COPIED: usize = 32 << 10;
/// Bytes of an input that hardly any cache holds.
const AFAR: usize = 32 << 20;
/// Sums of a piece: 192 KiB, which stay in the second-level cache beside the chunk and the next one.
const SUMS: usize = 48 << 10;
/// Pieces that a large problem is cut into.
const PIECES: usize = 32;
/// Pixels of a range at least, so that adding the partial sums costs little.
const RANGE_PIXELS: usize = 1024;
/// Tiles of a block, so that copying its output gradients costs little.
const LEAST_TILES: usize = 4;
/// Multiply-adds that are worth a piece of their own.
const PIECE_MACS: usize = 1 << 19;
/// Numbers of a cache line.
const LINE: usize = 16;

/// Whether this convolution is one of pixels, with at least two panels of filters.
pub(super) fn pays(shape: &ConvShape, isa: Isa) -> bool {
    let (h, w) = (shape.window().h, shape.window().w);
    let is_pixel = h.is_pixel() && w.is_pixel();
    is_pixel && shape.group_filters() > Kernels::of(isa).panel() && Units::of(shape).pixels <= CHUNK
}

/// What a chunk has a whole number of: pixels, or output rows where a stride keeps the rows of the input apart.
#[derive(Clone, Copy)]
struct Units {
    /// Units of all images.
    count: usize,
    /// Pixels of a unit.
    pixels: usize,
    /// From one unit to the next in the input, within an image.
    step: usize,
    /// Whether all units follow each other in the input, as one row.
    joined: bool,
}

impl Units {
    fn of(shape: &ConvShape) -> Self {
        let (h, w) = (shape.window().h, shape.window().w);
        if (h.stride, w.stride) == (1, 1) {
            return Self { count: shape.n() * shape.oh() * shape.ow(), pixels: 1, step: shape.c(), joined: true };
        }
        Self { count: shape.n() * shape.oh(), pixels: shape.ow(), step: h.stride * shape.w() * shape.c(), joined: false }
    }
}

/// How the work is cut; it depends on the problem and the instruction set alone.
pub(super) struct Plan {
    units: Units,
    /// Ranges of units.
    ranges: Ranges,
    /// Panels of filters in one group.
    panels: usize,
    /// Groups of panels.
    panel_groups: usize,
    /// Tiles of channels in one group.
    tiles: usize,
    /// Blocks of tiles.
    blocks: usize,
    /// Whether the channels of a chunk's pixels are copied side by side.
    copied: bool,
    small: bool,
}

impl Plan {
    pub fn new(shape: &ConvShape, isa: Isa) -> Self {
        let kernels = Kernels::of(isa);
        let panel = kernels.panel();
        let units = Units::of(shape);
        let pixels = units.count * units.pixels;
        let (panels, tiles) = (shape.group_filters().div_ceil(panel), shape.group_channels().div_ceil(kernels.pixels));
        let macs = product([pixels, shape.group_channels(), panels * panel, shape.groups()]);
        let wanted = (macs / PIECE_MACS).clamp(1, PIECES);

        let mut panel_groups = panels.div_ceil(FILTERS / panel);
        let mut blocks = tiles.div_ceil(SUMS / FILTERS.min(panel * panels) / kernels.pixels);
        let ranges = wanted.div_ceil(shape.groups() * panel_groups * blocks).min((pixels / RANGE_PIXELS).clamp(1, units.count));
        // What the ranges cannot give, fewer panels and then fewer channels have to.
        let missing = |pieces: usize| wanted.div_ceil(shape.groups() * ranges * pieces);
        panel_groups = panel_groups.max(missing(blocks).min(panels));
        blocks = blocks.max(missing(panel_groups).min(tiles.div_ceil(LEAST_TILES)));
        let ranges = Ranges::new(shape, panel, ranges);
        let mut plan = Self { units, ranges, panels, panel_groups, tiles, blocks, copied: false, small: macs < PIECE_MACS };
        // Where the input comes from memory and a stride leaves gaps between the pixels, asking for it in advance does not help.
        if !units.joined && product([shape.input_len(), size_of::<f32>()]) >= AFAR {
            plan.copy_pixels(shape);
        }
        plan
    }

    /// Channels of a block of tiles.
    fn channels(&self, shape: &ConvShape, block: usize) -> Range<usize> {
        let tiles = part(block, self.blocks, self.tiles);
        let first = |tile: usize| tile * shape.group_channels() / self.tiles;
        first(tiles.start)..first(tiles.end)
    }

    /// Has the pixels of each chunk copied, if there is room for their channels.
    fn copy_pixels(&mut self, shape: &ConvShape) {
        self.copied = (0..self.blocks).all(|block| self.channels(shape, block).len() * CHUNK <= COPIED);
    }

    /// Numbers of working memory for the partial sums.
    pub fn scratch_len(&self) -> usize {
        self.ranges.scratch_len()
    }

    /// Adds to the gradient of the weights `dw`.
    ///
    /// # Panics
    /// If a slice is shorter than the problem says.
    pub fn run(&self, machine: &Machine, shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &mut [f32]) {
        assert!(x.len() == shape.input_len() && dy.len() == shape.output_len(), "image of the wrong length");
        let kernels = Kernels::of(machine.isa);
        let results = self.ranges.results(shape, dw, scratch);
        let work = |piece: usize| {
            let (rest, block) = (piece / self.blocks, piece % self.blocks);
            let (rest, panels) = (rest / self.panel_groups, rest % self.panel_groups);
            let (range, group) = (rest / shape.groups(), rest % shape.groups());
            Piece {
                plan: self,
                shape,
                kernels,
                range,
                group,
                panels: part(panels, self.panel_groups, self.panels),
                channels: self.channels(shape, block),
                tiles: part(block, self.blocks, self.tiles).len(),
                x,
                dy,
                results,
            }
            .run();
        };
        let pieces = self.ranges.count * shape.groups() * self.panel_groups * self.blocks;
        machine.threads.run_unless(self.small, pieces, work);
        self.ranges.add_up(&machine.threads, scratch, dw);
    }
}

/// A range of pixels, some channels and some panels of filters of one group.
struct Piece<'a> {
    plan: &'a Plan,
    shape: &'a ConvShape,
    kernels: &'static Kernels,
    range: usize,
    group: usize,
    panels: Range<usize>,
    /// Channels of the group.
    channels: Range<usize>,
    /// Tiles that the channels are divided into.
    tiles: usize,
    x: &'a [f32],
    dy: &'a [f32],
    /// The gradient of the weights, or the partial sums.
    results: Target,
}

/// Some units of a piece.
struct Chunk {
    units: Range<usize>,
    /// Whether it is the first one of the piece: the sums hold nothing yet, and nobody has asked for its numbers.
    first: bool,
    /// Where the next one begins.
    next: Option<usize>,
}

/// Where a chunk's pixels are.
struct Input<'a> {
    /// Where each row of them begins, from `x`, and in the copies of its gradients.
    rows: &'a [[usize; 2]],
    /// The first channel of the piece.
    x: *const f32,
    /// From one pixel of a row to the next.
    step: usize,
}

impl Piece<'_> {
    fn run(&self) {
        let mut sums = Room::<SUMS>::new();
        let mut gradients = Room::<{ CHUNK * FILTERS }>::new();
        let mut numbers = Room::<COPIED>::new();
        let (plan, width) = (self.plan, self.kernels.panel());
        let panel_sums = self.channels.len() * width;
        assert!(self.panels.len() * panel_sums <= SUMS && self.panels.len() * width <= FILTERS, "more sums than a piece has room for");
        let units = part(self.range, plan.ranges.count, plan.units.count);
        let chunks = units.len().div_ceil(CHUNK / plan.units.pixels);
        for chunk in 0..chunks {
            let of_units = |chunk: usize| {
                let chunk = part(chunk, chunks, units.len());
                units.start + chunk.start..units.start + chunk.end
            };
            let chunk = Chunk { units: of_units(chunk), first: chunk == 0, next: (chunk + 1 < chunks).then(|| of_units(chunk + 1).start) };
            let pixels = chunk.units.start * plan.units.pixels..chunk.units.end * plan.units.pixels;
            for (panel, copies) in self.panels.clone().zip(gradients.chunks_exact_mut(CHUNK * width)) {
                let dy = &self.dy[self.output(pixels.start, panel)..];
                copy_rows(self.kernels, (pixels.len(), self.filters(panel)), dy, self.shape.k(), copies, width);
            }
            let mut rows = [[0; 2]; CHUNK];
            let mut input = Input {
                rows: self.rows(&chunk.units, &mut rows),
                x: self.x.as_ptr().wrapping_add(self.channels.start),
                step: self.x_step(),
            };
            let side_by_side = [[0; 2]];
            if plan.copied {
                self.copy(&input, &mut numbers);
                input = Input { rows: &side_by_side, x: numbers.as_ptr().cast(), step: self.channels.len() };
            }
            for tile in 0..self.tiles {
                for panel in 0..self.panels.len() {
                    let channels = part(tile, self.tiles, self.channels.len());
                    let gradients = gradients[panel * CHUNK * width..].as_ptr().cast();
                    let sums = sums[panel * panel_sums + channels.start * width..].as_mut_ptr().cast();
                    self.multiply(&chunk, &input, (tile, channels), panel, gradients, sums);
                }
            }
        }
        for (index, panel) in self.panels.clone().enumerate() {
            // SAFETY: the first chunk has written all sums of this panel.
            let sums = unsafe { std::slice::from_raw_parts(sums[index * panel_sums..].as_ptr().cast::<f32>(), panel_sums) };
            let place = Place { range: self.range, group: self.group, panel, taps: 0..1, channels: self.channels.clone() };
            // SAFETY: `Plan::run` asked for the results; this range of these filters and channels is this piece's own.
            unsafe { plan.ranges.deliver(self.results, place, sums) };
        }
    }

    /// From one pixel to the next in the input.
    fn x_step(&self) -> usize {
        self.shape.window().w.stride * self.shape.c()
    }

    /// Copies the channels of a chunk's pixels, side by side.
    fn copy(&self, input: &Input<'_>, numbers: &mut [MaybeUninit<f32>]) {
        let mut places = numbers.chunks_exact_mut(self.channels.len());
        for [first, _] in input.rows {
            for (col, place) in (0..self.plan.units.pixels).zip(&mut places) {
                let first = self.channels.start + first + col * input.step;
                let (lines, rest) = self.x[first..first + place.len()].as_chunks::<LINE>();
                let (to_lines, to_rest) = place.as_chunks_mut::<LINE>();
                to_lines.iter_mut().zip(lines).for_each(|(to, line)| *to = line.map(MaybeUninit::new));
                to_rest.iter_mut().zip(rest).for_each(|(to, &number)| *to = MaybeUninit::new(number));
            }
        }
    }

    /// Adds the products of a tile with a panel, whose output gradients were copied and whose sums are given.
    fn multiply(
        &self,
        chunk: &Chunk,
        input: &Input<'_>,
        (tile, channels): (usize, Range<usize>),
        panel: usize,
        gradients: *const f32,
        sums: *mut f32,
    ) {
        let (lanes, units) = (self.kernels.lanes, self.plan.units);
        let vectors = self.filters(self.panels.start + panel).div_ceil(lanes);
        // The first panel asks for what it needs soonest; a line asked for is that in which the other tile ends.
        let asks = !self.plan.copied;
        let next_tile = if asks && chunk.first && panel == 0 && tile + 1 < self.tiles { 2 * self.kernels.pixels - 1 } else { 0 };
        let next_chunk = match chunk.next {
            Some(next) if asks && panel == usize::from(chunk.first) => (next - chunk.units.start) * units.step + channels.len() - 1,
            _ => 0,
        };
        let (later, later_step) = self.next_gradients(chunk, tile * self.panels.len() + panel);
        let outer = Outer {
            x: input.x.wrapping_add(channels.start),
            places: std::ptr::null(),
            dy: gradients,
            rows: input.rows.as_ptr(),
            row_count: input.rows.len(),
            cols: chunk.units.len() * units.pixels / input.rows.len(),
            x_step: input.step,
            dy_step: self.kernels.panel(),
            ahead: [next_tile, next_chunk],
            later,
            later_step,
            lanes,
            sums,
            sums_step: self.kernels.panel(),
            filled: true,
            accumulate: !chunk.first,
        };
        // SAFETY: `kernels` was chosen by the token of its instructions. The rows are those of the chunk's units, whose pixels
        // the input has. The gradients of this panel were copied for all pixels of the chunk, in whole vectors. The
        // sums have room for all channels of each panel, which was checked; the first chunk writes them, over the whole width.
        unsafe { self.kernels.outer(channels.len(), vectors, false)(&outer) };
    }

    /// Where each row of the chunk's pixels begins in the input, and in the copies of its gradients.
    fn rows<'r>(&self, units: &Range<usize>, rows: &'r mut [[usize; 2]; CHUNK]) -> &'r [[usize; 2]] {
        let (shape, per_unit) = (self.shape, self.plan.units.pixels);
        let count = if self.plan.units.joined { 1 } else { units.len() };
        for (index, row) in rows[..count].iter_mut().enumerate() {
            let (line, col) = ((units.start + index) * per_unit / shape.ow(), (units.start + index) * per_unit % shape.ow());
            let line = line / shape.oh() * shape.h() + line % shape.oh() * shape.window().h.stride;
            let first = (line * shape.w() + col) * shape.c() + self.group * shape.group_channels();
            *row = [first, index * per_unit * self.kernels.panel()];
        }
        &rows[..count]
    }

    /// Filters of a panel.
    fn filters(&self, panel: usize) -> usize {
        let width = self.kernels.panel();
        width.min(self.shape.group_filters() - panel * width)
    }

    /// The first filter of a panel at a pixel of the output.
    fn output(&self, pixel: usize, panel: usize) -> usize {
        pixel * self.shape.k() + self.group * self.shape.group_filters() + panel * self.kernels.panel()
    }

    /// The line of output gradients that call number `call` of a chunk asks for at the first pixel of the next chunk, and the
    /// distance to the next pixel's.
    fn next_gradients(&self, chunk: &Chunk, call: usize) -> (*const f32, usize) {
        let lines = self.panels.len() * self.kernels.panel() / LINE;
        match chunk.next {
            Some(next) if call < lines => {
                let place = self.output(next * self.plan.units.pixels, self.panels.start) + call * LINE;
                (self.dy.as_ptr().wrapping_add(place), self.shape.k())
            }
            _ => (std::ptr::null(), 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::{Axis, Window};

    #[test]
    fn a_copy_of_the_pixels_changes_no_bit() {
        for (images, channels, size, filters, stride, groups) in [(3, 24, 9, 80, 2, 1), (2, 26, 23, 70, 3, 1), (40, 6, 8, 140, 2, 2)] {
            let window = Window::square(Axis { stride, ..Axis::new(1) });
            let shape = ConvShape::new(images, channels, [size, size], filters, window, groups).unwrap();
            let numbers =
                |length: usize, period: usize| -> Vec<f32> { (0..length).map(|place| (place % period) as f32 / 7.0 - 0.9).collect() };
            let (x, dy) = (numbers(shape.input_len(), 13), numbers(shape.output_len(), 17));
            for isa in Isa::available() {
                assert!(pays(&shape, isa));
                let machine = Machine::new(isa, 2);
                let sums = |plan: &Plan| {
                    let (mut dw, mut scratch) = (vec![0.5; shape.weight_len()], vec![f32::NAN; plan.scratch_len()]);
                    plan.run(&machine, &shape, &x, &dy, &mut dw, &mut scratch);
                    dw
                };
                let mut plan = Plan::new(&shape, isa);
                assert!(!plan.copied, "a small input stays where it is");
                let expected = sums(&plan);
                plan.copy_pixels(&shape);
                assert!(plan.copied);
                assert_eq!(sums(&plan), expected, "{shape:?} {isa:?}");
            }
        }
    }
}
