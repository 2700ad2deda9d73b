//! How well a model does: accuracy, top-5, per class, which class is taken for which, and whether its probabilities are true.

use serde::{Deserialize, Serialize};

use super::calibration::{Calibration, Confidences};

/// Counts of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassScore {
    /// Name of the class.
    pub class: String,
    /// Images of this class.
    pub images: usize,
    /// Of the images that were called this class, the share that are; `None` if none was.
    pub precision: Option<f64>,
    /// Of the images of this class, the share that were called it; `None` without images.
    pub recall: Option<f64>,
}

/// One image that was called something else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mistake {
    /// Number of the image in the data.
    pub sample: usize,
    /// What it is.
    pub label: usize,
    /// What it was called.
    pub predicted: usize,
    /// Probability of the class it was called.
    pub probability: f64,
    /// Probability of the class it is.
    pub label_probability: f64,
}

/// What an evaluation found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Number of images.
    pub images: usize,
    /// Mean loss.
    pub loss: f64,
    /// Share of images whose best score is their class, 0 to 1.
    pub accuracy: f64,
    /// Share of images whose class is among the five best scores; `None` with fewer than six classes.
    pub top5: Option<f64>,
    /// Each class.
    pub classes: Vec<ClassScore>,
    /// `confusion[label][predicted]` counts images.
    pub confusion: Vec<Vec<usize>>,
    /// The mistakes that were made with the most certainty, worst first; at most 100.
    pub mistakes: Vec<Mistake>,
    /// Whether it is right as often as it says.
    pub calibration: Calibration,
}

/// Most mistakes that an [`Evaluation`] keeps.
pub const KEPT_MISTAKES: usize = 100;

/// Counts scores image by image.
#[derive(Clone, Debug)]
pub struct Counter {
    names: Vec<String>,
    images: usize,
    loss: f64,
    top5: usize,
    confusion: Vec<Vec<usize>>,
    mistakes: Vec<Mistake>,
    kept: usize,
    confidences: Confidences,
}

impl Counter {
    /// Nothing counted yet.
    pub fn new(names: &[String]) -> Self {
        Self::keeping(names, KEPT_MISTAKES)
    }

    /// As [`new`](Self::new), keeping this many mistakes.
    pub fn keeping(names: &[String], mistakes: usize) -> Self {
        Self {
            names: names.to_vec(),
            images: 0,
            loss: 0.0,
            top5: 0,
            confusion: vec![vec![0; names.len()]; names.len()],
            mistakes: Vec::new(),
            kept: mistakes,
            confidences: Confidences::default(),
        }
    }

    /// Counts one image by the probabilities of the classes.
    ///
    /// # Panics
    /// If there are not as many probabilities as classes, or the label is no class.
    pub fn count(&mut self, sample: usize, label: usize, probabilities: &[f32], loss: f64) {
        assert!(probabilities.len() == self.names.len() && label < self.names.len(), "one probability for each class");
        let predicted = best(probabilities);
        self.images += 1;
        self.loss += loss;
        self.confusion[label][predicted] += 1;
        self.confidences.count(label, predicted, probabilities);
        let better = probabilities.iter().filter(|probability| **probability > probabilities[label]).count();
        self.top5 += usize::from(better < 5);
        if predicted != label {
            let of = |class: usize| f64::from(probabilities[class]);
            self.mistakes.push(Mistake { sample, label, predicted, probability: of(predicted), label_probability: of(label) });
            if self.mistakes.len() / 2 > self.kept {
                self.keep_worst();
            }
        }
    }

    fn keep_worst(&mut self) {
        self.mistakes.sort_by(|a, b| b.probability.total_cmp(&a.probability).then(a.sample.cmp(&b.sample)));
        self.mistakes.truncate(self.kept);
    }

    /// What was found.
    pub fn finish(mut self) -> Evaluation {
        self.keep_worst();
        let share = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
        let correct: usize = (0..self.names.len()).map(|class| self.confusion[class][class]).sum();
        let classes = self.names.iter().enumerate().map(|(class, name)| {
            let (images, called) = (self.confusion[class].iter().sum(), self.confusion.iter().map(|row| row[class]).sum());
            let right = self.confusion[class][class];
            ClassScore { class: name.clone(), images, precision: share(right, called), recall: share(right, images) }
        });
        Evaluation {
            images: self.images,
            loss: if self.images == 0 { 0.0 } else { self.loss / self.images as f64 },
            accuracy: share(correct, self.images).unwrap_or(0.0),
            top5: if self.names.len() > 5 { share(self.top5, self.images) } else { None },
            classes: classes.collect(),
            confusion: self.confusion,
            mistakes: self.mistakes,
            calibration: self.confidences.finish(),
        }
    }
}

/// The first of the largest values.
pub fn best(values: &[f32]) -> usize {
    let mut best = 0;
    for (place, value) in values.iter().enumerate() {
        if *value > values[best] || values[best].is_nan() {
            best = place;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_and_recall_are_those_of_the_confusion_matrix() {
        let mut counter = Counter::new(&["cat".into(), "dog".into()]);
        counter.count(0, 0, &[0.9, 0.1], 0.1);
        counter.count(1, 0, &[0.2, 0.8], 1.6);
        counter.count(2, 1, &[0.4, 0.6], 0.5);
        counter.count(3, 1, &[0.3, 0.7], 0.4);
        let found = counter.finish();
        assert_eq!((found.images, found.accuracy, found.top5), (4, 0.75, None));
        assert_eq!(found.confusion, [[1, 1], [0, 2]]);
        assert_eq!((found.classes[0].precision, found.classes[0].recall), (Some(1.0), Some(0.5)));
        assert_eq!((found.classes[1].precision, found.classes[1].recall), (Some(2.0 / 3.0), Some(1.0)));
        assert_eq!(found.mistakes.len(), 1);
        assert_eq!((found.mistakes[0].sample, found.mistakes[0].predicted), (1, 1));
    }

    #[test]
    fn the_fifth_best_score_still_counts_for_top_5() {
        let names: Vec<String> = (0..6).map(|class| class.to_string()).collect();
        let mut counter = Counter::new(&names);
        counter.count(0, 4, &[0.3, 0.25, 0.2, 0.15, 0.06, 0.04], 0.0);
        counter.count(1, 5, &[0.3, 0.25, 0.2, 0.15, 0.06, 0.04], 0.0);
        assert_eq!(counter.finish().top5, Some(0.5));
    }
}
