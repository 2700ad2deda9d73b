//! One stretch of memory for everything that comes and goes while a plan runs.
//!
//! A buffer lives from one moment to another. Buffers whose lives do not overlap may lie in the same place: the packing
//! gives each, the largest first, the lowest place that is free for the whole of its life (Pisarchyk and Lee, "Efficient
//! memory management for deep neural net inference", 2020).

use std::ops::Range;

/// Buffers begin at multiples of this many numbers: one cache line of `f32`.
pub const ALIGNMENT: usize = 16;

/// A buffer before it has a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Numbers in it.
    pub length: usize,
    /// The first moment at which it is in use.
    pub first: usize,
    /// The last moment at which it is in use.
    pub last: usize,
}

/// Where every buffer lies, and how long the arena is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// First number of each buffer, in the order in which the buffers were given.
    pub offsets: Vec<usize>,
    /// Numbers in the whole arena.
    pub length: usize,
}

/// Gives every buffer its place.
///
/// # Errors
/// The arena would be larger than memory can address.
pub fn pack(lives: &[Life]) -> Result<Places, String> {
    let too_large = || "the activations of this batch are larger than memory can address; use a smaller batch".to_owned();
    let mut order: Vec<usize> = (0..lives.len()).filter(|&buffer| lives[buffer].length > 0).collect();
    order.sort_by_key(|&buffer| (std::cmp::Reverse(lives[buffer].length), lives[buffer].first, buffer));
    let mut offsets = vec![0; lives.len()];
    // The buffers placed so far, by their offsets.
    let mut placed: Vec<usize> = Vec::with_capacity(order.len());
    let mut length = 0;
    for buffer in order {
        let life = lives[buffer];
        let size = life.length.checked_next_multiple_of(ALIGNMENT).ok_or_else(too_large)?;
        let mut offset = 0;
        for &other in &placed {
            let neighbour = lives[other];
            if neighbour.first <= life.last && life.first <= neighbour.last {
                if offset + size <= offsets[other] {
                    break;
                }
                offset = offset.max(offsets[other] + neighbour.length.next_multiple_of(ALIGNMENT));
            }
        }
        let end = offset.checked_add(size).filter(|&end| end <= crate::shape::Shape::MAX_COUNT).ok_or_else(too_large)?;
        offsets[buffer] = offset;
        length = length.max(end);
        let rank = placed.partition_point(|&other| offsets[other] <= offset);
        placed.insert(rank, buffer);
    }
    Ok(Places { offsets, length })
}

/// The given parts of a slice, each to be changed on its own. Empty ranges may lie anywhere.
///
/// # Panics
/// If two ranges overlap: the plan that asks for them would be wrong.
pub fn carve<'a, T>(mut rest: &'a mut [T], ranges: &[Range<usize>]) -> Vec<&'a mut [T]> {
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    order.sort_unstable_by_key(|&index| (ranges[index].is_empty(), ranges[index].start));
    let mut parts: Vec<&'a mut [T]> = ranges.iter().map(|_| <&mut [T]>::default()).collect();
    let mut passed = 0;
    for index in order {
        let range = &ranges[index];
        if range.is_empty() {
            break;
        }
        assert!(range.start >= passed, "two buffers of one step overlap");
        let (part, behind) = std::mem::take(&mut rest)[range.start - passed..].split_at_mut(range.len());
        (parts[index], rest, passed) = (part, behind, range.end);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_that_live_at_the_same_time_never_overlap() {
        let mut state = 12345u64;
        let mut random = |limit: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 33) % limit) as usize
        };
        for _ in 0..200 {
            let lives: Vec<Life> = (0..40)
                .map(|_| {
                    let first = random(50);
                    Life { length: random(100), first, last: first + random(10) }
                })
                .collect();
            let places = pack(&lives).unwrap();
            for (a, x) in lives.iter().enumerate() {
                assert!(places.offsets[a] + x.length <= places.length);
                for (b, y) in lives.iter().enumerate().take(a) {
                    let together = x.first <= y.last && y.first <= x.last && x.length > 0 && y.length > 0;
                    let apart = places.offsets[a] + x.length <= places.offsets[b] || places.offsets[b] + y.length <= places.offsets[a];
                    assert!(!together || apart, "{x:?} and {y:?}");
                }
            }
        }
    }

    #[test]
    fn a_chain_needs_room_for_two_buffers_only() {
        let lives: Vec<Life> = (0..10).map(|step| Life { length: 160, first: step, last: step + 1 }).collect();
        assert_eq!(pack(&lives).unwrap().length, 320);
    }

    #[test]
    fn absurd_lengths_are_an_error() {
        assert!(pack(&[Life { length: usize::MAX, first: 0, last: 0 }]).unwrap_err().contains("smaller batch"));
    }

    #[test]
    fn parts_are_handed_out_in_the_order_asked() {
        let mut data: Vec<usize> = (0..20).collect();
        let parts = carve(&mut data, &[12..14, 3..5, 0..0, 5..6]);
        assert_eq!(parts, [&mut [12, 13][..], &mut [3, 4], &mut [], &mut [5]]);
    }
}
