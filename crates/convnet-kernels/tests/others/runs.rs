//! Runs a routine in all the ways that must make no difference, and compares numbers with what they should be.

use convnet_kernels::{Isa, Machine};

use crate::guarded::{Buffer, Guard, Number, fault};
use crate::random::{Random, setting};

/// The runs on one instruction set: threads, and where the guards lie. Routines may look at where a slice begins, so one
/// thread meets both.
const RUNS: [(usize, Guard); 5] = [(1, Guard::After), (1, Guard::Before), (2, Guard::After), (3, Guard::Before), (8, Guard::After)];

/// One way to run a routine.
pub struct Run {
    pub machine: Machine,
    guard: Guard,
}

impl Run {
    /// A copy of these numbers between guards.
    pub fn holding<T: Number>(&self, numbers: &[T]) -> Buffer<T> {
        Buffer::holding(numbers, self.guard)
    }

    /// Numbers that are yet to be written.
    pub fn empty<T: Number>(&self, length: usize) -> Buffer<T> {
        Buffer::empty(length, self.guard)
    }
}

/// All ways to run a routine, those of one instruction set together.
pub struct Runs(Vec<Vec<Run>>);

impl Runs {
    pub fn new() -> Self {
        let of_isa = |isa| RUNS.map(|(threads, guard)| Run { machine: Machine::new(isa, threads), guard }).into();
        Self(Isa::available().into_iter().map(of_isa).collect())
    }

    /// What the routine gives with each instruction set, after a check that neither the threads nor the guards change a bit.
    pub fn each<const N: usize>(&self, what: &str, routine: impl Fn(&Run) -> [Vec<f32>; N]) -> Vec<(String, [Vec<f32>; N])> {
        let of_isa = |runs: &Vec<Run>| {
            let mut first: Option<[Vec<f32>; N]> = None;
            for run in runs {
                let Machine { isa, threads, .. } = &run.machine;
                let name = format!("{what} {isa} threads {} guard {:?}", threads.count(), run.guard);
                fault::begin(&name);
                let result = routine(run);
                match &first {
                    Some(first) => assert!(bits(first) == bits(&result), "{name}: other bits than in the first run"),
                    None => first = Some(result),
                }
            }
            (format!("{what} {}", runs[0].machine.isa), first.expect("there is a run"))
        };
        self.0.iter().map(of_isa).collect()
    }

    /// As [`each`](Self::each), for a routine whose result may not depend on the instruction set either.
    pub fn same<const N: usize>(&self, what: &str, routine: impl Fn(&Run) -> [Vec<f32>; N]) -> [Vec<f32>; N] {
        let mut results = self.each(what, routine);
        let (_, first) = results.remove(0);
        for (name, result) in results {
            assert!(bits(&result) == bits(&first), "{name}: other bits than portable code");
        }
        first
    }
}

fn bits<const N: usize>(lists: &[Vec<f32>; N]) -> Vec<Vec<u32>> {
    lists.iter().map(|list| list.iter().map(|number| number.to_bits()).collect()).collect()
}

/// A number as it should be, and by how much it may differ.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exact {
    pub value: f64,
    pub tolerance: f64,
}

/// The distance from 1 to the next larger `f32`.
pub const EPSILON: f64 = f32::EPSILON as f64;

impl Exact {
    /// The sum of these terms, each of which was rounded a few times, and rounded again whenever one was added.
    pub fn sum(terms: impl IntoIterator<Item = f64>) -> Self {
        let (mut value, mut magnitude, mut count) = (0.0, 0.0, 0.0_f64);
        for term in terms {
            value += term;
            magnitude += f64::abs(term);
            count += 1.0;
        }
        Self { value, tolerance: (8.0 + 2.0 * count.sqrt()) * EPSILON * magnitude }
    }
}

/// Checks that each number is as it should be; a NaN never is.
pub fn assert_close(what: &str, found: &[f32], exact: &[Exact]) {
    assert_eq!(found.len(), exact.len(), "{what}");
    for (place, (&found, exact)) in found.iter().zip(exact).enumerate() {
        let close = (f64::from(found) - exact.value).abs() <= exact.tolerance;
        assert!(close, "{what}: number {place} is {found}, not {exact:?}");
    }
}

/// Calls `case(seed in words, random numbers)` as often as is asked for.
pub fn random_cases(default: u64, mut case: impl FnMut(&str, &mut Random)) {
    let (cases, first) = (setting("CONVNET_OTHER_CASES", default), setting("CONVNET_OTHER_SEED", 1));
    for seed in first..first + cases {
        case(&format!("seed {seed}"), &mut Random::new(seed));
    }
}

/// So many numbers between the two.
pub fn numbers(random: &mut Random, count: usize, low: f32, high: f32) -> Vec<f32> {
    (0..count).map(|_| random.between(low, high)).collect()
}

/// A number of rows and one of channels: small and large, even and odd, one piece of work and several.
pub fn rows_and_channels(random: &mut Random) -> [usize; 2] {
    let channels = match random.below(6) {
        0 => 1,
        1 => random.within(2, 9),
        2 => 16 * random.within(1, 20),
        3 => random.within(100, 1200),
        _ => random.within(2, 130),
    };
    let rows = match random.below(5) {
        0 => 1,
        1 => random.within(2, 5),
        2 => random.within(1, 90_000 / channels + 1),
        _ => random.within(1, 300),
    };
    [rows.min(150_000 / channels).max(1), channels]
}
