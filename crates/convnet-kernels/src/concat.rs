//! Channels of several images side by side, and back. Channels last: rows × channels.

use crate::Machine;
use crate::once::compiled_once;

/// Numbers that are worth a piece of work.
const PIECE: usize = 1 << 14;

/// Rows of `channels` numbers that are worth a piece of work.
fn piece_rows(channels: usize) -> usize {
    PIECE.div_ceil(channels.max(1))
}

compiled_once! {
    /// y\[row\] ← the row of the first input, that of the second, …; all have `rows` rows.
    ///
    /// # Panics
    /// If `y` has not as many numbers as all inputs.
    pub fn concat<T>(machine: &'a Machine, rows: usize, inputs: &'a [&'a [T]], y: &'a mut [T]) {
        let channels = inputs.iter().map(|input| input.len() / rows).sum::<usize>();
        assert_eq!(y.len(), rows * channels, "the output has the channels of all inputs");
        let piece = piece_rows(channels);
        machine.threads.chunks_mut(y, piece * channels, |index, y| {
            for (row, y) in (index * piece..).zip(y.chunks_exact_mut(channels)) {
                let mut rest = y;
                for input in inputs {
                    let width = input.len() / rows;
                    let (part, others) = rest.split_at_mut(width);
                    part.copy_from_slice(&input[row * width..][..width]);
                    rest = others;
                }
            }
        });
    }
}

compiled_once! {
    /// The way back for one input: dx\[row\] ← the numbers of dy\[row\] from channel `first` on, as many as fit.
    ///
    /// # Panics
    /// If `dy` or `dx` has not `rows` rows, or the channels do not lie in `dy`.
    pub fn split<T>(machine: &'a Machine, rows: usize, dy: &'a [T], first: usize, dx: &'a mut [T]) {
        let (channels, width) = (dy.len() / rows, dx.len() / rows);
        let piece = piece_rows(width);
        machine.threads.chunks_mut(dx, piece * width.max(1), |index, dx| {
            for (row, dx) in (index * piece..).zip(dx.chunks_exact_mut(width)) {
                dx.copy_from_slice(&dy[row * channels + first..][..width]);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn what_is_put_together_comes_apart_again_for_any_number_of_threads() {
        let rows = 3000;
        let inputs: Vec<Vec<f32>> =
            [1, 8, 17].iter().map(|width| (0..rows * width).map(|place| (place * width) as f32).collect()).collect();
        for threads in [1, 2, 3, 8] {
            let machine = Machine::new(Isa::detect(), threads);
            let mut y = vec![f32::NAN; rows * 26];
            concat(&machine, rows, &inputs.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut y);
            for row in [0, 1, 1500, rows - 1] {
                assert_eq!(y[row * 26], inputs[0][row]);
                assert_eq!(y[row * 26 + 1..][..8], inputs[1][row * 8..][..8]);
                assert_eq!(y[row * 26 + 9..][..17], inputs[2][row * 17..][..17]);
            }
            for (input, first) in inputs.iter().zip([0, 1, 9]) {
                let mut back = vec![f32::NAN; input.len()];
                split(&machine, rows, &y, first, &mut back);
                assert_eq!(back, *input);
            }
        }
    }
}
