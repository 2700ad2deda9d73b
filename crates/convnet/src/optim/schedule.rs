//! Schedules: the learning rate as a plain function of the step.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The way from one rate to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Anneal {
    /// In a straight line.
    #[default]
    Linear,
    /// Along half a period of the cosine.
    Cosine,
}

impl Anneal {
    /// The value at `share`, from 0 to 1, of the way from `from` to `to`.
    fn between(self, from: f64, to: f64, share: f64) -> f64 {
        let share = match self {
            Self::Linear => share,
            Self::Cosine => (1.0 - libm::cos(std::f64::consts::PI * share)) / 2.0,
        };
        from + (to - from) * share
    }
}

/// The course of the learning rate, as a factor of the base rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ScheduleKind {
    /// Always 1.
    Constant {},
    /// Multiplied by `factor` after every `every` epochs.
    Step {
        /// Epochs between two changes, counted from the beginning, warm-up included; rounded to whole steps.
        every: f64,
        /// What the rate is multiplied with, above 0 and at most 1.
        #[serde(default = "tenth")]
        factor: f64,
    },
    /// From 1 to `floor` along half a period of the cosine: floor + (1 − floor)·(1 + cos(π·t/T))/2 at step t of the T after
    /// the warm-up (Loshchilov and Hutter 2017). `floor` itself would be reached at step T.
    Cosine {
        /// Share of the base rate, from 0 to 1.
        #[serde(default)]
        floor: f64,
    },
    /// Up from `start` to 1 in the first `peak` of the steps, then down to `end`, which the last step has (Smith and
    /// Topin 2017). The rises and falls are where PyTorch's `OneCycleLR` has them: of T steps, counted from 0, step
    /// peak·T − 1 has the base rate.
    OneCycle {
        /// Share of the steps, from 0 to 1.
        #[serde(default = "third")]
        peak: f64,
        /// Share of the base rate at the first step, from 0 to 1.
        #[serde(default = "twenty_fifth")]
        start: f64,
        /// Share of the base rate at the last step, from 0 to 1.
        #[serde(default)]
        end: f64,
        /// Straight, or along a cosine.
        #[serde(default)]
        anneal: Anneal,
    },
}

fn tenth() -> f64 {
    0.1
}

fn third() -> f64 {
    0.3
}

fn twenty_fifth() -> f64 {
    0.04
}

/// The learning rate over a training: a course, and a warm-up before it.
///
/// ```
/// use convnet::optim::Schedule;
///
/// let mut schedule: Schedule = "cosine".parse()?;
/// schedule.warmup = 1.0;
/// let factor = |step| schedule.factor(step, 10, 110);
/// assert_eq!([factor(0), factor(4), factor(9), factor(10)], [0.1, 0.5, 1.0, 1.0]);
/// assert!((factor(60) - 0.5).abs() < 1e-15);
/// # Ok::<(), convnet::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The course. Its keys stand beside `warmup`; those that it does not know are refused.
    #[serde(flatten)]
    pub kind: ScheduleKind,
    /// Epochs, rounded to whole steps, in which the rate rises in a straight line: of W steps, number t from 0 has the
    /// share (t + 1)/W.
    #[serde(default)]
    pub warmup: f64,
}

/// This many epochs in steps, to the nearest.
fn steps(epochs: f64, steps_per_epoch: u64) -> u64 {
    // The conversion holds at the ends of the type.
    (epochs * steps_per_epoch as f64).round() as u64
}

impl Default for ScheduleKind {
    fn default() -> Self {
        Self::Constant {}
    }
}

impl ScheduleKind {
    /// The factor at `step` of `total`, of which the first `warmup` are the warm-up.
    fn factor(&self, step: u64, steps_per_epoch: u64, total: u64, warmup: u64) -> f64 {
        match *self {
            Self::Constant {} => 1.0,
            Self::Step { every, factor } => {
                let changes = step / steps(every, steps_per_epoch).max(1);
                libm::pow(factor, changes as f64)
            }
            Self::Cosine { floor } => {
                let length = total.saturating_sub(warmup).max(1);
                let done = step.saturating_sub(warmup).min(length);
                Anneal::Cosine.between(1.0, floor, done as f64 / length as f64)
            }
            Self::OneCycle { peak, start, end, anneal } => {
                let last = total.saturating_sub(1) as f64;
                let top = (peak * total as f64 - 1.0).clamp(0.0, last);
                let step = (step as f64).min(last);
                if step < top {
                    anneal.between(start, 1.0, step / top)
                } else if top < last {
                    anneal.between(1.0, end, (step - top) / (last - top))
                } else {
                    1.0
                }
            }
        }
    }

    /// Every setting: its name, its value, and the least and the most that it may be.
    fn ranges(&self) -> Vec<(&'static str, f64, f64, f64)> {
        match *self {
            Self::Constant {} => Vec::new(),
            Self::Step { every, factor } => vec![("every", every, f64::MIN_POSITIVE, 1e9), ("factor", factor, f64::MIN_POSITIVE, 1.0)],
            Self::Cosine { floor } => vec![("floor", floor, 0.0, 1.0)],
            Self::OneCycle { peak, start, end, .. } => vec![("peak", peak, 0.0, 1.0), ("start", start, 0.0, 1.0), ("end", end, 0.0, 1.0)],
        }
    }
}

impl Schedule {
    /// The names that [`FromStr`] takes.
    pub const NAMES: [&'static str; 4] = ["constant", "step", "cosine", "one-cycle"];

    /// What the base rate is multiplied with at `step`, counted from 0, of `total_steps`. Later steps have the factor of
    /// the end.
    pub fn factor(&self, step: u64, steps_per_epoch: u64, total_steps: u64) -> f64 {
        let warmup = steps(self.warmup, steps_per_epoch).min(total_steps);
        let rise = if step < warmup { (step + 1) as f64 / warmup as f64 } else { 1.0 };
        rise * self.kind.factor(step, steps_per_epoch, total_steps, warmup)
    }

    /// Whether the settings are in their ranges.
    ///
    /// # Errors
    /// The setting, its value and what it may be.
    pub fn check(&self) -> Result<()> {
        let ranges = self.kind.ranges();
        for &(name, value, least, most) in ranges.iter().chain(&[("warmup", self.warmup, 0.0, 1e9)]) {
            if !(least..=most).contains(&value) {
                let least = if least > 0.0 { "above 0" } else { "at least 0" };
                return Err(Error::Argument(format!("the schedule's {name} is {value}, but it is {least} and at most {most}")));
            }
        }
        if self.warmup > 0.0 && matches!(self.kind, ScheduleKind::OneCycle { .. }) {
            return Err(Error::Argument("the one-cycle schedule warms up by itself; leave out warmup, and set start and peak".into()));
        }
        Ok(())
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.kind {
            ScheduleKind::Constant {} => "constant",
            ScheduleKind::Step { .. } => "step",
            ScheduleKind::Cosine { .. } => "cosine",
            ScheduleKind::OneCycle { .. } => "one-cycle",
        })
    }
}

impl FromStr for Schedule {
    type Err = Error;

    /// The schedule of that name with its usual settings and no warm-up; `step` takes a tenth every 30 epochs.
    fn from_str(name: &str) -> Result<Self> {
        let kind = match name {
            "constant" => ScheduleKind::Constant {},
            "step" => ScheduleKind::Step { every: 30.0, factor: tenth() },
            "cosine" => ScheduleKind::Cosine { floor: 0.0 },
            "one-cycle" => ScheduleKind::OneCycle { peak: third(), start: twenty_fifth(), end: 0.0, anneal: Anneal::Linear },
            _ => return Err(Error::Argument(format!("'{name}' is not a schedule; there are {}", Self::NAMES.join(", ")))),
        };
        Ok(Self { kind, warmup: 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The factors at the first `count` of `total` steps, an epoch having three.
    fn factors(kind: ScheduleKind, warmup: f64, total: u64, count: u64) -> Vec<f64> {
        let schedule = Schedule { kind, warmup };
        schedule.check().unwrap();
        (0..count).map(|step| schedule.factor(step, 3, total)).collect()
    }

    fn assert_near(values: &[f64], expected: &[f64]) {
        assert_eq!(values.len(), expected.len());
        for (step, (value, expected)) in values.iter().zip(expected).enumerate() {
            assert!((value - expected).abs() < 1e-14, "step {step}: {value}, not {expected}");
        }
    }

    #[test]
    fn cosine_is_that_of_pytorch() {
        // torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12, eta_min=0.1) of a base rate of 1.
        let expected = [
            1.0,
            0.9846666218300807,
            0.9397114317029974,
            0.8681980515339462,
            0.775,
            0.6664685702961343,
            0.55,
            0.4335314297038657,
            0.325,
            0.23180194846605368,
            0.1602885682970026,
            0.11533337816991932,
            0.1,
        ];
        assert_near(&factors(ScheduleKind::Cosine { floor: 0.1 }, 0.0, 12, 13), &expected);
    }

    #[test]
    fn one_cycle_is_that_of_pytorch() {
        // torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, 13, pct_start=0.3, div_factor=25, final_div_factor=40).
        let linear = [
            0.04,
            0.37103448275862067,
            0.7020689655172414,
            0.989021978021978,
            0.8792417582417582,
            0.7694615384615384,
            0.6596813186813186,
            0.549901098901099,
            0.44012087912087916,
            0.33034065934065937,
            0.22056043956043958,
            0.11078021978021979,
            0.001,
        ];
        let cosine = [
            0.04,
            0.29516394846410077,
            0.7893697913739435,
            0.9997023682052597,
            0.9644137419425884,
            0.874381118711465,
            0.7402287702409134,
            0.5777873027277456,
            0.40622557107126817,
            0.24578866410712724,
            0.11540888918990769,
            0.030471671146493018,
            0.001,
        ];
        let kind = |anneal| ScheduleKind::OneCycle { peak: 0.3, start: 0.04, end: 0.001, anneal };
        assert_near(&factors(kind(Anneal::Linear), 0.0, 13, 13), &linear);
        assert_near(&factors(kind(Anneal::Cosine), 0.0, 13, 13), &cosine);
    }

    #[test]
    fn step_multiplies_after_every_so_many_epochs_from_the_beginning() {
        let kind = ScheduleKind::Step { every: 2.0, factor: 0.1 };
        let expected = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.01];
        assert_near(&factors(kind, 0.0, 13, 13), &expected);
        assert_near(&factors(kind, 1.0, 13, 7), &[1.0 / 3.0, 2.0 / 3.0, 1.0, 1.0, 1.0, 1.0, 0.1]);
        // Less than one step is one step.
        assert_near(&factors(ScheduleKind::Step { every: 0.1, factor: 0.5 }, 0.0, 9, 3), &[1.0, 0.5, 0.25]);
    }

    #[test]
    fn the_warm_up_rises_in_a_straight_line_before_the_course_begins() {
        assert_near(&factors(ScheduleKind::Constant {}, 4.0 / 3.0, 9, 6), &[0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
        let cosine = factors(ScheduleKind::Cosine { floor: 0.0 }, 1.0, 9, 10);
        assert_near(&cosine[..4], &[1.0 / 3.0, 2.0 / 3.0, 1.0, 1.0]);
        assert_near(&cosine[6..7], &[0.5]);
        assert_near(&cosine[9..], &[0.0]);
    }

    #[test]
    fn every_factor_is_from_0_to_1_however_short_the_training() {
        for name in Schedule::NAMES {
            let mut schedule: Schedule = name.parse().unwrap();
            for warmup in [0.0, 0.4, 1.0, 50.0] {
                schedule.warmup = warmup;
                for total in 0..6 {
                    for step in 0..8 {
                        let factor = schedule.factor(step, 2, total);
                        assert!((0.0..=1.0).contains(&factor), "{schedule:?} at {step} of {total}: {factor}");
                    }
                }
            }
        }
        for peak in [0.0, 1.0] {
            let kind = ScheduleKind::OneCycle { peak, start: 0.5, end: 0.25, anneal: Anneal::Linear };
            let ends = factors(kind, 0.0, 5, 5);
            assert_eq!((ends[0], ends[4]), if peak == 0.0 { (1.0, 0.25) } else { (0.5, 1.0) });
        }
    }

    #[test]
    fn a_schedule_is_one_flat_table_and_reads_back() {
        let schedule = Schedule { kind: ScheduleKind::Cosine { floor: 0.01 }, warmup: 5.0 };
        let text = serde_json::to_string(&schedule).unwrap();
        assert_eq!(text, r#"{"kind":"cosine","floor":0.01,"warmup":5.0}"#);
        for name in Schedule::NAMES {
            let schedule: Schedule = name.parse().unwrap();
            assert_eq!(schedule.to_string(), name);
            assert_eq!(serde_json::from_str::<Schedule>(&serde_json::to_string(&schedule).unwrap()).unwrap(), schedule);
        }
        let read = |text| serde_json::from_str::<Schedule>(text);
        assert_eq!(read(r#"{"kind": "cosine"}"#).unwrap(), "cosine".parse().unwrap());
        assert_eq!(read(r#"{"kind": "step", "every": 30}"#).unwrap(), "step".parse().unwrap());
        assert_eq!(read(r#"{"kind": "constant", "warmup": 1}"#).unwrap().warmup, 1.0);
    }

    #[test]
    fn what_a_schedule_does_not_know_is_refused() {
        for text in [
            r#"{"kind": "cosine", "flor": 0.1}"#,
            r#"{"kind": "constant", "floor": 0.1}"#,
            r#"{"kind": "cosine", "warm_up": 1}"#,
            r#"{"kind": "step"}"#,
            r#"{"kind": "sine"}"#,
            r#"{"warmup": 1}"#,
        ] {
            assert!(serde_json::from_str::<Schedule>(text).is_err(), "{text}");
        }
        let error = "linear".parse::<Schedule>().unwrap_err().to_string();
        assert!(error.contains("'linear'") && error.contains("one-cycle"), "{error}");
    }

    #[test]
    fn settings_out_of_range_are_refused_with_their_range() {
        let refusal = |kind, warmup| Schedule { kind, warmup }.check().unwrap_err().to_string();
        let cosine = |floor| ScheduleKind::Cosine { floor };
        assert_eq!(refusal(cosine(1.5), 0.0), "the schedule's floor is 1.5, but it is at least 0 and at most 1");
        let never = ScheduleKind::Step { every: 0.0, factor: 0.1 };
        assert_eq!(refusal(never, 0.0), "the schedule's every is 0, but it is above 0 and at most 1000000000");
        assert!(refusal(cosine(f64::NAN), 0.0).contains("NaN"));
        assert!(refusal(cosine(0.0), -1.0).contains("warmup is -1"));
        assert!(refusal(cosine(0.0), f64::INFINITY).contains("warmup is inf"));
        let one_cycle = "one-cycle".parse::<Schedule>().unwrap().kind;
        assert!(refusal(one_cycle, 1.0).contains("leave out warmup"));
    }
}
