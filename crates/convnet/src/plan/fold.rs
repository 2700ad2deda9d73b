//! A batch norm with fixed statistics is a scale and a shift per channel, which the convolution in front of it can take in:
//!
//! ```text
//! γ·(w∗x + b − μ)/√(σ² + ε) + β  =  (a·w)∗x + (a·(b − μ) + β),   a = γ/√(σ² + ε)
//! ```

use convnet_kernels::Real;

use super::layout::Placed;
use crate::layer::batch_norm2d::BatchNorm2d;
use crate::network::Parameters;

/// Writes the folded weights and the folded bias of a convolution with these parameters.
pub(super) fn fold_batch_norm<T: Real>(
    placed: &Placed,
    parameters: &Parameters<T>,
    convolution: &[&[T]],
    weight: &mut [T],
    bias: &mut [T],
) {
    let filters = placed.output_shape.c;
    let per_filter = weight.len() / filters;
    if let Some(fold) = &placed.step.batch_norm {
        let values = fold.parameters.clone().map(|index| parameters.values(index)).collect();
        let statistics = Statistics::new(&fold.layer, values);
        for filter in 0..filters {
            let (scale, shift) = statistics.scale_and_shift(filter);
            let range = filter * per_filter..(filter + 1) * per_filter;
            for (folded, &value) in weight[range.clone()].iter_mut().zip(&convolution[0][range]) {
                *folded = scale * value;
            }
            bias[filter] = shift + scale * convolution.get(1).map_or(T::ZERO, |bias| bias[filter]);
        }
    }
}

/// The parameters of a batch norm by name.
struct Statistics<'a, T> {
    affine: Option<(&'a [T], &'a [T])>,
    mean: &'a [T],
    variance: &'a [T],
    epsilon: T,
}

impl<'a, T: Real> Statistics<'a, T> {
    fn new(layer: &BatchNorm2d, values: Vec<&'a [T]>) -> Self {
        let (affine, mean, variance) = match values[..] {
            [weight, bias, mean, variance] => (Some((weight, bias)), mean, variance),
            [mean, variance] => (None, mean, variance),
            _ => (None, &[][..], &[][..]),
        };
        Self { affine, mean, variance, epsilon: T::from_f64(layer.epsilon) }
    }

    fn scale_and_shift(&self, channel: usize) -> (T, T) {
        let normalise = T::ONE / (self.variance[channel] + self.epsilon).sqrt();
        let (weight, bias) = self.affine.map_or((T::ONE, T::ZERO), |(weight, bias)| (weight[channel], bias[channel]));
        let scale = weight * normalise;
        (scale, bias - scale * self.mean[channel])
    }
}
