//! What a layer answers to many images, a batch at a time.

use convnet_kernels::Machine;

use super::objective::Values;
use crate::error::Result;
use crate::layer::{Layer, LayerRules};
use crate::look::attribution::scores;
use crate::look::viewer::Viewer;
use crate::model::Model;
use crate::network::{Network, NodeId};
use crate::shape::Shape;

/// Where an objective at this value is taken: in front of a ReLU, which hides what lies below zero, and of what passes numbers
/// on as they are (dropout; a flatten of single numbers).
pub fn taken_at(network: &Network, id: NodeId) -> NodeId {
    let Some(node) = network.node(id) else { return id };
    let passes = match node.layer() {
        Layer::Relu(_) | Layer::Dropout(_) | Layer::SpatialDropout(_) => true,
        layer => layer.kind() == "flatten" && node.input_shapes()[0].pixels() == 1,
    };
    if passes { taken_at(network, node.inputs()[0]) } else { id }
}

/// Whether the mean of each channel of this value is the score of a class: nothing but pooling over the whole map, and what
/// passes numbers on, stands between it and the scores.
pub(crate) fn is_pooled_to_scores(network: &Network, id: NodeId) -> bool {
    let mut at = scores(network);
    while at != id {
        let Some(node) = network.node(at) else { return false };
        let passes = match node.layer() {
            Layer::GlobalAvgPool(_) | Layer::Relu(_) | Layer::Dropout(_) | Layer::SpatialDropout(_) => true,
            layer => layer.kind() == "flatten" && node.input_shapes()[0].pixels() == 1,
        };
        if !passes {
            return false;
        }
        at = node.inputs()[0];
    }
    true
}

/// The name of a value.
pub(crate) fn name_of(network: &Network, id: NodeId) -> &str {
    network.node(id).map_or("input", |node| node.name())
}

/// A model that is read at one value.
#[derive(Debug)]
pub(super) struct Measure<'a> {
    viewer: Viewer<'a>,
    node: NodeId,
    shape: Shape,
}

impl<'a> Measure<'a> {
    /// Reads a value of a model.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub fn new(model: &'a Model, node: NodeId, machine: &Machine) -> Result<Self> {
        Ok(Self { viewer: Viewer::new(model, usize::MAX, machine)?, node, shape: model.network().shape(node) })
    }

    /// Shows `count` images, which `write` writes as the network sees them, and hands each one's values to `read`.
    pub fn show(&mut self, count: usize, write: impl FnMut(usize, &mut [f32]), mut read: impl FnMut(usize, &Values<'_, f32>)) {
        let (node, shape) = (self.node, self.shape);
        self.viewer.show(count, Some(node), write, |images, plan| {
            let Some(values) = plan.stored_activation(node) else { return };
            for (place, image) in images.enumerate() {
                read(image, &Values::of_image(shape, values.shape, values.values, place));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_whose_means_are_scores_are_told_from_others() {
        let found = |text: &str, layer: &str| {
            let network = Network::parse(&format!("input 3x16x16 -> {text}")).unwrap();
            is_pooled_to_scores(&network, network.find(layer).unwrap())
        };
        let pooled = "conv 8 3x3 -> relu -> dropout 0.5 -> conv 5 1x1 -> relu -> global avgpool -> flatten -> softmax";
        assert!(found(pooled, "conv2") && found(pooled, "flatten1"));
        assert!(!found(pooled, "conv1") && !found(pooled, "softmax1"));
        assert!(!found("conv 8 3x3 -> relu -> global avgpool -> flatten -> fc 5", "conv1"));
        assert!(!found("conv 8 3x3 -> flatten", "conv1"), "places stay apart");
    }
}
