//! The logarithm of softmax over the channels at each position.
//!
//! | | |
//! |---|---|
//! | input, output | N×C×H×W, y\[c\] = x\[c\] − ln Σ over k of e^x\[k\] at each n, h, w |
//! | gradient | dx\[c\] = dy\[c\] − e^y\[c\] · Σ over k of dy\[k\] |
//!
//! The largest score is subtracted first, so that nothing overflows.

use std::fmt;

use convnet_kernels::{Real, softmax};

use super::{Backward, Forward, LayerRules, LayerText, Memory, Use, WordError, Words};
use crate::shape::Shape;

/// The channels of each position as logarithms of probabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LogSoftmax;

impl LayerRules for LogSoftmax {
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
        softmax::log_softmax(pass.machine, pass.output_shape.c, pass.inputs.first().copied(), pass.output);
    }

    fn backward<T: Real>(&self, pass: Backward<'_, T>) {
        let dy = Some(pass.grad_output).filter(|dy| !dy.is_empty());
        if let [Some(dx)] = pass.grad_inputs {
            softmax::log_softmax_gradient(pass.machine, pass.output_shape.c, pass.output, dy, dx);
        }
    }
}

impl LayerText for LogSoftmax {
    const KIND: &'static str = "log softmax";

    fn read(_: &mut Words<'_>) -> Result<Self, WordError> {
        Ok(Self)
    }

    fn examples() -> Vec<(Self, Vec<Shape>)> {
        [Shape::new(3, 8, 1, 1), Shape::new(2, 5, 3, 2), Shape::new(1, 37, 1, 2)].map(|shape| (Self, vec![shape])).to_vec()
    }
}

impl fmt::Display for LogSoftmax {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Self::KIND)
    }
}
