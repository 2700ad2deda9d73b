//! Coefficients of Adam with decoupled weight decay; the formula stands at
//! [`Optimizer::AdamW`](super::Optimizer::AdamW).

use convnet_kernels::update::Adam;

use super::Update;

pub(super) fn default_beta1() -> f64 {
    0.9
}

pub(super) fn default_beta2() -> f64 {
    0.999
}

pub(super) fn default_epsilon() -> f64 {
    1e-8
}

pub(super) fn check(beta1: f64, beta2: f64, epsilon: f64) -> Result<(), String> {
    for (name, beta) in [("beta1", beta1), ("beta2", beta2)] {
        if !(0.0..1.0).contains(&beta) {
            return Err(format!("{name} is {beta}, but it is at least 0 and below 1"));
        }
    }
    // Below the smallest normal f32, ε would vanish beside a gradient of 0, and 0/0 is not a number.
    if !(f64::from(f32::MIN_POSITIVE)..=1.0).contains(&epsilon) {
        return Err(format!("epsilon is {epsilon}, but it is from {:e} to 1", f32::MIN_POSITIVE));
    }
    Ok(())
}

/// The coefficients of update number `rate.step`: the sums m and v began at 0 and hold only 1 − βᵗ of their full weight.
pub(super) fn step(beta1: f64, beta2: f64, epsilon: f64, rate: &Update) -> Adam {
    let missing = |beta: f64| libm::pow(beta, rate.step.max(1) as f64);
    Adam {
        keep: rate.keep(),
        rate: rate.learning_rate / (1.0 - missing(beta1)),
        beta1,
        beta2,
        correction: 1.0 / (1.0 - missing(beta2)).sqrt(),
        epsilon,
    }
}
