//! Adds sums in the order of micro-kernels, `[tap][channel][lane]`, to weights in their logical order,
//! `[filter][channel][tap]`: a transposition, done in squares of four by four.

/// Where a block of sums is, and where it belongs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SumBlock {
    /// Numbers between channels of the sums: the lanes of a panel.
    pub panel: usize,
    /// Numbers between taps of the sums.
    pub tap_step: usize,
    /// Taps of the block.
    pub taps: usize,
    /// Channels of the block.
    pub channels: usize,
    /// Filters of the block.
    pub lanes: usize,
    /// The weight of the first filter, channel and tap.
    pub first: usize,
    /// Weights between filters.
    pub filter_step: usize,
    /// Weights between channels: all taps of the kernel.
    pub channel_step: usize,
}

impl SumBlock {
    /// Adds the sums to the weights.
    ///
    /// # Safety
    /// All places that the block describes can be read behind `sums`, where there are `length` numbers, and written behind
    /// `weights`; nobody else touches them.
    pub unsafe fn add(&self, sums: *const f32, length: usize, weights: *mut f32) {
        let last = (self.taps - 1) * self.tap_step + (self.channels - 1) * self.panel + self.lanes;
        assert!(last <= length, "block of sums of the wrong length");
        // Taps follow each other, and so do the channels when all taps are there.
        let whole = self.taps == self.channel_step;
        let (runs, length) = if whole { (1, self.channels * self.taps) } else { (self.channels, self.taps) };
        for lane in (0..self.lanes).step_by(4) {
            for run in 0..runs {
                let (mut tap, mut channel) = (0, run);
                let mut next = || {
                    let place = tap * self.tap_step + channel * self.panel + lane;
                    tap += 1;
                    if tap == self.taps {
                        (tap, channel) = (0, channel + 1);
                    }
                    place
                };
                let mut to = self.first + lane * self.filter_step + run * self.channel_step;
                let filters = (self.lanes - lane).min(4);
                let end = to + length;
                while filters == 4 && to + 4 <= end {
                    let places = [next(), next(), next(), next()];
                    // SAFETY: by this function's contract; the last place was checked.
                    unsafe { add_square(sums, places, weights.add(to), self.filter_step) };
                    to += 4;
                }
                while to < end {
                    let place = next();
                    for filter in 0..filters {
                        // SAFETY: as above.
                        unsafe { *weights.add(to + filter * self.filter_step) += *sums.add(place + filter) };
                    }
                    to += 1;
                }
            }
        }
    }
}

/// Adds four sums of four filters each to four weights of four filters each.
///
/// # Safety
/// Four numbers can be read at each place, and written at each of the four filters.
#[inline(always)]
unsafe fn add_square(sums: *const f32, places: [usize; 4], weights: *mut f32, filter_step: usize) {
    // SAFETY: by this function's contract.
    unsafe {
        let rows = places.map(|place| sums.add(place).cast::<[f32; 4]>().read_unaligned());
        for filter in 0..4 {
            let to = weights.add(filter * filter_step).cast::<[f32; 4]>();
            let old = to.read_unaligned();
            to.write_unaligned([old[0] + rows[0][filter], old[1] + rows[1][filter], old[2] + rows[2][filter], old[3] + rows[3][filter]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sum_reaches_its_weight_and_nothing_else_changes() {
        for (taps, all_taps, channels, lanes, panel) in
            [(9, 9, 5, 8, 8), (3, 9, 4, 7, 8), (1, 1, 13, 16, 16), (4, 12, 3, 1, 8), (9, 9, 1, 3, 4)]
        {
            let (first_tap, all_channels) = (all_taps - taps, channels + 2);
            let filter_step = all_channels * all_taps;
            let tap_step = (channels + 1) * panel;
            let sums: Vec<f32> = (0..taps * tap_step).map(|place| place as f32 + 1.0).collect();
            let mut weights = vec![0.5; lanes * filter_step];
            let first = all_taps + first_tap;
            let block = SumBlock { panel, tap_step, taps, channels, lanes, first, filter_step, channel_step: all_taps };
            // SAFETY: the vectors are as large as the block says.
            unsafe { block.add(sums.as_ptr(), sums.len(), weights.as_mut_ptr()) };
            for (place, weight) in weights.iter().enumerate() {
                let (lane, channel, tap) = (place / filter_step, place % filter_step / all_taps, place % all_taps);
                let inside = channel >= 1 && channel <= channels && tap >= first_tap;
                let expected = if inside { sums[(tap - first_tap) * tap_step + (channel - 1) * panel + lane] } else { 0.0 };
                assert_eq!(*weight, 0.5 + expected, "filter {lane} channel {channel} tap {tap}");
            }
        }
    }
}
