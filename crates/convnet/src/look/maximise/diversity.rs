//! How alike the images of one group look to a layer.
//!
//! A layer's values for an image, P places × C channels, have the Gram matrix G = AᵀA, C×C: which channels are large together,
//! wherever that is; the style of an image (Gatys, Ecker and Bethge 2016). Two images are as alike as the cosine of their
//! Gram matrices, ⟨Gᵢ, Gⱼ⟩/(‖Gᵢ‖·‖Gⱼ‖). The likeness of a group is the mean over its pairs.

use convnet_kernels::Real;

/// Writes the gradient of the likeness of a group for each of its images, [place, channel], and returns the likeness. All
/// images have the same number of values, `channels` at each place.
pub(crate) fn likeness<T: Real>(images: &[&[T]], channels: usize, gradients: &mut [Vec<T>]) -> T {
    let grams: Vec<Vec<T>> = images.iter().map(|image| gram(image, channels)).collect();
    let dot = |a: &[T], b: &[T]| a.iter().zip(b).map(|(a, b)| *a * *b).sum::<T>();
    let norms: Vec<T> = grams.iter().map(|gram| dot(gram, gram).sqrt()).collect();
    let pairs = T::from_usize((images.len() * images.len().saturating_sub(1) / 2).max(1));
    let mut likeness = T::ZERO;
    for (i, (image, gradient)) in images.iter().zip(gradients).enumerate() {
        let mut grad_gram = vec![T::ZERO; channels * channels];
        for j in (0..images.len()).filter(|j| *j != i && norms[i] > T::ZERO && norms[*j] > T::ZERO) {
            let cosine = dot(&grams[i], &grams[j]) / (norms[i] * norms[j]);
            let (toward, along) = (T::ONE / (norms[i] * norms[j] * pairs), cosine / (norms[i] * norms[i] * pairs));
            for (gradient, (other, own)) in grad_gram.iter_mut().zip(grams[j].iter().zip(&grams[i])) {
                *gradient += *other * toward - *own * along;
            }
            if i < j {
                likeness += cosine / pairs;
            }
        }
        // dA = A·(dG + dGᵀ), and dG is symmetric.
        for (row, target) in image.chunks_exact(channels).zip(gradient.chunks_exact_mut(channels)) {
            for (value, column) in target.iter_mut().zip(grad_gram.chunks_exact(channels)) {
                *value = T::from_f64(2.0) * dot(row, column);
            }
        }
    }
    likeness
}

fn gram<T: Real>(image: &[T], channels: usize) -> Vec<T> {
    let mut gram = vec![T::ZERO; channels * channels];
    for row in image.chunks_exact(channels) {
        for (value, sums) in row.iter().zip(gram.chunks_exact_mut(channels)) {
            for (sum, other) in sums.iter_mut().zip(row) {
                *sum += *value * *other;
            }
        }
    }
    gram
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Address, Purpose};

    fn group() -> Vec<Vec<f64>> {
        let mut random = Address::new(5, Purpose::Check).random();
        (0..3).map(|_| (0..12).map(|_| random.normal()).collect()).collect()
    }

    fn likeness_of(images: &[Vec<f64>]) -> (f64, Vec<Vec<f64>>) {
        let mut gradients = vec![vec![0.0; 12]; images.len()];
        let images: Vec<&[f64]> = images.iter().map(Vec::as_slice).collect();
        (likeness(&images, 3, &mut gradients), gradients)
    }

    #[test]
    fn likeness_has_the_gradient_of_its_value() {
        let mut images = group();
        let (_, gradients) = likeness_of(&images);
        for (image, index) in (0..3).flat_map(|image| (0..12).map(move |index| (image, index))) {
            let mut at = |change: f64| {
                images[image][index] += change;
                let value = likeness_of(&images).0;
                images[image][index] -= change;
                value
            };
            let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert!((difference - gradients[image][index]).abs() < 1e-8, "{image},{index}");
        }
    }

    #[test]
    fn equal_images_are_fully_alike_wherever_things_are_and_empty_ones_not_at_all() {
        let image = group().remove(0);
        let mut moved = image.clone();
        moved.rotate_left(3);
        assert!((likeness_of(&[image.clone(), moved]).0 - 1.0).abs() < 1e-12);
        assert_eq!(likeness_of(&[image, vec![0.0; 12]]).0, 0.0);
    }
}
