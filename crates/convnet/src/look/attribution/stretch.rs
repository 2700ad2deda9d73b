//! A plane stretched over another size: bilinear, between the middles of the places.
//!
//! Place i of `from` lies over position (i + ½)·to/from − ½ of the larger plane; beyond the outermost middles the outermost
//! number holds. This is how the field lays a layer's map over the image, as if the layer's places were equal parts of it.

use convnet_kernels::Real;

/// `plane`, H×W of sizes `from`, at sizes `to`.
pub(super) fn stretch<T: Real>(plane: &[T], from: [usize; 2], to: [usize; 2]) -> Vec<T> {
    let (rows, columns) = (neighbours(from[0], to[0]), neighbours(from[1], to[1]));
    let mut stretched = Vec::with_capacity(to[0] * to[1]);
    for (above, below, down) in rows {
        for (left, right, across) in &columns {
            let between = |row: usize| {
                let (a, b) = (plane[row * from[1] + left].to_f64(), plane[row * from[1] + right].to_f64());
                a + across * (b - a)
            };
            let (upper, lower) = (between(above), between(below));
            stretched.push(T::from_f64(upper + down * (lower - upper)));
        }
    }
    stretched
}

/// For each of `to` positions: the two places of `from` that it lies between, and how far it is from the first to the second.
fn neighbours(from: usize, to: usize) -> Vec<(usize, usize, f64)> {
    let last = from.saturating_sub(1);
    let place = |position: usize| {
        let middle = ((position as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, last as f64);
        let first = (middle as usize).min(last);
        (first, (first + 1).min(last), middle - first as f64)
    };
    (0..to).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middles_keep_their_numbers_and_borders_hold() {
        let wide = stretch(&[0.0, 3.0], [1, 2], [1, 6]);
        assert_eq!(wide, [0.0, 0.0, 1.0, 2.0, 3.0, 3.0].map(|value: f64| value));
        assert_eq!(stretch(&[1.0, 2.0, 3.0, 4.0_f32], [2, 2], [2, 2]), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(stretch(&[7.0_f32], [1, 1], [2, 3]), [7.0; 6]);
    }
}
