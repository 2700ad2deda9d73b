//! A summary as a page of text: the table, the totals, the memory, the warnings.

use super::numbers::{byte_unit, bytes_text, shortened, thousands};
use super::table::{Column, Table, wrap};
use super::{F32, LayerSummary, MemoryUse, RecomputationUse, Summary, Totals};
use crate::shape::sizes_text;

/// Width of the names in front of the totals.
const LABEL: usize = 13;

/// Stands for a space at which no line may be broken.
const KEPT: &str = "\u{a0}";

/// Width below which the column of FLOPs, twice that of MACs, may be left out.
const WIDE: usize = 120;

impl Summary {
    /// The page that [`Display`](std::fmt::Display) writes, with lines of at most `width` letters where that is possible:
    /// 100 suffices for most networks.
    pub fn to_text(&self, width: usize) -> String {
        let unit = byte_unit(self.layers.iter().map(|layer| layer.activation_bytes).max().unwrap_or(0));
        let mut table = self.table(unit, true);
        if width < WIDE && table.natural_width() > width {
            table = self.table(unit, false);
        }
        let mut text = table.to_text(width) + "\n";
        let mut paragraph = |label: &str, words: &str| {
            for (number, line) in wrap(words, width.saturating_sub(LABEL).max(20)).iter().enumerate() {
                let label = if number == 0 { label } else { "" };
                text.push_str(&format!("{label:LABEL$}{line}\n").replace(KEPT, " "));
            }
        };
        for (label, words) in self.paragraphs(unit.1) {
            paragraph(label, &words);
        }
        for (number, warning) in self.warnings.iter().enumerate() {
            paragraph(if number == 0 { "warnings" } else { "" }, &format!("- {warning}"));
        }
        text
    }

    fn table(&self, (unit, unit_name): (f64, &'static str), with_flops: bool) -> Table {
        let column = |head, right, least, gap| Column { head, right, least, gap };
        let mut columns = vec![
            column("layer", false, Some(8), 0),
            column("settings", false, Some(10), 2),
            column("output", false, None, 2),
            column("formula", false, Some(10), 2),
            column("parameters", true, None, 2),
            column("%", true, None, 1),
            column("MACs", true, None, 2),
            column("FLOPs", true, None, 2),
            column("%", true, None, 1),
            column(unit_name, true, None, 2),
            column("field", true, None, 2),
            column("jump", true, None, 2),
        ];
        let flops = columns.iter().position(|column| column.head == "FLOPs").filter(|_| !with_flops);
        flops.map(|place| columns.remove(place));
        let mut table = Table::new(columns);
        let mut push = |mut row: Vec<String>| {
            flops.map(|place| row.remove(place));
            table.push(row);
        };
        let memory = |bytes: u64| format!("{:.2}", bytes as f64 / unit);
        let row = |first: &str, output: &[usize], last: [String; 8]| {
            [vec![first.to_owned(), String::new(), sizes_text(output), String::new()], last.into()].concat()
        };
        let blank = String::new;
        let image = [blank(), blank(), blank(), blank(), blank(), memory(self.image_bytes()), "1".into(), "1".into()];
        push(row("input", &self.input, image));
        for layer in &self.layers {
            push(self.layer_row(layer, memory));
        }
        let Totals { parameters, macs, flops: operations, activation_bytes, .. } = self.totals;
        let sums =
            [thousands(parameters), blank(), shortened(macs), shortened(operations), blank(), memory(activation_bytes), blank(), blank()];
        push(row("total", &[], sums));
        table.rule_above_last();
        table
    }

    fn layer_row(&self, layer: &LayerSummary, memory: impl Fn(u64) -> String) -> Vec<String> {
        let [field, jump] = self.field_texts(layer);
        vec![
            layer.name.clone(),
            settings(layer),
            sizes_text(&layer.output),
            layer.formula.clone().unwrap_or_default(),
            unless_zero(layer.parameters, thousands),
            percent(layer.parameters, layer.parameters_percent),
            unless_zero(layer.macs, shortened),
            unless_zero(layer.flops, shortened),
            percent(layer.macs, layer.macs_percent),
            if layer.in_place { "″".into() } else { memory(layer.activation_bytes) },
            field,
            jump,
        ]
    }

    /// Receptive field and jump, one number where height and width agree.
    fn field_texts(&self, layer: &LayerSummary) -> [String; 2] {
        let pair = |[h, w]: [u64; 2]| if h == w { h.to_string() } else { format!("{h}x{w}") };
        if !layer.sees_whole {
            return [pair(layer.receptive_field), pair(layer.jump)];
        }
        let all = layer.receptive_field == [self.input[1] as u64, self.input[2] as u64];
        [if all { "all".into() } else { pair(layer.receptive_field) }, "–".into()]
    }

    fn image_bytes(&self) -> u64 {
        let [c, h, w] = self.input;
        super::bytes(crate::shape::Shape::new(self.batch, c, h, w))
    }

    /// What stands below the table: each paragraph with its name.
    fn paragraphs(&self, unit_name: &str) -> Vec<(&'static str, String)> {
        let totals = &self.totals;
        let images = if self.batch == 1 { "one image".to_owned() } else { format!("a batch of {} images", thousands(self.batch as u64)) };
        let buffers = match totals.buffers {
            0 => String::new(),
            buffers => format!("; and {} running statistics, which are not trained", thousands(buffers)),
        };
        let mut paragraphs = vec![
            (
                "parameters",
                format!(
                    "{} = {} weights + {} biases, {}{buffers}",
                    thousands(totals.parameters),
                    thousands(totals.weights),
                    thousands(totals.biases),
                    kept(&bytes_text(totals.parameters.saturating_mul(F32))),
                ),
            ),
            ("MACs", format!("{} for one image; FLOPs = 2·MACs = {}", thousands(totals.macs), thousands(totals.flops))),
            (
                "activations",
                format!(
                    "{} numbers for {images}, {}: the image and every output once (″: lies where its input lies)",
                    thousands(totals.activation_bytes / F32),
                    kept(&bytes_text(totals.activation_bytes)),
                ),
            ),
        ];
        if let Some(memory) = &self.memory {
            paragraphs.push(("inference", memory_text(&memory.inference, &images)));
            paragraphs.push(("training", memory_text(&memory.training, &images)));
            paragraphs.extend(memory.recomputing.map(|recomputing| ("recomputing", recomputation_text(&recomputing, &images))));
        }
        paragraphs.push((
            "columns",
            format!(
                "output: channels x height x width; {unit_name}: its size for {images}; field, jump: receptive field and effective stride \
                 in pixels of the image, padding included; %: share of all parameters, of all MACs"
            ),
        ));
        paragraphs
    }
}

/// A phrase that no line breaks.
fn kept(phrase: &str) -> String {
    phrase.replace(' ', KEPT)
}

/// The text form without the words that the layer's name says already.
fn settings(layer: &LayerSummary) -> String {
    let base = layer.name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let named_by_kind = base == layer.kind.replace(' ', "_");
    match layer.text.strip_prefix(&layer.kind) {
        Some(options) if named_by_kind => options.trim_start().to_owned(),
        _ => layer.text.clone(),
    }
}

fn unless_zero(number: u64, write: fn(u64) -> String) -> String {
    if number == 0 { String::new() } else { write(number) }
}

fn percent(number: u64, percent: f64) -> String {
    if number == 0 { String::new() } else { format!("{percent:.1}") }
}

fn recomputation_text(recomputing: &RecomputationUse, images: &str) -> String {
    let RecomputationUse { memory, segments, macs, step_macs } = recomputing;
    if *segments == 0 {
        return "computing activations again would save nothing".into();
    }
    let which = if *segments == 1 { "one segment are".to_owned() } else { format!("{segments} segments are") };
    format!(
        "{}; activations of {which} computed again in backward: {} MACs more for one image, {:.0}{KEPT}% of the {} of a \
         training step",
        memory_text(memory, images),
        kept(&shortened(*macs)),
        100.0 * *macs as f64 / (*step_macs).max(1) as f64,
        kept(&shortened(*step_macs)),
    )
}

fn memory_text(memory: &MemoryUse, images: &str) -> String {
    let parts: Vec<String> = memory
        .parts()
        .iter()
        .filter(|(_, bytes)| *bytes > 0)
        .map(|(name, bytes)| kept(&format!("{name} {}", bytes_text(*bytes))))
        .collect();
    format!("{} for {images} = {}", kept(&bytes_text(memory.total())), parts.join(" + "))
}
