//! Tanh: y = (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ).
//!
//! | | |
//! |---|---|
//! | input, output | N×C×H×W |
//! | gradient | dx = dy · (1 − y²) |

use std::fmt;

use convnet_kernels::{Real, elementwise};

use super::{Backward, Forward, LayerRules, LayerText, Memory, Use, WordError, Words};
use crate::shape::Shape;

/// y = tanh x.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tanh;

impl LayerRules for Tanh {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        Ok(inputs[0])
    }

    fn elementwise(&self) -> bool {
        true
    }

    fn memory<T: Real>(&self, _: &[Shape], _: Use) -> Memory {
        Memory { keeps_output: true, in_place: true, ..Memory::default() }
    }

    fn forward<T: Real>(&self, pass: Forward<'_, T>) {
        elementwise::tanh(pass.machine, pass.inputs.first().copied(), pass.output);
    }

    fn backward<T: Real>(&self, pass: Backward<'_, T>) {
        let dy = Some(pass.grad_output).filter(|dy| !dy.is_empty());
        if let [Some(dx)] = pass.grad_inputs {
            elementwise::tanh_gradient(pass.machine, pass.output, dy, dx);
        }
    }
}

impl LayerText for Tanh {
    const KIND: &'static str = "tanh";

    fn read(_: &mut Words<'_>) -> Result<Self, WordError> {
        Ok(Self)
    }

    fn examples() -> Vec<(Self, Vec<Shape>)> {
        vec![(Self, vec![Shape::new(2, 3, 4, 5)])]
    }
}

impl fmt::Display for Tanh {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Self::KIND)
    }
}
