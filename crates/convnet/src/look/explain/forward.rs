//! The arithmetic behind one output number: the products, their sum, the bias; what a pooling chose; which pixels count.

use std::ops::Range;

use serde::Serialize;

use convnet_kernels::window::Window;

use crate::error::{Error, Result};
use crate::layer::{Layer, LayerRules};
use crate::look::Inspector;
use crate::network::{Network, Node, NodeId};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// One number that goes into another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Term {
    /// Name of the layer whose output it is, or `image`.
    pub from: String,
    /// Channel, row and column there. Row and column may lie in the padding.
    pub at: [i64; 3],
    /// The number there; 0 in the padding of a convolution.
    pub input: f64,
    /// What it is multiplied with.
    pub weight: f64,
    /// The product.
    pub product: f64,
    /// Whether the place lies in the padding.
    pub padding: bool,
}

/// What is done with the sum of the products.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Factor {
    /// What it is, `bias`, `1/√(variance + ε)`.
    pub name: String,
    /// Its value.
    pub value: f64,
}

/// What a maximum pooling took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// Channel, row and column of the largest number, the first of ties: the only place that the gradient goes back to.
    pub at: [usize; 3],
    /// The number there.
    pub value: f64,
    /// Other places with the same number.
    pub ties: usize,
}

/// Where one output number comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// Name of the layer.
    pub layer: String,
    /// Its text form.
    pub text: String,
    /// Channel, row and column of the number.
    pub at: [usize; 3],
    /// The number, as the plan computed it in f32.
    pub output: f64,
    /// The rule with the layer's own numbers.
    pub rule: String,
    /// The numbers that go in.
    pub terms: Vec<Term>,
    /// Sum of the products, in f64.
    pub sum: f64,
    /// What is added or multiplied after that.
    pub factors: Vec<Factor>,
    /// The number again, from the terms and factors in f64.
    pub recomputed: f64,
    /// For a maximum pooling.
    pub choice: Option<Choice>,
    /// Rows of the image that the number depends on.
    pub rows: Range<usize>,
    /// Columns of the image that the number depends on.
    pub columns: Range<usize>,
    /// The normalised image there, C×H×W.
    pub patch: Tensor,
}

/// Explains the number at channel, row and column `at` of a layer's output.
///
/// # Errors
/// There is no such layer or place, or the layer's rule is not one of numbers in a window (the message says which are).
pub fn explain(inspector: &Inspector<'_>, layer: &str, at: [usize; 3]) -> Result<Explanation> {
    let network = inspector.model().network();
    let (id, node) = found(network, layer)?;
    check_place(layer, node.output_shape(), at)?;
    let inputs = node.inputs().iter().map(|input| Source::new(inspector, *input)).collect::<Result<Vec<_>>>()?;
    let work = arithmetic(inspector, node, &inputs, at)?;
    let region = network.region(id, at[1], at[2])?;
    let output = f64::from(pixel(&inspector.value(id)?, at));
    let image = inspector.value(NodeId::IMAGE)?;
    Ok(Explanation {
        layer: layer.into(),
        text: node.layer().to_string(),
        at,
        output,
        rule: work.rule,
        sum: work.sum,
        factors: work.factors,
        recomputed: work.recomputed,
        choice: work.choice,
        terms: work.terms,
        patch: crop(&image, &region.rows, &region.columns)?,
        rows: region.rows,
        columns: region.columns,
    })
}

/// A layer by its name.
pub(super) fn found<'a>(network: &'a Network, layer: &str) -> Result<(NodeId, &'a Node)> {
    let id = network.find(layer)?;
    let node = network.node(id).ok_or_else(|| Error::Argument(format!("there is no layer '{layer}'")))?;
    Ok((id, node))
}

/// Whether channel, row and column lie in a value.
pub(super) fn check_place(name: &str, shape: Shape, at: [usize; 3]) -> Result<()> {
    if at.iter().zip(shape.chw()).all(|(place, size)| *place < size) {
        return Ok(());
    }
    Err(Error::Argument(format!(
        "the output of '{name}' is {}x{}x{}; {},{},{} lies outside (channel, row and column count from 0)",
        shape.c, shape.h, shape.w, at[0], at[1], at[2]
    )))
}

/// A value that a layer reads.
pub(super) struct Source {
    name: String,
    values: Tensor,
}

impl Source {
    pub fn new(inspector: &Inspector<'_>, id: NodeId) -> Result<Self> {
        let name = inspector.model().network().node(id).map_or("image", Node::name).to_owned();
        Ok(Self { name, values: inspector.value(id)? })
    }

    /// The number at a place, or 0 and `padding` outside.
    pub fn term(&self, at: [i64; 3], weight: f64) -> Term {
        let sizes = self.values.sizes();
        let inside = at.iter().zip(sizes).all(|(place, size)| *place >= 0 && *place < *size as i64);
        let input = if inside { f64::from(pixel(&self.values, at.map(|place| place as usize))) } else { 0.0 };
        Term { from: self.name.clone(), at, input, weight, product: input * weight, padding: !inside }
    }
}

pub(super) fn pixel(values: &Tensor, at: [usize; 3]) -> f32 {
    let sizes = values.sizes();
    values.values()[(at[0] * sizes[1] + at[1]) * sizes[2] + at[2]]
}

fn crop(image: &Tensor, rows: &Range<usize>, columns: &Range<usize>) -> Result<Tensor> {
    let channels = image.sizes()[0];
    let places = (0..channels).flat_map(|c| rows.clone().flat_map(move |y| columns.clone().map(move |x| [c, y, x])));
    let values: Vec<f32> = places.map(|at| pixel(image, at)).collect();
    Tensor::new(vec![channels, rows.len(), columns.len()], values)
}

/// The arithmetic of one number before it is put beside the plan's.
struct Work {
    rule: String,
    terms: Vec<Term>,
    sum: f64,
    factors: Vec<Factor>,
    recomputed: f64,
    choice: Option<Choice>,
}

impl Work {
    /// A sum of products to which one number is added.
    fn sum(rule: String, terms: Vec<Term>, bias: Option<f64>) -> Self {
        let sum: f64 = terms.iter().map(|term| term.product).sum();
        let factors = bias.map(|value| Factor { name: "bias".into(), value });
        Self { rule, terms, sum, factors: factors.into_iter().collect(), recomputed: sum + bias.unwrap_or(0.0), choice: None }
    }
}

fn bias_text(bias: bool) -> &'static str {
    if bias { ", + bias" } else { "" }
}

/// A parameter of a layer by its last name.
pub(super) fn parameter<'a>(inspector: &'a Inspector<'_>, node: &Node, name: &str) -> Option<&'a [f32]> {
    let found = inspector.model().parameters().get(&format!("{}.{name}", node.name()));
    found.map(|parameter| parameter.tensor.values())
}

fn arithmetic(inspector: &Inspector<'_>, node: &Node, inputs: &[Source], at: [usize; 3]) -> Result<Work> {
    let [c, y, x] = at.map(|place| place as i64);
    let input = &inputs[0];
    let weights = parameter(inspector, node, "weight").unwrap_or(&[]);
    let bias = |channel: usize| parameter(inspector, node, "bias").map(|bias| f64::from(bias[channel]));
    Ok(match node.layer() {
        Layer::Conv2d(conv) => {
            let channels = node.input_shapes()[0].c / conv.groups;
            let first = at[0] / (conv.filters / conv.groups) * channels;
            let taps = conv.window.taps();
            let terms = (0..channels).flat_map(|channel| {
                window_places(&conv.window, at[1], at[2]).enumerate().map(move |(tap, [row, column])| {
                    let weight = weights[(at[0] * channels + channel) * taps + tap];
                    input.term([(first + channel) as i64, row, column], f64::from(weight))
                })
            });
            let rule = format!(
                "Σ over {} × {}×{} of input · weight{} (the kernel is not flipped)",
                if channels == 1 { "1 channel".to_owned() } else { format!("{channels} channels") },
                conv.window.h.size,
                conv.window.w.size,
                bias_text(conv.bias)
            );
            Work::sum(rule, terms.collect(), bias(at[0]))
        }
        Layer::Linear(linear) => {
            let features = node.input_shapes()[0].c;
            let terms = (0..features).map(|feature| input.term([feature as i64, 0, 0], f64::from(weights[at[0] * features + feature])));
            let rule = format!("Σ over {features} features of input · weight{}", bias_text(linear.bias));
            Work::sum(rule, terms.collect(), bias(at[0]))
        }
        Layer::MaxPool2d(pool) => maximum(input, window_places(&pool.window, at[1], at[2]), at[0], "the largest number in the window"),
        Layer::GlobalMaxPool(_) => maximum(input, plane_places(node), at[0], "the largest number of the channel"),
        Layer::AvgPool2d(pool) => {
            let shape = node.input_shapes()[0];
            let counted = counted_in_mean(&pool.window, [shape.h, shape.w], [at[1], at[2]], pool.count_padding);
            let terms = window_places(&pool.window, at[1], at[2]).map(|[row, column]| input.term([c, row, column], 1.0 / counted as f64));
            let terms = terms.filter(|term| !term.padding).collect();
            Work::sum(format!("the mean of the window: the sum divided by {counted}"), terms, None)
        }
        Layer::GlobalAvgPool(_) => {
            let count = node.input_shapes()[0].pixels();
            let terms = plane_places(node).map(|[row, column]| input.term([c, row, column], 1.0 / count as f64)).collect();
            Work::sum(format!("the mean of the channel's {count} numbers"), terms, None)
        }
        Layer::Relu(_) => elementwise(input.term([c, y, x], 1.0), "max(input, 0)", |value| value.max(0.0)),
        Layer::Sigmoid(_) => elementwise(input.term([c, y, x], 1.0), "1 / (1 + e^−input)", |value| 1.0 / (1.0 + (-value).exp())),
        Layer::Tanh(_) => elementwise(input.term([c, y, x], 1.0), "tanh(input)", f64::tanh),
        Layer::Silu(_) => elementwise(input.term([c, y, x], 1.0), "input / (1 + e^−input)", |value| value / (1.0 + (-value).exp())),
        Layer::Dropout(_) | Layer::SpatialDropout(_) => {
            elementwise(input.term([c, y, x], 1.0), "unchanged: nothing is dropped outside training", |value| value)
        }
        Layer::BatchNorm2d(norm) => batch_norm(inspector, node, input.term([c, y, x], 1.0), at[0], norm.epsilon),
        Layer::Flatten(_) => {
            let shape = node.input_shapes()[0];
            let place = [at[0] / shape.pixels(), at[0] % shape.pixels() / shape.w, at[0] % shape.w].map(|place| place as i64);
            elementwise(input.term(place, 1.0), "the same number; feature (c·H + y)·W + x", |value| value)
        }
        Layer::Add(_) => Work::sum("the sum of the branches".into(), inputs.iter().map(|input| input.term([c, y, x], 1.0)).collect(), None),
        Layer::Concat(_) => {
            let mut channel = at[0];
            let mut source = 0;
            while channel >= node.input_shapes()[source].c {
                channel -= node.input_shapes()[source].c;
                source += 1;
            }
            elementwise(inputs[source].term([channel as i64, y, x], 1.0), "the same number from one branch", |value| value)
        }
        other => {
            return Err(Error::Unsupported(format!(
                "the arithmetic of '{}' is not told number by number; explained are conv, fc, maximum and average pooling, global or not, bn, relu, sigmoid, tanh, silu, dropout, flatten, add and concat",
                other.kind()
            )));
        }
    })
}

/// Row and column of each element of window (`y`, `x`), those in the padding too.
pub(super) fn window_places(window: &Window, y: usize, x: usize) -> impl Iterator<Item = [i64; 2]> + use<> {
    let (h, w) = (window.h, window.w);
    let row = move |tap: usize| h.start(y) as i64 + (tap * h.dilation) as i64;
    let column = move |tap: usize| w.start(x) as i64 + (tap * w.dilation) as i64;
    (0..h.size).flat_map(move |r| (0..w.size).map(move |s| [row(r), column(s)]))
}

fn plane_places(node: &Node) -> impl Iterator<Item = [i64; 2]> + use<> {
    let shape = node.input_shapes()[0];
    (0..shape.h as i64).flat_map(move |y| (0..shape.w as i64).map(move |x| [y, x]))
}

/// By how many numbers a mean is divided: Torch counts the padding, clipped to it at the far side, or leaves it out.
pub(super) fn counted_in_mean(window: &Window, input: [usize; 2], at: [usize; 2], padding: bool) -> usize {
    let axes = [(&window.h, input[0], at[0]), (&window.w, input[1], at[1])];
    axes.into_iter()
        .map(|(axis, length, output)| {
            if padding {
                let start = axis.start(output);
                let end = (start + axis.size as isize).min((length + axis.pad_after) as isize);
                (end - start).max(1) as usize
            } else {
                axis.taps(output, length).len().max(1)
            }
        })
        .product()
}

fn elementwise(term: Term, rule: &str, function: impl Fn(f64) -> f64) -> Work {
    let (sum, recomputed) = (term.product, function(term.input));
    Work { rule: rule.into(), terms: vec![term], sum, factors: Vec::new(), recomputed, choice: None }
}

fn maximum(input: &Source, places: impl Iterator<Item = [i64; 2]>, channel: usize, rule: &str) -> Work {
    let terms = places.map(|[row, column]| input.term([channel as i64, row, column], 0.0)).filter(|term| !term.padding);
    let mut terms: Vec<Term> = terms.collect();
    let Some(chosen) = largest(&terms) else {
        return Work { rule: rule.into(), terms, sum: 0.0, factors: Vec::new(), recomputed: f64::NEG_INFINITY, choice: None };
    };
    (terms[chosen].weight, terms[chosen].product) = (1.0, terms[chosen].input);
    let value = terms[chosen].input;
    let ties = terms.iter().filter(|term| term.input == value).count().saturating_sub(1);
    let choice = Some(Choice { at: terms[chosen].at.map(|place| place as usize), value, ties });
    Work { rule: rule.into(), terms, sum: value, factors: Vec::new(), recomputed: value, choice }
}

/// The place of the largest number: the first of ties, a NaN before every number.
fn largest(terms: &[Term]) -> Option<usize> {
    terms.iter().enumerate().fold(None, |best: Option<usize>, (place, term)| match best {
        Some(best) if !(term.input > terms[best].input || (term.input.is_nan() && !terms[best].input.is_nan())) => Some(best),
        _ => Some(place),
    })
}

/// What the window at row and column `at` of a maximum pooling's output takes of a channel.
pub(super) fn chosen(input: &Source, window: &Window, channel: usize, at: [usize; 2]) -> Option<[usize; 3]> {
    maximum(input, window_places(window, at[0], at[1]), channel, "").choice.map(|choice| choice.at)
}

fn batch_norm(inspector: &Inspector<'_>, node: &Node, term: Term, channel: usize, epsilon: f64) -> Work {
    let [mean, normalise, scale, shift] = batch_norm_factors(inspector, node, channel, epsilon);
    let recomputed = (term.input - mean) * normalise * scale + shift;
    let factors = [("running mean", mean), ("1/√(running variance + ε)", normalise), ("weight", scale), ("bias", shift)];
    Work {
        rule: "(input − running mean) / √(running variance + ε) · weight + bias".into(),
        sum: term.product,
        terms: vec![term],
        factors: factors.map(|(name, value)| Factor { name: name.into(), value }).to_vec(),
        recomputed,
        choice: None,
    }
}

/// Running mean, 1/√(running variance + ε), weight and bias of a channel.
pub(super) fn batch_norm_factors(inspector: &Inspector<'_>, node: &Node, channel: usize, epsilon: f64) -> [f64; 4] {
    let of = |name: &str, missing: f64| parameter(inspector, node, name).map_or(missing, |values| f64::from(values[channel]));
    [of("running_mean", 0.0), 1.0 / (of("running_var", 1.0) + epsilon).sqrt(), of("weight", 1.0), of("bias", 0.0)]
}
