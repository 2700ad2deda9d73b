//! The ascent: a batch of images, each made better for its own objective, step by step.
//!
//! One step draws each image, takes a random view of it, runs the network as far as the layer in question, sows the gradients
//! of the objectives there, runs back to the images, and changes the numbers behind them by Adam. All images of a batch go
//! through the network together; the rest is done for each image on a thread of its own. An image depends on the seed, its
//! objective, its number in the group and the step, never on the thread that works on it.

use convnet_kernels::{Machine, Real};

use super::diversity::likeness;
use super::objective::{Objective, Values};
use super::paint::Painter;
use super::recipe::Recipe;
use super::view::{Sampling, Views};
use crate::network::{NodeId, Parameters};
use crate::optim::{Optimizer, Update};
use crate::plan::{Plan, RectifierRule, Seed};
use crate::random::Address;
use crate::shape::Shape;
use crate::tensor::from_channels_last;

/// Everything that all images of an ascent share.
#[derive(Debug)]
pub(super) struct Ascent<'a, T> {
    pub machine: Machine,
    pub plan: Plan<T>,
    pub parameters: &'a Parameters<T>,
    /// Where the objectives are taken.
    pub node: NodeId,
    /// The layer's shape for one image.
    pub shape: Shape,
    /// Where images of one group are compared, and its shape.
    pub compared: (NodeId, Shape),
    pub painter: Painter<T>,
    pub recipe: Recipe,
    pub views: Views,
    /// Weight of the total variation for an objective of 1.
    pub variation: T,
    pub address: Address,
}

/// One image under way.
#[derive(Clone, Debug)]
pub(super) struct Sketch<T> {
    objective: Objective,
    address: Address,
    numbers: Vec<T>,
    gradient: Vec<T>,
    /// Adam's memory.
    slots: [Vec<T>; 2],
    /// The image, C×H×W in 0 … 1.
    image: Vec<T>,
    /// The view as the network sees it, then the gradient of it.
    view: Vec<T>,
    sampling: Sampling<T>,
    scratch: Vec<T>,
    /// The objective on the view of each step.
    history: Vec<T>,
}

impl<T: Real> Sketch<T> {
    /// The image, C×H×W in 0 … 1.
    pub fn image(&self) -> &[T] {
        &self.image
    }

    /// The objective on the view of each step.
    pub fn history(&self) -> &[T] {
        &self.history
    }

    /// The last gradient, downwards.
    #[cfg(test)]
    pub fn descent(&self) -> &[T] {
        &self.gradient
    }

    /// The same with one of its numbers changed.
    #[cfg(test)]
    pub fn moved(&self, index: usize, change: T) -> Self {
        let mut moved = self.clone();
        moved.numbers[index] += change;
        moved
    }
}

impl<T: Real> Ascent<'_, T> {
    /// Image number `copy` of objective number `number`, before the first step; drawn from nothing, or from an image.
    pub fn sketch(&self, objective: &Objective, number: usize, copy: usize, from: Option<&[u8]>) -> Sketch<T> {
        let address = self.address.then(number as u64).then(copy as u64);
        let numbers = match from {
            Some(image) => self.painter.start_from(image),
            None => self.painter.start(&mut address.then(0).random()),
        };
        let zeros = || vec![T::ZERO; numbers.len()];
        Sketch {
            objective: objective.clone(),
            address,
            gradient: zeros(),
            slots: [zeros(), zeros()],
            image: zeros(),
            view: zeros(),
            scratch: zeros(),
            numbers,
            sampling: Sampling::default(),
            history: Vec::with_capacity(self.recipe.steps),
        }
    }

    /// Takes all steps with at most one batch of images, those of a group one after the other, and draws the last images.
    pub fn climb(&mut self, sketches: &mut [Sketch<T>]) {
        let count = self.painter.count();
        let mut images = vec![T::ZERO; self.plan.input_shape().count()];
        let mut seeds = vec![T::ZERO; self.shape.with_batch(self.plan.batch()).count()];
        let mut likeness_seeds = vec![T::ZERO; self.compared.1.with_batch(self.plan.batch()).count()];
        for step in 1..=self.recipe.steps {
            self.for_each(sketches, |ascent, sketch| ascent.draw(sketch, step));
            for (sketch, image) in sketches.iter().zip(images.chunks_exact_mut(count)) {
                image.copy_from_slice(&sketch.view);
            }
            self.plan.forward_until(self.parameters, &images, self.node);
            self.sow(sketches, &mut seeds, &mut likeness_seeds);
            let rule = if step <= self.recipe.redirected { RectifierRule::Redirected } else { RectifierRule::Gradient };
            let seeds = [Seed { at: self.node, gradient: &seeds[..] }, Seed { at: self.compared.0, gradient: &likeness_seeds[..] }];
            let used = if self.compares() { &seeds[..] } else { &seeds[..1] };
            self.plan.backward_from(self.parameters, used, rule);
            let Some(gradient) = self.plan.stored_gradient(NodeId::IMAGE) else { return };
            let one = gradient.shape.with_batch(1);
            for (sketch, gradient) in sketches.iter_mut().zip(gradient.values.chunks_exact(count)) {
                from_channels_last(one, gradient, &mut sketch.view);
            }
            self.for_each(sketches, |ascent, sketch| ascent.change(sketch, step));
        }
        self.for_each(sketches, |ascent, sketch| ascent.painter.paint(&sketch.numbers, &mut sketch.image, &mut sketch.scratch));
    }

    fn for_each(&self, sketches: &mut [Sketch<T>], work: impl Fn(&Self, &mut Sketch<T>) + Sync)
    where
        Self: Sync,
    {
        self.machine.threads.chunks_mut(sketches, 1, |_, sketch| work(self, &mut sketch[0]));
    }

    fn compares(&self) -> bool {
        self.recipe.copies > 1 && self.recipe.diversity > 0.0
    }

    /// The image, and a view of it as the network sees it.
    fn draw(&self, sketch: &mut Sketch<T>, step: usize) {
        let (size, plane) = (self.plan.input_shape(), self.plan.input_shape().pixels());
        self.painter.paint(&sketch.numbers, &mut sketch.image, &mut sketch.scratch);
        let view = self.views.draw(&mut sketch.address.then(step as u64).random());
        sketch.sampling.set(&view, [size.h, size.w]);
        for (image, view) in sketch.image.chunks_exact(plane).zip(sketch.view.chunks_exact_mut(plane)) {
            sketch.sampling.view(image, view);
        }
        self.painter.normalise(&mut sketch.view);
    }

    /// Writes the gradients of the objectives at their layer, and of the likeness of each group at its own.
    fn sow(&self, sketches: &mut [Sketch<T>], seeds: &mut [T], likeness_seeds: &mut [T]) {
        let Some(values) = self.plan.stored_activation(self.node) else { return };
        let image = self.shape.image();
        seeds[..sketches.len() * image].fill(T::ZERO);
        for (index, (sketch, seed)) in sketches.iter_mut().zip(seeds.chunks_exact_mut(image)).enumerate() {
            let values = Values::of_image(self.shape, values.shape, values.values, index);
            sketch.history.push(sketch.objective.value(&values));
            sketch.objective.add_gradient(T::ONE, &values, seed);
        }
        if !self.compares() {
            return;
        }
        let Some(values) = self.plan.stored_activation(self.compared.0) else { return };
        let (copies, compared) = (self.recipe.copies, self.compared.1.image());
        let groups = seeds[..sketches.len() * image].chunks(copies * image).zip(likeness_seeds.chunks_mut(copies * compared));
        for (group, (seeds, targets)) in groups.enumerate() {
            let of_image = |copy: usize| Values::of_image(self.compared.1, values.shape, values.values, group * copies + copy);
            let images: Vec<Values<'_, T>> = (0..seeds.len() / image).map(of_image).collect();
            self.sow_likeness(&images, norm(seeds), targets);
        }
    }

    /// Writes the gradient of −likeness for one group, so scaled that it counts `diversity` times as much as the objectives
    /// whose gradients have this norm: the likeness itself has no unit, and its gradient shrinks as values grow.
    fn sow_likeness(&self, images: &[Values<'_, T>], seed_norm: T, targets: &mut [T]) {
        let numbers: Vec<&[T]> = images.iter().map(Values::all).collect();
        let mut gradients: Vec<Vec<T>> = numbers.iter().map(|values| vec![T::ZERO; values.len()]).collect();
        let channels = images.first().map_or(1, Values::stored_channels);
        likeness(&numbers, channels, &mut gradients);
        let size = numbers.iter().map(|values| norm(values)).sum::<T>() / T::from_usize(images.len().max(1));
        let factor = -T::from_f32(self.recipe.diversity) * size * seed_norm / T::from_usize(images.len().max(1)).sqrt();
        for (gradient, target) in gradients.iter().zip(targets.chunks_exact_mut(self.compared.1.image())) {
            let places = gradient.len() / channels;
            for (index, value) in target.iter_mut().enumerate() {
                *value = factor * gradient[index % places * channels + index / places];
            }
        }
    }

    /// One step of Adam by the gradient of the view.
    fn change(&self, sketch: &mut Sketch<T>, step: usize) {
        let plane = self.plan.input_shape().pixels();
        self.painter.normalise_gradient(&mut sketch.view);
        sketch.scratch.fill(T::ZERO);
        for (view, image) in sketch.view.chunks_exact(plane).zip(sketch.scratch.chunks_exact_mut(plane)) {
            sketch.sampling.add_gradient(view, image);
        }
        // The weight follows the size of the objective, so that it means the same for layers of large and of small numbers.
        let size = sketch.history.last().map_or(T::ZERO, |value| value.abs());
        add_variation(-self.variation * size, &sketch.image, self.plan.input_shape(), &mut sketch.scratch);
        self.painter.gradient(&sketch.image, &mut sketch.scratch, &mut sketch.gradient, &mut sketch.view);
        // What rules for pixels ask of the gradient is its sign upwards.
        let upwards = sketch.gradient.clone();
        sketch.gradient.iter_mut().for_each(|gradient| *gradient = -*gradient);
        let [mean, square] = &mut sketch.slots;
        let update = Update { learning_rate: self.recipe.learning_rate, weight_decay: 0.0, step: step as u64 };
        Optimizer::adamw().update(&self.machine, &mut sketch.numbers, &sketch.gradient, &mut [mean, square], &update);
        self.painter.after_step(step, &mut sketch.numbers, &upwards, &mut sketch.view);
    }
}

fn norm<T: Real>(values: &[T]) -> T {
    values.iter().map(|value| *value * *value).sum::<T>().sqrt()
}

/// Below this difference of neighbours total variation is rounded off.
const ROUND: f64 = 1e-3;

/// Adds `factor` times the gradient of the total variation, the sum over pixels and channels of √(Δy² + Δx² + ε²) with the
/// differences to the pixel below and to the right. Gives the total variation; 0 where the factor is.
pub(in crate::look) fn add_variation<T: Real>(factor: T, image: &[T], shape: Shape, gradient: &mut [T]) -> T {
    let mut total = T::ZERO;
    if factor == T::ZERO {
        return total;
    }
    let (h, w) = (shape.h, shape.w);
    for (image, gradient) in image.chunks_exact(h * w).zip(gradient.chunks_exact_mut(h * w)) {
        for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
            let here = y * w + x;
            let (below, right) = (if y + 1 < h { here + w } else { here }, if x + 1 < w { here + 1 } else { here });
            let (down, across) = (image[below] - image[here], image[right] - image[here]);
            let length = (down * down + across * across + T::from_f64(ROUND * ROUND)).sqrt();
            total += length;
            gradient[below] += factor * down / length;
            gradient[right] += factor * across / length;
            gradient[here] += -factor * (down + across) / length;
        }
    }
    total
}
