//! The gradient of a score at one weight: a weight meets an input number at every place of its filter's map.
//!
//! ```text
//! ∂score/∂weight[k, c, r, s] = Σ over oy, ox of  x[c, oy·S − P + r·D, ox·S − P + s·D] · ∂score/∂y[k, oy, ox]
//! ```
//!
//! c counts within the group. For a fully connected layer there is one place, and (r, s) is (0, 0).

use serde::Serialize;

use super::backward::no_gradient;
use super::forward::{Source, found, parameter, pixel};
use crate::error::{Error, Result};
use crate::layer::{Layer, LayerRules};
use crate::look::Inspector;
use crate::look::attribution::Target;

/// One place at which the weight is used.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WeightTerm {
    /// Channel, row and column of the output.
    pub at: [usize; 3],
    /// Channel, row and column of the input that the weight meets; it may lie in the padding.
    pub from: [i64; 3],
    /// The number there; 0 in the padding.
    pub input: f64,
    /// The score's gradient at the output, as the plan computed it.
    pub gradient: f64,
    /// The product of both.
    pub product: f64,
    /// Whether the input lies in the padding.
    pub padding: bool,
}

/// Where the gradient at one weight comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WeightGradient {
    /// Name of the layer.
    pub layer: String,
    /// Its text form.
    pub text: String,
    /// Filter, channel within the group, row and column of the kernel.
    pub weight: [usize; 4],
    /// The weight.
    pub value: f64,
    /// The class whose score is differentiated.
    pub class: String,
    /// Its number.
    pub class_number: usize,
    /// Its score, before a softmax.
    pub score: f64,
    /// Height and width of the map over which the terms are spread.
    pub places: [usize; 2],
    /// All places, row by row.
    pub terms: Vec<WeightTerm>,
    /// The gradient: the sum of the products in f64.
    pub gradient: f64,
}

/// Explains the gradient of a class's score at weight [k, c, r, s] of a convolution or fully connected layer.
///
/// # Errors
/// There is no such class, layer or weight, the layer has no such weights, or the score does not depend on it.
pub fn explain_weight(inspector: &mut Inspector<'_>, layer: &str, weight: [usize; 4], class: usize) -> Result<WeightGradient> {
    let score = inspector.differentiate(&Target::Class(class))?;
    let (id, node) = found(inspector.model().network(), layer)?;
    let (channels, window, groups) = match node.layer() {
        Layer::Conv2d(conv) => (node.input_shapes()[0].c / conv.groups, conv.window, conv.groups),
        Layer::Linear(_) => (node.input_shapes()[0].c, convnet_kernels::window::Window::new(1, 1), 1),
        other => {
            let kind = other.kind();
            return Err(Error::Argument(format!("'{layer}' is of the kind {kind}; weights are explained of conv and fc")));
        }
    };
    let outputs = node.output_shape();
    let sizes = [outputs.c, channels, window.h.size, window.w.size];
    if weight.iter().zip(sizes).any(|(place, size)| *place >= size) {
        return Err(Error::Argument(format!(
            "the weights of '{layer}' are {}x{}x{}x{} (filters, channels, rows, columns); {},{},{},{} lies outside, they count from 0",
            sizes[0], sizes[1], sizes[2], sizes[3], weight[0], weight[1], weight[2], weight[3]
        )));
    }
    let [k, c, r, s] = weight;
    let values = parameter(inspector, node, "weight").unwrap_or(&[]);
    let value = f64::from(values[((k * channels + c) * sizes[2] + r) * sizes[3] + s]);
    let gradient = inspector.gradient(id).ok_or_else(|| no_gradient(layer))?;
    let input = Source::new(inspector, node.inputs()[0])?;
    let channel = (k / (outputs.c / groups) * channels + c) as i64;
    let places = (0..outputs.h).flat_map(|oy| (0..outputs.w).map(move |ox| (oy, ox)));
    let terms: Vec<WeightTerm> = places
        .map(|(oy, ox)| {
            let row = window.h.start(oy) as i64 + (r * window.h.dilation) as i64;
            let column = window.w.start(ox) as i64 + (s * window.w.dilation) as i64;
            let met = input.term([channel, row, column], 0.0);
            let gradient = f64::from(pixel(&gradient, [k, oy, ox]));
            let product = met.input * gradient;
            WeightTerm { at: [k, oy, ox], from: met.at, input: met.input, gradient, product, padding: met.padding }
        })
        .collect();
    Ok(WeightGradient {
        layer: layer.to_owned(),
        text: node.layer().to_string(),
        weight,
        value,
        class: inspector.model().classes().get(class).cloned().unwrap_or_default(),
        class_number: class,
        score: f64::from(score),
        places: [outputs.h, outputs.w],
        gradient: terms.iter().map(|term| term.product).sum(),
        terms,
    })
}
