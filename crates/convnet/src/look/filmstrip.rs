//! The filmstrip: how filters and what neurons look for came to be over the epochs of a training.
//!
//! A training that keeps snapshots (`look_every` of its settings) leaves a model after every so many epochs in its run
//! folder, the first from before the first step. Each becomes a frame. Synthetic images of all frames begin with the same
//! numbers and see the same views, so that what differs between two frames is what the network learned.

use std::path::{Path, PathBuf};

use convnet_kernels::Machine;
use serde::Serialize;

use super::filters::{LayerFilters, filters};
use super::maximise::{Colours, Maximiser, Objective, Recipe, Synthetic};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::train::{Record, read_metrics, snapshots};

/// One moment of a training.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Frame {
    /// Finished epochs; 0 is before the first step.
    pub epoch: usize,
    /// Accuracy on the test images after that epoch, if it was measured.
    pub accuracy: Option<f64>,
    /// Filters of each layer that was asked for.
    pub filters: Vec<LayerFilters>,
    /// Synthetic images of each layer that was asked for.
    pub neurons: Vec<FrameNeurons>,
}

/// What neurons of a layer look for at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FrameNeurons {
    /// Name of the layer.
    pub layer: String,
    /// An image for each objective.
    pub images: Vec<Synthetic>,
}

/// Makes a filmstrip. A builder.
///
/// ```no_run
/// use convnet::look::Filmstrip;
///
/// let frames = Filmstrip::new("runs/1").filters("conv1").neurons("conv3", 0..8).run(|_, _| {})?;
/// for frame in &frames {
///     println!("epoch {}: {} filters", frame.epoch, frame.filters[0].weights.sizes()[0]);
/// }
/// # Ok::<(), convnet::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Filmstrip {
    folder: PathBuf,
    filters: Vec<String>,
    neurons: Vec<(String, Vec<Objective>)>,
    most: usize,
    recipe: Recipe,
    colours: Option<Colours>,
    seed: u64,
    machine: Option<Machine>,
}

impl Filmstrip {
    /// Of the snapshots of this run folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            filters: Vec::new(),
            neurons: Vec::new(),
            most: usize::MAX,
            recipe: Recipe::default(),
            colours: None,
            seed: 0,
            machine: None,
        }
    }

    /// With the filters of this convolution.
    pub fn filters(mut self, layer: impl Into<String>) -> Self {
        self.filters.push(layer.into());
        self
    }

    /// With synthetic images of the middle neuron of these channels of a layer.
    pub fn neurons(self, layer: impl Into<String>, channels: impl IntoIterator<Item = usize>) -> Self {
        self.objectives(layer, channels.into_iter().map(Objective::neuron))
    }

    /// With synthetic images for these objectives at a layer.
    pub fn objectives(mut self, layer: impl Into<String>, objectives: impl IntoIterator<Item = Objective>) -> Self {
        self.neurons.push((layer.into(), objectives.into_iter().collect()));
        self
    }

    /// At most so many frames, evenly spread, the first and the last among them.
    pub fn most(self, frames: usize) -> Self {
        Self { most: frames, ..self }
    }

    /// All settings of the ascent.
    pub fn recipe(self, recipe: Recipe) -> Self {
        Self { recipe, ..self }
    }

    /// The colours of the data.
    pub fn colours(self, colours: Colours) -> Self {
        Self { colours: Some(colours), ..self }
    }

    /// Fixes every random number.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The instructions and threads to use; by default the best and all.
    pub fn machine(self, machine: Machine) -> Self {
        Self { machine: Some(machine), ..self }
    }

    /// Makes the frames in order, and tells after each how many are done, and of how many.
    ///
    /// # Errors
    /// The folder has no snapshots, a snapshot cannot be read, there is no such layer or channel, filters are asked for of a
    /// layer that is no convolution, or those of [`Maximiser::run`].
    pub fn run(&self, mut done: impl FnMut(usize, usize)) -> Result<Vec<Frame>> {
        let all = snapshots(&self.folder)?;
        if all.is_empty() {
            return Err(Error::Argument(format!(
                "{} has no snapshots; train with --look-every EPOCHS to keep some",
                self.folder.display()
            )));
        }
        let records = read_metrics(&self.folder.join("metrics.jsonl"))?;
        let chosen = spread(all.len(), self.most);
        let mut frames = Vec::with_capacity(chosen.len());
        for index in &chosen {
            let (epoch, path) = &all[*index];
            frames.push(self.frame(*epoch, path, &records)?);
            done(frames.len(), chosen.len());
        }
        Ok(frames)
    }

    fn frame(&self, epoch: usize, path: &Path, records: &[Record]) -> Result<Frame> {
        let model = Model::load(path)?;
        let accuracy = records.iter().find_map(|record| match record {
            Record::Epoch(record) if record.epoch == epoch => record.test.map(|test| test.accuracy),
            _ => None,
        });
        let filters = self.filters.iter().map(|layer| filters(&model, layer));
        let neurons = self.neurons.iter().map(|(layer, objectives)| {
            let mut maximiser =
                Maximiser::new(&model).layer(layer).objectives(objectives.clone()).recipe(self.recipe.clone()).seed(self.seed);
            if let Some(colours) = &self.colours {
                maximiser = maximiser.colours(colours.clone());
            }
            if let Some(machine) = &self.machine {
                maximiser = maximiser.machine(machine.clone());
            }
            Ok(FrameNeurons { layer: layer.clone(), images: maximiser.run()? })
        });
        Ok(Frame { epoch, accuracy, filters: filters.collect::<Result<_>>()?, neurons: neurons.collect::<Result<_>>()? })
    }
}

/// At most `most` of the numbers 0 … `count` − 1, evenly spread, the first and the last among them.
fn spread(count: usize, most: usize) -> Vec<usize> {
    match most {
        0 => Vec::new(),
        1 => vec![count - 1],
        most if most >= count => (0..count).collect(),
        most => (0..most).map(|index| index * (count - 1) / (most - 1)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, Split};
    use crate::network::Network;
    use crate::train::Trainer;

    fn data() -> Dataset {
        let all = Dataset::embedded();
        let part = |split: &Split, count: usize| {
            Split::new([1, 28, 28], split.pixels()[..count * 784].to_vec(), split.labels()[..count].to_vec()).unwrap()
        };
        Dataset::new(part(&all.train, 200), part(&all.test, 50), all.classes).unwrap()
    }

    fn trained(folder: &Path, look_every: usize) -> Model {
        let network = Network::parse("input 1x28x28 -> conv 4 5x5 stride 2 -> relu -> maxpool 2 -> flatten -> fc 10").unwrap();
        Trainer::new(&network).epochs(5).look_every(look_every).folder(folder).fit(&data()).unwrap().model
    }

    #[test]
    fn a_training_keeps_snapshots_and_they_make_a_filmstrip() {
        let folder = tempfile::tempdir().unwrap();
        let model = trained(folder.path(), 2);
        let epochs: Vec<usize> = snapshots(folder.path()).unwrap().into_iter().map(|(epoch, _)| epoch).collect();
        assert_eq!(epochs, [0, 2, 4, 5], "every second one, the first and the last");

        let recipe = Recipe { steps: 4, ..Recipe::default() };
        let strip = Filmstrip::new(folder.path()).filters("conv1").neurons("relu1", [0, 3]).recipe(recipe);
        let mut told = Vec::new();
        let frames = strip.run(|done, all| told.push((done, all))).unwrap();
        assert_eq!(told, [(1, 4), (2, 4), (3, 4), (4, 4)]);
        assert_eq!(frames.iter().map(|frame| frame.accuracy.is_some()).collect::<Vec<_>>(), [false, true, true, true]);
        let last = &frames[3];
        assert_eq!(last.filters[0].weights, model.parameters().get("conv1.weight").unwrap().tensor);
        assert_ne!(frames[0].filters[0].weights, last.filters[0].weights);
        assert_eq!((last.neurons[0].images.len(), last.neurons[0].images[1].objective.only_channel()), (2, Some(3)));
        assert_eq!(strip.clone().most(2).run(|_, _| {}).unwrap().iter().map(|frame| frame.epoch).collect::<Vec<_>>(), [0, 5]);

        let error = strip.filters("relu1").run(|_, _| {}).unwrap_err().to_string();
        assert!(error.contains("'relu1' is no convolution") && error.contains("conv1"), "{error}");
    }

    #[test]
    fn a_run_without_snapshots_says_how_to_keep_some() {
        let folder = tempfile::tempdir().unwrap();
        let network = Network::parse("input 1x28x28 -> flatten -> fc 10").unwrap();
        Trainer::new(&network).epochs(1).folder(folder.path()).fit(&data()).unwrap();
        let error = Filmstrip::new(folder.path()).run(|_, _| {}).unwrap_err().to_string();
        assert!(error.contains("no snapshots") && error.contains("--look-every"), "{error}");
        let error = Trainer::new(&network).epochs(1).look_every(0).fit(&data()).unwrap_err().to_string();
        assert!(error.contains("look_every is 0"), "{error}");
    }

    #[test]
    fn frames_are_spread_evenly() {
        assert_eq!(spread(11, 3), [0, 5, 10]);
        assert_eq!(spread(3, 9), [0, 1, 2]);
        assert_eq!((spread(5, 1), spread(5, 0)), (vec![4], vec![]));
    }
}
