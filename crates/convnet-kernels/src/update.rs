//! How gradients change parameters: each routine is one pass over memory.
//!
//! The coefficients are computed once in `f64` and rounded to the parameters' type; the passes use no fused operations,
//! so every instruction set and every number of threads gives the same bits.

use crate::threads::{Pieces, Threads};
use crate::{Machine, Real, per_isa};

/// Numbers that one piece of work covers.
const PIECE: usize = 8192;

/// Calls `work` for pieces of `source` and of the arrays that go with it.
fn pieces<T: Real, const N: usize>(threads: &Threads, source: &[T], arrays: [&mut [T]; N], work: impl Fn(&[T], [&mut [T]; N]) + Sync) {
    for array in &arrays {
        assert_eq!(array.len(), source.len(), "every array of an update has the parameter's length");
    }
    let arrays = arrays.map(|array| Pieces::new(array, PIECE));
    threads.run(source.len().div_ceil(PIECE), |index| {
        let start = index * PIECE;
        // SAFETY: `run` hands out each index once, and the arrays are different slices.
        let chunks = std::array::from_fn(|array| unsafe { arrays[array].get(index) });
        work(&source[start..source.len().min(start + PIECE)], chunks);
    });
}

per_isa! {
    fn descent_piece<T: Real>(gradient: &[T], parameter: &mut [T], keep: T, rate: T) {
        for (p, &g) in parameter.iter_mut().zip(gradient) {
            *p = keep * *p - rate * g;
        }
    }
}

/// p ← keep·p − rate·g: gradient descent.
///
/// # Panics
/// If the slices differ in length.
pub fn descent<T: Real>(machine: &Machine, keep: f64, rate: f64, gradient: &[T], parameter: &mut [T]) {
    let (keep, rate) = (T::from_f64(keep), T::from_f64(rate));
    pieces(&machine.threads, gradient, [parameter], |g, [p]| descent_piece(machine.isa, g, p, keep, rate));
}

/// Coefficients of [`momentum`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Momentum {
    /// What the parameter is multiplied with: weight decay.
    pub keep: f64,
    /// The learning rate.
    pub rate: f64,
    /// What the velocity is multiplied with.
    pub retain: f64,
    /// What the gradient is multiplied with before it is added to the velocity.
    pub take: f64,
    /// Nesterov's look ahead: the share of the velocity that is added to the gradient.
    pub look_ahead: Option<f64>,
}

per_isa! {
    fn momentum_piece<T: Real>(gradient: &[T], velocity: &mut [T], parameter: &mut [T], keep: T, rate: T, retain: T, take: T) {
        for ((p, v), &g) in parameter.iter_mut().zip(velocity).zip(gradient) {
            *v = retain * *v + take * g;
            *p = keep * *p - rate * *v;
        }
    }
}

per_isa! {
    fn nesterov_piece<T: Real>(gradient: &[T], velocity: &mut [T], parameter: &mut [T], keep: T, rate: T, retain: T, take: T, look_ahead: T) {
        for ((p, v), &g) in parameter.iter_mut().zip(velocity).zip(gradient) {
            *v = retain * *v + take * g;
            *p = keep * *p - rate * (g + look_ahead * *v);
        }
    }
}

/// v ← retain·v + take·g, then p ← keep·p − rate·v, or with a look ahead p ← keep·p − rate·(g + look_ahead·v).
///
/// # Panics
/// If the slices differ in length.
pub fn momentum<T: Real>(machine: &Machine, step: &Momentum, gradient: &[T], velocity: &mut [T], parameter: &mut [T]) {
    let [keep, rate, retain, take] = [step.keep, step.rate, step.retain, step.take].map(T::from_f64);
    let (isa, arrays) = (machine.isa, [velocity, parameter]);
    match step.look_ahead.map(T::from_f64) {
        None => pieces(&machine.threads, gradient, arrays, |g, [v, p]| momentum_piece(isa, g, v, p, keep, rate, retain, take)),
        Some(look_ahead) => {
            pieces(&machine.threads, gradient, arrays, |g, [v, p]| nesterov_piece(isa, g, v, p, keep, rate, retain, take, look_ahead));
        }
    }
}

/// Coefficients of [`adam`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// What the parameter is multiplied with: weight decay.
    pub keep: f64,
    /// The learning rate divided by 1 − β₁ᵗ.
    pub rate: f64,
    /// β₁, what is kept of the mean gradient.
    pub beta1: f64,
    /// β₂, what is kept of the mean square.
    pub beta2: f64,
    /// 1 / √(1 − β₂ᵗ)
    pub correction: f64,
    /// ε, which keeps the quotient finite.
    pub epsilon: f64,
}

per_isa! {
    fn adam_piece<T: Real>(gradient: &[T], mean: &mut [T], square: &mut [T], parameter: &mut [T], c: [T; 8]) {
        let [keep, rate, beta1, rest1, beta2, rest2, correction, epsilon] = c;
        for (((p, m), v), &g) in parameter.iter_mut().zip(mean).zip(square).zip(gradient) {
            *m = beta1 * *m + rest1 * g;
            *v = beta2 * *v + rest2 * (g * g);
            *p = keep * *p - rate * *m / (correction * v.sqrt() + epsilon);
        }
    }
}

/// m ← β₁·m + (1 − β₁)·g, v ← β₂·v + (1 − β₂)·g², p ← keep·p − rate·m / (correction·√v + ε).
///
/// # Panics
/// If the slices differ in length.
pub fn adam<T: Real>(machine: &Machine, step: &Adam, gradient: &[T], mean: &mut [T], square: &mut [T], parameter: &mut [T]) {
    let Adam { keep, rate, beta1, beta2, correction, epsilon } = *step;
    let c = [keep, rate, beta1, 1.0 - beta1, beta2, 1.0 - beta2, correction, epsilon].map(T::from_f64);
    pieces(&machine.threads, gradient, [mean, square, parameter], |g, [m, v, p]| adam_piece(machine.isa, g, m, v, p, c));
}

per_isa! {
    fn approach_piece<T: Real>(target: &[T], value: &mut [T], share: T) {
        for (value, &target) in value.iter_mut().zip(target) {
            *value += share * (target - *value);
        }
    }
}

/// y ← y + share·(x − y): one step of an exponential moving average. Where y equals x it stays exactly.
///
/// # Panics
/// If the slices differ in length.
pub fn approach<T: Real>(machine: &Machine, share: f64, x: &[T], y: &mut [T]) {
    let share = T::from_f64(share);
    pieces(&machine.threads, x, [y], |x, [y]| approach_piece(machine.isa, x, y, share));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    /// Longer than two pieces, and not a multiple of any vector.
    const LENGTH: usize = 2 * PIECE + 37;

    fn numbers(seed: u64) -> Vec<f32> {
        let mut state = seed;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        };
        (0..LENGTH).map(next).collect()
    }

    /// What every routine makes of the same numbers.
    fn results(machine: &Machine) -> Vec<Vec<f32>> {
        let gradient = numbers(1);
        let mut lists: Vec<Vec<f32>> = (2..11).map(numbers).collect();
        lists[6].iter_mut().for_each(|square| *square = square.abs());
        let [a, v, b, w, c, m, s, d, e] = &mut lists[..] else { unreachable!() };
        descent(machine, 0.99, 0.1, &gradient, a);
        let step = Momentum { keep: 0.99, rate: 0.1, retain: 0.9, take: 0.5, look_ahead: None };
        momentum(machine, &step, &gradient, v, b);
        momentum(machine, &Momentum { look_ahead: Some(0.9), ..step }, &gradient, w, c);
        let step = Adam { keep: 0.99, rate: 0.02, beta1: 0.9, beta2: 0.999, correction: 3.0, epsilon: 1e-8 };
        adam(machine, &step, &gradient, m, s, d);
        approach(machine, 0.01, &gradient, e);
        lists
    }

    #[test]
    fn every_instruction_set_and_number_of_threads_gives_the_same_bits() {
        let expected = results(&Machine::new(Isa::Portable, 1));
        for isa in Isa::available() {
            for threads in [1, 2, 3, 8] {
                assert!(results(&Machine::new(isa, threads)) == expected, "{isa} with {threads} threads");
            }
        }
    }

    #[test]
    fn every_pass_computes_its_formula() {
        let lists = results(&Machine::new(Isa::detect(), 2));
        let gradient = numbers(1);
        let before: Vec<Vec<f32>> = (2..11).map(numbers).collect();
        for i in 0..LENGTH {
            let old = |list: usize| f64::from(before[list][i]);
            let g = f64::from(gradient[i]);
            let near = |list: usize, exact: f64| {
                let value = f64::from(lists[list][i]);
                assert!((value - exact).abs() < 1e-6 * (1.0 + exact.abs()), "array {list} at {i}: {value}, not {exact}");
            };
            near(0, 0.99 * old(0) - 0.1 * g);
            let v = 0.9 * old(1) + 0.5 * g;
            near(1, v);
            near(2, 0.99 * old(2) - 0.1 * v);
            let v = 0.9 * old(3) + 0.5 * g;
            near(3, v);
            near(4, 0.99 * old(4) - 0.1 * (g + 0.9 * v));
            let (m, s) = (0.9 * old(5) + 0.1 * g, 0.999 * old(6).abs() + 0.001 * g * g);
            near(5, m);
            near(6, s);
            near(7, 0.99 * old(7) - 0.02 * m / (3.0 * s.sqrt() + 1e-8));
            near(8, 0.99 * old(8) + 0.01 * g);
        }
    }

    #[test]
    fn an_empty_parameter_is_no_work() {
        let machine = Machine::new(Isa::Portable, 2);
        descent::<f32>(&machine, 1.0, 0.1, &[], &mut []);
        approach::<f32>(&machine, 0.5, &[], &mut []);
    }

    #[test]
    #[should_panic(expected = "the parameter's length")]
    fn a_gradient_of_another_length_is_refused() {
        descent(&Machine::new(Isa::Portable, 1), 1.0, 0.1, &[1.0_f32; 3], &mut [0.0; 4]);
    }
}
