//! A network: named layers wired into a graph without circles, checked when it is built.
//!
//! A [`Network`] says what is computed, for one image size and any batch. It holds no parameters and runs nothing.
//!
//! ```
//! use convnet::network::Network;
//! use convnet::layer::{flatten::Flatten, relu::Relu};
//!
//! let mut network = Network::builder([1, 28, 28]);
//! let image = network.input();
//! let relu = network.add(Relu, &[image])?;
//! let flat = network.add(Flatten, &[relu])?;
//! let network = network.finish(flat)?;
//! assert_eq!(network.output_shape().c, 784);
//! # Ok::<(), convnet::Error>(())
//! ```

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::layer::{Layer, LayerRules, ParameterSpec};
use crate::shape::Shape;

mod coverage;
mod display;
mod parameters;
pub mod receptive_field;
pub mod solve;
pub mod summary;
pub mod text;
mod torch;

pub(crate) use coverage::readings;
pub use coverage::{Counts, Coverage};
pub use parameters::{Parameter, Parameters};
pub use receptive_field::{AxisField, ReceptiveField, Region};
pub use solve::{AxisSolutions, Solution, Solutions, Solve};
pub use summary::{LayerSummary, Memory, MemoryUse, RecomputationUse, Summary, Totals};

/// The largest number of layers that a network may have.
pub const MAX_LAYERS: usize = 10_000;

/// The largest number of parameters that a network may have.
pub const MAX_PARAMETERS: usize = Shape::MAX_COUNT;

/// A value in a network: the image, or the output of a layer. Layers are numbered from 1 in the order in which they were
/// added, which is an order in which they can run; 0 is the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(usize);

impl NodeId {
    /// The image.
    pub const IMAGE: Self = Self(0);

    /// The number of the value: 0 is the image, 1 the first layer's output.
    pub fn index(self) -> usize {
        self.0
    }
}

/// One layer in its place.
#[derive(Clone, Debug)]
pub struct Node {
    name: String,
    layer: Layer,
    inputs: Vec<NodeId>,
    input_shapes: Vec<Shape>,
    output_shape: Shape,
    parameters: Vec<ParameterSpec>,
    parameter_range: Range<usize>,
}

impl Node {
    /// The name, unique in its network: given, or the kind and a counter, `conv2`.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The layer.
    pub fn layer(&self) -> &Layer {
        &self.layer
    }
    /// The values it reads.
    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }
    /// Shapes of the inputs for a batch of one.
    pub fn input_shapes(&self) -> &[Shape] {
        &self.input_shapes
    }
    /// Shape of the output for a batch of one.
    pub fn output_shape(&self) -> Shape {
        self.output_shape
    }
    /// What the layer says of its parameters.
    pub fn parameters(&self) -> &[ParameterSpec] {
        &self.parameters
    }
    /// The numbers of its parameters in the network's list.
    pub fn parameter_range(&self) -> Range<usize> {
        self.parameter_range.clone()
    }
}

/// Layers wired into a graph. See the [module](self).
#[derive(Clone, Debug)]
pub struct Network {
    input: Shape,
    nodes: Vec<Node>,
    output: NodeId,
}

impl Network {
    /// Starts a network for images of these channels, height and width.
    pub fn builder(input: [usize; 3]) -> NetworkBuilder {
        let [c, h, w] = input;
        NetworkBuilder { input: Shape::new(1, c, h, w), nodes: Vec::new(), counters: HashMap::new(), names: HashSet::new(), parameters: 0 }
    }

    /// The image's shape for a batch of one.
    pub fn input_shape(&self) -> Shape {
        self.input
    }

    /// The layers in an order in which they can run.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The layer whose output this value is; `None` for the image.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0.checked_sub(1)?)
    }

    /// The value that is the network's output.
    pub fn output(&self) -> NodeId {
        self.output
    }

    /// Shape of any value for a batch of one.
    pub fn shape(&self, id: NodeId) -> Shape {
        self.node(id).map_or(self.input, Node::output_shape)
    }

    /// Shape of the output for a batch of one: `1×classes×1×1` for a classifier.
    pub fn output_shape(&self) -> Shape {
        self.shape(self.output)
    }

    /// The layers with their ids.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().map(|(index, node)| (NodeId(index + 1), node))
    }

    /// The value that a layer of this name makes.
    ///
    /// # Errors
    /// There is no such layer; the message lists those there are.
    pub fn find(&self, name: &str) -> Result<NodeId> {
        self.layers().find(|(_, node)| node.name == name).map(|(id, _)| id).ok_or_else(|| {
            let names: Vec<_> = self.nodes.iter().map(Node::name).collect();
            Error::Argument(format!("there is no layer '{name}'; the layers are {}", names.join(", ")))
        })
    }

    /// Every parameter in the order of the layers: `conv1.weight`, `conv1.bias`, …, with what its layer says of it.
    pub fn parameters(&self) -> impl Iterator<Item = (String, &ParameterSpec)> {
        self.nodes.iter().flat_map(|node| node.parameters.iter().map(|spec| (format!("{}.{}", node.name, spec.name), spec)))
    }

    /// What the layers have to say about sizes that are accepted all the same, each with the layer's name in front.
    pub fn warnings(&self) -> Vec<String> {
        let of = |node: &Node| {
            node.layer.warnings(&node.input_shapes).into_iter().map(|text| format!("{}: {text}", node.name)).collect::<Vec<_>>()
        };
        self.nodes.iter().flat_map(of).collect()
    }
}

/// Adds layers one after the other; each is checked when it is added.
#[derive(Clone, Debug)]
pub struct NetworkBuilder {
    input: Shape,
    nodes: Vec<Node>,
    counters: HashMap<String, usize>,
    names: HashSet<String>,
    parameters: usize,
}

impl NetworkBuilder {
    /// The image.
    pub fn input(&self) -> NodeId {
        NodeId::IMAGE
    }

    /// Shape of a value for a batch of one.
    pub fn shape(&self, id: NodeId) -> Shape {
        id.0.checked_sub(1).and_then(|index| self.nodes.get(index)).map_or(self.input, Node::output_shape)
    }

    /// The layers so far.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Adds a layer that reads these values, and names it by its kind and a counter.
    ///
    /// # Errors
    /// The layer cannot take these inputs.
    pub fn add(&mut self, layer: impl Into<Layer>, inputs: &[NodeId]) -> Result<NodeId> {
        let layer = layer.into();
        let base: String = layer.kind().split(' ').collect::<Vec<_>>().join("_");
        let name = loop {
            let counter = self.counters.entry(base.clone()).or_insert(0);
            *counter += 1;
            let name = format!("{base}{counter}");
            if !self.names.contains(&name) {
                break name;
            }
        };
        self.push(name, layer, inputs)
    }

    /// Adds a layer under a name of its own: letters, digits, `_`, `-` and `.`, beginning with a letter.
    ///
    /// # Errors
    /// The name is taken or cannot be one, or the layer cannot take these inputs.
    pub fn add_named(&mut self, name: &str, layer: impl Into<Layer>, inputs: &[NodeId]) -> Result<NodeId> {
        let proper = name.starts_with(|letter: char| letter.is_ascii_alphabetic())
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.'));
        // The text form calls the image `input`.
        if !proper || name.len() > 128 || name == "input" {
            return Err(Error::Argument(format!(
                "'{name}' cannot be a layer's name; use letters, digits, '_', '-' and '.', beginning with a letter, and not 'input'"
            )));
        }
        if self.names.contains(name) {
            return Err(Error::Argument(format!("there are two layers named '{name}'; give each its own name")));
        }
        self.push(name.to_owned(), layer.into(), inputs)
    }

    fn push(&mut self, name: String, layer: Layer, inputs: &[NodeId]) -> Result<NodeId> {
        if self.nodes.len() >= MAX_LAYERS {
            return Err(Error::Shape(format!("a network has at most {MAX_LAYERS} layers")));
        }
        if let Some(unknown) = inputs.iter().find(|id| id.0 > self.nodes.len()) {
            return Err(Error::Argument(format!(
                "layer '{name}' reads value {}, but only {} exist so far",
                unknown.0,
                self.nodes.len() + 1
            )));
        }
        self.input.check().map_err(|reason| Error::Shape(format!("the input: {reason}")))?;
        let input_shapes: Vec<Shape> = inputs.iter().map(|id| self.shape(*id)).collect();
        let shape_error = |reason: String| Error::Shape(format!("layer '{name}' ({layer}): {reason}"));
        let output_shape = layer.output_shape(&input_shapes).map_err(shape_error)?;
        let parameters = layer.parameters(&input_shapes);
        let total = parameters.iter().fold(self.parameters, |total, spec| total.saturating_add(spec.count()));
        if total > MAX_PARAMETERS {
            return Err(shape_error("its parameters are more than memory can address".into()));
        }
        self.parameters = total;
        let first = self.nodes.last().map_or(0, |node| node.parameter_range.end);
        let parameter_range = first..first + parameters.len();
        self.names.insert(name.clone());
        self.nodes.push(Node { name, layer, inputs: inputs.to_vec(), input_shapes, output_shape, parameters, parameter_range });
        Ok(NodeId(self.nodes.len()))
    }

    /// The network whose output is this value.
    ///
    /// # Errors
    /// There is no layer, no such value, or a layer whose output nobody reads.
    pub fn finish(self, output: NodeId) -> Result<Network> {
        if self.nodes.is_empty() || output == NodeId::IMAGE || output.0 > self.nodes.len() {
            return Err(Error::Shape("a network needs at least one layer, whose output is the network's".into()));
        }
        let read: HashSet<NodeId> = self.nodes.iter().flat_map(|node| node.inputs.iter().copied()).chain([output]).collect();
        let unread = self.nodes.iter().enumerate().find(|(index, _)| !read.contains(&NodeId(index + 1)));
        if let Some((_, node)) = unread {
            return Err(Error::Shape(format!("nobody reads the output of layer '{}'; remove it or join it with add or concat", node.name)));
        }
        Ok(Network { input: self.input, nodes: self.nodes, output })
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "#{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{add::Add, flatten::Flatten, relu::Relu};

    #[test]
    fn layers_are_named_by_kind_and_counter_unless_said() {
        let mut builder = Network::builder([1, 4, 4]);
        let first = builder.add(Relu, &[NodeId::IMAGE]).unwrap();
        let named = builder.add_named("relu2", Relu, &[first]).unwrap();
        let third = builder.add(Relu, &[named]).unwrap();
        let network = builder.finish(third).unwrap();
        assert_eq!(network.nodes().iter().map(Node::name).collect::<Vec<_>>(), ["relu1", "relu2", "relu3"]);
        assert_eq!(network.find("relu3").unwrap(), third);
        assert!(network.find("conv1").unwrap_err().to_string().contains("relu1, relu2, relu3"));
    }

    #[test]
    fn wiring_mistakes_are_found_while_building() {
        let mut builder = Network::builder([1, 4, 4]);
        let relu = builder.add(Relu, &[NodeId::IMAGE]).unwrap();
        let flat = builder.add(Flatten, &[relu]).unwrap();
        let error = builder.add(Add, &[relu, flat]).unwrap_err().to_string();
        assert!(error.contains("layer 'add1' (add)") && error.contains("1x4x4") && error.contains("16x1x1"), "{error}");
        assert!(builder.add_named("relu1", Relu, &[flat]).unwrap_err().to_string().contains("two layers named 'relu1'"));
        assert!(builder.clone().finish(relu).unwrap_err().to_string().contains("'flatten1'"));
        assert!(builder.finish(NodeId::IMAGE).is_err());
    }
}
