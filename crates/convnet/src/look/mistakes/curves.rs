//! One class against all others: precision over recall, and true over false positives.
//!
//! Every image has a score for the class, its probability. For a threshold t, with the images of the class (P of them) as
//! positives and all others (N of them) as negatives:
//!
//! ```text
//! TP = positives with score ≥ t      FP = negatives with score ≥ t
//! recall = true positive rate = TP / P     precision = TP / (TP + FP)     false positive rate = FP / N
//! average precision = Σ over thresholds, falling, of (recall − recall before) · precision
//! AUC  = area under the true over the false positive rate, between neighbouring thresholds straight
//!      = probability that a positive has a larger score than a negative, ties counted half
//! ```
//!
//! Images with equal scores pass a threshold together.

use serde::Serialize;

/// The curves of a class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassCurves {
    /// Name of the class.
    pub class: String,
    /// Images of the class, P.
    pub images: usize,
    /// Area under precision over recall, by steps; `None` without an image of the class.
    pub average_precision: Option<f64>,
    /// Area under the true over the false positive rate; `None` without an image of the class, or of another.
    pub auc: Option<f64>,
    /// Recall and precision at each threshold that raises the recall, from the highest threshold.
    pub precision_recall: Vec<[f64; 2]>,
    /// False and true positive rate from (0, 0) to (1, 1), the corners only: in between the curve is straight.
    pub roc: Vec<[f64; 2]>,
}

/// The curves of a class: of each image its score and whether it is of the class.
pub fn class_curves(class: &str, scores: &[(f32, bool)]) -> ClassCurves {
    let positives = scores.iter().filter(|(_, is)| *is).count();
    let negatives = scores.len() - positives;
    let mut order = scores.to_vec();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut counts: Vec<[usize; 2]> = vec![[0, 0]];
    for equal in order.chunk_by(|a, b| a.0 == b.0) {
        let [false_positives, true_positives] = counts[counts.len() - 1];
        let here = equal.iter().filter(|(_, is)| *is).count();
        counts.push([false_positives + equal.len() - here, true_positives + here]);
    }
    let mut curves = ClassCurves {
        class: class.to_owned(),
        images: positives,
        average_precision: None,
        auc: None,
        precision_recall: Vec::new(),
        roc: Vec::new(),
    };
    if positives > 0 {
        let mut area = 0.0;
        for pair in counts.windows(2).filter(|pair| pair[1][1] > pair[0][1]) {
            let [[_, before], [wrong, right]] = [pair[0], pair[1]];
            let precision = right as f64 / (right + wrong) as f64;
            area += (right - before) as f64 / positives as f64 * precision;
            curves.precision_recall.push([right as f64 / positives as f64, precision]);
        }
        curves.average_precision = Some(area);
    }
    if positives > 0 && negatives > 0 {
        // Twice the area in whole numbers: exact.
        let twice: u128 = counts.windows(2).map(|pair| (pair[1][0] - pair[0][0]) as u128 * (pair[0][1] + pair[1][1]) as u128).sum();
        curves.auc = Some(twice as f64 / 2.0 / (positives as f64 * negatives as f64));
        let rates = |[wrong, right]: [usize; 2]| [wrong as f64 / negatives as f64, right as f64 / positives as f64];
        curves.roc = corners(&counts).into_iter().map(rates).collect();
    }
    curves
}

/// The points without those that lie on the straight line between their neighbours.
fn corners(points: &[[usize; 2]]) -> Vec<[usize; 2]> {
    let mut kept: Vec<[usize; 2]> = Vec::new();
    for &point in points {
        while let [.., a, b] = kept[..] {
            let cross = |x: usize, y: usize| x as u128 * y as u128;
            if cross(b[0] - a[0], point[1] - b[1]) != cross(b[1] - a[1], point[0] - b[0]) {
                break;
            }
            kept.pop();
        }
        kept.push(point);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definitions, threshold by threshold and pair by pair.
    fn brute(scores: &[(f32, bool)]) -> (f64, f64) {
        let mut thresholds: Vec<f32> = scores.iter().map(|(score, _)| *score).collect();
        thresholds.sort_by(|a, b| b.total_cmp(a));
        thresholds.dedup();
        let positives = scores.iter().filter(|(_, is)| *is).count() as f64;
        let (mut area, mut before) = (0.0, 0.0);
        for threshold in thresholds {
            let passed: Vec<_> = scores.iter().filter(|(score, _)| *score >= threshold).collect();
            let right = passed.iter().filter(|(_, is)| *is).count() as f64;
            area += (right / positives - before) * right / passed.len() as f64;
            before = right / positives;
        }
        let mut wins = 0.0;
        for (score, _) in scores.iter().filter(|(_, is)| *is) {
            for (other, _) in scores.iter().filter(|(_, is)| !*is) {
                wins += if score > other {
                    1.0
                } else if score == other {
                    0.5
                } else {
                    0.0
                };
            }
        }
        (area, wins / positives / (scores.len() as f64 - positives))
    }

    #[test]
    fn the_areas_are_those_of_their_definitions() {
        for salt in 1..40_usize {
            let scores: Vec<(f32, bool)> =
                (0..60).map(|place| ((place * salt * 37 % 23) as f32 / 23.0, (place * place + salt) % 4 == 0)).collect();
            let found = class_curves("cat", &scores);
            if found.images == 0 {
                continue;
            }
            let (average_precision, auc) = brute(&scores);
            assert!((found.average_precision.unwrap() - average_precision).abs() < 1e-12, "{salt}");
            assert!((found.auc.unwrap() - auc).abs() < 1e-12, "{salt}");
        }
    }

    #[test]
    fn a_class_that_is_always_found_has_all_of_both_areas() {
        let found = class_curves("cat", &[(0.9, true), (0.8, true), (0.1, false), (0.0, false)]);
        assert_eq!((found.average_precision, found.auc), (Some(1.0), Some(1.0)));
        assert_eq!(found.precision_recall, [[0.5, 1.0], [1.0, 1.0]]);
        assert_eq!(found.roc, [[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]]);
        assert_eq!(class_curves("cat", &[(0.5, true), (0.5, false)]).auc, Some(0.5));
    }

    #[test]
    fn areas_that_have_no_meaning_are_none() {
        let only = class_curves("cat", &[(0.5, true)]);
        assert_eq!((only.average_precision, only.auc, only.roc.len()), (Some(1.0), None, 0));
        let never = class_curves("cat", &[(0.5, false)]);
        assert_eq!((never.average_precision, never.auc), (None, None));
        assert_eq!(class_curves("cat", &[]).images, 0);
    }
}
