//! Global average pooling: the mean of every channel.
//!
//! | | |
//! |---|---|
//! | input | N×C×H×W |
//! | output | N×C×1×1, whatever H and W |
//! | gradient | dx = dy / (H·W) |

use std::fmt;

use convnet_kernels::Real;
use convnet_kernels::pool::{PoolShape, average_backward, average_forward};

use super::{Backward, Forward, LayerRules, LayerText, Memory, Reach, Use, WordError, Words};
use crate::shape::Shape;

/// The mean of every channel.
///
/// ```
/// use convnet::layer::{LayerRules, global_avg_pool::GlobalAvgPool};
/// use convnet::shape::Shape;
/// assert_eq!(GlobalAvgPool.output_shape(&[Shape::new(1, 512, 7, 7)]), Ok(Shape::new(1, 512, 1, 1)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GlobalAvgPool;

impl GlobalAvgPool {
    fn problem(&self, input: Shape) -> Result<PoolShape, String> {
        PoolShape::adaptive(input.n, input.c, [input.h, input.w], [1, 1])
    }

    /// The problem for inputs that [`output_shape`](LayerRules::output_shape) has accepted.
    fn accepted(&self, inputs: &[Shape]) -> PoolShape {
        self.problem(inputs[0]).expect("the input was accepted by output_shape")
    }
}

impl LayerRules for GlobalAvgPool {
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

    fn memory<T: Real>(&self, _: &[Shape], _: Use) -> Memory {
        Memory::default()
    }

    fn forward<T: Real>(&self, pass: Forward<'_, T>) {
        average_forward(pass.machine, &self.accepted(pass.input_shapes), false, pass.inputs[0], pass.output);
    }

    fn backward<T: Real>(&self, pass: Backward<'_, T>) {
        let problem = self.accepted(pass.input_shapes);
        if let Some(dx) = &mut pass.grad_inputs[0] {
            average_backward(pass.machine, &problem, false, pass.grad_output, dx);
        }
    }
}

impl LayerText for GlobalAvgPool {
    const KIND: &'static str = "global avgpool";

    fn read(_: &mut Words<'_>) -> Result<Self, WordError> {
        Ok(Self)
    }

    fn examples() -> Vec<(Self, Vec<Shape>)> {
        vec![(Self, vec![Shape::new(2, 3, 4, 5)]), (Self, vec![Shape::new(3, 9, 1, 1)])]
    }
}

impl fmt::Display for GlobalAvgPool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Self::KIND)
    }
}
