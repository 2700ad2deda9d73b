//! A network that is asked again and again: its plans, and walks over any number of images for one target.

use convnet_kernels::{Machine, Real};

use super::target::{Spot, Target, scores};
use crate::error::{Error, Result};
use crate::look::viewer::batch_for;
use crate::model::Model;
use crate::network::{Network, NodeId, Parameters};
use crate::plan::{Plan, Purpose, RectifierRule, Seed};
use crate::shape::{Shape, sizes_text};
use crate::tensor::{Tensor, from_channels_last};

/// A network with its numbers, ready to be asked where scores come from.
///
/// ```
/// use convnet::look::attribution::{Method, Settings, Subject, Target};
/// use convnet::network::{Network, Parameters};
///
/// let network = Network::parse("input 1x2x2 -> flatten -> fc 2")?;
/// let weights = Parameters::build(&network, |_, spec| (0..spec.count()).map(|place| place as f32).collect())?;
/// let mut subject = Subject::new(&network, &weights)?;
/// let found = subject.attribute(&[1.0; 4], &Target::Class(1), Method::Gradient, &Settings::default())?;
/// assert_eq!(found.map.values(), [4.0, 5.0, 6.0, 7.0]);
/// assert_eq!(found.score, 4.0 + 5.0 + 6.0 + 7.0 + 1.0);
/// # Ok::<(), convnet::Error>(())
/// ```
#[derive(Debug)]
pub struct Subject<'a, T = f32> {
    network: &'a Network,
    parameters: &'a Parameters<T>,
    plans: Plans<T>,
}

/// The plans of a network, for any numbers.
#[derive(Debug)]
pub(crate) struct Plans<T> {
    machine: Machine,
    one: Plan<T>,
    many: Option<Plan<T>>,
}

/// What was computed for one image of a batch.
pub(crate) struct Seen<'a, T> {
    plan: &'a Plan<T>,
    spot: Spot,
    place: usize,
}

impl<T: Real> Seen<'_, T> {
    /// The target's number.
    pub fn number(&self) -> T {
        let (values, place) = self.values();
        values.get(place).copied().unwrap_or(T::ZERO)
    }

    /// The target's share of the softmax over all numbers of its value: the probability of a class.
    pub fn probability(&self) -> f64 {
        let (values, place) = self.values();
        let largest = values.iter().map(|value| value.to_f64()).fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = values.iter().map(|value| (value.to_f64() - largest).exp()).sum();
        values.get(place).map_or(0.0, |value| (value.to_f64() - largest).exp() / total)
    }

    /// The numbers of the target's value for this image, channels last, and the target's place among them.
    fn values(&self) -> (&[T], usize) {
        let Some(stored) = self.plan.stored_activation(self.spot.value) else { return (&[], 0) };
        let (channel, pixel) = (self.spot.index / stored.shape.pixels(), self.spot.index % stored.shape.pixels());
        (&stored.values[self.place * stored.shape.image()..][..stored.shape.image()], pixel * stored.shape.c + channel)
    }
}

impl<'a> Subject<'a> {
    /// A model.
    ///
    /// # Errors
    /// The memory for one image cannot be had.
    pub fn of(model: &'a Model) -> Result<Self> {
        Self::new(model.network(), model.parameters())
    }
}

impl<'a, T: Real> Subject<'a, T> {
    /// A network with these numbers.
    ///
    /// # Errors
    /// The memory for one image cannot be had.
    pub fn new(network: &'a Network, parameters: &'a Parameters<T>) -> Result<Self> {
        Self::on(network, parameters, &Machine::detect().map_err(Error::Argument)?)
    }

    /// As [`new`](Self::new), on this machine.
    ///
    /// # Errors
    /// The memory for one image cannot be had.
    pub fn on(network: &'a Network, parameters: &'a Parameters<T>, machine: &Machine) -> Result<Self> {
        let one = Plan::new(network, 1, Purpose::Inspect, machine)?;
        Ok(Self::with(network, parameters, Plans { machine: machine.clone(), one, many: None }))
    }

    /// The network with other numbers, and plans that were made for it.
    pub(crate) fn with(network: &'a Network, parameters: &'a Parameters<T>, plans: Plans<T>) -> Self {
        Self { network, parameters, plans }
    }

    /// The plans, to be used again.
    pub(crate) fn into_plans(self) -> Plans<T> {
        self.plans
    }

    /// The machine that it works on.
    pub(crate) fn machine(&self) -> &Machine {
        &self.plans.machine
    }

    /// The network's numbers.
    pub(crate) fn parameters(&self) -> &'a Parameters<T> {
        self.parameters
    }

    /// The network.
    pub fn network(&self) -> &'a Network {
        self.network
    }

    /// Shape of one image.
    pub(crate) fn image_shape(&self) -> Shape {
        self.network.input_shape()
    }

    /// The score of each class for one image of normalised values, C×H×W: the values before a last softmax.
    ///
    /// # Errors
    /// The image has another size.
    pub fn scores(&mut self, image: &[T]) -> Result<Vec<T>> {
        self.check_image(image)?;
        let value = scores(self.network);
        self.plans.one.forward_until(self.parameters, image, value);
        Ok(self.plans.one.activation(value).map(Tensor::into_values).unwrap_or_default())
    }

    /// The class with the largest score; the first of ties.
    ///
    /// # Errors
    /// The image has another size.
    pub fn predicted(&mut self, image: &[T]) -> Result<Target> {
        let scores = self.scores(image)?;
        let best = (1..scores.len()).fold(0, |best, class| if scores[class] > scores[best] { class } else { best });
        Ok(Target::Class(best))
    }

    /// # Errors
    /// The image has another size; both are named.
    pub(crate) fn check_image(&self, image: &[T]) -> Result<()> {
        let shape = self.image_shape();
        if image.len() == shape.image() {
            return Ok(());
        }
        Err(Error::Argument(format!(
            "the network takes images of {}, {} numbers, but {} were given",
            sizes_text(&shape.chw()),
            shape.image(),
            image.len()
        )))
    }

    /// The plan for so many images.
    fn plan(&mut self, count: usize) -> Result<&mut Plan<T>> {
        let Plans { machine, one, many } = &mut self.plans;
        if count == 1 {
            return Ok(one);
        }
        if many.is_none() {
            *many = Some(Plan::new(self.network, batch_for::<T>(self.network, machine)?, Purpose::Inspect, machine)?);
        }
        Ok(many.as_mut().unwrap_or(one))
    }

    /// Walks over `count` images: `image(number, values)` writes each, C×H×W, and `take(number, seen, gradient)` gets what
    /// was seen of the target and, with a rule, its gradient with respect to the image, C×H×W; otherwise an empty slice.
    pub(crate) fn walk(
        &mut self,
        count: usize,
        spot: Spot,
        rule: Option<RectifierRule>,
        mut image: impl FnMut(usize, &mut [T]),
        mut take: impl FnMut(usize, Seen<'_, T>, &[T]),
    ) -> Result<()> {
        let (shape, numbers) = (self.image_shape(), self.network.shape(spot.value).image());
        let parameters = self.parameters;
        let plan = self.plan(count)?;
        let batch = plan.batch();
        let mut images = vec![T::ZERO; batch * shape.image()];
        let mut gradients = if rule.is_some() { images.clone() } else { Vec::new() };
        let mut seed = vec![T::ZERO; batch * numbers];
        seed.iter_mut().skip(spot.index).step_by(numbers).for_each(|seed| *seed = T::ONE);
        for first in (0..count).step_by(batch) {
            let present = batch.min(count - first);
            for (place, values) in images.chunks_exact_mut(shape.image()).take(present).enumerate() {
                image(first + place, values);
            }
            plan.forward_until(parameters, &images, spot.value);
            if let Some(rule) = rule {
                plan.backward_from(parameters, &[Seed { at: spot.value, gradient: &seed }], rule);
                if let Some(stored) = plan.stored_gradient(NodeId::IMAGE) {
                    from_channels_last(stored.shape, stored.values, &mut gradients);
                }
            }
            for place in 0..present {
                let gradient = if rule.is_some() { &gradients[place * shape.image()..][..shape.image()] } else { &[] };
                take(first + place, Seen { plan, spot, place }, gradient);
            }
        }
        Ok(())
    }

    /// The target's number for one image.
    pub(crate) fn score(&mut self, image: &[T], spot: Spot) -> Result<f64> {
        let mut score = 0.0;
        self.walk(1, spot, None, |_, values| values.copy_from_slice(image), |_, seen, _| score = seen.number().to_f64())?;
        Ok(score)
    }

    /// A layer's output for one image and the target's gradient with respect to it, both C×H×W, and the target's number.
    ///
    /// # Errors
    /// The target does not depend on the layer.
    pub(crate) fn maps(&mut self, image: &[T], spot: Spot, layer: NodeId) -> Result<Maps<T>> {
        let mut seed = vec![T::ZERO; self.network.shape(spot.value).image()];
        seed[spot.index] = T::ONE;
        let plan = &mut self.plans.one;
        plan.forward_until(self.parameters, image, spot.value);
        plan.backward_from(self.parameters, &[Seed { at: spot.value, gradient: &seed }], RectifierRule::Gradient);
        let (Some(activations), Some(gradients)) = (plan.activation(layer), plan.gradient(layer)) else {
            return Err(Error::Argument("the target does not depend on that layer; choose a layer below the target".into()));
        };
        let score = Seen { plan, spot, place: 0 }.number().to_f64();
        Ok(Maps { activations: activations.into_values(), gradients: gradients.into_values(), score })
    }
}

/// A layer's output for one image.
pub(crate) struct Maps<T> {
    /// C×H×W.
    pub activations: Vec<T>,
    /// The target's gradient with respect to them, C×H×W.
    pub gradients: Vec<T>,
    /// The target's number.
    pub score: f64,
}
