//! Which algorithm was measured to be fastest, where it was measured.
//!
//! The cost model that [`choose`](super::choose) goes by is the same for every computer with the same instructions. A
//! [`Tuning`] holds what one computer needs: for each [`Question`] the seconds of the algorithms that were tried. It can make
//! a choice slow, never wrong, whatever it holds: `choose` only takes an algorithm that exists, accepts the shape and is allowed.

use std::collections::HashMap;

use super::{ConvShape, Pass};

/// What an algorithm is chosen for: one pass of a convolution whose weights are used so often before they change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    shape: ConvShape,
    pass: Pass,
    uses: usize,
}

impl Question {
    /// The question of this pass. How often weights are used only counts in the forward pass: the gradient of the input is
    /// only wanted for weights that have just changed, and that of the weights reads none.
    pub fn new(shape: &ConvShape, pass: Pass, uses: usize) -> Self {
        let uses = if pass == Pass::Forward { uses.max(1) } else { 1 };
        Self { shape: *shape, pass, uses }
    }

    /// The convolution.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// The pass.
    pub fn pass(&self) -> Pass {
        self.pass
    }

    /// How often the weights are used before they change, at least 1.
    pub fn uses(&self) -> usize {
        self.uses
    }
}

/// The time of one algorithm.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Name of the algorithm.
    pub algorithm: String,
    /// Seconds of the pass, with its part of packing the weights.
    pub seconds: f64,
}

/// Measured times, by question.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tuning {
    measured: HashMap<Question, Vec<Measured>>,
}

impl Tuning {
    /// Keeps the time of an algorithm, in place of an older one. Whether it was kept: a time that is no finite number above
    /// zero is not.
    pub fn insert(&mut self, question: Question, algorithm: &str, seconds: f64) -> bool {
        if !(seconds.is_finite() && seconds > 0.0) {
            return false;
        }
        let list = self.measured.entry(question).or_default();
        list.retain(|measured| measured.algorithm != algorithm);
        list.push(Measured { algorithm: algorithm.to_owned(), seconds });
        true
    }

    /// The algorithms that were measured for this question.
    pub fn measured(&self, question: &Question) -> &[Measured] {
        self.measured.get(question).map_or(&[], Vec::as_slice)
    }

    /// Seconds of an algorithm for this question, if it was measured.
    pub fn seconds(&self, question: &Question, algorithm: &str) -> Option<f64> {
        self.measured(question).iter().find(|measured| measured.algorithm == algorithm).map(|measured| measured.seconds)
    }

    /// Every question with its times, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&Question, &[Measured])> {
        self.measured.iter().map(|(question, measured)| (question, measured.as_slice()))
    }

    /// Number of questions.
    pub fn len(&self) -> usize {
        self.measured.len()
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.measured.is_empty()
    }

    /// Takes in every time of another tuning; where both have one, the other's.
    pub fn merge(&mut self, other: &Self) {
        for (question, list) in other.iter() {
            for measured in list {
                self.insert(*question, &measured.algorithm, measured.seconds);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{ALGORITHMS, candidates, choose, explain};
    use super::*;
    use crate::{Isa, Machine};

    const SQUARE: &str = "conv n1 c64 56x56 -> 64 w3 s1 p1";

    fn machine() -> Machine {
        Machine::new(Isa::detect(), 1)
    }

    fn question(text: &str, pass: Pass) -> Question {
        Question::new(&text.parse().unwrap(), pass, usize::MAX)
    }

    fn tuned(question: Question, times: &[(&str, f64)]) -> Machine {
        let mut tuning = Tuning::default();
        times.iter().for_each(|(algorithm, seconds)| assert!(tuning.insert(question, algorithm, *seconds)));
        machine().tuned(Some(Arc::new(tuning)))
    }

    fn chosen(machine: &Machine, text: &str, pass: Pass) -> &'static str {
        choose::<f32>(&text.parse().unwrap(), machine.means(), pass).name
    }

    #[test]
    fn the_fastest_that_was_measured_is_chosen_whatever_it_was_expected_to_take() {
        for pass in Pass::ALL {
            let shape = SQUARE.parse().unwrap();
            let all: Vec<&str> = candidates::<f32>(&shape, machine().means()).map(|algorithm| algorithm.name).collect();
            assert!(all.len() >= 3, "{all:?}");
            for fastest in &all {
                let times: Vec<(&str, f64)> = all.iter().map(|name| (*name, if name == fastest { 0.5 } else { 1.0 })).collect();
                let machine = tuned(question(SQUARE, pass), &times);
                assert_eq!(chosen(&machine, SQUARE, pass), *fastest);
                let (name, reasons) = explain::<f32>(&shape, machine.means(), pass);
                assert_eq!(name, *fastest);
                assert_eq!(reasons.iter().filter(|(_, reason)| reason == "measured to take 2.0 times as long").count(), all.len() - 1);
            }
        }
    }

    #[test]
    fn what_was_measured_for_something_else_decides_nothing() {
        let machine = tuned(question(SQUARE, Pass::Forward), &[("direct", 1.0), ("winograd 4x4", 2.0)]);
        assert_eq!(chosen(&machine, SQUARE, Pass::Forward), "direct");
        assert_eq!(chosen(&machine, SQUARE, Pass::BackwardInput), "winograd 4x4");
        assert_eq!(chosen(&machine, "conv n2 c64 56x56 -> 64 w3 s1 p1", Pass::Forward), "winograd 4x4");
        assert_eq!(chosen(&machine.for_uses(1), SQUARE, Pass::Forward), "winograd 4x4");
    }

    #[test]
    fn an_algorithm_that_is_unknown_refuses_the_shape_or_is_forbidden_is_never_taken() {
        let forward = |text: &str| question(text, Pass::Forward);
        let machine = tuned(forward(SQUARE), &[("warp drive", 1e-9), ("depthwise", 1e-9), ("reference", 1e-9), ("direct", 1.0)]);
        assert_eq!(chosen(&machine, SQUARE, Pass::Forward), "direct");
        let machine = tuned(forward(SQUARE), &[("winograd 4x4", 1e-9), ("direct", 1.0)]);
        assert_eq!(chosen(&machine, SQUARE, Pass::Forward), "winograd 4x4");
        assert_eq!(chosen(&machine.exact(), SQUARE, Pass::Forward), "direct");
        // Nothing that may be taken was measured: as without a tuning.
        let strided = "conv n1 c64 56x56 -> 64 w3 s2 p1";
        assert_eq!(chosen(&tuned(forward(strided), &[("winograd 2x2", 1e-9)]), strided, Pass::Forward), "direct");
    }

    #[test]
    fn other_number_types_are_not_tuned() {
        let machine = tuned(question(SQUARE, Pass::Forward), &[("direct", 1.0)]);
        assert_eq!(choose::<f64>(&SQUARE.parse().unwrap(), machine.means(), Pass::Forward).name, "reference");
    }

    #[test]
    fn times_that_are_no_times_are_not_kept_and_later_ones_replace_earlier_ones() {
        let (mut tuning, question) = (Tuning::default(), question(SQUARE, Pass::Forward));
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(!tuning.insert(question, "direct", seconds));
        }
        assert!(tuning.is_empty());
        tuning.insert(question, "direct", 3.0);
        let mut other = Tuning::default();
        other.insert(question, "direct", 2.0);
        other.insert(question, "winograd 2x2", 1.0);
        tuning.merge(&other);
        assert_eq!(tuning, other);
        assert_eq!((tuning.len(), tuning.seconds(&question, "direct"), tuning.seconds(&question, "no")), (1, Some(2.0), None));
    }

    #[test]
    fn the_definition_is_a_candidate_only_where_nothing_else_is() {
        for text in [SQUARE, "conv n1 c4 9x9 -> 6 w3 s1 p0,1,2,0 d2x1 g2", "conv n1 c8 9x9 -> 8 w3 s1 p1 g8"] {
            let shape = text.parse().unwrap();
            let names: Vec<&str> = candidates::<f32>(&shape, machine().means()).map(|algorithm| algorithm.name).collect();
            let reference = ALGORITHMS.last().unwrap().name;
            assert!(!names.is_empty() && (names == [reference] || !names.contains(&reference)), "{text}: {names:?}");
        }
        assert_eq!(candidates::<f64>(&SQUARE.parse().unwrap(), machine().means()).count(), 1);
    }
}
