//! The images of a data set whose codes are nearest to a given one.

use serde::Serialize;

use super::Codes;
use crate::error::{Error, Result};

/// How far apart two codes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// 1 − a·b/(|a||b|): from 0 for codes of one direction to 2 for opposite ones; 1 for a code that is 0.
    Cosine,
    /// |a − b|.
    Euclidean,
}

impl Metric {
    /// The distance of two codes of one length, summed up in f64.
    pub fn distance(self, a: &[f32], b: &[f32]) -> f64 {
        let sum = |of: &dyn Fn(f64, f64) -> f64| a.iter().zip(b).map(|(a, b)| of(f64::from(*a), f64::from(*b))).sum::<f64>();
        match self {
            Self::Euclidean => sum(&|a, b| (a - b) * (a - b)).sqrt(),
            Self::Cosine => {
                let lengths = (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt();
                if lengths > 0.0 { 1.0 - sum(&|a, b| a * b) / lengths } else { 1.0 }
            }
        }
    }
}

/// An image of the data near to what was asked about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Neighbour {
    /// Its number in the split.
    pub image: usize,
    /// Its class.
    pub label: usize,
    /// How far away its code is.
    pub distance: f64,
}

/// The `count` nearest codes, the nearest first, those of one distance by their number. `own`, the number of an image of the
/// split, is left out.
///
/// # Errors
/// The code has another length than those of the data.
pub fn neighbours(codes: &Codes, code: &[f32], metric: Metric, count: usize, own: Option<usize>) -> Result<Vec<Neighbour>> {
    if code.len() != codes.features() {
        return Err(Error::Argument(format!(
            "a code of {} numbers beside codes of {} at '{}'; take both at the same layer",
            code.len(),
            codes.features(),
            codes.layer
        )));
    }
    let all = codes.images.iter().zip(&codes.labels).enumerate();
    let mut near: Vec<Neighbour> = all
        .filter(|(_, (image, _))| Some(**image) != own)
        .map(|(place, (image, label))| Neighbour { image: *image, label: *label, distance: metric.distance(code, codes.code(place)) })
        .collect();
    near.sort_by(|a, b| a.distance.total_cmp(&b.distance).then(a.image.cmp(&b.image)));
    near.truncate(count);
    Ok(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes() -> Codes {
        Codes::of_rows("fc1", vec![0, 1, 2, 3], vec![1.0, 0.0, 10.0, 1.0, 0.0, 2.0, 0.0, 0.0]).unwrap()
    }

    fn found(metric: Metric, own: Option<usize>) -> Vec<(usize, f64)> {
        neighbours(&codes(), &[2.0, 0.0], metric, 3, own).unwrap().into_iter().map(|near| (near.label, near.distance)).collect()
    }

    #[test]
    fn distances_are_those_of_the_formulas_and_sorted() {
        let near = found(Metric::Euclidean, None);
        assert_eq!(near.iter().map(|near| near.0).collect::<Vec<_>>(), [0, 3, 2]);
        assert_eq!(near[0].1, 1.0);
        assert!((near[2].1 - 8.0_f64.sqrt()).abs() < 1e-12);
        let near = found(Metric::Cosine, None);
        assert_eq!(near.iter().map(|near| near.0).collect::<Vec<_>>(), [0, 1, 2], "the direction counts, not the length");
        assert!((near[1].1 - (1.0 - 10.0 / 101.0_f64.sqrt())).abs() < 1e-12 && near[2].1 == 1.0);
    }

    #[test]
    fn the_image_itself_is_left_out_and_other_lengths_are_refused() {
        assert_eq!(found(Metric::Euclidean, Some(0))[0].0, 3);
        let error = neighbours(&codes(), &[1.0], Metric::Cosine, 1, None).unwrap_err().to_string();
        assert!(error.contains("1 numbers") && error.contains("fc1"), "{error}");
    }
}
