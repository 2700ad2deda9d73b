//! The gradient of a score at one number: what reads the number, and what of the gradient comes back through each reader.
//!
//! ```text
//! ∂score/∂x = Σ over layers that read x, Σ over their outputs y that depend on x, of  ∂y/∂x · ∂score/∂y
//! ```
//!
//! For a convolution ∂y/∂x is the weight under which x lay when y was computed. In the order of the outputs that is the kernel
//! flipped: the first output that reads x has it at the end of its window. For a maximum pooling it is 1 for the windows that
//! chose x and 0 for the others.

use serde::Serialize;

use super::forward::{Source, batch_norm_factors, check_place, chosen, counted_in_mean, parameter, pixel};
use crate::error::{Error, Result};
use crate::layer::{Layer, LayerRules};
use crate::look::Inspector;
use crate::look::attribution::Target;
use crate::network::{Node, NodeId, readings};
use crate::tensor::Tensor;

/// One output number that depends on the number that is explained.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GradientTerm {
    /// Channel, row and column of the output.
    pub at: [usize; 3],
    /// Row and column of the kernel under which the number lay, for windows.
    pub tap: Option<[usize; 2]>,
    /// The derivative of the output by the number: the weight, 1 or 0 for a choice, a slope.
    pub derivative: f64,
    /// The score's gradient at the output, as the plan computed it.
    pub gradient: f64,
    /// The product of both.
    pub product: f64,
    /// What the window chose, for a maximum pooling.
    pub chosen: Option<[usize; 3]>,
}

/// A layer that reads the number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reader {
    /// Its name.
    pub layer: String,
    /// Its text form.
    pub text: String,
    /// The rule of its derivative.
    pub rule: String,
    /// The outputs that depend on the number.
    pub terms: Vec<GradientTerm>,
    /// The sum of the products.
    pub sum: f64,
}

/// Where the gradient at one number comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GradientExplanation {
    /// Name of the layer whose output the number is, or `image`.
    pub layer: String,
    /// Channel, row and column of the number.
    pub at: [usize; 3],
    /// The number.
    pub value: f64,
    /// The class whose score is differentiated.
    pub class: String,
    /// Its number.
    pub class_number: usize,
    /// Its score, before a softmax.
    pub score: f64,
    /// The gradient, as the plan computed it in f32.
    pub gradient: f64,
    /// What the number is to the score itself: 1 if it is the score, 0 for other scores, and not given for what lies below.
    pub own: Option<f64>,
    /// What reads the number on the way to the score.
    pub readers: Vec<Reader>,
    /// The gradient again: the sum over all readers in f64, or `own`.
    pub recomputed: f64,
}

/// Explains the gradient of a class's score at channel, row and column `at` of a layer's output, or of the `image`.
///
/// # Errors
/// There is no such class, layer or place, the score does not depend on the layer, or a layer behind it has a rule that is not
/// one of single numbers (the message says which).
pub fn explain_gradient(inspector: &mut Inspector<'_>, layer: &str, at: [usize; 3], class: usize) -> Result<GradientExplanation> {
    let target = Target::Class(class);
    let score = inspector.differentiate(&target)?;
    let network = inspector.model().network();
    let id = if layer == "image" { NodeId::IMAGE } else { network.find(layer)? };
    let shape = network.shape(id);
    check_place(layer, shape, at)?;
    let gradient = inspector.gradient(id).ok_or_else(|| no_gradient(layer))?;
    let spot = target.spot(network)?;
    let own = (spot.value == id).then(|| if (at[0] * shape.h + at[1]) * shape.w + at[2] == spot.index { 1.0 } else { 0.0 });
    let mut readers = Vec::new();
    for (reader, node) in network.layers().filter(|_| own.is_none()) {
        let Some(gradient) = inspector.gradient(reader) else { continue };
        // A layer may read a value more than once, as `add( identity | identity )` does.
        for input in (0..node.inputs().len()).filter(|input| node.inputs()[*input] == id) {
            let (rule, terms) = terms(inspector, node, input, at, &gradient)?;
            let sum = terms.iter().map(|term| term.product).sum();
            readers.push(Reader { layer: node.name().to_owned(), text: node.layer().to_string(), rule, terms, sum });
        }
    }
    Ok(GradientExplanation {
        layer: layer.to_owned(),
        at,
        value: f64::from(pixel(&inspector.value(id)?, at)),
        class: inspector.model().classes().get(class).cloned().unwrap_or_default(),
        class_number: class,
        score: f64::from(score),
        gradient: f64::from(pixel(&gradient, at)),
        recomputed: own.unwrap_or_else(|| readers.iter().map(|reader| reader.sum).sum()),
        own,
        readers,
    })
}

pub(super) fn no_gradient(layer: &str) -> Error {
    Error::Argument(format!("the score does not depend on '{layer}': it lies behind the scores, or nothing reads it"))
}

/// The rule of a reader and the outputs of it that depend on place `at` of one of its inputs.
fn terms(inspector: &Inspector<'_>, node: &Node, input: usize, at: [usize; 3], gradient: &Tensor) -> Result<(String, Vec<GradientTerm>)> {
    let id = node.inputs()[input];
    let [c, y, x] = at;
    let outputs = node.output_shape();
    let shape = node.input_shapes()[input];
    let value = f64::from(pixel(&inspector.value(id)?, at));
    let term = |at: [usize; 3], tap: Option<[usize; 2]>, derivative: f64| {
        let gradient = f64::from(pixel(gradient, at));
        GradientTerm { at, tap, derivative, gradient, product: derivative * gradient, chosen: None }
    };
    let same = |derivative: f64| vec![term(at, None, derivative)];
    // Outputs of windows that read the place, row by row, with the tap under which it lies.
    let reading = |window: &convnet_kernels::window::Window| {
        let (rows, columns) = (readings(&window.h, y, outputs.h), readings(&window.w, x, outputs.w));
        rows.into_iter().flat_map(move |(oy, r)| columns.clone().into_iter().map(move |(ox, s)| ([oy, ox], [r, s])))
    };
    let picked = |at: [usize; 3], tap, choice: Option<[usize; 3]>, here: [usize; 3]| {
        let derivative = if choice == Some(here) { 1.0 } else { 0.0 };
        GradientTerm { chosen: choice, ..term(at, tap, derivative) }
    };
    Ok(match node.layer() {
        Layer::Conv2d(conv) => {
            let weights = parameter(inspector, node, "weight").unwrap_or(&[]);
            let channels = shape.c / conv.groups;
            let filters = conv.filters / conv.groups;
            let group = c / channels;
            let list = (group * filters..(group + 1) * filters).flat_map(|k| {
                let term = &term;
                reading(&conv.window).map(move |([oy, ox], [r, s])| {
                    let weight = weights[((k * channels + c % channels) * conv.window.h.size + r) * conv.window.w.size + s];
                    term([k, oy, ox], Some([r, s]), f64::from(weight))
                })
            });
            let rule = format!("Σ over {filters} filters and the outputs that read it of weight · gradient: the kernel flipped");
            (rule, list.collect())
        }
        Layer::Linear(_) => {
            let weights = parameter(inspector, node, "weight").unwrap_or(&[]);
            let list = (0..outputs.c).map(|k| term([k, 0, 0], None, f64::from(weights[k * shape.c + c])));
            (format!("Σ over {} outputs of weight · gradient", outputs.c), list.collect())
        }
        Layer::MaxPool2d(pool) => {
            let source = Source::new(inspector, id)?;
            let list =
                reading(&pool.window).map(|([oy, ox], tap)| picked([c, oy, ox], Some(tap), chosen(&source, &pool.window, c, [oy, ox]), at));
            ("the gradient of the windows that chose it; the others send nothing here".into(), list.collect())
        }
        Layer::GlobalMaxPool(_) => {
            let plane = convnet_kernels::window::Window::new(shape.h, shape.w);
            let choice = chosen(&Source::new(inspector, id)?, &plane, c, [0, 0]);
            ("the gradient of the channel if it is the largest number there".into(), vec![picked([c, 0, 0], None, choice, at)])
        }
        Layer::AvgPool2d(pool) => {
            let size = [shape.h, shape.w];
            let list = reading(&pool.window).map(|([oy, ox], tap)| {
                let counted = counted_in_mean(&pool.window, size, [oy, ox], pool.count_padding);
                term([c, oy, ox], Some(tap), 1.0 / counted as f64)
            });
            ("Σ over the windows that read it of gradient / size of the window".into(), list.collect())
        }
        Layer::GlobalAvgPool(_) => {
            (format!("gradient / {} numbers of the channel", shape.pixels()), vec![term([c, 0, 0], None, 1.0 / shape.pixels() as f64)])
        }
        Layer::Relu(_) if value > 0.0 => ("passes, since the input is above 0".into(), same(1.0)),
        Layer::Relu(_) => ("stopped, since the input is not above 0".into(), same(0.0)),
        Layer::LeakyRelu(layer) => (format!("1 above 0, {} otherwise", layer.slope), same(if value > 0.0 { 1.0 } else { layer.slope })),
        Layer::Sigmoid(_) => ("σ(input) · (1 − σ(input))".into(), same(sigmoid(value) * (1.0 - sigmoid(value)))),
        Layer::Tanh(_) => ("1 − tanh²(input)".into(), same(1.0 - value.tanh() * value.tanh())),
        Layer::Silu(_) => ("σ(input) · (1 + input · (1 − σ(input)))".into(), same(sigmoid(value) * (1.0 + value * (1.0 - sigmoid(value))))),
        Layer::Dropout(_) | Layer::SpatialDropout(_) => ("passes: nothing is dropped outside training".into(), same(1.0)),
        Layer::BatchNorm2d(norm) => {
            let [_, normalise, scale, _] = batch_norm_factors(inspector, node, c, norm.epsilon);
            ("weight / √(running variance + ε) · gradient".into(), same(normalise * scale))
        }
        Layer::Flatten(_) => {
            let feature = (c * shape.h + y) * shape.w + x;
            ("the same number; feature (c·H + y)·W + x".into(), vec![term([feature, 0, 0], None, 1.0)])
        }
        Layer::Add(_) => ("passes: an addition sends its gradient to each branch".into(), same(1.0)),
        Layer::Concat(_) => {
            let before: usize = node.input_shapes()[..input].iter().map(|shape| shape.c).sum();
            ("passes to the branch that the channel comes from".into(), vec![term([before + c, y, x], None, 1.0)])
        }
        other => {
            return Err(Error::Unsupported(format!(
                "the gradient behind '{}' is not told number by number; explained are conv, fc, maximum and average pooling, global or not, bn, relu, leaky relu, sigmoid, tanh, silu, dropout, flatten, add and concat",
                other.kind()
            )));
        }
    })
}

fn sigmoid(value: f64) -> f64 {
    1.0 / (1.0 + (-value).exp())
}
