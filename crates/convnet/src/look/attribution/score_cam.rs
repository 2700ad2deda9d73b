//! Score-CAM: each map of a layer, stretched over the image and brought to 0 … 1, becomes a mask; the image seen through it has
//! a score s_k; the map is Σ_k softmax(s)_k · A_k. No gradient is used.
//!
//! Where the mask is 0 the image becomes 0, which in normalised values is the data set's mean. A map that is the same everywhere
//! masks nothing in particular and gets no weight.

use convnet_kernels::Real;

use super::cam::Sum;
use super::stretch::stretch;
use super::subject::{Maps, Subject};
use super::target::Spot;
use crate::error::Result;
use crate::network::NodeId;

pub(super) fn score_cam<T: Real>(subject: &mut Subject<'_, T>, image: &[T], spot: Spot, layer: NodeId) -> Result<Sum<T>> {
    let (shape, takes) = (subject.network().shape(layer), subject.image_shape());
    let Maps { activations, score, .. } = subject.maps(image, spot, layer)?;
    let maps: Vec<&[T]> = activations.chunks_exact(shape.pixels()).filter(|map| map.iter().any(|value| *value != map[0])).collect();
    let mut scores = vec![f64::NEG_INFINITY; maps.len()];
    let masked = |number: usize, values: &mut [T]| {
        let mask = mask(&stretch(maps[number], [shape.h, shape.w], [takes.h, takes.w]));
        for (plane, pixels) in values.chunks_exact_mut(takes.pixels()).zip(image.chunks_exact(takes.pixels())) {
            for ((value, pixel), share) in plane.iter_mut().zip(pixels).zip(&mask) {
                *value = *pixel * *share;
            }
        }
    };
    subject.walk(maps.len(), spot, None, masked, |number, seen, _| scores[number] = seen.number().to_f64())?;
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let total: f64 = powers.iter().sum();
    let mut sums = vec![0.0_f64; shape.pixels()];
    for (map, power) in maps.iter().zip(&powers) {
        for (sum, value) in sums.iter_mut().zip(*map) {
            *sum += power / total * value.to_f64();
        }
    }
    Ok(Sum { values: sums.into_iter().map(T::from_f64).collect(), score })
}

/// A plane brought to 0 … 1: (x − least) / (largest − least); all 0 where every number is the same.
fn mask<T: Real>(plane: &[T]) -> Vec<T> {
    let (least, largest) = plane.iter().fold((plane[0], plane[0]), |(least, largest), value| {
        (if *value < least { *value } else { least }, if *value > largest { *value } else { largest })
    });
    let range = largest - least;
    plane.iter().map(|value| if range > T::ZERO { (*value - least) / range } else { T::ZERO }).collect()
}
