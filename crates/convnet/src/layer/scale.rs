//! Scale: every channel times a number that is learnt. ConvNeXt's layer scale.
//!
//! | | |
//! |---|---|
//! | input, output | N×C×H×W, y\[n, c, h, w\] = weight\[c\] · x\[n, c, h, w\] |
//! | weight | C; at first 1 unless said: `scale 1e-6` is ConvNeXt's |
//! | gradients | dx = dy·weight, dweight\[c\] = Σ dy·x over N, H, W |
//!
//! Touvron et al. 2021.

use std::fmt;

use convnet_kernels::{Real, scale};

use super::{Backward, Forward, Initial, LayerRules, LayerText, Memory, ParameterSpec, Role, Use, WordError, Words};
use crate::shape::Shape;

/// Every channel times a weight of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// The weights before training.
    pub initial: f32,
}

impl Default for Scale {
    fn default() -> Self {
        Self { initial: 1.0 }
    }
}

fn rows(input: Shape) -> usize {
    input.n * input.pixels()
}

impl LayerRules for Scale {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        Ok(inputs[0])
    }

    fn parameters(&self, inputs: &[Shape]) -> Vec<ParameterSpec> {
        let initial = Initial::Constant(self.initial);
        vec![ParameterSpec { name: "weight", sizes: vec![inputs[0].c], role: Role::Scale, initial }]
    }

    fn formula(&self, inputs: &[Shape]) -> Option<String> {
        Some(inputs[0].c.to_string())
    }

    fn memory<T: Real>(&self, inputs: &[Shape], usage: Use) -> Memory {
        let (rows, channels) = (rows(inputs[0]), inputs[0].c);
        Memory {
            forward_scratch: scale::scale_scratch(rows, channels),
            backward_scratch: scale::gradient_scratch(rows, channels),
            keeps_inputs: usage.backward,
            in_place: true,
            ..Memory::default()
        }
    }

    fn forward<T: Real>(&self, pass: Forward<'_, T>) {
        scale::scale(pass.machine, pass.inputs.first().copied(), pass.parameters[0], pass.output, pass.scratch);
    }

    fn backward<T: Real>(&self, pass: Backward<'_, T>) {
        let dy = Some(pass.grad_output).filter(|dy| !dy.is_empty());
        let mut dx = pass.grad_inputs.first_mut().and_then(Option::take);
        let d = dy.unwrap_or_else(|| dx.as_deref().unwrap_or_default());
        if let [dweight] = pass.grad_parameters {
            scale::scale_gradient(pass.machine, pass.inputs[0], d, dweight, pass.scratch);
        }
        if let Some(dx) = &mut dx {
            scale::scale(pass.machine, dy, pass.parameters[0], dx, pass.scratch);
        }
    }
}

impl LayerText for Scale {
    const KIND: &'static str = "scale";

    fn read(words: &mut Words<'_>) -> Result<Self, WordError> {
        Ok(if words.is_done() { Self::default() } else { Self { initial: words.decimal("the initial value")? as f32 } })
    }

    fn examples() -> Vec<(Self, Vec<Shape>)> {
        vec![(Self::default(), vec![Shape::new(2, 3, 4, 5)]), (Self { initial: 1e-6 }, vec![Shape::new(3, 4, 1, 2)])]
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Self::KIND)?;
        if *self == Self::default() { Ok(()) } else { write!(formatter, " {}", self.initial) }
    }
}
