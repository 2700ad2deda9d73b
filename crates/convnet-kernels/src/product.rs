//! The product of two small matrices that are read once: nothing is packed.

use crate::per_isa;

/// Rows and products that are in hand together.
const BLOCK: usize = 4;

per_isa! {
    /// result ← left · right, row by row: `right` and `result` have rows of length `width`, `left` has a row for each of
    /// `result` and a column for each of `right`. The order of the sums depends on the sizes alone.
    ///
    /// # Panics
    /// If the sizes do not fit together.
    pub fn matrix_product<T: Real>(left: &[T], right: &[T], result: &mut [T], width: usize) {
        let inner = right.len() / width;
        assert!(right.len() == inner * width && left.len() * width == result.len() * inner, "matrices that do not fit together");
        result.fill(T::ZERO);
        for (rows, factors) in result.chunks_mut(BLOCK * width).zip(left.chunks(BLOCK * inner)) {
            if rows.len() < BLOCK * width {
                for (row, factors) in rows.chunks_exact_mut(width).zip(factors.chunks_exact(inner)) {
                    for (factor, other) in factors.iter().zip(right.chunks_exact(width)) {
                        row.iter_mut().zip(other).for_each(|(sum, value)| *sum += *factor * *value);
                    }
                }
                continue;
            }
            let (first, second) = rows.split_at_mut(2 * width);
            let ((a, b), (c, d)) = (first.split_at_mut(width), second.split_at_mut(width));
            let whole = inner - inner % BLOCK;
            for k in (0..whole).step_by(BLOCK) {
                let f = |row: usize, step: usize| factors[row * inner + k + step];
                let f: [[T; BLOCK]; BLOCK] = std::array::from_fn(|row| std::array::from_fn(|step| f(row, step)));
                let [p, q, r, s] = std::array::from_fn(|step| &right[(k + step) * width..][..width]);
                for x in 0..width {
                    let sum = |f: [T; BLOCK]| (f[0] * p[x] + f[1] * q[x]) + (f[2] * r[x] + f[3] * s[x]);
                    a[x] += sum(f[0]);
                    b[x] += sum(f[1]);
                    c[x] += sum(f[2]);
                    d[x] += sum(f[3]);
                }
            }
            for k in whole..inner {
                let other = &right[k * width..][..width];
                for (row, sums) in [&mut *a, &mut *b, &mut *c, &mut *d].into_iter().enumerate() {
                    let factor = factors[row * inner + k];
                    sums.iter_mut().zip(other).for_each(|(sum, value)| *sum += factor * *value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn every_size_is_the_product_and_every_instruction_set_gives_the_same_bits() {
        for (rows, inner, width) in [(1, 1, 1), (3, 5, 2), (4, 4, 7), (8, 9, 33), (13, 6, 17)] {
            let left: Vec<f32> = (0..rows * inner).map(|i| (i * 37 % 101) as f32 / 16.0 - 3.0).collect();
            let right: Vec<f32> = (0..inner * width).map(|i| (i * 53 % 97) as f32 / 16.0 - 3.0).collect();
            let of = |isa: Isa| {
                let mut result = vec![f32::NAN; rows * width];
                matrix_product(isa, &left, &right, &mut result, width);
                result
            };
            let found = of(Isa::Portable);
            for (index, value) in found.iter().enumerate() {
                let (y, x) = (index / width, index % width);
                let exact: f64 = (0..inner).map(|k| f64::from(left[y * inner + k]) * f64::from(right[k * width + x])).sum();
                assert!((f64::from(*value) - exact).abs() < 1e-4, "{rows}x{inner}x{width} at {y},{x}");
            }
            assert_eq!(of(Isa::detect()), found);
        }
    }
}
