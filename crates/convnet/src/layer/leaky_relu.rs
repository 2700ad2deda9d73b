//! Leaky ReLU: y = x where x > 0, else slope · x.
//!
//! | | |
//! |---|---|
//! | input, output | N×C×H×W |
//! | gradient | dx = dy where x > 0, else slope · dy (so the slope at exactly x = 0, as in Torch and PyTorch) |
//!
//! The slope is 0.01 unless said. A NaN stays a NaN.

use std::fmt;

use convnet_kernels::{Real, elementwise};

use super::{Backward, Forward, LayerRules, LayerText, Memory, Use, WordError, Words};
use crate::shape::Shape;

/// y = x where x > 0, else slope · x.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeakyRelu {
    /// Factor of negative numbers.
    pub slope: f64,
}

impl Default for LeakyRelu {
    fn default() -> Self {
        Self { slope: 0.01 }
    }
}

impl LeakyRelu {
    /// Whether the output's sign tells the input's, so that backward needs no input.
    fn keeps_sign(self) -> bool {
        self.slope >= 0.0
    }
}

impl LayerRules for LeakyRelu {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        Ok(inputs[0])
    }

    fn elementwise(&self) -> bool {
        true
    }

    fn memory<T: Real>(&self, _: &[Shape], usage: Use) -> Memory {
        let keeps_sign = self.keeps_sign();
        Memory { keeps_output: keeps_sign, keeps_inputs: usage.backward && !keeps_sign, in_place: true, ..Memory::default() }
    }

    fn forward<T: Real>(&self, pass: Forward<'_, T>) {
        elementwise::leaky_relu(pass.machine, T::from_f64(self.slope), pass.inputs.first().copied(), pass.output);
    }

    fn backward<T: Real>(&self, pass: Backward<'_, T>) {
        let dy = Some(pass.grad_output).filter(|dy| !dy.is_empty());
        let kept = if self.keeps_sign() { pass.output } else { pass.inputs[0] };
        if let [Some(dx)] = pass.grad_inputs {
            elementwise::leaky_relu_gradient(pass.machine, T::from_f64(self.slope), kept, dy, dx);
        }
    }
}

impl LayerText for LeakyRelu {
    const KIND: &'static str = "leaky relu";

    fn read(words: &mut Words<'_>) -> Result<Self, WordError> {
        Ok(if words.is_done() { Self::default() } else { Self { slope: words.decimal("the slope")? } })
    }

    fn examples() -> Vec<(Self, Vec<Shape>)> {
        let slopes = [Self::default().slope, 0.2, 0.0, -0.5];
        slopes.map(|slope| (Self { slope }, vec![Shape::new(2, 3, 4, 5)])).to_vec()
    }
}

impl fmt::Display for LeakyRelu {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Self::KIND)?;
        if *self == Self::default() { Ok(()) } else { write!(formatter, " {}", self.slope) }
    }
}
