//! Problems whose sums are so short that the weights of a vector or two of filters stay in registers or near them: images of one or
//! three channels, and 1×1 convolutions of few channels.
//!
//! Every output must see all of its taps inside the image, and these must be the rows of one stretch of numbers each.

use std::ops::Range;

use super::geometry::Problem;
use super::ranges::{part, product};
use super::run::{PIECE_MACS, PIECES};
use crate::conv::Epilogue;
use crate::gemm::short::{Pixels, ShortKernel};
use crate::gemm::{Kernels, Target};
use crate::stream;
use crate::{Isa, Machine};

/// Pixels that meet one vector of filters, or two, after the other: their inputs and outputs stay in the first-level cache.
const SEGMENT: usize = 64;
/// Pixels of a row that are worth loading the weights for.
const SHORTEST: usize = 16;

/// The loop for this problem, if there is one.
pub(super) fn kernel(problem: &Problem, isa: Isa) -> Option<&'static ShortKernel> {
    let Problem { h, w, .. } = problem;
    if h.phases() * w.phases() > 1 {
        return None;
    }
    let (rows, cols) = (h.taps(0), w.taps(0));
    let (height, width) = (h.outputs(0), w.outputs(0));
    let inside = rows.all_inside(h, 0, height) && cols.all_inside(w, 0, width);
    let fits = |kernel: &&ShortKernel| cols.range.count == 1 && (kernel.rows, kernel.length) == (rows.range.count, problem.channels);
    Kernels::of(isa).shorts.iter().find(fits).filter(|_| inside && rows.offset_step > 0 && width >= SHORTEST)
}

/// What there is to compute; [`run`](super::run::run) has checked the lengths of all slices.
pub(super) struct Short<'a> {
    pub problem: &'a Problem,
    pub kernel: &'static ShortKernel,
    pub x: &'a [f32],
    pub packed: &'a [f32],
    pub epilogue: &'a Epilogue<'a, f32>,
    /// Whether the output is written past the caches.
    pub streamed: bool,
    pub y: Target,
}

impl Short<'_> {
    /// Computes it.
    pub fn run(&self, machine: &Machine) {
        let Problem { h, w, images, groups, filters, .. } = *self.problem;
        let kernels = Kernels::of(machine.isa);
        let (width, lines) = (w.outputs(0), images * h.outputs(0) * groups);
        let products = self.kernel.rows * self.kernel.length;
        let macs = product([products, filters.next_multiple_of(kernels.panel()), width, lines]);
        let wanted = (macs / PIECE_MACS).clamp(1, PIECES);
        let segments = wanted.div_ceil(lines).clamp(width.div_ceil(SEGMENT), width.div_ceil(SHORTEST));
        let units = lines * segments;
        let pieces = wanted.min(units);
        let work = |piece: usize| {
            for unit in part(piece, pieces, units) {
                self.segment(kernels, unit / segments, part(unit % segments, segments, width));
            }
            if self.streamed {
                stream::fence(machine.isa);
            }
        };
        machine.threads.run(pieces, work);
    }

    /// All filters at these pixels of a line; lines are counted by image, row and group.
    fn segment(&self, kernels: &Kernels, line: usize, pixels: Range<usize>) {
        let Problem { h, w, input, output, filters, groups, .. } = *self.problem;
        let (row, group) = (line / groups, line % groups);
        let (image, row) = (row / h.outputs(0), row % h.outputs(0));
        let (rows, cols) = (h.taps(0), w.taps(0));
        let seen = |first: usize, offset: isize| first.wrapping_add_signed(offset);
        let from = image * input.image
            + seen(row * h.step(), rows.offset) * input.row
            + seen(pixels.start * w.step(), cols.offset) * input.col
            + group * input.group;
        let y_step = w.output_step() * output.col;
        let to = image * output.image + row * h.output_step() * output.row + pixels.start * y_step;
        let products = self.kernel.rows * self.kernel.length;
        let panels = filters.div_ceil(kernels.panel());
        let at = |numbers: Option<&[f32]>, place: usize| numbers.map_or(std::ptr::null(), |numbers| numbers[place..].as_ptr());
        let mut first = 0;
        while first < filters {
            let left = filters - first;
            let (run, vectors) = match self.kernel.two {
                Some(two) if left > kernels.lanes => (two, 2),
                _ => (self.kernel.one, 1),
            };
            let filter = group * filters + first;
            let (panel, lane) = (group * panels + first / kernels.panel(), first % kernels.panel());
            let pixels = Pixels {
                x: self.x[from..].as_ptr(),
                x_step: w.step() * input.col,
                x_row: rows.offset_step.unsigned_abs() * input.row,
                weights: self.packed[panel * products * kernels.panel() + lane..].as_ptr(),
                weights_step: kernels.panel(),
                y: self.y.pointer().wrapping_add(to + filter),
                y_step,
                count: pixels.len(),
                lanes: kernels.lanes.min(left - (vectors - 1) * kernels.lanes),
                bias: at(self.epilogue.bias, filter),
                residual: at(self.epilogue.residual, to + filter),
                relu: self.epilogue.relu,
                streamed: self.streamed,
            };
            // SAFETY: the kernel was chosen by the token of its instructions, and the lengths of all slices were checked. All taps
            // of all outputs are inside the image, so that the rows of these pixels are in `x`. The outputs of these pixels and
            // this group belong to this call alone: calls differ in line or segment.
            unsafe { run(&pixels) }
            first += vectors * kernels.lanes;
        }
    }
}
