//! The order in which micro-kernels read weights.
//!
//! Packed weights are `[group][panel][tap][channel][lane]`: a panel is as many filters as two vectors have lanes, the
//! missing filters of the last panel are zero. A micro-kernel then reads its weights from front to back.

use std::ops::Range;

use super::Target;
use super::block::Block;
use crate::Threads;

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
/// Channels that one piece of work moves to several phases.
const PHASE_CHANNELS: usize = 64;
/// Numbers that are not worth waking threads for.
const SMALL: usize = 1 << 14;

impl WeightOrder {
    /// The taps that take part, in the order of packing.
    pub fn taps(&self) -> impl Iterator<Item = usize> + use<> {
        let Self { rows, cols, row_step, .. } = *self;
        let place = |taps: TapRange, number: usize| taps.first + number * taps.step;
        (0..rows.count).flat_map(move |row| (0..cols.count).map(move |col| place(rows, row) * row_step + place(cols, col)))
    }

    /// Numbers of one panel.
    pub fn panel_len(&self, panel: usize) -> usize {
        self.rows.count * self.cols.count * self.channels * panel
    }

    /// Numbers of all packed weights, for panels of that many filters.
    pub fn packed_len(&self, panel: usize) -> usize {
        self.groups * self.filters.div_ceil(panel) * self.panel_len(panel)
    }

    /// Writes the weights in packed order, if all taps take part in their order.
    pub fn pack(&self, threads: &Threads, panel: usize, weights: &[f32], packed: &mut [f32]) {
        let length = self.panel_len(panel);
        if length == 0 {
            return;
        }
        let panels = self.filters.div_ceil(panel);
        let work = |index: usize, packed: &mut [f32]| {
            let (group, first) = (index / panels, index % panels * panel);
            let lanes = panel.min(self.filters - first);
            if lanes < panel {
                packed.fill(0.0);
            }
            let taps = self.rows.count * self.cols.count;
            for from in (0..self.channels).step_by(BLOCK) {
                let channels = from..(from + BLOCK).min(self.channels);
                let block = self.block(panel, group, first, 0..taps, channels, self.channels * panel);
                block.pack(weights, &mut packed[from * panel..]);
            }
        };
        if packed.len() < SMALL {
            packed.chunks_exact_mut(length).enumerate().for_each(|(index, packed)| work(index, packed));
        } else {
            threads.chunks_mut(packed, length, work);
        }
    }

    /// Adds packed partial sums (`partials` copies of [`packed_len`](Self::packed_len) numbers, one after the other) to
    /// weights in logical order. The copies are added in their order, into the first one.
    pub fn unpack_add(&self, threads: &Threads, panel: usize, packed: &mut [f32], partials: usize, weights: &mut [f32]) {
        let total = self.packed_len(panel);
        assert!(packed.len() >= partials * total, "packed sums of the wrong length");
        let (panels, blocks, taps) = (self.filters.div_ceil(panel), self.channels.div_ceil(BLOCK), self.rows.count * self.cols.count);
        assert!(weights.len() >= self.groups * self.filters * self.filter_step, "weights of the wrong length");
        let (packed, weights) = (Target::new(packed), Target::new(weights));
        let work = |piece: usize| {
            let (index, block) = (piece / blocks, piece % blocks * BLOCK);
            let (group, first) = (index / panels, index % panels * panel);
            let channels = block..(block + BLOCK).min(self.channels);
            let start = packed.pointer().wrapping_add(index * self.panel_len(panel) + block * panel);
            let length = ((taps - 1) * self.channels + channels.len()) * panel;
            // SAFETY: the panel, the taps and the channels lie inside each of the `partials` copies, whose length was
            // checked. No other piece has these channels of this panel; between its taps lie those of other pieces,
            // which are neither read nor written.
            let sums = unsafe {
                for tap in 0..taps {
                    let place = tap * self.channels * panel;
                    let sums = std::slice::from_raw_parts_mut(start.add(place), channels.len() * panel);
                    for partial in 1..partials {
                        let others = std::slice::from_raw_parts(start.add(partial * total + place), sums.len());
                        sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
                    }
                }
                (start.cast_const(), length)
            };
            let block = self.block(panel, group, first, 0..taps, channels, self.channels * panel);
            // SAFETY: as above; the weights of these filters and channels, whose length was checked, are this piece's own.
            unsafe { block.add(sums.0, sums.1, weights.pointer()) };
        };
        let pieces = self.groups * panels * blocks;
        threads.run_unless(partials * total < SMALL, pieces, work);
    }

    /// Some taps and channels of one panel, whose taps are `tap_step` numbers apart in packed order. Only for weights
    /// whose taps all take part, in their order.
    pub fn block(&self, panel: usize, group: usize, first: usize, taps: Range<usize>, channels: Range<usize>, tap_step: usize) -> Block {
        Block {
            panel,
            tap_step,
            taps: taps.len(),
            channels: channels.len(),
            lanes: panel.min(self.filters - first),
            first: group * self.group_step + first * self.filter_step + channels.start * self.channel_step + taps.start,
            filter_step: self.filter_step,
            channel_step: self.channel_step,
        }
    }

    /// Writes the weights of the gradient of the input where its taps belong to several phases: each tap to its place, all of them in
    /// one pass over the weights. Those that one number of the output's gradient is multiplied with, of all outputs of a group and
    /// all taps, follow each other.
    pub fn pack_phases(&self, threads: &Threads, panel: usize, places: &[TapPlace], weights: &[f32], packed: &mut [f32]) {
        let taps = self.filter_step;
        assert!(self.channel_step == self.filters * taps && places.len() == taps, "outputs and taps that follow each other");
        let panels = self.filters.div_ceil(panel);
        let end = |place: &TapPlace| place.first + (self.groups * panels - 1) * place.panel_step + self.channels * panel;
        assert!(places.iter().all(|place| !place.taken || end(place) <= packed.len()), "packed weights of the wrong length");
        let (blocks, small) = (self.channels.div_ceil(PHASE_CHANNELS), packed.len() < SMALL);
        let packed = Target::new(packed);
        let work = |piece: usize| {
            let (index, block) = (piece / blocks, piece % blocks * PHASE_CHANNELS);
            let (group, first) = (index / panels, index % panels * panel);
            let lanes = panel.min(self.filters - first);
            for channel in block..(block + PHASE_CHANNELS).min(self.channels) {
                let weights = &weights[group * self.group_step + channel * self.channel_step + first * taps..][..lanes * taps];
                for (tap, place) in places.iter().enumerate().filter(|(_, place)| place.taken) {
                    let to = place.first + index * place.panel_step + channel * panel;
                    // SAFETY: the row of this tap, panel and channel lies inside the packed weights, as was checked, and no other
                    // piece has it.
                    let row = unsafe { std::slice::from_raw_parts_mut(packed.pointer().add(to), panel) };
                    row.iter_mut().zip(weights[tap..].iter().step_by(taps)).for_each(|(number, weight)| *number = *weight);
                    row[lanes..].fill(0.0);
                }
            }
        };
        threads.run_unless(small, self.groups * panels * blocks, work);
    }

    /// Whether all taps of the kernel take part, in their order.
    pub fn has_all_taps(&self) -> bool {
        let in_order = |taps: &TapRange| taps.first == 0 && (taps.step == 1 || taps.count == 1);
        in_order(&self.rows) && in_order(&self.cols) && self.rows.count * self.cols.count == self.channel_step.min(self.filter_step)
    }
}

/// Where the weights of one tap are in packed order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TapPlace {
    /// Whether the tap is used at all.
    pub taken: bool,
    /// The first channel of the first panel.
    pub first: usize,
    /// From one panel to the next.
    pub panel_step: usize,
}
