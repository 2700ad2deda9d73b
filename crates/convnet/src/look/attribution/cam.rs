//! Class activation maps: sums of a layer's maps A_k (k = 1 … C, H×W each) that say where what speaks for the score s is. With
//! g = ∂s/∂A:
//!
//! | method | map |
//! |---|---|
//! | Grad-CAM | Σ_k α_k·A_k, α_k the mean of g over the map |
//! | Grad-CAM++ | Σ_k w_k·A_k, w_k = Σ over places of a·max(g, 0), a = g² / (2·g² + g³·ΣA_k) |
//! | Layer-CAM | Σ_k max(g, 0)·A_k |
//!
//! The papers set what is negative to 0. Here the sums keep their sign: what is above 0 is the evidence for, and where nothing
//! is, that is what is said, instead of showing the rounding errors of zero.

use convnet_kernels::Real;

use super::subject::{Maps, Subject};
use super::target::Spot;
use crate::error::{Error, Result};
use crate::layer::{Layer, LayerRules};
use crate::network::{Network, NodeId};

/// Added to the denominator of Grad-CAM++'s a: that of the package pytorch-grad-cam, so that numbers can be compared. The paper
/// has none. Below gradients of about 10⁻³ it counts, and weighs the larger gradients more.
const PLUS_PLUS_EPSILON: f64 = 1e-6;

/// The layer that a class activation map reads unless another is asked for: the last convolution below the target whose output
/// has more than one place, followed through what belongs to it, namely normalisations, nonlinearities, and additions and
/// concatenations with other branches.
///
/// # Errors
/// There is no such convolution.
pub fn last_maps(network: &Network, below: NodeId) -> Result<NodeId> {
    let mut depends = vec![false; network.nodes().len() + 1];
    depends[below.index()] = true;
    for (id, node) in network.layers().collect::<Vec<_>>().into_iter().rev() {
        if depends[id.index()] {
            node.inputs().iter().for_each(|input| depends[input.index()] = true);
        }
    }
    depends[below.index()] = false;
    let places = |id: NodeId| network.shape(id).pixels();
    let convolution = network
        .layers()
        .filter(|(id, node)| depends[id.index()] && places(*id) > 1 && matches!(node.layer(), Layer::Conv2d(_)))
        .last()
        .ok_or_else(|| {
            Error::Argument(
                "no convolution with more than one place lies below the target, so there is no layer whose maps could be summed; \
                 choose another target, or a method that shows pixels"
                    .into(),
            )
        })?;
    let mut value = convolution.0;
    for (id, node) in network.layers() {
        let belongs = match node.layer() {
            Layer::BatchNorm2d(_) | Layer::LayerNorm(_) | Layer::Add(_) | Layer::Concat(_) | Layer::Scale(_) => true,
            other => other.elementwise(),
        };
        if depends[id.index()] && belongs && places(id) == places(value) && node.inputs().contains(&value) {
            value = id;
        }
    }
    Ok(value)
}

/// The sum of maps before it is read.
pub(super) struct Sum<T> {
    /// H×W.
    pub values: Vec<T>,
    pub score: f64,
}

/// How the maps of a layer are weighted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weights {
    MeanGradient,
    PlusPlus,
    Places,
}

/// The signed sum of a layer's maps, in double precision.
pub(super) fn sum_of_maps<T: Real>(
    subject: &mut Subject<'_, T>,
    image: &[T],
    spot: Spot,
    layer: NodeId,
    weights: Weights,
) -> Result<Sum<T>> {
    let Maps { activations, gradients, score } = subject.maps(image, spot, layer)?;
    let places = subject.network().shape(layer).pixels();
    let mut sums = vec![0.0_f64; places];
    for (map, gradient) in activations.chunks_exact(places).zip(gradients.chunks_exact(places)) {
        let weight = match weights {
            Weights::MeanGradient => gradient.iter().map(|g| g.to_f64()).sum::<f64>() / places as f64,
            Weights::PlusPlus => plus_plus(map, gradient),
            Weights::Places => 0.0,
        };
        for ((sum, value), g) in sums.iter_mut().zip(map).zip(gradient) {
            let weight = if weights == Weights::Places { g.to_f64().max(0.0) } else { weight };
            *sum += weight * value.to_f64();
        }
    }
    Ok(Sum { values: sums.into_iter().map(T::from_f64).collect(), score })
}

/// Σ over places of a·max(g, 0).
fn plus_plus<T: Real>(map: &[T], gradient: &[T]) -> f64 {
    let total: f64 = map.iter().map(|value| value.to_f64()).sum();
    let weight = |g: &T| {
        let g = g.to_f64();
        let denominator = 2.0 * g * g + total * g * g * g + PLUS_PLUS_EPSILON;
        if g <= 0.0 || denominator == 0.0 { 0.0 } else { g * g / denominator * g }
    };
    gradient.iter().map(weight).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maps_are_those_of_the_last_convolution_with_what_belongs_to_it() {
        for (text, below, expected) in [
            ("input 1x8x8 -> conv 4 3x3 -> relu -> maxpool 2 -> conv 4 3x3 pad 1 -> bn -> relu -> flatten -> fc 3", "fc1", "relu2"),
            ("input 1x8x8 -> conv 4 3x3 -> relu -> maxpool 2 -> flatten -> fc 3 -> softmax", "fc1", "relu1"),
            (
                "input 1x8x8 -> conv 4 3x3 pad 1 -> add( conv 4 3x3 pad 1 -> bn | identity ) -> relu -> global avgpool -> flatten -> fc 3",
                "fc1",
                "relu1",
            ),
            (
                "input 1x8x8 -> concat( conv 4 1x1 -> relu | conv 2 3x3 pad 1 -> relu ) -> global avgpool -> flatten -> fc 3",
                "fc1",
                "concat1",
            ),
            ("input 1x8x8 -> conv 4 3x3 -> relu -> conv 4 3x3 -> relu -> flatten -> fc 3", "conv2", "relu1"),
            ("input 1x8x8 -> conv 4 3x3 -> relu -> conv 4 6x6 -> relu -> flatten -> fc 3", "fc1", "relu1"),
        ] {
            let network = Network::parse(text).unwrap();
            let found = last_maps(&network, network.find(below).unwrap()).unwrap();
            assert_eq!(network.node(found).unwrap().name(), expected, "{text}");
        }
        let flat = Network::parse("input 1x8x8 -> flatten -> fc 3").unwrap();
        assert!(last_maps(&flat, flat.output()).unwrap_err().to_string().contains("no convolution"));
    }
}
