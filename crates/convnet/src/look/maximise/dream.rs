//! More of whatever a layer sees: an image that is changed until the layer answers to it more strongly ("deep dream",
//! Mordvintsev, Olah and Tyka, "Inceptionism", 2015).

use convnet_kernels::Machine;
use serde::Serialize;

use super::measure::Measure;
use super::{Colours, Maximiser, Objective, Recipe, Synthetic, name_of};
use crate::error::Result;
use crate::look::activated;
use crate::model::{Model, check_image};

/// An image changed for a layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dream {
    /// The changed image; its value is the mean square of the layer's numbers.
    #[serde(flatten)]
    pub image: Synthetic,
    /// The same of the image as it was.
    pub before: f32,
}

/// Steps that change an image visibly and leave it recognisable.
pub const DREAM_STEPS: usize = 24;

impl Recipe {
    /// A few steps from an image, which has no grain that total variation would have to take out.
    pub fn dream() -> Self {
        Self { steps: DREAM_STEPS, total_variation: 0.0, redirected: 0, ..Self::default() }
    }
}

/// Changes an image of bytes C×H×W so that the mean square of what a layer passes on, behind its ReLU where it has one, grows.
///
/// # Errors
/// There is no such layer, the image has another size, or those of [`Maximiser::run`].
pub fn dream(model: &Model, image: &[u8], layer: &str, recipe: &Recipe, colours: &Colours, seed: u64, machine: &Machine) -> Result<Dream> {
    let network = model.network();
    let node = activated(network, network.find(layer)?);
    check_image(network.input_shape(), image)?;
    let of_layer = Maximiser::new(model).layer(name_of(network, node)).objectives([Objective::Layer]);
    let made = of_layer.recipe(recipe.clone()).colours(colours.clone()).start(image).seed(seed).machine(machine.clone()).run()?;
    let mut before = 0.0;
    let write = |_: usize, values: &mut [f32]| model.normalisation().apply(image, values);
    Measure::new(model, node, machine)?.show(1, write, |_, values| before = Objective::Layer.value(values));
    // One objective gives one image.
    let image = made.into_iter().next().expect("an image for the objective");
    Ok(Dream { image: Synthetic { layer: layer.to_owned(), ..image }, before })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, Normalisation};
    use crate::initialise::{Initialisation, initial_parameters};
    use crate::network::Network;

    #[test]
    fn an_image_changes_and_the_layer_answers_more() {
        let network = Network::parse("input 1x28x28 -> conv 6 5x5 stride 2 -> relu -> conv 8 3x3 -> relu -> flatten -> fc 10").unwrap();
        let parameters = initial_parameters(&network, Initialisation::default(), 4).unwrap();
        let classes = (0..10).map(|class| class.to_string()).collect();
        let model = Model::new(network, parameters, classes, Normalisation { mean: vec![0.3], std: vec![0.35] }).unwrap();
        let (machine, split) = (Machine::detect().unwrap(), Dataset::embedded().test);
        let dreamt = |layer: &str| dream(&model, split.image(3), layer, &Recipe::dream(), &Colours::independent(1), 1, &machine);
        let found = dreamt("conv2").unwrap();
        assert_eq!((found.image.layer.as_str(), found.image.taken_at.as_str()), ("conv2", "relu2"));
        assert!(found.before > 0.0 && found.image.value > 1.2 * found.before, "{} {}", found.before, found.image.value);
        // Still much the same image: closer to it than to a grey one.
        let distance = |other: &[u8]| found.image.bytes().iter().zip(other).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum::<u64>();
        assert!(distance(split.image(3)) < distance(&[73; 784]));
        assert!(dreamt("conv9").unwrap_err().to_string().contains("conv9"));
        assert!(dream(&model, &[0; 3], "conv1", &Recipe::dream(), &Colours::independent(1), 1, &machine).is_err());
    }
}
