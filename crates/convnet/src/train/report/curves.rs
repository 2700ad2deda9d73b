//! The course of a training as charts and as a table.

use super::chart::{LineChart, Series, Unit};
use crate::page::number::{count, duration, figure, percent};
use crate::train::{EpochRecord, StepRecord};

/// A value beyond this is drawn no more than one that is not a number.
const LARGEST: f64 = 1e30;
/// The most epochs that the table lists.
const MOST_ROWS: usize = 100;

/// The charts that there is anything to draw for.
pub(super) fn charts(steps: &[StepRecord], epochs: &[EpochRecord]) -> Vec<LineChart> {
    [
        by_epoch("Accuracy per epoch", epochs, Unit::Percent),
        by_epoch("Loss per epoch", epochs, Unit::None),
        loss_by_step(steps),
        rate(steps),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn by_epoch(title: &'static str, epochs: &[EpochRecord], unit: Unit) -> Option<LineChart> {
    let of = |score: crate::train::Score| if unit == Unit::Percent { 100.0 * score.accuracy } else { score.loss };
    let train = epochs.iter().map(|record| (record.epoch, of(record.train)));
    let test = epochs.iter().filter_map(|record| Some((record.epoch, of(record.test?))));
    let mut notes = Vec::new();
    let series = vec![
        Series { name: "training", class: "train", points: drawable(train, "epochs in training", &mut notes), noisy: false },
        Series { name: "test", class: "test", points: drawable(test, "epochs in the test", &mut notes), noisy: false },
    ];
    LineChart::new(title, "epoch", unit, series, notes)
}

fn loss_by_step(steps: &[StepRecord]) -> Option<LineChart> {
    let mut notes = Vec::new();
    let raw = drawable(steps.iter().map(|record| (record.step, record.loss)), "logged steps", &mut notes);
    let window = (raw.len() / 40).min(200);
    let mut series = vec![Series { name: "each logged step", class: "raw", points: raw, noisy: true }];
    if window > 1 {
        let smooth = smoothed(&series[0].points, window);
        notes.push(format!("The thick line is an exponential mean over about {window} logged steps."));
        series.push(Series { name: "mean", class: "train", points: smooth, noisy: false });
    } else {
        series[0].class = "train";
    }
    LineChart::new("Loss per step", "step", Unit::None, series, notes)
}

fn rate(steps: &[StepRecord]) -> Option<LineChart> {
    let mut notes = Vec::new();
    let points = drawable(steps.iter().map(|record| (record.step, record.learning_rate)), "logged steps", &mut notes);
    LineChart::new("Learning rate per step", "step", Unit::None, vec![Series { name: "rate", class: "rate", points, noisy: true }], notes)
}

/// The points that can be drawn, in order, one for each count; a note says how many cannot.
fn drawable(records: impl Iterator<Item = (usize, f64)>, what: &str, notes: &mut Vec<String>) -> Vec<(f64, f64)> {
    let (mut points, mut left_out, mut first): (Vec<(f64, f64)>, usize, Option<usize>) = (Vec::new(), 0, None);
    let mut records: Vec<(usize, f64)> = records.collect();
    records.sort_by_key(|record| record.0);
    for (place, (count, value)) in records.iter().enumerate() {
        if records.get(place + 1).is_some_and(|next| next.0 == *count) {
            continue;
        }
        if value.abs() <= LARGEST {
            points.push((*count as f64, *value));
        } else {
            left_out += 1;
            first = first.or(Some(*count));
        }
    }
    if let Some(first) = first {
        let of = count(records.len() as u64);
        notes.push(format!("Left out: {left_out} of {of} {what} without a finite value, the first at {first}."));
    }
    points
}

/// The exponential mean with the memory of a window, without the pull of a first value.
fn smoothed(points: &[(f64, f64)], window: usize) -> Vec<(f64, f64)> {
    let fresh = 2.0 / (window as f64 + 1.0);
    let (mut sum, mut weight) = (0.0, 0.0);
    let mean = |&(count, value): &(f64, f64)| {
        sum += fresh * (value - sum);
        weight += fresh * (1.0 - weight);
        (count, sum / weight)
    };
    points.iter().map(mean).collect()
}

/// A row of the table of epochs.
#[derive(Debug)]
pub(super) struct EpochRow {
    pub epoch: String,
    pub best: bool,
    /// Loss and accuracy in training, loss and accuracy in the test, learning rate, images per second, time.
    pub cells: [String; 7],
}

/// The epochs as rows, every one or evenly chosen ones, with the best and the last.
pub(super) fn rows(epochs: &[EpochRecord]) -> Vec<EpochRow> {
    let tested = epochs.iter().enumerate().filter_map(|(place, record)| Some((place, record.test?.accuracy)));
    let best = tested.fold(None, |best: Option<(usize, f64)>, found| match best {
        Some(best) if best.1 >= found.1 || found.1.is_nan() => Some(best),
        _ => Some(found),
    });
    let every = epochs.len().div_ceil(MOST_ROWS).max(1);
    let listed = |place: usize| (place + 1).is_multiple_of(every) || place + 1 == epochs.len() || Some(place) == best.map(|best| best.0);
    let row = |(place, record): (usize, &EpochRecord)| {
        let test =
            |text: fn(f64) -> String, of: fn(crate::train::Score) -> f64| record.test.map_or("–".to_owned(), |score| text(of(score)));
        EpochRow {
            epoch: count(record.epoch as u64),
            best: Some(place) == best.map(|best| best.0),
            cells: [
                figure(record.train.loss),
                percent(record.train.accuracy),
                test(figure, |score| score.loss),
                test(percent, |score| score.accuracy),
                figure(record.learning_rate),
                figure(record.images_per_second),
                duration(record.seconds),
            ],
        }
    };
    epochs.iter().enumerate().filter(|(place, _)| listed(*place)).map(row).collect()
}

/// Images per second: the median of the epochs, so that a pause does not count.
pub(super) fn images_per_second(epochs: &[EpochRecord]) -> Option<f64> {
    let mut speeds: Vec<f64> = epochs.iter().map(|record| record.images_per_second).filter(|speed| speed.is_finite()).collect();
    speeds.sort_by(f64::total_cmp);
    speeds.get(speeds.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Score;

    fn step(step: usize, loss: f64) -> StepRecord {
        StepRecord { epoch: 1, step, loss, learning_rate: 0.1 }
    }

    fn epoch(epoch: usize, accuracy: Option<f64>, images_per_second: f64) -> EpochRecord {
        let score = |accuracy| Score { loss: 1.0, accuracy };
        EpochRecord {
            epoch,
            step: epoch,
            train: score(0.5),
            test: accuracy.map(score),
            learning_rate: 0.1,
            seconds: 1.0,
            images_per_second,
        }
    }

    #[test]
    fn a_loss_that_is_no_number_is_left_out_and_said_so() {
        let steps = [step(10, 2.0), step(20, f64::NAN), step(30, f64::INFINITY), step(40, 1e300), step(50, 1.0)];
        let chart = loss_by_step(&steps).unwrap();
        assert_eq!(chart.notes, ["Left out: 3 of 5 logged steps without a finite value, the first at 20."]);
        assert_eq!(chart.lines[0].points.split(' ').count(), 2);
        assert!(loss_by_step(&steps[1..4]).is_none());
    }

    #[test]
    fn of_a_step_that_was_logged_twice_the_last_counts() {
        assert_eq!(drawable([(2, 5.0), (1, 4.0), (2, 3.0)].into_iter(), "steps", &mut Vec::new()), [(1.0, 4.0), (2.0, 3.0)]);
    }

    #[test]
    fn smoothing_keeps_a_constant_and_the_first_value() {
        let constant: Vec<(f64, f64)> = (0..50).map(|step| (f64::from(step), 0.7)).collect();
        assert!(smoothed(&constant, 9).iter().all(|point| (point.1 - 0.7).abs() < 1e-12));
        let falling = [(1.0, 4.0), (2.0, 2.0)];
        assert_eq!(smoothed(&falling, 3), [(1.0, 4.0), (2.0, (0.25 * 4.0 + 0.5 * 2.0) / 0.75)]);
    }

    #[test]
    fn of_many_epochs_a_hundred_and_the_best_are_listed() {
        let epochs: Vec<EpochRecord> = (1..=1_001).map(|number| epoch(number, Some(if number == 13 { 0.9 } else { 0.5 }), 1.0)).collect();
        let rows = rows(&epochs);
        assert!(rows.len() <= MOST_ROWS + 2 && rows.iter().filter(|row| row.best).count() == 1);
        assert_eq!(rows.iter().find(|row| row.best).unwrap().epoch, "13");
        assert_eq!(rows.last().unwrap().epoch, "1,001");
    }

    #[test]
    fn an_epoch_without_test_has_dashes_and_is_not_the_best() {
        let rows = rows(&[epoch(1, Some(0.1), 1.0), epoch(2, None, 1.0)]);
        assert!(rows[0].best && !rows[1].best);
        assert_eq!(rows[1].cells[2..4], ["–", "–"]);
    }

    #[test]
    fn the_speed_is_the_median_of_the_epochs() {
        let speeds = [900.0, 1_000.0, f64::NAN, 3.0].map(|speed| epoch(1, None, speed));
        assert_eq!(images_per_second(&speeds), Some(900.0));
        assert_eq!(images_per_second(&[]), None);
    }
}
