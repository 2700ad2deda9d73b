//! Precision and recall of each class, and the confusion matrix.

use crate::model::Evaluation;
use crate::page::confusion::{Bar, Confusion, Words, confusion, first_by};
use crate::page::number::{count, percent};

/// Precision and recall of one class.
#[derive(Debug)]
pub(super) struct ClassRow<'a> {
    pub class: &'a str,
    pub images: String,
    /// Recall and precision.
    pub bars: [Bar; 2],
}

/// The matrix in the words of the report.
pub(super) fn matrix<'a>(evaluation: &Evaluation, names: &'a [String]) -> Confusion<'a> {
    let words = Words {
        is: "is",
        called: "called",
        others: "all others",
        colours: "The numbers count images. The colour is their share of the row, on a scale of square roots, so that rare mistakes can be seen.",
    };
    confusion(&evaluation.confusion, names, words, |label, predicted, count, share| {
        format!("{label} called {}: {count} ({share})", predicted.unwrap_or("something else"))
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Counter;

    #[test]
    fn of_many_classes_those_with_the_lowest_recall_are_listed() {
        let names: Vec<String> = (0..1_000).map(|class| format!("class {class}")).collect();
        let mut counter = Counter::new(&names);
        let mut call = |label: usize, predicted: usize| {
            let scores: Vec<f32> = (0..names.len()).map(|class| if class == predicted { 1.0 } else { 0.0 }).collect();
            counter.count(label, label, &scores, 0.0);
        };
        (0..1_000).for_each(|label| call(label, label));
        (0..100).for_each(|tenth| call(10 * tenth, 10 * tenth + 1));
        (0..5).for_each(|_| call(700, 3));
        let evaluation = counter.finish();
        let rows = class_rows(&evaluation, &names);
        assert_eq!(rows.len(), 30);
        assert!(rows.iter().all(|row| row.bars[0].width != "100.0"));
        assert!(rows.iter().any(|row| row.class == "class 700" && row.bars[0].text.starts_with("14.3")));
        assert_eq!(class_rows(&evaluation, &names[..1_000]).len(), matrix(&evaluation, &names).rows.len());
    }
}
