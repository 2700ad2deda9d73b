//! The gradient of the weights of a 1×1 kernel from few pixels: the last maps of a network, an image at a time.
//!
//! Every sum is of few products, so that what is done with it afterwards counts. Here vectors run over the input's channels, and
//! the numbers that meet them are those of the output's gradient: then the sums of a filter lie as the weights do, K×C, and are
//! added to them straight from the registers.

use std::ops::Range;

use super::ranges::{copy_rows, part, product};
use crate::conv::ConvShape;
use crate::gemm::microkernel::Outer;
use crate::gemm::{Kernels, Target};
use crate::memory::Room;
use crate::{Isa, Machine};

/// Most pixels: a panel of channels of all of them stays in the second-level cache.
const PIXELS: usize = 800;
/// Most channels of a panel.
const MOST_WIDTH: usize = 32;
/// Tiles of filters that are worth a copy of a panel.
const LEAST_TILES: usize = 4;
/// Pieces that a large problem is cut into.
const PIECES: usize = 32;
/// Multiply-adds that are worth a piece of their own.
const PIECE_MACS: usize = 1 << 19;

/// Whether this convolution is one of few pixels whose channels fill vectors.
pub(super) fn pays(shape: &ConvShape, isa: Isa) -> bool {
    let (h, w) = (shape.window().h, shape.window().w);
    let is_pixel = [h, w].iter().all(|axis| axis.is_pixel() && axis.stride == 1);
    is_pixel && shape.n() * shape.oh() * shape.ow() <= PIXELS && shape.group_channels().is_multiple_of(Kernels::of(isa).lanes)
}

/// A problem, and what it is computed from.
struct Few<'a> {
    shape: &'a ConvShape,
    kernels: &'static Kernels,
    x: &'a [f32],
    dy: &'a [f32],
    dw: Target,
}

/// Adds to the gradient of the weights `dw`.
///
/// # Panics
/// If a slice is shorter than the problem says.
pub(super) fn run(machine: &Machine, shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    assert!(x.len() == shape.input_len() && dy.len() == shape.output_len() && dw.len() == shape.weight_len(), "image of the wrong length");
    let kernels = Kernels::of(machine.isa);
    let few = Few { shape, kernels, x, dy, dw: Target::new(dw) };
    let panels = shape.group_channels().div_ceil(kernels.panel());
    let tiles = shape.group_filters().div_ceil(kernels.pixels);
    let pixels = shape.n() * shape.oh() * shape.ow();
    let macs = product([pixels, shape.c(), tiles * kernels.pixels]);
    let wanted = (macs / PIECE_MACS).clamp(1, PIECES);
    let blocks = wanted.div_ceil(shape.groups() * panels).clamp(1, tiles.div_ceil(LEAST_TILES));
    let pieces = shape.groups() * panels * blocks;
    let work = |piece: usize| {
        let (rest, block) = (piece / blocks, piece % blocks);
        few.piece(rest / panels, rest % panels, part(block, blocks, tiles), tiles);
    };
    machine.threads.run_unless(wanted == 1, pieces, work);
}

impl Few<'_> {
    /// A panel of channels with some of the `count` tiles of filters.
    fn piece(&self, group: usize, panel: usize, tiles: Range<usize>, count: usize) {
        let Self { shape, kernels, .. } = *self;
        let (channels, filters, width) = (shape.group_channels(), shape.group_filters(), kernels.panel());
        let pixels = self.dy.len() / shape.k();
        let first = panel * width;
        let numbers = width.min(channels - first);
        let mut copies = Room::<{ PIXELS * MOST_WIDTH }>::new();
        copy_rows(kernels, (pixels, numbers), &self.x[group * channels + first..], shape.c(), &mut copies, width);
        for tile in tiles {
            let tile = part(tile, count, filters);
            let filter = group * filters + tile.start;
            let weight = filter * channels + first;
            let outer = Outer {
                x: self.dy[filter..].as_ptr(),
                places: std::ptr::null(),
                dy: copies.as_ptr().cast(),
                rows: &[0; 2],
                row_count: 1,
                cols: pixels,
                x_step: shape.k(),
                dy_step: width,
                ahead: [0; 2],
                later: std::ptr::null(),
                later_step: 0,
                lanes: kernels.lanes,
                sums: self.dw.pointer().wrapping_add(weight),
                sums_step: channels,
                filled: false,
                accumulate: true,
            };
            // SAFETY: `kernels` was chosen by the token of its instructions. The one row is that of all pixels, whose numbers of
            // these filters `dy` has; those of the panel were copied for all pixels. The channels are a whole number of vectors,
            // so the sums are those weights of these filters that belong to the panel; no other piece has them.
            unsafe { kernels.outer(tile.len(), numbers / kernels.lanes, false)(&outer) };
        }
    }
}
