//! From bytes to the numbers that a network sees: (x/255 − mean) / standard deviation, per channel.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::split::Split;
use crate::error::{Error, Result};

/// Mean and standard deviation of each channel, of values from 0 to 1.
///
/// ```
/// use convnet::data::{Normalisation, Split};
///
/// let split = Split::new([1, 1, 2], vec![0, 255, 0, 255], vec![0, 1])?;
/// let normalisation = Normalisation::of(&split);
/// assert_eq!((normalisation.mean[0], normalisation.std[0]), (0.5, 0.5));
///
/// let mut values = [0.0; 2];
/// normalisation.apply(split.image(0), &mut values);
/// assert_eq!(values, [-1.0, 1.0]);
/// # Ok::<(), convnet::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalisation {
    /// The mean of each channel.
    pub mean: Vec<f32>,
    /// The standard deviation of each channel; above 0.
    pub std: Vec<f32>,
}

impl Normalisation {
    /// That of these images, exact before it is rounded to `f32`: the sums are integers, so no order of adding them makes a
    /// difference. The standard deviation is that of the whole (divided by n). A channel that is everywhere the same has
    /// none; it is given 1.
    pub fn of(split: &Split) -> Self {
        let [channels, height, width] = split.size();
        let count = u128::from((split.len() * height * width) as u64);
        let plane = height * width;
        let zeros = || vec![[0_u64; 2]; channels];
        let sums = split
            .pixels()
            .par_chunks_exact(channels * plane)
            .fold(zeros, |mut sums, image| {
                for (sum, values) in sums.iter_mut().zip(image.chunks_exact(plane)) {
                    for &value in values {
                        let value = u64::from(value);
                        sum[0] += value;
                        sum[1] += value * value;
                    }
                }
                sums
            })
            .reduce(zeros, |mut left, right| {
                for (left, right) in left.iter_mut().zip(right) {
                    left[0] += right[0];
                    left[1] += right[1];
                }
                left
            });
        let figures = sums.into_iter().map(|[sum, squares]| {
            let (sum, squares) = (u128::from(sum), u128::from(squares));
            // n²·variance is a whole number.
            let spread = count * squares - sum * sum;
            if spread == 0 {
                return (if count == 0 { 0.0 } else { sum as f64 / count as f64 / 255.0 }, 1.0);
            }
            (sum as f64 / count as f64 / 255.0, (spread as f64).sqrt() / count as f64 / 255.0)
        });
        let (mean, std) = figures.map(|(mean, std)| (mean as f32, std as f32)).unzip();
        Normalisation { mean, std }
    }

    /// Whether it can be applied to images of so many channels.
    ///
    /// # Errors
    /// [`Error::Argument`] when it is for another number, not finite, or has a standard deviation that is not above 0.
    pub fn check(&self, channels: usize) -> Result<()> {
        if self.mean.len() != channels || self.std.len() != channels {
            return Err(Error::Argument(format!(
                "the normalisation has {} means and {} standard deviations, the images have {channels} channels",
                self.mean.len(),
                self.std.len()
            )));
        }
        if !self.mean.iter().all(|mean| mean.is_finite()) || !self.std.iter().all(|std| std.is_finite() && *std > 0.0) {
            return Err(Error::Argument(format!(
                "a normalisation needs finite means and standard deviations above 0, not {:?} and {:?}",
                self.mean, self.std
            )));
        }
        Ok(())
    }

    /// Writes the normalised image: `image` and `values` are C×H×W.
    ///
    /// # Panics
    /// When the two differ in length.
    pub fn apply(&self, image: &[u8], values: &mut [f32]) {
        assert_eq!(image.len(), values.len(), "an image and its normalised values have the same length");
        let plane = image.len() / self.mean.len().max(1);
        let planes = image.chunks_exact(plane.max(1)).zip(values.chunks_exact_mut(plane.max(1)));
        for (channel, (image, values)) in planes.enumerate() {
            let line = self.line(channel);
            for (value, &pixel) in values.iter_mut().zip(image) {
                *value = line.of(f32::from(pixel));
            }
        }
    }

    /// The normalisation of one channel as a straight line over 0 … 255.
    pub(super) fn line(&self, channel: usize) -> Line {
        let (mean, std) = (f64::from(self.mean[channel]), f64::from(self.std[channel]));
        Line { slope: (1.0 / (255.0 * std)) as f32, start: (-mean / std) as f32 }
    }
}

/// x ↦ slope·x + start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    slope: f32,
    start: f32,
}

impl Line {
    pub fn of(self, value: f32) -> f32 {
        self.slope * value + self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Address, Purpose};

    fn random_split(images: usize, size: [usize; 3]) -> Split {
        let mut random = Address::new(1, Purpose::Split).random();
        let length = images * size.iter().product::<usize>();
        let pixels = (0..length).map(|_| random.below(256).pow(2) as u8 / 3).collect();
        Split::new(size, pixels, vec![0; images]).unwrap()
    }

    #[test]
    fn normalised_images_have_mean_0_and_variance_1() {
        let split = random_split(50, [3, 9, 7]);
        let normalisation = Normalisation::of(&split);
        normalisation.check(3).unwrap();
        let mut values = vec![0.0; split.pixels().len()];
        for (index, values) in values.chunks_exact_mut(split.image_bytes()).enumerate() {
            normalisation.apply(split.image(index), values);
        }
        for channel in 0..3 {
            let of_channel = values.chunks_exact(63).skip(channel).step_by(3).flatten().map(|&value| f64::from(value));
            let n = 50.0 * 63.0;
            let mean = of_channel.clone().sum::<f64>() / n;
            let variance = of_channel.map(|value| (value - mean).powi(2)).sum::<f64>() / n;
            assert!(mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-6, "channel {channel}: {mean}, {variance}");
        }
    }

    #[test]
    fn the_figures_are_those_of_a_sum_in_f64() {
        let split = random_split(20, [2, 4, 5]);
        let normalisation = Normalisation::of(&split);
        for channel in 0..2 {
            let values: Vec<f64> =
                split.pixels().chunks_exact(20).skip(channel).step_by(2).flatten().map(|&v| f64::from(v) / 255.0).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let std = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
            assert!((f64::from(normalisation.mean[channel]) - mean).abs() < 1e-7);
            assert!((f64::from(normalisation.std[channel]) - std).abs() < 1e-7);
        }
    }

    #[test]
    fn a_constant_channel_and_no_image_give_usable_figures() {
        let split = Split::new([2, 1, 2], vec![51, 51, 0, 255], vec![0]).unwrap();
        assert_eq!(Normalisation::of(&split), Normalisation { mean: vec![0.2, 0.5], std: vec![1.0, 0.5] });
        let none = Split::new([1, 2, 2], vec![], vec![]).unwrap();
        assert_eq!(Normalisation::of(&none), Normalisation { mean: vec![0.0], std: vec![1.0] });
    }

    #[test]
    fn what_cannot_be_applied_is_refused_with_its_numbers() {
        let figures = |mean: &[f32], std: &[f32]| Normalisation { mean: mean.into(), std: std.into() };
        let error = figures(&[0.5], &[0.5]).check(3).unwrap_err().to_string();
        assert!(error.contains("1 means") && error.contains("3 channels"), "{error}");
        for std in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(figures(&[0.5], &[std]).check(1).is_err(), "{std}");
        }
        assert!(figures(&[f32::NAN], &[1.0]).check(1).is_err());
    }

    #[test]
    fn the_text_form_is_read_back_and_unknown_keys_are_refused() {
        let normalisation = Normalisation { mean: vec![0.286_040_6], std: vec![0.353_024_1] };
        let text = serde_json::to_string(&normalisation).unwrap();
        assert_eq!(serde_json::from_str::<Normalisation>(&text).unwrap(), normalisation);
        assert!(serde_json::from_str::<Normalisation>(r#"{"mean":[0],"std":[1],"scale":255}"#).is_err());
    }
}
