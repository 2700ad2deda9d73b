//! What runs, in which order, and what is joined: a network's layers as steps.
//!
//! A step is one layer with what could be joined to it, so that fewer passes go over memory:
//!
//! * for inference, a convolution takes in the batch norm behind it (its weights are scaled when they are packed), the
//!   addition behind that, and the ReLU behind that;
//! * for training, a layer that takes an epilogue and is not a product (batch norm) takes in the ReLU behind it;
//! * a flatten whose numbers only reach a fully connected layer, by way of layers that treat every number alike, is left
//!   out: the fully connected layer reads its weights in the order in which the numbers lie.

use std::ops::Range;

use crate::layer::batch_norm2d::BatchNorm2d;
use crate::layer::conv2d::Conv2d;
use crate::layer::{Layer, LayerRules};
use crate::network::{Network, NodeId};
use crate::shape::Shape;

use super::Purpose;

/// One thing to run.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// The layer's place in the network.
    pub node: NodeId,
    /// The layer that runs: with a bias where a batch norm is folded into it.
    pub layer: Layer,
    /// What it reads.
    pub inputs: Vec<NodeId>,
    /// The value that it makes: that of the last layer joined to it.
    pub output: NodeId,
    /// The batch norm whose scale and shift go into the weights.
    pub batch_norm: Option<Folded>,
    /// A value that is added before the ReLU.
    pub residual: Option<NodeId>,
    /// Whether a ReLU is joined.
    pub relu: bool,
    /// Nothing is computed: the output is the input under another shape.
    pub alias: bool,
    /// The shape whose channels-last numbers the input holds, if it is a flatten's output that was left out.
    pub flattened: Option<Shape>,
}

/// A batch norm that a convolution takes in.
#[derive(Clone, Debug)]
pub(super) struct Folded {
    pub layer: BatchNorm2d,
    /// Numbers of its parameters in the network's list.
    pub parameters: Range<usize>,
}

/// The steps of a network, in order.
pub(super) fn steps(network: &Network, readers: &Readers, purpose: Purpose) -> Vec<Step> {
    let mut joined = vec![false; network.nodes().len() + 1];
    let mut steps = Vec::new();
    let aliases = skipped_flattens(network, readers);
    for (id, node) in network.layers() {
        if joined[id.index()] {
            continue;
        }
        let mut step = Step {
            node: id,
            layer: node.layer().clone(),
            inputs: node.inputs().to_vec(),
            output: id,
            batch_norm: None,
            residual: None,
            relu: false,
            alias: aliases.skipped[id.index()],
            flattened: aliases.flattened[id.index()],
        };
        if purpose != Purpose::Inspect {
            join(network, readers, purpose, &mut step, &mut joined);
        }
        steps.push(step);
    }
    steps
}

fn join(network: &Network, readers: &Readers, purpose: Purpose, step: &mut Step, joined: &mut [bool]) {
    let Some(node) = network.node(step.node) else { return };
    if !node.layer().takes_epilogue() {
        return;
    }
    let product = matches!(node.layer(), Layer::Conv2d(_) | Layer::Linear(_));
    let next = |value: NodeId| readers.only_reader(value).and_then(|reader| Some((reader, network.node(reader)?)));
    if purpose == Purpose::Infer {
        if let (Layer::Conv2d(conv), Some((reader, behind))) = (node.layer(), next(step.output))
            && let Layer::BatchNorm2d(layer) = behind.layer()
        {
            step.layer = Layer::Conv2d(Conv2d { bias: true, ..*conv });
            step.batch_norm = Some(Folded { layer: *layer, parameters: behind.parameter_range() });
            step.output = reader;
            joined[reader.index()] = true;
        }
        if let Some((reader, behind)) = next(step.output)
            && let (Layer::Add(_), [first, second]) = (behind.layer(), behind.inputs())
            && first != second
        {
            let other = if *first == step.output { *second } else { *first };
            // The other branch must have been computed by the time this step runs.
            if other < step.node {
                (step.residual, step.output) = (Some(other), reader);
                joined[reader.index()] = true;
            }
        }
    }
    if (purpose == Purpose::Infer || !product)
        && let Some((reader, behind)) = next(step.output)
        && matches!(behind.layer(), Layer::Relu(_))
    {
        (step.relu, step.output) = (true, reader);
        joined[reader.index()] = true;
    }
}

/// Who reads each value.
pub(super) struct Readers {
    of: Vec<Vec<NodeId>>,
    output: NodeId,
}

impl Readers {
    pub fn of(network: &Network) -> Self {
        let mut of = vec![Vec::new(); network.nodes().len() + 1];
        for (id, node) in network.layers() {
            for input in node.inputs() {
                of[input.index()].push(id);
            }
        }
        Self { of, output: network.output() }
    }

    /// The network's output.
    pub fn output(&self) -> NodeId {
        self.output
    }

    /// The layer that alone reads a value, once, if the value is not the network's output.
    pub fn only_reader(&self, value: NodeId) -> Option<NodeId> {
        match self.of[value.index()][..] {
            [reader] if value != self.output => Some(reader),
            _ => None,
        }
    }
}

struct Aliases {
    skipped: Vec<bool>,
    flattened: Vec<Option<Shape>>,
}

fn skipped_flattens(network: &Network, readers: &Readers) -> Aliases {
    let count = network.nodes().len() + 1;
    let mut aliases = Aliases { skipped: vec![false; count], flattened: vec![None; count] };
    for (id, node) in network.layers() {
        let Layer::Flatten(_) = node.layer() else { continue };
        let shape = node.input_shapes()[0];
        // With one channel, or one pixel, both orders are the same.
        if shape.c == 1 || shape.pixels() == 1 {
            aliases.skipped[id.index()] = true;
            continue;
        }
        let mut value = id;
        while let Some(reader) = readers.only_reader(value) {
            match network.node(reader).map(|node| node.layer()) {
                Some(Layer::Linear(_)) => {
                    aliases.skipped[id.index()] = true;
                    aliases.flattened[reader.index()] = Some(shape);
                    break;
                }
                Some(layer) if layer.elementwise() && layer.arity() == (1, 1) => value = reader,
                _ => break,
            }
        }
    }
    aliases
}
