//! What a model gets wrong: which class it takes for which with the worst images of each, whether it is right as often as it
//! says, and how well each class is told from all others.

mod curves;

use convnet_kernels::Machine;
use serde::Serialize;

pub use curves::{ClassCurves, class_curves};

use crate::data::Split;
use crate::error::{Error, Result};
use crate::look::contents::test_name;
use crate::loss::Loss;
use crate::model::{Calibration, ClassScore, Counter, Mistake, Model, Predictor, interval};

/// Images that are kept of each pair of classes.
const PER_PAIR: usize = 4;
/// Images that are shown to the model at once.
const BATCH: usize = 32;

/// The mistakes of a model. See the [module](self).
#[derive(Clone, Debug, Serialize)]
pub struct Mistakes {
    /// Images that were looked at.
    pub images: usize,
    /// Images that there are.
    pub of: usize,
    /// Share of images whose largest score is their class.
    pub accuracy: f64,
    /// The bounds of the accuracy over all such images, with 95 % confidence.
    pub interval: Option<[f64; 2]>,
    /// Share of images whose class is among the five largest scores; `None` with fewer than six classes.
    pub top5: Option<f64>,
    /// Mean cross-entropy.
    pub loss: f64,
    /// Whether it is right as often as it says.
    pub calibration: Calibration,
    /// Precision and recall of each class.
    pub classes: Vec<ClassScore>,
    /// `confusion[label][predicted]` counts images; its cells with mistakes are `pairs`.
    #[serde(skip)]
    pub confusion: Vec<Vec<usize>>,
    /// The pairs of classes that were confused, the most frequent first.
    pub pairs: Vec<ConfusedPair>,
    /// Each class against all others.
    pub curves: Vec<ClassCurves>,
}

/// Images of one class that were called another.
#[derive(Clone, Debug, Serialize)]
pub struct ConfusedPair {
    /// Number of the class that they are.
    pub label: usize,
    /// Number of the class that they were called.
    pub predicted: usize,
    /// How many there are.
    pub images: usize,
    /// Those that were called so with the most certainty, worst first.
    pub worst: Vec<WrongImage>,
}

/// An image that was called something else.
#[derive(Clone, Debug, Serialize)]
pub struct WrongImage {
    /// What was taken for what.
    #[serde(flatten)]
    pub mistake: Mistake,
    /// Where the image is found again: its file, or `test:N` with its number.
    pub name: String,
    /// Its bytes, C×H×W.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

/// Looks at the mistakes on `images` images of a split, evenly spread, or on all if there are not more.
///
/// # Errors
/// There is no image, the images have another size than the network takes, labels are no class, or the memory cannot be had.
pub fn mistakes(model: &Model, split: &Split, images: usize, machine: &Machine) -> Result<Mistakes> {
    let samples = split.spread(images);
    let count = samples.len();
    if count == 0 {
        return Err(Error::Argument(format!("mistakes on {images} of {} images; at least one is needed", split.len())));
    }
    let classes = model.classes().len();
    let mut counter = Counter::keeping(model.classes(), count);
    // [image, class], for the curves.
    let (mut probabilities, mut labels) = (Vec::with_capacity(count * classes), Vec::with_capacity(count));
    Predictor::new(model, BATCH.min(count), machine)?.classify(split, &samples, &Loss::default(), |sample, label, row, loss| {
        counter.count(sample, label, row, loss);
        probabilities.extend_from_slice(row);
        labels.push(label);
    })?;
    let found = counter.finish();
    let curves = model.classes().iter().enumerate().map(|(class, name)| {
        let scores = probabilities.iter().skip(class).step_by(classes).zip(&labels);
        class_curves(name, &scores.map(|(score, label)| (*score, *label == class)).collect::<Vec<_>>())
    });
    Ok(Mistakes {
        images: count,
        of: split.len(),
        accuracy: found.accuracy,
        interval: interval(found.accuracy, count),
        top5: found.top5,
        loss: found.loss,
        calibration: found.calibration,
        classes: found.classes,
        pairs: pairs(&found.confusion, &found.mistakes, split),
        confusion: found.confusion,
        curves: curves.collect(),
    })
}

/// The pairs of classes with mistakes and the first of each in the list, which goes from the worst on.
fn pairs(confusion: &[Vec<usize>], mistakes: &[Mistake], split: &Split) -> Vec<ConfusedPair> {
    let mut pairs = Vec::new();
    for (label, row) in confusion.iter().enumerate() {
        for (predicted, &images) in row.iter().enumerate().filter(|(predicted, images)| *predicted != label && **images > 0) {
            pairs.push(ConfusedPair { label, predicted, images, worst: Vec::new() });
        }
    }
    for mistake in mistakes {
        let place = pairs.binary_search_by_key(&(mistake.label, mistake.predicted), |pair| (pair.label, pair.predicted));
        let Ok(place) = place else { continue };
        if pairs[place].worst.len() < PER_PAIR {
            let (name, bytes) = (test_name(split, mistake.sample), split.image(mistake.sample).to_vec());
            pairs[place].worst.push(WrongImage { mistake: mistake.clone(), name, bytes });
        }
    }
    pairs.sort_by_key(|pair| (std::cmp::Reverse(pair.images), pair.label, pair.predicted));
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Normalisation;
    use crate::network::{Network, Parameters};

    /// Three classes by one number: the image's single pixel decides.
    fn model() -> Model {
        let network = Network::parse("input 1x1x1 -> flatten -> fc 3").unwrap();
        let parameters = Parameters::build(&network, |index, _| if index == 0 { vec![-8.0, 0.0, 8.0] } else { vec![2.0, 3.0, -2.0] });
        let normalisation = Normalisation { mean: vec![0.0], std: vec![1.0] };
        Model::new(network, parameters.unwrap(), ["a", "b", "c"].map(String::from).into(), normalisation).unwrap()
    }

    fn split() -> Split {
        let pixels: Vec<u8> = (0..40).map(|number| (number * 6) as u8).collect();
        let labels = (0..40).map(|number| if number % 7 == 0 { 2 } else { number / 14 }).collect();
        Split::new([1, 1, 1], pixels, labels).unwrap()
    }

    #[test]
    fn pairs_hold_their_worst_images_and_all_are_counted() {
        let (model, split, machine) = (model(), split(), Machine::detect().unwrap());
        let found = mistakes(&model, &split, 1000, &machine).unwrap();
        let evaluation = model.evaluate(&split, &Loss::default(), 7, &machine).unwrap();
        assert_eq!((found.images, found.accuracy, found.loss), (40, evaluation.accuracy, evaluation.loss));
        assert_eq!(found.confusion, evaluation.confusion);
        assert_eq!(found.calibration, evaluation.calibration);
        let wrong: usize = found.pairs.iter().map(|pair| pair.images).sum();
        assert_eq!(wrong, evaluation.mistakes.len());
        assert!(wrong > 3 && found.pairs.is_sorted_by(|a, b| a.images >= b.images), "{:?}", found.pairs);
        for pair in &found.pairs {
            assert_eq!(pair.images, found.confusion[pair.label][pair.predicted]);
            assert_eq!(pair.worst.len(), pair.images.min(PER_PAIR));
            assert!(pair.worst.is_sorted_by(|a, b| a.mistake.probability >= b.mistake.probability));
            for image in &pair.worst {
                assert_eq!((image.mistake.label, image.mistake.predicted), (pair.label, pair.predicted));
                assert_eq!(image.bytes, split.image(image.mistake.sample));
            }
        }
        assert_eq!(found.curves.len(), 3);
        assert_eq!(found.curves.iter().map(|curve| curve.images).sum::<usize>(), 40);
    }

    #[test]
    fn a_part_of_the_images_is_spread_evenly() {
        let found = mistakes(&model(), &split(), 4, &Machine::detect().unwrap()).unwrap();
        assert_eq!((found.images, found.of), (4, 40));
        let samples: Vec<usize> = found.pairs.iter().flat_map(|pair| &pair.worst).map(|image| image.mistake.sample).collect();
        assert!(samples.iter().all(|sample| sample % 10 == 0), "{samples:?}");
        assert!(mistakes(&model(), &split(), 0, &Machine::detect().unwrap()).is_err());
    }
}
