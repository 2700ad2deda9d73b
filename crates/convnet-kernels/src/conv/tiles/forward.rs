//! The forward pass, and the gradient of the input: a frame times packed weights.
//!
//! A piece of work is some positions and some panels of filters. For 32 positions and 32 filters at a time all products are
//! added up, over all taps and channels, before anything is written: as long as the weights of 32 filters stay in the
//! second-level cache, which those of 512 channels and 3×3 taps do in all three parts, nothing is gained by cutting the sum.

use super::fill::{Fill, Halves, SPARE};
use super::frame::{Frame, Outputs};
use super::products::{self, Left, Right};
use super::unit::{DEPTH, OPERAND, SIDE, Unit};
use super::{MOST_TAPS, Routines, each, pack};
use crate::Machine;
use crate::conv::direct::geometry::Problem;
use crate::conv::{ConvShape, Epilogue, Pass};
use crate::gemm::Target;
use crate::gemm::pack::WeightOrder;
use crate::isa::vector::Vector;

/// Bytes of the frame that a piece reads, so that they stay in the second-level cache beside the weights.
const PIECE_BYTES: usize = 1 << 18;
/// Pieces that a phase is cut into, if it has so many positions or filters.
const PIECES: usize = 48;
/// The frame of a pass.
pub(super) fn frame(shape: &ConvShape, pass: Pass, parts: usize) -> Frame {
    if pass == Pass::BackwardInput { Frame::backward_input(shape, parts) } else { Frame::forward(shape, parts) }
}

/// The order of the weights of each phase.
pub(super) fn orders(shape: &ConvShape, pass: Pass) -> impl Iterator<Item = WeightOrder> + use<> {
    let problem = if pass == Pass::BackwardInput { Problem::backward_input(shape) } else { Problem::forward(shape) };
    let shape = *shape;
    problem.phases().map(move |phase| problem.weight_order(&shape, phase))
}

/// Numbers of working memory.
pub(super) fn scratch_len(frame: &Frame, parts: usize) -> usize {
    (parts * Fill::len(frame)).div_ceil(2) + SPARE
}

/// Operands of [`run`].
pub(super) struct Operands<'a> {
    pub x: &'a [f32],
    pub packed: &'a [f32],
    pub epilogue: &'a Epilogue<'a, f32>,
}

/// Computes `y` from `x`, or the gradient of the input from that of the output.
///
/// # Panics
/// If a slice is shorter than the problem says.
pub(super) fn run<const PARTS: usize>(
    machine: &Machine,
    shape: &ConvShape,
    pass: Pass,
    operands: &Operands<'_>,
    y: &mut [f32],
    scratch: &mut [f32],
) {
    let (frame, routines) = (frame(shape, pass, PARTS), Routines::of(machine.isa, PARTS));
    let (x_len, y_len) = match pass {
        Pass::BackwardInput => (shape.output_len(), shape.input_len()),
        _ => (shape.input_len(), shape.output_len()),
    };
    let Operands { x, packed, epilogue } = *operands;
    let filters = frame.groups * frame.filters;
    assert!(x.len() == x_len && y.len() == y_len, "image of the wrong length");
    let packed_len = orders(shape, pass).map(|order| pack::len(&order, PARTS)).sum::<usize>();
    assert!(2 * packed.len() >= packed_len, "packed weights of the wrong length");
    assert!(epilogue.bias.is_none_or(|bias| bias.len() == filters), "bias of the wrong length");
    assert!(epilogue.residual.is_none_or(|residual| residual.len() == y.len()), "residual of the wrong length");
    let part_step = Fill::len(&frame);
    let to = Halves::aligned(scratch, PARTS * part_step);
    let (x_image, y_image, y) = (x_len / frame.images, y_len / frame.images, Target::new(y));
    let each = each::<PARTS>(machine, shape);
    for first in (0..frame.images).step_by(frame.round) {
        let images = frame.round.min(frame.images - first);
        let fill = Fill { frame: &frame, x: &x[first * x_image..(first + images) * x_image], images, to, part_step };
        // SAFETY: the routines were chosen by the token of their instructions; the scratch holds all parts, and each piece is
        // worked on once.
        each(fill.pieces(), &|piece| unsafe { (routines.fill)(&fill, piece) });
        let mut weights = packed.as_ptr().cast::<u16>();
        for (phase, order) in frame.phases().zip(orders(shape, pass)) {
            let at_image = |numbers: Option<&[f32]>| numbers.map_or(std::ptr::null(), |numbers| numbers[first * y_image..].as_ptr());
            let work = Work {
                frame: &frame,
                phase,
                outputs: frame.outputs(phase, images),
                positions: frame.positions(images),
                cut: Cut::new(&frame, frame.positions(images), PARTS),
                to,
                part_step,
                weights,
                panel_len: pack::panel_len(&order, PARTS),
                y: y.pointer().wrapping_add(first * y_image),
                bias: epilogue.bias.map_or(std::ptr::null(), <[f32]>::as_ptr),
                residual: at_image(epilogue.residual),
                relu: epilogue.relu,
            };
            // SAFETY: the routines were chosen by the token of their instructions; the frames of these images are filled, and
            // all lengths were checked. Each piece has its own positions and filters of this phase.
            each(work.cut.pieces(&frame), &|piece| unsafe { (routines.forward)(&work, piece) });
            weights = weights.wrapping_add(pack::len(&order, PARTS));
        }
    }
}

/// How the positions and the filters of a phase are cut; it depends on the problem alone.
struct Cut {
    /// Positions of a piece.
    positions: usize,
    position_pieces: usize,
    /// Pieces that the panels of a group are divided among.
    panel_pieces: usize,
}

impl Cut {
    fn new(frame: &Frame, positions: usize, parts: usize) -> Self {
        let by_cache = PIECE_BYTES / (2 * parts * frame.blocks() * DEPTH);
        let by_count = positions.div_ceil(PIECES.div_ceil(frame.groups));
        let size = by_cache.min(by_count.max(4 * DEPTH)).next_multiple_of(DEPTH);
        let position_pieces = positions.div_ceil(size);
        let pairs = frame.filters.div_ceil(2 * SIDE);
        let panel_pieces = PIECES.div_ceil(position_pieces * frame.groups).min(pairs);
        Self { positions: size, position_pieces, panel_pieces }
    }

    fn pieces(&self, frame: &Frame) -> usize {
        frame.groups * self.panel_pieces * self.position_pieces
    }
}

/// One phase of some images.
pub(super) struct Work<'a> {
    frame: &'a Frame,
    phase: [usize; 2],
    outputs: Outputs,
    positions: usize,
    cut: Cut,
    /// The frames.
    to: Halves,
    part_step: usize,
    /// Packed weights of the phase.
    weights: *const u16,
    panel_len: usize,
    y: *mut f32,
    bias: *const f32,
    residual: *const f32,
    relu: bool,
}

// SAFETY: the pointers are to slices that `run` holds; pieces read them, and write outputs of their own.
unsafe impl Sync for Work<'_> {}

/// The sums of 32 positions and 32 filters.
#[repr(align(64))]
struct Sums([f32; 4 * SIDE * SIDE]);

impl Work<'_> {
    /// Computes the outputs of one piece.
    ///
    /// # Safety
    /// The CPU has the instructions of `U`, the frames are filled, and nobody else works on this piece.
    #[inline(always)]
    pub unsafe fn run<U: Unit, const PARTS: usize>(&self, piece: usize) {
        let (frame, cut) = (self.frame, &self.cut);
        let (rest, position_piece) = (piece / cut.position_pieces, piece % cut.position_pieces);
        let (group, panel_piece) = (rest / cut.panel_pieces, rest % cut.panel_pieces);
        let pairs = frame.filters.div_ceil(2 * SIDE);
        let part = |index: usize| index * pairs / cut.panel_pieces;
        let positions = position_piece * cut.positions..((position_piece + 1) * cut.positions).min(self.positions);
        let taps = frame.taps(self.phase);
        let (mut places, mut count) = ([0; MOST_TAPS], 0);
        for row in 0..taps[0].range.count {
            for col in 0..taps[1].range.count {
                let (component, first) = frame.tap(&taps, row, col);
                places[count] = (component * frame.pixels + first) * frame.pixel_step() + group * frame.blocks() * DEPTH;
                count += 1;
            }
        }
        let places = &places[..count];
        let mut sums = Sums([0.0; 4 * SIDE * SIDE]);
        // SAFETY: by the contract.
        let mut unit = unsafe { U::configured() };
        for pair in part(panel_piece)..part(panel_piece + 1) {
            let first = 2 * pair * SIDE;
            let filters = (2 * SIDE).min(frame.filters - first);
            let weights = self.weights.wrapping_add((group * frame.filters.div_ceil(SIDE) + 2 * pair) * self.panel_len);
            let mut place = frame.place(positions.start);
            for position in positions.clone().step_by(DEPTH) {
                let count = DEPTH.min(positions.end - position);
                let outputs: [Option<usize>; DEPTH] =
                    std::array::from_fn(|number| self.outputs.next(&mut place).filter(|_| number < count));
                if outputs.iter().all(Option::is_none) {
                    continue;
                }
                // SAFETY: the taps see pixels of the frames at all positions, rounded up to 32; the weights of one or two
                // panels are there. The outputs, and these filters of them, are this piece's own.
                unsafe {
                    match (count > SIDE, filters > SIDE) {
                        (true, true) => self.sum::<U, PARTS, 2, 2>(&mut unit, places, position, weights, &mut sums),
                        (true, false) => self.sum::<U, PARTS, 2, 1>(&mut unit, places, position, weights, &mut sums),
                        (false, true) => self.sum::<U, PARTS, 1, 2>(&mut unit, places, position, weights, &mut sums),
                        (false, false) => self.sum::<U, PARTS, 1, 1>(&mut unit, places, position, weights, &mut sums),
                    }
                    self.deliver::<U::V>(&outputs, group * frame.filters + first, filters, &sums);
                }
            }
        }
    }

    /// Adds up the products of some positions and filters.
    ///
    /// # Safety
    /// As [`run`](Self::run); the taps see pixels of the frames, and the weights of the panels can be read.
    #[inline(always)]
    unsafe fn sum<U: Unit, const PARTS: usize, const ROWS: usize, const COLUMNS: usize>(
        &self,
        unit: &mut U,
        taps: &[usize],
        position: usize,
        weights: *const u16,
        sums: &mut Sums,
    ) {
        let (blocks, step) = (self.frame.blocks(), self.frame.pixel_step());
        let mut right = Right { from: weights, step: self.panel_len, part_step: OPERAND };
        // SAFETY: by the contract; the sums have 32 rows of 32 numbers.
        unsafe {
            unit.clear::<ROWS, COLUMNS>();
            for tap in taps {
                let from = self.to.at(tap + position * step).cast_const();
                for block in 0..blocks {
                    let left = Left { from: from.add(block * DEPTH), step, part_step: self.part_step };
                    products::add::<U, PARTS, ROWS, COLUMNS>(unit, left, right);
                    right.from = right.from.wrapping_add(PARTS * OPERAND);
                }
            }
            unit.store_sums::<ROWS, COLUMNS>(sums.0.as_mut_ptr(), 2 * SIDE);
        }
    }

    /// Adds bias and residual to the sums of those positions that are outputs, and writes them.
    ///
    /// # Safety
    /// As [`run`](Self::run); the outputs and the filters are this piece's own.
    #[inline(always)]
    unsafe fn deliver<V: Vector>(&self, outputs: &[Option<usize>; DEPTH], first: usize, filters: usize, sums: &Sums) {
        let all = self.frame.groups * self.frame.filters;
        for (sums, output) in sums.0.chunks_exact(2 * SIDE).zip(outputs) {
            let Some(output) = output else { continue };
            let start = output * all + first;
            for (from, sums) in sums.chunks_exact(V::LANES).enumerate() {
                let from = from * V::LANES;
                if from >= filters {
                    break;
                }
                let count = V::LANES.min(filters - from);
                // SAFETY: `count` numbers of bias, residual and output are there, by the contract.
                unsafe {
                    let load = |numbers: *const f32| if count == V::LANES { V::load(numbers) } else { V::load_first(numbers, count) };
                    let mut result = V::load(sums.as_ptr());
                    if !self.bias.is_null() {
                        result = result.add(load(self.bias.add(first + from)));
                    }
                    if !self.residual.is_null() {
                        result = result.add(load(self.residual.add(start + from)));
                    }
                    if self.relu {
                        result = result.relu();
                    }
                    let to = self.y.add(start + from);
                    if count == V::LANES { result.store(to) } else { result.store_first(to, count) }
                }
            }
        }
    }
}

/// Steps of 16×16 sums that a pass takes.
pub(super) fn steps(shape: &ConvShape, pass: Pass, parts: usize) -> f64 {
    let frame = frame(shape, pass, parts);
    let rounds = frame.images.div_ceil(frame.round);
    let positions = (rounds * frame.positions(frame.round).div_ceil(SIDE)) as f64;
    let taps: usize = orders(shape, pass).map(|order| order.rows.count * order.cols.count).sum();
    positions * (frame.groups * frame.filters.div_ceil(SIDE) * frame.blocks() * taps * products::count(parts)) as f64
}

/// Numbers that are converted for a pass.
pub(super) fn converted(shape: &ConvShape, pass: Pass, parts: usize) -> f64 {
    let frame = frame(shape, pass, parts);
    (frame.images.div_ceil(frame.round) * Fill::len(&frame) * parts) as f64
}
