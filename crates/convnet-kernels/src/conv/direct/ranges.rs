//! How pieces put their sums together to the gradient of the weights.
//!
//! When all pixels are one range the sums go straight to the weights; otherwise each range leaves partial sums, which are
//! added in order at the end.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::geometry::Problem;
use crate::Threads;
use crate::conv::ConvShape;
use crate::gemm::microkernel::Rows;
use crate::gemm::pack::WeightOrder;
use crate::gemm::{Kernels, Target};

/// Part number `index` of `count` equal parts of `0..total`.
pub(in crate::conv) fn part(index: usize, count: usize, total: usize) -> Range<usize> {
    index * total / count..(index + 1) * total / count
}

/// The product, or the largest number there is.
pub(in crate::conv) fn product<const N: usize>(factors: [usize; N]) -> usize {
    factors.into_iter().fold(1, usize::saturating_mul)
}

/// Copies `count` rows of `numbers` numbers, at most two vectors, which begin `from_step` apart in `from` and `to_step` apart in `to`.
/// The last vector of a row is filled up with zeros.
pub(super) fn copy_rows(
    kernels: &Kernels,
    (count, numbers): (usize, usize),
    from: &[f32],
    from_step: usize,
    to: &mut [MaybeUninit<f32>],
    to_step: usize,
) {
    let vectors = numbers.div_ceil(kernels.lanes);
    assert!(count > 0 && (1..=2).contains(&vectors), "no rows, or none of two vectors at most");
    let (from, to) = (&from[..(count - 1) * from_step + numbers], &mut to[..(count - 1) * to_step + vectors * kernels.lanes]);
    let rows = Rows { from: from.as_ptr(), from_step, rows: count, numbers, to: to.as_mut_ptr().cast(), to_step };
    // SAFETY: the kernels were chosen by the token of their instructions; all numbers of the rows are in `from`, and `to` has room
    // for their vectors.
    unsafe { kernels.copy(vectors)(&rows) };
}

/// Ranges of pixels that have partial sums of their own.
pub(in crate::conv) struct Ranges {
    /// How many.
    pub count: usize,
    /// Filters of a panel.
    width: usize,
    order: WeightOrder,
}

/// Whose sums a piece has.
pub(in crate::conv) struct Place {
    pub range: usize,
    pub group: usize,
    pub panel: usize,
    pub taps: Range<usize>,
    pub channels: Range<usize>,
}

impl Ranges {
    pub fn new(shape: &ConvShape, width: usize, count: usize) -> Self {
        Self { count, width, order: Problem::forward(shape).weight_order(shape, [0, 0]) }
    }

    /// Numbers of working memory for the partial sums.
    pub fn scratch_len(&self) -> usize {
        if self.count == 1 { 0 } else { self.count * self.order.packed_len(self.width) }
    }

    /// Where [`deliver`](Self::deliver) puts sums.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub fn results(&self, shape: &ConvShape, dw: &mut [f32], scratch: &mut [f32]) -> Target {
        assert!(dw.len() == shape.weight_len() && scratch.len() >= self.scratch_len(), "gradient or scratch of the wrong length");
        if self.count == 1 { Target::new(dw) } else { Target::new(scratch) }
    }

    /// Adds the sums, `[tap][channel][lane]`, to the weights, or leaves them as partial sums.
    ///
    /// # Safety
    /// `results` came from [`results`](Self::results), whose slices are still there, and the place is inside the problem and
    /// nobody else's.
    pub unsafe fn deliver(&self, results: Target, place: Place, sums: &[f32]) {
        let Place { range, group, panel, taps, channels } = place;
        let (order, width) = (&self.order, self.width);
        let tap_len = channels.len() * width;
        if self.count == 1 {
            let block = order.block(width, group, panel * width, taps, channels, tap_len);
            // SAFETY: by this function's contract; the length of the weights was checked.
            unsafe { block.add(sums.as_ptr(), sums.len(), results.pointer()) };
            return;
        }
        let panels = order.filters.div_ceil(width);
        let start = range * order.packed_len(width) + (group * panels + panel) * order.panel_len(width);
        for (tap, sums) in taps.zip(sums.chunks_exact(tap_len)) {
            let first = start + (tap * order.channels + channels.start) * width;
            // SAFETY: by this function's contract; the length of the scratch was checked.
            unsafe { std::slice::from_raw_parts_mut(results.pointer().add(first), tap_len) }.copy_from_slice(sums);
        }
    }

    /// Adds the partial sums to the weights, if there are any.
    pub fn add_up(&self, threads: &Threads, scratch: &mut [f32], dw: &mut [f32]) {
        if self.count > 1 {
            self.order.unpack_add(threads, self.width, scratch, self.count, dw);
        }
    }
}
