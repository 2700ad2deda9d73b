//! How rows of channels are cut for sums over each channel.
//!
//! Rows are taken together in *strips* of at least [`STRIP`] numbers, so that the inner loop is long even for few channels,
//! and every lane of a strip has its own running sum. Strips are taken together in *pieces*, each with its own partial
//! sums, which are added in the order of the pieces: the same bits for any number of threads.

use crate::threads::Pieces;
use crate::{Machine, Real, per_isa};

/// Numbers that are summed side by side, so that no addition waits for the one before it.
const STRIP: usize = 256;
/// Numbers that are worth a piece of work.
const PIECE: usize = 1 << 15;
/// Channels whose `f64` sums fit the first-level cache.
pub(crate) const CHANNELS: usize = 128;
/// Rows of a piece that make its partial sums a small part of what it reads.
const ROWS: usize = 32;
/// Partial sums of one kind that are worth the work of several threads.
const PARTIAL: usize = 1 << 13;
/// Most pieces, so that the partial sums stay few.
const PIECES: usize = 64;

/// Rows × channels numbers, cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strips {
    pub channels: usize,
    /// Numbers in all.
    pub len: usize,
    /// Numbers in a strip: a multiple of the channels.
    pub strip: usize,
    /// Numbers in a piece: a multiple of the strip. The last piece may be shorter.
    pub piece: usize,
}

per_isa! {
    /// For each of N kinds of partial sums, the sum of all pieces for the channels from `first` on.
    fn combine<T: Real, const N: usize>(strips: Strips, partial: &[T], first: usize, count: usize, sums: &mut [[f64; CHANNELS]; N]) {
        strips.for_lanes(partial, first..first + count, |_, parts: [&[T]; N]| {
            for (sums, part) in sums.iter_mut().zip(parts) {
                for (sum, part) in sums.iter_mut().zip(part) {
                    *sum += part.to_f64();
                }
            }
        });
    }
}

impl Strips {
    /// Rows are taken together until a strip is long.
    pub fn new(rows: usize, channels: usize) -> Self {
        Self::of(rows, channels, channels.max(1) * STRIP.div_ceil(channels.max(1)))
    }

    /// Every row is a strip.
    pub fn of_single_rows(rows: usize, channels: usize) -> Self {
        Self::of(rows, channels, channels.max(1))
    }

    fn of(rows: usize, channels: usize, strip: usize) -> Self {
        let len = rows * channels;
        let all = len.div_ceil(strip);
        let pieces = all.div_ceil(all.div_ceil(PIECES).max(PIECE.div_ceil(strip)).max(ROWS * channels.max(1) / strip));
        // Pieces of one size, since the last of them ends the work.
        Self { channels, len, strip, piece: strip * all.div_ceil(pieces.max(1)).max(1) }
    }

    /// Number of pieces.
    pub fn pieces(&self) -> usize {
        self.len.div_ceil(self.piece)
    }

    /// Where piece number `index` lies.
    pub fn range(&self, index: usize) -> std::ops::Range<usize> {
        index * self.piece..((index + 1) * self.piece).min(self.len)
    }

    /// Calls `work(numbers per lane, its partial sums)` for every row of lanes of every piece, in order, where the partial
    /// sums of a piece are `kinds` strips one after the other and `channels` is the part of the channels that is wanted.
    #[inline(always)]
    pub fn for_lanes<'a, T: Real, const KINDS: usize>(
        &self,
        partial: &'a [T],
        channels: std::ops::Range<usize>,
        mut work: impl FnMut(f64, [&'a [T]; KINDS]),
    ) {
        for (index, partial) in partial.chunks_exact(KINDS * self.strip).enumerate() {
            let len = self.range(index).len();
            for first in (0..self.strip).step_by(self.channels) {
                let count = len / self.strip + usize::from(first < len % self.strip);
                let lanes = |kind: usize| &partial[kind * self.strip + first..][channels.clone()];
                if count > 0 {
                    work(count as f64, std::array::from_fn(lanes));
                }
            }
        }
    }

    /// Calls `work(channels, parts)` for blocks of at most [`CHANNELS`] channels, with their parts of N lists of numbers for
    /// each channel; lists that are shorter have no part.
    pub fn for_channels<T: Real, const N: usize>(
        &self,
        machine: &Machine,
        lists: [&mut [T]; N],
        work: impl Fn(std::ops::Range<usize>, [&mut [T]; N]) + Sync,
    ) {
        let lists = lists.map(|list| Pieces::new(list, CHANNELS));
        let block = |index: usize| {
            let first = index * CHANNELS;
            // SAFETY: each index is handed out once, so each part has one holder.
            work(first..(first + CHANNELS).min(self.channels), std::array::from_fn(|list| unsafe { lists[list].get(index) }));
        };
        let blocks = self.channels.div_ceil(CHANNELS);
        machine.threads.run_unless(self.pieces() * self.strip < PARTIAL, blocks, block);
    }

    /// As [`for_channels`](Self::for_channels), with the sums, over all pieces, of each of KINDS kinds of partial sums.
    pub fn for_sums<T: Real, const KINDS: usize, const N: usize>(
        &self,
        machine: &Machine,
        partial: &[T],
        lists: [&mut [T]; N],
        work: impl Fn(std::ops::Range<usize>, [&[f64]; KINDS], [&mut [T]; N]) + Sync,
    ) {
        self.for_channels(machine, lists, |channels, parts| {
            let mut sums = [[0.0; CHANNELS]; KINDS];
            combine::<T, KINDS>(machine.isa, *self, partial, channels.start, channels.len(), &mut sums);
            work(channels.clone(), sums.each_ref().map(|sums| &sums[..channels.len()]), parts);
        });
    }

    /// Calls `work(range, part of x, part of y)` for all pieces, to write those of y from x, or in place where there is no x.
    /// The last come first: what was read last before is still in the caches.
    pub fn run_on<T: Real>(
        &self,
        machine: &Machine,
        x: Option<&[T]>,
        y: &mut [T],
        work: impl Fn(std::ops::Range<usize>, Option<&[T]>, &mut [T]) + Sync,
    ) {
        let (pieces, count) = (Pieces::new(&mut y[..self.len], self.piece), self.pieces());
        machine.threads.run(count, |index| {
            let index = machine.threads.mirrored(index, count);
            let range = self.range(index);
            // SAFETY: `run` hands out each index once and mirroring exchanges them, so each piece has one holder.
            work(range.clone(), x.map(|x| &x[range]), unsafe { pieces.get(index) });
        });
    }

    /// Writes the channels' values to every row of lanes of a strip.
    pub fn repeat<T: Real>(&self, strip: &mut [T], value: impl Fn(usize) -> T) {
        for (channel, lane) in strip[..self.channels].iter_mut().enumerate() {
            *lane = value(channel);
        }
        self.spread(strip);
    }

    /// Copies the first row of lanes of a strip to the others.
    pub fn spread<T: Real>(&self, strip: &mut [T]) {
        let (first, others) = strip.split_at_mut(self.channels);
        for other in others.chunks_exact_mut(self.channels) {
            other.copy_from_slice(first);
        }
    }
}

/// Adds sums to the numbers of their channels.
pub(crate) fn add_sums<T: Real>(numbers: &mut [T], sums: &[f64]) {
    for (number, &sum) in numbers.iter_mut().zip(sums) {
        *number += T::from_f64(sum);
    }
}

/// The first N parts of `length` numbers.
pub(crate) fn parts<T, const N: usize>(slice: &[T], length: usize) -> [&[T]; N] {
    std::array::from_fn(|part| &slice[part * length..(part + 1) * length])
}

/// The first N parts of `length` numbers.
pub(crate) fn parts_mut<T, const N: usize>(mut slice: &mut [T], length: usize) -> [&mut [T]; N] {
    std::array::from_fn(|_| {
        let (part, others) = std::mem::take(&mut slice).split_at_mut(length);
        slice = others;
        part
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_all_numbers_and_lanes_know_their_counts() {
        for (rows, channels) in [(1, 1), (5, 3), (1000, 8), (100_000, 32), (70_000, 100), (9, 2048)] {
            let strips = Strips::new(rows, channels);
            assert_eq!((0..strips.pieces()).map(|index| strips.range(index).len()).sum::<usize>(), rows * channels);
            assert!(strips.pieces() <= PIECES && strips.strip.is_multiple_of(channels));
            let partial = vec![0.0_f32; strips.pieces() * strips.strip];
            let mut count = 0.0;
            strips.for_lanes(&partial, 0..channels, |lanes, [_]| count += lanes);
            assert_eq!(count, rows as f64);
        }
    }
}
