//! Routines that treat every number alike, and those that move numbers: elementwise, softmax, concat.

use convnet_kernels::{Machine, concat, elementwise as e, softmax as s};

use crate::random::Random;
use crate::runs::{EPSILON, Exact, Runs, assert_close, numbers, random_cases, rows_and_channels};

/// What a routine should compute, in `f64`.
type Formula = fn(f64) -> f64;
type Map = fn(&Machine, Option<&[f32]>, &mut [f32]);
type Gradient = fn(&Machine, &[f32], Option<&[f32]>, &mut [f32]);

/// A count of numbers: none, few, about a piece of work, many.
fn count(random: &mut Random) -> usize {
    match random.below(5) {
        0 => random.below(3),
        1 => random.within(3, 100),
        2 => 8192 * random.within(1, 3) + random.below(3) - 1,
        3 => 16_384 * random.within(1, 3) + random.below(3) - 1,
        _ => random.within(100, 60_000),
    }
}

/// The density of the normal distribution.
fn density(x: f64) -> f64 {
    (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// Φ(x) = 1/2 + φ(x)·(x + x³/3 + x⁵/(3·5) + …), the share of a normal distribution below x.
fn share(x: f64) -> f64 {
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    while term.abs() > 1e-18 * sum.abs() {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    0.5 + density(x) * sum
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The number that the logistic function is taken of in GELU's approximation, and its slope.
fn twice_inner(x: f64) -> [f64; 2] {
    let factor = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
    [factor * (x + 0.044_715 * x.powi(3)), factor * (1.0 + 3.0 * 0.044_715 * x * x)]
}

fn in_place_or_not(runs: &Runs, what: &str, routine: Map, x: &[f32]) -> Vec<f32> {
    let [y, in_place] = runs.same(what, |run| {
        let (x, mut y, mut in_place) = (run.holding(x), run.empty(x.len()), run.holding(x));
        routine(&run.machine, Some(&x), &mut y);
        routine(&run.machine, None, &mut in_place);
        [y.to_vec(), in_place.to_vec()]
    });
    assert_eq!(y, in_place, "{what}");
    y
}

fn gradient_in_place_or_not(runs: &Runs, what: &str, routine: Gradient, kept: &[f32], dy: &[f32]) -> Vec<f32> {
    let [dx, in_place] = runs.same(what, |run| {
        let (kept, dy, mut dx, mut in_place) = (run.holding(kept), run.holding(dy), run.empty(dy.len()), run.holding(dy));
        routine(&run.machine, &kept, Some(&dy), &mut dx);
        routine(&run.machine, &kept, None, &mut in_place);
        [dx.to_vec(), in_place.to_vec()]
    });
    assert_eq!(dx, in_place, "{what}");
    dx
}

#[test]
fn every_function_of_a_number_is_its_formula() {
    let functions: [(&str, Map, Formula); 7] = [
        ("relu", e::relu, |x| x.max(0.0)),
        ("sigmoid", e::sigmoid, logistic),
        ("tanh", e::tanh, f64::tanh),
        ("silu", e::silu, |x| x * logistic(x)),
        ("gelu", e::gelu, |x| x * share(x)),
        ("gelu_tanh", e::gelu_tanh, |x| x * logistic(twice_inner(x)[0])),
        ("leaky_relu", |machine, x, y| e::leaky_relu(machine, 0.25, x, y), |x| if x > 0.0 { x } else { 0.25 * x }),
    ];
    let runs = Runs::new();
    random_cases(20, |seed, random| {
        let length = count(random);
        let x = numbers(random, length, -7.0, 7.0);
        for (name, routine, formula) in functions {
            let what = format!("{seed} {name} of {length}");
            let y = in_place_or_not(&runs, &what, routine, &x);
            let exact = x.iter().map(|&x| {
                let x = f64::from(x);
                Exact { value: formula(x), tolerance: 2.0 * EPSILON * (1.0 + x.abs()) }
            });
            assert_close(&what, &y, &exact.collect::<Vec<_>>());
        }
    });
}

#[test]
fn every_gradient_of_a_number_is_its_formula() {
    let gradients: [(&str, Gradient, Formula); 7] = [
        ("relu_gradient", e::relu_gradient, |y| if y > 0.0 { 1.0 } else { 0.0 }),
        ("sigmoid_gradient", e::sigmoid_gradient, |y| y * (1.0 - y)),
        ("tanh_gradient", e::tanh_gradient, |y| 1.0 - y * y),
        ("silu_gradient", e::silu_gradient, |x| logistic(x) + x * logistic(x) * logistic(-x)),
        ("gelu_gradient", e::gelu_gradient, |x| share(x) + x * density(x)),
        ("gelu_tanh_gradient", e::gelu_tanh_gradient, |x| {
            let [inner, slope] = twice_inner(x);
            logistic(inner) + x * logistic(inner) * logistic(-inner) * slope
        }),
        (
            "leaky_relu_gradient",
            |machine, x, dy, dx| e::leaky_relu_gradient(machine, 0.25, x, dy, dx),
            |x| {
                if x > 0.0 { 1.0 } else { 0.25 }
            },
        ),
    ];
    let runs = Runs::new();
    random_cases(20, |seed, random| {
        let length = count(random);
        let (kept, dy) = (numbers(random, length, -7.0, 7.0), numbers(random, length, -2.0, 2.0));
        for (name, routine, slope) in gradients {
            let what = format!("{seed} {name} of {length}");
            let dx = gradient_in_place_or_not(&runs, &what, routine, &kept, &dy);
            let exact = kept.iter().zip(&dy).map(|(&kept, &dy)| {
                let (kept, dy) = (f64::from(kept), f64::from(dy));
                Exact { value: dy * slope(kept), tolerance: 4.0 * EPSILON * (1.0 + slope(kept).abs() + kept.abs()) * dy.abs() }
            });
            assert_close(&what, &dx, &exact.collect::<Vec<_>>());
        }
    });
}

#[test]
fn sums_and_copies_of_whole_arrays_are_exact() {
    let runs = Runs::new();
    random_cases(50, |seed, random| {
        let length = count(random);
        // Sums of few such numbers are exact.
        let arrays: Vec<Vec<f32>> =
            (0..random.within(1, 4)).map(|_| (0..length).map(|_| random.below(2001) as f32 - 1000.0).collect()).collect();
        let what = format!("{seed} {} arrays of {length}", arrays.len());
        let [copy, two, all, onto] = runs.same(&what, |run| {
            let arrays: Vec<_> = arrays.iter().map(|array| run.holding(array)).collect();
            let slices: Vec<&[f32]> = arrays.iter().map(|array| &**array).collect();
            let (mut copy, mut two, mut all, mut onto) =
                (run.empty(length), run.holding(&arrays[0]), run.empty(length), run.holding(&arrays[0]));
            e::copy(&run.machine, &arrays[0], &mut copy);
            e::add_to(&run.machine, slices[slices.len() - 1], &mut two);
            e::add_all(&run.machine, Some(slices[0]), &slices[1..], &mut all);
            e::add_all(&run.machine, None, &slices[1..], &mut onto);
            [copy.to_vec(), two.to_vec(), all.to_vec(), onto.to_vec()]
        });
        let last = &arrays[arrays.len() - 1];
        assert_eq!(copy, arrays[0], "{what}");
        assert!(two.iter().zip(&arrays[0]).zip(last).all(|((sum, a), b)| *sum == a + b), "{what}");
        assert!(all.iter().enumerate().all(|(place, sum)| *sum == arrays.iter().map(|array| array[place]).sum::<f32>()), "{what}");
        assert_eq!(all, onto, "{what}");
    });
}

#[test]
fn softmax_and_its_logarithm_are_their_formulas_in_both_directions() {
    type Forward = fn(&Machine, usize, Option<&[f32]>, &mut [f32]);
    type Backward = fn(&Machine, usize, &[f32], Option<&[f32]>, &mut [f32]);
    let kinds: [(bool, Forward, Backward); 2] = [(false, s::softmax, s::softmax_gradient), (true, s::log_softmax, s::log_softmax_gradient)];
    let runs = Runs::new();
    random_cases(50, |seed, random| {
        let [rows, channels] = rows_and_channels(random);
        let limit = [1.0, 10.0, 100.0][random.below(3)];
        let (x, dy) = (numbers(random, rows * channels, -limit, limit), numbers(random, rows * channels, -1.0, 1.0));
        let doubt = (8.0 + 2.0 * (channels as f64).sqrt()) * EPSILON;
        for (logarithm, forward, backward) in kinds {
            let what = format!("{seed} {} of {rows}x{channels}", if logarithm { "log_softmax" } else { "softmax" });
            for (what, [y, y_in_place, dx, dx_in_place]) in runs.each(&what, |run| {
                let (x, dy) = (run.holding(&x), run.holding(&dy));
                let (mut y, mut y_in_place) = (run.empty(x.len()), run.holding(&x));
                let (mut dx, mut dx_in_place) = (run.empty(x.len()), run.holding(&dy));
                forward(&run.machine, channels, Some(&x), &mut y);
                forward(&run.machine, channels, None, &mut y_in_place);
                backward(&run.machine, channels, &y, Some(&dy), &mut dx);
                backward(&run.machine, channels, &y, None, &mut dx_in_place);
                [y.to_vec(), y_in_place.to_vec(), dx.to_vec(), dx_in_place.to_vec()]
            }) {
                assert!(y == y_in_place && dx == dx_in_place, "{what}: other numbers in place");
                let double = |numbers: &[f32]| numbers.iter().map(|&number| f64::from(number)).collect::<Vec<_>>();
                let (mut exact, mut exact_dx) = (Vec::new(), Vec::new());
                for ((x, y), dy) in double(&x).chunks(channels).zip(double(&y).chunks(channels)).zip(double(&dy).chunks(channels)) {
                    let most = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let total: f64 = x.iter().map(|x| (x - most).exp()).sum();
                    exact.extend(x.iter().map(|x| {
                        let distance = most - x;
                        let value = -distance - total.ln();
                        let share = (-distance).exp() / total;
                        match logarithm {
                            true => Exact { value, tolerance: doubt * (1.0 + value.abs()) },
                            false => Exact { value: share, tolerance: doubt * (1.0 + distance) * share + 1e-37 },
                        }
                    }));
                    let terms = |place: usize| if logarithm { dy[place] } else { dy[place] * y[place] };
                    let sum: f64 = (0..channels).map(terms).sum();
                    let magnitude: f64 = (0..channels).map(|place| terms(place).abs()).sum();
                    exact_dx.extend((0..channels).map(|place| {
                        let (share, first) = if logarithm { (y[place].exp(), dy[place]) } else { (y[place], dy[place] * y[place]) };
                        Exact { value: first - share * sum, tolerance: doubt * (first.abs() + share * magnitude) + 1e-37 }
                    }));
                }
                assert_close(&what, &y, &exact);
                assert_close(&format!("{what} gradient"), &dx, &exact_dx);
            }
        }
    });
}

#[test]
fn channels_put_side_by_side_are_those_of_the_inputs_and_come_apart_again() {
    let runs = Runs::new();
    random_cases(50, |seed, random| {
        let [rows, _] = rows_and_channels(random);
        let rows = rows.min(3000);
        let widths: Vec<usize> = (0..random.within(1, 4)).map(|_| [random.within(1, 40), 16, 1][random.below(3)]).collect();
        let channels: usize = widths.iter().sum();
        let what = format!("{seed} concat of {rows} rows of {widths:?}");
        let inputs: Vec<Vec<f32>> = widths.iter().map(|width| numbers(random, rows * width, -1.0, 1.0)).collect();
        let [y, back] = runs.same(&what, |run| {
            let inputs: Vec<_> = inputs.iter().map(|input| run.holding(input)).collect();
            let slices: Vec<&[f32]> = inputs.iter().map(|input| &**input).collect();
            let mut y = run.empty(rows * channels);
            concat::concat(&run.machine, rows, &slices, &mut y);
            let (mut first, mut back) = (0, Vec::new());
            for width in &widths {
                let mut part = run.empty(rows * width);
                concat::split(&run.machine, rows, &y, first, &mut part);
                back.extend_from_slice(&part);
                first += width;
            }
            [y.to_vec(), back]
        });
        let row = |row: usize| inputs.iter().zip(&widths).flat_map(move |(input, width)| &input[row * width..][..*width]);
        assert!((0..rows).flat_map(row).eq(&y), "{what}");
        assert!(inputs.iter().flatten().eq(&back), "{what}");
    });
}
