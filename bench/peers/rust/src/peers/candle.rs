//! candle: the layers of `candle_nn`, as its own models of these networks use them.

use anyhow::{Result, ensure};
use candle_core::{D, Device, Tensor};
use candle_nn::{Conv2d, Conv2dConfig, LayerNorm, Linear, Module};

use super::{Predict, Work};
use crate::graph::{Constant, Graph, Operation, Run};

pub fn load(work: Work<'_>) -> Result<Predict> {
    let graph = Graph::<Layer>::load(work.onnx)?;
    let images = Tensor::from_vec(work.images, &work.shape, &Device::Cpu)?;
    Ok(Box::new(move || Ok(graph.run(images.clone())?.flatten_all()?.to_vec1()?)))
}

enum Layer {
    Conv(Conv2d),
    MaxPool { kernel: (usize, usize), stride: (usize, usize), padding: [usize; 2] },
    GlobalAveragePool,
    Linear(Linear),
    LayerNorm(LayerNorm),
    Scale(Tensor),
    Add,
    Relu,
    Clip(f32, f32),
    Gelu,
    Transpose([usize; 4]),
    Flatten,
}

impl Run for Layer {
    type Tensor = Tensor;

    fn prepare(operation: Operation) -> Result<Self> {
        Ok(match operation {
            Operation::Conv { weight, bias, window, groups } => {
                let same = |[height, width]: [usize; 2]| height == width;
                ensure!(
                    same(window.stride) && same(window.padding) && same(window.dilation),
                    "candle has no convolution that moves differently in height and width: {window:?}"
                );
                let config = Conv2dConfig {
                    padding: window.padding[0],
                    stride: window.stride[0],
                    dilation: window.dilation[0],
                    groups,
                    cudnn_fwd_algo: None,
                };
                Layer::Conv(Conv2d::new(tensor(weight)?, Some(tensor(bias)?), config))
            }
            Operation::MaxPool { kernel, window } => {
                ensure!(window.dilation == [1, 1], "candle has no pooling with dilation");
                Layer::MaxPool { kernel: kernel.into(), stride: window.stride.into(), padding: window.padding }
            }
            Operation::GlobalAveragePool => Layer::GlobalAveragePool,
            Operation::Linear { weight, bias } => Layer::Linear(Linear::new(tensor(weight.transposed()?)?, Some(tensor(bias)?))),
            Operation::LayerNorm { scale, bias, epsilon } => Layer::LayerNorm(LayerNorm::new(tensor(scale)?, tensor(bias)?, epsilon)),
            Operation::Scale(factors) => Layer::Scale(tensor(factors)?),
            Operation::Add => Layer::Add,
            Operation::Relu => Layer::Relu,
            Operation::Clip { least, most } => Layer::Clip(least, most),
            Operation::Gelu => Layer::Gelu,
            Operation::Transpose(axes) => Layer::Transpose(axes),
            Operation::Flatten => Layer::Flatten,
        })
    }

    fn run(&self, input: Tensor, second: Option<Tensor>) -> Result<Tensor> {
        Ok(match self {
            Layer::Conv(layer) => layer.forward(&input)?,
            // Its pooling has no padding. A repeated edge is never above the window's maximum.
            Layer::MaxPool { kernel, stride, padding: [height, width] } => input
                .pad_with_same(2, *height, *height)?
                .pad_with_same(3, *width, *width)?
                .max_pool2d_with_stride(*kernel, *stride)?,
            Layer::GlobalAveragePool => input.mean_keepdim((D::Minus2, D::Minus1))?,
            Layer::Linear(layer) => layer.forward(&input)?,
            Layer::LayerNorm(layer) => layer.forward(&input)?,
            Layer::Scale(factors) => input.broadcast_mul(factors)?,
            Layer::Add => match second {
                Some(second) => (input + second)?,
                None => (&input + &input)?,
            },
            Layer::Relu => input.relu()?,
            Layer::Clip(least, most) => input.clamp(*least, *most)?,
            Layer::Gelu => input.gelu_erf()?,
            // Its fast layers want contiguous numbers.
            Layer::Transpose(axes) => input.permute(*axes)?.contiguous()?,
            Layer::Flatten => input.flatten_from(1)?,
        })
    }
}

fn tensor(constant: Constant) -> Result<Tensor> {
    Ok(Tensor::from_vec(constant.values, constant.shape, &Device::Cpu)?)
}
