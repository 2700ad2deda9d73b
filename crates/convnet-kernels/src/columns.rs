//! Sums of the columns of a matrix: what the gradient of a bias is.

use crate::threads::Threads;
use crate::{Machine, Real, per_isa};

/// Numbers that are added side by side, so that no addition waits for the one before it.
const STRIP: usize = 256;
/// Numbers that are worth a piece of work.
const PIECE: usize = 1 << 14;
/// Most pieces, so that the partial sums stay few.
const PIECES: usize = 64;

/// Length of a strip of whole rows, and of a piece of whole strips, for `len` numbers in rows of `columns`.
fn cut(len: usize, columns: usize) -> [usize; 2] {
    let strip = columns * STRIP.div_ceil(columns);
    let strips = len.div_ceil(strip).div_ceil(PIECES).max(PIECE.div_ceil(strip));
    [strip, strip * strips]
}

/// Numbers of working memory that [`add_column_sums`] needs for `len` numbers in rows of `columns`.
pub fn column_sums_scratch(len: usize, columns: usize) -> usize {
    if columns == 0 {
        return 0;
    }
    let [strip, piece] = cut(len, columns);
    len.div_ceil(piece) * strip
}

per_isa! {
    /// sums ← the sum of the strips of x, the last one possibly shorter.
    fn sum_strips<T: Real>(x: &[T], sums: &mut [T]) {
        sums.fill(T::ZERO);
        for strip in x.chunks(sums.len()) {
            for (sum, &x) in sums.iter_mut().zip(strip) {
                *sum += x;
            }
        }
    }
}

/// sums\[j\] ← sums\[j\] + Σ over i of x\[i, j\], for the rows of a matrix with as many columns as `sums`.
///
/// # Panics
/// If `x` is not made of whole rows, or `scratch` is shorter than [`column_sums_scratch`] says.
pub fn add_column_sums<T: Real>(machine: &Machine, x: &[T], sums: &mut [T], scratch: &mut [T]) {
    let columns = sums.len();
    if columns == 0 {
        return;
    }
    assert!(x.len().is_multiple_of(columns), "{} numbers are not rows of {columns}", x.len());
    let [strip, piece] = cut(x.len(), columns);
    let partial = &mut scratch[..column_sums_scratch(x.len(), columns)];
    let threads: &Threads = &machine.threads;
    threads.chunks_mut(partial, strip, |index, partial| {
        let start = index * piece;
        sum_strips(machine.isa, &x[start..(start + piece).min(x.len())], partial);
    });
    for row in partial.chunks_exact(columns) {
        for (sum, &row) in sums.iter_mut().zip(row) {
            *sum += row;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn every_column_is_added_to_what_was_there() {
        for isa in Isa::available() {
            for (rows, columns) in [(1, 1), (7, 3), (5000, 10), (700, 64), (3, 1000), (100_000, 1)] {
                // Whole numbers are added exactly in any order.
                let x: Vec<f32> = (0..rows * columns).map(|place| (place % 13) as f32 - 6.0).collect();
                let mut sums = vec![1.0; columns];
                let mut scratch = vec![f32::NAN; column_sums_scratch(x.len(), columns)];
                add_column_sums(&Machine::new(isa, 2), &x, &mut sums, &mut scratch);
                for (column, &sum) in sums.iter().enumerate() {
                    let expected = 1.0 + x.iter().skip(column).step_by(columns).sum::<f32>();
                    assert_eq!(sum, expected, "{isa} {rows}x{columns}, column {column}");
                }
            }
        }
    }

    #[test]
    fn the_sums_are_the_same_bits_for_any_number_of_threads() {
        let x: Vec<f32> = (0..300_000u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 8) as f32 * 1e-7).collect();
        let sums = |threads| {
            let mut sums = vec![0.0; 30];
            let mut scratch = vec![0.0; column_sums_scratch(x.len(), 30)];
            add_column_sums(&Machine::new(Isa::detect(), threads), &x, &mut sums, &mut scratch);
            sums
        };
        let one = sums(1);
        assert!([2, 3, 8].into_iter().all(|threads| sums(threads) == one));
    }
}
