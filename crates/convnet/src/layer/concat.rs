//! Concat: the channels of several inputs side by side, the end of an inception block.
//!
//! | | |
//! |---|---|
//! | inputs | two or more N×Cᵢ×H×W that agree in N, H and W |
//! | output | N×(C₁ + C₂ + …)×H×W |
//! | gradient | dxᵢ is the part of dy that xᵢ went to |

use std::fmt;

use convnet_kernels::{Real, concat};

use super::{Backward, Forward, LayerRules, LayerText, Memory, Use, WordError, Words};
use crate::shape::Shape;

/// The channels of its inputs, one input after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Concat;

impl LayerRules for Concat {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn arity(&self) -> (usize, usize) {
        (2, usize::MAX)
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let first = inputs[0];
        if let Some(place) = inputs.iter().position(|shape| Shape { c: first.c, ..*shape } != first) {
            let other = inputs[place];
            if other.n != first.n {
                return Err(format!("branch 1 has {} images but branch {} has {}", first.n, place + 1, other.n));
            }
            return Err(format!(
                "branch 1 gives {}x{}x{} but branch {} gives {}x{}x{}; branches that are put side by side must agree in height and width",
                first.c,
                first.h,
                first.w,
                place + 1,
                other.c,
                other.h,
                other.w
            ));
        }
        let channels = inputs.iter().fold(0usize, |sum, shape| sum.saturating_add(shape.c));
        Ok(Shape { c: channels, ..first })
    }

    fn memory<T: Real>(&self, _: &[Shape], _: Use) -> Memory {
        Memory::default()
    }

    fn forward<T: Real>(&self, pass: Forward<'_, T>) {
        let rows = pass.output_shape.n * pass.output_shape.pixels();
        concat::concat(pass.machine, rows, pass.inputs, pass.output);
    }

    fn backward<T: Real>(&self, pass: Backward<'_, T>) {
        let rows = pass.output_shape.n * pass.output_shape.pixels();
        let mut first = 0;
        for (shape, grad_input) in pass.input_shapes.iter().zip(pass.grad_inputs.iter_mut()) {
            if let Some(grad_input) = grad_input {
                concat::split(pass.machine, rows, pass.grad_output, first, grad_input);
            }
            first += shape.c;
        }
    }
}

impl LayerText for Concat {
    const KIND: &'static str = "concat";

    fn read(_: &mut Words<'_>) -> Result<Self, WordError> {
        Ok(Self)
    }

    fn examples() -> Vec<(Self, Vec<Shape>)> {
        let shape = |c| Shape::new(2, c, 2, 3);
        vec![(Self, vec![shape(3), shape(5)]), (Self, vec![shape(4), shape(1), shape(2)])]
    }
}

impl fmt::Display for Concat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Self::KIND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_add_up_and_what_differs_is_named_with_both_sizes() {
        let shape = |n, c, h| Shape::new(n, c, h, 4);
        assert_eq!(Concat.output_shape(&[shape(2, 8, 4), shape(2, 3, 4), shape(2, 5, 4)]), Ok(shape(2, 16, 4)));
        let error = Concat.output_shape(&[shape(2, 8, 4), shape(2, 8, 4), shape(2, 3, 2)]).unwrap_err();
        assert!(error.contains("8x4x4") && error.contains("branch 3 gives 3x2x4"), "{error}");
        let error = Concat.output_shape(&[shape(2, 8, 4), shape(1, 8, 4)]).unwrap_err();
        assert!(error.contains("2 images") && error.contains("branch 2 has 1"), "{error}");
    }
}
