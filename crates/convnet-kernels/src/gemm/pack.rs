//! The order in which micro-kernels read weights.
//!
//! Packed weights are `[group][panel][tap][channel][lane]`: a panel is as many filters as two vectors have lanes, the
//! missing filters of the last panel are zero. A micro-kernel then reads its weights from front to back.

use crate::Threads;
use crate::threads::Pieces;

/// The taps of one axis that take part, in the order of packing: `first`, `first + step`, … (`count` of them).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TapRange {
    /// The first tap.
    pub first: usize,
    /// Distance between neighbouring taps.
    pub step: usize,
    /// Number of taps.
    pub count: usize,
}

/// Where the weight of each (group, lane, channel, tap) is in the logical order K×(C/G)×R×S.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WeightOrder {
    /// Groups.
    pub groups: usize,
    /// Distance between groups.
    pub group_step: usize,
    /// Outputs of a group, which become lanes.
    pub filters: usize,
    /// Distance between outputs.
    pub filter_step: usize,
    /// Channels that one output sums over.
    pub channels: usize,
    /// Distance between channels.
    pub channel_step: usize,
    /// Taps along the height.
    pub rows: TapRange,
    /// Taps along the width.
    pub cols: TapRange,
    /// Distance between taps along the height.
    pub row_step: usize,
}

/// Channels that are moved together, so that what is written stays in the first-level cache.
const BLOCK: usize = 16;

impl WeightOrder {
    /// Numbers of one panel.
    pub fn panel_len(&self, panel: usize) -> usize {
        self.rows.count * self.cols.count * self.channels * panel
    }

    /// Numbers of all packed weights, for panels of that many filters.
    pub fn packed_len(&self, panel: usize) -> usize {
        self.groups * self.filters.div_ceil(panel) * self.panel_len(panel)
    }

    /// Writes the weights in packed order.
    pub fn pack(&self, threads: &Threads, panel: usize, weights: &[f32], packed: &mut [f32]) {
        let length = self.panel_len(panel);
        if length == 0 {
            return;
        }
        let panels = self.filters.div_ceil(panel);
        threads.chunks_mut(packed, length, |index, packed| {
            let (group, first) = (index / panels, index % panels * panel);
            let lanes = panel.min(self.filters - first);
            if lanes < panel {
                packed.fill(0.0);
            }
            self.each(group, first, lanes, |place, lane, weight| packed[place * panel + lane] = weights[weight]);
        });
    }

    /// Adds packed partial sums (`partials` copies, one after the other, each of [`packed_len`](Self::packed_len)
    /// numbers) to weights in logical order. The copies are added in their order.
    pub fn unpack_add(&self, threads: &Threads, panel: usize, packed: &[f32], partials: usize, weights: &mut [f32]) {
        let panels = self.filters.div_ceil(panel);
        let (length, total) = (self.panel_len(panel), self.packed_len(panel));
        // A piece is the filters of one panel; those of the last panel of a group are fewer, so pieces are single filters
        // grouped by hand.
        let filters = Pieces::new(weights, self.filter_step);
        threads.run(self.groups * panels, |index| {
            let (group, first) = (index / panels, index % panels * panel);
            let lanes = panel.min(self.filters - first);
            for lane in 0..lanes {
                // SAFETY: filter `first + lane` of this group belongs to this piece alone.
                let weights = unsafe { filters.get(group * self.filters + first + lane) };
                let start = index * length + lane;
                for (tap, channel, place) in self.places() {
                    let sum = (0..partials).fold(0.0, |sum, partial| sum + packed[partial * total + start + place * panel]);
                    weights[channel * self.channel_step + tap] += sum;
                }
            }
        });
    }

    /// (tap in logical order, channel, place in packed order) of every weight of one lane, channel by channel.
    fn places(&self) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
        (0..self.channels).flat_map(move |channel| {
            (0..self.rows.count * self.cols.count).map(move |tap| (self.tap(tap), channel, tap * self.channels + channel))
        })
    }

    /// Where a tap, counted in packed order, is in logical order.
    fn tap(&self, tap: usize) -> usize {
        let (row, col) = (tap / self.cols.count, tap % self.cols.count);
        (self.rows.first + row * self.rows.step) * self.row_step + self.cols.first + col * self.cols.step
    }

    /// Calls `visit(place, lane, weight)` for every weight of one panel.
    fn each(&self, group: usize, first: usize, lanes: usize, mut visit: impl FnMut(usize, usize, usize)) {
        let start = group * self.group_step + first * self.filter_step;
        for block in (0..self.channels).step_by(BLOCK) {
            for lane in 0..lanes {
                for channel in block..(block + BLOCK).min(self.channels) {
                    let weight = start + lane * self.filter_step + channel * self.channel_step;
                    let mut place = channel;
                    for row in 0..self.rows.count {
                        let tap = weight + (self.rows.first + row * self.rows.step) * self.row_step + self.cols.first;
                        for col in 0..self.cols.count {
                            visit(place, lane, tap + col * self.cols.step);
                            place += self.channels;
                        }
                    }
                }
            }
        }
    }
}
