//! The atlas of a model: an image for every channel of every layer.

use std::collections::HashMap;

use convnet_kernels::Machine;
use serde::Serialize;

use super::measure::{is_pooled_to_scores, taken_at};
use super::{Colours, Maximiser, Objective, Recipe, Synthetic};
use crate::error::Result;
use crate::model::Model;
use crate::network::NodeId;

/// One layer of an atlas.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AtlasLayer {
    /// Name of the layer.
    pub layer: String,
    /// Channels that the layer has; there may be images of fewer.
    pub channels: usize,
    /// An image for each channel, from the first on; of each as many as the recipe has copies.
    pub images: Vec<Synthetic>,
}

/// What the image of a channel is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PerChannel {
    /// One neuron: at this row and column, or in the middle of the map.
    Neuron(Option<[usize; 2]>),
    /// The mean of all its neurons.
    Mean,
}

impl Default for PerChannel {
    /// The neuron in the middle.
    fn default() -> Self {
        Self::Neuron(None)
    }
}

/// Makes an atlas. Layers that pass on what another computes (a ReLU, whose objective is taken in front of it) share its
/// images.
#[derive(Clone, Debug)]
pub struct Atlas<'a> {
    maximiser: Maximiser<'a>,
    model: &'a Model,
    layers: Option<Vec<String>>,
    most: usize,
    each: PerChannel,
    negative: bool,
}

impl<'a> Atlas<'a> {
    /// Of every channel of every layer.
    pub fn new(model: &'a Model) -> Self {
        Self { maximiser: Maximiser::new(model), model, layers: None, most: usize::MAX, each: PerChannel::default(), negative: false }
    }

    /// Of these layers only.
    pub fn layers(self, names: impl IntoIterator<Item = String>) -> Self {
        Self { layers: Some(names.into_iter().collect()), ..self }
    }

    /// Of at most so many channels of each layer.
    pub fn most(self, channels: usize) -> Self {
        Self { most: channels, ..self }
    }

    /// What each image is made for; without, the neuron in the middle.
    pub fn each(self, each: PerChannel) -> Self {
        Self { each, ..self }
    }

    /// Of what makes the channels small.
    pub fn negative(self) -> Self {
        Self { negative: true, ..self }
    }

    /// All settings of the ascent.
    pub fn recipe(self, recipe: Recipe) -> Self {
        Self { maximiser: self.maximiser.recipe(recipe), ..self }
    }

    /// The colours of the data.
    pub fn colours(self, colours: Colours) -> Self {
        Self { maximiser: self.maximiser.colours(colours), ..self }
    }

    /// Fixes every random number.
    pub fn seed(self, seed: u64) -> Self {
        Self { maximiser: self.maximiser.seed(seed), ..self }
    }

    /// The instructions and threads to use.
    pub fn machine(self, machine: Machine) -> Self {
        Self { maximiser: self.maximiser.machine(machine), ..self }
    }

    /// Makes it, and tells of each layer when it is done: its number from 1, of how many, and the layer.
    ///
    /// # Errors
    /// There is no such layer, or those of [`Maximiser::run`].
    pub fn run(&self, mut done: impl FnMut(usize, usize, &AtlasLayer)) -> Result<Vec<AtlasLayer>> {
        let network = self.model.network();
        let ids: Vec<NodeId> = match &self.layers {
            Some(names) => names.iter().map(|name| network.find(name)).collect::<Result<_>>()?,
            None => network.layers().map(|(id, _)| id).collect(),
        };
        let mut made: HashMap<NodeId, Vec<Synthetic>> = HashMap::new();
        let mut atlas = Vec::with_capacity(ids.len());
        for id in &ids {
            let Some(node) = network.node(*id) else { continue };
            let channels = node.output_shape().c;
            let images = match made.get(&taken_at(network, *id)) {
                Some(images) => images.iter().map(|image| Synthetic { layer: node.name().to_owned(), ..image.clone() }).collect(),
                None => {
                    // What a class looks like anywhere is its score, not one place of the map that the score is the mean of.
                    let is_class = node.output_shape().pixels() > 1 && is_pooled_to_scores(network, *id);
                    let each = if is_class && self.each == PerChannel::default() { PerChannel::Mean } else { self.each };
                    let of = |channel| match each {
                        PerChannel::Neuron(at) => Objective::Neuron { channel, at },
                        PerChannel::Mean => Objective::channel(channel),
                    };
                    let objective = |channel| if self.negative { of(channel).negative() } else { of(channel) };
                    let objectives = (0..channels.min(self.most)).map(objective);
                    self.maximiser.clone().layer(node.name()).objectives(objectives).run()?
                }
            };
            let layer = AtlasLayer { layer: node.name().to_owned(), channels, images };
            done(atlas.len() + 1, ids.len(), &layer);
            made.insert(taken_at(network, *id), layer.images.clone());
            atlas.push(layer);
        }
        Ok(atlas)
    }
}
