//! Add: y = x₀ + x₁ + …, the end of a residual block.
//!
//! | | |
//! |---|---|
//! | inputs | two or more N×C×H×W, all of one shape |
//! | output | N×C×H×W |
//! | gradient | dxᵢ = dy |

use std::fmt;

use convnet_kernels::{Real, elementwise};

use super::{Backward, Forward, LayerRules, LayerText, Memory, Use, WordError, Words};
use crate::shape::Shape;

/// The sum of its inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Add;

impl LayerRules for Add {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn arity(&self) -> (usize, usize) {
        (2, usize::MAX)
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let first = inputs[0];
        match inputs.iter().position(|shape| *shape != first) {
            None => Ok(first),
            Some(place) => Err(format!(
                "branch 1 gives {}x{}x{} but branch {} gives {}x{}x{}; branches that are added must agree",
                first.c,
                first.h,
                first.w,
                place + 1,
                inputs[place].c,
                inputs[place].h,
                inputs[place].w
            )),
        }
    }

    fn elementwise(&self) -> bool {
        true
    }

    fn memory<T: Real>(&self, _: &[Shape], _: Use) -> Memory {
        Memory::default()
    }

    fn forward<T: Real>(&self, pass: Forward<'_, T>) {
        let [first, others @ ..] = pass.inputs else { return };
        elementwise::add_all(pass.machine, Some(first), others, pass.output);
    }

    fn backward<T: Real>(&self, pass: Backward<'_, T>) {
        for grad_input in pass.grad_inputs.iter_mut().flatten() {
            elementwise::copy(pass.machine, pass.grad_output, grad_input);
        }
    }
}

impl LayerText for Add {
    const KIND: &'static str = "add";

    fn read(_: &mut Words<'_>) -> Result<Self, WordError> {
        Ok(Self)
    }

    fn examples() -> Vec<(Self, Vec<Shape>)> {
        let shape = Shape::new(2, 3, 4, 5);
        vec![(Self, vec![shape; 2]), (Self, vec![shape; 3])]
    }
}

impl fmt::Display for Add {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Self::KIND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_that_differ_are_named_with_both_sizes() {
        let error = Add.output_shape(&[Shape::new(1, 8, 4, 4), Shape::new(1, 8, 2, 2)]).unwrap_err();
        assert!(error.contains("8x4x4") && error.contains("branch 2 gives 8x2x2"), "{error}");
    }
}
