//! The frame: the input with so many zeros around it that each tap of the kernel is one constant distance.
//!
//! Along each axis a frame has room for the input and for the padding of one side only: what lies beyond the end of a row is
//! the beginning of the next, and images lie below each other in the same way. With the frame's size F_h×F_w, output (n, oy,
//! ox) is at *position* (n·F_h + oy)·F_w + ox, and what it sees through a tap is at its own position plus the tap's distance.
//! Every position is computed, also those that are no outputs, whose results are dropped.
//!
//! With a stride S the input is taken apart into S_h·S_w *components*, the pixels whose row and column leave the same remainders,
//! each with a frame of its own; those that no tap reads are left out.

use std::ops::Range;

use super::unit::DEPTH;
use crate::conv::ConvShape;
use crate::conv::direct::geometry::{AxisTaps, ProblemAxis, greatest_common_divisor};

/// Bytes of the frames that are kept at a time, if one image does not take more.
const FRAME_BYTES: usize = 8 << 20;
/// Bytes after which a cache set repeats, or nearly so: pixels that are a multiple of it apart push each other out.
const CACHE_STEP: usize = 1 << 10;
/// Pixels that frames may have, for each pixel of the input or the output.
const MOST_PIXELS: usize = 4;

/// One axis of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameAxis {
    problem: ProblemAxis,
    /// Taps that are so many apart read the same component.
    period: usize,
    /// Components.
    pub components: usize,
    /// Rows or columns of a frame.
    pub size: usize,
    /// Outputs of the phase that has most.
    outputs: usize,
    /// How far before its own place an output sees, and how far behind.
    reach: [usize; 2],
}

impl FrameAxis {
    fn new(problem: ProblemAxis) -> Self {
        let step = problem.step();
        let period = if problem.backward { 1 } else { step / greatest_common_divisor(step, problem.window.dilation) };
        let inputs = problem.input.div_ceil(step) as isize;
        let (mut before, mut behind, mut reach) = (0, 0, 0);
        for phase in 0..problem.phases() {
            let taps = problem.taps(phase);
            for number in [0, taps.range.count.saturating_sub(1)].into_iter().filter(|_| taps.range.count > 0) {
                let shift = shift(&problem, &taps, number);
                before = before.max(-shift);
                reach = reach.max(shift);
                behind = behind.max(problem.outputs(phase) as isize + shift - inputs);
            }
        }
        let outputs = (0..problem.phases()).map(|phase| problem.outputs(phase)).max().unwrap_or(1);
        let size = ((inputs + before.max(behind)) as usize).max(outputs);
        Self { problem, period, components: period.min(problem.window.size), size, outputs, reach: [before as usize, reach as usize] }
    }

    /// The first input of a component, and how many there are.
    fn inputs(&self, component: usize) -> (usize, usize) {
        let (taps, step) = (self.problem.taps(0), self.problem.step());
        let first = match self.problem.backward {
            true => 0,
            false => (taps.offset + component as isize * taps.offset_step).rem_euclid(step as isize) as usize,
        };
        (first, self.problem.input.saturating_sub(first).div_ceil(step))
    }
}

/// How far from its own place an output sees through a tap, in the component that the tap reads.
fn shift(problem: &ProblemAxis, taps: &AxisTaps, number: usize) -> isize {
    (taps.offset + number as isize * taps.offset_step).div_euclid(problem.step() as isize)
}

/// The frames of a pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub h: FrameAxis,
    pub w: FrameAxis,
    /// Images of the whole pass.
    pub images: usize,
    /// Images that are in the frames at a time.
    pub round: usize,
    pub groups: usize,
    /// Channels of a group, which are summed over.
    pub channels: usize,
    /// Output channels of a group.
    pub filters: usize,
    /// Rows before the first position.
    lead: usize,
    /// Pixels of one component.
    pub pixels: usize,
}

impl Frame {
    /// The frames of `x` in the forward pass and for the gradient of the weights. Numbers are split into so many parts.
    pub fn forward(shape: &ConvShape, parts: usize) -> Self {
        let axis = |window, input, output| ProblemAxis { window, input, output, backward: false };
        let h = axis(shape.window().h, shape.h(), shape.oh());
        let w = axis(shape.window().w, shape.w(), shape.ow());
        Self::new(shape, h, w, [shape.group_channels(), shape.group_filters()], parts)
    }

    /// The frames of `dy` for the gradient of the input.
    pub fn backward_input(shape: &ConvShape, parts: usize) -> Self {
        let axis = |window, input, output| ProblemAxis { window, input, output, backward: true };
        let h = axis(shape.window().h, shape.oh(), shape.h());
        let w = axis(shape.window().w, shape.ow(), shape.w());
        Self::new(shape, h, w, [shape.group_filters(), shape.group_channels()], parts)
    }

    fn new(shape: &ConvShape, h: ProblemAxis, w: ProblemAxis, [channels, filters]: [usize; 2], parts: usize) -> Self {
        let (h, w) = (FrameAxis::new(h), FrameAxis::new(w));
        let lead = h.reach[0] + usize::from(w.reach[0] > 0);
        let mut frame = Self { h, w, images: shape.n(), round: 1, groups: shape.groups(), channels, filters, lead, pixels: 0 };
        let image_bytes = 2 * parts * frame.components() * h.size * w.size * frame.pixel_step();
        let most = (FRAME_BYTES / image_bytes).clamp(1, frame.images);
        frame.round = frame.images.div_ceil(frame.images.div_ceil(most));
        let behind = h.reach[1] * w.size + w.reach[1];
        frame.pixels = lead * w.size + frame.positions(frame.round).next_multiple_of(DEPTH) + behind;
        frame
    }

    /// Whether the frames are not much larger than what is read and written.
    pub fn is_worthwhile(&self) -> bool {
        let (h, w) = (&self.h, &self.w);
        let frame = (self.components() * h.size).saturating_mul(w.size);
        let image = (h.problem.input * w.problem.input).max(h.outputs * w.outputs);
        frame <= MOST_PIXELS * (image + DEPTH)
    }

    pub fn components(&self) -> usize {
        self.h.components * self.w.components
    }

    /// Steps of 32 channels that a group is summed over in.
    pub fn blocks(&self) -> usize {
        self.channels.div_ceil(DEPTH)
    }

    /// Numbers from one pixel to the next: all groups, each padded with zeros to whole blocks.
    pub fn pixel_step(&self) -> usize {
        let step = self.groups * self.blocks() * DEPTH;
        if (2 * step).is_multiple_of(CACHE_STEP) { step + DEPTH } else { step }
    }

    /// Pixels from one row of a line of pixels to the next that many rows may have without pushing each other out.
    pub fn plane_step(&self) -> usize {
        let step = self.pixels.next_multiple_of(DEPTH);
        if (2 * step).is_multiple_of(CACHE_STEP) { step + DEPTH } else { step }
    }

    /// Positions from the first to the last output of so many images.
    pub fn positions(&self, images: usize) -> usize {
        ((images - 1) * self.h.size + self.h.outputs - 1) * self.w.size + self.w.outputs
    }

    /// The taps of a phase, rows and columns.
    pub fn taps(&self, phase: [usize; 2]) -> [AxisTaps; 2] {
        [self.h.problem.taps(phase[0]), self.w.problem.taps(phase[1])]
    }

    /// All phases of the output.
    pub fn phases(&self) -> impl Iterator<Item = [usize; 2]> + use<> {
        let (rows, cols) = (self.h.problem.phases(), self.w.problem.phases());
        (0..rows).flat_map(move |row| (0..cols).map(move |col| [row, col]))
    }

    /// The component that a tap reads, and which of its pixels position 0 sees there.
    pub fn tap(&self, taps: &[AxisTaps; 2], row: usize, col: usize) -> (usize, usize) {
        let component = row % self.h.period * self.w.components + col % self.w.period;
        let shift = shift(&self.h.problem, &taps[0], row) * self.w.size as isize + shift(&self.w.problem, &taps[1], col);
        (component, ((self.lead * self.w.size) as isize + shift) as usize)
    }

    /// Calls `each` with neighbouring pixels of a component that are all in the input (pixel, where the first is, and how many
    /// follow it at the stride's distance), or all zeros (no place). `images` are those that are there.
    #[inline(always)]
    pub fn runs(&self, component: usize, pixels: Range<usize>, images: usize, mut each: impl FnMut(usize, usize, Option<usize>)) {
        let (first_row, rows) = self.h.inputs(component / self.w.components);
        let (first_col, cols) = self.w.inputs(component % self.w.components);
        let mut pixel = pixels.start;
        while pixel < pixels.end {
            let (line, col) = (pixel / self.w.size, pixel % self.w.size);
            let left = (pixels.end - pixel).min(self.w.size - col);
            let (image, row) = match line.checked_sub(self.lead) {
                Some(line) => (line / self.h.size, line % self.h.size),
                None => (images, 0),
            };
            let (count, place) = if image < images && row < rows && col < cols {
                let iy = first_row + row * self.h.problem.step();
                let ix = first_col + col * self.w.problem.step();
                (left.min(cols - col), Some((image * self.h.problem.input + iy) * self.w.problem.input + ix))
            } else {
                (left, None)
            };
            each(pixel, count, place);
            pixel += count;
        }
    }

    /// Pixels of the input from one column of a component to the next.
    pub fn col_step(&self) -> usize {
        self.w.problem.step()
    }

    /// The output at a position of a phase.
    pub fn place(&self, position: usize) -> Place {
        let (line, col) = (position / self.w.size, position % self.w.size);
        Place { image: line / self.h.size, row: line % self.h.size, col }
    }

    /// The outputs of a phase among the first so many images.
    pub fn outputs(&self, phase: [usize; 2], images: usize) -> Outputs {
        let (h, w) = (&self.h.problem, &self.w.problem);
        Outputs {
            sizes: [self.h.size, self.w.size],
            images,
            counts: [h.outputs(phase[0]), w.outputs(phase[1])],
            phase,
            steps: [h.output_step(), w.output_step()],
            image: [h.output, w.output],
        }
    }
}

/// A position as image, row and column of the frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    image: usize,
    row: usize,
    col: usize,
}

/// Which positions are outputs, and which.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outputs {
    /// Rows and columns of a frame.
    sizes: [usize; 2],
    images: usize,
    /// Outputs of the phase along each axis.
    counts: [usize; 2],
    phase: [usize; 2],
    steps: [usize; 2],
    /// Height and width of the output.
    image: [usize; 2],
}

impl Outputs {
    /// Which pixel of the output this position is, if it is one; moves on to the next position.
    #[inline(always)]
    pub fn next(&self, place: &mut Place) -> Option<usize> {
        let Place { image, row, col } = *place;
        place.col += 1;
        if place.col == self.sizes[1] {
            (place.col, place.row) = (0, row + 1);
            if place.row == self.sizes[0] {
                (place.row, place.image) = (0, image + 1);
            }
        }
        let is_output = image < self.images && row < self.counts[0] && col < self.counts[1];
        let [y, x] = [self.phase[0] + row * self.steps[0], self.phase[1] + col * self.steps[1]];
        is_output.then_some((image * self.image[0] + y) * self.image[1] + x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows every output through every tap, and compares with the definition.
    fn check(text: &str, backward: bool) {
        let shape: ConvShape = text.parse().unwrap();
        let frame = if backward { Frame::backward_input(&shape, 1) } else { Frame::forward(&shape, 1) };
        // Which pixel of the input each pixel of the frames holds.
        let mut held = vec![None; frame.components() * frame.pixels];
        for component in 0..frame.components() {
            frame.runs(component, 0..frame.pixels, frame.round, |pixel, count, place| {
                for next in 0..count {
                    held[component * frame.pixels + pixel + next] = place.map(|place| place + next * frame.col_step());
                }
            });
        }
        let sizes = if backward { [shape.oh(), shape.ow(), shape.h(), shape.w()] } else { [shape.h(), shape.w(), shape.oh(), shape.ow()] };
        let mut written = vec![0; frame.round * sizes[2] * sizes[3]];
        for phase in frame.phases() {
            let (taps, outputs) = (frame.taps(phase), frame.outputs(phase, frame.round));
            let mut place = frame.place(0);
            for position in 0..frame.positions(frame.round).next_multiple_of(DEPTH) {
                let output = outputs.next(&mut place);
                if let Some(output) = output {
                    written[output] += 1;
                }
                for (row, col) in (0..taps[0].range.count).flat_map(|row| (0..taps[1].range.count).map(move |col| (row, col))) {
                    let (component, first) = frame.tap(&taps, row, col);
                    assert!(first + position < frame.pixels, "{text}: beyond the frame");
                    let Some(output) = output else { continue };
                    let seen = |axis: usize, output: usize, number: usize| {
                        let window = [shape.window().h, shape.window().w][axis];
                        let tap = taps[axis].range.first + number * taps[axis].range.step;
                        match backward {
                            false => window.position(output, tap),
                            true => {
                                let place = (output + window.pad_before) as isize - (tap * window.dilation) as isize;
                                assert_eq!(place % window.stride as isize, 0);
                                place / window.stride as isize
                            }
                        }
                    };
                    let (image, y, x) = (output / (sizes[2] * sizes[3]), output / sizes[3] % sizes[2], output % sizes[3]);
                    let (iy, ix) = (seen(0, y, row), seen(1, x, col));
                    let inside = iy >= 0 && ix >= 0 && iy < sizes[0] as isize && ix < sizes[1] as isize;
                    let expected = inside.then(|| (image * sizes[0] + iy as usize) * sizes[1] + ix as usize);
                    assert_eq!(held[component * frame.pixels + first + position], expected, "{text} {phase:?} {output} tap {row} {col}");
                }
            }
        }
        assert!(written.iter().all(|count| *count == 1), "{text}: {written:?}");
    }

    #[test]
    fn every_output_sees_through_every_tap_what_the_definition_says() {
        for text in [
            "conv n3 c4 5x6 -> 4 w3 s1 p1",
            "conv n2 c4 7x5 -> 4 w1 s1 p0",
            "conv n2 c4 7x8 -> 4 w1 s2 p0",
            "conv n2 c4 9x8 -> 4 w3 s2 p1",
            "conv n2 c4 9x11 -> 4 w5x2 s3x1 p4,0,1,2 d1x2",
            "conv n2 c4 1x1 -> 4 w3 s1 p1",
            "conv n1 c4 6x6 -> 4 w1 s1 p3",
            "conv n2 c4 12x9 -> 4 w3 s2 p3 d2",
            "conv n2 c4 5x5 -> 4 w2 s4 p1",
            "conv n1 c4 13x13 -> 4 w4 s4 p3 d3",
            "conv n5 c4 1x1 -> 4 w1 s1 p0",
        ] {
            check(text, false);
            check(text, true);
        }
    }

    #[test]
    fn a_pixel_kernel_wastes_nothing_and_neighbours_share_their_padding() {
        let frame = |text: &str| Frame::forward(&text.parse().unwrap(), 1);
        let pixel = frame("conv n4 c32 8x8 -> 32 w1 s1 p0");
        assert_eq!((pixel.pixels, pixel.positions(4)), (256, 256));
        let square = frame("conv n4 c32 7x7 -> 32 w3 s1 p1");
        assert_eq!([square.h.size, square.w.size], [8, 8]);
        let strided = frame("conv n1 c32 8x8 -> 32 w1 s2 p0");
        assert_eq!((strided.components(), strided.positions(1)), (1, 16));
        assert!(!frame("conv n1 c32 2x2 -> 32 w3 s1 p40 d40").is_worthwhile());
    }

    #[test]
    fn large_batches_are_taken_some_images_at_a_time() {
        let frame = |n: usize| Frame::forward(&format!("conv n{n} c64 56x56 -> 64 w3 s1 p1").parse().unwrap(), 1);
        assert_eq!(frame(2).round, 2);
        let large = frame(64);
        assert!(large.round < 64 && large.round > 8, "{}", large.round);
    }
}
