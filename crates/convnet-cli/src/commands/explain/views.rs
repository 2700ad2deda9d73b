//! Other views of a convolution in words: against true convolution, as a product of matrices, how often pixels are read.

use convnet::look::explain::{Columns, Correlation};
use convnet::network::{Counts, Coverage};

use super::largest;

/// The widest plane of counts that is printed.
const PRINTED: usize = 32;

/// Correlation against convolution.
pub fn correlation(found: &Correlation, most: usize) -> String {
    let [k, y, x] = found.at;
    let mut text = format!(
        "{} ({}), channel {k}, row {y}, column {x}\nthe layer computes cross-correlation: the kernel is not flipped",
        found.layer, found.text
    );
    let of = |term: &convnet::look::explain::FlippedTerm| term.input.abs() * term.weight.abs().max(term.flipped.abs());
    let (shown, left_out) = largest(&found.terms, most, of, "places");
    text += &left_out;
    text += "\n  channel   row   col         input        weight       product       flipped       product";
    for term in shown {
        let [c, row, column] = term.at;
        let padding = if term.padding { "  padding" } else { "" };
        text += &format!(
            "\n  {c:>7} {row:>5} {column:>5} {:>13.6} {:>13.6} {:>13.6} {:>13.6} {:>13.6}{padding}",
            term.input,
            term.weight,
            term.input * term.weight,
            term.flipped,
            term.input * term.flipped
        );
    }
    text += &format!("\ncorrelation with the kernel, what the layer computes:   {:>13.6}", found.correlation);
    text += &format!("\nconvolution with the flipped kernel, the same:          {:>13.6}", found.convolution_flipped);
    text += &format!("\nconvolution with the kernel, by its definition:         {:>13.6}", found.convolution);
    text += &format!("\ncorrelation with the flipped kernel, the same:          {:>13.6}", found.correlation_flipped);
    if found.symmetric {
        text += "\nthis kernel looks the same turned around, so all four are one";
    }
    if let Some(bias) = found.bias {
        text += &format!(
            "\nwith the bias of {bias:.6} the layer gives {:.6}, convolution would give {:.6}",
            found.output,
            found.convolution + bias
        );
    }
    text
}

/// The matrices.
pub fn columns(found: &Columns, most: usize) -> String {
    let [k, y, x] = found.at;
    let [rows, length] = found.weights;
    let places = found.columns[1];
    let mut text = format!("{} ({}), channel {k}, row {y}, column {x}, as a product of matrices", found.layer, found.text);
    if found.groups[0] > 1 {
        text += &format!("\ngroup {} of {}, each with matrices of its own:", found.groups[1], found.groups[0]);
    }
    text += &format!("\n  weights {rows}×{length}  ·  columns {length}×{places}  =  output {rows}×{places}");
    text += &format!("\n  row {} of the weights, column {} of the columns", found.filter_row, found.column);
    let (shown, left_out) = largest(&found.entries, most, |entry| entry.product, "entries");
    text += &left_out;
    text += "\n   entry  channel  kernel  input row   col         input        weight       product";
    for entry in shown {
        let ([c, r, s], [_, row, column]) = (entry.kernel, entry.at);
        let padding = if entry.padding { "  padding" } else { "" };
        text += &format!(
            "\n  {:>6} {c:>8} {:>7} {row:>10} {column:>5} {:>13.6} {:>13.6} {:>13.6}{padding}",
            entry.row,
            format!("{r},{s}"),
            entry.input,
            entry.weight,
            entry.product
        );
    }
    text += &format!("\nsum of {} products: {:.6}", found.entries.len(), found.sum);
    if let Some(bias) = found.bias {
        text += &format!("\nbias: {bias:.6}\nresult: {:.6} (the network computed {:.6} in f32)", found.sum + bias, found.output);
    }
    let [_, largest] = found.repeats.reads.range();
    text += &format!(
        "\nin memory (f32): input {} B, columns {} B ({:.1} times the input), weights {} B",
        found.input_bytes,
        found.column_bytes,
        found.column_bytes as f64 / found.input_bytes.max(1) as f64,
        found.weight_bytes
    );
    text += &format!(
        "\na pixel stands {:.2} times in the columns on average, at most {largest:.0} times; {:.1} % of the entries are padding",
        found.mean_repeats,
        100.0 * found.padding
    );
    text + &plane("how often each pixel of a channel stands in the columns:", &found.repeats.reads)
}

/// How often pixels are read.
pub fn coverage(found: &Coverage) -> String {
    let title = format!("how often {} reads each place of its input, in each channel:", found.layer);
    let mut text = plane(&title, &found.reads).trim_start().to_owned();
    if found.paths != found.reads {
        text += &plane(&format!("ways from each pixel of the image to the places of {}:", found.layer), &found.paths);
    }
    text
}

fn plane(title: &str, counts: &Counts) -> String {
    let [height, width] = counts.size;
    let [low, high] = counts.range();
    let middle = counts.values[height / 2 * width + width / 2];
    let mut text = format!(
        "\n{title}\n  {height}×{width}; at least {low}, at most {high}; {middle} in the middle, {} in the corner; {} in all",
        counts.values[0],
        counts.sum()
    );
    let never = counts.values.iter().filter(|count| **count == 0.0).count();
    if never > 0 {
        text += &format!("\n  {never} pixels are never read");
    }
    let digits = counts.values.iter().map(|count| count.to_string().len()).max().unwrap_or(1);
    if width * (digits + 1) <= 4 * PRINTED {
        for row in counts.values.chunks_exact(width.max(1)) {
            text += "\n ";
            row.iter().for_each(|count| text += &format!(" {count:>digits$}"));
        }
    }
    text
}
