//! Softmax: the scores of the channels at each position as probabilities.
//!
//! | | |
//! |---|---|
//! | input, output | N×C×H×W, y\[c\] = e^x\[c\] / Σ over k of e^x\[k\] at each n, h, w |
//! | gradient | dx\[c\] = y\[c\] · (dy\[c\] − Σ over k of dy\[k\]·y\[k\]) |
//!
//! The largest score is subtracted first, so that nothing overflows. Cross-entropy takes the scores themselves: in
//! training there is no softmax before it.

use std::fmt;

use convnet_kernels::{Real, softmax};

use super::{Backward, Forward, LayerRules, LayerText, Memory, Use, WordError, Words};
use crate::shape::Shape;

/// The channels of each position as probabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Softmax;

impl LayerRules for Softmax {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        Ok(inputs[0])
    }

    fn memory<T: Real>(&self, _: &[Shape], _: Use) -> Memory {
        Memory { keeps_output: true, in_place: true, ..Memory::default() }
    }

    fn forward<T: Real>(&self, pass: Forward<'_, T>) {
        softmax::softmax(pass.machine, pass.output_shape.c, pass.inputs.first().copied(), pass.output);
    }

    fn backward<T: Real>(&self, pass: Backward<'_, T>) {
        let dy = Some(pass.grad_output).filter(|dy| !dy.is_empty());
        if let [Some(dx)] = pass.grad_inputs {
            softmax::softmax_gradient(pass.machine, pass.output_shape.c, pass.output, dy, dx);
        }
    }
}

impl LayerText for Softmax {
    const KIND: &'static str = "softmax";

    fn read(_: &mut Words<'_>) -> Result<Self, WordError> {
        Ok(Self)
    }

    fn examples() -> Vec<(Self, Vec<Shape>)> {
        [Shape::new(3, 8, 1, 1), Shape::new(2, 5, 3, 2), Shape::new(1, 37, 1, 2)].map(|shape| (Self, vec![shape])).to_vec()
    }
}

impl fmt::Display for Softmax {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Self::KIND)
    }
}
