//! Every convolution algorithm, with every instruction set of this computer, in every pass and with several numbers of
//! threads, against the definition.
//!
//! `CONVNET_CONV_CASES` sets the number of random shapes of each test, `CONVNET_CONV_SEED` where they begin.

#[path = "conv/cases.rs"]
mod cases;

use cases::{Buffer, Random, random_shape};
use convnet_kernels::conv::{ALGORITHMS, ALGORITHMS_F64, Algorithm, ConvShape, Epilogue, Pass};
use convnet_kernels::{Isa, Machine, Real};

const THREADS: [usize; 4] = [1, 2, 3, 8];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn machines() -> Vec<Machine> {
    Isa::available().into_iter().flat_map(|isa| THREADS.map(|threads| Machine::new(isa, threads))).collect()
}

/// The operands of one case.
struct Operands<T> {
    x: Vec<T>,
    weights: Vec<T>,
    dy: Vec<T>,
    /// What the gradient of the weights holds before the pass adds to it.
    dw: Vec<T>,
    bias: Option<Vec<T>>,
    residual: Option<Vec<T>>,
    relu: bool,
}

impl<T: Real> Operands<T> {
    fn new(shape: &ConvShape, random: &mut Random, mut number: impl FnMut(&mut Random) -> T) -> Self {
        let (bias, residual, relu) = (random.below(2) == 0, random.below(3) == 0, random.below(3) == 0);
        let mut numbers = |length: usize| (0..length).map(|_| number(random)).collect::<Vec<_>>();
        Self {
            x: numbers(shape.input_len()),
            weights: numbers(shape.weight_len()),
            dy: numbers(shape.output_len()),
            dw: numbers(shape.weight_len()),
            bias: bias.then(|| numbers(shape.k())),
            residual: residual.then(|| numbers(shape.output_len())),
            relu,
        }
    }

    fn map<U>(&self, convert: impl Fn(T) -> U) -> Operands<U> {
        let all = |numbers: &Vec<T>| numbers.iter().map(|&number| convert(number)).collect::<Vec<_>>();
        Operands {
            x: all(&self.x),
            weights: all(&self.weights),
            dy: all(&self.dy),
            dw: all(&self.dw),
            bias: self.bias.as_ref().map(all),
            residual: self.residual.as_ref().map(all),
            relu: self.relu,
        }
    }

    /// The result of one pass, with canaries around every buffer.
    fn compute(&self, machine: &Machine, algorithm: &Algorithm<T>, shape: &ConvShape, pass: Pass) -> Vec<T> {
        let weights = Buffer::holding(&self.weights);
        let mut packed = Buffer::empty((algorithm.packed_len)(shape, machine.isa, pass));
        let mut scratch = Buffer::empty((algorithm.scratch_len)(shape, machine.isa, pass));
        let (x, dy) = (Buffer::holding(&self.x), Buffer::holding(&self.dy));
        (algorithm.pack)(machine, shape, pass, weights.inner(), packed.inner_mut());
        let result = match pass {
            Pass::Forward => {
                let bias = self.bias.as_ref().map(|bias| Buffer::holding(bias));
                let residual = self.residual.as_ref().map(|residual| Buffer::holding(residual));
                let epilogue = Epilogue {
                    bias: bias.as_ref().map(|bias| bias.inner()),
                    residual: residual.as_ref().map(|residual| residual.inner()),
                    relu: self.relu,
                };
                let mut y = Buffer::empty(shape.output_len());
                (algorithm.forward)(machine, shape, x.inner(), packed.inner(), &epilogue, y.inner_mut(), scratch.inner_mut());
                y
            }
            Pass::BackwardInput => {
                let mut dx = Buffer::empty(shape.input_len());
                (algorithm.backward_input)(machine, shape, dy.inner(), packed.inner(), dx.inner_mut(), scratch.inner_mut());
                dx
            }
            Pass::BackwardWeight => {
                let mut dw = Buffer::holding(&self.dw);
                (algorithm.backward_weight)(machine, shape, x.inner(), dy.inner(), dw.inner_mut(), scratch.inner_mut());
                dw
            }
        };
        for (name, buffer) in
            [("weights", &weights), ("packed", &packed), ("scratch", &scratch), ("x", &x), ("dy", &dy), ("result", &result)]
        {
            assert!(buffer.is_intact(), "{shape}: {} {} wrote beside {name}", algorithm.name, pass.name());
        }
        result.inner().to_vec()
    }
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

/// Runs every algorithm that accepts the shape on every machine, checks that the bits do not depend on the threads, and
/// calls `check` with each result and whether the algorithm is exact.
fn each_result(machines: &[Machine], shape: &ConvShape, operands: &Operands<f32>, pass: Pass, check: impl Fn(&[f32], bool, &str)) {
    for algorithm in &ALGORITHMS {
        let mut first: Option<(Isa, Vec<f32>)> = None;
        for machine in machines.iter().filter(|machine| (algorithm.accepts)(shape, machine.isa).is_ok()) {
            let what = format!("'{shape}' {} {} {} threads {}", algorithm.name, pass.name(), machine.isa, machine.threads.count());
            let result = operands.compute(machine, algorithm, shape, pass);
            match &first {
                Some((isa, numbers)) if *isa == machine.isa => {
                    assert!(bits(numbers) == bits(&result), "{what}: other bits than one thread")
                }
                _ => {
                    check(&result, algorithm.exact, &what);
                    let again = operands.compute(machine, algorithm, shape, pass);
                    assert!(bits(&again) == bits(&result), "{what}: other bits when run again");
                    first = Some((machine.isa, result));
                }
            }
        }
    }
}

#[test]
fn small_integers_give_exactly_the_sums_of_the_definition() {
    let (cases, seed) = (setting("CONVNET_CONV_CASES", 1500), setting("CONVNET_CONV_SEED", 1));
    let machines = machines();
    let reference = &ALGORITHMS[ALGORITHMS.len() - 1];
    let mut counted = [0; 3];
    for case in 0..cases {
        let mut random = Random::new(seed.wrapping_add(case));
        let shape = random_shape(&mut random, 150_000);
        let operands = Operands::new(&shape, &mut random, |random| [-2.0, -1.0, 1.0, 2.0, 3.0][random.below(5)]);
        for (place, pass) in Pass::ALL.into_iter().enumerate() {
            let expected = operands.compute(&machines[0], reference, &shape, pass);
            let non_zero = expected.iter().filter(|number| **number != 0.0).count();
            counted[place] += u64::from(2 * non_zero >= expected.len());
            each_result(&machines, &shape, &operands, pass, |result, exact, what| {
                // Transforms round, whatever the numbers are; the test with floats holds them to their bound.
                let wrong = result.iter().zip(&expected).position(|(result, expected)| exact && result != expected);
                if let Some(place) = wrong {
                    panic!("seed {} {what}: number {place} is {}, not {}", seed.wrapping_add(case), result[place], expected[place]);
                }
            });
        }
    }
    assert!(counted.iter().all(|&counted| 2 * counted >= cases), "too few cases have mostly non-zero results: {counted:?} of {cases}");
}

/// By how much the error of an algorithm with transforms may be larger, against the largest output, since every number of
/// a tile takes part in each of its outputs.
const TRANSFORMED: f64 = 4.0;

#[test]
fn floats_differ_from_f64_by_rounding_only() {
    let (cases, seed) = (setting("CONVNET_CONV_CASES", 500), setting("CONVNET_CONV_SEED", 1_000_000));
    let machines = machines();
    let reference = &ALGORITHMS_F64[ALGORITHMS_F64.len() - 1];
    for case in 0..cases {
        let mut random = Random::new(seed.wrapping_add(case));
        let shape = random_shape(&mut random, 150_000);
        let mut operands = Operands::new(&shape, &mut random, |random| random.between(-1.0, 1.0));
        operands.relu = false;
        let exact = operands.map(f64::from);
        let magnitude = operands.map(|number| f64::from(number.abs()));
        for pass in Pass::ALL {
            let expected = exact.compute(&machines[0], reference, &shape, pass);
            let sums = magnitude.compute(&machines[0], reference, &shape, pass);
            let terms = 2 + match pass {
                Pass::Forward => shape.window().taps() * shape.group_channels(),
                Pass::BackwardInput => shape.window().taps() * shape.group_filters(),
                Pass::BackwardWeight => shape.n() * shape.oh() * shape.ow(),
            };
            let tolerance = 4.0 * (terms as f64).sqrt() * f64::from(f32::EPSILON);
            each_result(&machines, &shape, &operands, pass, |result, exact, what| {
                let largest = sums.iter().copied().fold(0.0, f64::max);
                for (place, (result, expected)) in result.iter().zip(&expected).enumerate() {
                    let error = (f64::from(*result) - expected).abs();
                    // Written so that NaN fails.
                    let bound = if exact { tolerance * sums[place] } else { TRANSFORMED * tolerance * largest };
                    let close = error <= bound;
                    assert!(close, "seed {} {what}: number {place} is {result}, not {expected}", seed.wrapping_add(case));
                }
            });
        }
    }
}

#[test]
fn larger_problems_that_are_cut_into_many_pieces_are_exact_too() {
    let machines = machines();
    let reference = &ALGORITHMS[ALGORITHMS.len() - 1];
    for text in [
        "conv n2 c40 20x20 -> 72 w3 s1 p1",
        "conv n1 c800 5x5 -> 33 w1 s1 p0",
        "conv n3 c100 9x9 -> 40 w3 s2 p1",
        "conv n20 c1 28x28 -> 32 w3 s1 p1",
        "conv n4 c3 33x31 -> 24 w7 s2 p3",
        "conv n9 c1100 1x1 -> 130 w1 s1 p0",
        "conv n1 c300 1x1 -> 1000 w1 s1 p0",
        "conv n3 c1024 5x5 -> 40 w1 s1 p0",
        "conv n200 c3 5x5 -> 8 w3x5 s1 p0",
        "conv n100 c20 4x3 -> 9 w3 s1 p0",
        "conv n150 c20 3x3 -> 9 w3 s1 p0",
        "conv n300 c12 2x1 -> 7 w2x1 s1 p1x0",
        "conv n1 c1024 9x9 -> 20 w3 s1 p1",
        "conv n2 c64 30x30 -> 64 w3 s1 p1 g64",
        "conv n2 c48 31x29 -> 48 w5 s2 p2 g48",
        "conv n2 c60 12x12 -> 36 w3 s1 p1 g3",
        "conv n1 c6 14x14 -> 16 w9 s1 p4",
    ] {
        let shape: ConvShape = text.parse().unwrap();
        let mut random = Random::new(5);
        let operands = Operands::new(&shape, &mut random, |random| [-2.0, -1.0, 1.0, 2.0, 3.0][random.below(5)]);
        for pass in Pass::ALL {
            let expected = operands.compute(&machines[0], reference, &shape, pass);
            let non_zero = expected.iter().filter(|number| **number != 0.0).count();
            assert!(2 * non_zero >= expected.len(), "{text}: mostly zeros prove nothing");
            each_result(&machines, &shape, &operands, pass, |result, exact, what| {
                let largest = expected.iter().fold(0.0_f32, |largest, number| largest.max(number.abs()));
                let bound = if exact { 0.0 } else { 1e-5 * largest };
                assert!(result.iter().zip(&expected).all(|(result, expected)| (result - expected).abs() <= bound), "{what}");
            });
        }
    }
}
