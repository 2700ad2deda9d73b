//! The gradient of the weights: for each tap, the sum over pixels of input channels times output gradients.
//!
//! A piece of work has some taps and channels of one panel of filters, few enough for all its sums to stay in the
//! second-level cache, and a range of the pixels. It walks through its pixels a chunk at a time, whose output gradients
//! it first copies side by side.

use std::ops::Range;

use super::ranges::{Place, Ranges, copy_rows, part, product};
use crate::conv::ConvShape;
use crate::gemm::microkernel::Outer;
use crate::gemm::{Kernels, Target};
use crate::memory::Room;
use crate::{Isa, Machine};

/// Sums that a piece holds: 128 KiB.
const SUMS: usize = 1 << 15;
/// Output gradients of a chunk that are copied side by side: 24 KiB.
const COPIES: usize = 6 << 10;
/// Most rows of a chunk.
const MAX_ROWS: usize = 128;
/// Pieces that a large problem is cut into.
const PIECES: usize = 96;
/// Pixels that a range has at least, so that adding the partial sums costs little.
const RANGE_PIXELS: usize = 1024;
/// Multiply-adds that are worth a piece of their own.
const PIECE_MACS: usize = 1 << 18;
/// Most numbers of the input that a tile of any instruction set takes.
const MAX_PLACES: usize = 14;
/// Numbers of an input that no second-level cache holds.
const AFAR_NUMBERS: usize = 1 << 18;
/// Pixels by which the numbers of such an input are asked for in advance, while no earlier chunk has done so.
const AHEAD_PIXELS: usize = 16;
/// Numbers of a cache line.
const LINE: usize = 16;
/// Tiles of one chunk from which on copying its output gradients pays.
const COPY_TILES: usize = 4;

/// How the pixels are walked through.
#[derive(Clone, Copy)]
enum Walk {
    /// Output row by output row, tap by tap; taps in the padding are left out.
    Rows,
    /// Pixels at this distance in the input, without rows: a 1×1 kernel, or outputs of a single pixel.
    Flat(usize),
    /// Output row by output row with all taps at once, in an image of this height and width that needs no padding.
    AllTaps([usize; 2]),
}

/// How the work is cut; it depends on the problem and the instruction set alone.
pub(super) struct Plan {
    walk: Walk,
    /// Rows (or pixels, when flat) of all images.
    units: usize,
    /// Pixels of a unit.
    unit_pixels: usize,
    /// Units of a chunk.
    chunk: usize,
    /// Ranges of units.
    ranges: Ranges,
    /// Panels of filters in one group.
    panels: usize,
    /// Blocks of taps.
    tap_blocks: usize,
    /// Blocks of the channels of one group.
    channel_blocks: usize,
    small: bool,
}

/// Whether the sums of all taps of all channels fit into one piece.
pub(super) fn all_taps_fit(shape: &ConvShape, isa: Isa) -> bool {
    shape.window().taps() * shape.group_channels() * Kernels::of(isa).panel() <= SUMS
}

impl Plan {
    /// `padded` is the size of the image in which all taps are inside, if the image is read so.
    pub fn new(shape: &ConvShape, isa: Isa, padded: Option<[usize; 2]>) -> Self {
        let kernels = Kernels::of(isa);
        let (window, panel) = (shape.window(), kernels.panel());
        let pointwise = [window.h, window.w].iter().all(|axis| (axis.size, axis.stride, axis.pad_before, axis.pad_after) == (1, 1, 0, 0));
        let walk = match padded {
            Some(size) => Walk::AllTaps(size),
            None if pointwise => Walk::Flat(shape.c()),
            None if shape.oh() * shape.ow() == 1 => Walk::Flat(shape.h() * shape.w() * shape.c()),
            None => Walk::Rows,
        };
        let (units, unit_pixels) = match walk {
            Walk::Flat(_) => (shape.n() * shape.oh() * shape.ow(), 1),
            _ => (shape.n() * shape.oh(), shape.ow()),
        };
        let most = if matches!(walk, Walk::Flat(_)) { usize::MAX } else { MAX_ROWS };
        let chunk = (COPIES / panel / unit_pixels).clamp(1, most).min(units);

        let (taps, channels) = (window.taps(), shape.group_channels());
        let panels = shape.group_filters().div_ceil(panel);
        let macs = product([units * unit_pixels, taps, channels, panels * panel, shape.groups()]);
        let wanted = (macs / PIECE_MACS).clamp(1, PIECES);
        let (mut tap_blocks, mut channel_blocks) = (1, 1);
        if padded.is_none() {
            let together = (SUMS / panel / channels.min(2 * kernels.pixels)).clamp(1, taps);
            tap_blocks = taps.div_ceil(together);
            channel_blocks = channels.div_ceil(SUMS / panel / taps.div_ceil(tap_blocks));
        }
        let most_ranges = (units * unit_pixels / RANGE_PIXELS).clamp(1, units);
        let cells = shape.groups() * panels * tap_blocks;
        if padded.is_none() {
            // What the ranges cannot give, smaller blocks of channels have to.
            let blocks = wanted.div_ceil(cells * most_ranges).min(channels.div_ceil(kernels.pixels));
            channel_blocks = channel_blocks.max(blocks);
        }
        let ranges = wanted.div_ceil(cells * channel_blocks).min(most_ranges);
        let ranges = Ranges::new(shape, panel, ranges);
        let small = macs < PIECE_MACS;
        Self { walk, units, unit_pixels, chunk, ranges, panels, tap_blocks, channel_blocks, small }
    }

    /// Numbers of the input between pixels that are so many units apart.
    fn distance(&self, shape: &ConvShape, units: usize) -> usize {
        let row = shape.window().h.stride * shape.c();
        match self.walk {
            Walk::Rows => units * row * shape.w(),
            Walk::Flat(step) => units * step,
            Walk::AllTaps([_, width]) => units * row * width,
        }
    }

    /// Numbers of working memory for the partial sums.
    pub fn scratch_len(&self) -> usize {
        self.ranges.scratch_len()
    }

    /// Adds to the gradient of the weights `dw`. `x` is the input, or its padded copy.
    pub fn run(&self, machine: &Machine, shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &mut [f32]) {
        let x_len = match self.walk {
            Walk::AllTaps([height, width]) => shape.n() * height * width * shape.c(),
            _ => shape.input_len(),
        };
        assert!(x.len() >= x_len && dy.len() == shape.output_len(), "image of the wrong length");
        let kernels = Kernels::of(machine.isa);
        let blocks = self.tap_blocks * self.channel_blocks;
        let pieces = self.ranges.count * shape.groups() * self.panels * blocks;
        let results = self.ranges.results(shape, dw, scratch);
        let (taps, channels) = (shape.window().taps(), shape.group_channels());
        let work = |piece: usize| {
            let (rest, block) = (piece / blocks, piece % blocks);
            let (rest, panel) = (rest / self.panels, rest % self.panels);
            let (range, group) = (rest / shape.groups(), rest % shape.groups());
            let piece = Piece {
                plan: self,
                shape,
                kernels,
                range,
                group,
                panel,
                taps: part(block / self.channel_blocks, self.tap_blocks, taps),
                channels: part(block % self.channel_blocks, self.channel_blocks, channels),
                x,
                dy,
                results,
            };
            piece.run(part(range, self.ranges.count, self.units));
        };
        machine.threads.run_unless(self.small, pieces, work);
        self.ranges.add_up(&machine.threads, scratch, dw);
    }
}

/// A range of pixels, and some taps and channels of one panel of filters.
struct Piece<'a> {
    plan: &'a Plan,
    shape: &'a ConvShape,
    kernels: &'static Kernels,
    range: usize,
    group: usize,
    panel: usize,
    taps: Range<usize>,
    channels: Range<usize>,
    x: &'a [f32],
    dy: &'a [f32],
    /// The gradient of the weights, or the partial sums.
    results: Target,
}

/// The pixels that are worked on.
struct Chunk {
    units: Range<usize>,
    /// The output gradients of this panel at the first pixel.
    dy: *const f32,
    /// From one pixel to the next in `dy`.
    dy_step: usize,
    /// The sums of the piece.
    sums: *mut f32,
    /// Whether this is the first chunk, whose sums hold nothing and whose numbers nobody has asked for.
    first: bool,
    /// The output gradients of this panel in the next chunk, if they have to be asked for; or null.
    next_dy: *const f32,
    /// From a number of the input to that of the next chunk, if these have to be asked for; or zero.
    next_x: usize,
}

/// Some rows of the sums, and the pixels that are added to them.
struct Tile<'a> {
    /// Which of the tiles of its chunk this is.
    number: usize,
    /// The rows of the sums.
    numbers: Range<usize>,
    /// Whether no earlier tile of the chunk has read near its numbers of the input.
    fresh: bool,
    /// Where the numbers of a pixel are, if they do not follow each other.
    places: Option<&'a [usize]>,
    /// Where the first pixel of a row is in the input and in the output gradients of the chunk.
    start: [usize; 2],
    /// Where each row is, from there.
    rows: &'a [[usize; 2]],
    /// Pixels of a row.
    cols: usize,
    /// From one pixel to the next in the input.
    x_step: usize,
}

impl Piece<'_> {
    fn run(&self, units: Range<usize>) {
        let mut sums = Room::<SUMS>::new();
        let mut copies = Room::<COPIES>::new();
        let plan = self.plan;
        let (shape, width) = (self.shape, self.kernels.panel());
        let chunks = units.len().div_ceil(plan.chunk);
        let tiles = self.taps.len() * self.channels.len().div_ceil(self.kernels.pixels);
        for chunk in 0..chunks {
            let of_range = part(chunk, chunks, units.len());
            let (from, to) = (units.start + of_range.start, units.start + of_range.end);
            let first = from * plan.unit_pixels;
            let pixels = to * plan.unit_pixels - first;
            let filter = self.group * shape.group_filters() + self.panel * width;
            let dy = &self.dy[first * shape.k() + filter..];
            let copied = tiles >= COPY_TILES && pixels * width <= COPIES && shape.k() > 2 * width;
            if copied {
                copy_rows(self.kernels, (pixels, self.filters()), dy, shape.k(), &mut copies, width);
            }
            let next = to < units.end;
            let chunk = Chunk {
                units: from..to,
                dy: if copied { copies.as_ptr().cast() } else { dy.as_ptr() },
                dy_step: if copied { width } else { shape.k() },
                sums: sums.as_mut_ptr().cast(),
                first: chunk == 0,
                next_dy: if next && self.dy.len() > AFAR_NUMBERS { dy.as_ptr().wrapping_add(pixels * shape.k()) } else { std::ptr::null() },
                next_x: if next && self.x.len() > AFAR_NUMBERS { plan.distance(shape, to - from) } else { 0 },
            };
            match plan.walk {
                Walk::Rows => self.rows(&chunk),
                Walk::Flat(step) => self.flat(&chunk, step),
                Walk::AllTaps(size) => self.all_taps(&chunk, size),
            }
        }
        let length = self.taps.len() * self.channels.len() * width;
        // SAFETY: every tap and channel of the piece has been written, by the first chunk, over the whole width.
        let sums = unsafe { std::slice::from_raw_parts(sums.as_ptr().cast::<f32>(), length) };
        let (taps, channels) = (self.taps.clone(), self.channels.clone());
        let place = Place { range: self.range, group: self.group, panel: self.panel, taps, channels };
        // SAFETY: `Plan::run` asked for the results; this range of these filters, channels and taps is this piece's own.
        unsafe { plan.ranges.deliver(self.results, place, sums) };
    }

    /// Filters of the panel.
    fn filters(&self) -> usize {
        let width = self.kernels.panel();
        width.min(self.shape.group_filters() - self.panel * width)
    }

    fn rows(&self, chunk: &Chunk) {
        let (shape, window) = (self.shape, self.shape.window());
        let (mut list, mut listed) = ([[0; 2]; MAX_ROWS], None);
        let mut count = 0;
        for tap in self.taps.clone() {
            let (tap_row, tap_col) = (tap / window.w.size, tap % window.w.size);
            if listed != Some(tap_row) {
                (listed, count) = (Some(tap_row), 0);
                let inside = window.h.outputs_of_tap(tap_row, shape.h(), shape.oh());
                for row in chunk.units.clone() {
                    let (image, oy) = (row / shape.oh(), row % shape.oh());
                    if inside.contains(&oy) {
                        let iy = window.h.position(oy, tap_row) as usize;
                        let dy = (row - chunk.units.start) * shape.ow() * chunk.dy_step;
                        list[count] = [(image * shape.h() + iy) * shape.w() * shape.c(), dy];
                        count += 1;
                    }
                }
            }
            let cols = window.w.outputs_of_tap(tap_col, shape.w(), shape.ow());
            if cols.is_empty() {
                self.channels(chunk, tap, [0, 0], &[], 0, 0);
                continue;
            }
            let ix = window.w.position(cols.start, tap_col) as usize;
            let start = [ix * shape.c(), cols.start * chunk.dy_step];
            self.channels(chunk, tap, start, &list[..count], cols.len(), window.w.stride * shape.c());
        }
    }

    fn flat(&self, chunk: &Chunk, step: usize) {
        let (shape, window) = (self.shape, self.shape.window());
        let rows = [[chunk.units.start * step, 0]];
        for tap in self.taps.clone() {
            let (iy, ix) = (window.h.position(0, tap / window.w.size), window.w.position(0, tap % window.w.size));
            let inside = (iy as usize) < shape.h() && (ix as usize) < shape.w();
            let start = if inside { (iy as usize * shape.w() + ix as usize) * shape.c() } else { 0 };
            self.channels(chunk, tap, [start, 0], if inside { &rows } else { &[] }, chunk.units.len(), step);
        }
    }

    fn all_taps(&self, chunk: &Chunk, [height, width]: [usize; 2]) {
        let (shape, window) = (self.shape, self.shape.window());
        let mut list = [[0; 2]; MAX_ROWS];
        for (list, row) in list.iter_mut().zip(chunk.units.clone()) {
            let (image, oy) = (row / shape.oh(), row % shape.oh());
            let dy = (row - chunk.units.start) * shape.ow() * chunk.dy_step;
            *list = [(image * height + oy * window.h.stride) * width * shape.c(), dy];
        }
        let row_numbers = window.w.size * shape.c();
        let numbers = window.h.size * row_numbers;
        let tiles = numbers.div_ceil(self.kernels.pixels);
        for number in 0..tiles {
            let tile = part(number, tiles, numbers);
            let mut places = [0; MAX_PLACES];
            for (place, at) in places.iter_mut().zip(tile.clone()) {
                *place = at / row_numbers * window.h.dilation * width * shape.c() + at % row_numbers;
            }
            self.call(
                chunk,
                &Tile {
                    number,
                    numbers: tile.clone(),
                    fresh: number == 0,
                    places: Some(&places[..tile.len()]),
                    start: [0, 0],
                    rows: &list[..chunk.units.len()],
                    cols: shape.ow(),
                    x_step: window.w.stride * shape.c(),
                },
            );
        }
    }

    /// One tap with all channels of the piece, in tiles.
    fn channels(&self, chunk: &Chunk, tap: usize, start: [usize; 2], rows: &[[usize; 2]], cols: usize, x_step: usize) {
        let channels = self.channels.len();
        let tap = tap - self.taps.start;
        let (before, first_sum) = (self.group * self.shape.group_channels() + self.channels.start, tap * channels);
        let tiles = channels.div_ceil(self.kernels.pixels);
        for tile in 0..tiles {
            let Range { start: first, end: last } = part(tile, tiles, channels);
            self.call(
                chunk,
                &Tile {
                    number: tap * tiles + tile,
                    numbers: first_sum + first..first_sum + last,
                    fresh: tap == 0,
                    places: None,
                    start: [start[0] + before + first, start[1]],
                    rows,
                    cols,
                    x_step,
                },
            );
        }
    }

    /// Adds the products of some pixels to some rows of the sums.
    fn call(&self, chunk: &Chunk, tile: &Tile) {
        let (shape, width, lanes) = (self.shape, self.kernels.panel(), self.kernels.lanes);
        let filters = self.filters();
        let vectors = filters.div_ceil(lanes);
        let near = if chunk.first && self.x.len() > AFAR_NUMBERS { AHEAD_PIXELS * tile.x_step } else { 0 };
        // The first tiles ask for one line each of every pixel's output gradients.
        let line = tile.number * LINE;
        let outer = Outer {
            x: self.x[tile.start[0]..].as_ptr(),
            places: tile.places.map_or(std::ptr::null(), <[usize]>::as_ptr),
            dy: chunk.dy.wrapping_add(tile.start[1]),
            rows: tile.rows.as_ptr(),
            row_count: tile.rows.len(),
            cols: tile.cols,
            x_step: tile.x_step,
            dy_step: chunk.dy_step,
            ahead: if tile.fresh { [near, chunk.next_x] } else { [0; 2] },
            later: if line < filters && !chunk.next_dy.is_null() { chunk.next_dy.wrapping_add(line) } else { std::ptr::null() },
            later_step: shape.k(),
            lanes: filters - (vectors - 1) * lanes,
            sums: chunk.sums.wrapping_add(tile.numbers.start * width),
            sums_step: width,
            filled: true,
            accumulate: !chunk.first,
        };
        // SAFETY: `kernels` was chosen by the token of its instructions. The lengths of x and dy were checked in `Plan::run`;
        // the rows and columns are those whose tap lies inside the image, by the formulas of `window`, and inside the
        // chunk. The sums have room for the taps and channels of the piece, as `Plan::new` saw to.
        unsafe { self.kernels.outer(tile.numbers.len(), vectors, tile.places.is_some())(&outer) }
    }
}
