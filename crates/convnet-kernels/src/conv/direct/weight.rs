//! The gradient of the weights: for each tap, the sum over pixels of input channels times output gradients.
//!
//! The pixels are cut into a fixed number of ranges whose partial sums are added in order at the end. Within a range,
//! some rows at a time (few enough for the second-level cache) meet all taps of a kernel row and all channels.

use super::geometry::Problem;
use crate::conv::ConvShape;
use crate::gemm::microkernel::Outer;
use crate::gemm::{Kernels, Target};
use crate::{Isa, Machine};

/// Most rows of pixels that are listed at once.
const MAX_ROWS: usize = 128;
/// Bytes of input and gradient that are worked on at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Pieces that a large problem is cut into.
const PIECES: usize = 96;
/// Pixels that a range has at least, so that adding the partial sums costs little.
const RANGE_PIXELS: usize = 512;
/// Multiply-adds that are worth a piece of their own.
const PIECE_MACS: usize = 1 << 18;
/// Most numbers of the input that a tile of any instruction set takes.
const MAX_PLACES: usize = 14;

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
    /// Units that are worked on at a time.
    chunk: usize,
    /// Ranges of units, each with its own partial sums.
    ranges: usize,
    /// Panels of filters in one group.
    panels: usize,
    /// Kernel rows that are pieces of their own.
    tap_rows: usize,
    /// Numbers of one copy of the sums.
    sums_len: usize,
    small: bool,
}

impl Plan {
    /// `padded` is the size of the image in which all taps are inside, if the image is read so.
    pub fn new(shape: &ConvShape, isa: Isa, padded: Option<[usize; 2]>) -> Self {
        let kernels = Kernels::of(isa);
        let window = shape.window();
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
        let panels = shape.group_filters().div_ceil(kernels.panel());
        let tap_rows = if padded.is_some() { 1 } else { window.h.size };
        let unit_bytes = unit_pixels * (window.w.stride * shape.group_channels() + kernels.panel()) * 4;
        let most = if unit_pixels == 1 { usize::MAX } else { MAX_ROWS };
        let chunk = (CHUNK_BYTES / unit_bytes).clamp(1, most).min(units);

        let cells = shape.groups() * panels * tap_rows;
        let macs = units * unit_pixels * window.taps() * shape.group_channels() * panels * kernels.panel() * shape.groups();
        let wanted = (macs / PIECE_MACS).clamp(1, PIECES).div_ceil(cells);
        let ranges = wanted.min(units * unit_pixels / RANGE_PIXELS).clamp(1, units);
        let sums_len = Problem::forward(shape).weight_order(shape, [0, 0]).packed_len(kernels.panel());
        Self { walk, units, chunk, ranges, panels, tap_rows, sums_len, small: macs < PIECE_MACS }
    }

    /// Numbers of working memory for the partial sums.
    pub fn scratch_len(&self) -> usize {
        self.ranges * self.sums_len
    }

    /// Adds to the gradient of the weights `dw`. `x` is the input, or its padded copy.
    pub fn run(&self, machine: &Machine, shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &mut [f32]) {
        let x_len = match self.walk {
            Walk::AllTaps([height, width]) => shape.n() * height * width * shape.c(),
            _ => shape.input_len(),
        };
        assert!(x.len() >= x_len && dy.len() == shape.output_len(), "image of the wrong length");
        assert!(scratch.len() >= self.scratch_len(), "scratch of the wrong length");
        let kernels = Kernels::of(machine.isa);
        let pieces = self.ranges * shape.groups() * self.panels * self.tap_rows;
        let sums = Target::new(scratch);
        let work = |piece: usize| {
            let (rest, tap_row) = (piece / self.tap_rows, piece % self.tap_rows);
            let (rest, panel) = (rest / self.panels, rest % self.panels);
            let (range, group) = (rest / shape.groups(), rest % shape.groups());
            Piece { plan: self, shape, kernels, range, group, panel, tap_row, x, dy, sums }.run();
        };
        if self.small {
            (0..pieces).for_each(work)
        } else {
            machine.threads.run(pieces, work)
        }
        let order = Problem::forward(shape).weight_order(shape, [0, 0]);
        order.unpack_add(&machine.threads, kernels.panel(), scratch, self.ranges, dw);
    }
}

/// One range of pixels, one panel of filters of one group, one kernel row (or all of them).
struct Piece<'a> {
    plan: &'a Plan,
    shape: &'a ConvShape,
    kernels: &'static Kernels,
    range: usize,
    group: usize,
    panel: usize,
    tap_row: usize,
    x: &'a [f32],
    dy: &'a [f32],
    sums: Target,
}

impl Piece<'_> {
    fn run(&self) {
        let unit = |range: usize| range * self.plan.units / self.plan.ranges;
        let (begin, end) = (unit(self.range), unit(self.range + 1));
        let chunks = (end - begin).div_ceil(self.plan.chunk);
        for chunk in 0..chunks {
            let from = begin + chunk * (end - begin) / chunks;
            let to = begin + (chunk + 1) * (end - begin) / chunks;
            match self.plan.walk {
                Walk::Rows => self.rows(from, to, chunk > 0),
                Walk::Flat(step) => self.flat(from, to, step, chunk > 0),
                Walk::AllTaps(size) => self.all_taps(from, to, size, chunk > 0),
            }
        }
    }

    fn rows(&self, from: usize, to: usize, accumulate: bool) {
        let (shape, window) = (self.shape, self.shape.window());
        let inside = window.h.outputs_of_tap(self.tap_row, shape.h(), shape.oh());
        let mut list = [[0; 2]; MAX_ROWS];
        let mut count = 0;
        for row in from..to {
            let (image, oy) = (row / shape.oh(), row % shape.oh());
            if inside.contains(&oy) {
                let iy = window.h.position(oy, self.tap_row) as usize;
                list[count] = [(image * shape.h() + iy) * shape.w() * shape.c(), row * shape.ow() * shape.k()];
                count += 1;
            }
        }
        for tap_col in 0..window.w.size {
            let cols = window.w.outputs_of_tap(tap_col, shape.w(), shape.ow());
            if cols.is_empty() {
                self.channels(tap_col, [0, 0], &[], 0, 0, accumulate);
                continue;
            }
            let ix = window.w.position(cols.start, tap_col) as usize;
            let start = [ix * shape.c(), cols.start * shape.k()];
            self.channels(tap_col, start, &list[..count], cols.len(), window.w.stride * shape.c(), accumulate);
        }
    }

    fn flat(&self, from: usize, to: usize, step: usize, accumulate: bool) {
        let (shape, window) = (self.shape, self.shape.window());
        let rows = [[from * step, from * shape.k()]];
        for tap_col in 0..window.w.size {
            let (iy, ix) = (window.h.position(0, self.tap_row), window.w.position(0, tap_col));
            let inside = (iy as usize) < shape.h() && (ix as usize) < shape.w();
            let start = if inside { (iy as usize * shape.w() + ix as usize) * shape.c() } else { 0 };
            self.channels(tap_col, [start, 0], if inside { &rows } else { &[] }, to - from, step, accumulate);
        }
    }

    fn all_taps(&self, from: usize, to: usize, [height, width]: [usize; 2], accumulate: bool) {
        let (shape, window) = (self.shape, self.shape.window());
        let mut list = [[0; 2]; MAX_ROWS];
        for (list, row) in list.iter_mut().zip(from..to) {
            let (image, oy) = (row / shape.oh(), row % shape.oh());
            *list = [(image * height + oy * window.h.stride) * width * shape.c(), row * shape.ow() * shape.k()];
        }
        let row_numbers = window.w.size * shape.c();
        let numbers = window.h.size * row_numbers;
        let tiles = numbers.div_ceil(self.kernels.pixels);
        for tile in 0..tiles {
            let (first, last) = (tile * numbers / tiles, (tile + 1) * numbers / tiles);
            let mut places = [0; MAX_PLACES];
            for (place, number) in places.iter_mut().zip(first..last) {
                *place = number / row_numbers * window.h.dilation * width * shape.c() + number % row_numbers;
            }
            let places = Some(&places[..last - first]);
            self.call(first, last - first, places, [0, 0], &list[..to - from], shape.ow(), window.w.stride * shape.c(), accumulate);
        }
    }

    /// One tap of the kernel row with all channels of the group, in tiles.
    fn channels(&self, tap_col: usize, start: [usize; 2], rows: &[[usize; 2]], cols: usize, x_step: usize, accumulate: bool) {
        let channels = self.shape.group_channels();
        let tap = self.tap_row * self.shape.window().w.size + tap_col;
        let tiles = channels.div_ceil(self.kernels.pixels);
        for tile in 0..tiles {
            let (first, last) = (tile * channels / tiles, (tile + 1) * channels / tiles);
            let start = [start[0] + self.group * channels + first, start[1]];
            self.call(tap * channels + first, last - first, None, start, rows, cols, x_step, accumulate);
        }
    }

    /// Adds the products of some pixels to `numbers` rows of the sums, from row `first` on.
    #[allow(clippy::too_many_arguments)]
    fn call(
        &self,
        first: usize,
        numbers: usize,
        places: Option<&[usize]>,
        start: [usize; 2],
        rows: &[[usize; 2]],
        cols: usize,
        x_step: usize,
        accumulate: bool,
    ) {
        let (shape, width, lanes) = (self.shape, self.kernels.panel(), self.kernels.lanes);
        let filters = width.min(shape.group_filters() - self.panel * width);
        let vectors = filters.div_ceil(lanes);
        let filter = self.group * shape.group_filters() + self.panel * width;
        let panel_len = shape.window().taps() * shape.group_channels() * width;
        let place = self.range * self.plan.sums_len + (self.group * self.plan.panels + self.panel) * panel_len + first * width;
        let outer = Outer {
            x: self.x[start[0]..].as_ptr(),
            places: places.map_or(std::ptr::null(), <[usize]>::as_ptr),
            dy: self.dy[start[1] + filter..].as_ptr(),
            rows: rows.as_ptr(),
            row_count: rows.len(),
            cols,
            x_step,
            dy_step: shape.k(),
            lanes: filters - (vectors - 1) * lanes,
            sums: self.sums.pointer().wrapping_add(place),
            accumulate,
        };
        // SAFETY: `kernels` was chosen by the token of its instructions. The lengths of x, dy and the sums were checked in
        // `Plan::run`; the rows and columns are those whose tap lies inside the image, by the formulas of `window`. These
        // sums belong to this piece alone: pieces differ in range, group, panel or kernel row.
        unsafe { self.kernels.outer(numbers, vectors, places.is_some())(&outer) }
    }
}
