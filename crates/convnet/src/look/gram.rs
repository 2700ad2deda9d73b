//! Scalar products of all pairs of rows, in f64: G = X·Xᵀ, added up over blocks of columns.

use convnet_kernels::Machine;

/// Rows of a tile; so many rows are worked on together.
const TILE: usize = 4;
/// Columns of a block: all rows of it stay in the cache.
const BLOCK: usize = 256;

/// The symmetric matrix of scalar products, row by row. X is added a piece of its columns at a time, so it never needs to be
/// in memory as a whole. The order of all sums is fixed by the sizes alone.
#[derive(Clone, Debug)]
pub(super) struct Gram {
    rows: usize,
    /// Rows × rows; only what is on and before the diagonal counts until the end.
    values: Vec<f64>,
    /// One block of X in f64, panels of `TILE` rows, in each column by column.
    packed: Vec<f64>,
}

impl Gram {
    /// For so many rows; all products are 0.
    pub fn new(rows: usize) -> Self {
        Self { rows, values: vec![0.0; rows * rows], packed: vec![0.0; rows.div_ceil(TILE) * TILE * BLOCK] }
    }

    /// That of a matrix of `rows` rows.
    pub fn of(rows: usize, x: &[f32], machine: &Machine) -> Vec<f64> {
        let mut gram = Self::new(rows);
        gram.add(x, machine);
        gram.finish()
    }

    /// Adds the products of these columns: a matrix of as many rows.
    pub fn add(&mut self, x: &[f32], machine: &Machine) {
        let rows = self.rows;
        let columns = x.len() / rows.max(1);
        for first in (0..columns).step_by(BLOCK) {
            let width = BLOCK.min(columns - first);
            let panel = TILE * width;
            let packed = &mut self.packed[..rows.div_ceil(TILE) * panel];
            machine.threads.chunks_mut(packed, panel, |number, panel| {
                for (place, value) in panel.iter_mut().enumerate() {
                    let (row, column) = (number * TILE + place % TILE, first + place / TILE);
                    *value = if row < rows { f64::from(x[row * columns + column]) } else { 0.0 };
                }
            });
            let packed = &*packed;
            machine.threads.chunks_mut(&mut self.values, TILE * rows, |upper, values| {
                for lower in 0..=upper {
                    let tile = tile(&packed[upper * panel..][..panel], &packed[lower * panel..][..panel]);
                    for (values, tile) in values.chunks_exact_mut(rows).zip(&tile) {
                        let place = lower * TILE;
                        values[place..rows.min(place + TILE)].iter_mut().zip(tile).for_each(|(value, more)| *value += more);
                    }
                }
            });
        }
    }

    /// The whole matrix.
    pub fn finish(mut self) -> Vec<f64> {
        for row in 0..self.rows {
            for column in row + 1..self.rows {
                self.values[row * self.rows + column] = self.values[column * self.rows + row];
            }
        }
        self.values
    }
}

/// The products of two panels.
fn tile(a: &[f64], b: &[f64]) -> [[f64; TILE]; TILE] {
    let mut sums = [[0.0; TILE]; TILE];
    for (a, b) in a.chunks_exact(TILE).zip(b.chunks_exact(TILE)) {
        for (sums, a) in sums.iter_mut().zip(a) {
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum += a * b;
            }
        }
    }
    sums
}

/// The same products after the mean of all rows was taken from each row: Gᵢⱼ − mean of row i − mean of row j + mean of all.
pub(super) fn centre(gram: &mut [f64], rows: usize) {
    let means: Vec<f64> = gram.chunks_exact(rows.max(1)).map(|row| row.iter().sum::<f64>() / rows as f64).collect();
    let mean = means.iter().sum::<f64>() / rows.max(1) as f64;
    for (row, of_row) in gram.chunks_exact_mut(rows.max(1)).zip(&means) {
        row.iter_mut().zip(&means).for_each(|(value, of_column)| *value += mean - of_row - of_column);
    }
}

/// Squared distances of all pairs of rows, from their products: |a|² + |b|² − 2a·b, never below 0.
pub(super) fn square_distances(gram: &[f64], rows: usize) -> Vec<f64> {
    let square = |row: usize| gram[row * rows + row];
    let of = |index: usize| (square(index / rows) + square(index % rows) - 2.0 * gram[index]).max(0.0);
    (0..rows * rows).map(|index| if index / rows == index % rows { 0.0 } else { of(index) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use convnet_kernels::Isa;

    fn matrix(rows: usize, columns: usize) -> Vec<f32> {
        (0..rows * columns).map(|index| ((index * 37 % 101) as f32 - 40.0) / 16.0).collect()
    }

    #[test]
    fn products_are_those_of_the_definition_for_any_threads_and_pieces() {
        for (rows, columns) in [(1, 1), (5, 3), (9, 600), (17, 256)] {
            let x = matrix(rows, columns);
            let found = Gram::of(rows, &x, &Machine::new(Isa::detect(), 1));
            for (a, b) in (0..rows).flat_map(|a| (0..rows).map(move |b| (a, b))) {
                let sum: f64 = (0..columns).map(|k| f64::from(x[a * columns + k]) * f64::from(x[b * columns + k])).sum();
                assert_eq!(found[a * rows + b], sum, "sums of these numbers are exact");
            }
            for threads in [2, 3] {
                assert!(Gram::of(rows, &x, &Machine::new(Isa::detect(), threads)) == found);
            }
            let mut pieces = Gram::new(rows);
            for part in [0..columns / 2, columns / 2..columns] {
                let part: Vec<f32> = x.chunks_exact(columns).flat_map(|row| row[part.clone()].to_vec()).collect();
                pieces.add(&part, &Machine::new(Isa::detect(), 2));
            }
            assert_eq!(pieces.finish(), found);
        }
    }

    #[test]
    fn centring_and_distances_are_those_of_the_rows() {
        let (rows, columns) = (6, 5);
        let x = matrix(rows, columns);
        let mut gram = Gram::of(rows, &x, &Machine::new(Isa::detect(), 1));
        let distances = square_distances(&gram, rows);
        centre(&mut gram, rows);
        let mean = |k: usize| (0..rows).map(|row| f64::from(x[row * columns + k])).sum::<f64>() / rows as f64;
        let centred = |row: usize, k: usize| f64::from(x[row * columns + k]) - mean(k);
        for (a, b) in (0..rows).flat_map(|a| (0..rows).map(move |b| (a, b))) {
            let product: f64 = (0..columns).map(|k| centred(a, k) * centred(b, k)).sum();
            assert!((gram[a * rows + b] - product).abs() < 1e-11);
            let distance: f64 = (0..columns).map(|k| (centred(a, k) - centred(b, k)).powi(2)).sum();
            assert!((distances[a * rows + b] - distance).abs() < 1e-11);
        }
    }
}
