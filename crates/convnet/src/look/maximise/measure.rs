//! What a layer answers to many images, a batch at a time.

use convnet_kernels::Machine;

use super::objective::Values;
use crate::error::Result;
use crate::layer::{Layer, LayerRules};
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
