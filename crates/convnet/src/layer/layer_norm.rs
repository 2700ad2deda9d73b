//! Layer normalisation: every position is brought to mean 0 and variance 1 over its channels, then scaled and shifted.
//!
//! ```text
//! y[n, c, h, w] = weight[c] · (x[n, c, h, w] − mean[n, h, w]) / √(var[n, h, w] + eps) + bias[c]
//! ```
//!
//! | | |
//! |---|---|
//! | input, output | N×C×H×W |
//! | weight, bias | C; at first 1 and 0 |
//! | gradients | dbias = Σ dy, dweight = Σ dy·x̂, dx = (g − mean(g) − x̂·mean(g·x̂)) / √(var + eps), g = dy·weight |
//!
//! Ba, Kiros and Hinton 2016, over the channels alone as in ConvNeXt (Liu et al. 2022), whose eps, 1e-6, it has unless
//! said. var divides by C. Training and inference are the same.

use std::fmt;

use convnet_kernels::Real;
use convnet_kernels::norm::layer;

use super::windowed::Options;
use super::{Backward, Forward, Initial, LayerRules, LayerText, Memory, ParameterSpec, Role, Use, WordError, Words};
use crate::shape::Shape;

/// Every position with mean 0 and variance 1 over its channels, times a weight, plus a bias.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm {
    /// Added to the variance.
    pub epsilon: f64,
}

impl Default for LayerNorm {
    fn default() -> Self {
        Self { epsilon: 1e-6 }
    }
}

impl LayerNorm {
    fn norm(&self, input: Shape) -> layer::LayerNorm {
        layer::LayerNorm { rows: input.n * input.pixels(), channels: input.c, epsilon: self.epsilon }
    }
}

impl LayerRules for LayerNorm {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        Ok(inputs[0])
    }

    fn parameters(&self, inputs: &[Shape]) -> Vec<ParameterSpec> {
        let spec = |name, role, value| ParameterSpec { name, sizes: vec![inputs[0].c], role, initial: Initial::Constant(value) };
        vec![spec("weight", Role::Scale, 1.0), spec("bias", Role::Bias, 0.0)]
    }

    fn formula(&self, inputs: &[Shape]) -> Option<String> {
        Some(format!("2·{}", inputs[0].c))
    }

    fn memory<T: Real>(&self, inputs: &[Shape], usage: Use) -> Memory {
        let norm = self.norm(inputs[0]);
        let training = Memory {
            saved: norm.statistics(),
            backward_scratch: norm.backward_scratch(),
            keeps_inputs: true,
            in_place: true,
            ..Memory::default()
        };
        if usage.backward { training } else { Memory { in_place: true, ..Memory::default() } }
    }

    fn forward<T: Real>(&self, pass: Forward<'_, T>) {
        let affine = [pass.parameters[0], pass.parameters[1]];
        let x = pass.inputs.first().copied();
        self.norm(pass.input_shapes[0]).forward(pass.machine, x, affine, pass.output, pass.saved);
    }

    fn backward<T: Real>(&self, pass: Backward<'_, T>) {
        let channels = pass.input_shapes[0].c;
        // Where nobody asks for the gradients of the parameters they are computed all the same, and forgotten.
        let mut forgotten = if pass.grad_parameters.is_empty() { [vec![T::ZERO; channels], vec![T::ZERO; channels]] } else { [vec![], vec![]] };
        let [dweight, dbias] = match pass.grad_parameters {
            [weight, bias] => [&mut **weight, &mut **bias],
            _ => forgotten.each_mut().map(Vec::as_mut_slice),
        };
        self.norm(pass.input_shapes[0]).backward(
            pass.machine,
            layer::Backward {
                x: pass.inputs[0],
                dy: Some(pass.grad_output).filter(|dy| !dy.is_empty()),
                statistics: pass.saved,
                weight: pass.parameters[0],
                dx: pass.grad_inputs.first_mut().and_then(Option::take),
                dweight,
                dbias,
                scratch: pass.scratch,
            },
        );
    }
}

impl LayerText for LayerNorm {
    const KIND: &'static str = "layernorm";

    fn read(words: &mut Words<'_>) -> Result<Self, WordError> {
        let mut norm = Self::default();
        let mut options = Options::new(words);
        while !options.is_done() {
            if !options.take("eps")? {
                return Err(options.unknown(Self::KIND, "eps"));
            }
            norm.epsilon = options.words().decimal("eps")?;
            if norm.epsilon <= 0.0 {
                return Err(options.words().error_at_last("eps must be above 0; 1e-6 is usual"));
            }
        }
        Ok(norm)
    }

    fn examples() -> Vec<(Self, Vec<Shape>)> {
        vec![
            (Self::default(), vec![Shape::new(2, 5, 3, 2)]),
            (Self::default(), vec![Shape::new(2, 35, 1, 1)]),
            (Self { epsilon: 0.01 }, vec![Shape::new(2, 3, 2, 3)]),
        ]
    }
}

impl fmt::Display for LayerNorm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Self::KIND)?;
        if *self == Self::default() { Ok(()) } else { write!(formatter, " eps {}", self.epsilon) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::single::Single;

    #[test]
    fn every_position_gets_mean_0_and_variance_1_over_its_channels() {
        let shape = Shape::new(2, 50, 2, 3);
        let mut norm = Single::<f32>::new(LayerNorm::default().into(), &[shape], true).unwrap();
        let image: Vec<f32> = (0..shape.count()).map(|place| (place * 37 % 101) as f32 * 0.1 + 20.0).collect();
        let output = norm.forward(&[image], &[vec![1.0; 50], vec![0.0; 50]]);
        for (n, pixel) in (0..2).flat_map(|n| (0..6).map(move |pixel| (n, pixel))) {
            let values: Vec<f64> = (0..50).map(|c| f64::from(output[(n * 50 + c) * 6 + pixel])).collect();
            let mean = values.iter().sum::<f64>() / 50.0;
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 50.0;
            assert!(mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-5, "{mean} {variance}");
        }
    }

    #[test]
    fn an_eps_that_is_not_positive_is_refused() {
        let list = ["eps", "-1"].map(|word| super::super::Word { text: word.into(), offset: 0, length: 0 });
        assert!(LayerNorm::read(&mut Words::new(&list, 0)).unwrap_err().message.contains("1e-6"));
    }
}
