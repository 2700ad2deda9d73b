//! Losses: how wrong scores are, and the gradient by which they become less so.
//!
//! With N images, C classes, scores x and the right class y, as in PyTorch:
//!
//! | loss | value |
//! |---|---|
//! | cross-entropy | −ln softmax(x)\[y\], a mean over the images |
//! | multi-margin | 1/C · Σ over j ≠ y of max(0, margin − x\[y\] + x\[j\])ᵖ, a mean over the images |
//! | mean squared error | (x\[j\] − t\[j\])², a mean over images and classes; t is 1 at y, else 0 |
//!
//! Everything is computed in `f64` and rounded once, with the `libm` crate's functions, so that the bits are the same on
//! every machine.

use std::fmt;
use std::str::FromStr;

use convnet_kernels::Real;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What a training makes small.
///
/// ```
/// use convnet::loss::Loss;
///
/// let scores = [2.0_f32, 2.0, 2.0, 2.0];
/// let mut gradient = [0.0; 4];
/// let value = Loss::cross_entropy().value_and_gradient(&scores, 4, &[1], &mut gradient);
/// assert!((value - 4.0_f64.ln()).abs() < 1e-15);
/// assert_eq!(gradient, [0.25, -0.75, 0.25, 0.25]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Loss {
    /// The negative logarithm of the right class's probability. Its usual place is behind a layer that gives any numbers:
    /// the softmax is in it.
    ///
    /// With class weights w, each image counts by the weight of its class, and the sum is divided by the sum of these
    /// weights. Smoothing ε takes 1 − ε of that, and ε/C of the sum over all classes c of −w\[c\]·ln softmax(x)\[c\], divided
    /// by the same sum (Szegedy et al. 2016, weighted as in PyTorch).
    CrossEntropy {
        /// ε, from 0 up to but not 1.
        #[serde(default)]
        smoothing: f64,
        /// One weight for each class.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weights: Option<Vec<f64>>,
    },
    /// The loss of a multi-class support vector machine (Weston and Watkins 1999): every other class should score less than
    /// the right one by the margin. The usual lecture formula leaves out the 1/C.
    MultiMargin {
        /// p, 1 or 2.
        #[serde(default = "one")]
        power: u32,
        /// The margin.
        #[serde(default = "unit")]
        margin: f64,
        /// One weight for each class: the loss of an image is multiplied by its class's. The mean is over the images,
        /// whatever the weights.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weights: Option<Vec<f64>>,
    },
    /// The squared distance to 1 for the right class and 0 for the others.
    MeanSquaredError {},
}

fn one() -> u32 {
    1
}

fn unit() -> f64 {
    1.0
}

impl Loss {
    /// The names that [`FromStr`] takes.
    pub const NAMES: [&'static str; 3] = ["cross-entropy", "multi-margin", "mean-squared-error"];

    /// Cross-entropy without smoothing and weights.
    pub fn cross_entropy() -> Self {
        Self::smoothed(0.0)
    }

    /// Cross-entropy with label smoothing.
    pub fn smoothed(smoothing: f64) -> Self {
        Self::CrossEntropy { smoothing, weights: None }
    }

    /// Multi-margin with power 1, margin 1 and no weights.
    pub fn multi_margin() -> Self {
        Self::MultiMargin { power: one(), margin: unit(), weights: None }
    }

    /// Mean squared error.
    pub fn mean_squared_error() -> Self {
        Self::MeanSquaredError {}
    }

    /// Whether the settings are in their ranges and fit this number of classes.
    ///
    /// # Errors
    /// The setting, what it is and what it may be.
    pub fn check(&self, classes: usize) -> Result<()> {
        let refuse = |message: String| Err(Error::Argument(message));
        match *self {
            Self::CrossEntropy { smoothing, .. } if !(0.0..1.0).contains(&smoothing) => {
                refuse(format!("label smoothing is {smoothing}, but it is at least 0 and below 1"))
            }
            Self::MultiMargin { power, .. } if power != 1 && power != 2 => {
                refuse(format!("the power of the multi-margin loss is {power}, but it is 1 or 2"))
            }
            Self::MultiMargin { margin, .. } if !(margin.is_finite() && margin > 0.0) => {
                refuse(format!("the margin of the multi-margin loss is {margin}, but it is a number above 0"))
            }
            _ => self.weights().map_or(Ok(()), |weights| check_weights(weights, classes)),
        }
    }

    /// The class weights, if there are any.
    fn weights(&self) -> Option<&[f64]> {
        match self {
            Self::CrossEntropy { weights, .. } | Self::MultiMargin { weights, .. } => weights.as_deref(),
            Self::MeanSquaredError {} => None,
        }
    }

    /// The mean loss of a batch; `gradient` becomes its derivative by each score. `scores` and `gradient` are N×C with
    /// C = `classes`, and there is one label for each image. An empty batch, and one whose class weights are all 0, has
    /// loss 0 and gradient 0. A score that is not a number makes the loss not a number.
    ///
    /// # Panics
    /// If the lengths do not fit, a label is not below `classes`, or [`check`](Self::check) refuses the settings.
    pub fn value_and_gradient<T: Real>(&self, scores: &[T], classes: usize, labels: &[usize], gradient: &mut [T]) -> f64 {
        assert_eq!(scores.len(), gradient.len(), "one gradient for each score");
        let weight_of = |class: usize| self.weights().map_or(1.0, |weights| weights[class]);
        let divisor = match self {
            Self::CrossEntropy { .. } => labels.iter().map(|&label| weight_of(label)).sum(),
            _ => labels.len() as f64,
        };
        let share = if divisor > 0.0 { 1.0 / divisor } else { 0.0 };
        let mut sum = 0.0;
        let mut row = vec![0.0; classes];
        for ((scores, label), gradient) in rows(scores, classes, labels).zip(gradient.chunks_exact_mut(classes.max(1))) {
            sum += match self {
                Self::CrossEntropy { smoothing, weights } => cross_entropy(scores, label, *smoothing, weights.as_deref(), &mut row),
                Self::MultiMargin { power, margin, .. } => multi_margin(scores, label, *power, *margin, weight_of(label), &mut row),
                Self::MeanSquaredError {} => squared_error(scores, label, &mut row),
            };
            for (gradient, value) in gradient.iter_mut().zip(&row) {
                *gradient = T::from_f64(share * value);
            }
        }
        share * sum
    }

    /// The plain loss of each image, for evaluation: without smoothing and class weights, so that trainings with different
    /// settings can be compared. Power and margin hold.
    ///
    /// # Panics
    /// If the lengths do not fit, or a label is not below `classes`.
    pub fn per_sample<T: Real>(&self, scores: &[T], classes: usize, labels: &[usize], losses: &mut [f64]) {
        assert_eq!(labels.len(), losses.len(), "one loss for each label");
        let mut row = vec![0.0; classes];
        for ((scores, label), loss) in rows(scores, classes, labels).zip(losses) {
            *loss = match self {
                Self::CrossEntropy { .. } => cross_entropy(scores, label, 0.0, None, &mut row),
                Self::MultiMargin { power, margin, .. } => multi_margin(scores, label, *power, *margin, 1.0, &mut row),
                Self::MeanSquaredError {} => squared_error(scores, label, &mut row),
            };
        }
    }
}

fn check_weights(weights: &[f64], classes: usize) -> Result<()> {
    if weights.len() != classes {
        return Err(Error::Argument(format!("there are {} class weights, but {classes} classes; give one for each class", weights.len())));
    }
    if let Some((class, weight)) = weights.iter().enumerate().find(|(_, weight)| !(weight.is_finite() && **weight >= 0.0)) {
        return Err(Error::Argument(format!("the weight of class {class} is {weight}, but it is a number of at least 0")));
    }
    if weights.iter().all(|&weight| weight == 0.0) {
        return Err(Error::Argument("every class weight is 0; at least one is above 0".into()));
    }
    Ok(())
}

/// The scores of each image with its label.
fn rows<'a, T>(scores: &'a [T], classes: usize, labels: &'a [usize]) -> impl Iterator<Item = (&'a [T], usize)> {
    assert_eq!(Some(scores.len()), labels.len().checked_mul(classes), "{} images of {classes} classes", labels.len());
    assert!(labels.iter().all(|&label| label < classes), "every label is below {classes}");
    scores.chunks_exact(classes.max(1)).zip(labels.iter().copied())
}

/// The weighted sum over classes that stands at [`Loss::CrossEntropy`], not yet divided; `row` becomes its gradient.
fn cross_entropy<T: Real>(scores: &[T], label: usize, smoothing: f64, weights: Option<&[f64]>, row: &mut [f64]) -> f64 {
    let largest = scores.iter().map(|score| score.to_f64()).fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for (row, score) in row.iter_mut().zip(scores) {
        // Never above 0, so that nothing overflows and one term is 1.
        *row = libm::exp(score.to_f64() - largest);
        sum += *row;
    }
    let logarithm = libm::log(sum);
    let missing = |class: usize| logarithm - (scores[class].to_f64() - largest);
    let weight_of = |class: usize| weights.map_or(1.0, |weights| weights[class]);

    let right = (1.0 - smoothing) * weight_of(label);
    let (mut value, mut total) = (right * missing(label), right);
    let each = smoothing / scores.len() as f64;
    if smoothing > 0.0 {
        for class in 0..scores.len() {
            value += each * weight_of(class) * missing(class);
            total += each * weight_of(class);
        }
    }
    for (class, row) in row.iter_mut().enumerate() {
        *row = total * (*row / sum) - each * weight_of(class);
    }
    row[label] -= right;
    value
}

/// weight/C · Σ over j ≠ y of max(0, margin − x\[y\] + x\[j\])ᵖ; `row` becomes its gradient, which is 0 on the hinge.
fn multi_margin<T: Real>(scores: &[T], label: usize, power: u32, margin: f64, weight: f64, row: &mut [f64]) -> f64 {
    let share = weight / scores.len() as f64;
    let right = scores[label].to_f64();
    let (mut value, mut pull) = (0.0, 0.0);
    for (class, (row, score)) in row.iter_mut().zip(scores).enumerate() {
        let excess = margin - right + score.to_f64();
        // A NaN is not at most 0 and so reaches the sum.
        *row = if class == label || excess <= 0.0 {
            0.0
        } else if power == 2 {
            value += share * excess * excess;
            2.0 * share * excess
        } else {
            value += share * excess;
            share
        };
        pull += *row;
    }
    row[label] = -pull;
    value
}

/// The mean over the classes of the squared distance to the one-hot target; `row` becomes its gradient.
fn squared_error<T: Real>(scores: &[T], label: usize, row: &mut [f64]) -> f64 {
    let share = 1.0 / scores.len() as f64;
    let mut value = 0.0;
    for (class, (row, score)) in row.iter_mut().zip(scores).enumerate() {
        let difference = score.to_f64() - if class == label { 1.0 } else { 0.0 };
        value += share * difference * difference;
        *row = 2.0 * share * difference;
    }
    value
}

/// The mean of (value − target)² over all values; `gradient` becomes its derivative by each value. 0 without values.
///
/// # Panics
/// If the lengths differ.
pub fn mean_squared_error<T: Real>(values: &[T], targets: &[T], gradient: &mut [T]) -> f64 {
    assert!(values.len() == targets.len() && values.len() == gradient.len(), "as many values as targets and gradients");
    let share = 1.0 / values.len().max(1) as f64;
    let mut sum = 0.0;
    for ((gradient, value), target) in gradient.iter_mut().zip(values).zip(targets) {
        let difference = value.to_f64() - target.to_f64();
        sum += difference * difference;
        *gradient = T::from_f64(2.0 * share * difference);
    }
    share * sum
}

impl Default for Loss {
    fn default() -> Self {
        Self::cross_entropy()
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::CrossEntropy { .. } => "cross-entropy",
            Self::MultiMargin { .. } => "multi-margin",
            Self::MeanSquaredError {} => "mean-squared-error",
        })
    }
}

impl FromStr for Loss {
    type Err = Error;

    /// The loss of that name with its usual settings.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "cross-entropy" => Ok(Self::cross_entropy()),
            "multi-margin" => Ok(Self::multi_margin()),
            "mean-squared-error" => Ok(Self::mean_squared_error()),
            _ => Err(Error::Argument(format!("'{name}' is not a loss; there are {}", Self::NAMES.join(", ")))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Address, Purpose};

    const CLASSES: usize = 5;
    const LABELS: [usize; 4] = [0, 3, 4, 1];

    /// Every loss with every setting.
    fn losses() -> Vec<Loss> {
        let weights = || Some(vec![0.5, 2.0, 0.0, 1.5, 0.25]);
        vec![
            Loss::cross_entropy(),
            Loss::smoothed(0.2),
            Loss::CrossEntropy { smoothing: 0.0, weights: weights() },
            Loss::CrossEntropy { smoothing: 0.2, weights: weights() },
            Loss::multi_margin(),
            Loss::MultiMargin { power: 2, margin: 0.7, weights: None },
            Loss::MultiMargin { power: 1, margin: 0.7, weights: weights() },
            Loss::MultiMargin { power: 2, margin: 1.0, weights: weights() },
            Loss::mean_squared_error(),
        ]
    }

    fn scores(seed: u64) -> Vec<f64> {
        let mut random = Address::new(seed, Purpose::Initialise).random();
        (0..LABELS.len() * CLASSES).map(|_| random.normal()).collect()
    }

    #[test]
    fn every_loss_has_the_gradient_of_its_value() {
        const STEP: f64 = 1e-6;
        for loss in losses() {
            loss.check(CLASSES).unwrap();
            let mut scores = scores(5);
            let (mut gradient, mut unused) = (vec![f64::NAN; scores.len()], vec![0.0; scores.len()]);
            loss.value_and_gradient(&scores, CLASSES, &LABELS, &mut gradient);
            for place in 0..scores.len() {
                let middle = scores[place];
                let mut value_at = |score| {
                    scores[place] = score;
                    loss.value_and_gradient(&scores, CLASSES, &LABELS, &mut unused)
                };
                let slope = (value_at(middle + STEP) - value_at(middle - STEP)) / (2.0 * STEP);
                scores[place] = middle;
                assert!((gradient[place] - slope).abs() < 1e-9, "{loss:?} at {place}: {}, not {slope}", gradient[place]);
            }
        }
    }

    #[test]
    fn equal_scores_have_the_logarithm_of_the_number_of_classes() {
        for classes in [1, 2, 10, 1000] {
            let scores = vec![7.0_f32; 3 * classes];
            let (mut gradient, mut each) = (vec![0.0; scores.len()], [0.0; 3]);
            let labels = [0, classes - 1, classes / 2];
            let expected = (classes as f64).ln();
            for loss in [Loss::cross_entropy(), Loss::smoothed(0.3)] {
                let value = loss.value_and_gradient(&scores, classes, &labels, &mut gradient);
                assert!((value - expected).abs() < 1e-12, "{loss:?}, {classes} classes: {value}");
                loss.per_sample(&scores, classes, &labels, &mut each);
                assert!(each.iter().all(|value| (value - expected).abs() < 1e-12));
            }
        }
    }

    #[test]
    fn scores_ten_thousand_apart_neither_overflow_nor_vanish() {
        let scores = [1e4_f32, -1e4, 0.0, -1e4, 1e4, 1e4];
        let mut gradient = [0.0; 6];
        let value = Loss::cross_entropy().value_and_gradient(&scores, 3, &[0, 0], &mut gradient);
        assert_eq!(value, (2e4 + std::f64::consts::LN_2) / 2.0);
        assert_eq!(gradient, [0.0, 0.0, 0.0, -0.5, 0.25, 0.25]);
        let value = Loss::smoothed(0.3).value_and_gradient(&scores, 3, &[0, 0], &mut gradient);
        // Image 1: 0.1·(0 + 2e4 + 1e4); image 2: 0.8·(2e4 + ln 2) + 0.2·ln 2.
        assert!((value - (3e3 + 1.6e4 + std::f64::consts::LN_2) / 2.0).abs() < 1e-9, "{value}");
        assert!(gradient.iter().all(|value| value.is_finite()));
    }

    #[test]
    fn evaluation_leaves_out_smoothing_and_weights() {
        let scores = scores(6);
        let mean = |loss: &Loss| {
            let mut each = [0.0; LABELS.len()];
            loss.per_sample(&scores, CLASSES, &LABELS, &mut each);
            each.iter().sum::<f64>() / each.len() as f64
        };
        let mut gradient = vec![0.0; scores.len()];
        for loss in losses() {
            let plain = match &loss {
                Loss::CrossEntropy { .. } => Loss::cross_entropy(),
                Loss::MultiMargin { power, margin, .. } => Loss::MultiMargin { power: *power, margin: *margin, weights: None },
                Loss::MeanSquaredError {} => Loss::mean_squared_error(),
            };
            let value = plain.value_and_gradient(&scores, CLASSES, &LABELS, &mut gradient);
            assert!((mean(&loss) - value).abs() < 1e-14, "{loss:?}");
        }
    }

    #[test]
    fn a_score_that_is_no_number_makes_a_loss_that_is_none() {
        for loss in losses() {
            let mut scores = scores(7);
            scores[CLASSES] = f64::NAN;
            let mut gradient = vec![0.0; scores.len()];
            assert!(loss.value_and_gradient(&scores, CLASSES, &LABELS, &mut gradient).is_nan(), "{loss:?}");
        }
    }

    #[test]
    fn a_batch_that_counts_for_nothing_has_no_loss_and_no_gradient() {
        let ignoring = Loss::CrossEntropy { smoothing: 0.0, weights: Some(vec![1.0, 0.0]) };
        let mut gradient = [f32::NAN; 4];
        assert_eq!(ignoring.value_and_gradient(&[1.0, 2.0, 3.0, 4.0], 2, &[1, 1], &mut gradient), 0.0);
        assert_eq!(gradient, [0.0; 4]);
        for loss in losses() {
            assert_eq!(loss.value_and_gradient::<f32>(&[], CLASSES, &[], &mut []), 0.0);
        }
    }

    #[test]
    fn settings_that_do_not_fit_are_refused_with_both_numbers() {
        let weighted = |weights: &[f64]| Loss::CrossEntropy { smoothing: 0.0, weights: Some(weights.to_vec()) };
        let margin = |power, margin| Loss::MultiMargin { power, margin, weights: None };
        for (loss, part) in [
            (Loss::smoothed(1.0), "smoothing is 1"),
            (Loss::smoothed(-0.1), "smoothing is -0.1"),
            (Loss::smoothed(f64::NAN), "smoothing is NaN"),
            (margin(3, 1.0), "is 3, but it is 1 or 2"),
            (margin(1, 0.0), "margin of the multi-margin loss is 0"),
            (margin(1, f64::INFINITY), "is inf"),
            (weighted(&[1.0, 1.0]), "2 class weights, but 3 classes"),
            (weighted(&[1.0, -1.0, 1.0]), "class 1 is -1"),
            (weighted(&[0.0; 3]), "at least one"),
        ] {
            let error = loss.check(3).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn every_name_and_setting_reads_back() {
        for name in Loss::NAMES {
            assert_eq!(name.parse::<Loss>().unwrap().to_string(), name);
        }
        for loss in losses() {
            let text = serde_json::to_string(&loss).unwrap();
            assert_eq!(serde_json::from_str::<Loss>(&text).unwrap(), loss, "{text}");
        }
        assert_eq!(serde_json::to_string(&Loss::smoothed(0.1)).unwrap(), r#"{"kind":"cross-entropy","smoothing":0.1}"#);
        for text in [r#"{"kind": "cross-entropy", "margin": 1}"#, r#"{"kind": "mean-squared-error", "power": 2}"#, r#"{"kind": "hinge"}"#] {
            assert!(serde_json::from_str::<Loss>(text).is_err(), "{text}");
        }
        let error = "hinge".parse::<Loss>().unwrap_err().to_string();
        assert!(error.contains("'hinge'") && error.contains("multi-margin"), "{error}");
    }
}
