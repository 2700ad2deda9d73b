//! What is taken for what: the confusion matrix as a table of colours, and precision and recall of each class.

use crate::model::Evaluation;
use crate::page::colour::LEVELS;
use crate::page::number::{count, percent};

/// The most classes that the confusion matrix and the table of classes show.
const MOST_CLASSES: usize = 30;
/// How many of the most frequent confusions are told in words.
const MOST_PAIRS: usize = 6;

/// The confusion matrix: rows are labels, columns are what the images were called.
#[derive(Debug)]
pub(super) struct Confusion<'a> {
    pub columns: Vec<&'a str>,
    pub rows: Vec<Row<'a>>,
    /// Set when only the most confused classes are shown: how many there are in all. A last column then counts the rest.
    pub of: Option<String>,
    pub pairs: Vec<Pair<'a>>,
    pub legend: Legend,
}

#[derive(Debug)]
pub(super) struct Row<'a> {
    pub label: &'a str,
    pub cells: Vec<Cell>,
}

#[derive(Debug)]
pub(super) struct Cell {
    pub count: String,
    /// Step of the colour scale from 1; 0 for no image at all.
    pub level: usize,
    pub correct: bool,
    pub share: String,
    /// What the images were called; `None` for the classes that are not shown.
    pub column: Option<usize>,
}

/// One label that is often called something else.
#[derive(Debug)]
pub(super) struct Pair<'a> {
    pub label: &'a str,
    pub predicted: &'a str,
    pub count: String,
    pub of: String,
}

/// The colour scale: its steps, and where along it some shares lie, in per cent of its length.
#[derive(Debug)]
pub(super) struct Legend {
    pub levels: Vec<usize>,
    pub ticks: Vec<(String, String)>,
}

/// Precision and recall of one class.
#[derive(Debug)]
pub(super) struct ClassRow<'a> {
    pub class: &'a str,
    pub images: String,
    /// Recall and precision.
    pub bars: [Bar; 2],
}

/// A share as text and as the width of a bar in per cent.
#[derive(Debug)]
pub(super) struct Bar {
    pub text: String,
    pub width: String,
}

impl Bar {
    pub fn new(share: f64, text: String) -> Self {
        let width = if share.is_finite() { 100.0 * share.clamp(0.0, 1.0) } else { 0.0 };
        Self { text, width: format!("{width:.1}") }
    }
}

/// The whole matrix, or the part of it with the most mistakes.
pub(super) fn confusion<'a>(evaluation: &Evaluation, names: &'a [String]) -> Confusion<'a> {
    let matrix = &evaluation.confusion;
    let shown = most_confused(matrix);
    let partial = shown.len() < matrix.len();
    let row = |&label: &usize| {
        let images: usize = matrix[label].iter().sum();
        let cell = |count_of: usize, correct: bool, column: Option<usize>| {
            let share = if images == 0 { 0.0 } else { count_of as f64 / images as f64 };
            Cell { count: count(count_of as u64), level: level(share), correct, share: percent(share), column }
        };
        let mut cells: Vec<Cell> =
            shown.iter().enumerate().map(|(column, &predicted)| cell(matrix[label][predicted], predicted == label, Some(column))).collect();
        if partial {
            let rest = images - shown.iter().map(|&predicted| matrix[label][predicted]).sum::<usize>();
            cells.push(cell(rest, false, None));
        }
        Row { label: &names[label], cells }
    };
    Confusion {
        columns: shown.iter().map(|&class| names[class].as_str()).collect(),
        rows: shown.iter().map(row).collect(),
        of: partial.then(|| count(matrix.len() as u64)),
        pairs: pairs(matrix, names),
        legend: legend(),
    }
}

/// The classes with the most mistakes in their row and their column, in their own order.
fn most_confused(matrix: &[Vec<usize>]) -> Vec<usize> {
    let mut mistakes = vec![0_usize; matrix.len()];
    for (label, row) in matrix.iter().enumerate() {
        for (predicted, &count) in row.iter().enumerate().filter(|(predicted, _)| *predicted != label) {
            mistakes[label] += count;
            mistakes[predicted] += count;
        }
    }
    first_by(matrix.len(), |class| std::cmp::Reverse(mistakes[class]))
}

/// The first [`MOST_CLASSES`] classes by a key, in their own order.
fn first_by<K: Ord>(classes: usize, key: impl Fn(usize) -> K) -> Vec<usize> {
    let mut order: Vec<usize> = (0..classes).collect();
    order.sort_by_key(|&class| (key(class), class));
    order.truncate(MOST_CLASSES);
    order.sort_unstable();
    order
}

/// The step of the colour scale for a share of a row, from 1, and 0 for nothing; the square root makes room for rare
/// mistakes.
fn level(share: f64) -> usize {
    ((share.sqrt() * LEVELS as f64).ceil() as usize).min(LEVELS)
}

fn legend() -> Legend {
    let tick = |share: f64| (format!("{:.1}", 100.0 * share.sqrt()), percent(share).replace(".0", ""));
    Legend { levels: (1..=LEVELS).collect(), ticks: [0.01, 0.1, 0.25, 0.5, 1.0].map(tick).to_vec() }
}

fn pairs<'a>(matrix: &[Vec<usize>], names: &'a [String]) -> Vec<Pair<'a>> {
    let mut found: Vec<(usize, usize, usize)> = Vec::new();
    for (label, row) in matrix.iter().enumerate() {
        let wrong = row.iter().enumerate().filter(|&(predicted, &count)| predicted != label && count > 0);
        found.extend(wrong.map(|(predicted, &count)| (count, label, predicted)));
    }
    found.sort_by_key(|&(count, label, predicted)| (std::cmp::Reverse(count), label, predicted));
    let pair = |(wrong, label, predicted): (usize, usize, usize)| Pair {
        label: &names[label],
        predicted: &names[predicted],
        count: count(wrong as u64),
        of: count(matrix[label].iter().sum::<usize>() as u64),
    };
    found.into_iter().take(MOST_PAIRS).map(pair).collect()
}

/// The classes with their bars: all, or those with the lowest recall.
pub(super) fn class_rows<'a>(evaluation: &Evaluation, names: &'a [String]) -> Vec<ClassRow<'a>> {
    // Shares are from 0 to 1, where the order of the bits is the order of the numbers.
    let shown = first_by(evaluation.classes.len(), |class| evaluation.classes[class].recall.unwrap_or(2.0).max(0.0).to_bits());
    let bar = |share: Option<f64>| Bar::new(share.unwrap_or(0.0), share.map_or("–".to_owned(), percent));
    let row = |class: usize| {
        let score = &evaluation.classes[class];
        ClassRow { class: &names[class], images: count(score.images as u64), bars: [score.recall, score.precision].map(bar) }
    };
    shown.into_iter().map(row).collect()
}

/// The bounds between which the accuracy on all such images lies with 95 % confidence, by Wilson's score interval:
/// with p of n images correct and z = 1.96, (p + z²/2n ± z·√(p(1 − p)/n + z²/4n²)) / (1 + z²/n).
pub(super) fn interval(accuracy: f64, images: usize) -> Option<[f64; 2]> {
    if images == 0 || !(0.0..=1.0).contains(&accuracy) {
        return None;
    }
    let (n, z) = (images as f64, 1.959_964);
    let spread = z * (accuracy * (1.0 - accuracy) / n + z * z / (4.0 * n * n)).sqrt();
    let bound = |side: f64| (accuracy + z * z / (2.0 * n) + side * spread) / (1.0 + z * z / n);
    Some([bound(-1.0).max(0.0), bound(1.0).min(1.0)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Counter;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|class| format!("class {class}")).collect()
    }

    /// Class `i` of 1,000 is called `i + 1` once for every image but one in a hundred; class 700 is called 3 often.
    fn evaluation(classes: usize) -> Evaluation {
        let mut counter = Counter::new(&names(classes));
        let scores = |class: usize| (0..classes).map(|other| if other == class { 1.0 } else { 0.0 }).collect::<Vec<f32>>();
        for label in 0..classes {
            counter.count(label, label, &scores(label), 0.0);
            if label % 10 == 0 && label + 1 < classes {
                counter.count(label, label, &scores(label + 1), 1.0);
            }
        }
        if classes > 700 {
            (0..5).for_each(|_| counter.count(0, 700, &scores(3), 1.0));
        }
        counter.finish()
    }

    #[test]
    fn of_many_classes_the_most_confused_are_shown_and_the_rest_is_counted() {
        let names = names(1_000);
        let confusion = confusion(&evaluation(1_000), &names);
        assert_eq!((confusion.columns.len(), confusion.rows.len(), confusion.of.as_deref()), (30, 30, Some("1,000")));
        assert!(confusion.columns.contains(&"class 700") && confusion.columns.contains(&"class 3"));
        assert_eq!(confusion.rows[0].cells.len(), 31);
        let row = confusion.rows.iter().find(|row| row.label == "class 700").unwrap();
        let counts: usize = row.cells.iter().map(|cell| cell.count.parse::<usize>().unwrap()).sum();
        assert_eq!(counts, 7, "one right, one called 701, five called 3");
        assert_eq!((confusion.pairs[0].label, confusion.pairs[0].predicted, &*confusion.pairs[0].count), ("class 700", "class 3", "5"));
    }

    #[test]
    fn two_classes_are_shown_whole() {
        let names = names(2);
        let confusion = confusion(&evaluation(2), &names);
        assert!(confusion.of.is_none());
        assert_eq!(confusion.rows[0].cells.iter().map(|cell| &*cell.count).collect::<Vec<_>>(), ["1", "1"]);
        assert_eq!(confusion.rows[1].cells.iter().map(|cell| cell.level).collect::<Vec<_>>(), [0, LEVELS]);
        assert_eq!(class_rows(&evaluation(2), &names).len(), 2);
    }

    #[test]
    fn of_many_classes_those_with_the_lowest_recall_are_listed() {
        let names = names(1_000);
        let rows = class_rows(&evaluation(1_000), &names);
        assert_eq!(rows.len(), 30);
        assert!(rows.iter().all(|row| row.bars[0].width != "100.0"));
        assert!(rows.iter().any(|row| row.class == "class 700" && row.bars[0].text.starts_with("14.3")));
    }

    #[test]
    fn the_interval_is_wilsons() {
        // R. G. Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I, method 3.
        for (correct, images, low, high) in
            [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
        {
            let found = interval(f64::from(correct) / images as f64, images).unwrap();
            assert!((found[0] - low).abs() < 6e-5 && (found[1] - high).abs() < 6e-5, "{correct} of {images}: {found:?}");
        }
        assert!(interval(0.5, 0).is_none() && interval(f64::NAN, 10).is_none());
    }
}
