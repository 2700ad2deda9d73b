//! How images are looked for.

use serde::Serialize;

use super::paint::{Parametrisation, PixelRules};
use super::view::Views;
use crate::error::{Error, Result};

/// The settings of an activation maximisation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recipe {
    /// Steps of ascent.
    pub steps: usize,
    /// Adam's learning rate, in the numbers of the parametrisation.
    pub learning_rate: f64,
    /// What an image is made of.
    pub parametrisation: Parametrisation,
    /// How far each step's view of the image may differ; `None` for what suits the size of the image, or of the receptive
    /// field where that is smaller.
    pub views: Option<Views>,
    /// What total variation costs: this share of the objective for a mean difference of neighbouring pixels of 1, from black to
    /// white. The mean is over as many pixels as the neuron sees, at least 8×8.
    pub total_variation: f32,
    /// Images for each objective: a group that is kept diverse.
    pub copies: usize,
    /// How much the likeness within a group counts against its objectives.
    pub diversity: f32,
    /// First steps in which gradients that die at ReLUs are redirected, so that silent neurons wake.
    pub redirected: usize,
}

impl Default for Recipe {
    /// Waves, decorrelated colours, random views, a little against total variation.
    fn default() -> Self {
        Self {
            steps: 192,
            learning_rate: 0.05,
            parametrisation: Parametrisation::Fourier { decay: None },
            views: None,
            total_variation: 0.5,
            copies: 1,
            diversity: 1.0,
            redirected: 16,
        }
    }
}

impl Recipe {
    /// Gradient ascent on the pixels with nothing against grain: what the others are compared with.
    pub fn unregularised() -> Self {
        Self {
            parametrisation: Parametrisation::Pixels(PixelRules::NONE),
            views: Some(Views::NONE),
            total_variation: 0.0,
            ..Self::default()
        }
    }

    /// Gradient ascent on the pixels with decay, blur and clipping, after Yosinski and others.
    pub fn pixels() -> Self {
        Self {
            parametrisation: Parametrisation::Pixels(PixelRules::USUAL),
            views: Some(Views::NONE),
            total_variation: 0.0,
            ..Self::default()
        }
    }

    /// Refuses settings that no ascent can have.
    ///
    /// # Errors
    /// A setting is out of its range; the message names it.
    pub fn check(&self) -> Result<()> {
        let refuse = |problem: String| Err(Error::Argument(problem));
        if !(1..=MOST_STEPS).contains(&self.steps) {
            return refuse(format!("{} steps are asked for; possible are 1 to {MOST_STEPS}", self.steps));
        }
        if !(1..=MOST_COPIES).contains(&self.copies) {
            return refuse(format!("{} images for each objective are asked for; possible are 1 to {MOST_COPIES}", self.copies));
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return refuse(format!("the learning rate is {}; it must be a number above 0", self.learning_rate));
        }
        for (name, value) in [("total variation", self.total_variation), ("diversity", self.diversity)] {
            if !(value.is_finite() && value >= 0.0) {
                return refuse(format!("the weight of the {name} is {value}; it must be a number of at least 0"));
            }
        }
        let problem = self.views.and_then(|views| views.problem()).or_else(|| self.parametrisation.problem());
        problem.map_or(Ok(()), refuse)
    }
}

const MOST_STEPS: usize = 1_000_000;
const MOST_COPIES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_named() {
        let default = Recipe::default;
        assert!([default(), Recipe::unregularised(), Recipe::pixels()].iter().all(|recipe| recipe.check().is_ok()));
        let wrong = [
            (Recipe { steps: 0, ..default() }, "steps"),
            (Recipe { copies: 0, ..default() }, "images for each objective"),
            (Recipe { learning_rate: f64::NAN, ..default() }, "learning rate"),
            (Recipe { diversity: -1.0, ..default() }, "diversity"),
            (Recipe { total_variation: f32::INFINITY, ..default() }, "total variation"),
            (Recipe { views: Some(Views { scale: 2.0, ..Views::NONE }), ..default() }, "views"),
            (Recipe { parametrisation: Parametrisation::Fourier { decay: Some(-1.0) }, ..default() }, "decay"),
        ];
        for (recipe, name) in wrong {
            assert!(recipe.check().unwrap_err().to_string().contains(name), "{name}");
        }
    }
}
