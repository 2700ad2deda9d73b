//! Winograd's convolution forward, and to the gradient of the input.
//!
//! Tiles are taken a block at a time, few enough for their transformed input to stay in the second-level cache. For each
//! block and each panel of filters there is one matrix product for each product of a tile, and the results are transformed
//! back while they are still in the cache. Where there are many blocks, each is a piece of work from beginning to end.
//! Where there are few, the inputs of some blocks are transformed first, and then blocks and panels are the pieces.

use super::products;
use super::transform::{Gather, MAX_INPUT, MAX_OUTPUT, OUTSIDE, Rows, Scatter, TAPS, Transform};
use crate::conv::direct::geometry::Problem;
use crate::conv::direct::ranges::product;
use crate::conv::{ConvShape, Epilogue, Pass};
use crate::gemm::microkernel::Tile;
use crate::gemm::{Kernels, Target, ZEROS};
use crate::memory::Room;
use crate::{Isa, Machine, stream};

/// Most numbers of transformed input of a block: half of a usual second-level cache.
const BLOCK_NUMBERS: usize = 1 << 17;
/// Numbers of transformed output of a block and one panel: 126 KiB.
const OUTPUT_NUMBERS: usize = 36 * 28 * 32;
/// Blocks from which on each is a piece of its own; their number is then a multiple of it, so that threads get equal shares.
const WHOLE_BLOCKS: usize = 8;
/// Numbers of transformed input that are kept at a time.
const INPUT_NUMBERS: usize = 1 << 19;
/// Pieces that the matrix products of the kept blocks are cut into, if there are so many panels.
const PIECES: usize = 24;
/// Channels times tiles whose transform is worth a piece of its own.
const PIECE_NUMBERS: usize = 1 << 10;
/// Multiply-adds, of the definition, that are worth waking threads for.
const SMALL_MACS: usize = 1 << 18;
/// Channels whose weights are transformed at a time.
const WEIGHT_CHANNELS: usize = 16;
/// Numbers of a cache line.
const LINE: usize = 16;
/// Most filters of a panel of any instruction set.
const MAX_PANEL: usize = 32;

/// What a pass reads and writes: an image of `channels` and one of `filters`, and where the kernel's first tap lies.
pub(super) struct Frame {
    pub images: usize,
    pub channels: usize,
    /// Height and width of what is read.
    pub input: [usize; 2],
    pub filters: usize,
    /// Height and width of what is written.
    pub output: [usize; 2],
    /// Padding at the top and on the left.
    pub pad: [usize; 2],
}

impl Frame {
    /// That of the forward pass.
    pub fn forward(shape: &ConvShape) -> Self {
        Self {
            images: shape.n(),
            channels: shape.c(),
            input: [shape.h(), shape.w()],
            filters: shape.k(),
            output: [shape.oh(), shape.ow()],
            pad: [shape.window().h.pad_before, shape.window().w.pad_before],
        }
    }

    /// That of the gradient of the input: the kernel is turned around, so that what was before it is behind it.
    pub fn backward_input(shape: &ConvShape) -> Self {
        let pad = |before: usize| TAPS - 1 - before;
        Self {
            images: shape.n(),
            channels: shape.k(),
            input: [shape.oh(), shape.ow()],
            filters: shape.c(),
            output: [shape.h(), shape.w()],
            pad: [pad(shape.window().h.pad_before), pad(shape.window().w.pad_before)],
        }
    }

    /// Tiles along the height and the width of one image.
    fn tile_grid<T: Transform>(&self) -> [usize; 2] {
        self.output.map(|size| size.div_ceil(T::OUTPUT))
    }

    /// Tiles of all images.
    pub fn tiles<T: Transform>(&self) -> usize {
        let [rows, cols] = self.tile_grid::<T>();
        self.images * rows * cols
    }

    /// Image, first row and first column of the output of a tile.
    fn place<T: Transform>(&self, tile: usize) -> [usize; 3] {
        let [rows, cols] = self.tile_grid::<T>();
        [tile / (rows * cols), tile / cols % rows * T::OUTPUT, tile % cols * T::OUTPUT]
    }

    /// For each pixel of the tile's input, a pointer to its channels from `first` on, or to zeros.
    pub fn input_pixels<T: Transform>(&self, x: &[f32], tile: usize, first: usize) -> [*const f32; MAX_INPUT * MAX_INPUT] {
        let [image, row, col] = self.place::<T>(tile);
        let [height, width] = self.input;
        let mut pixels = [ZEROS.as_ptr(); MAX_INPUT * MAX_INPUT];
        for r in 0..T::INPUT {
            // A negative position becomes a large one.
            let iy = (row + r).wrapping_sub(self.pad[0]);
            if iy >= height {
                continue;
            }
            for c in 0..T::INPUT {
                let ix = (col + c).wrapping_sub(self.pad[1]);
                if ix < width {
                    pixels[r * T::INPUT + c] = x[((image * height + iy) * width + ix) * self.channels + first..].as_ptr();
                }
            }
        }
        pixels
    }

    /// For each pixel of the tile's output, the place of its first filter, or [`OUTSIDE`].
    pub fn output_pixels<T: Transform>(&self, tile: usize) -> [usize; MAX_OUTPUT * MAX_OUTPUT] {
        let [image, row, col] = self.place::<T>(tile);
        let [height, width] = self.output;
        let mut places = [OUTSIDE; MAX_OUTPUT * MAX_OUTPUT];
        for r in 0..T::OUTPUT.min(height - row) {
            for c in 0..T::OUTPUT.min(width - col) {
                places[r * T::OUTPUT + c] = ((image * height + row + r) * width + col + c) * self.filters;
            }
        }
        places
    }

    /// Multiply-adds of the definition.
    pub fn macs(&self) -> usize {
        product([self.images, self.output[0], self.output[1], self.filters, self.channels, TAPS * TAPS])
    }
}

/// Numbers from one tile to the next in a matrix of that many channels: whole vectors of any instruction set, and not a
/// multiple of what a cache set repeats after.
pub(super) fn row_step(channels: usize) -> usize {
    let step = channels.next_multiple_of(16);
    if step.is_multiple_of(256) { step + 16 } else { step }
}

/// Numbers from one product to the next in a panel of weights of that many channels; not a multiple of what a cache set
/// repeats after, since all products of a weight are written together.
pub(super) fn product_step(channels: usize, panel: usize) -> usize {
    channels * panel + 16
}

/// Most tiles of a block.
pub(super) fn tiles_of_block<T: Transform>(isa: Isa, channels: usize) -> usize {
    let kernels = Kernels::of(isa);
    let by_output = OUTPUT_NUMBERS / (products::<T>() * kernels.panel());
    let by_input = BLOCK_NUMBERS / (products::<T>() * row_step(channels));
    let tiles = by_output.min(by_input.max(kernels.pixels));
    tiles - tiles % kernels.pixels
}

/// How a pass is cut; it depends on the problem and the instruction set alone.
pub(super) struct Cut {
    tiles: usize,
    /// Tiles of a block.
    block: usize,
    /// Whether each block is one piece of work.
    whole: bool,
    /// Blocks whose input is transformed at a time, if not.
    kept: usize,
    /// From one tile to the next in the transformed input.
    row: usize,
    /// Panels of filters.
    panels: usize,
    /// Groups of panels, each a piece.
    panel_groups: usize,
    /// Products of a tile.
    products: usize,
    small: bool,
}

impl Cut {
    pub fn new<T: Transform>(frame: &Frame, isa: Isa) -> Self {
        let tiles = frame.tiles::<T>();
        let row = row_step(frame.channels);
        let mut blocks = tiles.div_ceil(tiles_of_block::<T>(isa, frame.channels));
        // A little less than so many blocks are worth being split to reach it.
        let whole = 5 * blocks >= 4 * WHOLE_BLOCKS && products::<T>() * row * tiles.div_ceil(blocks) <= BLOCK_NUMBERS;
        if whole {
            blocks = blocks.next_multiple_of(WHOLE_BLOCKS);
        }
        let block = tiles.div_ceil(blocks);
        let kept = (INPUT_NUMBERS / (block * row * products::<T>())).clamp(1, blocks);
        let panels = frame.filters.div_ceil(Kernels::of(isa).panel());
        let small = frame.macs() < SMALL_MACS;
        Self { tiles, block, whole, kept, row, panels, panel_groups: PIECES.div_ceil(kept).min(panels), products: products::<T>(), small }
    }

    /// Numbers of one product of a block.
    fn product_len(&self) -> usize {
        self.block * self.row
    }

    fn block_len(&self) -> usize {
        self.products * self.product_len()
    }

    /// Numbers of working memory.
    pub fn scratch_len(&self) -> usize {
        if self.whole { 0 } else { self.kept * self.block_len() }
    }
}

/// Writes the weights as `[panel][product][channel][lane]`.
pub(super) fn pack<T: Transform>(machine: &Machine, shape: &ConvShape, pass: Pass, weights: &[f32], packed: &mut [f32]) {
    if pass == Pass::BackwardWeight {
        return;
    }
    let kernels = T::kernels(machine.isa);
    let panel = Kernels::of(machine.isa).panel();
    let backward = pass == Pass::BackwardInput;
    let problem = if backward { Problem::backward_input(shape) } else { Problem::forward(shape) };
    let order = problem.weight_order(shape, [0, 0]);
    let product_len = product_step(order.channels, panel);
    machine.threads.chunks_mut(packed, products::<T>() * product_len, |index, packed| {
        let mut taps = [0.0f32; TAPS * TAPS * WEIGHT_CHANNELS * MAX_PANEL];
        for first in (0..order.channels).step_by(WEIGHT_CHANNELS) {
            let channels = first..(first + WEIGHT_CHANNELS).min(order.channels);
            if (index + 1) * panel > order.filters {
                // The missing filters are zero.
                taps.fill(0.0);
            }
            let tap_len = channels.len() * panel;
            order.block(panel, 0, index * panel, 0..TAPS * TAPS, channels, tap_len).pack(weights, &mut taps);
            let last = (TAPS * TAPS - 1) * tap_len;
            let rows = Rows {
                from: taps[if backward { last } else { 0 }..].as_ptr(),
                from_step: if backward { -(tap_len as isize) } else { tap_len as isize },
                to: packed[first * panel..].as_mut_ptr(),
                to_step: product_len,
                count: tap_len,
            };
            assert!(packed.len() >= (products::<T>() - 1) * product_len + first * panel + tap_len, "packed weights of the wrong length");
            // SAFETY: the kernels were chosen by the token of their instructions. There are nine taps of `tap_len` numbers,
            // whole vectors, and the last product's place was checked.
            unsafe { (kernels.spread_weights)(&rows) };
        }
    });
}

/// Computes `y` from `x`.
///
/// # Panics
/// If a slice is shorter than the problem says.
pub(super) fn run<T: Transform>(
    machine: &Machine,
    frame: &Frame,
    x: &[f32],
    packed: &[f32],
    epilogue: &Epilogue<'_, f32>,
    y: &mut [f32],
    scratch: &mut [f32],
) {
    let (cut, panel) = (Cut::new::<T>(frame, machine.isa), Kernels::of(machine.isa).panel());
    let pixels = |size: [usize; 2]| frame.images * size[0] * size[1];
    assert!(
        x.len() == pixels(frame.input) * frame.channels && y.len() == pixels(frame.output) * frame.filters,
        "image of the wrong length"
    );
    assert!(packed.len() >= cut.panels * cut.products * product_step(frame.channels, panel), "packed weights of the wrong length");
    assert!(epilogue.bias.is_none_or(|bias| bias.len() == frame.filters), "bias of the wrong length");
    assert!(epilogue.residual.is_none_or(|residual| residual.len() == y.len()), "residual of the wrong length");
    assert!(scratch.len() >= cut.scratch_len(), "scratch of the wrong length");
    let streamed = stream::is_large(y) && frame.filters.is_multiple_of(LINE);
    let work = Work { machine, frame, cut: &cut, x, packed, epilogue, streamed, y: Target::new(y) };
    let blocks = cut.tiles.div_ceil(cut.block);
    if cut.whole {
        return work.each(blocks, |block| work.whole_block::<T>(block));
    }
    let inputs = Target::new(scratch);
    for first in (0..blocks).step_by(cut.kept) {
        let kept = cut.kept.min(blocks - first);
        let tiles = first * cut.block..((first + kept) * cut.block).min(cut.tiles);
        let group = PIECE_NUMBERS.div_ceil(frame.channels).min(tiles.len());
        let place = |block: usize| inputs.pointer().wrapping_add(block * cut.block_len());
        work.each(tiles.len().div_ceil(group), |piece| {
            for tile in (piece * group..(piece + 1) * group).take_while(|tile| *tile < tiles.len()) {
                // SAFETY: the scratch holds all kept blocks, and each tile belongs to one piece.
                unsafe { work.transform_input::<T>(tiles.start + tile, place(tile / cut.block)) };
            }
        });
        work.each(kept * cut.panel_groups, |piece| {
            let (block, group) = (piece / cut.panel_groups, piece % cut.panel_groups);
            let part = |index: usize| index * cut.panels / cut.panel_groups;
            for panel in part(group)..part(group + 1) {
                // SAFETY: the inputs of this block have been transformed, and this panel of it belongs to this piece alone.
                unsafe { work.multiply::<T>(first + block, place(block), panel) };
            }
        });
    }
}

struct Work<'a> {
    machine: &'a Machine,
    frame: &'a Frame,
    cut: &'a Cut,
    x: &'a [f32],
    packed: &'a [f32],
    epilogue: &'a Epilogue<'a, f32>,
    /// Whether the output is written past the caches.
    streamed: bool,
    y: Target,
}

impl Work<'_> {
    fn each(&self, pieces: usize, work: impl Fn(usize) + Sync) {
        self.machine.threads.run_unless(self.cut.small, pieces, work);
    }

    /// All of one block.
    fn whole_block<T: Transform>(&self, block: usize) {
        let mut inputs = Room::<BLOCK_NUMBERS>::new();
        assert!(self.cut.block_len() <= BLOCK_NUMBERS, "a block of too many tiles");
        let inputs = inputs.as_mut_ptr().cast::<f32>();
        let first = block * self.cut.block;
        for tile in first..(first + self.cut.block).min(self.cut.tiles) {
            // SAFETY: there is room for a block.
            unsafe { self.transform_input::<T>(tile, inputs) };
        }
        for panel in 0..self.cut.panels {
            // SAFETY: the inputs of this block have been transformed, and it belongs to this piece alone.
            unsafe { self.multiply::<T>(block, inputs, panel) };
        }
    }

    /// Transforms the input of one tile to its rows of `inputs`, `[product][tile][channel]`.
    ///
    /// # Safety
    /// There is room for a block behind `inputs`, and nobody else uses the rows of this tile.
    unsafe fn transform_input<T: Transform>(&self, tile: usize, inputs: *mut f32) {
        let (cut, channels) = (self.cut, self.frame.channels);
        let start = tile % cut.block * cut.row;
        for from in (0..channels).step_by(ZEROS.len()) {
            let pixels = self.frame.input_pixels::<T>(self.x, tile, from);
            let scatter = Scatter {
                pixels: pixels.as_ptr(),
                channels: ZEROS.len().min(channels - from),
                products: inputs.wrapping_add(start + from),
                step: cut.product_len(),
            };
            // SAFETY: the kernels were chosen by the token of their instructions. Every pixel has these channels behind
            // its pointer, or points to as many zeros. The rows of this tile have room for whole vectors, as
            // `row_step` says.
            unsafe { (T::kernels(self.machine.isa).input)(&scatter) };
        }
    }

    /// Computes one panel of the filters of one block.
    ///
    /// # Safety
    /// `inputs` holds the transformed inputs of the block, and nobody else writes this panel of its outputs.
    unsafe fn multiply<T: Transform>(&self, block: usize, inputs: *const f32, panel: usize) {
        let (cut, frame, kernels) = (self.cut, self.frame, Kernels::of(self.machine.isa));
        let (width, lanes) = (kernels.panel(), kernels.lanes);
        let tiles = cut.block.min(cut.tiles - block * cut.block);
        let filters = width.min(frame.filters - panel * width);
        let vectors = filters.div_ceil(lanes);
        let mut results = Room::<OUTPUT_NUMBERS>::new();
        let results = results.as_mut_ptr().cast::<f32>();
        let result_len = tiles * width;
        assert!(cut.products * result_len <= OUTPUT_NUMBERS, "a block of too many tiles");
        let groups = tiles.div_ceil(kernels.pixels);
        for product in 0..cut.products {
            let weights = (panel * cut.products + product) * product_step(frame.channels, width);
            let inputs = inputs.wrapping_add(product * cut.product_len());
            for group in 0..groups {
                let (from, to) = (group * tiles / groups, (group + 1) * tiles / groups);
                let mut pixels = [std::ptr::null(); 16];
                let mut outputs = [0; 16];
                for (place, tile) in (from..to).enumerate() {
                    pixels[place] = inputs.wrapping_add(tile * cut.row);
                    outputs[place] = tile * width;
                }
                let tile = Tile {
                    pixels: pixels.as_ptr(),
                    pixels_step: pixels.len(),
                    tap_weights: &0,
                    taps: 1,
                    channels: frame.channels,
                    ahead: std::ptr::null(),
                    ahead_step: 0,
                    outputs_afar: false,
                    weights: self.packed[weights..weights + frame.channels * width].as_ptr(),
                    outputs: outputs.as_ptr(),
                    y: results.wrapping_add(product * result_len),
                    lanes,
                    accumulate: false,
                    bias: std::ptr::null(),
                    residual: std::ptr::null(),
                    relu: false,
                    streamed: false,
                };
                // SAFETY: the kernels were chosen by the token of their instructions. The rows of the transformed input
                // were written before this piece began; `results` has room for every product of every tile.
                unsafe { kernels.tile(to - from, vectors)(&tile) };
            }
        }
        self.transform_outputs::<T>(block * cut.block, tiles, panel * width, filters, results);
    }

    /// Transforms the results of a block back and writes them.
    fn transform_outputs<T: Transform>(&self, first: usize, tiles: usize, filter: usize, filters: usize, results: *const f32) {
        let width = Kernels::of(self.machine.isa).panel();
        for tile in 0..tiles {
            let outputs = self.frame.output_pixels::<T>(first + tile);
            let at_filter = |numbers: Option<&[f32]>| numbers.map_or(std::ptr::null(), |numbers| numbers[filter..].as_ptr());
            let gather = Gather {
                products: results.wrapping_add(tile * width),
                step: tiles * width,
                filters,
                outputs: outputs.as_ptr(),
                y: self.y.pointer().wrapping_add(filter),
                bias: at_filter(self.epilogue.bias),
                residual: at_filter(self.epilogue.residual),
                relu: self.epilogue.relu,
                streamed: self.streamed,
            };
            // SAFETY: the kernels were chosen by the token of their instructions. Every result of these tiles and this
            // panel has been written, over whole vectors. The outputs are pixels inside the image; these filters of
            // these tiles are this piece's own. The lengths of bias and residual were checked.
            unsafe { (T::kernels(self.machine.isa).output)(&gather) };
        }
        if self.streamed {
            stream::fence(self.machine.isa);
        }
    }
}
