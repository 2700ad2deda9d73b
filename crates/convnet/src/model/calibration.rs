//! Calibration: whether a model is right as often as it says. Where it gives its first class 90 %, nine of ten should be right.
//!
//! With n images, confidence c (the probability of the class that was called) and correctness r (1 or 0), and the images in
//! bins B₁ … B_M by their confidence:
//!
//! ```text
//! gap(B) = |mean of r over B − mean of c over B|
//! ECE    = Σ |B|/n · gap(B)            expected calibration error; MCE = the largest gap of a bin that is not empty
//! Brier  = mean over images of Σ over classes k of (p_k − [k is the label])²
//! ```
//!
//! The bins of [`Calibration::bins`] are equally wide, ((m − 1)/M, m/M], as C. Guo et al., "On calibration of modern neural
//! networks" (2017) have them. Few images fall into most of them where a model is sure of itself, so the adaptive error takes
//! bins of equally many images instead (J. Nixon et al., "Measuring calibration in deep learning", 2019).

use serde::{Deserialize, Serialize};

/// Bins of a calibration curve.
pub const CALIBRATION_BINS: usize = 15;

/// The images whose confidence lies in a range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    /// Their number.
    pub images: usize,
    /// Their mean confidence; `None` if there is no image.
    pub confidence: Option<f64>,
    /// The share of them that was called right; `None` if there is no image.
    pub accuracy: Option<f64>,
}

/// Whether a model is right as often as it says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// [`CALIBRATION_BINS`] equally wide ranges of confidence from 0 to 1, each without its lower and with its upper end.
    pub bins: Vec<CalibrationBin>,
    /// Mean confidence.
    pub confidence: f64,
    /// Expected calibration error over `bins`, 0 to 1.
    pub ece: f64,
    /// The largest gap of any of `bins`.
    pub mce: f64,
    /// Expected calibration error over as many bins of equally many images.
    pub adaptive_ece: f64,
    /// Mean square of the differences from the probabilities of somebody who knows: 0 at best, 2 at worst.
    pub brier: f64,
}

/// Collects confidences.
#[derive(Clone, Debug, Default)]
pub(super) struct Confidences {
    /// The probability of the class that was called, and whether that was right.
    list: Vec<(f64, bool)>,
    squares: f64,
}

impl Confidences {
    pub fn count(&mut self, label: usize, predicted: usize, probabilities: &[f32]) {
        self.list.push((f64::from(probabilities[predicted]), predicted == label));
        let square = |(class, probability): (usize, &f32)| {
            let difference = f64::from(*probability) - f64::from(u8::from(class == label));
            difference * difference
        };
        self.squares += probabilities.iter().enumerate().map(square).sum::<f64>();
    }

    pub fn finish(mut self) -> Calibration {
        let images = self.list.len();
        let whole = bin(&self.list);
        let mut wide: Vec<Vec<(f64, bool)>> = vec![Vec::new(); CALIBRATION_BINS];
        for &(confidence, right) in &self.list {
            // What is not a number is no confidence at all.
            let place = (confidence * CALIBRATION_BINS as f64).ceil().clamp(1.0, CALIBRATION_BINS as f64);
            wide[if place.is_nan() { 0 } else { place as usize - 1 }].push((confidence, right));
        }
        let bins: Vec<CalibrationBin> = wide.iter().map(|list| bin(list)).collect();
        // A stable order: equals stay as the images came.
        self.list.sort_by(|a, b| a.0.total_cmp(&b.0));
        let even = (0..CALIBRATION_BINS).map(|m| &self.list[m * images / CALIBRATION_BINS..(m + 1) * images / CALIBRATION_BINS]);
        let even: Vec<CalibrationBin> = even.map(bin).collect();
        Calibration {
            confidence: whole.confidence.unwrap_or(0.0),
            ece: expected_gap(&bins, images),
            mce: bins.iter().filter_map(CalibrationBin::gap).fold(0.0, f64::max),
            adaptive_ece: expected_gap(&even, images),
            brier: if images == 0 { 0.0 } else { self.squares / images as f64 },
            bins,
        }
    }
}

impl CalibrationBin {
    /// How far the share of right calls is from the mean confidence; `None` if there is no image.
    pub fn gap(&self) -> Option<f64> {
        Some((self.accuracy? - self.confidence?).abs())
    }
}

fn bin(list: &[(f64, bool)]) -> CalibrationBin {
    let mean = |sum: f64| (!list.is_empty()).then(|| sum / list.len() as f64);
    CalibrationBin {
        images: list.len(),
        confidence: mean(list.iter().map(|(confidence, _)| confidence).sum()),
        accuracy: mean(list.iter().filter(|(_, right)| *right).count() as f64),
    }
}

fn expected_gap(bins: &[CalibrationBin], images: usize) -> f64 {
    bins.iter().filter_map(|bin| Some(bin.gap()? * bin.images as f64 / images as f64)).sum()
}

/// The bounds between which the share in all such images lies with 95 % confidence, by Wilson's score interval:
/// with p of n images and z = 1.96, (p + z²/2n ± z·√(p(1 − p)/n + z²/4n²)) / (1 + z²/n). `None` without images, or if the
/// share is none.
pub fn interval(share: f64, images: usize) -> Option<[f64; 2]> {
    if images == 0 || !(0.0..=1.0).contains(&share) {
        return None;
    }
    let (n, z) = (images as f64, 1.959_964);
    let spread = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    let bound = |side: f64| (share + z * z / (2.0 * n) + side * spread) / (1.0 + z * z / n);
    Some([bound(-1.0).max(0.0), bound(1.0).min(1.0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calibration(list: &[(f64, bool)]) -> Calibration {
        Confidences { list: list.to_vec(), squares: 0.0 }.finish()
    }

    #[test]
    fn a_model_that_is_right_as_often_as_it_says_has_no_error() {
        let mut list = vec![(0.75, true); 3];
        list.push((0.75, false));
        list.extend([(1.0, true); 5]);
        let found = calibration(&list);
        assert_eq!((found.ece, found.mce), (0.0, 0.0));
        assert_eq!(found.bins.iter().map(|bin| bin.images).collect::<Vec<_>>()[11..], [4, 0, 0, 5]);
        assert_eq!(found.confidence, (4.0 * 0.75 + 5.0) / 9.0);
    }

    #[test]
    fn the_errors_are_those_of_their_definitions() {
        let list: Vec<(f64, bool)> = (0..97).map(|place| (f64::from(place * 31 % 97 + 1) / 97.0, place * place % 5 < 2)).collect();
        let found = calibration(&list);
        let (mut ece, mut mce) = (0.0, 0.0_f64);
        for m in 0..CALIBRATION_BINS {
            let (low, high) = (m as f64 / 15.0, (m + 1) as f64 / 15.0);
            let inside: Vec<_> = list.iter().filter(|(confidence, _)| *confidence > low && *confidence <= high).collect();
            let count = inside.len() as f64;
            let right = inside.iter().filter(|(_, right)| *right).count() as f64 / count;
            let gap = (right - inside.iter().map(|(confidence, _)| confidence).sum::<f64>() / count).abs();
            assert_eq!(found.bins[m].images, inside.len());
            ece += count / 97.0 * gap;
            mce = mce.max(gap);
        }
        assert!((found.ece - ece).abs() < 1e-12 && (found.mce - mce).abs() < 1e-12, "{found:?}: {ece} and {mce}");
        assert!(found.adaptive_ece > 0.0 && found.adaptive_ece <= 1.0);
    }

    #[test]
    fn the_brier_score_is_nothing_for_who_knows_and_two_for_who_is_wrong_for_sure() {
        let mut confidences = Confidences::default();
        confidences.count(1, 1, &[0.0, 1.0, 0.0]);
        assert_eq!(confidences.clone().finish().brier, 0.0);
        confidences.count(1, 0, &[1.0, 0.0, 0.0]);
        assert_eq!(confidences.finish().brier, 1.0);
    }

    #[test]
    fn without_images_and_with_broken_numbers_there_is_an_answer_too() {
        let nothing = calibration(&[]);
        assert_eq!((nothing.ece, nothing.mce, nothing.adaptive_ece, nothing.brier), (0.0, 0.0, 0.0, 0.0));
        let broken = calibration(&[(f64::NAN, true), (0.0, false), (7.0, true)]);
        assert_eq!(broken.bins.iter().map(|bin| bin.images).sum::<usize>(), 3);
    }

    #[test]
    fn the_interval_is_wilsons() {
        // R. G. Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I, method 3.
        for (correct, images, low, high) in
            [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
        {
            let found = interval(f64::from(correct) / images as f64, images).unwrap();
            assert!((found[0] - low).abs() < 6e-5 && (found[1] - high).abs() < 6e-5, "{correct} of {images}: {found:?}");
        }
        assert!(interval(0.5, 0).is_none() && interval(f64::NAN, 10).is_none());
    }
}
