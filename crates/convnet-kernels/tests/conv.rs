//! Every convolution algorithm, with every instruction set of this computer, in every pass and with several numbers of
//! threads, against the definition.
//!
//! Every buffer ends at an unreadable page in one run and begins behind one in the next.
//!
//! `CONVNET_CONV_CASES` sets how many random shapes each test counts, `CONVNET_CONV_SEED` where they begin.

#[path = "conv/cases.rs"]
mod cases;
mod guarded;
mod random;

use cases::random_shape;
use convnet_kernels::conv::{ALGORITHMS, ALGORITHMS_F64, Algorithm, ConvShape, Epilogue, Pass};
use convnet_kernels::{Isa, Machine, Precision, Real};
use guarded::{Buffer, Guard, Number, fault};
use random::{Random, setting};

/// The runs of one problem on one instruction set: threads, and where the guards lie. The first is repeated with the other
/// guards, so every routine meets both with every instruction set.
const RUNS: [(usize, Guard); 5] = [(1, Guard::After), (1, Guard::Before), (2, Guard::After), (3, Guard::Before), (8, Guard::After)];

/// Multiply-adds of a random problem, at most.
const MACS: u64 = 150_000;
/// Multiply-adds that take the definition a noticeable time.
const LARGE_MACS: u64 = 10_000_000;

/// The machines of one instruction set, one for each of the runs.
fn machines() -> Vec<Vec<(Machine, Guard)>> {
    let of_isa = |isa| RUNS.map(|(threads, guard)| (Machine::new(isa, threads), guard)).to_vec();
    Isa::available().into_iter().map(of_isa).collect()
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

impl<T: Real + Number> Operands<T> {
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

    /// The result of one pass, with guards around every buffer.
    fn compute(&self, machine: &Machine, guard: Guard, algorithm: &Algorithm<T>, shape: &ConvShape, pass: Pass) -> Vec<T> {
        let holding = |numbers: &[T]| Buffer::holding(numbers, guard);
        let empty = |length| Buffer::<T>::empty(length, guard);
        let mut packed = empty((algorithm.packed_len)(shape, machine.isa, pass));
        let mut scratch = empty((algorithm.scratch_len)(shape, machine.isa, pass));
        (algorithm.pack)(machine, shape, pass, &holding(&self.weights), &mut packed);
        match pass {
            Pass::Forward => {
                let (x, mut y) = (holding(&self.x), empty(shape.output_len()));
                let [bias, residual] = [&self.bias, &self.residual].map(|numbers| numbers.as_deref().map(holding));
                let epilogue = Epilogue { bias: bias.as_deref(), residual: residual.as_deref(), relu: self.relu };
                (algorithm.forward)(machine, shape, &x, &packed, &epilogue, &mut y, &mut scratch);
                y.to_vec()
            }
            Pass::BackwardInput => {
                let (dy, mut dx) = (holding(&self.dy), empty(shape.input_len()));
                (algorithm.backward_input)(machine, shape, &dy, &packed, &mut dx, &mut scratch);
                dx.to_vec()
            }
            Pass::BackwardWeight => {
                let (x, dy, mut dw) = (holding(&self.x), holding(&self.dy), holding(&self.dw));
                (algorithm.backward_weight)(machine, shape, &x, &dy, &mut dw, &mut scratch);
                dw.to_vec()
            }
        }
    }

    /// What the definition gives, which is the last of the algorithms.
    fn expected(&self, algorithms: &[Algorithm<T>], shape: &ConvShape, pass: Pass) -> Vec<T> {
        fault::begin(&format!("'{shape}' definition {}", pass.name()));
        let reference = algorithms.last().expect("the definition is an algorithm");
        self.compute(&Machine::new(Isa::Portable, 1), Guard::After, reference, shape, pass)
    }
}

/// Whether at least half of the numbers are not zero, so that a comparison with them says something.
fn says_something<T: Real>(numbers: &[T]) -> bool {
    2 * numbers.iter().filter(|number| **number != T::ZERO).count() >= numbers.len()
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

/// Runs every algorithm that accepts the shape on every machine, checks that neither the threads nor the guards change a bit,
/// and calls `check` with each instruction set's result and the algorithm.
///
/// Those of reduced precision give the same bits on every instruction set, too.
fn each_result(
    machines: &[Vec<(Machine, Guard)>],
    shape: &ConvShape,
    operands: &Operands<f32>,
    pass: Pass,
    check: impl Fn(&[f32], &Algorithm<f32>, &str),
) {
    // The definition is what results are compared with; of large problems it is not worth its time to see that it repeats.
    let algorithms = if shape.macs() > LARGE_MACS { &ALGORITHMS[..ALGORITHMS.len() - 1] } else { &ALGORITHMS };
    for algorithm in algorithms {
        let mut of_all: Option<Vec<f32>> = None;
        for runs in machines.iter().filter(|runs| (algorithm.accepts)(shape, runs[0].0.isa).is_ok()) {
            let mut first: Option<Vec<f32>> = None;
            for (machine, guard) in runs {
                let (isa, threads) = (machine.isa, machine.threads.count());
                let what = format!("'{shape}' {} {} {isa} threads {threads} guard {guard:?}", algorithm.name, pass.name());
                fault::begin(&what);
                let result = operands.compute(machine, *guard, algorithm, shape, pass);
                match &first {
                    Some(first) => assert!(bits(first) == bits(&result), "{what}: other bits than in the first run"),
                    None => {
                        check(&result, algorithm, &what);
                        if algorithm.precision != Precision::F32 {
                            let of_all = of_all.get_or_insert_with(|| result.clone());
                            assert!(bits(of_all) == bits(&result), "{what}: other bits than on another instruction set");
                        }
                        first = Some(result);
                    }
                }
            }
        }
    }
}

/// Calls `run(random numbers, shape, pass)`, which says whether the case counts, for random shapes until every pass has as
/// many cases that count as are asked for. Prints how many those were.
fn random_cases(name: &str, default_cases: u64, default_seed: u64, mut run: impl FnMut(u64, Random, &ConvShape) -> [bool; 3]) {
    let (cases, seed) = (setting("CONVNET_CONV_CASES", default_cases), setting("CONVNET_CONV_SEED", default_seed));
    let (mut tried, mut counted, start) = (0, [0; 3], std::time::Instant::now());
    while counted.iter().any(|&counted| counted < cases) {
        let seed = seed.wrapping_add(tried);
        let mut random = Random::new(seed);
        let shape = random_shape(&mut random, MACS);
        for (counted, counts) in counted.iter_mut().zip(run(seed, random, &shape)) {
            *counted += u64::from(counts);
        }
        tried += 1;
        assert!(tried <= 2 * cases + 20, "too few cases have mostly non-zero results: {counted:?} of {tried}");
    }
    println!("{name}: seeds {seed}..{}, counted {counted:?}, {} s", seed.wrapping_add(tried), start.elapsed().as_secs());
}

#[test]
fn small_integers_give_exactly_the_sums_of_the_definition() {
    let machines = machines();
    random_cases("integers", 1500, 1, |seed, mut random, shape| {
        let operands = Operands::new(shape, &mut random, |random| [-2.0, -1.0, 1.0, 2.0, 3.0][random.below(5)]);
        Pass::ALL.map(|pass| {
            let expected = operands.expected(&ALGORITHMS, shape, pass);
            each_result(&machines, shape, &operands, pass, |result, algorithm, what| {
                // Transforms round, whatever the numbers are; the test with floats holds them to their bound. Whole numbers
                // this small are the same in every precision.
                let wrong = result.iter().zip(&expected).position(|(result, expected)| algorithm.exact && result != expected);
                if let Some(place) = wrong {
                    panic!("seed {seed} {what}: number {place} is {}, not {}", result[place], expected[place]);
                }
            });
            says_something(&expected)
        })
    });
}

/// By how much the error of an algorithm with transforms may be larger, against the largest output, since every number of
/// a tile takes part in each of its outputs.
const TRANSFORMED: f64 = 4.0;

#[test]
fn floats_differ_from_f64_by_rounding_only() {
    let machines = machines();
    random_cases("floats", 1000, 1_000_000, |seed, mut random, shape| {
        let operands = Operands::new(shape, &mut random, |random| random.between(-0.9, 1.1));
        let exact = operands.map(f64::from);
        let magnitude = operands.map(|number| f64::from(number.abs()));
        Pass::ALL.map(|pass| {
            let expected = exact.expected(&ALGORITHMS_F64, shape, pass);
            let sums = magnitude.expected(&ALGORITHMS_F64, shape, pass);
            let largest = sums.iter().copied().fold(0.0, f64::max);
            let terms = 2 + match pass {
                Pass::Forward => shape.window().taps() * shape.group_channels(),
                Pass::BackwardInput => shape.window().taps() * shape.group_filters(),
                Pass::BackwardWeight => shape.n() * shape.oh() * shape.ow(),
            };
            let tolerance = 4.0 * (terms as f64).sqrt() * f64::from(f32::EPSILON);
            each_result(&machines, shape, &operands, pass, |result, algorithm, what| {
                // What each product may be off by is no matter of chance.
                let product_error = match algorithm.precision {
                    Precision::F32 => 0.0,
                    reduced => reduced.product_error(),
                };
                for (place, (result, expected)) in result.iter().zip(&expected).enumerate() {
                    let error = (f64::from(*result) - expected).abs();
                    // Written so that NaN fails.
                    let bound = match algorithm.exact {
                        true => (tolerance + product_error) * sums[place],
                        false => TRANSFORMED * tolerance * largest,
                    };
                    let close = error <= bound;
                    assert!(close, "seed {seed} {what}: number {place} is {result}, not {expected}");
                }
            });
            says_something(&expected)
        })
    });
}

#[test]
fn larger_problems_that_are_cut_into_many_pieces_are_exact_too() {
    let machines = machines();
    for text in [
        "conv n2 c40 20x20 -> 72 w3 s1 p1",
        "conv n1 c800 5x5 -> 33 w1 s1 p0",
        "conv n3 c100 9x9 -> 40 w3 s2 p1",
        "conv n20 c1 28x28 -> 32 w3 s1 p1",
        "conv n2 c1 19x37 -> 21 w3x5 s1 p1x2",
        "conv n3 c1 20x70 -> 40 w5 s1 p2",
        "conv n2 c2 18x35 -> 17 w3 s2x1 p1",
        "conv n2 c3 21x33 -> 35 w3 s1 p1 d2x1",
        "conv n1 c4 30x47 -> 9 w3 s1 p1",
        "conv n2 c24 9x13 -> 42 w1 s1 p0 g3",
        "conv n3 c12 11x17 -> 50 w1 s1 p0",
        "conv n2 c16 13x11 -> 90 w1 s1 p0",
        "conv n1 c96 10x21 -> 48 w1 s1 p0 g4",
        "conv n1 c32 23x9 -> 33 w1 s1 p0",
        "conv n4 c3 33x31 -> 24 w7 s2 p3",
        "conv n9 c1100 1x1 -> 130 w1 s1 p0",
        "conv n1 c300 1x1 -> 1000 w1 s1 p0",
        "conv n3 c1024 5x5 -> 40 w1 s1 p0",
        "conv n200 c3 5x5 -> 8 w3x5 s1 p0",
        "conv n100 c20 4x3 -> 9 w3 s1 p0",
        "conv n150 c20 3x3 -> 9 w3 s1 p0",
        "conv n300 c12 2x1 -> 7 w2x1 s1 p1x0",
        "conv n3 c176 7x5 -> 75 w1 s1 p0",
        "conv n1 c96 28x28 -> 100 w1 s1 p0 g2",
        "conv n1 c1024 9x9 -> 20 w3 s1 p1",
        "conv n2 c64 30x30 -> 64 w3 s1 p1 g64",
        "conv n2 c48 31x29 -> 48 w5 s2 p2 g48",
        "conv n2 c60 12x12 -> 36 w3 s1 p1 g3",
        "conv n1 c6 14x14 -> 16 w9 s1 p4",
        "conv n2 c96 14x13 -> 80 w3 s1 p1",
        "conv n3 c64 17x19 -> 48 w3 s2 p1",
        "conv n2 c96 12x12 -> 72 w3 s1 p1 g2",
        "conv n1 c40 15x15 -> 48 w5 s3 p2 d2",
        // So many pixels that they are taken some images at a time.
        "conv n9 c512 30x30 -> 16 w1 s1 p0",
        // Results of more than 8 megabytes, forward or backward, which may be written past the caches.
        "conv n1 c1 182x182 -> 64 w1 s1 p0",
        "conv n1 c64 182x182 -> 64 w3 s1 p1 g64",
        "conv n1 c64 182x182 -> 4 w3 s1 p1",
        "conv n1 c8 182x182 -> 64 w3 s1 p1",
    ] {
        let shape: ConvShape = text.parse().unwrap();
        let mut random = Random::new(5);
        let operands = Operands::new(&shape, &mut random, |random| [-2.0, -1.0, 1.0, 2.0, 3.0][random.below(5)]);
        for pass in Pass::ALL {
            let expected = operands.expected(&ALGORITHMS, &shape, pass);
            assert!(says_something(&expected), "{text}: mostly zeros prove nothing");
            each_result(&machines, &shape, &operands, pass, |result, algorithm, what| {
                let largest = expected.iter().fold(0.0_f32, |largest, number| largest.max(number.abs()));
                let bound = if algorithm.exact { 0.0 } else { 1e-5 * largest };
                assert!(result.iter().zip(&expected).all(|(result, expected)| (result - expected).abs() <= bound), "{what}");
            });
        }
    }
}
