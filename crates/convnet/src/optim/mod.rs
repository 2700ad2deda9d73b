//! How parameters follow their gradients: update rules, schedules of the learning rate, averages of the weights.
//!
//! Weight decay is decoupled everywhere (Loshchilov and Hutter 2019): p ← p·(1 − η·λ) before the update, with the
//! learning rate η and the decay λ, and it applies to weights only ([`decays`]).

use std::fmt;
use std::str::FromStr;

use convnet_kernels::{Machine, Real, reduce, update};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::layer::Role;

mod adamw;
mod average;
mod schedule;
mod sgd;

pub use average::update_average;
pub use schedule::{Anneal, Schedule, ScheduleKind};

/// An update rule.
///
/// ```
/// use convnet::optim::{Optimizer, Update};
/// use convnet_kernels::{Isa, Machine};
///
/// let machine = Machine::new(Isa::detect(), 1);
/// let (mut parameter, gradient, mut velocity) = ([1.0_f32], [2.0], [0.0]);
/// let rate = Update { learning_rate: 0.1, weight_decay: 0.0, step: 1 };
/// Optimizer::sgd().update(&machine, &mut parameter, &gradient, &mut [&mut velocity], &rate);
/// assert_eq!((parameter, velocity), ([0.8], [2.0]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Optimizer {
    /// Stochastic gradient descent with momentum μ, as in PyTorch: the velocity is v ← μ·v + (1 − τ)·g with dampening τ,
    /// at the first step v ← g, and p ← p − η·v, or with Nesterov's look ahead p ← p − η·(g + μ·v).
    ///
    /// Torch7 took dampening = momentum where nothing else was said; here, as in PyTorch, it is 0.
    Sgd {
        /// μ, from 0 up to but not 1. At 0 there is no velocity.
        #[serde(default = "sgd::default_momentum")]
        momentum: f64,
        /// Whether to look ahead along the velocity (Sutskever et al. 2013). Needs momentum, and no dampening.
        #[serde(default)]
        nesterov: bool,
        /// τ, from 0 to 1.
        #[serde(default)]
        dampening: f64,
    },
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019), at step t from 1:
    /// m ← β₁·m + (1 − β₁)·g, v ← β₂·v + (1 − β₂)·g², p ← p − η·m̂ / (√v̂ + ε) with m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ).
    AdamW {
        /// β₁, from 0 up to but not 1.
        #[serde(default = "adamw::default_beta1")]
        beta1: f64,
        /// β₂, from 0 up to but not 1.
        #[serde(default = "adamw::default_beta2")]
        beta2: f64,
        /// ε, above 0.
        #[serde(default = "adamw::default_epsilon")]
        epsilon: f64,
    },
}

/// What changes from step to step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// η: the base rate times the [`Schedule`]'s factor.
    pub learning_rate: f64,
    /// λ: 0 for what does not decay, see [`decays`].
    pub weight_decay: f64,
    /// Number of the update, from 1.
    pub step: u64,
}

impl Update {
    /// What weight decay leaves of a parameter, 1 − η·λ.
    fn keep(&self) -> f64 {
        1.0 - self.learning_rate * self.weight_decay
    }
}

/// Whether weight decay applies: to weights, not to biases, the scales of normalisations and channels, and statistics.
pub fn decays(role: Role) -> bool {
    role == Role::Weight
}

impl Optimizer {
    /// The names that [`FromStr`] takes.
    pub const NAMES: [&'static str; 3] = ["sgd", "nesterov", "adamw"];

    /// Momentum 0.9.
    pub fn sgd() -> Self {
        Self::Sgd { momentum: sgd::default_momentum(), nesterov: false, dampening: 0.0 }
    }

    /// Nesterov momentum 0.9.
    pub fn nesterov() -> Self {
        Self::Sgd { momentum: sgd::default_momentum(), nesterov: true, dampening: 0.0 }
    }

    /// β₁ = 0.9, β₂ = 0.999, ε = 10⁻⁸.
    pub fn adamw() -> Self {
        Self::AdamW { beta1: adamw::default_beta1(), beta2: adamw::default_beta2(), epsilon: adamw::default_epsilon() }
    }

    /// Whether the settings are in their ranges and go together.
    ///
    /// # Errors
    /// The setting, its value and what it may be.
    pub fn check(&self) -> Result<()> {
        match *self {
            Self::Sgd { momentum, nesterov, dampening } => sgd::check(momentum, nesterov, dampening),
            Self::AdamW { beta1, beta2, epsilon } => adamw::check(beta1, beta2, epsilon),
        }
        .map_err(Error::Argument)
    }

    /// How many arrays of a parameter's length are kept from step to step. They begin as zeros.
    pub fn slots(&self) -> usize {
        match *self {
            Self::Sgd { momentum, .. } => usize::from(momentum > 0.0),
            Self::AdamW { .. } => 2,
        }
    }

    /// Changes one parameter by its gradient, in one pass over memory. `state` has [`slots`](Self::slots) arrays.
    ///
    /// # Panics
    /// If `state` has another number of arrays, or an array another length than `parameter`.
    pub fn update<T: Real>(&self, machine: &Machine, parameter: &mut [T], gradient: &[T], state: &mut [&mut [T]], rate: &Update) {
        match (*self, state) {
            (Self::Sgd { .. }, []) if self.slots() == 0 => update::descent(machine, rate.keep(), rate.learning_rate, gradient, parameter),
            (Self::Sgd { momentum, nesterov, dampening }, [velocity]) if self.slots() == 1 => {
                let step = sgd::step(momentum, nesterov, dampening, rate);
                update::momentum(machine, &step, gradient, velocity, parameter);
            }
            (Self::AdamW { beta1, beta2, epsilon }, [mean, square]) => {
                let step = adamw::step(beta1, beta2, epsilon, rate);
                update::adam(machine, &step, gradient, mean, square, parameter);
            }
            (_, state) => panic!("{self} keeps {} arrays for each parameter, not {}", self.slots(), state.len()),
        }
    }
}

impl Default for Optimizer {
    fn default() -> Self {
        Self::nesterov()
    }
}

impl fmt::Display for Optimizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Sgd { nesterov: false, .. } => "sgd",
            Self::Sgd { nesterov: true, .. } => "nesterov",
            Self::AdamW { .. } => "adamw",
        })
    }
}

impl FromStr for Optimizer {
    type Err = Error;

    /// The optimiser of that name with its usual settings.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "sgd" => Ok(Self::sgd()),
            "nesterov" => Ok(Self::nesterov()),
            "adamw" => Ok(Self::adamw()),
            _ => Err(Error::Argument(format!("'{name}' is not an optimiser; there are {}", Self::NAMES.join(", ")))),
        }
    }
}

/// Shortens all gradients together so that their Euclidean norm is at most `limit`, and returns the norm that they had.
/// Gradients whose norm is not finite are left as they are, for the caller to report.
pub fn clip_global_norm<T: Real, G: AsRef<[T]> + AsMut<[T]>>(machine: &Machine, gradients: &mut [G], limit: f64) -> f64 {
    let norm = gradients.iter().map(|gradient| reduce::sum_of_squares(machine, gradient.as_ref())).sum::<f64>().sqrt();
    if norm.is_finite() && norm > limit {
        let factor = T::from_f64(limit / norm);
        for gradient in gradients {
            gradient.as_mut().iter_mut().for_each(|value| *value *= factor);
        }
    }
    norm
}

#[cfg(test)]
mod tests {
    use convnet_kernels::Isa;

    use super::*;

    fn machine() -> Machine {
        Machine::new(Isa::detect(), 2)
    }

    #[test]
    fn every_name_reads_back_and_is_written_whole() {
        for name in Optimizer::NAMES {
            let optimizer: Optimizer = name.parse().unwrap();
            optimizer.check().unwrap();
            assert_eq!(optimizer.to_string(), name);
            let text = serde_json::to_string(&optimizer).unwrap();
            assert_eq!(serde_json::from_str::<Optimizer>(&text).unwrap(), optimizer, "{text}");
        }
        let text = serde_json::to_string(&Optimizer::sgd()).unwrap();
        assert_eq!(text, r#"{"kind":"sgd","momentum":0.9,"nesterov":false,"dampening":0.0}"#);
        assert_eq!(serde_json::from_str::<Optimizer>(r#"{"kind": "adamw"}"#).unwrap(), Optimizer::adamw());
        let error = "adam".parse::<Optimizer>().unwrap_err().to_string();
        assert!(error.contains("'adam'") && error.contains("adamw"), "{error}");
    }

    #[test]
    fn what_an_optimiser_does_not_know_is_refused() {
        for text in [r#"{"kind": "sgd", "beta1": 0.9}"#, r#"{"kind": "adamw", "eps": 1e-8}"#, r#"{"kind": "adam"}"#, "{}"] {
            assert!(serde_json::from_str::<Optimizer>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn settings_out_of_range_are_refused_with_their_value() {
        let sgd = |momentum, nesterov, dampening| Optimizer::Sgd { momentum, nesterov, dampening };
        let adamw = |beta1, beta2, epsilon| Optimizer::AdamW { beta1, beta2, epsilon };
        for (optimizer, part) in [
            (sgd(1.0, false, 0.0), "momentum is 1"),
            (sgd(-0.1, false, 0.0), "momentum is -0.1"),
            (sgd(f64::NAN, false, 0.0), "momentum is NaN"),
            (sgd(0.9, false, 1.5), "dampening is 1.5"),
            (sgd(0.0, true, 0.0), "momentum above 0"),
            (sgd(0.9, true, 0.5), "dampening 0, not 0.5"),
            (adamw(1.0, 0.999, 1e-8), "beta1 is 1"),
            (adamw(0.9, -1.0, 1e-8), "beta2 is -1"),
            (adamw(0.9, 0.999, 0.0), "epsilon is 0"),
            (adamw(0.9, 0.999, f64::INFINITY), "epsilon is inf"),
        ] {
            let error = optimizer.check().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn the_first_velocity_is_the_whole_gradient_whatever_the_dampening() {
        let torch7 = Optimizer::Sgd { momentum: 0.5, nesterov: false, dampening: 0.5 };
        let (mut parameter, mut velocity) = ([0.0_f64], [0.0]);
        let mut visited = Vec::new();
        for step in 1..=3 {
            let rate = Update { learning_rate: 1.0, weight_decay: 0.0, step };
            torch7.update(&machine(), &mut parameter, &[-8.0], &mut [&mut velocity], &rate);
            visited.push(parameter[0]);
        }
        // Velocities −8, 0.5·−8 + 0.5·−8, and the same again.
        assert_eq!(visited, [8.0, 16.0, 24.0]);
    }

    #[test]
    fn weight_decay_shrinks_the_parameter_and_not_the_gradient() {
        let rate = Update { learning_rate: 0.5, weight_decay: 0.5, step: 1 };
        for optimizer in
            [Optimizer::sgd(), Optimizer::nesterov(), Optimizer::adamw(), Optimizer::Sgd { momentum: 0.0, nesterov: false, dampening: 0.0 }]
        {
            let mut parameter = [4.0_f32, -8.0];
            let mut state = vec![vec![0.0; 2]; optimizer.slots()];
            let mut state: Vec<&mut [f32]> = state.iter_mut().map(Vec::as_mut_slice).collect();
            optimizer.update(&machine(), &mut parameter, &[0.0; 2], &mut state, &rate);
            assert_eq!(parameter, [3.0, -6.0], "{optimizer:?}");
            assert!(state.iter().all(|slot| slot.iter().all(|&value| value == 0.0)));
        }
        assert!(decays(Role::Weight));
        assert!(![Role::Bias, Role::Scale, Role::Buffer].into_iter().any(decays));
    }

    #[test]
    #[should_panic(expected = "keeps 2 arrays for each parameter, not 1")]
    fn a_state_of_another_optimiser_is_a_mistake_of_the_caller() {
        let rate = Update { learning_rate: 0.5, weight_decay: 0.5, step: 1 };
        Optimizer::adamw().update(&machine(), &mut [1.0], &[1.0], &mut [&mut [0.0]], &rate);
    }

    #[test]
    fn clipping_shortens_to_the_limit_and_never_lengthens() {
        let mut gradients = vec![vec![3.0_f32, 0.0], vec![0.0, 4.0, 0.0]];
        assert_eq!(clip_global_norm(&machine(), &mut gradients, 10.0), 5.0);
        assert_eq!(gradients, [vec![3.0, 0.0], vec![0.0, 4.0, 0.0]]);
        assert_eq!(clip_global_norm(&machine(), &mut gradients, 2.5), 5.0);
        assert_eq!(gradients, [vec![1.5, 0.0], vec![0.0, 2.0, 0.0]]);
        assert_eq!(clip_global_norm::<f32, Vec<f32>>(&machine(), &mut [], 1.0), 0.0);
        // Squares of these overflow in f32.
        let mut large = [[3e30_f32, 4e30]];
        assert!((clip_global_norm(&machine(), &mut large, 1.0) / 5e30 - 1.0).abs() < 1e-6);
        assert!((large[0][0] - 0.6).abs() < 1e-6 && (large[0][1] - 0.8).abs() < 1e-6, "{large:?}");
        let mut broken = [[f32::NAN, 100.0]];
        assert!(clip_global_norm(&machine(), &mut broken, 1.0).is_nan());
        assert_eq!(broken[0][1], 100.0);
        let many = [(0..1000).map(f64::from).collect::<Vec<_>>()];
        assert_eq!(clip_global_norm(&machine(), &mut many.clone(), f64::INFINITY), 332_833_500_f64.sqrt());
    }
}
