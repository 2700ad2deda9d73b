//! What is made large: one number for an image, of the values of a layer.

use convnet_kernels::Real;

use crate::error::{Error, Result};
use crate::shape::Shape;

/// A number that a layer's output C×H×W has for an image.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// The number of one channel at one place: one neuron.
    Neuron {
        /// Which channel.
        channel: usize,
        /// Row and column; by default the middle, ⌊H/2⌋ and ⌊W/2⌋.
        at: Option<[usize; 2]>,
    },
    /// The mean of one channel over all places.
    Channel {
        /// Which channel.
        channel: usize,
    },
    /// The mean square of all numbers: more of whatever the layer sees already ("deep dream").
    Layer,
    /// The opposite of another: what makes it small.
    Negative(Box<Objective>),
    /// A weighted sum of others.
    Sum(Vec<(f32, Objective)>),
}

impl Objective {
    /// A channel's number in the middle.
    pub fn neuron(channel: usize) -> Self {
        Self::Neuron { channel, at: None }
    }

    /// A channel's mean.
    pub fn channel(channel: usize) -> Self {
        Self::Channel { channel }
    }

    /// What makes this small.
    #[must_use]
    pub fn negative(self) -> Self {
        Self::Negative(Box::new(self))
    }

    /// The one channel that it is about, if it is about one.
    pub fn only_channel(&self) -> Option<usize> {
        match self {
            Self::Neuron { channel, .. } | Self::Channel { channel } => Some(*channel),
            Self::Negative(other) => other.only_channel(),
            Self::Layer | Self::Sum(_) => None,
        }
    }

    /// Row and column of the one number that it is about, if it is about one.
    pub fn only_place(&self, shape: Shape) -> Option<[usize; 2]> {
        match self {
            Self::Neuron { at, .. } => Some(at.unwrap_or([shape.h / 2, shape.w / 2])),
            Self::Channel { .. } => (shape.pixels() == 1).then_some([0, 0]),
            Self::Negative(other) => other.only_place(shape),
            Self::Layer | Self::Sum(_) => None,
        }
    }

    /// The same of the number at another place; only what is about one number can be moved.
    pub(super) fn moved_to(&self, at: [usize; 2]) -> Self {
        match self {
            Self::Neuron { channel, .. } => Self::Neuron { channel: *channel, at: Some(at) },
            Self::Negative(other) => other.moved_to(at).negative(),
            other => other.clone(),
        }
    }

    /// Whether a layer of this shape has what it is about.
    ///
    /// # Errors
    /// It has no such channel or place.
    pub fn check(&self, layer: &str, shape: Shape) -> Result<()> {
        let channel_exists = |channel: usize| {
            if channel < shape.c {
                return Ok(());
            }
            Err(Error::Argument(format!("'{layer}' has {} channels, there is no channel {channel}; they count from 0", shape.c)))
        };
        match self {
            Self::Neuron { channel, at } => {
                channel_exists(*channel)?;
                let [y, x] = at.unwrap_or([0, 0]);
                if y < shape.h && x < shape.w {
                    return Ok(());
                }
                let (h, w) = (shape.h, shape.w);
                Err(Error::Argument(format!("the maps of '{layer}' are {h}x{w}, there is no place {y},{x} (row and column count from 0)")))
            }
            Self::Channel { channel } => channel_exists(*channel),
            Self::Layer => Ok(()),
            Self::Negative(other) => other.check(layer, shape),
            Self::Sum(parts) => {
                if let Some((weight, _)) = parts.iter().find(|(weight, _)| !weight.is_finite()) {
                    return Err(Error::Argument(format!("a weight of a sum of objectives is {weight}; it must be finite")));
                }
                parts.iter().try_for_each(|(_, other)| other.check(layer, shape))
            }
        }
    }

    /// The number for one image.
    pub(crate) fn value<T: Real>(&self, values: &Values<'_, T>) -> T {
        match self {
            Self::Neuron { channel, .. } => {
                let [y, x] = self.only_place(values.shape).unwrap_or_default();
                values.get((channel * values.shape.h + y) * values.shape.w + x)
            }
            Self::Channel { channel } => values.channel(*channel).map(|index| values.get(index)).sum::<T>() / values.places(),
            Self::Layer => {
                let square = values.all().iter().map(|value| *value * *value).sum::<T>();
                square / T::from_usize(values.all().len())
            }
            Self::Negative(other) => -other.value(values),
            Self::Sum(parts) => parts.iter().map(|(weight, other)| T::from_f32(*weight) * other.value(values)).sum(),
        }
    }

    /// Adds the gradient, times a factor, to the layer's gradient for one image, C×H×W.
    pub(crate) fn add_gradient<T: Real>(&self, factor: T, values: &Values<'_, T>, gradient: &mut [T]) {
        match self {
            Self::Neuron { channel, .. } => {
                let [y, x] = self.only_place(values.shape).unwrap_or_default();
                gradient[(channel * values.shape.h + y) * values.shape.w + x] += factor;
            }
            Self::Channel { channel } => {
                let share = factor / values.places();
                gradient[values.channel(*channel)].iter_mut().for_each(|gradient| *gradient += share);
            }
            Self::Layer => {
                let share = factor * T::from_f64(2.0) / T::from_usize(values.all().len());
                for (index, gradient) in gradient.iter_mut().enumerate() {
                    *gradient += share * values.get(index);
                }
            }
            Self::Negative(other) => other.add_gradient(-factor, values, gradient),
            Self::Sum(parts) => {
                for (weight, other) in parts {
                    other.add_gradient(factor * T::from_f32(*weight), values, gradient);
                }
            }
        }
    }
}

/// A layer's values for one image, as they lie in a plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<'a, T> {
    /// The layer's shape.
    shape: Shape,
    /// The shape in which they lie, channels last: the same but behind a flatten.
    stored: Shape,
    values: &'a [T],
}

impl<'a, T: Real> Values<'a, T> {
    /// Image `index` of a batch that lies in this shape, channels last.
    pub fn of_image(shape: Shape, stored: Shape, batch: &'a [T], index: usize) -> Self {
        Self { shape, stored, values: &batch[index * stored.image()..][..stored.image()] }
    }

    /// The number at an index into C×H×W.
    pub fn get(&self, index: usize) -> T {
        let pixels = self.stored.pixels();
        self.values[index % pixels * self.stored.c + index / pixels]
    }

    /// The numbers as they lie: [place, channel].
    pub fn all(&self) -> &'a [T] {
        self.values
    }

    /// Channels, as the numbers lie.
    pub fn stored_channels(&self) -> usize {
        self.stored.c
    }

    fn channel(&self, channel: usize) -> std::ops::Range<usize> {
        channel * self.shape.pixels()..(channel + 1) * self.shape.pixels()
    }

    fn places(&self) -> T {
        T::from_usize(self.shape.pixels())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape::new(1, 3, 2, 2);

    fn every() -> Vec<Objective> {
        let sum = Objective::Sum(vec![(0.5, Objective::neuron(0)), (-2.0, Objective::channel(2)), (1.5, Objective::Layer)]);
        vec![
            Objective::neuron(1),
            Objective::Neuron { channel: 2, at: Some([0, 1]) },
            Objective::channel(1),
            Objective::Layer,
            sum.clone(),
            sum.negative(),
        ]
    }

    #[test]
    fn every_objective_has_the_gradient_of_its_value() {
        // Channels last in its own shape, and as a flattened 2×3×2.
        for stored in [SHAPE, Shape::new(1, 2, 3, 2)] {
            let mut values: Vec<f64> = (0..12).map(|i| f64::from(i * 7 % 12) - 5.5).collect();
            for objective in every() {
                let mut gradient = vec![0.0; 12];
                objective.add_gradient(1.0, &Values::of_image(SHAPE, stored, &values, 0), &mut gradient);
                for (index, gradient) in gradient.iter().enumerate() {
                    let place = index % stored.pixels() * stored.c + index / stored.pixels();
                    let mut at = |change: f64| {
                        values[place] += change;
                        let value = objective.value(&Values::of_image(SHAPE, stored, &values, 0));
                        values[place] -= change;
                        value
                    };
                    let difference = (at(1e-3) - at(-1e-3)) / 2e-3;
                    assert!((difference - gradient).abs() < 1e-9, "{objective:?} at {index}: {difference} {gradient}");
                }
            }
        }
    }

    #[test]
    fn what_a_layer_does_not_have_is_refused() {
        let error = Objective::neuron(3).negative().check("conv1", SHAPE).unwrap_err().to_string();
        assert!(error.contains("'conv1' has 3 channels") && error.contains("channel 3"), "{error}");
        let error = Objective::Neuron { channel: 0, at: Some([1, 2]) }.check("conv1", SHAPE).unwrap_err().to_string();
        assert!(error.contains("2x2") && error.contains("1,2"), "{error}");
        assert!(Objective::Sum(vec![(f32::NAN, Objective::Layer)]).check("conv1", SHAPE).is_err());
        assert!(every().iter().all(|objective| objective.check("conv1", SHAPE).is_ok()));
    }
}
