//! What a layer answers to many images, a batch at a time.

use convnet_kernels::{Machine, Real};

use super::objective::Values;
use crate::error::Result;
use crate::layer::{Layer, LayerRules};
use crate::model::Model;
use crate::network::{Network, NodeId};
use crate::plan::{Plan, PlanBytes, Purpose};
use crate::shape::Shape;

/// Memory that a plan for looking should stay below, where one image allows it.
const BUDGET: u64 = 192 << 20;

/// Most images that are worth going through a network together.
const MOST: usize = 32;

/// Images of a batch for looking inside this network.
///
/// # Errors
/// A single image cannot be addressed.
pub(crate) fn batch_for<T: Real>(network: &Network, machine: &Machine) -> Result<usize> {
    let one = PlanBytes::of::<T>(network, 1, Purpose::Inspect, machine)?.arena.max(1);
    Ok(usize::try_from(BUDGET / one).unwrap_or(MOST).clamp(1, MOST))
}

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

/// The value that holds the scores of the classes: the network's output, or what its softmax is given.
pub fn class_scores(network: &Network) -> NodeId {
    let output = network.output();
    match network.node(output) {
        Some(node) if matches!(node.layer(), Layer::Softmax(_) | Layer::LogSoftmax(_)) => node.inputs()[0],
        _ => output,
    }
}

/// The name of a value.
pub(crate) fn name_of(network: &Network, id: NodeId) -> &str {
    network.node(id).map_or("input", |node| node.name())
}

/// A plan that is read at one value.
#[derive(Debug)]
pub(crate) struct Measure<'a> {
    model: &'a Model,
    plan: Plan,
    node: NodeId,
    shape: Shape,
    images: Vec<f32>,
}

impl<'a> Measure<'a> {
    /// Reads a value of a model.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub fn new(model: &'a Model, node: NodeId, machine: &Machine) -> Result<Self> {
        let network = model.network();
        let plan = Plan::new(network, batch_for::<f32>(network, machine)?, Purpose::Inspect, machine)?;
        let images = vec![0.0; plan.input_shape().count()];
        Ok(Self { model, plan, node, shape: network.shape(node), images })
    }

    /// Shows `count` images, which `write` writes as the network sees them, and hands each one's values to `read`.
    pub fn show(&mut self, count: usize, mut write: impl FnMut(usize, &mut [f32]), mut read: impl FnMut(usize, &Values<'_, f32>)) {
        let (batch, length) = (self.plan.batch(), self.plan.input_shape().image());
        for first in (0..count).step_by(batch) {
            let here = batch.min(count - first);
            for (index, image) in self.images.chunks_exact_mut(length).take(here).enumerate() {
                write(first + index, image);
            }
            self.plan.forward_until(self.model.parameters(), &self.images, self.node);
            let Some(values) = self.plan.stored_activation(self.node) else { return };
            for index in 0..here {
                read(first + index, &Values::of_image(self.shape, values.shape, values.values, index));
            }
        }
    }
}
