//! Gradients in words.

use convnet::look::explain::{GradientExplanation, Reader, WeightGradient};

use super::{largest, precise};

/// The gradient at one number.
pub fn number(found: &GradientExplanation, most: usize) -> String {
    let [k, y, x] = found.at;
    let mut text = format!(
        "gradient of the score of '{}' ({:.6}) at {}, channel {k}, row {y}, column {x}, whose value is {:.6}",
        found.class, found.score, found.layer, found.value
    );
    match found.own {
        Some(1.0) => text += "\nthis is the score itself: its gradient is 1",
        Some(_) => text += "\nthis is the score of another class: its gradient is 0",
        None if found.readers.is_empty() => text += "\nnothing on the way to the score reads it",
        None => {}
    }
    for reader in &found.readers {
        text += &read(reader, most);
    }
    if found.readers.len() > 1 {
        let sums: Vec<String> = found.readers.iter().map(|reader| format!("{} ({})", precise(reader.sum), reader.layer)).collect();
        text += &format!("\n\nsum over all that read it: {}", sums.join(" + "));
    }
    text + &format!("\ngradient: {} (in f64; the network computed {} in f32)", precise(found.recomputed), precise(found.gradient))
}

fn read(reader: &Reader, most: usize) -> String {
    let mut text = format!("\n\nread by {} ({})\n{}", reader.layer, reader.text, reader.rule);
    let (shown, left_out) = largest(&reader.terms, most, |term| term.product, "products");
    text += &left_out;
    let windows = reader.terms.iter().any(|term| term.tap.is_some());
    let choices = reader.terms.iter().any(|term| term.chosen.is_some());
    text += &format!("\n  channel   row   col{}    derivative      gradient       product", if windows { "   kernel" } else { "" });
    for term in shown {
        let [c, row, column] = term.at;
        let tap = term.tap.map_or(String::new(), |[r, s]| format!("{:>9}", format!("{r},{s}")));
        let [derivative, gradient, product] = [term.derivative, term.gradient, term.product].map(precise);
        text += &format!("\n  {c:>7} {row:>5} {column:>5}{tap} {derivative:>13} {gradient:>13} {product:>13}");
        if let (true, Some([_, row, column])) = (choices, term.chosen) {
            text += &if term.derivative == 1.0 { "  chose it".to_owned() } else { format!("  chose row {row}, column {column}") };
        }
    }
    text + &format!("\nsum of {} products: {}", reader.terms.len(), precise(reader.sum))
}

/// The gradient at one weight.
pub fn weight(found: &WeightGradient, most: usize) -> String {
    let [k, c, r, s] = found.weight;
    let mut text = format!(
        "gradient of the score of '{}' ({:.6}) at {} ({}), weight of filter {k}, channel {c}, row {r}, column {s}, which is {:.6}\n\
         Σ over {}×{} places of input · gradient there",
        found.class, found.score, found.layer, found.text, found.value, found.places[0], found.places[1]
    );
    let (shown, left_out) = largest(&found.terms, most, |term| term.product, "products");
    text += &left_out;
    text += "\n  output row   col  input channel   row   col         input      gradient       product";
    for term in shown {
        let ([_, y, x], [channel, row, column]) = (term.at, term.from);
        let padding = if term.padding { "  padding" } else { "" };
        let [input, gradient, product] = [term.input, term.gradient, term.product].map(precise);
        text += &format!("\n  {y:>10} {x:>5} {channel:>14} {row:>5} {column:>5} {input:>13} {gradient:>13} {product:>13}{padding}");
    }
    let silent = found.terms.iter().filter(|term| term.product == 0.0).count();
    text + &format!("\ngradient: {}, the sum of {} products, of which {silent} are 0", precise(found.gradient), found.terms.len())
}
