//! burn: the functions beneath its `nn` modules, on the backend burn-flex.

use anyhow::{Result, anyhow, bail, ensure};
use burn::tensor::module::{adaptive_avg_pool2d, conv2d, layer_norm, linear, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor, TensorData, activation};

use super::{Predict, Work};
use crate::graph::{Constant, Graph, Operation, Run};

pub fn load(work: Work<'_>) -> Result<Predict> {
    let graph = Graph::<Layer>::load(work.onnx)?;
    let images = Value::Maps(tensor(Constant { shape: work.shape.to_vec(), values: work.images })?);
    Ok(Box::new(move || {
        let scores = match graph.run(images.clone())? {
            Value::Maps(maps) => maps.into_data(),
            Value::Scores(scores) => scores.into_data(),
        };
        scores.into_vec().map_err(|error| anyhow!("the scores are not f32: {error:?}"))
    }))
}

/// A tensor with the ranks that occur.
#[derive(Clone)]
enum Value {
    Maps(Tensor<4>),
    Scores(Tensor<2>),
}

enum Layer {
    Conv { weight: Tensor<4>, bias: Tensor<1>, options: ConvOptions<2> },
    MaxPool(MaxPoolOptions<2>),
    GlobalAveragePool,
    Linear { weight: Tensor<2>, bias: Tensor<1> },
    LayerNorm { scale: Tensor<1>, bias: Tensor<1>, epsilon: f64 },
    Scale(Tensor<4>),
    Add,
    Relu,
    Clip(f32, f32),
    Gelu,
    Transpose([usize; 4]),
    Flatten,
}

impl Run for Layer {
    type Tensor = Value;

    fn prepare(operation: Operation) -> Result<Self> {
        Ok(match operation {
            Operation::Conv { weight, bias, window, groups } => Layer::Conv {
                weight: tensor(weight)?,
                bias: tensor(bias)?,
                options: ConvOptions::new(window.stride, window.padding, window.dilation, groups),
            },
            Operation::MaxPool { kernel, window } => Layer::MaxPool(MaxPoolOptions {
                kernel_size: kernel,
                stride: window.stride,
                padding: window.padding.map(|padding| (padding, padding)),
                dilation: window.dilation,
                ceil_mode: false,
            }),
            Operation::GlobalAveragePool => Layer::GlobalAveragePool,
            Operation::Linear { weight, bias } => Layer::Linear { weight: tensor(weight)?, bias: tensor(bias)? },
            Operation::LayerNorm { scale, bias, epsilon } => Layer::LayerNorm { scale: tensor(scale)?, bias: tensor(bias)?, epsilon },
            Operation::Scale(mut factors) => {
                while factors.shape.len() < 4 {
                    factors.shape.insert(0, 1);
                }
                Layer::Scale(tensor(factors)?)
            }
            Operation::Add => Layer::Add,
            Operation::Relu => Layer::Relu,
            Operation::Clip { least, most } => Layer::Clip(least, most),
            Operation::Gelu => Layer::Gelu,
            Operation::Transpose(axes) => Layer::Transpose(axes),
            Operation::Flatten => Layer::Flatten,
        })
    }

    fn run(&self, input: Value, second: Option<Value>) -> Result<Value> {
        let maps = match input {
            Value::Maps(maps) => maps,
            Value::Scores(scores) => {
                return Ok(Value::Scores(match self {
                    Layer::Linear { weight, bias } => linear(scores, weight.clone(), Some(bias.clone())),
                    Layer::Relu => activation::relu(scores),
                    _ => bail!("a layer that is given scores, but is made for maps"),
                }));
            }
        };
        Ok(Value::Maps(match self {
            Layer::Conv { weight, bias, options } => conv2d(maps, weight.clone(), Some(bias.clone()), options.clone()),
            Layer::MaxPool(options) => max_pool2d(maps, options.clone()),
            Layer::GlobalAveragePool => adaptive_avg_pool2d(maps, [1, 1]),
            Layer::Linear { weight, bias } => linear(maps, weight.clone(), Some(bias.clone())),
            Layer::LayerNorm { scale, bias, epsilon } => layer_norm(maps, scale.clone(), Some(bias.clone()), *epsilon),
            Layer::Scale(factors) => maps * factors.clone(),
            Layer::Add => match second {
                Some(Value::Maps(second)) => maps + second,
                _ => bail!("an addition without a second map"),
            },
            Layer::Relu => activation::relu(maps),
            Layer::Clip(least, most) => maps.clamp(*least, *most),
            Layer::Gelu => activation::gelu(maps),
            Layer::Transpose(axes) => maps.permute(axes.map(|axis| axis as isize)),
            Layer::Flatten => return Ok(Value::Scores(maps.flatten(1, 3))),
        }))
    }
}

fn tensor<const D: usize>(constant: Constant) -> Result<Tensor<D>> {
    ensure!(constant.shape.len() == D, "parameters of shape {:?} where {D} axes are expected", constant.shape);
    Ok(Tensor::from_data(TensorData::new(constant.values, constant.shape), &Device::flex()))
}
