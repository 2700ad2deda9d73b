//! SiLU, also called swish: y = x · s with s = 1 / (1 + e⁻ˣ).
//!
//! | | |
//! |---|---|
//! | input, output | N×C×H×W |
//! | gradient | dx = dy · s · (1 + x · (1 − s)) |
//!
//! Hendrycks and Gimpel 2016; Ramachandran, Zoph and Le 2017.

use std::fmt;

use convnet_kernels::{Real, elementwise};

use super::{Backward, Forward, LayerRules, LayerText, Memory, Use, WordError, Words};
use crate::shape::Shape;

/// y = x / (1 + e⁻ˣ).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Silu;

impl LayerRules for Silu {
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
        elementwise::silu(pass.machine, pass.inputs.first().copied(), pass.output);
    }

    fn backward<T: Real>(&self, pass: Backward<'_, T>) {
        let dy = Some(pass.grad_output).filter(|dy| !dy.is_empty());
        if let [Some(dx)] = pass.grad_inputs {
            elementwise::silu_gradient(pass.machine, pass.inputs[0], dy, dx);
        }
    }
}

impl LayerText for Silu {
    const KIND: &'static str = "silu";

    fn read(_: &mut Words<'_>) -> Result<Self, WordError> {
        Ok(Self)
    }

    fn examples() -> Vec<(Self, Vec<Shape>)> {
        vec![(Self, vec![Shape::new(2, 3, 4, 5)])]
    }
}

impl fmt::Display for Silu {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Self::KIND)
    }
}
