//! Every setting of a training, as `run.toml` keeps it.

use serde::{Deserialize, Serialize};

use crate::data::Augmentation;
use crate::error::{Error, Result};
use crate::initialise::Initialisation;
use crate::loss::Loss;
use crate::optim::{Anneal, Optimizer, Schedule, ScheduleKind};
use crate::plan::Purpose;

/// The settings of a training. With the network, the data and the program they fix its result to the bit; the number of
/// threads is not among them because it changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How often every training image is seen.
    pub epochs: usize,
    /// Images in one step.
    pub batch: usize,
    /// Fixes every random number.
    pub seed: u64,
    /// The largest learning rate of the schedule.
    pub learning_rate: f64,
    /// Decoupled weight decay: each step multiplies weights, but not biases and batch norm, by 1 − learning rate · this.
    pub weight_decay: f64,
    /// The largest norm of all gradients together; longer ones are shortened to it. `None` leaves them as they are.
    pub clip: Option<f64>,
    /// Epochs between evaluations on the test images; the last epoch is always evaluated.
    pub evaluate_every: usize,
    /// Steps between two logged losses.
    pub log_every: usize,
    /// Whether activations are computed again in backward instead of kept: less memory, more time, the same bits.
    #[serde(default)]
    pub recompute: bool,
    /// Epochs between snapshots of the model, to see later how it came to be; with one from before the first step and one of
    /// the last epoch. `None` keeps none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look_every: Option<usize>,
    /// What parameters are before training.
    pub initialisation: Initialisation,
    /// How gradients become updates.
    pub optimizer: Optimizer,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// What is minimised.
    pub loss: Loss,
    /// How training images are varied.
    pub augmentation: Augmentation,
}

impl Default for Settings {
    /// The recipe for small images: Nesterov momentum, one cycle of the learning rate, shifts and flips.
    fn default() -> Self {
        Self {
            epochs: 20,
            batch: 50,
            seed: 0,
            learning_rate: Self::usual_rate(&Optimizer::default()),
            weight_decay: Self::usual_decay(&Optimizer::default()),
            clip: None,
            evaluate_every: 1,
            log_every: 10,
            recompute: false,
            look_every: None,
            initialisation: Initialisation::default(),
            optimizer: Optimizer::default(),
            schedule: Schedule { kind: ScheduleKind::OneCycle { peak: 0.25, start: 0.1, end: 0.001, anneal: Anneal::Linear }, warmup: 0.0 },
            loss: Loss::CrossEntropy { smoothing: 0.1, weights: None },
            augmentation: Augmentation { shift: 2, flip: true, ..Augmentation::default() },
        }
    }
}

impl Settings {
    /// A learning rate that usually works for an optimiser.
    pub fn usual_rate(optimizer: &Optimizer) -> f64 {
        match optimizer {
            Optimizer::Sgd { .. } => 0.1,
            Optimizer::AdamW { .. } => 0.002,
        }
    }

    /// A weight decay that usually works for an optimiser.
    pub fn usual_decay(optimizer: &Optimizer) -> f64 {
        match optimizer {
            Optimizer::Sgd { .. } => 5e-4,
            Optimizer::AdamW { .. } => 0.05,
        }
    }

    /// The purpose of a training's plan.
    pub fn purpose(&self) -> Purpose {
        if self.recompute { Purpose::TrainRecomputing } else { Purpose::Train }
    }

    /// Refuses settings that no training can have.
    ///
    /// # Errors
    /// A setting is out of its range; the message names it with the range.
    pub fn check(&self, image: [usize; 3], classes: usize) -> Result<()> {
        let at_least_one = [
            ("epochs", self.epochs),
            ("batch", self.batch),
            ("evaluate_every", self.evaluate_every),
            ("log_every", self.log_every),
            ("look_every", self.look_every.unwrap_or(1)),
        ];
        if let Some((name, _)) = at_least_one.iter().find(|(_, value)| *value == 0) {
            return Err(Error::Argument(format!("{name} is 0; it must be at least 1")));
        }
        let positive = [("learning_rate", Some(self.learning_rate)), ("clip", self.clip)];
        if let Some((name, Some(value))) = positive.iter().find(|(_, value)| value.is_some_and(|value| !(value.is_finite() && value > 0.0)))
        {
            return Err(Error::Argument(format!("{name} is {value}; it must be a number above 0")));
        }
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0 && self.weight_decay * self.learning_rate < 1.0) {
            return Err(Error::Argument(format!(
                "weight_decay is {}; it must be at least 0, and below 1 / learning_rate ({})",
                self.weight_decay,
                1.0 / self.learning_rate
            )));
        }
        self.optimizer.check()?;
        self.schedule.check()?;
        self.loss.check(classes)?;
        self.augmentation.check(image)
    }
}
