//! Which input pixels each output pixel sees: one description for the forward pass and for the gradient of the input.
//!
//! The gradient of the input is itself a convolution, of `dy` with the kernel turned around and its two channel axes
//! exchanged. With a stride S, the input pixels whose rows leave the remainder p when divided by S see only the taps r
//! with (p + P − r·D) divisible by S. These *phases* (S_h·S_w of them) are ordinary convolutions of stride 1, each with
//! its own taps, and together they write every pixel once: nothing is scattered.

use std::ops::Range;

use crate::conv::ConvShape;
use crate::gemm::pack::{TapRange, WeightOrder};
use crate::window::Axis;

/// Distances, in numbers, between neighbours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps {
    pub image: usize,
    pub row: usize,
    pub col: usize,
    pub group: usize,
}

/// The taps of one phase along one axis, and where they look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AxisTaps {
    /// Which taps of the kernel.
    pub range: TapRange,
    /// Where output 0 sees the first of them.
    pub offset: isize,
    /// How much further it sees the next.
    pub offset_step: isize,
}

impl AxisTaps {
    /// Which of the taps, counted from the first, an output sees inside the input.
    pub fn inside(&self, axis: &ProblemAxis, output: usize) -> Range<usize> {
        let first = (output * axis.step()) as isize + self.offset;
        let input = axis.input as isize;
        let [from, end] = match self.offset_step {
            // Positions fall: how many taps stay at `limit` or beyond.
            step @ ..0 => [input, 0].map(|limit| (first - limit).div_euclid(-step) + 1),
            // Positions rise: how many taps stay before `limit`. Without a step there are no taps.
            step => [0, input].map(|limit| (limit - first + step - 1).div_euclid(step.max(1))),
        };
        let within = |tap: isize| tap.clamp(0, self.range.count as isize) as usize;
        within(from)..within(end).max(within(from))
    }

    /// Whether `count` outputs from `first` on see all taps inside the input.
    pub fn all_inside(&self, axis: &ProblemAxis, first: usize, count: usize) -> bool {
        let of_first = (first * axis.step()) as isize + self.offset;
        let (last_tap, last_output) = ((self.range.count as isize - 1) * self.offset_step, ((count as isize - 1) * axis.step() as isize));
        let inside = |position: isize| position >= 0 && (position as usize) < axis.input;
        [0, last_tap].iter().all(|tap| inside(of_first + tap) && inside(of_first + tap + last_output))
    }
}

/// One axis of a problem.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProblemAxis {
    /// The window of the convolution.
    pub window: Axis,
    /// Length of what is read.
    pub input: usize,
    /// Length of what is written, all phases together.
    pub output: usize,
    /// Whether this is the gradient of the input.
    pub backward: bool,
}

impl ProblemAxis {
    /// How far the input position moves from one output to the next of the same phase.
    pub fn step(&self) -> usize {
        if self.backward { 1 } else { self.window.stride }
    }

    /// Number of phases: outputs that see different taps.
    pub fn phases(&self) -> usize {
        if self.backward { self.window.stride.min(self.output) } else { 1 }
    }

    /// Distance between outputs of the same phase.
    pub fn output_step(&self) -> usize {
        if self.backward { self.window.stride } else { 1 }
    }

    /// Number of outputs of a phase.
    pub fn outputs(&self, phase: usize) -> usize {
        if self.backward { (self.output - phase).div_ceil(self.window.stride) } else { self.output }
    }

    /// The taps of a phase.
    pub fn taps(&self, phase: usize) -> AxisTaps {
        let Axis { size, stride, pad_before, dilation, .. } = self.window;
        if !self.backward {
            let range = TapRange { first: 0, step: 1, count: size };
            return AxisTaps { range, offset: -(pad_before as isize), offset_step: dilation as isize };
        }
        let step = stride / greatest_common_divisor(stride, dilation);
        let position = |tap: usize| (phase + pad_before) as isize - (tap * dilation) as isize;
        let Some(first) = (0..step.min(size)).find(|&tap| position(tap) % stride as isize == 0) else {
            return AxisTaps { range: TapRange { first: 0, step: 1, count: 0 }, offset: 0, offset_step: 0 };
        };
        let range = TapRange { first, step, count: (size - first).div_ceil(step) };
        AxisTaps { range, offset: position(first) / stride as isize, offset_step: -((step * dilation / stride) as isize) }
    }
}

pub(crate) fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// A set of ordinary convolutions that share their input and their output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Problem {
    pub images: usize,
    pub groups: usize,
    /// Channels of one group that are summed over, at each tap.
    pub channels: usize,
    /// Output channels of one group.
    pub filters: usize,
    pub h: ProblemAxis,
    pub w: ProblemAxis,
    pub input: Steps,
    pub output: Steps,
}

/// Steps of an image whose pixels follow each other.
pub(super) fn dense(height: usize, width: usize, channels: usize, group: usize) -> Steps {
    Steps { image: height * width * channels, row: width * channels, col: channels, group }
}

impl Problem {
    /// The forward pass.
    pub fn forward(shape: &ConvShape) -> Self {
        let axis = |window, input, output| ProblemAxis { window, input, output, backward: false };
        Self {
            images: shape.n(),
            groups: shape.groups(),
            channels: shape.group_channels(),
            filters: shape.group_filters(),
            h: axis(shape.window().h, shape.h(), shape.oh()),
            w: axis(shape.window().w, shape.w(), shape.ow()),
            input: dense(shape.h(), shape.w(), shape.c(), shape.group_channels()),
            output: dense(shape.oh(), shape.ow(), shape.k(), shape.group_filters()),
        }
        .flattened()
    }

    /// The gradient of the input.
    pub fn backward_input(shape: &ConvShape) -> Self {
        let axis = |window, input, output| ProblemAxis { window, input, output, backward: true };
        Self {
            images: shape.n(),
            groups: shape.groups(),
            channels: shape.group_filters(),
            filters: shape.group_channels(),
            h: axis(shape.window().h, shape.oh(), shape.h()),
            w: axis(shape.window().w, shape.ow(), shape.w()),
            input: dense(shape.oh(), shape.ow(), shape.k(), shape.group_filters()),
            output: dense(shape.h(), shape.w(), shape.c(), shape.group_channels()),
        }
        .flattened()
    }

    /// All pixels of all images in one row, if every output sees just the pixel in its own place.
    fn flattened(mut self) -> Self {
        if [self.h.window, self.w.window].iter().all(|axis| axis.is_pixel() && axis.stride == 1) {
            let pixels = self.images * self.h.input * self.w.input;
            (self.images, self.h.input, self.h.output, self.w.input, self.w.output) = (1, 1, 1, pixels, pixels);
            for steps in [&mut self.input, &mut self.output] {
                (steps.row, steps.image) = (pixels * steps.col, pixels * steps.col);
            }
        }
        self
    }

    /// The forward pass in which one tap is a whole kernel row: S·C numbers that follow each other. `input` is the image
    /// itself when nothing pads its rows, or a copy with padding around it.
    pub fn forward_by_rows(shape: &ConvShape, padded: Option<[usize; 2]>) -> Self {
        let mut problem = Self::forward(shape);
        let (h, w) = (&mut problem.h, &mut problem.w);
        problem.channels *= w.window.size;
        w.window.size = 1;
        w.window.pad_before = 0;
        if let Some([height, width]) = padded {
            (h.window.pad_before, h.input, w.input) = (0, height, width);
            problem.input = dense(height, width, shape.c(), 0);
        }
        problem
    }

    /// The weights of a phase, taken from the logical order K×(C/G)×R×S of a convolution.
    pub fn weight_order(&self, shape: &ConvShape, phase: [usize; 2]) -> WeightOrder {
        let (taps, per_filter) = (shape.window().taps(), shape.group_channels() * shape.window().taps());
        let (filter_step, channel_step) = if self.h.backward { (taps, per_filter) } else { (per_filter, taps) };
        WeightOrder {
            groups: self.groups,
            group_step: shape.group_filters() * per_filter,
            filters: self.filters,
            filter_step,
            channels: self.channels,
            channel_step,
            rows: self.h.taps(phase[0]).range,
            cols: self.w.taps(phase[1]).range,
            row_step: shape.window().w.size,
        }
    }

    /// All phases, those of one row of phases together.
    pub fn phases(&self) -> impl Iterator<Item = [usize; 2]> + use<> {
        let (rows, cols) = (self.h.phases(), self.w.phases());
        (0..rows).flat_map(move |row| (0..cols).map(move |col| [row, col]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Rounding;

    #[test]
    fn the_phases_together_see_exactly_the_pairs_of_the_forward_pass() {
        for (size, stride, before, after, dilation, input) in [
            (3, 1, 1, 1, 1, 5),
            (3, 2, 1, 0, 1, 6),
            (5, 3, 4, 2, 2, 9),
            (2, 4, 0, 0, 1, 7),
            (4, 4, 3, 3, 2, 11),
            (1, 2, 0, 0, 1, 6),
            (7, 3, 7, 0, 3, 20),
        ] {
            let window = Axis { size, stride, pad_before: before, pad_after: after, dilation };
            let outputs = window.output(input, Rounding::Floor).unwrap();
            let axis = ProblemAxis { window, input: outputs, output: input, backward: true };
            let mut pairs = 0;
            for phase in 0..axis.phases() {
                let taps = axis.taps(phase);
                for place in 0..axis.outputs(phase) {
                    let x = phase + place * axis.output_step();
                    assert!(x < input);
                    let inside = taps.inside(&axis, place);
                    for number in 0..taps.range.count {
                        let tap = taps.range.first + number * taps.range.step;
                        let y = place as isize + taps.offset + number as isize * taps.offset_step;
                        assert_eq!(y * stride as isize + (tap * dilation) as isize - before as isize, x as isize, "{window:?}");
                        pairs += usize::from(y >= 0 && y < outputs as isize);
                        assert_eq!(inside.contains(&number), y >= 0 && y < outputs as isize, "{window:?}, {place}: {inside:?}");
                    }
                }
            }
            let forward: usize = (0..outputs).map(|output| window.taps(output, input).len()).sum();
            assert_eq!(pairs, forward, "{window:?}");
        }
    }
}
