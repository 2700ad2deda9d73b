//! Which algorithm is the fastest on this machine: each that could compute a pass, measured once for each shape.

use std::sync::Arc;
use std::time::{Duration, Instant};

use convnet_kernels::Machine;
use convnet_kernels::conv::candidates;
use convnet_kernels::conv::tuning::{Question, Tuning};

use super::convolution::ConvWork;
use crate::error::Result;
use crate::network::Network;
use crate::plan::{Purpose, convolutions};

/// Rounds of which the median is taken, at most.
const ROUNDS: usize = 15;

/// Time after which no further round of one algorithm begins.
const LIMIT: Duration = Duration::from_millis(100);

/// A machine with what was measured of it.
#[derive(Clone, Debug)]
pub struct Tuned {
    /// The machine that was given, with the times of every question of the plans.
    pub machine: Machine,
    /// Questions that more than one algorithm answers.
    pub questions: usize,
    /// How many of them had to be measured.
    pub measured: usize,
    /// Seconds that this took.
    pub seconds: f64,
}

/// Measures every algorithm that could compute a convolution of these plans (batch and purpose), once for each distinct shape
/// and pass, the part of packing included that falls to one use of the weights. What is `known` already is not measured again.
///
/// The times are for f32. They choose by [`Machine::tuning`]; the results of the algorithms differ by rounding.
///
/// # Errors
/// A batch is zero or too large to address, or the memory cannot be had.
pub fn tune(network: &Network, plans: &[(usize, Purpose)], machine: &Machine, known: &Tuning) -> Result<Tuned> {
    let begun = Instant::now();
    let (mut tuning, mut measured) = (Tuning::default(), 0);
    for (batch, purpose) in plans {
        for question in convolutions(network, *batch, *purpose, machine)?.iter().flat_map(|convolution| &convolution.questions) {
            let names: Vec<&str> = candidates::<f32>(question.shape(), machine.means()).map(|algorithm| algorithm.name).collect();
            if names.len() < 2 || !tuning.measured(question).is_empty() {
                continue;
            }
            let times: Option<Vec<f64>> = names.iter().map(|name| known.seconds(question, name)).collect();
            let times = match times {
                Some(times) => times,
                None => {
                    measured += 1;
                    seconds(question, machine)?
                }
            };
            for (name, seconds) in names.iter().zip(times) {
                tuning.insert(*question, name, seconds);
            }
        }
    }
    let questions = tuning.len();
    Ok(Tuned { machine: machine.clone().tuned(Some(Arc::new(tuning))), questions, measured, seconds: begun.elapsed().as_secs_f64() })
}

/// Seconds of each candidate, in the order of the table.
fn seconds(question: &Question, machine: &Machine) -> Result<Vec<f64>> {
    let mut candidates = candidates::<f32>(question.shape(), machine.means());
    let Some(first) = candidates.next() else { return Ok(Vec::new()) };
    let mut work = ConvWork::new(question.shape(), question.pass(), first, machine)?;
    let mut all = vec![median_seconds(&mut work, question.uses())];
    for algorithm in candidates {
        work = work.with(algorithm)?;
        all.push(median_seconds(&mut work, question.uses()));
    }
    Ok(all)
}

/// Median seconds of one use: the pass, and its part of packing.
fn median_seconds(work: &mut ConvWork, uses: usize) -> f64 {
    let mut once = || {
        let begun = Instant::now();
        if uses < usize::MAX {
            work.pack();
        }
        let packed = begun.elapsed();
        work.run();
        let whole = begun.elapsed();
        (whole - packed).as_secs_f64() + packed.as_secs_f64() / uses as f64
    };
    // The first use finds neither the operands in the caches nor the memory in its place.
    once();
    let (begun, mut seconds) = (Instant::now(), Vec::with_capacity(ROUNDS));
    while seconds.is_empty() || seconds.len() < ROUNDS && begun.elapsed() < LIMIT {
        seconds.push(once());
    }
    seconds.sort_by(f64::total_cmp);
    // A clock that did not move would leave no time at all.
    seconds[seconds.len() / 2].max(1e-9)
}

#[cfg(test)]
mod tests {
    use convnet_kernels::Isa;
    use convnet_kernels::conv::Pass;

    use super::*;

    /// Two layers alike, one of its own kind, and two that only one algorithm computes.
    const TEXT: &str =
        "input 4x12x12 -> conv 24 3x3 pad 1 -> [conv 24 3x3 pad 1]*2 -> conv 24 1x1 -> conv 24 3x3 stride 2 -> flatten -> fc 3";

    fn machine() -> Machine {
        Machine::new(Isa::detect(), 1)
    }

    fn tuning(tuned: &Tuned) -> &Tuning {
        tuned.machine.tuning.as_ref().unwrap()
    }

    #[test]
    fn each_distinct_shape_and_pass_is_measured_once_with_all_its_candidates() {
        let network = Network::parse(TEXT).unwrap();
        let tuned = tune(&network, &[(2, Purpose::Train), (2, Purpose::Train)], &machine(), &Tuning::default()).unwrap();
        // The first layer's input has no gradient.
        assert_eq!((tuned.questions, tuned.measured), (2 + 3, 5));
        for (question, times) in tuning(&tuned).iter() {
            assert_eq!(question.uses(), 1);
            assert_eq!(times.len(), candidates::<f32>(question.shape(), machine().means()).count());
        }
        let again = tune(&network, &[(2, Purpose::Train)], &machine(), tuning(&tuned)).unwrap();
        assert_eq!((again.questions, again.measured), (5, 0));
        assert_eq!(tuning(&again), tuning(&tuned));
    }

    #[test]
    fn purposes_and_batches_are_questions_of_their_own() {
        let network = Network::parse(TEXT).unwrap();
        let tuned = |plans: &[(usize, Purpose)], known: &Tuning| tune(&network, plans, &machine(), known).unwrap();
        let train = tuned(&[(2, Purpose::Train)], &Tuning::default());
        let both = tuned(&[(2, Purpose::Train), (2, Purpose::Infer), (3, Purpose::Infer)], tuning(&train));
        assert_eq!((both.questions, both.measured), (5 + 2 + 2, 4));
        let forward = tuning(&both).iter().filter(|(question, _)| question.pass() == Pass::Forward && question.uses() == usize::MAX);
        assert_eq!(forward.count(), 4);
    }

    #[test]
    fn what_is_forbidden_is_not_measured_and_a_known_part_does_not_stand_for_the_whole() {
        let network = Network::parse("input 4x12x12 -> conv 24 3x3 pad 1").unwrap();
        let plans = [(1, Purpose::Infer)];
        let exact = tune(&network, &plans, &machine().exact(), &Tuning::default()).unwrap();
        assert_eq!(exact.questions, 0);
        let whole = tune(&network, &plans, &machine(), &Tuning::default()).unwrap();
        let mut part = Tuning::default();
        let (question, times) = tuning(&whole).iter().next().unwrap();
        part.insert(*question, &times[0].algorithm, times[0].seconds);
        assert_eq!(tune(&network, &plans, &machine(), &part).unwrap().measured, 1);
    }

    #[test]
    fn a_batch_too_large_is_an_error() {
        let network = Network::parse(TEXT).unwrap();
        assert!(tune(&network, &[(0, Purpose::Infer)], &machine(), &Tuning::default()).is_err());
        assert!(tune(&network, &[(1 << 52, Purpose::Infer)], &machine(), &Tuning::default()).is_err());
    }
}
