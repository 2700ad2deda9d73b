//! The gradient of the weights: a sum over positions.
//!
//! ```text
//! dw[k, c, tap] ← dw[k, c, tap] + Σ over positions p of  x[p + distance(tap), c] · dy[p, k]
//! ```
//!
//! The input's frame is turned around, so that the pixels of a channel follow each other and a tap is a distance in pixels; the
//! gradients of the output are right operands of pairs of positions, zero where a position is no output. A piece of work is 32
//! channels, 32 filters and some taps of a range of positions. It goes through that range in chunks that stay in the
//! second-level cache while all its taps use them.

use super::fill::{Fill, Halves, Pairs, SPARE};
use super::frame::Frame;
use super::products::{self, Left, Right};
use super::unit::{DEPTH, OPERAND, SIDE, Unit};
use super::{Routines, each};
use crate::Machine;
use crate::conv::ConvShape;
use crate::conv::direct::ranges::{Place, Ranges, part};
use crate::gemm::Target;

/// Channels, and filters, of a piece.
const WIDTH: usize = 2 * SIDE;
/// Taps of a piece, at most.
const PIECE_TAPS: usize = 9;
/// Steps of a chunk, for numbers of one part: 256 KiB of both operands.
const CHUNK_STEPS: usize = 64;
/// Pieces that the work is cut into, if there are so many.
const PIECES: usize = 48;
/// Steps of a range, at least, so that its sums are worth writing.
const RANGE_STEPS: usize = 64;

/// How the work is cut; it depends on the problem alone.
pub(super) struct Cut {
    frame: Frame,
    /// Steps of 32 positions of a whole round.
    steps: usize,
    tap_blocks: usize,
    channel_blocks: usize,
    filter_blocks: usize,
    ranges: Ranges,
    parts: usize,
}

impl Cut {
    pub fn new(shape: &ConvShape, parts: usize) -> Self {
        let frame = Frame::forward(shape, parts);
        let steps = frame.positions(frame.round).div_ceil(DEPTH);
        let tap_blocks = shape.window().taps().div_ceil(PIECE_TAPS);
        let [channel_blocks, filter_blocks] = [frame.channels, frame.filters].map(|count| count.div_ceil(WIDTH));
        let cells = frame.groups * tap_blocks * channel_blocks * filter_blocks;
        let ranges = PIECES.div_ceil(cells).min(steps / RANGE_STEPS).max(1);
        Self { frame, steps, tap_blocks, channel_blocks, filter_blocks, ranges: Ranges::new(shape, WIDTH, ranges), parts }
    }

    fn pieces(&self) -> usize {
        self.ranges.count * self.frame.groups * self.tap_blocks * self.channel_blocks * self.filter_blocks
    }

    /// Numbers of one part of both operands.
    fn lens(&self) -> [usize; 2] {
        [Fill::planes_len(&self.frame), Pairs::len(&self.frame, self.steps)]
    }

    /// Numbers of working memory.
    pub fn scratch_len(&self) -> usize {
        let [planes, pairs] = self.lens();
        self.ranges.scratch_len() + SPARE + (self.parts * (planes + pairs)).div_ceil(2)
    }

    /// Steps of 16×16 sums.
    pub fn products(&self) -> f64 {
        let rounds = self.frame.images.div_ceil(self.frame.round);
        let sums = self.frame.groups * self.frame.channels.div_ceil(SIDE) * self.frame.filters.div_ceil(SIDE);
        (rounds * self.steps * products::count(self.parts)) as f64 * sums as f64
    }

    /// Numbers that are converted.
    pub fn converted(&self) -> f64 {
        (self.frame.images.div_ceil(self.frame.round) * self.parts * self.lens().iter().sum::<usize>()) as f64
    }
}

/// Adds to the gradient of the weights `dw`.
///
/// # Panics
/// If a slice is shorter than the problem says.
pub(super) fn run<const PARTS: usize>(machine: &Machine, shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &mut [f32]) {
    let (cut, routines) = (Cut::new(shape, PARTS), Routines::of(machine.isa, PARTS));
    let frame = &cut.frame;
    assert!(x.len() == shape.input_len() && dy.len() == shape.output_len(), "image of the wrong length");
    let (partial, rest) = scratch.split_at_mut(cut.ranges.scratch_len());
    let part_steps = cut.lens();
    let planes = Halves::aligned(rest, PARTS * (part_steps[0] + part_steps[1]));
    let pairs = planes.after(PARTS * part_steps[0]);
    let (x_image, dy_image) = (x.len() / frame.images, dy.len() / frame.images);
    let each = each::<PARTS>(machine, shape);
    for first in (0..frame.images).step_by(frame.round) {
        let images = frame.round.min(frame.images - first);
        let (x, dy) = (&x[first * x_image..][..images * x_image], &dy[first * dy_image..][..images * dy_image]);
        let fill = Fill { frame, x, images, to: planes, part_step: part_steps[0] };
        let outputs = frame.outputs([0, 0], images);
        let gradients = Pairs { frame, outputs, dy, steps: cut.steps, to: pairs, part_step: part_steps[1] };
        each(fill.pieces() + gradients.pieces(), &|piece| {
            // SAFETY: the routines were chosen by the token of their instructions; the scratch holds all parts of both
            // operands, and each piece is worked on once.
            unsafe {
                match piece.checked_sub(fill.pieces()) {
                    None => (routines.planes)(&fill, piece),
                    Some(piece) => (routines.pairs)(&gradients, piece),
                }
            }
        });
        let steps = frame.positions(images).div_ceil(DEPTH);
        let results = cut.ranges.results(shape, dw, partial);
        let work = Work { cut: &cut, steps, planes, pairs, part_steps, results };
        // SAFETY: the routines were chosen by the token of their instructions; both operands are filled. Each piece has its own
        // taps, channels and filters of its own range.
        each(cut.pieces(), &|piece| unsafe { (routines.weight)(&work, piece) });
        cut.ranges.add_up(&machine.threads, partial, dw);
    }
}

/// The positions of some images.
pub(super) struct Work<'a> {
    cut: &'a Cut,
    /// Steps of 32 positions.
    steps: usize,
    planes: Halves,
    pairs: Halves,
    /// Numbers from one part to the next, of both operands.
    part_steps: [usize; 2],
    /// The gradient of the weights, or the partial sums.
    results: Target,
}

/// The sums of 32 channels and 32 filters, for each tap.
#[repr(align(64))]
struct Sums([f32; PIECE_TAPS * WIDTH * WIDTH]);

impl Work<'_> {
    /// Computes the sums of one piece.
    ///
    /// # Safety
    /// The CPU has the instructions of `U`, both operands are filled, and nobody else works on this piece.
    #[inline(always)]
    pub unsafe fn run<U: Unit, const PARTS: usize>(&self, piece: usize) {
        let (cut, frame) = (self.cut, &self.cut.frame);
        let (rest, tap_block) = (piece / cut.tap_blocks, piece % cut.tap_blocks);
        let (rest, channel_block) = (rest / cut.channel_blocks, rest % cut.channel_blocks);
        let (rest, filter_block) = (rest / cut.filter_blocks, rest % cut.filter_blocks);
        let (range, group) = (rest / frame.groups, rest % frame.groups);
        let channels = channel_block * WIDTH..((channel_block + 1) * WIDTH).min(frame.channels);
        let filters = WIDTH.min(frame.filters - filter_block * WIDTH);

        let taps = frame.taps([0, 0]);
        let of_piece = part(tap_block, cut.tap_blocks, taps[0].range.count * taps[1].range.count);
        let mut places = [0; PIECE_TAPS];
        for (place, tap) in places.iter_mut().zip(of_piece.clone()) {
            let (component, first) = frame.tap(&taps, tap / taps[1].range.count, tap % taps[1].range.count);
            *place = Fill::plane(frame, component, group, channels.start) + first;
        }
        let places = &places[..of_piece.len()];
        let panel = (group * frame.filters.div_ceil(SIDE) + filter_block * 2) * cut.steps * OPERAND;

        let mut sums = Sums([0.0; PIECE_TAPS * WIDTH * WIDTH]);
        // SAFETY: by the contract.
        let mut unit = unsafe { U::configured() };
        let steps = part(range, cut.ranges.count, self.steps);
        for first in steps.clone().step_by(CHUNK_STEPS.div_ceil(PARTS)) {
            let chunk = first..(first + CHUNK_STEPS.div_ceil(PARTS)).min(steps.end);
            for (sums, place) in sums.0.chunks_exact_mut(WIDTH * WIDTH).zip(places) {
                // SAFETY: a tap sees pixels of its plane at all positions, rounded up to 32, in one or two operands of
                // channels; the right operands of one or two panels are there. The sums are 32 rows of 32 numbers.
                unsafe {
                    match (channels.len() > SIDE, filters > SIDE) {
                        (true, true) => self.add::<U, PARTS, 2, 2>(&mut unit, *place, panel, chunk.clone(), sums),
                        (true, false) => self.add::<U, PARTS, 2, 1>(&mut unit, *place, panel, chunk.clone(), sums),
                        (false, true) => self.add::<U, PARTS, 1, 2>(&mut unit, *place, panel, chunk.clone(), sums),
                        (false, false) => self.add::<U, PARTS, 1, 1>(&mut unit, *place, panel, chunk.clone(), sums),
                    }
                }
            }
        }
        drop(unit);
        let count = channels.len() * WIDTH;
        for tap in 1..places.len() {
            sums.0.copy_within(tap * WIDTH * WIDTH..tap * WIDTH * WIDTH + count, tap * count);
        }
        let sums = &sums.0[..places.len() * count];
        // SAFETY: `run` asked for the results; this range of these taps, channels and filters is this piece's own.
        unsafe { cut.ranges.deliver(self.results, Place { range, group, panel: filter_block, taps: of_piece, channels }, sums) };
    }

    /// Adds the products of some steps to the sums of a tap.
    ///
    /// # Safety
    /// As [`run`](Self::run); the operands of all steps can be read, and the sums are 32 rows of 32 numbers.
    #[inline(always)]
    unsafe fn add<U: Unit, const PARTS: usize, const ROWS: usize, const COLUMNS: usize>(
        &self,
        unit: &mut U,
        place: usize,
        panel: usize,
        steps: std::ops::Range<usize>,
        sums: &mut [f32],
    ) {
        // SAFETY: by the contract.
        unsafe {
            unit.load_sums::<ROWS, COLUMNS>(sums.as_ptr(), WIDTH);
            for step in steps {
                let left = Left {
                    from: self.planes.at(place + step * DEPTH).cast_const(),
                    step: self.cut.frame.plane_step(),
                    part_step: self.part_steps[0],
                };
                let right = Right {
                    from: self.pairs.at(panel + step * OPERAND).cast_const(),
                    step: self.cut.steps * OPERAND,
                    part_step: self.part_steps[1],
                };
                products::add::<U, PARTS, ROWS, COLUMNS>(unit, left, right);
            }
            unit.store_sums::<ROWS, COLUMNS>(sums.as_mut_ptr(), WIDTH);
        }
    }
}
