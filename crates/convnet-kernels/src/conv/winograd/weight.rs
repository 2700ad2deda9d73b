//! Winograd's convolution to the gradient of the weights.
//!
//! For each product of a tile the gradient is a sum of outer products over tiles: transformed input × transformed gradient
//! of the output. Tiles are taken a block at a time; the sums of all products stay in working memory and are transformed
//! to taps at the end, some channels at a time.

use super::forward::{Frame, product_step, row_step};
use super::products;
use super::transform::{OUTSIDE, Rows, Scatter, TAPS, Transform};
use crate::conv::ConvShape;
use crate::conv::direct::geometry::Problem;
use crate::gemm::microkernel::Outer;
use crate::gemm::pack::WeightOrder;
use crate::gemm::{Kernels, Target, ZEROS};
use crate::memory::Room;
use crate::{Isa, Machine};

/// Numbers of transformed input and gradient that a block has, if it has at least [`LEAST_TILES`].
const BLOCK_NUMBERS: usize = 1 << 20;
/// Tiles that a block has at least, so that reading and writing the sums costs little.
const LEAST_TILES: usize = 112;
/// Channels times tiles whose transform is worth a piece of its own.
const PIECE_NUMBERS: usize = 1 << 10;
/// Channels whose sums are transformed to taps together, so that these stay in the first-level cache.
const BLOCK_CHANNELS: usize = 8;
/// Most filters of a panel.
const MOST_WIDTH: usize = 32;
/// Multiply-adds, of the definition, that are worth waking threads for.
const SMALL_MACS: usize = 1 << 18;

/// How the work is cut; it depends on the problem and the instruction set alone.
pub(super) struct Cut {
    tiles: usize,
    /// Tiles of a block.
    block: usize,
    /// From one tile to the next in the transformed input and in the transformed gradient.
    rows: [usize; 2],
    /// Panels of filters.
    panels: usize,
    /// Numbers of the sums, `[panel][product][channel][lane]`.
    sums_len: usize,
    products: usize,
    small: bool,
}

impl Cut {
    pub fn new<T: Transform>(shape: &ConvShape, isa: Isa) -> Self {
        let frame = Frame::forward(shape);
        let (tiles, panel) = (frame.tiles::<T>(), Kernels::of(isa).panel());
        let rows = [row_step(frame.channels), row_step(frame.filters)];
        let most = (BLOCK_NUMBERS / (products::<T>() * (rows[0] + rows[1]))).max(LEAST_TILES);
        let panels = frame.filters.div_ceil(panel);
        Self {
            tiles,
            block: tiles.div_ceil(tiles.div_ceil(most)),
            rows,
            panels,
            sums_len: panels * products::<T>() * product_step(frame.channels, panel),
            products: products::<T>(),
            small: frame.macs() < SMALL_MACS,
        }
    }

    /// Blocks of tiles.
    pub fn blocks(&self) -> usize {
        self.tiles.div_ceil(self.block)
    }

    /// Numbers of working memory.
    pub fn scratch_len(&self) -> usize {
        self.sums_len + self.products * self.block * (self.rows[0] + self.rows[1])
    }
}

/// Adds to the gradient of the weights `dw`.
///
/// # Panics
/// If a slice is shorter than the problem says.
pub(super) fn run<T: Transform>(machine: &Machine, shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &mut [f32]) {
    let (frame, cut) = (Frame::forward(shape), Cut::new::<T>(shape, machine.isa));
    assert!(x.len() == shape.input_len() && dy.len() == shape.output_len(), "image of the wrong length");
    assert!(dw.len() == shape.weight_len() && scratch.len() >= cut.scratch_len(), "gradient or scratch of the wrong length");
    let (sums, rest) = scratch.split_at_mut(cut.sums_len);
    let (inputs, gradients) = rest.split_at_mut(cut.products * cut.block * cut.rows[0]);
    let work = Work {
        machine,
        frame: &frame,
        cut: &cut,
        x,
        dy,
        inputs: Target::new(inputs),
        gradients: Target::new(gradients),
        sums: Target::new(sums),
    };
    for first in (0..cut.tiles).step_by(cut.block) {
        let tiles = first..(first + cut.block).min(cut.tiles);
        let group = PIECE_NUMBERS.div_ceil(frame.channels + frame.filters).min(tiles.len());
        work.each(tiles.len().div_ceil(group), |piece| {
            let from = tiles.start + piece * group;
            (from..(from + group).min(tiles.end)).for_each(|tile| work.transform::<T>(tile, tile - first));
        });
        work.each(cut.products * cut.panels, |piece| work.multiply(piece / cut.panels, piece % cut.panels, tiles.len(), first > 0));
    }
    let blocks = frame.channels.div_ceil(BLOCK_CHANNELS);
    let order = Problem::forward(shape).weight_order(shape, [0, 0]);
    let dw = Target::new(dw);
    work.each(cut.panels * blocks, |piece| work.deliver::<T>(&order, piece / blocks, piece % blocks * BLOCK_CHANNELS, dw));
}

struct Work<'a> {
    machine: &'a Machine,
    frame: &'a Frame,
    cut: &'a Cut,
    x: &'a [f32],
    dy: &'a [f32],
    /// `[product][tile][channel]`
    inputs: Target,
    /// `[product][tile][filter]`
    gradients: Target,
    /// `[panel][product][channel][lane]`
    sums: Target,
}

impl Work<'_> {
    fn each(&self, pieces: usize, work: impl Fn(usize) + Sync) {
        self.machine.threads.run_unless(self.cut.small, pieces, work);
    }

    /// Transforms the input and the output's gradient of one tile; `row` is its place in the block.
    fn transform<T: Transform>(&self, tile: usize, row: usize) {
        let (cut, frame, kernels) = (self.cut, self.frame, T::kernels(self.machine.isa));
        for from in (0..frame.channels).step_by(ZEROS.len()) {
            let pixels = frame.input_pixels::<T>(self.x, tile, from);
            let scatter = Scatter {
                pixels: pixels.as_ptr(),
                channels: ZEROS.len().min(frame.channels - from),
                products: self.inputs.pointer().wrapping_add(row * cut.rows[0] + from),
                step: cut.block * cut.rows[0],
            };
            // SAFETY: the kernels were chosen by the token of their instructions. Every pixel has these channels behind its
            // pointer, or points to as many zeros. This tile's rows are written by nobody else, and have room for
            // whole vectors, as `row_step` says.
            unsafe { (kernels.input)(&scatter) };
        }
        let places = frame.output_pixels::<T>(tile);
        for from in (0..frame.filters).step_by(ZEROS.len()) {
            let pixel = |place: usize| if place == OUTSIDE { ZEROS.as_ptr() } else { self.dy[place + from..].as_ptr() };
            let pixels = places.map(pixel);
            let scatter = Scatter {
                pixels: pixels.as_ptr(),
                channels: ZEROS.len().min(frame.filters - from),
                products: self.gradients.pointer().wrapping_add(row * cut.rows[1] + from),
                step: cut.block * cut.rows[1],
            };
            // SAFETY: as above.
            unsafe { (kernels.gradient)(&scatter) };
        }
    }

    /// Transforms the sums of some channels of a panel to taps and adds these to the gradient of the weights.
    fn deliver<T: Transform>(&self, order: &WeightOrder, panel: usize, first: usize, dw: Target) {
        let (cut, channels) = (self.cut, BLOCK_CHANNELS.min(self.frame.channels - first));
        let width = Kernels::of(self.machine.isa).panel();
        let step = product_step(self.frame.channels, width);
        let mut taps = Room::<{ TAPS * TAPS * BLOCK_CHANNELS * MOST_WIDTH }>::new();
        let count = channels * width;
        let taps = &mut taps[..TAPS * TAPS * count];
        let rows = Rows {
            from: self.sums.pointer().wrapping_add(panel * cut.products * step + first * width),
            from_step: step as isize,
            to: taps.as_mut_ptr().cast(),
            to_step: count,
            count,
        };
        let block = order.block(width, 0, panel * width, 0..TAPS * TAPS, first..first + channels, count);
        // SAFETY: the kernels were chosen by the token of their instructions; this panel has all its products in the sums,
        // which are whole, and nine taps of room, each `count` numbers, whole vectors. `run` checked the length of the
        // gradient, in which these filters and channels are this piece's own.
        unsafe {
            (T::kernels(self.machine.isa).collect_weights)(&rows);
            block.add(taps.as_ptr().cast(), taps.len(), dw.pointer());
        }
    }

    /// Adds the outer products of all tiles of the block, for one product and one panel of filters.
    fn multiply(&self, product: usize, panel: usize, tiles: usize, accumulate: bool) {
        let (cut, channels, kernels) = (self.cut, self.frame.channels, Kernels::of(self.machine.isa));
        let width = kernels.panel();
        let vectors = width.min(self.frame.filters - panel * width).div_ceil(kernels.lanes);
        let groups = channels.div_ceil(kernels.pixels);
        let start = (panel * cut.products + product) * product_step(channels, width);
        for group in 0..groups {
            let (from, to) = (group * channels / groups, (group + 1) * channels / groups);
            let outer = Outer {
                x: self.inputs.pointer().wrapping_add(product * cut.block * cut.rows[0] + from),
                places: std::ptr::null(),
                dy: self.gradients.pointer().wrapping_add(product * cut.block * cut.rows[1] + panel * width),
                rows: &[0, 0],
                row_count: 1,
                cols: tiles,
                x_step: cut.rows[0],
                dy_step: cut.rows[1],
                ahead: [0; 2],
                later: std::ptr::null(),
                later_step: 0,
                lanes: kernels.lanes,
                sums: self.sums.pointer().wrapping_add(start + from * width),
                sums_step: width,
                filled: true,
                accumulate,
            };
            // SAFETY: the kernels were chosen by the token of their instructions. The rows of these tiles were written, over
            // whole vectors, before this piece began. The sums of this product and this panel are this piece's own.
            unsafe { kernels.outer(to - from, vectors, false)(&outer) };
        }
    }
}
