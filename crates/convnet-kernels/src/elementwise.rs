//! Routines that treat every number alike. They write from one slice to another, or in place where that saves memory:
//! wherever a source is optional, `None` says that the destination already holds it.

use std::f64::consts::{FRAC_2_SQRT_PI, SQRT_2};

use crate::functions::{gelu_slope, normal_share, sigmoid as logistic, sigmoid_and_slope, tanh as hyperbolic_tangent};
use crate::isa::vector::Vector;
use crate::once::compiled_once;
use crate::stream::Lanewise;
use crate::threads::Threads;
use crate::{Isa, Machine, Real, per_isa, stream};

/// Numbers that one piece of work covers: large enough to be worth a thread, small enough for a first-level cache.
pub(crate) const PIECE: usize = 8192;

/// Calls `work(offset, chunk)` for pieces of `y`, each filled with its part of `x` if there is one.
pub(crate) fn pieces<T: Real>(threads: &Threads, x: Option<&[T]>, y: &mut [T], work: impl Fn(usize, &mut [T]) + Sync) {
    if let Some(x) = x {
        assert_eq!(x.len(), y.len(), "source and destination are of one length");
    }
    threads.chunks_mut(y, PIECE, |index, y| {
        let start = index * PIECE;
        if let Some(x) = x {
            // The copy is still in the first-level cache when it is worked on.
            y.copy_from_slice(&x[start..start + y.len()]);
        }
        work(start, y);
    });
}

/// Numbers that are worth a piece of work when nothing is copied first.
const PART: usize = 1 << 14;
/// Most of such pieces.
const PARTS: usize = 64;
/// Numbers that fit the first-level cache several times.
const BLOCK: usize = 2048;

/// Where a part of a result begins, and what it is made from.
struct Part<'a, T> {
    start: usize,
    /// `None` when the part holds it.
    x: Option<&'a [T]>,
    /// How many operands the result must have to go past the caches.
    large_from: usize,
}

impl<T: Real> Part<'_, T> {
    /// Writes y past the caches, if that is much with its operands.
    fn stream<const N: usize>(&self, isa: Isa, function: impl Lanewise<N, 0>, x: [&[T]; N], y: &mut [T]) -> bool {
        stream::write(self.large_from, isa, function, x, [], y)
    }
}

/// Calls `work(part, y)` for parts of `y`, to write them from x, or in place where there is none.
fn parts<T: Real>(threads: &Threads, x: Option<&[T]>, y: &mut [T], work: impl Fn(Part<'_, T>, &mut [T]) + Sync) {
    if let Some(x) = x {
        assert_eq!(x.len(), y.len(), "source and destination are of one length");
    }
    let length = y.len().div_ceil(PARTS).next_multiple_of(BLOCK).max(PART);
    let large_from = if x.is_some() { stream::large_from(y) } else { usize::MAX };
    threads.chunks_mut(y, length, |index, y| {
        let start = index * length;
        work(Part { start, x: x.map(|x| &x[start..start + y.len()]), large_from }, y);
    });
}

/// Makes a [`Lanewise`] function of vectors.
macro_rules! lanewise {
    ($name:ident, [$($x:ident),+] => $value:expr) => {
        #[derive(Clone, Copy)]
        struct $name;

        impl Lanewise<{ [$(stringify!($x)),+].len() }, 0> for $name {
            #[inline(always)]
            unsafe fn value<V: Vector>(self, [$($x),+]: [V; [$(stringify!($x)),+].len()], []: [V; 0]) -> V {
                // SAFETY: by the trait's contract.
                unsafe { $value }
            }
        }
    };
}

lanewise!(ReluOf, [x] => x.relu().add(V::zero()));
lanewise!(ReluGradient, [y, d] => d.add(V::zero()).where_positive(y));
lanewise!(SumOf, [a, b] => a.add(b));

/// y ← x
#[derive(Clone, Copy)]
struct Same;

impl Lanewise<1, 0> for Same {
    #[inline(always)]
    unsafe fn value<V: Vector>(self, [x]: [V; 1], []: [V; 0]) -> V {
        x
    }
}

/// Makes a routine that replaces every number by a function of it.
macro_rules! map {
    ($(#[$doc:meta])* $name:ident, $T:ident, $x:ident => $value:expr $(, $streamed:expr)?) => {
        compiled_once! {
            $(#[$doc])*
            pub fn $name<T>(machine: &'a Machine, x: Option<&'a [T]>, y: &'a mut [T]) {
                per_isa! {
                    fn piece<$T: Real>(x: Option<&[$T]>, y: &mut [$T]) {
                        let value = |$x: $T| $value;
                        match x {
                            Some(x) => y.iter_mut().zip(x).for_each(|(y, &x)| *y = value(x)),
                            None => y.iter_mut().for_each(|y| *y = value(*y)),
                        }
                    }
                }
                parts(&machine.threads, x, y, |part, y| {
                    $(if let Some(x) = part.x && part.stream(machine.isa, $streamed, [x], y) {
                        return;
                    })?
                    piece(machine.isa, part.x, y);
                });
            }
        }
    };
}

/// Makes a routine that replaces every gradient by a function of it and of what forward kept at the same place.
macro_rules! gradient {
    ($(#[$doc:meta])* $name:ident, $T:ident, ($kept:ident, $d:ident) => $value:expr $(, $streamed:expr)?) => {
        compiled_once! {
            $(#[$doc])*
            pub fn $name<T>(machine: &'a Machine, kept: &'a [T], dy: Option<&'a [T]>, dx: &'a mut [T]) {
                per_isa! {
                    fn piece<$T: Real>(kept: &[$T], dy: Option<&[$T]>, dx: &mut [$T]) {
                        let value = |$kept: $T, $d: $T| $value;
                        match dy {
                            Some(dy) => dx.iter_mut().zip(dy).zip(kept).for_each(|((dx, &dy), &kept)| *dx = value(kept, dy)),
                            None => dx.iter_mut().zip(kept).for_each(|(d, &kept)| *d = value(kept, *d)),
                        }
                    }
                }
                parts(&machine.threads, dy, dx, |part, dx| {
                    let kept = &kept[part.start..part.start + dx.len()];
                    $(if let Some(dy) = part.x && part.stream(machine.isa, $streamed, [kept, dy], dx) {
                        return;
                    })?
                    piece(machine.isa, kept, part.x, dx);
                });
            }
        }
    };
}

/// `x` as a value that was computed. Where a number may stay as it is, the compiler would store only the others, one by
/// one or under a mask; now it stores all. (−0 becomes 0.)
#[inline(always)]
fn computed<T: Real>(x: T) -> T {
    x + T::ZERO
}

map! {
    /// y ← max(x, 0). A NaN stays.
    relu, T, x => if x < T::ZERO { T::ZERO } else { computed(x) }, ReluOf
}

gradient! {
    /// dx ← dy where y > 0, else 0: the gradient of [`relu`] from its output y.
    relu_gradient, T, (y, d) => if y > T::ZERO { computed(d) } else { T::ZERO }, ReluGradient
}

map! {
    /// y ← 1 / (1 + e⁻ˣ)
    sigmoid, T, x => logistic(x)
}

gradient! {
    /// dx ← dy · y · (1 − y): the gradient of [`sigmoid`] from its output y.
    sigmoid_gradient, T, (y, d) => d * (y * (T::ONE - y))
}

map! {
    /// y ← tanh x
    tanh, T, x => hyperbolic_tangent(x)
}

gradient! {
    /// dx ← dy · (1 − y²): the gradient of [`tanh`] from its output y.
    tanh_gradient, T, (y, d) => d * ((T::ONE - y) * (T::ONE + y))
}

map! {
    /// y ← x / (1 + e⁻ˣ)
    silu, T, x => x * logistic(x)
}

gradient! {
    /// dx ← dy · (s + x · s′) with s = 1 / (1 + e⁻ˣ): the gradient of [`silu`] from its input x.
    silu_gradient, T, (x, d) => {
        let [share, slope] = sigmoid_and_slope(x);
        d * (share + x * slope)
    }
}

map! {
    /// y ← x · Φ(x), where Φ(x) = (1 + erf(x/√2)) / 2 is the share of a normal distribution below x.
    gelu, T, x => x * normal_share(x)
}

gradient! {
    /// dx ← dy · (Φ(x) + x · φ(x)), where φ(x) = e^(−x²/2) / √(2π): the gradient of [`gelu`] from its input x.
    gelu_gradient, T, (x, d) => d * gelu_slope(x)
}

map! {
    /// y ← x · (1 + tanh u) / 2 with u = √(2/π) · (x + 0.044715·x³), which is x / (1 + e^(−2u)).
    gelu_tanh, T, x => x * logistic(twice_inner(x))
}

gradient! {
    /// dx ← dy · (s + x · s′ · 2u′) with s = 1 / (1 + e^(−2u)): the gradient of [`gelu_tanh`] from its input x.
    gelu_tanh_gradient, T, (x, d) => {
        // Beyond 100 the slope is exactly 0 or 1, while x³ may overflow.
        let limit = T::from_f64(100.0);
        let x = if x > limit { limit } else if x < -limit { -limit } else { x };
        let [share, slope] = sigmoid_and_slope(twice_inner(x));
        let inner_slope = T::from_f64(TWICE_SQRT_2_OVER_PI) * (T::ONE + T::from_f64(3.0 * CUBIC) * x * x);
        d * (share + x * slope * inner_slope)
    }
}

/// 2·√(2/π)
const TWICE_SQRT_2_OVER_PI: f64 = SQRT_2 * FRAC_2_SQRT_PI;
/// The cubic term of GELU's approximation (Hendrycks and Gimpel 2016).
const CUBIC: f64 = 0.044_715;

/// 2u = 2·√(2/π) · (x + 0.044715·x³)
#[inline(always)]
fn twice_inner<T: Real>(x: T) -> T {
    T::from_f64(TWICE_SQRT_2_OVER_PI) * x * (T::ONE + T::from_f64(CUBIC) * x * x)
}

per_isa! {
    fn leaky_relu_piece<T: Real>(slope: T, x: Option<&[T]>, y: &mut [T]) {
        let value = |x: T| if x > T::ZERO { computed(x) } else { slope * x };
        match x {
            Some(x) => y.iter_mut().zip(x).for_each(|(y, &x)| *y = value(x)),
            None => y.iter_mut().for_each(|y| *y = value(*y)),
        }
    }
}

compiled_once! {
    /// y ← x where x > 0, else slope · x.
    pub fn leaky_relu<T>(machine: &'a Machine, slope: T, x: Option<&'a [T]>, y: &'a mut [T]) {
        parts(&machine.threads, x, y, |part, y| leaky_relu_piece(machine.isa, slope, part.x, y));
    }
}

per_isa! {
    fn leaky_relu_gradient_piece<T: Real>(slope: T, kept: &[T], dy: Option<&[T]>, dx: &mut [T]) {
        let value = |kept: T, d: T| if kept > T::ZERO { computed(d) } else { slope * d };
        match dy {
            Some(dy) => dx.iter_mut().zip(dy).zip(kept).for_each(|((dx, &dy), &kept)| *dx = value(kept, dy)),
            None => dx.iter_mut().zip(kept).for_each(|(d, &kept)| *d = value(kept, *d)),
        }
    }
}

compiled_once! {
    /// dx ← dy where `kept` > 0, else slope · dy: the gradient of [`leaky_relu`] from its input, or from its output if the
    /// slope is not negative.
    pub fn leaky_relu_gradient<T>(machine: &'a Machine, slope: T, kept: &'a [T], dy: Option<&'a [T]>, dx: &'a mut [T]) {
        parts(&machine.threads, dy, dx, |part, dx| {
            leaky_relu_gradient_piece(machine.isa, slope, &kept[part.start..part.start + dx.len()], part.x, dx);
        });
    }
}

compiled_once! {
    /// y ← x.
    pub fn copy<T>(machine: &'a Machine, x: &'a [T], y: &'a mut [T]) {
        parts(&machine.threads, Some(x), y, |part, y| {
            let x = part.x.unwrap_or_default();
            if !part.stream(machine.isa, Same, [x], y) {
                y.copy_from_slice(x);
            }
        });
    }
}

per_isa! {
    fn sum_piece<T: Real>(a: &[T], b: &[T], y: &mut [T]) {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = a + b;
        }
    }
}

per_isa! {
    fn add_to_piece<T: Real>(x: &[T], y: &mut [T]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }
}

compiled_once! {
    /// y ← y + x.
    pub fn add_to<T>(machine: &'a Machine, x: &'a [T], y: &'a mut [T]) {
        add_all(machine, None, &[x], y);
    }
}

compiled_once! {
    /// y ← first + each of the others, one after the other.
    pub fn add_all<T>(machine: &'a Machine, first: Option<&'a [T]>, others: &'a [&'a [T]], y: &'a mut [T]) {
        let is_pair = others.len() == 1;
        parts(&machine.threads, first, y, |part, y| {
            let range = part.start..part.start + y.len();
            let others = match (part.x, others) {
                (Some(first), [second, others @ ..]) => {
                    let second = &second[range.clone()];
                    if !(is_pair && part.stream(machine.isa, SumOf, [first, second], y)) {
                        sum_piece(machine.isa, first, second, y);
                    }
                    others
                }
                (Some(first), []) => {
                    y.copy_from_slice(first);
                    others
                }
                (None, others) => others,
            };
            for other in others {
                add_to_piece(machine.isa, &other[range.clone()], y);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    /// Numbers from −`limit` to `limit`, both zeros and the largest ones among them.
    fn line(limit: f32) -> Vec<f32> {
        let mut x: Vec<f32> = (0..3 * PIECE + 17).map(|place| limit * ((place * 7919 % 20_011) as f32 / 10_005.0 - 1.0)).collect();
        x.extend([0.0, -0.0, 1e-30, -1e-30, 1e30, -1e30, f32::MAX, f32::MIN]);
        x
    }

    type Map = fn(&Machine, Option<&[f32]>, &mut [f32]);
    type Gradient = fn(&Machine, &[f32], Option<&[f32]>, &mut [f32]);

    /// A function with its gradient, each as a routine and in `f64`.
    struct Function {
        name: &'static str,
        forward: Map,
        backward: Gradient,
        /// Whether backward reads the output; otherwise the input.
        from_output: bool,
        value: fn(f64) -> f64,
        slope: fn(f64) -> f64,
    }

    fn inner_slope(x: f64) -> f64 {
        TWICE_SQRT_2_OVER_PI * (1.0 + 3.0 * CUBIC * x * x)
    }

    fn functions() -> [Function; 7] {
        let function = |name, forward: Map, backward: Gradient, from_output, value, slope| Function {
            name,
            forward,
            backward,
            from_output,
            value,
            slope,
        };
        [
            function("relu", relu, relu_gradient, true, |x| x.max(0.0), |x| f64::from(x > 0.0)),
            function(
                "leaky relu",
                |machine, x, y| leaky_relu(machine, 0.01, x, y),
                |machine, y, dy, dx| leaky_relu_gradient(machine, 0.01, y, dy, dx),
                true,
                |x| if x > 0.0 { x } else { 0.01 * x },
                |x| if x > 0.0 { 1.0 } else { 0.01 },
            ),
            function("sigmoid", sigmoid, sigmoid_gradient, true, logistic, |x| logistic(x) * logistic(-x)),
            function("tanh", tanh, tanh_gradient, true, f64::tanh, |x| x.cosh().powi(-2)),
            function("silu", silu, silu_gradient, false, |x| x * logistic(x), |x| logistic(x) + x * (logistic(x) * logistic(-x))),
            function("gelu", gelu, gelu_gradient, false, |x| x * normal_share(x), gelu_slope),
            function(
                "gelu tanh",
                gelu_tanh,
                gelu_tanh_gradient,
                false,
                |x| x * logistic(twice_inner(x)),
                |x| {
                    if x.abs() > 50.0 {
                        f64::from(x > 0.0)
                    } else {
                        logistic(twice_inner(x)) + x * logistic(twice_inner(x)) * logistic(-twice_inner(x)) * inner_slope(x)
                    }
                },
            ),
        ]
    }

    #[test]
    fn every_function_and_its_slope_are_within_a_few_units_in_the_last_place_of_the_exact_value() {
        let machine = Machine::new(Isa::detect(), 2);
        for limit in [0.1, 2.0, 12.0, 110.0] {
            let x = line(limit);
            for function in functions() {
                let (mut y, mut dx) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
                (function.forward)(&machine, Some(&x), &mut y);
                (function.backward)(&machine, if function.from_output { &y } else { &x }, Some(&vec![1.0; x.len()]), &mut dx);
                for ((&x, &y), &dx) in x.iter().zip(&y).zip(&dx) {
                    let (value, slope) = ((function.value)(f64::from(x)), (function.slope)(f64::from(x)));
                    // A factor within 1 that is off by a unit is off by that much times x.
                    let unit = f64::from(f32::EPSILON) * f64::from(x.abs()).max(1.0);
                    assert!((f64::from(y) - value).abs() <= 2.0 * unit, "{}({x}) = {y}, exactly {value}", function.name);
                    assert!((f64::from(dx) - slope).abs() <= 4.0 * unit, "slope of {} at {x}: {dx}, exactly {slope}", function.name);
                }
            }
        }
    }

    #[test]
    fn threads_instruction_sets_and_working_in_place_change_no_bit() {
        let x = line(6.0);
        let dy: Vec<f32> = x.iter().rev().map(|x| x.clamp(-3.0, 3.0)).collect();
        for function in functions() {
            let mut first = None;
            for isa in Isa::available() {
                for threads in [1, 2, 3, 8] {
                    let machine = Machine::new(isa, threads);
                    let (mut y, mut dx) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
                    (function.forward)(&machine, Some(&x), &mut y);
                    let kept = if function.from_output { y.clone() } else { x.clone() };
                    (function.backward)(&machine, &kept, Some(&dy), &mut dx);
                    let (mut y_in_place, mut dx_in_place) = (x.clone(), dy.clone());
                    (function.forward)(&machine, None, &mut y_in_place);
                    (function.backward)(&machine, &kept, None, &mut dx_in_place);
                    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                    let found = [bits(&y), bits(&dx)];
                    assert_eq!(found, [bits(&y_in_place), bits(&dx_in_place)], "{} in place", function.name);
                    assert_eq!(*first.get_or_insert(found.clone()), found, "{}, {isa}, {threads} threads", function.name);
                }
            }
        }
    }

    #[test]
    fn a_nan_stays_a_nan() {
        for function in functions() {
            let (mut y, mut dx) = ([f32::NAN], [f32::NAN]);
            (function.forward)(&Machine::new(Isa::detect(), 1), None, &mut y);
            assert!(y[0].is_nan(), "{}", function.name);
            (function.backward)(&Machine::new(Isa::detect(), 1), &[0.0], None, &mut dx);
            assert!(dx[0].is_nan() || function.name == "relu", "slope of {}", function.name);
        }
    }

    #[test]
    fn sums_take_every_term_once() {
        let machine = Machine::new(Isa::detect(), 3);
        let terms: Vec<Vec<f32>> = (1..=3).map(|factor| (0..2 * PIECE + 5).map(|place| (place * factor) as f32).collect()).collect();
        let mut sum = vec![f32::NAN; terms[0].len()];
        add_all(&machine, Some(&terms[0]), &[&terms[1], &terms[2]], &mut sum);
        assert!(sum.iter().enumerate().all(|(place, &sum)| sum == (6 * place) as f32));
        add_to(&machine, &terms[0], &mut sum);
        assert!(sum.iter().enumerate().all(|(place, &sum)| sum == (7 * place) as f32));
        copy(&machine, &terms[2], &mut sum);
        assert_eq!(sum, terms[2]);
    }
}
