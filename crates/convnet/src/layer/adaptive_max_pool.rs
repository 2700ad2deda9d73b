//! Adaptive max pooling: the largest number of each of H'×W' windows that cover the image, in every channel by itself.
//!
//! | | |
//! |---|---|
//! | input | N×C×H×W |
//! | output | N×C×H'×W', whatever H and W |
//! | gradient | dy goes to the pixel that was the largest |
//!
//! Window i of an axis is ⌊i·H/H'⌋ … ⌈(i + 1)·H/H'⌉, as in Torch and PyTorch: neighbours may share elements, and an output
//! larger than the input repeats them.
//!
//! The first of equal numbers in row-major order wins, and a NaN wins over every number.

use std::fmt;

use convnet_kernels::Real;
use convnet_kernels::pool::{PoolShape, max_backward, max_forward};

use super::windowed::positive_pair;
use super::{Backward, Forward, LayerRules, LayerText, Memory, Reach, Use, WordError, Words};
use crate::shape::Shape;

/// The largest number of each of `size` windows.
///
/// ```
/// use convnet::layer::{LayerRules, adaptive_max_pool::AdaptiveMaxPool};
/// use convnet::shape::Shape;
/// assert_eq!(AdaptiveMaxPool::new([7, 7]).output_shape(&[Shape::new(1, 512, 9, 13)]), Ok(Shape::new(1, 512, 7, 7)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaptiveMaxPool {
    /// Height and width of the output.
    pub size: [usize; 2],
}

impl AdaptiveMaxPool {
    /// An output of this height and width.
    pub const fn new(size: [usize; 2]) -> Self {
        Self { size }
    }

    fn problem(&self, input: Shape) -> Result<PoolShape, String> {
        PoolShape::adaptive(input.n, input.c, [input.h, input.w], self.size)
    }

    /// The problem for inputs that [`output_shape`](LayerRules::output_shape) has accepted.
    fn accepted(&self, inputs: &[Shape]) -> PoolShape {
        self.problem(inputs[0]).expect("the input was accepted by output_shape")
    }
}

impl LayerRules for AdaptiveMaxPool {
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

impl LayerText for AdaptiveMaxPool {
    const KIND: &'static str = "adaptive maxpool";

    fn read(words: &mut Words<'_>) -> Result<Self, WordError> {
        Ok(Self::new(positive_pair(words, "the output size")?))
    }

    fn examples() -> Vec<(Self, Vec<Shape>)> {
        vec![
            (Self::new([2, 3]), vec![Shape::new(2, 3, 4, 6)]),
            (Self::new([3, 2]), vec![Shape::new(1, 3, 7, 5)]),
            (Self::new([5, 3]), vec![Shape::new(2, 8, 3, 2)]),
        ]
    }
}

impl fmt::Display for AdaptiveMaxPool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}x{}", Self::KIND, self.size[0], self.size[1])
    }
}
