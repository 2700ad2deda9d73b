//! ReLU: y = max(x, 0).
//!
//! | | |
//! |---|---|
//! | input | N×C×H×W |
//! | output | N×C×H×W |
//! | gradient | dx = dy where y > 0, else 0 (so 0 at exactly x = 0, as in Torch and PyTorch) |
//!
//! A NaN stays a NaN.

use std::fmt;

use convnet_kernels::{Real, elementwise};

use super::{Backward, Forward, LayerRules, LayerText, Memory, Use, WordError, Words};
use crate::shape::Shape;

/// y = max(x, 0).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Relu;

impl LayerRules for Relu {
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
        elementwise::relu(pass.machine, pass.inputs.first().copied(), pass.output);
    }

    fn backward<T: Real>(&self, pass: Backward<'_, T>) {
        let dy = Some(pass.grad_output).filter(|dy| !dy.is_empty());
        if let [Some(dx)] = pass.grad_inputs {
            elementwise::relu_gradient(pass.machine, pass.output, dy, dx);
        }
    }
}

impl LayerText for Relu {
    const KIND: &'static str = "relu";

    fn read(_: &mut Words<'_>) -> Result<Self, WordError> {
        Ok(Self)
    }

    fn examples() -> Vec<(Self, Vec<Shape>)> {
        vec![(Self, vec![Shape::new(2, 3, 4, 5)])]
    }
}

impl fmt::Display for Relu {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Self::KIND)
    }
}
