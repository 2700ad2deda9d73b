//! Coefficients of stochastic gradient descent with momentum; the formula stands at
//! [`Optimizer::Sgd`](super::Optimizer::Sgd).

use convnet_kernels::update::Momentum;

use super::Update;

pub(super) fn default_momentum() -> f64 {
    0.9
}

pub(super) fn check(momentum: f64, nesterov: bool, dampening: f64) -> Result<(), String> {
    if !(0.0..1.0).contains(&momentum) {
        return Err(format!("momentum is {momentum}, but it is at least 0 and below 1"));
    }
    if !(0.0..=1.0).contains(&dampening) {
        return Err(format!("dampening is {dampening}, but it is from 0 to 1"));
    }
    if nesterov && momentum == 0.0 {
        return Err("Nesterov's look ahead needs momentum above 0; set momentum, or nesterov to false".into());
    }
    if nesterov && dampening > 0.0 {
        return Err(format!("Nesterov's look ahead needs dampening 0, not {dampening}; set dampening to 0, or nesterov to false"));
    }
    Ok(())
}

/// The coefficients of update number `rate.step`. The first takes the whole gradient as its velocity.
pub(super) fn step(momentum: f64, nesterov: bool, dampening: f64, rate: &Update) -> Momentum {
    let (retain, take) = if rate.step <= 1 { (0.0, 1.0) } else { (momentum, 1.0 - dampening) };
    Momentum { keep: rate.keep(), rate: rate.learning_rate, retain, take, look_ahead: nesterov.then_some(momentum) }
}
