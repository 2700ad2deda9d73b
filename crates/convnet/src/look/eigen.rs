//! Eigenvalues and eigenvectors of a symmetric matrix: Householder's reflections make it tridiagonal, QL steps with implicit
//! shifts make that diagonal (Golub and Van Loan, "Matrix computations", chapter 8). About 9·n³ operations on one thread.

/// QL steps after which a value is taken as it is; two or three are usual.
const MOST_STEPS: usize = 64;

/// Eigenvalues, largest first, and eigenvectors, a row for each, of a symmetric n×n matrix. The vectors have length 1 and are
/// perpendicular; of each, the number farthest from 0 is positive, the first of equals.
pub(super) fn eigen(matrix: &[f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    if n == 0 {
        return (Vec::new(), Vec::new());
    }
    let mut matrix = matrix.to_vec();
    let (mut diagonal, mut beside, mut rows) = tridiagonal(&mut matrix, n);
    diagonalise(&mut diagonal, &mut beside, &mut rows, n);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| diagonal[*b].total_cmp(&diagonal[*a]));
    let mut vectors = Vec::with_capacity(n * n);
    for &number in &order {
        make_positive(&mut rows[number * n..][..n]);
        vectors.extend_from_slice(&rows[number * n..][..n]);
    }
    (order.iter().map(|number| diagonal[*number]).collect(), vectors)
}

/// Turns a direction around unless its number farthest from 0, the first of equals, is positive.
pub(super) fn make_positive(direction: &mut [f64]) {
    let largest = direction.iter().fold(0.0_f64, |largest, value| if value.abs() > largest.abs() { *value } else { largest });
    if largest < 0.0 {
        direction.iter_mut().for_each(|value| *value = -*value);
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// T = Q·A·Qᵀ with T tridiagonal: its diagonal, the numbers beside it (the last is 0), and Q. A is lost.
fn tridiagonal(a: &mut [f64], n: usize) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let mut beside = vec![0.0; n];
    // The reflection 1 − factor·v·vᵀ of each column, with v behind the diagonal.
    let mut reflections: Vec<(f64, Vec<f64>)> = Vec::with_capacity(n.saturating_sub(2));
    for k in 0..n.saturating_sub(2) {
        let mut v: Vec<f64> = (k + 1..n).map(|row| a[row * n + k]).collect();
        let length = dot(&v, &v).sqrt();
        let target = if v[0] > 0.0 { -length } else { length };
        beside[k] = target;
        v[0] -= target;
        let square = dot(&v, &v);
        let factor = if square > 0.0 { 2.0 / square } else { 0.0 };
        let mut w: Vec<f64> = (k + 1..n).map(|row| factor * dot(&a[row * n + k + 1..row * n + n], &v)).collect();
        let along = 0.5 * factor * dot(&w, &v);
        w.iter_mut().zip(&v).for_each(|(w, v)| *w -= along * v);
        for (row, (v_row, w_row)) in v.iter().zip(&w).enumerate() {
            let numbers = &mut a[(k + 1 + row) * n + k + 1..][..n - k - 1];
            for (number, (v, w)) in numbers.iter_mut().zip(v.iter().zip(&w)) {
                *number -= v_row * w + w_row * v;
            }
        }
        reflections.push((factor, v));
    }
    if n > 1 {
        beside[n - 2] = a[(n - 1) * n + n - 2];
    }
    let diagonal = (0..n).map(|k| a[k * n + k]).collect();
    // Qᵀ is the product of the reflections; from the last to the first, each touches only what lies behind its diagonal.
    let mut rows: Vec<f64> = (0..n * n).map(|index| f64::from(u8::from(index / n == index % n))).collect();
    for (k, (factor, v)) in reflections.iter().enumerate().rev() {
        for row in k + 1..n {
            let numbers = &mut rows[row * n + k + 1..row * n + n];
            let along = factor * dot(numbers, v);
            numbers.iter_mut().zip(v).for_each(|(number, v)| *number -= along * v);
        }
    }
    (diagonal, beside, rows)
}

/// Makes the numbers beside the diagonal 0 by rotations, which it applies to the rows too.
fn diagonalise(diagonal: &mut [f64], beside: &mut [f64], rows: &mut [f64], n: usize) {
    for first in 0..n {
        for _ in 0..MOST_STEPS {
            let small = |k: usize| beside[k].abs() <= f64::EPSILON * (diagonal[k].abs() + diagonal[k + 1].abs());
            let last = (first..n - 1).find(|&k| small(k)).unwrap_or(n - 1);
            if last == first {
                break;
            }
            step(diagonal, beside, rows, [first, last], n);
        }
    }
}

/// One QL step on the block from `first` to `last`, shifted by the eigenvalue of its upper 2×2 corner that is nearer to its
/// first number.
fn step(diagonal: &mut [f64], beside: &mut [f64], rows: &mut [f64], [first, last]: [usize; 2], n: usize) {
    let half = (diagonal[first + 1] - diagonal[first]) / (2.0 * beside[first]);
    let root = libm::hypot(half, 1.0);
    let shift = diagonal[first] - beside[first] / (half + if half < 0.0 { -root } else { root });
    let mut chased = diagonal[last] - shift;
    let (mut sin, mut cos, mut moved) = (1.0, 1.0, 0.0);
    for k in (first..last).rev() {
        let (bulge, kept) = (sin * beside[k], cos * beside[k]);
        let length = libm::hypot(bulge, chased);
        beside[k + 1] = length;
        if length == 0.0 {
            diagonal[k + 1] -= moved;
            beside[last] = 0.0;
            return;
        }
        (sin, cos) = (bulge / length, chased / length);
        let lower = diagonal[k + 1] - moved;
        let difference = (diagonal[k] - lower) * sin + 2.0 * cos * kept;
        moved = sin * difference;
        diagonal[k + 1] = lower + moved;
        chased = cos * difference - kept;
        let (before, behind) = rows.split_at_mut((k + 1) * n);
        for (upper, lower) in before[k * n..].iter_mut().zip(&mut behind[..n]) {
            (*upper, *lower) = (cos * *upper - sin * *lower, sin * *upper + cos * *lower);
        }
    }
    diagonal[first] -= moved;
    beside[first] = chased;
    beside[last] = 0.0;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Address, Purpose};

    /// A random symmetric matrix of the given rank.
    fn matrix(n: usize, rank: usize, seed: u64) -> Vec<f64> {
        let mut random = Address::new(seed, Purpose::Check).random();
        let factors: Vec<f64> = (0..n * rank).map(|_| random.normal()).collect();
        let signs: Vec<f64> = (0..rank).map(|number| if number % 3 == 2 { -1.0 } else { 1.0 }).collect();
        let of = |a: usize, b: usize| (0..rank).map(|k| signs[k] * factors[a * rank + k] * factors[b * rank + k]).sum();
        (0..n * n).map(|index| of((index / n).max(index % n), (index / n).min(index % n))).collect()
    }

    #[test]
    fn the_vectors_are_perpendicular_and_give_the_matrix_back() {
        for (n, rank) in [(1, 1), (2, 2), (3, 1), (7, 7), (40, 40), (65, 9), (30, 0)] {
            let matrix = matrix(n, rank, n as u64);
            let (values, vectors) = eigen(&matrix, n);
            assert!(values.windows(2).all(|pair| pair[0] >= pair[1]), "largest first: {values:?}");
            let size = matrix.iter().fold(1.0_f64, |size, value| size.max(value.abs()));
            let bound = 100.0 * n as f64 * f64::EPSILON;
            for (a, b) in (0..n).flat_map(|a| (0..n).map(move |b| (a, b))) {
                let back: f64 = (0..n).map(|k| values[k] * vectors[k * n + a] * vectors[k * n + b]).sum();
                assert!((back - matrix[a * n + b]).abs() <= bound * size, "{n} {rank}: {a}, {b}");
                let product = dot(&vectors[a * n..][..n], &vectors[b * n..][..n]);
                assert!((product - f64::from(u8::from(a == b))).abs() <= bound, "{n} {rank}: {a}, {b}: {product}");
            }
        }
    }

    #[test]
    fn values_and_signs_are_the_known_ones() {
        let (values, vectors) = eigen(&[2.0, -1.0, 0.0, -1.0, 2.0, -1.0, 0.0, -1.0, 2.0], 3);
        let root = 2.0_f64.sqrt();
        for (value, known) in values.iter().zip([2.0 + root, 2.0, 2.0 - root]) {
            assert!((value - known).abs() < 1e-14, "{values:?}");
        }
        assert!((vectors[1] - root / 2.0).abs() < 1e-14 && vectors[0] < 0.0, "the largest number is positive: {vectors:?}");
        assert_eq!(eigen(&[], 0), (Vec::new(), Vec::new()));
    }

    #[test]
    fn numbers_that_are_not_finite_end_too() {
        let (values, _) = eigen(&[f64::NAN; 16], 4);
        assert_eq!(values.len(), 4);
    }
}
