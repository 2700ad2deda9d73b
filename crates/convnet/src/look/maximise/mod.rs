//! Activation maximisation: the image that a neuron, a channel, a layer or a class answers to most.
//!
//! Such an image is **synthetic**: it is drawn by following the gradient, it is not from the data. Plain gradient ascent on
//! pixels finds grain that excites a neuron and shows nothing. What works (Olah, Mordvintsev and Schubert, "Feature
//! visualization", Distill 2017), and is the [default](Recipe) here:
//!
//! * the objective is taken in front of the ReLU, and for the first steps gradients that die at ReLUs further down are
//!   redirected, so that silent neurons wake;
//! * the image is a sum of waves, so that a step moves coarse shapes as easily as fine ones ([`Parametrisation::Fourier`]),
//!   in the principal colours of the data ([`Colours`]), every number kept in 0 … 1;
//! * each step sees the image a little shifted, turned and sized ([`Views`]), as much as suits the receptive field.
//!
//! ```no_run
//! use convnet::look::maximise::Maximiser;
//! use convnet::model::Model;
//!
//! let model = Model::load("runs/1")?;
//! let images = Maximiser::new(&model).layer("conv3").steps(256).seed(7).run()?;
//! println!("channel 0 reaches {}", images[0].value); // images[0].bytes() is C×H×W
//! # Ok::<(), convnet::Error>(())
//! ```
//!
//! Whether a picture is worth anything can be measured: [`robustness`] tells how much of the answer survives small changes
//! of the image and how much of it is grain, [`standing`] where the answer lies among those to the images of a data set.

mod ascent;
mod atlas;
mod colour;
mod diversity;
mod dream;
mod excerpt;
mod measure;
mod objective;
mod paint;
mod proof;
mod recipe;
mod spectrum;
mod view;

pub use atlas::{Atlas, AtlasLayer, PerChannel};
pub use colour::Colours;
pub use dream::{DREAM_STEPS, Dream, dream};
pub use measure::taken_at;
pub use objective::Objective;
pub use paint::{Parametrisation, PixelRules};
pub use proof::{FINE, Robustness, Standing, robustness, standing};
pub use recipe::Recipe;
pub use spectrum::decay_of;
pub use view::Views;

pub(super) use ascent::add_variation;
pub(super) use measure::{is_pooled_to_scores, name_of};
pub(super) use objective::Values;
pub(super) use paint::Painter;
pub(super) use proof::check_data;

use std::ops::Range;

use convnet_kernels::Machine;

use super::attribution::scores;
use super::picture::part;
use super::viewer::batch_for;
use crate::error::{Error, Result};
use crate::model::{Model, check_image};
use crate::network::{Network, NodeId};
use crate::plan::{Plan, Purpose};
use crate::random::{self, Address};
use crate::shape::Shape;
use ascent::{Ascent, Sketch};
use excerpt::Excerpt;
use measure::Measure;

/// The first coordinate of the random numbers for images, and for changes of finished ones.
const MAXIMISE: u64 = 100;
const CHANGE: u64 = 101;

/// Pixels on a side that total variation is averaged over at least.
const LEAST_SIDE: usize = 8;

/// An image made for an objective.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Synthetic {
    /// The layer that was asked for.
    pub layer: String,
    /// The layer whose output the objective is of: in front of the ReLU.
    pub taken_at: String,
    /// What was made large.
    pub objective: Objective,
    /// Number of the image among those of its objective.
    pub copy: usize,
    /// Channels, height and width of the image.
    pub size: [usize; 3],
    /// The image, C×H×W, each number in 0 … 1.
    #[serde(skip)]
    pub image: Vec<f32>,
    /// The objective on the image as [`bytes`](Self::bytes), with no change of place or size.
    pub value: f32,
    /// The objective at each step, on that step's view of the image.
    pub history: Vec<f32>,
    /// Rows of the image that the neuron sees; all of them where the objective is not one neuron.
    pub rows: Range<usize>,
    /// Columns of the image that the neuron sees.
    pub columns: Range<usize>,
}

impl Synthetic {
    /// The image as bytes 0 to 255, C×H×W.
    pub fn bytes(&self) -> Vec<u8> {
        self.image.iter().map(|value| (255.0 * value).round() as u8).collect()
    }

    /// What the neuron sees of the image, as bytes, and its size: channels, height and width.
    pub fn seen(&self) -> ([usize; 3], Vec<u8>) {
        part(&self.bytes(), self.size, &self.rows, &self.columns)
    }
}

/// What images are made for.
#[derive(Clone, Debug)]
enum Aim {
    /// The middle neuron of every channel.
    Neurons,
    /// The mean of every channel.
    Channels,
    Objectives(Vec<Objective>),
    /// Scores of classes by their names.
    Classes(Vec<String>),
}

/// Makes images that excite a model. A builder: what is not said has the value of [`Recipe::default`].
#[derive(Clone, Debug)]
pub struct Maximiser<'a> {
    model: &'a Model,
    layer: Option<String>,
    aim: Aim,
    recipe: Recipe,
    colours: Option<Colours>,
    start: Option<Vec<u8>>,
    seed: u64,
    machine: Option<Machine>,
}

impl<'a> Maximiser<'a> {
    /// For the score of every class, until something else is said.
    pub fn new(model: &'a Model) -> Self {
        Self { model, layer: None, aim: Aim::Neurons, recipe: Recipe::default(), colours: None, start: None, seed: 0, machine: None }
    }

    /// For the neuron in the middle of every channel of this layer, unless objectives are named.
    pub fn layer(self, name: impl Into<String>) -> Self {
        Self { layer: Some(name.into()), ..self }
    }

    /// For the mean of every channel of the layer.
    pub fn channels(self) -> Self {
        Self { aim: Aim::Channels, ..self }
    }

    /// For these objectives at the layer.
    pub fn objectives(self, objectives: impl IntoIterator<Item = Objective>) -> Self {
        Self { aim: Aim::Objectives(objectives.into_iter().collect()), ..self }
    }

    /// For the score of one class, before a softmax.
    pub fn class(self, name: impl Into<String>) -> Self {
        Self { layer: None, aim: Aim::Classes(vec![name.into()]), ..self }
    }

    /// All settings at once.
    pub fn recipe(self, recipe: Recipe) -> Self {
        Self { recipe, ..self }
    }

    /// Steps of ascent.
    pub fn steps(mut self, steps: usize) -> Self {
        self.recipe.steps = steps;
        self
    }

    /// So many images for each objective, kept unlike each other.
    pub fn copies(mut self, copies: usize) -> Self {
        self.recipe.copies = copies;
        self
    }

    /// The colours of the data. Without, each channel stands for itself.
    pub fn colours(self, colours: Colours) -> Self {
        Self { colours: Some(colours), ..self }
    }

    /// Begins with this image, bytes C×H×W, instead of nearly nothing.
    pub fn start(self, image: &[u8]) -> Self {
        Self { start: Some(image.to_vec()), ..self }
    }

    /// Fixes every random number.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The instructions and threads to use; by default the best and all.
    pub fn machine(self, machine: Machine) -> Self {
        Self { machine: Some(machine), ..self }
    }

    /// The images: for each objective its copies, one objective after the other.
    ///
    /// # Errors
    /// There is no such layer, channel, place or class, a setting is out of range, the colours or the first image are for
    /// images of another size, or memory cannot be had.
    pub fn run(&self) -> Result<Vec<Synthetic>> {
        let (id, objectives) = self.aim()?;
        self.recipe.check()?;
        let network = self.model.network();
        let layer = name_of(network, id).to_owned();
        for objective in &objectives {
            objective.check(&layer, network.shape(id))?;
        }
        if let Some(image) = &self.start {
            check_image(network.input_shape(), image)?;
        }
        let machine = self.machine.clone().map_or_else(|| Machine::detect().map_err(Error::Argument), Ok)?;
        // A whole layer is what it passes on, silent neurons or not; of one number that would hide what lies below zero.
        let whole = objectives.iter().all(|objective| *objective == Objective::Layer);
        let node = if whole { id } else { taken_at(network, id) };
        let excerpt = self.excerpt(node, &objectives);
        let moved = |objective: &Objective| excerpt.as_ref().map_or_else(|| objective.clone(), |excerpt| objective.moved_to(excerpt.at));
        let climbing: Vec<Objective> = objectives.iter().map(moved).collect();
        let mut ascent = self.ascent(node, &climbing, excerpt.as_ref(), &machine)?;
        let mut done = Vec::with_capacity(objectives.len() * self.recipe.copies);
        let together = (ascent.plan.batch() / self.recipe.copies).max(1);
        for (chunk, (objectives, climbing)) in objectives.chunks(together).zip(climbing.chunks(together)).enumerate() {
            let mut sketches: Vec<Sketch<f32>> = climbing
                .iter()
                .enumerate()
                .flat_map(|(index, objective)| (0..self.recipe.copies).map(move |copy| (index, objective, copy)))
                .map(|(index, objective, copy)| ascent.sketch(objective, chunk * together + index, copy, self.start.as_deref()))
                .collect();
            ascent.climb(&mut sketches);
            let objectives = objectives.iter().flat_map(|objective| (0..self.recipe.copies).map(move |copy| (objective, copy)));
            for (sketch, (objective, copy)) in sketches.iter().zip(objectives) {
                let image = excerpt.as_ref().map_or_else(|| sketch.image().to_vec(), |excerpt| self.placed(excerpt, sketch.image()));
                done.push(self.finished(&layer, node, objective, copy, image, sketch.history())?);
            }
        }
        self.measure(node, &machine, &mut done)?;
        Ok(done)
    }

    /// The layer and the objectives that are meant.
    fn aim(&self) -> Result<(NodeId, Vec<Objective>)> {
        let network = self.model.network();
        let id = match &self.layer {
            Some(name) => network.find(name)?,
            None => scores(network),
        };
        let channels = network.shape(id).c;
        let objectives = match &self.aim {
            Aim::Neurons => (0..channels).map(Objective::neuron).collect(),
            Aim::Channels => (0..channels).map(Objective::channel).collect(),
            Aim::Objectives(objectives) => objectives.clone(),
            Aim::Classes(names) => names.iter().map(|name| self.class_number(name).map(Objective::neuron)).collect::<Result<_>>()?,
        };
        Ok((id, objectives))
    }

    fn class_number(&self, name: &str) -> Result<usize> {
        let classes = self.model.classes();
        classes
            .iter()
            .position(|class| class == name)
            .ok_or_else(|| Error::Argument(format!("there is no class '{name}'; the classes are {}", classes.join(", "))))
    }

    /// The excerpt that the objectives depend on, where they are all of the numbers at one place.
    fn excerpt(&self, node: NodeId, objectives: &[Objective]) -> Option<Excerpt> {
        let shape = self.model.network().shape(node);
        let at = objectives.first()?.only_place(shape)?;
        let together = self.start.is_none() && objectives.iter().all(|objective| objective.only_place(shape) == Some(at));
        if together { Excerpt::of(self.model, node, at) } else { None }
    }

    fn ascent<'b>(
        &'b self,
        node: NodeId,
        objectives: &[Objective],
        excerpt: Option<&'b Excerpt>,
        machine: &Machine,
    ) -> Result<Ascent<'b, f32>> {
        let side = pattern_side(self.model.network(), node, objectives);
        let (network, parameters, node) = match excerpt {
            Some(excerpt) => (&excerpt.network, &excerpt.parameters, excerpt.node),
            None => (self.model.network(), self.model.parameters(), node),
        };
        let size = network.input_shape().chw();
        let colours = self.colours.clone().unwrap_or_else(|| Colours::independent(size[0]));
        if colours.channels() != size[0] {
            return Err(Error::Argument(format!(
                "the colours are those of images with {} channels, the network takes {}",
                colours.channels(),
                size[0]
            )));
        }
        // As many rounds as the memory asks for, all of about the same size.
        let groups = (batch_for::<f32>(network, machine)? / self.recipe.copies).max(1);
        let rounds = objectives.len().div_ceil(groups).max(1);
        let batch = objectives.len().div_ceil(rounds).max(1) * self.recipe.copies;
        Ok(Ascent {
            machine: machine.clone(),
            plan: Plan::new(network, batch, Purpose::Inspect, machine)?,
            parameters,
            node,
            shape: network.shape(node),
            compared: compared_at(network, node),
            painter: Painter::new(
                // A part of an image is drawn as the whole is.
                self.recipe.parametrisation.decided(self.model.image_size()),
                size,
                self.model.normalisation(),
                &colours,
                machine.isa,
            ),
            views: self.recipe.views.unwrap_or_else(|| Views::for_side(side)),
            variation: self.recipe.total_variation / (side.max(LEAST_SIDE) * side.max(LEAST_SIDE)) as f32,
            recipe: self.recipe.clone(),
            address: Address::new(self.seed, random::Purpose::Look).then(MAXIMISE),
        })
    }

    /// An image of the excerpt in its place, with the mean of the data around it.
    fn placed(&self, excerpt: &Excerpt, image: &[f32]) -> Vec<f32> {
        let [channels, h, w] = self.model.image_size();
        let [_, rows, columns] = excerpt.network.input_shape().chw();
        let [top, left] = excerpt.origin;
        let mean = &self.model.normalisation().mean;
        let mut whole: Vec<f32> = (0..channels * h * w).map(|index| mean[index / (h * w)].clamp(0.0, 1.0)).collect();
        for (row, pixels) in image.chunks_exact(columns).enumerate() {
            let first = ((row / rows) * h + top + row % rows) * w + left;
            whole[first..first + columns].copy_from_slice(pixels);
        }
        whole
    }

    fn finished(
        &self,
        layer: &str,
        node: NodeId,
        objective: &Objective,
        copy: usize,
        image: Vec<f32>,
        history: &[f32],
    ) -> Result<Synthetic> {
        let network = self.model.network();
        let [_, h, w] = self.model.image_size();
        let (rows, columns) = match objective.only_place(network.shape(node)) {
            Some([y, x]) => network.region(node, y, x).map(|region| (region.rows, region.columns))?,
            None => (0..h, 0..w),
        };
        Ok(Synthetic {
            layer: layer.to_owned(),
            taken_at: name_of(network, node).to_owned(),
            objective: objective.clone(),
            copy,
            size: self.model.image_size(),
            image,
            value: 0.0,
            history: history.to_vec(),
            rows,
            columns,
        })
    }

    /// Shows the finished images to the model once more, as bytes.
    fn measure(&self, node: NodeId, machine: &Machine, images: &mut [Synthetic]) -> Result<()> {
        let bytes: Vec<Vec<u8>> = images.iter().map(Synthetic::bytes).collect();
        let normalisation = self.model.normalisation();
        let write = |index: usize, image: &mut [f32]| normalisation.apply(&bytes[index], image);
        Measure::new(self.model, node, machine)?.show(images.len(), write, |index, values| {
            images[index].value = images[index].objective.value(values);
        });
        Ok(())
    }
}

/// Where the images of a group are compared: at the layer itself, or at the last one below it that has more than one place.
fn compared_at(network: &Network, node: NodeId) -> (NodeId, Shape) {
    let mut at = node;
    while network.shape(at).pixels() == 1 {
        let Some(below) = network.node(at).map(|node| node.inputs()[0]) else { break };
        at = below;
    }
    let found = if at == NodeId::IMAGE { node } else { at };
    (found, network.shape(found))
}

/// Pixels on a side of what the objectives see: the receptive field of a neuron, the image otherwise.
fn pattern_side(network: &Network, node: NodeId, objectives: &[Objective]) -> usize {
    let image = network.input_shape();
    let whole = image.h.min(image.w);
    let alone = objectives.iter().all(|objective| objective.only_place(network.shape(node)).is_some());
    let field = network.receptive_fields()[node.index()].size().into_iter().max().unwrap_or(u64::MAX);
    if alone { usize::try_from(field).unwrap_or(whole).min(whole) } else { whole }
}

#[cfg(test)]
mod tests;
