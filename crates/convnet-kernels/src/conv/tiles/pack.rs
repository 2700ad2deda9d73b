//! Weights as right operands: `[group][16 filters][tap][32 channels][part][pair of channels][filter][member of the pair]`.

use super::fill::{Halves, parts, split_pair};
use super::unit::{DEPTH, OPERAND, SIDE};
use crate::gemm::pack::WeightOrder;

/// Numbers of the packed weights.
pub(super) fn len(order: &WeightOrder, parts: usize) -> usize {
    order.groups * order.filters.div_ceil(SIDE) * panel_len(order, parts)
}

/// Numbers of the packed weights of 16 filters.
pub(super) fn panel_len(order: &WeightOrder, parts: usize) -> usize {
    order.rows.count * order.cols.count * order.channels.div_ceil(DEPTH) * parts * OPERAND
}

/// What is packed.
pub(super) struct Pack<'a> {
    pub order: WeightOrder,
    /// In logical order, K×(C/G)×R×S.
    pub weights: &'a [f32],
    pub to: Halves,
}

impl Pack<'_> {
    /// Pieces of work: 16 filters of a group each.
    pub fn pieces(&self) -> usize {
        self.order.groups * self.order.filters.div_ceil(SIDE)
    }

    /// Packs the weights of one piece.
    ///
    /// # Safety
    /// There is room for all packed weights, and nobody else works on this piece.
    #[inline(always)]
    pub unsafe fn run<const PARTS: usize>(&self, piece: usize) {
        let order = &self.order;
        let panels = order.filters.div_ceil(SIDE);
        let (group, first) = (piece / panels, piece % panels * SIDE);
        let lanes = SIDE.min(order.filters - first);
        let (blocks, taps) = (order.channels.div_ceil(DEPTH), order.rows.count * order.cols.count);
        let start = group * order.group_step + first * order.filter_step;
        for block in 0..blocks {
            let channels = block * DEPTH..order.channels.min((block + 1) * DEPTH);
            for tap in 0..taps {
                let row = order.rows.first + tap / order.cols.count * order.rows.step;
                let col = order.cols.first + tap % order.cols.count * order.cols.step;
                let start = start + row * order.row_step + col;
                let mut numbers = [[0.0f32; SIDE]; DEPTH];
                for (numbers, channel) in numbers.iter_mut().zip(channels.clone()) {
                    let start = start + channel * order.channel_step;
                    for (lane, number) in numbers.iter_mut().enumerate().take(lanes) {
                        *number = self.weights[start + lane * order.filter_step];
                    }
                }
                let place = ((piece * taps + tap) * blocks + block) * PARTS * OPERAND;
                // SAFETY: by the contract; the place is inside the packed weights, as `len` counts them.
                let mut to = unsafe { parts::<PARTS>(self.to, OPERAND, place, OPERAND) };
                for (pair, rows) in numbers.as_chunks::<2>().0.iter().enumerate() {
                    split_pair([&rows[0], &rows[1]], pair, &mut to);
                }
            }
        }
    }
}
