//! Correlation and convolution: what this layer computes, and what the word would mean elsewhere.
//!
//! Of one channel, without stride and dilation, with the window's first element at (y, x):
//!
//! ```text
//! correlation   Σ over r, s of  x[y + r, x + s] · w[r, s]                     what the layer computes
//! convolution   Σ over r, s of  x[y + R − 1 − r, x + S − 1 − s] · w[r, s]      the kernel turned around by half a turn
//! ```
//!
//! So convolution with a kernel is correlation with the kernel flipped, and the other way round. A network learns its kernels,
//! so that it makes no difference which of the two it computes; it does where kernels are taken from elsewhere.

use serde::Serialize;

use super::forward::{explain, found};
use crate::error::{Error, Result};
use crate::layer::{Layer, LayerRules};
use crate::look::Inspector;

/// One number of the window under both kernels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FlippedTerm {
    /// Channel, row and column of the input.
    pub at: [i64; 3],
    /// The number there; 0 in the padding.
    pub input: f64,
    /// The weight that the layer multiplies it with.
    pub weight: f64,
    /// The weight of the flipped kernel at the same place: what convolution multiplies it with.
    pub flipped: f64,
    /// Whether the place lies in the padding.
    pub padding: bool,
}

/// Both sums at one place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Correlation {
    /// Name of the layer.
    pub layer: String,
    /// Its text form.
    pub text: String,
    /// Channel, row and column of the output number.
    pub at: [usize; 3],
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// The window's numbers, channel by channel, row by row.
    pub terms: Vec<FlippedTerm>,
    /// Σ input · weight: what the layer computes, before the bias.
    pub correlation: f64,
    /// What true convolution with the layer's kernel gives at this place, summed by its definition.
    pub convolution: f64,
    /// Correlation with the flipped kernel: the same as `convolution` but for the order of the sum.
    pub correlation_flipped: f64,
    /// True convolution with the flipped kernel: the same as `correlation`.
    pub convolution_flipped: f64,
    /// Whether the kernel looks the same turned around, so that both are one.
    pub symmetric: bool,
    /// The bias that is added, if there is one.
    pub bias: Option<f64>,
    /// The output number, as the plan computed it in f32.
    pub output: f64,
}

/// Compares correlation and convolution at channel, row and column `at` of a convolution's output.
///
/// # Errors
/// There is no such layer or place, or the layer is no convolution.
pub fn correlation(inspector: &Inspector<'_>, layer: &str, at: [usize; 3]) -> Result<Correlation> {
    let (_, node) = found(inspector.model().network(), layer)?;
    let Layer::Conv2d(conv) = node.layer() else {
        let kind = node.layer().kind();
        return Err(Error::Argument(format!("'{layer}' is of the kind {kind}; only a convolution has a kernel that could be flipped")));
    };
    let explanation = explain(inspector, layer, at)?;
    let taps = conv.window.taps().max(1);
    // Turned around by half a turn, the elements of a kernel stand in the opposite order.
    let terms: Vec<FlippedTerm> = explanation
        .terms
        .chunks(taps)
        .flat_map(|channel| {
            let pair = |(place, term): (usize, &super::Term)| FlippedTerm {
                at: term.at,
                input: term.input,
                weight: term.weight,
                flipped: channel[channel.len() - 1 - place].weight,
                padding: term.padding,
            };
            channel.iter().enumerate().map(pair).collect::<Vec<_>>()
        })
        .collect();
    // By the definition: the kernel from its first element, the window from its last.
    let convolved = |weight: fn(&FlippedTerm) -> f64| -> f64 {
        let of = |channel: &[FlippedTerm]| -> f64 { channel.iter().zip(channel.iter().rev()).map(|(w, x)| x.input * weight(w)).sum() };
        terms.chunks(taps).map(of).sum()
    };
    Ok(Correlation {
        layer: layer.to_owned(),
        text: explanation.text,
        at,
        kernel: [conv.window.h.size, conv.window.w.size],
        correlation: explanation.sum,
        convolution: convolved(|term| term.weight),
        correlation_flipped: terms.iter().map(|term| term.input * term.flipped).sum(),
        convolution_flipped: convolved(|term| term.flipped),
        symmetric: terms.iter().all(|term| term.weight == term.flipped),
        bias: explanation.factors.first().map(|bias| bias.value),
        output: explanation.output,
        terms,
    })
}
