//! How colours go together in a data set.

use crate::data::Split;
use crate::look::eigen::eigen;

/// The principal colours of a data set: the columns of U·√Λ, where U·Λ·Uᵀ is the covariance of its channels over all pixels,
/// divided by the length of the longest. What is drawn as a mixture of them varies as the data's colours do, instead of in
/// pure red, green and blue which photographs hardly have (Olah, Mordvintsev and Schubert, "Feature visualization", 2017).
/// With one channel there is nothing to mix, and the only number is 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Colours {
    channels: usize,
    /// C×C, [channel, principal colour].
    mixture: Vec<f64>,
}

impl Colours {
    /// Each channel for itself.
    pub fn independent(channels: usize) -> Self {
        let mixture = (0..channels * channels).map(|index| f64::from(u8::from(index / channels == index % channels))).collect();
        Self { channels, mixture }
    }

    /// Those of photographs, red, green and blue: of ImageNet's images, as "Feature visualization" gives them. What is light
    /// and dark varies most, then red against blue, then green against both.
    pub fn photographs() -> Self {
        const MIXTURE: [[f64; 3]; 3] = [[0.26, 0.09, 0.02], [0.27, 0.0, -0.05], [0.27, -0.09, 0.03]];
        let covariance = |index: usize| MIXTURE[index / 3].iter().zip(&MIXTURE[index % 3]).map(|(a, b)| a * b).sum();
        Self::of_covariance(&(0..9).map(covariance).collect::<Vec<f64>>(), 3)
    }

    /// Those of these images if there are many; otherwise those of photographs for three channels, and independent ones for
    /// any other number.
    pub fn suited(channels: usize, split: Option<&Split>) -> Self {
        match split.filter(|split| split.len() >= MANY) {
            Some(split) => Self::of(split),
            None if channels == 3 => Self::photographs(),
            None => Self::independent(channels),
        }
    }

    /// Those of these images; independent where all pixels are alike.
    pub fn of(split: &Split) -> Self {
        Self::of_covariance(&covariance(split), split.size()[0])
    }

    fn of_covariance(covariance: &[f64], channels: usize) -> Self {
        let (values, vectors) = eigen(covariance, channels);
        let longest = values.iter().copied().fold(0.0, f64::max).sqrt();
        if longest == 0.0 {
            return Self::independent(channels);
        }
        let weight = |index: usize| {
            let (channel, colour) = (index / channels, index % channels);
            vectors[colour * channels + channel] * values[colour].max(0.0).sqrt() / longest
        };
        Self { channels, mixture: (0..channels * channels).map(weight).collect() }
    }

    /// Number of channels, C.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// How much of each principal colour a channel takes, C×C: [channel, colour].
    pub fn mixture(&self) -> &[f64] {
        &self.mixture
    }
}

/// Images from which on their own colours are trusted.
const MANY: usize = 100;

/// The covariance of the channels over all pixels, C×C, of values 0 … 255. The sums are of whole numbers and exact.
fn covariance(split: &Split) -> Vec<f64> {
    let [channels, h, w] = split.size();
    let (mut sums, mut products) = (vec![0_u64; channels], vec![0_u64; channels * channels]);
    for image in split.pixels().chunks_exact(channels * h * w) {
        let planes: Vec<&[u8]> = image.chunks_exact(h * w).collect();
        for (a, first) in planes.iter().enumerate() {
            sums[a] += first.iter().map(|value| u64::from(*value)).sum::<u64>();
            for (b, second) in planes.iter().enumerate().take(a + 1) {
                products[a * channels + b] += first.iter().zip(*second).map(|(x, y)| u64::from(*x) * u64::from(*y)).sum::<u64>();
            }
        }
    }
    let count = (split.len() * h * w).max(1) as f64;
    let of = |a: usize, b: usize| {
        let (a, b) = (a.max(b), a.min(b));
        products[a * channels + b] as f64 / count - sums[a] as f64 / count * (sums[b] as f64 / count)
    };
    (0..channels * channels).map(|index| of(index / channels, index % channels)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;

    #[test]
    fn the_mixture_has_the_covariance_of_the_images() {
        // Two channels that rise together and a third that falls.
        let pixels: Vec<u8> = (0..3 * 64).map(|i| [i % 64 * 3, i % 64 * 2 + i % 7, 200 - i % 64 * 2][i / 64] as u8).collect();
        let split = Split::new([3, 8, 8], pixels, vec![0]).unwrap();
        let colours = Colours::of(&split);
        let covariance = covariance(&split);
        let m = colours.mixture();
        let product = |a: usize, b: usize| (0..3).map(|k| m[a * 3 + k] * m[b * 3 + k]).sum::<f64>();
        let factor = covariance[0] / product(0, 0);
        for (index, value) in covariance.iter().enumerate() {
            assert!((product(index / 3, index % 3) * factor - value).abs() < 1e-9 * covariance[0], "{index}");
        }
        // The columns are perpendicular, the first has length 1.
        let column = |a: usize, b: usize| (0..3).map(|c| m[c * 3 + a] * m[c * 3 + b]).sum::<f64>();
        assert!((column(0, 0) - 1.0).abs() < 1e-12 && column(0, 1).abs() < 1e-12 && column(1, 2).abs() < 1e-12);
    }

    #[test]
    fn few_images_are_taken_for_photographs() {
        let photographs = Colours::photographs();
        let m = photographs.mixture();
        // The first principal colour is grey, the second red against blue, the third green against both.
        assert!((0..3).all(|c| (m[c * 3].abs() - 0.577).abs() < 0.02), "{m:?}");
        assert!(m[1] * m[7] < 0.0 && m[4].abs() < 0.02 && m[5] * m[2] < 0.0 && m[2] * m[8] > 0.0, "{m:?}");
        let few = Split::new([3, 1, 2], vec![1, 2, 3, 4, 5, 6], vec![0]).unwrap();
        assert_eq!(Colours::suited(3, Some(&few)), photographs);
        assert_eq!(Colours::suited(3, None), photographs);
        assert_eq!(Colours::suited(4, None), Colours::independent(4));
        let clothes = Dataset::embedded().test;
        assert_eq!(Colours::suited(1, Some(&clothes)), Colours::of(&clothes));
    }

    #[test]
    fn grey_images_and_even_ones_mix_nothing() {
        let grey = Colours::of(&Dataset::embedded().test);
        assert_eq!((grey.channels(), grey.mixture()[0].abs()), (1, 1.0));
        let even = Split::new([3, 1, 2], vec![7; 6], vec![0]).unwrap();
        assert_eq!(Colours::of(&even), Colours::independent(3));
    }
}
