//! Flatten: every image becomes one vector, in the order channel, row, column.
//!
//! | | |
//! |---|---|
//! | input | N×C×H×W |
//! | output | N×(C·H·W)×1×1, feature `(c·H + y)·W + x` |
//! | gradient | the same numbers back in their places |
//!
//! The order is the field's (Torch, PyTorch, ONNX). Inside a plan images lie channels last, so this is a permutation; a
//! plan leaves it out where the next layer can read its weights in the permuted order instead.

use std::fmt;

use convnet_kernels::Real;

use super::{Backward, Forward, LayerRules, LayerText, Memory, Use, WordError, Words};
use crate::shape::Shape;
use crate::tensor::{from_channels_last, to_channels_last};

/// C×H×W to one vector of C·H·W.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flatten;

impl LayerRules for Flatten {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        Ok(Shape::new(inputs[0].n, inputs[0].image(), 1, 1))
    }

    fn memory<T: Real>(&self, _: &[Shape], _: Use) -> Memory {
        Memory::default()
    }

    fn forward<T: Real>(&self, pass: Forward<'_, T>) {
        from_channels_last(pass.input_shapes[0], pass.inputs[0], pass.output);
    }

    fn backward<T: Real>(&self, pass: Backward<'_, T>) {
        for grad_input in pass.grad_inputs.iter_mut().flatten() {
            to_channels_last(pass.input_shapes[0], pass.grad_output, grad_input);
        }
    }
}

impl LayerText for Flatten {
    const KIND: &'static str = "flatten";

    fn read(_: &mut Words<'_>) -> Result<Self, WordError> {
        Ok(Self)
    }

    fn examples() -> Vec<(Self, Vec<Shape>)> {
        vec![(Self, vec![Shape::new(2, 3, 4, 5)])]
    }
}

impl fmt::Display for Flatten {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Self::KIND)
    }
}
