//! From explanations to sheets.

use super::canvas::{Canvas, Drawing, Grid, MARGIN, plain, precise, side_of};
use super::sheet::{Item, LINE, Seen, Sheet};
use super::words::Words;
use crate::error::Result;
use crate::look::explain::{Columns, Correlation, Explanation, GradientExplanation, WeightGradient};
use crate::look::picture::{ColourMap, Range, Raster};
use crate::look::report::{Language, fill};
use crate::network::{Counts, Coverage};
use crate::page::number::{count, figure, percent, sizes};

fn place(words: &Words, layer: &str, [c, y, x]: [usize; 3]) -> String {
    fill(words.place, &[layer, &c.to_string(), &y.to_string(), &x.to_string()])
}

/// Draws one output number: the image, the window, the kernel, the products, the sum and the result.
///
/// `image` are the bytes of the image, C×H×W of this size.
///
/// # Errors
/// The bytes are not so many.
pub fn draw(explanation: &Explanation, image: &[u8], size: [usize; 3], language: Language) -> Result<Drawing> {
    let words = Words::of(language);
    let chosen = explanation.choice.as_ref();
    let items = explanation.terms.iter().map(|term| Item {
        at: term.at,
        first: term.input,
        second: term.weight,
        product: term.product,
        padding: term.padding,
        marked: chosen.is_some_and(|choice| choice.at.map(|place| place as i64) == term.at),
    });
    let mut lines = Vec::new();
    if let Some(choice) = chosen {
        lines.push(fill(words.chosen, &[&figure(choice.value), &choice.at[1].to_string(), &choice.at[2].to_string()]));
    } else if explanation.terms.len() > 1 {
        lines.push(format!("{} {}", words.sum, precise(explanation.sum)));
    }
    lines.extend(explanation.factors.iter().map(|factor| format!("{} {}", factor.name, precise(factor.value))));
    lines.push(fill(words.result, &[&precise(explanation.recomputed)]));
    let title = place(words, &explanation.layer, explanation.at);
    let sheet = Sheet {
        title: title.clone(),
        about: vec![format!("{}: {}", explanation.text, explanation.rule)],
        seen: Some(Seen { raster: Raster::image(image, size)?, rows: explanation.rows.clone(), columns: explanation.columns.clone() }),
        heads: if chosen.is_some() { vec![words.input] } else { vec![words.input, words.weight, words.product] },
        group: words.channel,
        items: items.collect(),
        lines,
    };
    finished(&[sheet], &format!("{title} = {}", precise(explanation.recomputed)), words)
}

/// Draws the gradient at one number: for each layer that reads it the outputs, their derivatives, gradients and products.
///
/// # Errors
/// The drawing would be too large.
pub fn draw_gradient(found: &GradientExplanation, language: Language) -> Result<Drawing> {
    let words = Words::of(language);
    let title = place(words, &found.layer, found.at);
    let score = fill(words.gradient_of, &[&found.class, &figure(found.score)]);
    let mut sheets: Vec<Sheet<'_>> = found
        .readers
        .iter()
        .map(|reader| Sheet {
            title: format!("{title} → {}", reader.layer),
            about: vec![score.clone(), format!("{}: {}", reader.text, reader.rule)],
            seen: None,
            heads: vec![words.derivative, words.gradient, words.product],
            group: words.filter,
            items: reader
                .terms
                .iter()
                .map(|term| Item {
                    at: term.at.map(|place| place as i64),
                    first: term.derivative,
                    second: term.gradient,
                    product: term.product,
                    padding: false,
                    marked: term.chosen == Some(found.at),
                })
                .collect(),
            lines: vec![format!("{} {}", words.sum, precise(reader.sum))],
        })
        .collect();
    let result = fill(words.result, &[&precise(found.recomputed)]);
    match (sheets.last_mut(), found.own) {
        (Some(last), _) => last.lines.push(result),
        (None, own) => sheets.push(Sheet {
            title: title.clone(),
            about: own.map(|own| fill(words.own, &[&figure(own)])).into_iter().chain([score]).collect(),
            seen: None,
            heads: Vec::new(),
            group: words.filter,
            items: Vec::new(),
            lines: vec![result],
        }),
    }
    finished(&sheets, &format!("{title}: {} {}", words.gradient, precise(found.recomputed)), words)
}

/// Draws the gradient at one weight: input, gradient and product at every place of the filter's map.
///
/// # Errors
/// The drawing would be too large.
pub fn draw_weight_gradient(found: &WeightGradient, language: Language) -> Result<Drawing> {
    let words = Words::of(language);
    let [k, c, r, s] = found.weight.map(|place| place.to_string());
    let title = fill(words.weight_place, &[&found.layer, &k, &c, &r, &s]);
    let items = found.terms.iter().map(|term| Item {
        at: term.at.map(|place| place as i64),
        first: term.input,
        second: term.gradient,
        product: term.product,
        padding: term.padding,
        marked: false,
    });
    let sheet = Sheet {
        title: title.clone(),
        about: vec![fill(words.gradient_of, &[&found.class, &figure(found.score)])],
        seen: None,
        heads: vec![words.input, words.gradient, words.product],
        group: words.filter,
        items: items.collect(),
        lines: vec![fill(words.result, &[&precise(found.gradient)])],
    };
    finished(&[sheet], &format!("{title}: {} {}", words.gradient, precise(found.gradient)), words)
}

/// Draws correlation and convolution one below the other.
///
/// # Errors
/// The drawing would be too large.
pub fn draw_correlation(found: &Correlation, language: Language) -> Result<Drawing> {
    let words = Words::of(language);
    let sheet = |title: String, head: &'static str, weight: fn(&crate::look::explain::FlippedTerm) -> f64, sum: f64| Sheet {
        title,
        about: Vec::new(),
        seen: None,
        heads: vec![words.input, head, words.product],
        group: words.channel,
        items: found
            .terms
            .iter()
            .map(|term| Item {
                at: term.at,
                first: term.input,
                second: weight(term),
                product: term.input * weight(term),
                padding: term.padding,
                marked: false,
            })
            .collect(),
        lines: vec![format!("{} {}", words.sum, precise(sum))],
    };
    let [straight, turned] = [found.correlation, found.convolution].map(precise);
    let sheets = [
        sheet(fill(words.correlation, &[&straight]), words.weight, |term| term.weight, found.correlation),
        sheet(fill(words.convolution, &[&turned]), words.flipped, |term| term.flipped, found.convolution),
    ];
    finished(&sheets, &format!("{}: {straight}, {turned}", place(words, &found.layer, found.at)), words)
}

/// Draws the column and the row of the matrices that give one number, and how often pixels stand in the columns.
///
/// # Errors
/// The drawing would be too large.
pub fn draw_columns(found: &Columns, language: Language) -> Result<Drawing> {
    let words = Words::of(language);
    let items = found.entries.iter().map(|entry| Item {
        at: [entry.kernel[0] as i64, entry.kernel[1] as i64, entry.kernel[2] as i64],
        first: entry.input,
        second: entry.weight,
        product: entry.product,
        padding: entry.padding,
        marked: false,
    });
    let title = place(words, &found.layer, found.at);
    let output = [found.weights[0], found.columns[1]];
    let bytes = |bytes: u64| format!("{} B", count(bytes));
    let [_, most] = found.repeats.reads.range();
    let column = fill(words.column, &[&found.column.to_string()]);
    let row = fill(words.row, &[&found.filter_row.to_string()]);
    let sheet = Sheet {
        title: title.clone(),
        about: vec![
            fill(words.matrices, &[&sizes(&found.weights), &sizes(&found.columns), &sizes(&output)]),
            fill(words.memory, &[&bytes(found.input_bytes), &bytes(found.column_bytes), &bytes(found.weight_bytes)]),
            fill(words.repeats, &[&figure(found.mean_repeats), &plain(most), &percent(found.padding)]),
        ],
        seen: None,
        heads: vec![&column, &row, words.product],
        group: words.channel,
        items: items.collect(),
        lines: vec![format!("{} {}", words.sum, precise(found.sum))],
    };
    let mut canvas = Canvas::default();
    sheet.draw(&mut canvas, words)?;
    counts(&mut canvas, &found.repeats.reads, fill(words.reads, &[&found.layer]))?;
    Ok(Drawing::new(canvas, format!("{title}: {} {}", words.sum, precise(found.sum))))
}

/// Draws how often each pixel of a layer's input, and of the image, is read.
///
/// # Errors
/// The drawing would be too large.
pub fn draw_coverage(found: &Coverage, language: Language) -> Result<Drawing> {
    let words = Words::of(language);
    let mut canvas = Canvas::default();
    let title = fill(words.reads, &[&found.layer]);
    counts(&mut canvas, &found.reads, title.clone())?;
    if found.paths != found.reads {
        counts(&mut canvas, &found.paths, fill(words.paths, &[&found.layer]))?;
    }
    Ok(Drawing::new(canvas, title))
}

/// Draws a plane of counts below what is there.
fn counts(canvas: &mut Canvas, found: &Counts, title: String) -> Result<()> {
    let top = canvas.height + MARGIN;
    canvas.text("title", [MARGIN, top + 16.0], title);
    let [_, high] = found.range();
    let range = Range { low: 0.0, high: high as f32 };
    let numbers: Vec<Option<f64>> = found.values.iter().map(|value| Some(*value)).collect();
    let grid = Grid { numbers: &numbers, size: found.size, range, map: ColourMap::Sequential, marked: None };
    let [_, height] = canvas.grid(&grid, [MARGIN, top + 16.0 + LINE / 2.0], "")?;
    let width = (side_of(found.size) * found.size[1] as f64).max(96.0);
    canvas.legend(range, ColourMap::Sequential, [MARGIN, top + 24.0 + LINE / 2.0 + height], width)
}

fn finished(sheets: &[Sheet<'_>], words_of_all: &str, words: &Words) -> Result<Drawing> {
    let mut canvas = Canvas::default();
    for sheet in sheets {
        sheet.draw(&mut canvas, words)?;
    }
    Ok(Drawing::new(canvas, words_of_all.to_owned()))
}
