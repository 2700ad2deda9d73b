//! One step of a sum: 32 numbers of each row with 32 of each column, in as many products of parts as the precision has.

use super::unit::{SIDE, Unit};

/// Which part of the left operand is multiplied with which of the right one, the smallest products first, and so that each
/// product shares an operand with the one before it. For one, two and three parts.
const ORDER: [&[[usize; 2]]; 3] = [&[[0, 0]], &[[1, 0], [0, 0], [0, 1]], &[[2, 0], [1, 0], [1, 1], [0, 1], [0, 2], [0, 0]]];

/// Products of parts of numbers that have so many parts.
pub(super) const fn count(parts: usize) -> usize {
    ORDER[parts - 1].len()
}

/// Where the rows of a step are: 16 or 32 rows of 32 numbers.
#[derive(Clone, Copy)]
pub(super) struct Left {
    pub from: *const u16,
    /// Numbers from one row to the next.
    pub step: usize,
    /// Numbers from one part to the next.
    pub part_step: usize,
}

/// Where the columns of a step are: one or two right operands.
#[derive(Clone, Copy)]
pub(super) struct Right {
    pub from: *const u16,
    /// Numbers from the first operand to the second.
    pub step: usize,
    /// Numbers from one part to the next.
    pub part_step: usize,
}

/// Adds the products of a step to the first `ROWS` by `COLUMNS` sums.
///
/// # Safety
/// The unit is configured; all rows and operands, in all parts, can be read.
#[inline(always)]
pub(super) unsafe fn add<U: Unit, const PARTS: usize, const ROWS: usize, const COLUMNS: usize>(unit: &mut U, left: Left, right: Right) {
    let mut held = [usize::MAX; 2];
    for &[left_part, right_part] in ORDER[PARTS - 1] {
        // SAFETY: by the contract.
        unsafe {
            if held[0] != left_part {
                let from = left.from.add(left_part * left.part_step);
                unit.load_left::<0>(from, left.step);
                if ROWS > 1 {
                    unit.load_left::<1>(from.add(SIDE * left.step), left.step);
                }
            }
            if held[1] != right_part {
                let from = right.from.add(right_part * right.part_step);
                unit.load_right::<0>(from);
                if COLUMNS > 1 {
                    unit.load_right::<1>(from.add(right.step));
                }
            }
            unit.multiply::<ROWS, COLUMNS>();
        }
        held = [left_part, right_part];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_products_are_taken_as_the_precision_says() {
        use crate::Precision::{Bf16, F32x3, F32x6};
        assert_eq!([1, 2, 3].map(count), [Bf16, F32x3, F32x6].map(crate::Precision::products));
    }

    #[test]
    fn the_largest_products_of_parts_are_taken_once_each_and_share_an_operand_with_the_one_before() {
        for (order, parts) in ORDER.iter().zip(1..) {
            let mut sorted = order.to_vec();
            sorted.sort_unstable();
            let largest: Vec<[usize; 2]> = (0..parts)
                .flat_map(|left| (0..parts).map(move |right| [left, right]))
                .filter(|[left, right]| left + right < parts)
                .collect();
            assert_eq!(sorted, largest);
            assert!(order.windows(2).all(|pair| pair[0][0] == pair[1][0] || pair[0][1] == pair[1][1]));
            assert_eq!(order.last(), Some(&[0, 0]).filter(|_| parts != 2).or(Some(&[0, 1])));
        }
    }
}
