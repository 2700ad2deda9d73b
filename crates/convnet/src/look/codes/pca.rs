//! Principal components: the perpendicular directions in which codes differ most.
//!
//! With the mean of all codes taken from each, X = N×D, the directions are the eigenvectors of XᵀX, and the coordinates X·v.
//! Where there are fewer images than numbers, the eigenvectors u of the smaller X·Xᵀ give the same: v = Xᵀu/√λ, X·v = √λ·u.

use convnet_kernels::Machine;

use super::Codes;
use crate::error::{Error, Result};
use crate::look::eigen::{eigen, make_positive};
use crate::look::gram::{Gram, centre};

/// The largest matrix whose eigenvectors are sought.
const MOST: usize = 2048;

/// Principal components of codes.
#[derive(Clone, Debug, PartialEq)]
pub struct Pca {
    /// Share of the variance along each component, largest first.
    pub shares: Vec<f64>,
    /// The components, K×D, each of length 1, its number farthest from 0 positive. 0 where no variance is left.
    pub components: Vec<f64>,
    /// The coordinates of each image, N×K.
    pub coordinates: Vec<f64>,
    /// The mean code, D.
    pub mean: Vec<f64>,
}

/// The first `count` principal components of codes, fewer if there are fewer images or numbers.
///
/// # Errors
/// A number is not finite, or there are more than 2048 images and more than 2048 numbers in a code.
pub fn pca(codes: &Codes, count: usize, machine: &Machine) -> Result<Pca> {
    codes.check_finite()?;
    let (n, d) = (codes.images.len(), codes.features());
    if n.min(d) > MOST {
        return Err(Error::Argument(format!(
            "principal components of {n} images with {d} numbers each at '{}'; at most {MOST} of one or the other are possible: take fewer images or a smaller layer",
            codes.layer
        )));
    }
    let count = count.min(n).min(d);
    let mean: Vec<f64> = (0..d).map(|k| (0..n).map(|row| f64::from(codes.code(row)[k])).sum::<f64>() / n as f64).collect();
    let (values, mut components) = if n <= d { by_images(codes, count, machine) } else { by_numbers(codes, &mean, count, machine) };
    components.chunks_exact_mut(d.max(1)).for_each(make_positive);
    let mut coordinates = vec![0.0; n * count];
    machine.threads.chunks_mut(&mut coordinates, count.max(1), |row, coordinates| {
        for (coordinate, component) in coordinates.iter_mut().zip(components.chunks_exact(d)) {
            *coordinate = codes.code(row).iter().zip(&mean).zip(component).map(|((x, mean), v)| (f64::from(*x) - mean) * v).sum();
        }
    });
    let total: f64 = values.iter().map(|value| value.max(0.0)).sum();
    let shares = values[..count].iter().map(|value| if total > 0.0 { value.max(0.0) / total } else { 0.0 }).collect();
    Ok(Pca { shares, components, coordinates, mean })
}

/// All eigenvalues, and the first components, by X·Xᵀ.
fn by_images(codes: &Codes, count: usize, machine: &Machine) -> (Vec<f64>, Vec<f64>) {
    let (n, d) = (codes.images.len(), codes.features());
    let mut gram = Gram::of(n, codes.values(), machine);
    centre(&mut gram, n);
    let (values, vectors) = eigen(&gram, n);
    let mut components = vec![0.0; count * d];
    // Rounding leaves a little where there is no variance; a direction cannot be read out of that.
    let least = values.first().map_or(0.0, |largest| largest * n as f64 * f64::EPSILON);
    machine.threads.chunks_mut(&mut components, d.max(1), |number, component| {
        if values[number] <= least {
            return;
        }
        let vector = &vectors[number * n..][..n];
        // The numbers of an eigenvector of centred rows add up to 0, so the mean drops out.
        for (row, weight) in vector.iter().enumerate() {
            component.iter_mut().zip(codes.code(row)).for_each(|(value, x)| *value += weight * f64::from(*x));
        }
        let length = component.iter().map(|value| value * value).sum::<f64>().sqrt();
        component.iter_mut().for_each(|value| *value /= length);
    });
    (values, components)
}

/// All eigenvalues, and the first components, by XᵀX.
fn by_numbers(codes: &Codes, mean: &[f64], count: usize, machine: &Machine) -> (Vec<f64>, Vec<f64>) {
    let (n, d) = (codes.images.len(), codes.features());
    let turned: Vec<f32> = (0..n * d).map(|index| codes.values()[index % n * d + index / n]).collect();
    let mut products = Gram::of(d, &turned, machine);
    for (index, value) in products.iter_mut().enumerate() {
        *value -= n as f64 * mean[index / d] * mean[index % d];
    }
    let (values, mut vectors) = eigen(&products, d);
    vectors.truncate(count * d);
    (values, vectors)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{machine, of_values};
    use super::*;

    #[test]
    fn points_on_a_line_have_one_component() {
        // Along (3, 4)/5, around the mean (10, 20).
        let values: Vec<f32> = [-2.0_f32, -1.0, 0.0, 3.0].iter().flat_map(|t| [10.0 + 3.0 * t, 20.0 + 4.0 * t]).collect();
        let found = pca(&of_values(&values, 4), 2, &machine(1)).unwrap();
        assert!((found.shares[0] - 1.0).abs() < 1e-12 && found.shares[1].abs() < 1e-12, "{:?}", found.shares);
        assert!((found.components[0] - 0.6).abs() < 1e-12 && (found.components[1] - 0.8).abs() < 1e-12);
        for (row, t) in [-10.0, -5.0, 0.0, 15.0].iter().enumerate() {
            assert!((found.coordinates[2 * row] - t).abs() < 1e-11, "{:?}", found.coordinates);
        }
    }

    #[test]
    fn both_sides_and_any_threads_give_the_same() {
        let values: Vec<f32> = (0..12 * 12).map(|index| ((index * 61 % 97) as f32).sin()).collect();
        let codes = of_values(&values, 12);
        let mean: Vec<f64> = (0..12).map(|k| (0..12).map(|row| f64::from(values[row * 12 + k])).sum::<f64>() / 12.0).collect();
        let (wide, mut a) = by_images(&codes, 5, &machine(1));
        let (tall, mut b) = by_numbers(&codes, &mean, 5, &machine(1));
        a.chunks_exact_mut(12).for_each(make_positive);
        b.chunks_exact_mut(12).for_each(make_positive);
        assert!(wide.iter().zip(&tall).all(|(a, b)| (a - b).abs() < 1e-11), "{wide:?} {tall:?}");
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-9), "{a:?} {b:?}");
        let one = pca(&codes, 5, &machine(1)).unwrap();
        for threads in [2, 3] {
            assert_eq!(pca(&codes, 5, &machine(threads)).unwrap(), one);
        }
    }

    #[test]
    fn codes_that_are_all_alike_have_no_variance() {
        let found = pca(&of_values(&[2.5; 15], 5), 2, &machine(1)).unwrap();
        assert_eq!(found.shares, [0.0, 0.0]);
        assert!(found.coordinates.iter().all(|value| value.abs() < 1e-12));
        assert!(pca(&of_values(&[f32::NAN; 6], 3), 2, &machine(1)).unwrap_err().to_string().contains("not finite"));
    }
}
