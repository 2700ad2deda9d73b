//! A convolution as a product of matrices: every window becomes a column, every filter a row (im2col).
//!
//! ```text
//! output [K/G, H'·W'] = weights [K/G, C/G·R·S] · columns [C/G·R·S, H'·W']        for each of the G groups
//! ```
//!
//! Row (c·R + r)·S + s of column oy·W' + ox is x[c, oy·S − P + r·D, ox·S − P + s·D], so overlapping windows repeat a pixel. This
//! is one way to compute the layer, not what a plan does unless its algorithm says so; the numbers are the same.

use serde::Serialize;

use super::forward::{explain, found};
use crate::error::{Error, Result};
use crate::layer::{Layer, LayerRules};
use crate::look::Inspector;
use crate::network::Coverage;

/// An entry of the column.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ColumnEntry {
    /// Its row in the matrix of columns: its column in the matrix of weights.
    pub row: usize,
    /// Channel within the group, row and column of the kernel.
    pub kernel: [usize; 3],
    /// Channel, row and column of the layer's input; row and column may lie in the padding.
    pub at: [i64; 3],
    /// The number there; 0 in the padding.
    pub input: f64,
    /// The filter's weight in the same row.
    pub weight: f64,
    /// The product of both.
    pub product: f64,
    /// Whether the place lies in the padding.
    pub padding: bool,
}

/// The matrices of a convolution and one column of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Columns {
    /// Name of the layer.
    pub layer: String,
    /// Its text form.
    pub text: String,
    /// Channel, row and column of the output number.
    pub at: [usize; 3],
    /// Number of groups, each with matrices of its own, and that of the output number.
    pub groups: [usize; 2],
    /// Rows and columns of the matrix of weights of a group: K/G, C/G·R·S.
    pub weights: [usize; 2],
    /// Rows and columns of the matrix of columns of a group: C/G·R·S, H'·W'.
    pub columns: [usize; 2],
    /// Row of the filter in its matrix.
    pub filter_row: usize,
    /// Number of the place's column, oy·W' + ox.
    pub column: usize,
    /// The column of the place and the filter's row.
    pub entries: Vec<ColumnEntry>,
    /// Their product, in f64.
    pub sum: f64,
    /// What is added to it.
    pub bias: Option<f64>,
    /// The output number, as the plan computed it in f32.
    pub output: f64,
    /// Bytes of the layer's input in f32, all channels.
    pub input_bytes: u64,
    /// Bytes of all weights in f32.
    pub weight_bytes: u64,
    /// Bytes of the columns of all groups in f32, for one image.
    pub column_bytes: u64,
    /// How often each pixel of a channel stands in the columns.
    pub repeats: Coverage,
    /// The mean of these.
    pub mean_repeats: f64,
    /// Share of the entries that are padding.
    pub padding: f64,
}

/// The matrices of a convolution, and the column and the row that give the number at channel, row and column `at`.
///
/// # Errors
/// There is no such layer or place, or the layer is no convolution.
pub fn columns(inspector: &Inspector<'_>, layer: &str, at: [usize; 3]) -> Result<Columns> {
    let network = inspector.model().network();
    let (_, node) = found(network, layer)?;
    let Layer::Conv2d(conv) = node.layer() else {
        let kind = node.layer().kind();
        return Err(Error::Argument(format!("'{layer}' is of the kind {kind}; columns are made of the windows of a convolution")));
    };
    let (input, output) = (node.input_shapes()[0], node.output_shape());
    let [r, s] = [conv.window.h.size, conv.window.w.size];
    let (channels, filters) = (input.c / conv.groups, conv.filters / conv.groups);
    let length = channels * r * s;
    let explanation = explain(inspector, layer, at)?;
    let entry = |(row, term): (usize, &super::Term)| ColumnEntry {
        row,
        kernel: [row / (r * s), row / s % r, row % s],
        at: term.at,
        input: term.input,
        weight: term.weight,
        product: term.product,
        padding: term.padding,
    };
    let repeats = network.coverage(layer)?;
    let inside = repeats.reads.sum();
    let bytes = |numbers: usize| 4 * numbers as u64;
    Ok(Columns {
        layer: layer.to_owned(),
        text: explanation.text,
        at,
        groups: [conv.groups, at[0] / filters],
        weights: [filters, length],
        columns: [length, output.pixels()],
        filter_row: at[0] % filters,
        column: at[1] * output.w + at[2],
        entries: explanation.terms.iter().enumerate().map(entry).collect(),
        sum: explanation.sum,
        bias: explanation.factors.first().map(|bias| bias.value),
        output: explanation.output,
        input_bytes: bytes(input.image()),
        weight_bytes: bytes(conv.filters * length),
        column_bytes: bytes(conv.groups * length).saturating_mul(output.pixels() as u64),
        mean_repeats: inside / input.pixels() as f64,
        padding: 1.0 - inside / (r * s * output.pixels()) as f64,
        repeats,
    })
}
