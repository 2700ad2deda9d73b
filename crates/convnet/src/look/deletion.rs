//! Whether the pixels that a map names are those that the score hangs on: deletion and insertion curves.
//!
//! Pixels are taken away from the image (deletion) or put into an empty one (insertion), those first that the map ranks highest,
//! and the probability of the class is followed. The area under the deletion curve should be small, that under the insertion
//! curve large (Petsiuk, Das and Saenko, "RISE: randomized input sampling for explanation of black-box models", 2018; there
//! insertion begins with a blurred image, here with the data set's mean). An area alone says little: it is put beside that of
//! random orders.

use convnet_kernels::Real;
use serde::Serialize;

use super::attribution::{Attribution, Subject, Target};
use crate::error::{Error, Result};
use crate::random::{Address, Purpose};

/// How the curves are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletionSettings {
    /// Points of a curve after the first.
    pub steps: usize,
    /// Random orders that the areas are put beside.
    pub orders: usize,
    /// Draws the random orders, and the order of pixels that the map ranks alike.
    pub seed: u64,
}

impl Default for DeletionSettings {
    fn default() -> Self {
        Self { steps: 28, orders: 4, seed: 1 }
    }
}

/// A curve over the share of pixels, from 0 to 1 in equal steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// The class's probability, or the neuron's number.
    pub values: Vec<f64>,
    /// The area under it, by trapezia: the mean value.
    pub area: f64,
}

/// What happens to the score when pixels go or come in the order that a map ranks them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Deletion {
    /// Pixels become the data set's mean, the highest first.
    pub deletion: Curve,
    /// Pixels appear on the data set's mean, the highest first.
    pub insertion: Curve,
    /// The mean of the deletion curves of random orders.
    pub random_deletion: Curve,
    /// The mean of the insertion curves of random orders.
    pub random_insertion: Curve,
}

/// The coordinate of orders of pixels among what is drawn to look inside: the letters `order`.
const ORDER: u64 = 0x6f_7264_6572;

/// The curves of a map, for the image that it was made of.
///
/// # Errors
/// There are no steps or orders, or the image has another size.
pub fn deletion<T: Real>(subject: &mut Subject<'_, T>, image: &[T], map: &Attribution<T>, how: DeletionSettings) -> Result<Deletion> {
    subject.check_image(image)?;
    if how.steps == 0 || how.orders == 0 {
        return Err(Error::Argument("a deletion curve needs at least 1 step and 1 random order beside it".into()));
    }
    let shape = subject.image_shape();
    let plane = map.over_image([shape.h, shape.w]).cast::<f64>().into_values();
    let address = Address::new(how.seed, Purpose::Look).then(ORDER);
    let mut orders = vec![ranked(&plane, address)];
    orders.extend((1..=how.orders as u64).map(|number| shuffled(plane.len(), address.then(number))));
    let [deletions, insertions] = [true, false].map(|goes| curves(subject, image, &map.target, &orders, how.steps, goes));
    let [(deletion, random_deletion), (insertion, random_insertion)] = [beside(&deletions?), beside(&insertions?)];
    Ok(Deletion { deletion, insertion, random_deletion, random_insertion })
}

fn shuffled(count: usize, address: Address) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    address.random().shuffle(&mut order);
    order
}

/// The pixels from the highest to the lowest; those alike in a random order.
fn ranked(plane: &[f64], address: Address) -> Vec<usize> {
    let mut order = shuffled(plane.len(), address.then(0));
    order.sort_by(|a, b| plane[*b].total_cmp(&plane[*a]));
    order
}

/// One curve for each order.
fn curves<T: Real>(
    subject: &mut Subject<'_, T>,
    image: &[T],
    target: &Target,
    orders: &[Vec<usize>],
    steps: usize,
    goes: bool,
) -> Result<Vec<Vec<f64>>> {
    let spot = target.spot(subject.network())?;
    let mut curves = vec![vec![0.0; steps + 1]; orders.len()];
    let changed = |number: usize, values: &mut [T]| {
        let (order, step) = (&orders[number / (steps + 1)], number % (steps + 1));
        let count = order.len() * step / steps;
        let absent = if goes { &order[..count] } else { &order[count..] };
        values.copy_from_slice(image);
        for plane in values.chunks_exact_mut(order.len()) {
            absent.iter().for_each(|pixel| plane[*pixel] = T::ZERO);
        }
    };
    subject.walk(orders.len() * (steps + 1), spot, None, changed, |number, seen, _| {
        let value = if matches!(target, Target::Class(_)) { seen.probability() } else { seen.number().to_f64() };
        curves[number / (steps + 1)][number % (steps + 1)] = value;
    })?;
    Ok(curves)
}

/// The first curve, and the mean of the others.
fn beside(curves: &[Vec<f64>]) -> (Curve, Curve) {
    let (first, others) = (&curves[0], &curves[1..]);
    let mean = (0..first.len()).map(|step| others.iter().map(|curve| curve[step]).sum::<f64>() / others.len() as f64).collect();
    (Curve::new(first.clone()), Curve::new(mean))
}

impl Curve {
    fn new(values: Vec<f64>) -> Self {
        let trapezia = values.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).sum::<f64>();
        Self { area: trapezia / (values.len() - 1) as f64, values }
    }
}

#[cfg(test)]
mod tests {
    use super::super::attribution::{Method, Settings};
    use super::*;
    use crate::network::{Network, Parameters};

    #[test]
    fn the_right_order_deletes_faster_and_inserts_faster_than_chance() {
        // Class 1 counts four of the pixels, class 0 nothing.
        let network = Network::parse("input 1x4x4 -> flatten -> fc 2 no bias").unwrap();
        let weight = |place: usize| if matches!(place, 17 | 20 | 27 | 30) { 2.0 } else { 0.0 };
        let parameters = Parameters::<f64>::build(&network, |_, spec| (0..spec.count()).map(weight).collect()).unwrap();
        let mut subject = Subject::new(&network, &parameters).unwrap();
        let image = [1.0; 16];
        let map = subject.attribute(&image, &Target::Class(1), Method::GradientInput, &Settings::default()).unwrap();
        let how = DeletionSettings { steps: 16, ..DeletionSettings::default() };
        let found = deletion(&mut subject, &image, &map, how).unwrap();
        // Scores 8, 6, 4, 2, 0, 0, … against 0.
        for (step, value) in found.deletion.values.iter().enumerate() {
            let score = 8.0 - 2.0 * step.min(4) as f64;
            assert!((value - 1.0 / (1.0 + (-score).exp())).abs() < 1e-12, "step {step}: {value}");
        }
        assert_eq!(found.insertion.values[0], 0.5);
        assert!((found.insertion.values[4] - found.deletion.values[0]).abs() < 1e-15);
        assert!(found.deletion.area < found.random_deletion.area && found.insertion.area > found.random_insertion.area, "{found:?}");
        let none = DeletionSettings { steps: 0, ..how };
        assert!(deletion(&mut subject, &image, &map, none).unwrap_err().to_string().contains("at least 1 step"));
    }
}
