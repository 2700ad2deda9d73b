//! From a code back to an image: what a layer still knows of the image it saw (Mahendran and Vedaldi, "Understanding deep image
//! representations by inverting them", 2015). Minimised over images x by Adam is
//!
//! ```text
//! ‖Φ(x) − Φ₀‖²/‖Φ₀‖² + λ·TV(x) + μ·mean(v²)
//! ```
//!
//! with Φ the network up to the layer, Φ₀ the code, TV the mean over all numbers of the difference to the pixels below and to
//! the right, and v the image as the network sees it. An image is its own pixels or a sum of waves, as in
//! [maximisation](crate::look::maximise). The learning rate falls along a cosine.
//!
//! The first layers lose nothing, so nearly the same image comes back; the last ones keep what the classes need, and what
//! they have lost is drawn from nothing: an inversion is **synthetic**.

use convnet_kernels::{Machine, Real};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::look::attribution::scores;
use crate::look::maximise::{Colours, Painter, Parametrisation, PixelRules, add_variation};
use crate::look::similarity::passes_on;
use crate::look::viewer::batch_for;
use crate::model::{Model, check_image};
use crate::network::{Network, NodeId, Parameters};
use crate::optim::{Optimizer, Update};
use crate::plan::{Plan, Purpose, RectifierRule, Seed};
use crate::random::{self, Address};
use crate::shape::Shape;
use crate::tensor::from_channels_last;

/// The first coordinate of the random numbers that images begin with.
const INVERT: u64 = 110;

/// The longest side of images that are looked for as pixels.
const SMALL: usize = 64;

/// How images are looked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InversionRecipe {
    /// Steps of descent.
    pub steps: usize,
    /// Adam's learning rate at the first step, in the numbers of the parametrisation.
    pub learning_rate: f64,
    /// What an image is made of.
    pub parametrisation: Parametrisation,
    /// λ, of the total variation.
    pub total_variation: f64,
    /// μ, of the squares of the numbers that the network sees.
    pub square: f64,
}

impl Default for InversionRecipe {
    /// Pixels with a little against total variation, as in the paper: black and white are reached, and what a layer has lost is
    /// left even instead of becoming grain.
    fn default() -> Self {
        Self {
            steps: 600,
            learning_rate: 0.4,
            parametrisation: Parametrisation::Pixels(PixelRules::NONE),
            total_variation: 0.2,
            square: 0.0,
        }
    }
}

impl InversionRecipe {
    /// What suits images of this size, C×H×W: pixels for small ones. Of large ones, where a code leaves most pixels open, pixels
    /// end as grain, and waves as the coarse shapes that the layer knows of.
    pub fn suited([_, h, w]: [usize; 3]) -> Self {
        if h.max(w) <= SMALL { Self::default() } else { Self { steps: 300, ..Self::waves() } }
    }

    /// Waves, as for maximisation.
    pub fn waves() -> Self {
        Self {
            learning_rate: 0.2,
            parametrisation: Parametrisation::Fourier { decay: Some(1.0) },
            total_variation: 0.05,
            ..Self::default()
        }
    }

    /// # Errors
    /// A setting is out of its range; the message names it.
    fn check(&self) -> Result<()> {
        let refuse = |problem: String| Err(Error::Argument(problem));
        if !(1..=1_000_000).contains(&self.steps) {
            return refuse(format!("{} steps of inversion are asked for; possible are 1 to 1000000", self.steps));
        }
        for (name, value, least) in [
            ("the learning rate", self.learning_rate, f64::MIN_POSITIVE),
            ("the weight of the total variation", self.total_variation, 0.0),
            ("the weight of the squares", self.square, 0.0),
        ] {
            if !(value.is_finite() && value >= least) {
                return refuse(format!(
                    "{name} of an inversion is {value}; it is a number {}",
                    if least > 0.0 { "above 0" } else { "of at least 0" }
                ));
            }
        }
        self.parametrisation.problem().map_or(Ok(()), refuse)
    }
}

/// An image that was found for a code.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inversion {
    /// The layer whose output is the code.
    pub layer: String,
    /// Channels, height and width of the image.
    pub size: [usize; 3],
    /// The image, C×H×W, each number in 0 … 1.
    #[serde(skip)]
    pub image: Vec<f32>,
    /// ‖Φ(x) − Φ₀‖²/‖Φ₀‖² of the image as [`bytes`](Self::bytes).
    pub error: f64,
    /// The same of the image that the search began with.
    pub start_error: f64,
    /// Root of the mean square of the difference to the image that the code is of, of numbers 0 … 1.
    pub difference: f64,
}

impl Inversion {
    /// The image as bytes 0 to 255, C×H×W.
    pub fn bytes(&self) -> Vec<u8> {
        self.image.iter().map(|value| (255.0 * value).round() as u8).collect()
    }
}

/// Looks for images, bytes C×H×W, that have the codes of these at a layer; nothing for a code that is 0 or not finite.
/// `colours` are those of the data; without, each channel stands for itself.
///
/// # Errors
/// There is no such layer, an image has another size, a setting is out of range, or memory cannot be had.
pub fn invert(
    model: &Model,
    images: &[&[u8]],
    layer: &str,
    recipe: &InversionRecipe,
    colours: Option<&Colours>,
    seed: u64,
    machine: &Machine,
) -> Result<Vec<Option<Inversion>>> {
    recipe.check()?;
    let (network, size) = (model.network(), model.image_size());
    let node = network.find(layer)?;
    for image in images {
        check_image(network.input_shape(), image)?;
    }
    let independent = Colours::independent(size[0]);
    let colours = colours.unwrap_or(&independent);
    if colours.channels() != size[0] {
        return Err(Error::Argument(format!(
            "colours of {} channels for images of {}; take both of one data set",
            colours.channels(),
            size[0]
        )));
    }
    let batch = batch_for::<f32>(network, machine)?.min(images.len()).max(1);
    let mut search = Search {
        plan: Plan::new(network, batch, Purpose::Inspect, machine)?,
        parameters: model.parameters(),
        node,
        shape: network.shape(node),
        painter: Painter::new(recipe.parametrisation, size, model.normalisation(), colours, machine.isa),
        recipe: recipe.clone(),
    };
    let mut done = Vec::with_capacity(images.len());
    for (group, images) in images.chunks(batch).enumerate() {
        let targets = search.codes(images, model);
        let address = Address::new(seed, random::Purpose::Look).then(INVERT).then(node.index() as u64);
        let start = |place: usize| Sketch::new(search.painter.start(&mut address.then((group * batch + place) as u64).random()));
        let mut sketches: Vec<Sketch<f32>> = (0..images.len()).map(start).collect();
        let start_errors = search.descend(&mut sketches, &targets);
        let found: Vec<Vec<u8>> = sketches.iter().map(|sketch| bytes(&sketch.image)).collect();
        let again = search.codes(&found.iter().map(Vec::as_slice).collect::<Vec<_>>(), model);
        for (place, sketch) in sketches.into_iter().enumerate() {
            let inversion = Inversion {
                layer: layer.to_owned(),
                size,
                error: distance(&again[place], &targets[place]).to_f64(),
                start_error: start_errors[place].to_f64(),
                difference: difference(&found[place], images[place]),
                image: sketch.image,
            };
            // Nothing can be measured against a code that is 0.
            done.push((inversion.error.is_finite() && inversion.start_error.is_finite()).then_some(inversion));
        }
    }
    Ok(done)
}

/// At most `most` layers whose inversion tells the most: of each run of layers with outputs of one size the last, up to the
/// scores before a softmax.
pub fn invertible(network: &Network, most: usize) -> Vec<String> {
    let scores = scores(network);
    let mut runs: Vec<(Shape, NodeId)> = Vec::new();
    let nodes = network.layers().filter(|(id, node)| id.index() <= scores.index() && !passes_on(node.layer()));
    for (id, _) in nodes {
        let shape = network.shape(id);
        match runs.last_mut() {
            Some((last, of)) if last.chw() == shape.chw() => *of = id,
            _ => runs.push((shape, id)),
        }
    }
    let count = most.min(runs.len());
    // The first and the last, and others evenly between them.
    let place = |number: usize| if count == 1 { runs.len() - 1 } else { number * (runs.len() - 1) / (count - 1) };
    let name = |number: usize| network.node(runs[place(number)].1).map(|node| node.name().to_owned());
    (0..count).filter_map(name).collect()
}

fn bytes(image: &[f32]) -> Vec<u8> {
    image.iter().map(|value| (255.0 * value).round() as u8).collect()
}

/// Root of the mean square of the difference, of numbers 0 … 1.
fn difference(a: &[u8], b: &[u8]) -> f64 {
    let squares: u64 = a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum();
    (squares as f64 / a.len().max(1) as f64).sqrt() / 255.0
}

fn square<T: Real>(code: &[T]) -> T {
    code.iter().map(|value| *value * *value).sum()
}

/// ‖a − b‖²/‖b‖².
fn distance<T: Real>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).map(|(a, b)| (*a - *b) * (*a - *b)).sum::<T>() / square(b)
}

/// One image under way.
#[derive(Clone, Debug)]
struct Sketch<T> {
    numbers: Vec<T>,
    gradient: Vec<T>,
    /// Adam's memory.
    slots: [Vec<T>; 2],
    /// The image, C×H×W in 0 … 1.
    image: Vec<T>,
    /// The image as the network sees it, then the gradient of it.
    seen: Vec<T>,
    scratch: Vec<T>,
    /// What is minimised.
    loss: T,
}

impl<T: Real> Sketch<T> {
    fn new(numbers: Vec<T>) -> Self {
        let zeros = || vec![T::ZERO; numbers.len()];
        Self { gradient: zeros(), slots: [zeros(), zeros()], image: zeros(), seen: zeros(), scratch: zeros(), loss: T::ZERO, numbers }
    }
}

/// Everything that all images share.
struct Search<'a, T> {
    plan: Plan<T>,
    parameters: &'a Parameters<T>,
    node: NodeId,
    shape: Shape,
    painter: Painter<T>,
    recipe: InversionRecipe,
}

impl Search<'_, f32> {
    /// The codes of at most one batch of images of bytes.
    fn codes(&mut self, images: &[&[u8]], model: &Model) -> Vec<Vec<f32>> {
        let mut values = vec![0.0; self.plan.input_shape().count()];
        for (image, values) in images.iter().zip(values.chunks_exact_mut(self.painter.count())) {
            model.normalisation().apply(image, values);
        }
        self.run(&values, images.len())
    }
}

impl<T: Real> Search<'_, T> {
    /// The codes, C×H×W, of the first `count` images of a batch.
    fn run(&mut self, images: &[T], count: usize) -> Vec<Vec<T>> {
        self.plan.forward_until(self.parameters, images, self.node);
        let Some(activation) = self.plan.activation(self.node) else { return Vec::new() };
        activation.values().chunks_exact(self.shape.image()).take(count).map(<[T]>::to_vec).collect()
    }

    /// Takes all steps with at most one batch of images, draws the last ones, and tells how far from the codes the first were.
    fn descend(&mut self, sketches: &mut [Sketch<T>], targets: &[Vec<T>]) -> Vec<T> {
        let mut first = Vec::new();
        for step in 1..=self.recipe.steps {
            let distances = self.evaluate(sketches, targets);
            if step == 1 {
                first = distances;
            }
            let share = (step - 1) as f64 / self.recipe.steps as f64;
            let rate = self.recipe.learning_rate * 0.5 * (1.0 + libm::cos(std::f64::consts::PI * share));
            let update = Update { learning_rate: rate, weight_decay: 0.0, step: step as u64 };
            self.for_each(sketches, |search, _, sketch| {
                let [mean, square] = &mut sketch.slots;
                Optimizer::adamw().update(search.plan.machine(), &mut sketch.numbers, &sketch.gradient, &mut [mean, square], &update);
                search.painter.after_step(step, &mut sketch.numbers, &sketch.gradient, &mut sketch.scratch);
            });
        }
        self.for_each(sketches, |search, _, sketch| search.painter.paint(&sketch.numbers, &mut sketch.image, &mut sketch.scratch));
        first
    }

    /// Draws the images, and writes what is minimised and its gradient. Gives the distances of the codes alone.
    fn evaluate(&mut self, sketches: &mut [Sketch<T>], targets: &[Vec<T>]) -> Vec<T> {
        let (count, code) = (self.painter.count(), self.shape.image());
        self.for_each(sketches, |search, _, sketch| {
            search.painter.paint(&sketch.numbers, &mut sketch.image, &mut sketch.scratch);
            sketch.seen.copy_from_slice(&sketch.image);
            search.painter.normalise(&mut sketch.seen);
        });
        let mut images = vec![T::ZERO; self.plan.input_shape().count()];
        sketches.iter().zip(images.chunks_exact_mut(count)).for_each(|(sketch, image)| image.copy_from_slice(&sketch.seen));
        let codes = self.run(&images, sketches.len());
        let mut seeds = vec![T::ZERO; self.shape.with_batch(self.plan.batch()).count()];
        let two = T::ONE + T::ONE;
        for ((seed, code), target) in seeds.chunks_exact_mut(code).zip(&codes).zip(targets) {
            let factor = two / square(target);
            for (seed, (code, target)) in seed.iter_mut().zip(code.iter().zip(target)) {
                *seed = factor * (*code - *target);
            }
        }
        self.plan.backward_from(self.parameters, &[Seed { at: self.node, gradient: &seeds }], RectifierRule::Gradient);
        let distances: Vec<T> = codes.iter().zip(targets).map(|(code, target)| distance(code, target)).collect();
        if let Some(gradient) = self.plan.stored_gradient(NodeId::IMAGE) {
            let one = gradient.shape.with_batch(1);
            for (sketch, gradient) in sketches.iter_mut().zip(gradient.values.chunks_exact(count)) {
                from_channels_last(one, gradient, &mut sketch.scratch);
            }
            self.for_each(sketches, |search, place, sketch| search.finish(sketch, distances[place]));
        }
        distances
    }

    /// From the gradient of what the network sees, in `scratch`, to that of the numbers, with what is asked of the image itself.
    fn finish(&self, sketch: &mut Sketch<T>, distance: T) {
        let count = T::from_usize(self.painter.count());
        let (variation, weight) = (T::from_f64(self.recipe.total_variation) / count, T::from_f64(self.recipe.square) / count);
        for (gradient, seen) in sketch.scratch.iter_mut().zip(&sketch.seen) {
            *gradient += (weight + weight) * *seen;
        }
        self.painter.normalise_gradient(&mut sketch.scratch);
        let total = add_variation(variation, &sketch.image, self.plan.input_shape(), &mut sketch.scratch);
        sketch.loss = distance + variation * total + weight * square(&sketch.seen);
        self.painter.gradient(&sketch.image, &mut sketch.scratch, &mut sketch.gradient, &mut sketch.seen);
    }

    fn for_each(&self, sketches: &mut [Sketch<T>], work: impl Fn(&Self, usize, &mut Sketch<T>) + Sync)
    where
        Self: Sync,
    {
        self.plan.machine().threads.chunks_mut(sketches, 1, |place, sketch| work(self, place, &mut sketch[0]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, Normalisation, Split};
    use crate::initialise::{Initialisation, initial_parameters};
    use crate::layer::single::GRADIENT_TOLERANCE;
    use convnet_kernels::Isa;

    fn machine(threads: usize) -> Machine {
        Machine::new(Isa::detect(), threads)
    }

    fn model() -> Model {
        let text = "input 1x28x28 -> conv 8 5x5 -> relu -> conv 12 5x5 stride 2 -> relu -> maxpool 2 -> flatten -> fc 10 -> softmax";
        let network = Network::parse(text).unwrap();
        let parameters = initial_parameters(&network, Initialisation::default(), 3).unwrap();
        let data = Dataset::embedded();
        Model::new(network, parameters, data.classes, Normalisation::of(&data.test)).unwrap()
    }

    #[test]
    fn the_gradient_is_that_of_what_is_minimised() {
        let text = "input 3x8x9 -> conv 4 3x3 pad 1 -> bn -> relu -> add( conv 4 3x3 pad 1 | identity ) -> maxpool 2 -> flatten -> fc 5";
        let network = Network::parse(text).unwrap();
        let parameters: Parameters<f64> = initial_parameters(&network, Initialisation::default(), 4).unwrap().cast();
        let split = Split::new([3, 8, 9], (0..216).map(|i| (i * 89 % 253) as u8).collect(), vec![0]).unwrap();
        let [waves, pixels] = [InversionRecipe::waves(), InversionRecipe::default()].map(|recipe| recipe.parametrisation);
        for (layer, parametrisation) in [("bn1", waves), ("fc1", waves), ("add1", pixels)] {
            let node = network.find(layer).unwrap();
            let mut search = Search {
                plan: Plan::<f64>::new(&network, 1, Purpose::Inspect, &machine(1)).unwrap(),
                parameters: &parameters,
                node,
                shape: network.shape(node),
                painter: Painter::new(parametrisation, [3, 8, 9], &Normalisation::of(&split), &Colours::of(&split), Isa::detect()),
                recipe: InversionRecipe { total_variation: 0.3, square: 0.2, ..InversionRecipe::default() },
            };
            let mut random = Address::new(5, random::Purpose::Check).random();
            let target: Vec<f64> = (0..network.shape(node).image()).map(|_| random.normal()).collect();
            let sketch = Sketch::new((0..216).map(|_| 0.3 * random.normal()).collect::<Vec<f64>>());
            let mut at = |place: usize, change: f64| {
                let mut moved = vec![sketch.clone()];
                moved[0].numbers[place] += change;
                search.evaluate(&mut moved, std::slice::from_ref(&target));
                moved.remove(0)
            };
            let gradient = at(0, 0.0).gradient;
            for place in (0..216).step_by(7) {
                let difference = (at(place, 1e-6).loss - at(place, -1e-6).loss) / 2e-6;
                let error = (difference - gradient[place]).abs() / difference.abs().max(1.0);
                assert!(error < GRADIENT_TOLERANCE, "{layer} {place}: {} and {difference}", gradient[place]);
            }
        }
    }

    #[test]
    fn the_first_layer_gives_the_image_back_and_deeper_ones_less_of_it() {
        let (model, split) = (model(), Dataset::embedded().test);
        let images = [split.image(0), split.image(11)];
        let found = |layer: &str, threads: usize| {
            let found = invert(&model, &images, layer, &InversionRecipe::default(), None, 1, &machine(threads)).unwrap();
            found.into_iter().map(Option::unwrap).collect::<Vec<Inversion>>()
        };
        let (first, last) = (found("conv1", 1), found("fc1", 1));
        for image in 0..2 {
            let [first, last] = [&first[image], &last[image]].map(|found| (found.error, found.start_error, found.difference));
            assert!(first.0 < 5e-3 && first.2 < 0.03, "nearly the same image: {first:?}");
            assert!(last.0 < 0.1 * last.1, "the same scores: {last:?}");
            assert!(last.2 > 3.0 * first.2, "scores do not hold an image: {first:?} {last:?}");
        }
        for threads in [2, 3] {
            assert_eq!(found("conv1", threads), first);
        }
    }

    #[test]
    fn waves_get_near_the_code_too() {
        let (model, split) = (model(), Dataset::embedded().test);
        let recipe = InversionRecipe { steps: 300, ..InversionRecipe::waves() };
        let found = invert(&model, &[split.image(3)], "relu2", &recipe, None, 1, &machine(2)).unwrap();
        let found = found[0].as_ref().unwrap();
        assert!(found.error < 0.2 * found.start_error, "{} {}", found.error, found.start_error);
    }

    #[test]
    fn a_code_that_is_0_has_no_image() {
        let network = Network::parse("input 1x4x4 -> conv 2 3x3 -> relu -> flatten -> fc 2").unwrap();
        let dead = Parameters::build(&network, |_, spec| vec![-1.0; spec.count()]).unwrap();
        let normalisation = Normalisation { mean: vec![0.0], std: vec![1.0] };
        let model = Model::new(network, dead, vec!["a".into(), "b".into()], normalisation).unwrap();
        let found = |layer: &str| invert(&model, &[&[90; 16]], layer, &InversionRecipe::default(), None, 1, &machine(1)).unwrap();
        assert_eq!(found("relu1"), [None]);
        assert!(found("conv1")[0].is_some());
    }

    #[test]
    fn layers_are_chosen_by_their_size_and_wrong_settings_are_told() {
        let model = model();
        assert_eq!(invertible(model.network(), 9), ["relu1", "relu2", "maxpool1", "fc1"]);
        assert_eq!(invertible(model.network(), 2), ["relu1", "fc1"]);
        let image = [0; 784];
        let told =
            |layer: &str, recipe: InversionRecipe| invert(&model, &[&image], layer, &recipe, None, 1, &machine(1)).unwrap_err().to_string();
        assert!(told("conv7", InversionRecipe::default()).contains("conv1, relu1"));
        assert!(told("fc1", InversionRecipe { steps: 0, ..InversionRecipe::default() }).contains("steps"));
        assert!(told("fc1", InversionRecipe { square: -1.0, ..InversionRecipe::default() }).contains("squares"));
        let colours = Colours::independent(3);
        assert!(invert(&model, &[&image], "fc1", &InversionRecipe::default(), Some(&colours), 1, &machine(1)).is_err());
        assert!(invert(&model, &[&image[..9]], "fc1", &InversionRecipe::default(), None, 1, &machine(1)).is_err());
    }
}
