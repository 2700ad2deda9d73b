//! The size of a network: for every layer its output, parameters, work, memory and receptive field; and the totals.
//!
//! | number | is |
//! |---|---|
//! | weights | what multiplies: kernels, matrices, the scales of normalisations |
//! | biases | what is added: biases, the shifts of normalisations |
//! | parameters | weights + biases: all that is trained |
//! | buffers | running statistics, which are kept but not trained; counted apart |
//! | MACs | multiplications with additions of convolutions and fully connected layers, for one image, biases left out |
//! | FLOPs | 2·MACs |
//! | activation bytes | the layer's output for the whole batch, 4 bytes a number |
//! | receptive field, jump | see [`receptive_field`](super::receptive_field) |
//!
//! [`Display`](std::fmt::Display) writes a table, `serde` the same numbers.

use std::fmt;

use convnet_kernels::{Isa, Means, Precision};
use serde::Serialize;

use super::{Network, Node, NodeId, ReceptiveField};
use crate::layer::{Layer, LayerRules, Role, Use};
use crate::shape::Shape;

mod checks;
mod numbers;
mod render;
mod table;

/// Bytes of one number.
const F32: u64 = 4;

/// The sizes of one layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerSummary {
    /// Its name in the network.
    pub name: String,
    /// The first words of its text form.
    pub kind: String,
    /// The text form.
    pub text: String,
    /// Channels, height and width of the output.
    pub output: [usize; 3],
    /// Trained numbers that multiply.
    pub weights: u64,
    /// Trained numbers that are added.
    pub biases: u64,
    /// All trained numbers.
    pub parameters: u64,
    /// Numbers that are kept but not trained.
    pub buffers: u64,
    /// The parameter count as arithmetic, `(5·5·3 + 1)·10`.
    pub formula: Option<String>,
    /// Its part of all parameters, in per cent.
    pub parameters_percent: f64,
    /// Multiplications with additions for one image.
    pub macs: u64,
    /// 2·MACs, for one image.
    pub flops: u64,
    /// Its part of all MACs, in per cent.
    pub macs_percent: f64,
    /// Bytes of the output for the whole batch.
    pub activation_bytes: u64,
    /// Whether the output needs no memory of its own: it is written over the input, or (flatten) is the input seen
    /// otherwise.
    pub in_place: bool,
    /// Height and width of the receptive field in pixels of the image.
    pub receptive_field: [u64; 2],
    /// Pixels of the image from one position to the next, along height and width.
    pub jump: [u64; 2],
    /// First row and column of the image that position 0,0 sees; negative in the padding.
    pub start: [i64; 2],
    /// Whether every position sees the same pixels: the layer or one before it reads the whole height and width.
    pub sees_whole: bool,
}

/// The sums over all layers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Totals {
    /// Trained numbers that multiply.
    pub weights: u64,
    /// Trained numbers that are added.
    pub biases: u64,
    /// All trained numbers.
    pub parameters: u64,
    /// Numbers that are kept but not trained.
    pub buffers: u64,
    /// Multiplications with additions for one image.
    pub macs: u64,
    /// 2·MACs, for one image.
    pub flops: u64,
    /// Bytes of the image and of every output that needs memory of its own, for the whole batch. More than a plan needs,
    /// which uses memory again when what lay there is no longer needed.
    pub activation_bytes: u64,
    /// Bytes that inference takes; known once a plan was asked.
    pub inference_bytes: Option<u64>,
    /// Bytes that training takes; known once a plan was asked.
    pub training_bytes: Option<u64>,
}

/// What a plan takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryUse {
    /// Parameters and buffers, as they are trained and saved.
    pub parameters: u64,
    /// Weights once more, in the order in which the kernels read them.
    pub prepared: u64,
    /// Gradients of the parameters.
    pub gradients: u64,
    /// What the optimiser keeps for every parameter.
    pub optimizer: u64,
    /// Activations, their gradients and working memory: the plan's arena.
    pub activations: u64,
}

impl MemoryUse {
    /// The sum.
    pub fn total(&self) -> u64 {
        self.parts().iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    fn parts(&self) -> [(&'static str, u64); 5] {
        [
            ("parameters", self.parameters),
            ("packed weights", self.prepared),
            ("gradients", self.gradients),
            ("optimiser state", self.optimizer),
            ("activations", self.activations),
        ]
    }
}

/// What a training takes that computes activations again in backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RecomputationUse {
    /// Its memory.
    pub memory: MemoryUse,
    /// Segments of the network whose activations are computed again; 0 where that would save nothing.
    pub segments: usize,
    /// Multiplications with additions that are done again, for one image.
    pub macs: u64,
    /// Those of an ordinary training step, forward and backward, for one image.
    pub step_macs: u64,
}

/// Memory for both purposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// To run the network forward.
    pub inference: MemoryUse,
    /// To train it.
    pub training: MemoryUse,
    /// To train it in less memory; known once a plan was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recomputing: Option<RecomputationUse>,
}

/// The sizes of a network. See the [module](self).
///
/// ```
/// # use convnet::network::Network;
/// # use convnet::layer::conv2d::Conv2d;
/// let mut builder = Network::builder([3, 32, 32]);
/// let conv = builder.add(Conv2d::new(10, [5, 5]).pad([2, 2]), &[builder.input()])?;
/// let summary = builder.finish(conv)?.summary();
/// assert_eq!(summary.layers[0].output, [10, 32, 32]);
/// assert_eq!((summary.totals.weights, summary.totals.biases, summary.totals.parameters), (750, 10, 760));
/// assert_eq!(summary.totals.macs, 768_000);
/// # Ok::<(), convnet::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Channels, height and width of the image.
    pub input: [usize; 3],
    /// Images that run together; the activation bytes are for all of them.
    pub batch: usize,
    /// One for each layer, in the order in which they run.
    pub layers: Vec<LayerSummary>,
    /// The sums.
    pub totals: Totals,
    /// What plans take; known once they were asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Sizes that are accepted although something is lost, and parameters that have no effect; each with its layer's name.
    pub warnings: Vec<String>,
}

impl Network {
    /// The sizes of this network, one image at a time.
    pub fn summary(&self) -> Summary {
        self.summary_for(1)
    }

    /// The sizes of this network for batches of so many images.
    pub fn summary_for(&self, batch: usize) -> Summary {
        let fields = self.receptive_fields();
        let readers = readers(self);
        let layers = self.nodes().iter().zip(&fields[1..]).map(|(node, field)| layer_summary(node, field, &readers, batch)).collect();
        Summary::new(self.input_shape().with_batch(batch), layers, checks::warnings(self, &fields, &readers))
    }
}

fn layer_summary(node: &Node, field: &ReceptiveField, readers: &[usize], batch: usize) -> LayerSummary {
    let count = |roles: &[Role]| {
        node.parameters().iter().filter(|spec| roles.contains(&spec.role)).fold(0u64, |sum, spec| sum.saturating_add(spec.count() as u64))
    };
    let (weights, biases) = (count(&[Role::Weight, Role::Scale]), count(&[Role::Bias]));
    let macs = node.layer().macs(node.input_shapes());
    LayerSummary {
        name: node.name().to_owned(),
        kind: node.layer().kind().to_owned(),
        text: node.layer().to_string(),
        output: node.output_shape().chw(),
        weights,
        biases,
        parameters: weights.saturating_add(biases),
        buffers: count(&[Role::Buffer]),
        formula: node.layer().formula(node.input_shapes()),
        parameters_percent: 0.0,
        macs,
        flops: macs.saturating_mul(2),
        macs_percent: 0.0,
        activation_bytes: bytes(node.output_shape().with_batch(batch)),
        in_place: is_in_place(node, readers),
        receptive_field: field.size(),
        jump: field.jump(),
        start: [field.h.start, field.w.start],
        sees_whole: field.is_whole(),
    }
}

/// How many layers read each value, by its index.
fn readers(network: &Network) -> Vec<usize> {
    let mut readers = vec![0; network.nodes().len() + 1];
    network.nodes().iter().flat_map(Node::inputs).for_each(|input| readers[input.index()] += 1);
    readers
}

/// Whether a layer's output may lie where its only input lies, which nobody else reads.
fn is_in_place(node: &Node, readers: &[usize]) -> bool {
    let [input] = node.inputs() else { return false };
    let usage = Use {
        means: Means { isa: Isa::Portable, inexact: false, uses: usize::MAX, precision: Precision::F32, tuning: None },
        backward: false,
        input_gradient: false,
        flattened: None,
        relu: false,
    };
    let over = matches!(node.layer(), Layer::Flatten(_)) || node.layer().memory::<f32>(node.input_shapes(), usage).in_place;
    over && readers[input.index()] == 1 && *input != NodeId::IMAGE
}

impl Summary {
    fn new(input: Shape, mut layers: Vec<LayerSummary>, warnings: Vec<String>) -> Self {
        let sum = |number: fn(&LayerSummary) -> u64| layers.iter().fold(0u64, |sum, layer| sum.saturating_add(number(layer)));
        let totals = Totals {
            weights: sum(|layer| layer.weights),
            biases: sum(|layer| layer.biases),
            parameters: sum(|layer| layer.parameters),
            buffers: sum(|layer| layer.buffers),
            macs: sum(|layer| layer.macs),
            flops: sum(|layer| layer.flops),
            activation_bytes: bytes(input).saturating_add(sum(|layer| if layer.in_place { 0 } else { layer.activation_bytes })),
            inference_bytes: None,
            training_bytes: None,
        };
        for layer in &mut layers {
            layer.parameters_percent = percent(layer.parameters, totals.parameters);
            layer.macs_percent = percent(layer.macs, totals.macs);
        }
        Self { input: input.chw(), batch: input.n, layers, totals, memory: None, warnings }
    }

    /// The same with what plans for inference and for training take.
    #[must_use]
    pub fn with_memory(mut self, inference: MemoryUse, training: MemoryUse) -> Self {
        self.totals.inference_bytes = Some(inference.total());
        self.totals.training_bytes = Some(training.total());
        self.memory = Some(Memory { inference, training, recomputing: None });
        self
    }

    /// The same with what a training takes that computes activations again, where the memory is known already.
    #[must_use]
    pub fn with_recomputation(mut self, recomputing: RecomputationUse) -> Self {
        if let Some(memory) = &mut self.memory {
            memory.recomputing = Some(recomputing);
        }
        self
    }

    /// The layer of this name.
    pub fn layer(&self, name: &str) -> Option<&LayerSummary> {
        self.layers.iter().find(|layer| layer.name == name)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.to_text(120))
    }
}

fn bytes(shape: Shape) -> u64 {
    (shape.count() as u64).saturating_mul(F32)
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 }
}
