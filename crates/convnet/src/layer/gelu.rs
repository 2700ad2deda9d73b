//! GELU: every number times the share of a normal distribution that lies below it.
//!
//! | | |
//! |---|---|
//! | input, output | N×C×H×W |
//! | `gelu` | y = x · Φ(x), Φ(x) = (1 + erf(x/√2)) / 2 |
//! | `gelu tanh` | y = x · (1 + tanh u) / 2, u = √(2/π) · (x + 0.044715·x³): nearly the same |
//! | gradient | dx = dy · (Φ(x) + x · φ(x)), φ(x) = e^(−x²/2) / √(2π) |
//! | gradient of `gelu tanh` | dx = dy · s · (1 + 2·x·(1 − s)·u′), s = (1 + tanh u) / 2 |
//!
//! Hendrycks and Gimpel 2016.

use std::fmt;

use convnet_kernels::{Real, elementwise};

use super::{Backward, Forward, LayerRules, LayerText, Memory, Use, WordError, Words};
use crate::shape::Shape;

/// y = x · Φ(x), exactly or by a formula with tanh.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gelu {
    /// Whether Φ is approximated with tanh.
    pub tanh: bool,
}

impl LayerRules for Gelu {
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
        Memory { keeps_inputs: usage.backward, in_place: true, ..Memory::default() }
    }

    fn forward<T: Real>(&self, pass: Forward<'_, T>) {
        let x = pass.inputs.first().copied();
        if self.tanh {
            elementwise::gelu_tanh(pass.machine, x, pass.output);
        } else {
            elementwise::gelu(pass.machine, x, pass.output);
        }
    }

    fn backward<T: Real>(&self, pass: Backward<'_, T>) {
        let dy = Some(pass.grad_output).filter(|dy| !dy.is_empty());
        match pass.grad_inputs {
            [Some(dx)] if self.tanh => elementwise::gelu_tanh_gradient(pass.machine, pass.inputs[0], dy, dx),
            [Some(dx)] => elementwise::gelu_gradient(pass.machine, pass.inputs[0], dy, dx),
            _ => {}
        }
    }
}

impl LayerText for Gelu {
    const KIND: &'static str = "gelu";

    fn read(words: &mut Words<'_>) -> Result<Self, WordError> {
        Ok(Self { tanh: words.take("tanh") })
    }

    fn examples() -> Vec<(Self, Vec<Shape>)> {
        let shapes = vec![Shape::new(2, 3, 4, 5)];
        vec![(Self { tanh: false }, shapes.clone()), (Self { tanh: true }, shapes)]
    }
}

impl fmt::Display for Gelu {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.tanh { "gelu tanh" } else { Self::KIND })
    }
}
