//! What a synthetic image is worth: whether its answer survives small changes, how much of it is grain, and where the answer
//! stands among those to real images.

use convnet_kernels::Machine;
use serde::Serialize;

use super::measure::Measure;
use super::paint::normalise;
use super::spectrum::power_above;
use super::view::{Sampling, Views};
use super::{CHANGE, Synthetic};
use crate::data::Split;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::network::NodeId;
use crate::random::{Address, Purpose};
use crate::shape::sizes_text;

/// Cycles per pixel above which detail counts as grain: half of the finest that pixels can show.
pub const FINE: f64 = 0.25;

/// How an answer changes with small changes of the image, and what the image is made of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Robustness {
    /// The objective on the image itself.
    pub value: f32,
    /// Its mean over changed copies.
    pub changed: f32,
    /// Its standard deviation over them.
    pub spread: f32,
    /// Share of the image's power, its mean left out, above [`FINE`]; within what the neuron sees.
    pub fine: f64,
}

/// Shows the model `copies` changed copies of each image: drawn from these views, the same for every image.
///
/// # Errors
/// The images are of other layers or sizes than the model's, the views cannot be drawn, or memory cannot be had.
pub fn robustness(
    model: &Model,
    images: &[Synthetic],
    views: Views,
    copies: usize,
    seed: u64,
    machine: &Machine,
) -> Result<Vec<Robustness>> {
    if let Some(problem) = views.problem() {
        return Err(Error::Argument(problem));
    }
    let [_, h, w] = model.image_size();
    let address = Address::new(seed, Purpose::Look).then(CHANGE);
    let samplings: Vec<Sampling<f32>> = (0..copies)
        .map(|copy| {
            let mut sampling = Sampling::default();
            sampling.set(&views.draw(&mut address.then(copy as u64).random()), [h, w]);
            sampling
        })
        .collect();
    let mut answers = vec![Vec::with_capacity(copies + 1); images.len()];
    for (node, members) in by_layer(model, images)? {
        let write = |index: usize, target: &mut [f32]| {
            let image = &images[members[index / (copies + 1)]];
            let planes = image.image.chunks_exact(h * w).zip(target.chunks_exact_mut(h * w));
            match index % (copies + 1) {
                0 => target.copy_from_slice(&image.image),
                copy => planes.for_each(|(plane, target)| samplings[copy - 1].view(plane, target)),
            }
            normalise(target, &model.normalisation().mean, &model.normalisation().std);
        };
        Measure::new(model, node, machine)?.show(members.len() * (copies + 1), write, |index, values| {
            let member = members[index / (copies + 1)];
            answers[member].push(images[member].objective.value(values));
        });
    }
    Ok(images.iter().zip(answers).map(|(image, answers)| judged(image, &answers)).collect())
}

fn judged(image: &Synthetic, answers: &[f32]) -> Robustness {
    let (value, changed) = (answers[0], &answers[1..]);
    let count = changed.len().max(1) as f64;
    let mean = changed.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
    let variance = changed.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / count;
    let ([_, h, w], seen) = image.seen();
    let seen: Vec<f32> = seen.iter().map(|byte| f32::from(*byte)).collect();
    Robustness { value, changed: mean as f32, spread: variance.sqrt() as f32, fine: power_above(FINE, &seen, [h, w]) }
}

/// Where an answer stands among those to the images of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// The objective on the synthetic image.
    pub value: f32,
    /// Images of the data set.
    pub images: usize,
    /// Share of them with a smaller value.
    pub quantile: f64,
    /// Their mean.
    pub mean: f32,
    /// Their standard deviation.
    pub spread: f32,
    /// The smallest.
    pub smallest: f32,
    /// The largest.
    pub largest: f32,
    /// Number of the image with the largest.
    pub best: usize,
}

/// Compares each synthetic image's value with the same objective on every image of a data set. Exact: every image is shown.
///
/// # Errors
/// The images are of other layers or sizes than the model's, the data set is empty or of another size, or memory cannot be
/// had.
pub fn standing(model: &Model, images: &[Synthetic], data: &Split, machine: &Machine) -> Result<Vec<Standing>> {
    check_data(model, data)?;
    let mut found: Vec<Gathered> = images.iter().map(|_| Gathered::default()).collect();
    for (node, members) in by_layer(model, images)? {
        let write = |index: usize, target: &mut [f32]| model.normalisation().apply(data.image(index), target);
        Measure::new(model, node, machine)?.show(data.len(), write, |index, values| {
            for member in &members {
                found[*member].count(index, images[*member].objective.value(values), images[*member].value);
            }
        });
    }
    Ok(images.iter().zip(found).map(|(image, found)| found.standing(image.value, data.len())).collect())
}

/// Whether a model can be shown these images.
///
/// # Errors
/// There are none, or they are of another size.
pub(crate) fn check_data(model: &Model, data: &Split) -> Result<()> {
    if data.is_empty() {
        return Err(Error::Argument("there are no images to compare with".into()));
    }
    if data.size() != model.image_size() {
        let (takes, size) = (sizes_text(&model.image_size()), sizes_text(&data.size()));
        return Err(Error::Argument(format!("the network takes images of {takes}, but these are {size}")));
    }
    Ok(())
}

/// Sums over the images of a data set.
#[derive(Clone, Copy, Debug, Default)]
struct Gathered {
    below: usize,
    sum: f64,
    squares: f64,
    extremes: Option<[(f32, usize); 2]>,
}

impl Gathered {
    fn count(&mut self, index: usize, value: f32, synthetic: f32) {
        self.below += usize::from(value < synthetic);
        self.sum += f64::from(value);
        self.squares += f64::from(value) * f64::from(value);
        let [smallest, largest] = self.extremes.get_or_insert([(value, index); 2]);
        if value < smallest.0 {
            *smallest = (value, index);
        }
        if value > largest.0 {
            *largest = (value, index);
        }
    }

    fn standing(&self, value: f32, images: usize) -> Standing {
        let count = images as f64;
        let mean = self.sum / count;
        let [smallest, largest] = self.extremes.unwrap_or_default();
        Standing {
            value,
            images,
            quantile: self.below as f64 / count,
            mean: mean as f32,
            spread: (self.squares / count - mean * mean).max(0.0).sqrt() as f32,
            smallest: smallest.0,
            largest: largest.0,
            best: largest.1,
        }
    }
}

/// The layers that images are of, each with the numbers of its images.
fn by_layer(model: &Model, images: &[Synthetic]) -> Result<Vec<(NodeId, Vec<usize>)>> {
    let mut layers: Vec<(NodeId, Vec<usize>)> = Vec::new();
    for (index, image) in images.iter().enumerate() {
        let node = model.network().find(&image.taken_at)?;
        image.objective.check(&image.taken_at, model.network().shape(node))?;
        if image.size != model.image_size() || image.image.len() != image.size.iter().product::<usize>() {
            return Err(Error::Argument(format!("a synthetic image of {} is not one of this model", sizes_text(&image.size))));
        }
        match layers.iter_mut().find(|(known, _)| *known == node) {
            Some((_, members)) => members.push(index),
            None => layers.push((node, vec![index])),
        }
    }
    Ok(layers)
}
