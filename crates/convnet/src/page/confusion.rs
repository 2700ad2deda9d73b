//! A confusion matrix as a table of colours: which class is taken for which.

use super::colour::LEVELS;
use super::number::{count, percent};

/// The most classes that a confusion matrix and a table of classes show.
const MOST_CLASSES: usize = 30;
/// How many of the most frequent confusions are told in words.
const MOST_PAIRS: usize = 6;

/// What is said around the matrix.
#[derive(Debug)]
pub(crate) struct Words<'a> {
    /// Over the rows: what the images are.
    pub is: &'a str,
    /// Over the columns: what they were called.
    pub called: &'a str,
    /// Over the column of the classes that are not shown.
    pub others: &'a str,
    /// What the colours mean.
    pub colours: &'a str,
}

/// The confusion matrix: rows are labels, columns are what the images were called.
#[derive(Debug)]
pub(crate) struct Confusion<'a> {
    pub words: Words<'a>,
    pub columns: Vec<&'a str>,
    pub rows: Vec<Row<'a>>,
    /// Set when only the most confused classes are shown: how many there are in all. A last column then counts the rest.
    pub of: Option<String>,
    pub pairs: Vec<Pair<'a>>,
    pub legend: Legend,
}

#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub label: &'a str,
    pub cells: Vec<Cell>,
}

#[derive(Debug)]
pub(crate) struct Cell {
    pub count: String,
    /// Step of the colour scale from 1; 0 for no image at all.
    pub level: usize,
    pub correct: bool,
    /// The cell in words.
    pub title: String,
    /// The numbers of the class that the images are, and of that they were called; `None` for the classes that are not shown.
    pub pair: Option<[usize; 2]>,
    /// Where more is told of the cell.
    pub link: Option<String>,
    /// One of its images, as HTML.
    pub picture: Option<String>,
}

/// One label that is often called something else.
#[derive(Debug)]
pub(crate) struct Pair<'a> {
    pub label: &'a str,
    pub predicted: &'a str,
    pub count: String,
    pub of: String,
}

/// The colour scale: its steps, and where along it some shares lie, in per cent of its length.
#[derive(Debug)]
pub(crate) struct Legend {
    pub levels: Vec<usize>,
    pub ticks: Vec<(String, String)>,
}

/// A share as text and as the width of a bar in per cent.
#[derive(Debug)]
pub(crate) struct Bar {
    pub text: String,
    pub width: String,
}

impl Bar {
    pub fn new(share: f64, text: String) -> Self {
        let width = if share.is_finite() { 100.0 * share.clamp(0.0, 1.0) } else { 0.0 };
        Self { text, width: format!("{width:.1}") }
    }
}

/// The whole matrix, or the part of it with the most mistakes: `matrix[label][predicted]` counts images. `title` says a cell in
/// words, from the label, what it was called (`None` for all classes that are not shown), the count and its share of the row.
pub(crate) fn confusion<'a>(
    matrix: &[Vec<usize>],
    names: &'a [String],
    words: Words<'a>,
    title: impl Fn(&str, Option<&str>, &str, &str) -> String,
) -> Confusion<'a> {
    let shown = most_confused(matrix);
    let partial = shown.len() < matrix.len();
    let row = |&label: &usize| {
        let images: usize = matrix[label].iter().sum();
        let cell = |count_of: usize, predicted: Option<usize>| {
            let share = if images == 0 { 0.0 } else { count_of as f64 / images as f64 };
            let text = count(count_of as u64);
            Cell {
                level: level(share),
                correct: predicted == Some(label),
                title: title(&names[label], predicted.map(|class| names[class].as_str()), &text, &percent(share)),
                count: text,
                pair: predicted.map(|predicted| [label, predicted]),
                link: None,
                picture: None,
            }
        };
        let mut cells: Vec<Cell> = shown.iter().map(|&predicted| cell(matrix[label][predicted], Some(predicted))).collect();
        if partial {
            let rest = images - shown.iter().map(|&predicted| matrix[label][predicted]).sum::<usize>();
            cells.push(cell(rest, None));
        }
        Row { label: &names[label], cells }
    };
    Confusion {
        words,
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

/// The first 30 classes by a key, in their own order.
pub(crate) fn first_by<K: Ord>(classes: usize, key: impl Fn(usize) -> K) -> Vec<usize> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|class| format!("class {class}")).collect()
    }

    /// Of every tenth class one of two images is called the next class; class 700 is called 3 often.
    fn matrix(classes: usize) -> Vec<Vec<usize>> {
        let mut matrix = vec![vec![0; classes]; classes];
        for label in 0..classes {
            matrix[label][label] = 1;
            if label % 10 == 0 && label + 1 < classes {
                matrix[label][label + 1] += 1;
            }
        }
        if classes > 700 {
            matrix[700][3] = 5;
        }
        matrix
    }

    fn shown(classes: usize, names: &[String]) -> Confusion<'_> {
        let words = Words { is: "is", called: "called", others: "others", colours: "colours" };
        confusion(&matrix(classes), names, words, |label, predicted, count, share| {
            format!("{label} called {}: {count} ({share})", predicted.unwrap_or("something else"))
        })
    }

    #[test]
    fn of_many_classes_the_most_confused_are_shown_and_the_rest_is_counted() {
        let names = names(1_000);
        let confusion = shown(1_000, &names);
        assert_eq!((confusion.columns.len(), confusion.rows.len(), confusion.of.as_deref()), (30, 30, Some("1,000")));
        assert!(confusion.columns.contains(&"class 700") && confusion.columns.contains(&"class 3"));
        assert_eq!(confusion.rows[0].cells.len(), 31);
        let row = confusion.rows.iter().find(|row| row.label == "class 700").unwrap();
        let counts: usize = row.cells.iter().map(|cell| cell.count.parse::<usize>().unwrap()).sum();
        assert_eq!(counts, 7, "one right, one called 701, five called 3");
        assert!(row.cells[30].pair.is_none() && row.cells[30].title.contains("class 700 called something else"));
        assert_eq!((confusion.pairs[0].label, confusion.pairs[0].predicted, &*confusion.pairs[0].count), ("class 700", "class 3", "5"));
    }

    #[test]
    fn two_classes_are_shown_whole() {
        let names = names(2);
        let confusion = shown(2, &names);
        assert!(confusion.of.is_none());
        assert_eq!(confusion.rows[0].cells.iter().map(|cell| &*cell.count).collect::<Vec<_>>(), ["1", "1"]);
        assert_eq!(confusion.rows[1].cells.iter().map(|cell| cell.level).collect::<Vec<_>>(), [0, LEVELS]);
        assert!(confusion.rows[1].cells[1].correct && confusion.rows[0].cells[1].pair == Some([0, 1]));
    }
}
