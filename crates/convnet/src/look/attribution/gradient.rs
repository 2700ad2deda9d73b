//! Methods that walk back once: the gradient of the score with respect to the image s = ∂score/∂x, by one of the rules for
//! ReLUs, and x · s.

use convnet_kernels::Real;

use super::subject::{Seen, Subject};
use super::target::Spot;
use crate::error::Result;
use crate::plan::RectifierRule;

/// A map of every number of the image, C×H×W, and the score.
pub(super) struct PixelMap<T> {
    pub values: Vec<T>,
    pub score: f64,
}

/// What a walk back gives at the image.
pub(super) fn walk_back<T: Real>(subject: &mut Subject<'_, T>, image: &[T], spot: Spot, rule: RectifierRule) -> Result<PixelMap<T>> {
    let mut map = PixelMap { values: Vec::new(), score: 0.0 };
    let take = |_: usize, seen: Seen<'_, T>, gradient: &[T]| map = PixelMap { values: gradient.to_vec(), score: seen.number().to_f64() };
    subject.walk(1, spot, Some(rule), |_, values| values.copy_from_slice(image), take)?;
    Ok(map)
}

/// x · ∂score/∂x.
pub(super) fn gradient_times_input<T: Real>(subject: &mut Subject<'_, T>, image: &[T], spot: Spot) -> Result<PixelMap<T>> {
    let mut map = walk_back(subject, image, spot, RectifierRule::Gradient)?;
    for (value, pixel) in map.values.iter_mut().zip(image) {
        *value *= *pixel;
    }
    Ok(map)
}

/// The mean of ∂score/∂x at the image plus each noise, samples × C×H×W.
pub(super) fn mean_over_noise<T: Real>(
    subject: &mut Subject<'_, T>,
    image: &[T],
    spot: Spot,
    samples: usize,
    mut noise: impl FnMut(usize, &mut [T]),
) -> Result<PixelMap<T>> {
    let score = subject.score(image, spot)?;
    let mut sums = vec![0.0_f64; image.len()];
    let noisy = |sample: usize, values: &mut [T]| {
        noise(sample, values);
        for (value, pixel) in values.iter_mut().zip(image) {
            *value += *pixel;
        }
    };
    subject.walk(samples, spot, Some(RectifierRule::Gradient), noisy, |_, _, gradient| {
        for (sum, value) in sums.iter_mut().zip(gradient) {
            *sum += value.to_f64();
        }
    })?;
    Ok(PixelMap { values: sums.iter().map(|sum| T::from_f64(sum / samples as f64)).collect(), score })
}
