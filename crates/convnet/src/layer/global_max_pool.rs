//! Global max pooling: the largest number of every channel.
//!
//! | | |
//! |---|---|
//! | input | N×C×H×W |
//! | output | N×C×1×1, whatever H and W |
//! | gradient | dy goes to the pixel that was the largest |
//!
//! The first of equal numbers in row-major order wins, and a NaN wins over every number.

use std::fmt;

use convnet_kernels::Real;
use convnet_kernels::pool::{PoolShape, max_backward, max_forward};

use super::{Backward, Forward, LayerRules, LayerText, Memory, Reach, Use, WordError, Words};
use crate::shape::Shape;

/// The largest number of every channel.
///
/// ```
/// use convnet::layer::{LayerRules, global_max_pool::GlobalMaxPool};
/// use convnet::shape::Shape;
/// assert_eq!(GlobalMaxPool.output_shape(&[Shape::new(1, 512, 7, 7)]), Ok(Shape::new(1, 512, 1, 1)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GlobalMaxPool;

impl GlobalMaxPool {
    fn problem(&self, input: Shape) -> Result<PoolShape, String> {
        PoolShape::adaptive(input.n, input.c, [input.h, input.w], [1, 1])
    }

    /// The problem for inputs that [`output_shape`](LayerRules::output_shape) has accepted.
    fn accepted(&self, inputs: &[Shape]) -> PoolShape {
        self.problem(inputs[0]).expect("the input was accepted by output_shape")
    }
}

impl LayerRules for GlobalMaxPool {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let problem = self.problem(inputs[0])?;
        Ok(Shape { h: problem.oh(), w: problem.ow(), ..inputs[0] })
    }

    fn reach(&self) -> Reach {
        Reach::Whole
    }

    fn memory<T: Real>(&self, inputs: &[Shape], usage: Use) -> Memory {
        let saved_indices = if usage.backward { self.accepted(inputs).output_len() } else { 0 };
        Memory { saved_indices, ..Memory::default() }
    }

    fn forward<T: Real>(&self, pass: Forward<'_, T>) {
        let problem = self.accepted(pass.input_shapes);
        max_forward(pass.machine, &problem, pass.inputs[0], pass.output, pass.saved_indices);
    }

    fn backward<T: Real>(&self, pass: Backward<'_, T>) {
        let problem = self.accepted(pass.input_shapes);
        if let Some(dx) = &mut pass.grad_inputs[0] {
            max_backward(pass.machine, &problem, pass.grad_output, pass.saved_indices, dx);
        }
    }
}

impl LayerText for GlobalMaxPool {
    const KIND: &'static str = "global maxpool";

    fn read(_: &mut Words<'_>) -> Result<Self, WordError> {
        Ok(Self)
    }

    fn examples() -> Vec<(Self, Vec<Shape>)> {
        vec![(Self, vec![Shape::new(2, 3, 4, 5)]), (Self, vec![Shape::new(3, 9, 1, 1)])]
    }
}

impl fmt::Display for GlobalMaxPool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Self::KIND)
    }
}
