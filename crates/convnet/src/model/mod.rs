//! A model: a network with its numbers, its class names, and how an image becomes its input.
//!
//! It lives in one file, `model.safetensors`: the parameters as tensors under their names, and in the metadata the network
//! text, the class names and the normalisation. Nothing in it is executed.

mod calibration;
mod evaluate;
mod file;

pub(crate) use file::{parameters_from, read_tensors, tensors_of};

pub use calibration::{CALIBRATION_BINS, Calibration, CalibrationBin, interval};
pub use evaluate::{ClassScore, Counter, Evaluation, KEPT_MISTAKES, Mistake, best};

use std::path::{Path, PathBuf};

use convnet_kernels::Machine;

use crate::data::{Batches, Normalisation, Split, read_image};
use crate::error::{Error, Result};
use crate::layer::Layer;
use crate::loss::Loss;
use crate::network::{Network, Parameters};
use crate::plan::{Plan, Purpose};
use crate::shape::{Shape, sizes_text};

/// Name of the model file in a run folder.
pub const MODEL_FILE: &str = "model.safetensors";

/// A network with its numbers. See the [module](self).
///
/// ```no_run
/// use convnet::model::Model;
///
/// let model = Model::load("runs/1")?;
/// for (class, probability) in model.predict_file("shirt.png")?.top(3) {
///     println!("{class}: {:.1} %", 100.0 * probability);
/// }
/// # Ok::<(), convnet::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Model {
    network: Network,
    parameters: Parameters,
    classes: Vec<String>,
    normalisation: Normalisation,
}

/// The classes of one image with their probabilities, most probable first.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    ranked: Vec<(String, f32)>,
}

impl Prediction {
    /// The `count` most probable classes.
    pub fn top(&self, count: usize) -> &[(String, f32)] {
        &self.ranked[..count.min(self.ranked.len())]
    }
}

impl Model {
    /// Puts a model together.
    ///
    /// # Errors
    /// The network does not give one score for each class, or the normalisation is for another number of channels.
    pub fn new(network: Network, parameters: Parameters, classes: Vec<String>, normalisation: Normalisation) -> Result<Self> {
        check_classes(&network, &classes)?;
        normalisation.check(network.input_shape().c)?;
        Ok(Self { network, parameters, classes, normalisation })
    }

    /// Reads a model from a run folder or a model file.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or its parts do not fit together.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let path: PathBuf = if path.is_dir() { path.join(MODEL_FILE) } else { path.to_owned() };
        file::load(&path)
    }

    /// Writes the model file, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        file::save(self, path.as_ref())
    }

    /// What is computed.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The numbers.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Names of the classes, in the order of the scores.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// How bytes become the numbers that the network sees.
    pub fn normalisation(&self) -> &Normalisation {
        &self.normalisation
    }

    /// Channels, height and width of the images that the network takes.
    pub fn image_size(&self) -> [usize; 3] {
        self.network.input_shape().chw()
    }

    /// What one image shows: bytes 0 to 255, C×H×W, of the size that the network takes.
    ///
    /// For many images make a [`Predictor`] once.
    ///
    /// # Errors
    /// The image has another size.
    pub fn predict(&self, image: &[u8]) -> Result<Prediction> {
        let machine = Machine::detect().map_err(Error::Argument)?;
        let mut predictor = Predictor::new(self, 1, &machine)?;
        Ok(predictor.predict(&[image])?.remove(0))
    }

    /// What the image in a file shows. It is resized and normalised as the training images were.
    ///
    /// # Errors
    /// The file is not an image that can be read.
    pub fn predict_file(&self, path: impl AsRef<Path>) -> Result<Prediction> {
        self.predict(&read_image(path, self.image_size())?)
    }

    /// How well the model does on these images.
    ///
    /// # Errors
    /// The images have another size, or labels that are no class.
    pub fn evaluate(&self, split: &Split, loss: &Loss, batch: usize, machine: &Machine) -> Result<Evaluation> {
        Predictor::new(self, batch.min(split.len().max(1)), machine)?.evaluate(split, loss)
    }
}

/// A model with a plan for a number of images at once.
#[derive(Debug)]
pub struct Predictor<'a> {
    model: &'a Model,
    classifier: Classifier<'a>,
}

impl<'a> Predictor<'a> {
    /// Plans for batches of this many images.
    ///
    /// # Errors
    /// The memory for the batch cannot be had.
    pub fn new(model: &'a Model, batch: usize, machine: &Machine) -> Result<Self> {
        let classifier = Classifier::new(&model.network, &model.classes, &model.normalisation, batch, machine)?;
        Ok(Self { model, classifier })
    }

    /// What these images show; any number of them, each of bytes 0 to 255, C×H×W.
    ///
    /// # Errors
    /// An image has another size than the network takes.
    pub fn predict(&mut self, images: &[&[u8]]) -> Result<Vec<Prediction>> {
        let classes = &self.model.classes;
        let mut predictions = Vec::with_capacity(images.len());
        for batch in images.chunks(self.classifier.batch()) {
            let mut scores = self.classifier.scores(&self.model.parameters, batch)?.to_vec();
            for scores in scores.chunks_exact_mut(classes.len()) {
                self.classifier.last.to_probabilities(scores);
                let mut ranked: Vec<(String, f32)> = classes.iter().cloned().zip(scores.iter().copied()).collect();
                ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
                predictions.push(Prediction { ranked });
            }
        }
        Ok(predictions)
    }

    /// How well the model does on these images.
    ///
    /// # Errors
    /// The images have another size, or labels that are no class.
    pub fn evaluate(&mut self, split: &Split, loss: &Loss) -> Result<Evaluation> {
        self.classifier.evaluate(&self.model.parameters, split, loss)
    }

    /// Shows the model these images of a split, by their numbers, and hands `take` each one's number, its class, the
    /// probabilities of the classes, and its loss.
    ///
    /// # Errors
    /// The images have another size, or labels that are no class.
    pub fn classify(
        &mut self,
        split: &Split,
        samples: &[usize],
        loss: &Loss,
        mut take: impl FnMut(usize, usize, &[f32], f64),
    ) -> Result<()> {
        self.classifier.check(split)?;
        for samples in samples.chunks(self.classifier.batch()) {
            let images: Vec<&[u8]> = samples.iter().map(|&sample| split.image(sample)).collect();
            let labels: Vec<usize> = samples.iter().map(|&sample| split.labels()[sample]).collect();
            let mut scores = self.classifier.scores(&self.model.parameters, &images)?.to_vec();
            self.classifier.judge(&mut scores, &labels, loss, |place, probabilities, loss| {
                take(samples[place], labels[place], probabilities, loss);
            });
        }
        Ok(())
    }
}

/// A plan for inference with what belongs around it; the parameters are given with each call, so that they may change.
#[derive(Debug)]
pub(crate) struct Classifier<'a> {
    classes: &'a [String],
    normalisation: &'a Normalisation,
    last: Last,
    plan: Plan,
    images: Vec<f32>,
}

impl<'a> Classifier<'a> {
    pub fn new(
        network: &Network,
        classes: &'a [String],
        normalisation: &'a Normalisation,
        batch: usize,
        machine: &Machine,
    ) -> Result<Self> {
        let plan = Plan::new(network, batch, Purpose::Infer, machine)?;
        let images = vec![0.0; plan.input_shape().count()];
        Ok(Self { classes, normalisation, last: Last::of(network), plan, images })
    }

    pub fn batch(&self) -> usize {
        self.plan.batch()
    }

    /// Scores of at most one batch of images, one row for each.
    fn scores(&mut self, parameters: &Parameters, images: &[&[u8]]) -> Result<&[f32]> {
        let shape = self.plan.input_shape();
        for (image, values) in images.iter().zip(self.images.chunks_exact_mut(shape.image())) {
            check_image(shape, image)?;
            self.normalisation.apply(image, values);
        }
        let scores = self.plan.forward(parameters, &self.images, 0);
        Ok(&scores[..images.len() * self.classes.len()])
    }

    /// Whether these images and labels are what the network is for.
    fn check(&self, split: &Split) -> Result<()> {
        let (classes, takes) = (self.classes.len(), self.plan.input_shape().chw());
        if split.size() != takes {
            return Err(Error::Argument(format!(
                "the network takes images of {}, but these are {}",
                sizes_text(&takes),
                sizes_text(&split.size())
            )));
        }
        if let Some(label) = split.labels().iter().find(|label| **label >= classes) {
            return Err(Error::Argument(format!("an image has class number {label}, but the model knows {classes} classes")));
        }
        Ok(())
    }

    /// Turns the scores of some images, a row for each, into probabilities, and hands `take` each row with its number and loss.
    fn judge(&self, scores: &mut [f32], labels: &[usize], loss: &Loss, mut take: impl FnMut(usize, &[f32], f64)) {
        let classes = self.classes.len();
        let mut losses = vec![0.0; labels.len()];
        loss.per_sample(scores, classes, labels, &mut losses);
        for (place, (scores, loss)) in scores.chunks_exact_mut(classes).zip(losses).enumerate() {
            self.last.to_probabilities(scores);
            take(place, scores, loss);
        }
    }

    pub fn evaluate(&mut self, parameters: &Parameters, split: &Split, loss: &Loss) -> Result<Evaluation> {
        self.check(split)?;
        let classes = self.classes.len();
        let batches = Batches::evaluation(split, self.plan.batch(), self.normalisation)?;
        let mut counter = Counter::new(self.classes);
        let mut labels = vec![0; self.plan.batch()];
        for number in 0..batches.count() {
            let count = batches.fill(number, &mut self.images, &mut labels)?;
            let mut scores = self.plan.forward(parameters, &self.images, 0)[..count * classes].to_vec();
            let samples: Vec<usize> = batches.samples(number).collect();
            self.judge(&mut scores, &labels[..count], loss, |place, probabilities, loss| {
                counter.count(samples[place], labels[place], probabilities, loss);
            });
        }
        Ok(counter.finish())
    }
}

/// Whether these bytes are one image of the shape that a network takes.
pub(crate) fn check_image(takes: Shape, image: &[u8]) -> Result<()> {
    if image.len() == takes.image() {
        return Ok(());
    }
    let (size, bytes) = (sizes_text(&takes.chw()), takes.image());
    Err(Error::Argument(format!("the network takes images of {size}, {bytes} bytes, but one of {} was given", image.len())))
}

/// Whether a network's output already is one of probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Scores,
    Probabilities,
    LogProbabilities,
}

impl Last {
    fn of(network: &Network) -> Self {
        match network.node(network.output()).map(|node| node.layer()) {
            Some(Layer::Softmax(_)) => Self::Probabilities,
            Some(Layer::LogSoftmax(_)) => Self::LogProbabilities,
            _ => Self::Scores,
        }
    }

    /// Turns one image's outputs into probabilities in place.
    fn to_probabilities(self, scores: &mut [f32]) {
        match self {
            Self::Probabilities => {}
            Self::LogProbabilities => scores.iter_mut().for_each(|score| *score = score.exp()),
            Self::Scores => {
                let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let total: f64 = scores.iter().map(|score| f64::from(score - largest).exp()).sum();
                scores.iter_mut().for_each(|score| *score = (f64::from(*score - largest).exp() / total) as f32);
            }
        }
    }
}

/// Whether the network gives one score for each of these classes.
///
/// # Errors
/// It does not; both numbers are named, and what to change.
pub fn check_classes(network: &Network, classes: &[String]) -> Result<()> {
    let output = network.output_shape();
    if (output.h, output.w) != (1, 1) {
        return Err(Error::Shape(format!(
            "the network's output is {}x{}x{}, but a classifier gives one score for each class; end it with `global avgpool -> flatten -> fc {}`",
            output.c,
            output.h,
            output.w,
            classes.len()
        )));
    }
    if output.c != classes.len() {
        return Err(Error::Shape(format!(
            "the network gives {} scores, but there are {} classes ({}); let its last layer give {}",
            output.c,
            classes.len(),
            shortened(classes),
            classes.len()
        )));
    }
    Ok(())
}

fn shortened(names: &[String]) -> String {
    let shown = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > 5 { format!("{shown}, …") } else { shown }
}
