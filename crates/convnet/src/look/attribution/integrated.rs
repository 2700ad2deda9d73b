//! Integrated gradients: each pixel's share of score(x) − score(x₀), along the straight way from a baseline x₀ to the image x,
//!
//! ```text
//! IGᵢ = (xᵢ − x₀ᵢ) · ∫₀¹ ∂score/∂xᵢ (x₀ + α·(x − x₀)) dα
//! ```
//!
//! The integral is the mean over α = (k + ½)/steps: the midpoint rule. The shares of the exact integral add up to the
//! difference of the scores, so what is missing tells how good the sum is ([`Completeness`]).

use convnet_kernels::Real;
use serde::Serialize;

use super::gradient::PixelMap;
use super::subject::Subject;
use super::target::Spot;
use crate::error::Result;
use crate::plan::RectifierRule;

/// How well the shares of integrated gradients add up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Completeness {
    /// The sum of all shares.
    pub sum: f64,
    /// What they should add up to: the image's score minus the baseline's.
    pub difference: f64,
    /// Steps on the way.
    pub steps: usize,
}

impl Completeness {
    /// The sum's distance from what it should be: more steps make it smaller.
    pub fn error(&self) -> f64 {
        self.sum - self.difference
    }

    /// The error as a share of the difference of the scores; infinite where that is 0.
    pub fn relative_error(&self) -> f64 {
        if self.error() == 0.0 { 0.0 } else { (self.error() / self.difference).abs() }
    }
}

pub(super) fn integrated_gradients<T: Real>(
    subject: &mut Subject<'_, T>,
    image: &[T],
    baseline: &[T],
    spot: Spot,
    steps: usize,
) -> Result<(PixelMap<T>, Completeness)> {
    let (score, start) = (subject.score(image, spot)?, subject.score(baseline, spot)?);
    let mut sums = vec![0.0_f64; image.len()];
    let on_the_way = |step: usize, values: &mut [T]| {
        let alpha = T::from_f64((step as f64 + 0.5) / steps as f64);
        for ((value, x), x0) in values.iter_mut().zip(image).zip(baseline) {
            *value = *x0 + alpha * (*x - *x0);
        }
    };
    subject.walk(steps, spot, Some(RectifierRule::Gradient), on_the_way, |_, _, gradient| {
        for (sum, value) in sums.iter_mut().zip(gradient) {
            *sum += value.to_f64();
        }
    })?;
    let shares = sums.iter().zip(image).zip(baseline).map(|((sum, x), x0)| (x.to_f64() - x0.to_f64()) * sum / steps as f64);
    let shares: Vec<f64> = shares.collect();
    let completeness = Completeness { sum: shares.iter().sum(), difference: score - start, steps };
    Ok((PixelMap { values: shares.into_iter().map(T::from_f64).collect(), score }, completeness))
}
