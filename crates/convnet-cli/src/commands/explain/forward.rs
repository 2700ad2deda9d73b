//! One output number in words.

use convnet::look::{Explanation, Term};

use super::largest;

/// Rows and columns of the image beyond which the patch is not printed.
const PRINTED_PATCH: usize = 16;

pub fn text(explanation: &Explanation, most: usize) -> String {
    let [k, y, x] = explanation.at;
    let mut text = format!(
        "{} ({}), channel {k}, row {y}, column {x} = {:.6}\n{}\n",
        explanation.layer, explanation.text, explanation.output, explanation.rule
    );
    text += &terms(explanation, most);
    if explanation.choice.is_none() && explanation.terms.len() > 1 {
        text += &format!("\nsum of {} products: {:.6}", explanation.terms.len(), explanation.sum);
    }
    for factor in &explanation.factors {
        text += &format!("\n{}: {:.6}", factor.name, factor.value);
    }
    text += &format!("\nresult: {:.6} (in f64; the network computed {:.6} in f32)", explanation.recomputed, explanation.output);
    if let Some(choice) = &explanation.choice {
        let [c, row, column] = choice.at;
        text += &format!(
            "\nthe switch: channel {c}, row {row}, column {column} with {:.6}; the gradient goes there and nowhere else",
            choice.value
        );
        if choice.ties > 0 {
            text += &format!(" ({} other places have the same number; the first counts)", choice.ties);
        }
    }
    text += &format!(
        "\nit depends on rows {} to {}, columns {} to {} of the image",
        explanation.rows.start,
        explanation.rows.end.saturating_sub(1),
        explanation.columns.start,
        explanation.columns.end.saturating_sub(1)
    );
    text + &patch(explanation)
}

/// The terms: those in their places if they are few, the largest products otherwise.
fn terms(explanation: &Explanation, most: usize) -> String {
    let (shown, left_out) = largest(&explanation.terms, most, |term: &Term| term.product, "products");
    let mut text = left_out.trim_start().to_owned();
    if !text.is_empty() {
        text.push('\n');
    }
    text += "  from                 channel   row   col         input        weight       product";
    for term in shown {
        let [c, row, column] = term.at;
        let padding = if term.padding { "  padding" } else { "" };
        text += &format!(
            "\n  {:<20} {c:>7} {row:>5} {column:>5} {:>13.6} {:>13.6} {:>13.6}{padding}",
            term.from, term.input, term.weight, term.product
        );
    }
    text
}

fn patch(explanation: &Explanation) -> String {
    let [channels, rows, columns] = explanation.patch.sizes() else { return String::new() };
    if *rows > PRINTED_PATCH || *columns > PRINTED_PATCH {
        return String::new();
    }
    let mut text = String::from("\nthe normalised image there:");
    for (channel, plane) in explanation.patch.values().chunks_exact((rows * columns).max(1)).enumerate() {
        if *channels > 1 {
            text += &format!("\n  channel {channel}");
        }
        for row in plane.chunks_exact((*columns).max(1)) {
            text += "\n ";
            row.iter().for_each(|value| text += &format!("{value:>7.2}"));
        }
    }
    text
}
