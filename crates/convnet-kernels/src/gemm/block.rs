//! Between the order of micro-kernels, `[tap][channel][lane]`, and the logical order of weights, `[filter][channel][tap]`:
//! a transposition, done in squares of four by four.

/// Where a block of weights, or of sums that are to be added to weights, is in both orders.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// Numbers between channels in packed order: the lanes of a panel.
    pub panel: usize,
    /// Numbers between taps in packed order.
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

impl Block {
    /// Adds the sums to the weights.
    ///
    /// # Safety
    /// All places that the block describes can be read behind `sums`, where there are `length` numbers, and written behind
    /// `weights`; nobody else touches them.
    pub unsafe fn add(&self, sums: *const f32, length: usize, weights: *mut f32) {
        assert!(self.packed_end() <= length, "block of sums of the wrong length");
        let square = |places: [usize; 4], to: usize| {
            // SAFETY: by this function's contract; the last place was checked.
            unsafe {
                let columns = transposed(places.map(|place| sums.add(place).cast::<[f32; 4]>().read_unaligned()));
                for (filter, column) in columns.iter().enumerate() {
                    let to = weights.add(to + filter * self.filter_step).cast::<[f32; 4]>();
                    let old = to.read_unaligned();
                    to.write_unaligned([old[0] + column[0], old[1] + column[1], old[2] + column[2], old[3] + column[3]]);
                }
            }
        };
        // SAFETY: as above.
        self.each(square, |place, to| unsafe { *weights.add(to) += *sums.add(place) });
    }

    /// Writes the weights in the order of micro-kernels. Lanes beyond those of the block are left alone.
    ///
    /// # Panics
    /// If a slice is shorter than the block says.
    pub fn pack(&self, weights: &[f32], packed: &mut [f32]) {
        assert!(self.packed_end() <= packed.len(), "packed block of the wrong length");
        let last = self.first + (self.lanes - 1) * self.filter_step + (self.channels - 1) * self.channel_step + self.taps;
        assert!(last <= weights.len(), "weights of the wrong length");
        if self.filter_step == 1 {
            for (channel, packed) in packed.chunks_mut(self.panel).enumerate().take(self.channels) {
                let from = self.first + channel * self.channel_step;
                packed[..self.lanes].copy_from_slice(&weights[from..from + self.lanes]);
            }
            return;
        }
        if self.filter_step < self.channel_step {
            // The filters of a channel are near each other.
            for channel in 0..self.channels {
                for tap in 0..self.taps {
                    let weights = weights[self.first + channel * self.channel_step + tap..].iter().step_by(self.filter_step);
                    let packed = packed[tap * self.tap_step + channel * self.panel..].iter_mut().take(self.lanes);
                    packed.zip(weights).for_each(|(packed, weight)| *packed = *weight);
                }
            }
            return;
        }
        let (weights, packed) = (weights.as_ptr(), packed.as_mut_ptr());
        let square = |places: [usize; 4], from: usize| {
            // SAFETY: the last place of both was checked; a square has four filters and four weights that follow each other.
            unsafe {
                let rows = [0, 1, 2, 3].map(|filter| weights.add(from + filter * self.filter_step).cast::<[f32; 4]>().read_unaligned());
                for (place, row) in places.iter().zip(transposed(rows)) {
                    packed.add(*place).cast::<[f32; 4]>().write_unaligned(row);
                }
            }
        };
        // SAFETY: as above.
        self.each(square, |place, from| unsafe { *packed.add(place) = *weights.add(from) });
    }

    /// One past the last packed number.
    fn packed_end(&self) -> usize {
        (self.taps - 1) * self.tap_step + (self.channels - 1) * self.panel + self.lanes
    }

    /// Visits all weights: four that follow each other of four filters together, `square(places, weight)`, and what is left
    /// over one by one, `single(place, weight)`. A place is where the first of four filters is in packed order.
    #[inline(always)]
    fn each(&self, square: impl Fn([usize; 4], usize), single: impl Fn(usize, usize)) {
        // Taps follow each other, and so do the channels when all taps are there.
        let whole = self.taps == self.channel_step;
        let (runs, length) = if whole { (1, self.channels * self.taps) } else { (self.channels, self.taps) };
        for lane in (0..self.lanes).step_by(4) {
            let filters = (self.lanes - lane).min(4);
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
                let mut weight = self.first + lane * self.filter_step + run * self.channel_step;
                let end = weight + length;
                while filters == 4 && weight + 4 <= end {
                    square([next(), next(), next(), next()], weight);
                    weight += 4;
                }
                while weight < end {
                    let place = next();
                    for filter in 0..filters {
                        single(place + filter, weight + filter * self.filter_step);
                    }
                    weight += 1;
                }
            }
        }
    }
}

/// Rows become columns.
#[inline(always)]
pub(crate) fn transposed(rows: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    let [a, b, c, d] = rows;
    [[a[0], b[0], c[0], d[0]], [a[1], b[1], c[1], d[1]], [a[2], b[2], c[2], d[2]], [a[3], b[3], c[3], d[3]]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_goes_to_its_weights_and_back_and_nothing_else_changes() {
        for (taps, all_taps, channels, lanes, panel) in
            [(9, 9, 5, 8, 8), (3, 9, 4, 7, 8), (1, 1, 13, 16, 16), (4, 12, 3, 1, 8), (9, 9, 1, 3, 4)]
        {
            let (first_tap, all_channels) = (all_taps - taps, channels + 2);
            let filter_step = all_channels * all_taps;
            let tap_step = (channels + 1) * panel;
            let sums: Vec<f32> = (0..taps * tap_step).map(|place| place as f32 + 1.0).collect();
            let mut weights = vec![0.5; lanes * filter_step];
            let first = all_taps + first_tap;
            let block = Block { panel, tap_step, taps, channels, lanes, first, filter_step, channel_step: all_taps };
            // SAFETY: the vectors are as large as the block says.
            unsafe { block.add(sums.as_ptr(), sums.len(), weights.as_mut_ptr()) };
            let mut packed = vec![0.25; taps * tap_step];
            block.pack(&weights, &mut packed);
            for (place, number) in packed.iter().enumerate() {
                let (tap, channel, lane) = (place / tap_step, place % tap_step / panel, place % panel);
                let inside = channel < channels && lane < lanes;
                let expected = if inside { sums[place] + 0.5 } else { 0.25 };
                assert_eq!(*number, expected, "tap {tap} channel {channel} filter {lane}");
            }
            for (place, weight) in weights.iter().enumerate() {
                let (lane, channel, tap) = (place / filter_step, place % filter_step / all_taps, place % all_taps);
                let inside = channel >= 1 && channel <= channels && tap >= first_tap;
                let expected = if inside { sums[(tap - first_tap) * tap_step + (channel - 1) * panel + lane] } else { 0.0 };
                assert_eq!(*weight, 0.5 + expected, "filter {lane} channel {channel} tap {tap}");
            }
        }
    }
}
