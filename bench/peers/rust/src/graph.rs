//! An ONNX file as a list of layers, and a walk over them: for engines that define networks in code and give the layers.
//!
//! It knows the operators that torch.onnx.export (opset 17) gives for the networks measured here, and names any other.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rten_onnx::onnx::{AttributeProto, DataType, ModelProto, NodeProto, TensorProto};

/// Parameters with their shape, in logical order.
#[derive(Clone, Debug)]
pub struct Constant {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

impl Constant {
    /// The one number that it holds.
    fn scalar(&self) -> Option<f32> {
        match self.values[..] {
            [value] => Some(value),
            _ => None,
        }
    }

    /// Rows for columns.
    pub fn transposed(&self) -> Result<Constant> {
        let &[rows, columns] = self.shape.as_slice() else { bail!("{:?} is no matrix", self.shape) };
        let values = (0..rows * columns).map(|place| self.values[place % rows * columns + place / rows]).collect();
        Ok(Constant { shape: vec![columns, rows], values })
    }
}

/// How a window moves; every pair is for height and width.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub dilation: [usize; 2],
}

/// What a layer computes. Maps are N×C×H×W unless transposed, scores N×K.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Weight K×(C/groups)×R×S, bias K.
    Conv { weight: Constant, bias: Constant, window: Window, groups: usize },
    MaxPool { kernel: [usize; 2], window: Window },
    GlobalAveragePool,
    /// Weight inputs × outputs, for the last axis.
    Linear { weight: Constant, bias: Constant },
    /// Over the last axis.
    LayerNorm { scale: Constant, bias: Constant, epsilon: f64 },
    /// Times a constant that broadcasts.
    Scale(Constant),
    /// Of the two inputs.
    Add,
    Relu,
    Clip { least: f32, most: f32 },
    /// By the error function, not the approximation by tanh.
    Gelu,
    Transpose([usize; 4]),
    /// All axes but the first into one.
    Flatten,
}

/// An operation, where its inputs are (0 the images, i the output of layer i − 1), and which of them no later layer reads.
#[derive(Debug)]
struct Layer<O> {
    operation: O,
    inputs: Vec<usize>,
    last_reader: Vec<bool>,
}

/// What an engine makes of an operation.
pub trait Run: Sized {
    type Tensor: Clone;

    fn prepare(operation: Operation) -> Result<Self>;

    /// The second input is there for `Add` alone.
    fn run(&self, input: Self::Tensor, second: Option<Self::Tensor>) -> Result<Self::Tensor>;
}

/// The layers in order; the last one gives the scores.
#[derive(Debug)]
pub struct Graph<O> {
    layers: Vec<Layer<O>>,
}

impl<O: Run> Graph<O> {
    /// # Errors
    /// The file cannot be read, or holds what this module or the engine does not know.
    pub fn load(path: &Path) -> Result<Self> {
        let mut reader = Reader::new(path)?;
        let mut layers = Vec::new();
        for (operation, inputs) in reader.layers()? {
            layers.push(Layer { operation: O::prepare(operation)?, last_reader: vec![false; inputs.len()], inputs });
        }
        let mut seen = vec![false; layers.len() + 1];
        for layer in layers.iter_mut().rev() {
            for (input, last) in layer.inputs.iter().zip(&mut layer.last_reader) {
                *last = !std::mem::replace(&mut seen[*input], true);
            }
        }
        Ok(Graph { layers })
    }

    /// The scores. A value is given away to its last reader, which may then overwrite it.
    pub fn run(&self, images: O::Tensor) -> Result<O::Tensor> {
        let mut values = vec![Some(images)];
        for layer in &self.layers {
            let mut inputs = layer.inputs.iter().zip(&layer.last_reader).map(|(&input, &last)| {
                let value = if last { values[input].take() } else { values[input].clone() };
                value.ok_or_else(|| anyhow!("value {input} is gone"))
            });
            let first = inputs.next().ok_or_else(|| anyhow!("a layer without inputs"))??;
            let second = inputs.next().transpose()?;
            drop(inputs);
            values.push(Some(layer.operation.run(first, second)?));
        }
        values.pop().flatten().ok_or_else(|| anyhow!("no layers"))
    }
}

/// The nodes of a file and what is known about their values.
struct Reader {
    nodes: Vec<NodeProto>,
    constants: HashMap<String, Constant>,
    /// Names of values and where they come from, numbered as in [`Layer`].
    places: HashMap<String, usize>,
    output: String,
}

impl Reader {
    fn new(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let model = ModelProto::parse_file(file).map_err(|error| anyhow!("{} is no ONNX file: {error:?}", path.display()))?;
        let graph = model.graph.context("the ONNX file holds no graph")?;
        let mut constants = HashMap::new();
        for tensor in &graph.initializer {
            if let Some(constant) = constant(tensor)? {
                constants.insert(tensor.name.clone().unwrap_or_default(), constant);
            }
        }
        let inputs = graph.input.iter().filter_map(|input| input.name.clone()).filter(|name| !constants.contains_key(name));
        let [input] = inputs.collect::<Vec<_>>().try_into().map_err(|names| anyhow!("inputs {names:?}; expected one"))?;
        let output = graph.output.first().and_then(|output| output.name.clone()).context("the graph has no output")?;
        Ok(Reader { nodes: graph.node, constants, places: HashMap::from([(input, 0)]), output })
    }

    fn layers(&mut self) -> Result<Vec<(Operation, Vec<usize>)>> {
        let nodes = std::mem::take(&mut self.nodes);
        let mut layers: Vec<(Operation, Vec<usize>)> = Vec::new();
        let mut next = 0;
        while let Some(node) = nodes.get(next) {
            let joined = self.gelu(&nodes[next..]).or_else(|| self.linear(&nodes[next..]));
            let (step, count) = match joined {
                Some((operation, place, count)) => (Some((operation, vec![place])), count),
                None => (self.layer(node).with_context(|| format!("node '{}'", node.name.as_deref().unwrap_or("")))?, 1),
            };
            next += count;
            if let Some((operation, inputs)) = step {
                layers.push((operation, inputs));
                self.places.insert(nodes[next - 1].output[0].clone(), layers.len());
            }
        }
        ensure!(self.places.get(&self.output) == Some(&layers.len()), "the last layer does not give the output '{}'", self.output);
        Ok(layers)
    }

    /// x · (erf(x / √2) + 1) / 2 over five nodes: where x is, and how many nodes.
    fn gelu(&self, nodes: &[NodeProto]) -> Option<(Operation, usize, usize)> {
        let [divide, erf, add, multiply, halve] = nodes.iter().filter(|node| kind(node) != "Constant").take(5).collect::<Vec<_>>()[..]
        else {
            return None;
        };
        let kinds = [divide, erf, add, multiply, halve].map(kind);
        let scalar = |node: &NodeProto, expected: f32| {
            let value = self.constant_or_ahead(nodes, node.input.get(1)?)?.scalar()?;
            ((value - expected).abs() < 1e-6).then_some(())
        };
        if kinds != ["Div", "Erf", "Add", "Mul", "Mul"] || !multiply.input.contains(divide.input.first()?) {
            return None;
        }
        scalar(divide, std::f32::consts::SQRT_2)?;
        scalar(add, 1.0)?;
        scalar(halve, 0.5)?;
        let count = nodes.iter().position(|node| std::ptr::eq(node, halve))? + 1;
        Some((Operation::Gelu, self.place(&divide.input[0]).ok()?, count))
    }

    /// A matrix product with a constant, and the addition of a bias.
    fn linear(&self, nodes: &[NodeProto]) -> Option<(Operation, usize, usize)> {
        let [product, add, ..] = nodes else { return None };
        let sum_of = add.input.iter().find(|name| self.constants.contains_key(*name))?;
        if kind(product) != "MatMul" || kind(add) != "Add" || !add.input.contains(&product.output[0]) {
            return None;
        }
        let weight = self.constant(product, 1).ok()?.clone();
        let bias = self.constants[sum_of].clone();
        Some((Operation::Linear { weight, bias }, self.place(&product.input[0]).ok()?, 2))
    }

    /// One node; nothing where it only names a value or a constant.
    fn layer(&mut self, node: &NodeProto) -> Result<Option<(Operation, Vec<usize>)>> {
        let operation = match kind(node) {
            "Constant" => {
                let tensor = attribute(node, "value").and_then(|value| value.t.as_ref()).context("a constant that is no tensor")?;
                if let Some(constant) = constant(tensor)? {
                    self.constants.insert(node.output[0].clone(), constant);
                }
                return Ok(None);
            }
            "Identity" => return self.rename(node),
            "AveragePool" if pair(node, "kernel_shape", 0)? == [1, 1] && pair(node, "strides", 1)? == [1, 1] => return self.rename(node),
            "Conv" => {
                let weight = self.constant(node, 1)?.clone();
                let bias = self.constant(node, 2)?.clone();
                Operation::Conv { weight, bias, window: window(node)?, groups: integer(node, "group", 1)? }
            }
            "MaxPool" => {
                ensure!(integer(node, "ceil_mode", 0)? == 0, "ceil_mode is not supported");
                Operation::MaxPool { kernel: pair(node, "kernel_shape", 0)?, window: window(node)? }
            }
            "GlobalAveragePool" => Operation::GlobalAveragePool,
            "Gemm" => {
                let factors = ["alpha", "beta"].map(|name| attribute(node, name).and_then(|value| value.f).unwrap_or(1.0));
                ensure!(factors == [1.0, 1.0] && integer(node, "transA", 0)? == 0, "only x·W + b is supported");
                let weight = self.constant(node, 1)?;
                let weight = if integer(node, "transB", 0)? == 1 { weight.transposed()? } else { weight.clone() };
                Operation::Linear { weight, bias: self.constant(node, 2)?.clone() }
            }
            "LayerNormalization" => {
                let axis = attribute(node, "axis").and_then(|value| value.i).unwrap_or(-1);
                ensure!(axis == -1, "axis {axis}; only the last is supported");
                let epsilon = attribute(node, "epsilon").and_then(|value| value.f).unwrap_or(1e-5).into();
                Operation::LayerNorm { scale: self.constant(node, 1)?.clone(), bias: self.constant(node, 2)?.clone(), epsilon }
            }
            "Mul" => {
                let (place, factor) = if self.constants.contains_key(&node.input[0]) { (1, 0) } else { (0, 1) };
                return Ok(Some((Operation::Scale(self.constant(node, factor)?.clone()), vec![self.place(&node.input[place])?])));
            }
            "Add" => {
                let inputs = node.input.iter().map(|name| self.place(name)).collect::<Result<_>>()?;
                return Ok(Some((Operation::Add, inputs)));
            }
            "Relu" => Operation::Relu,
            "Clip" => {
                let bound = |number| self.constant(node, number)?.scalar().context("a bound is no single number");
                Operation::Clip { least: bound(1)?, most: bound(2)? }
            }
            "Transpose" => {
                let axes = attribute(node, "perm").map(|value| value.ints.iter().map(|&axis| axis as usize).collect::<Vec<_>>());
                let axes = axes.unwrap_or_default().try_into();
                Operation::Transpose(axes.map_err(|axes| anyhow!("axes {axes:?}; four are expected"))?)
            }
            "Flatten" => {
                ensure!(integer(node, "axis", 1)? == 1, "only axis 1 is supported");
                Operation::Flatten
            }
            other => bail!("the operator {other} is not among those that this program knows"),
        };
        Ok(Some((operation, vec![self.place(&node.input[0])?])))
    }

    /// The node's output is its input.
    fn rename(&mut self, node: &NodeProto) -> Result<Option<(Operation, Vec<usize>)>> {
        if let Some(constant) = self.constants.get(&node.input[0]).cloned() {
            self.constants.insert(node.output[0].clone(), constant);
        } else {
            let place = self.place(&node.input[0])?;
            self.places.insert(node.output[0].clone(), place);
        }
        Ok(None)
    }

    fn constant(&self, node: &NodeProto, input: usize) -> Result<&Constant> {
        let name = node.input.get(input).with_context(|| format!("{} without input {input}", kind(node)))?;
        self.constants.get(name).with_context(|| format!("input {input} of {} is no constant", kind(node)))
    }

    /// Also one that a node further on defines.
    fn constant_or_ahead(&self, nodes: &[NodeProto], name: &String) -> Option<Constant> {
        if let Some(constant) = self.constants.get(name) {
            return Some(constant.clone());
        }
        let node = nodes.iter().find(|node| kind(node) == "Constant" && node.output.contains(name))?;
        constant(attribute(node, "value")?.t.as_ref()?).ok()?
    }

    fn place(&self, name: &str) -> Result<usize> {
        self.places.get(name).copied().with_context(|| format!("'{name}' is read before it is computed"))
    }
}

fn kind(node: &NodeProto) -> &str {
    node.op_type.as_deref().unwrap_or("")
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name.as_deref() == Some(name))
}

fn integer(node: &NodeProto, name: &str, default: usize) -> Result<usize> {
    let value = attribute(node, name).and_then(|attribute| attribute.i);
    value.map_or(Ok(default), |value| usize::try_from(value).with_context(|| format!("{name} is {value}")))
}

fn integers(node: &NodeProto, name: &str) -> Result<Vec<usize>> {
    let values = attribute(node, name).map_or(&[][..], |attribute| &attribute.ints);
    values.iter().map(|&value| usize::try_from(value).with_context(|| format!("{name} are {values:?}"))).collect()
}

fn pair(node: &NodeProto, name: &str, default: usize) -> Result<[usize; 2]> {
    match integers(node, name)?[..] {
        [] => Ok([default; 2]),
        [height, width] => Ok([height, width]),
        ref others => bail!("{name} are {others:?}; two numbers are expected"),
    }
}

fn window(node: &NodeProto) -> Result<Window> {
    let padding = match integers(node, "pads")?[..] {
        [] => [0; 2],
        [top, left, bottom, right] if [top, left] == [bottom, right] => [top, left],
        ref others => bail!("pads are {others:?}; only the same on both sides is supported"),
    };
    Ok(Window { stride: pair(node, "strides", 1)?, padding, dilation: pair(node, "dilations", 1)? })
}

/// Numbers of a tensor, or nothing where they are no f32.
fn constant(tensor: &TensorProto) -> Result<Option<Constant>> {
    if tensor.data_type != Some(DataType::FLOAT) {
        return Ok(None);
    }
    let shape: Vec<usize> = tensor.dims.iter().map(|&size| size as usize).collect();
    let values: Vec<f32> = match &tensor.raw_data {
        Some(bytes) => bytes.borrow().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        None => tensor.float_data.clone(),
    };
    let expected: usize = shape.iter().product();
    ensure!(values.len() == expected, "{} numbers for {shape:?}; external data is not supported", values.len());
    Ok(Some(Constant { shape, values }))
}
