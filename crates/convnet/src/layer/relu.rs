//! ReLU: y = max(x, 0).
//!
//! | | |
//! |---|---|
//! | input | N×C×H×W |
//! | output | N×C×H×W |
//! | gradient | dx = dy where y > 0, else 0 (so 0 at exactly x = 0, as in Torch and PyTorch) |
//!
//! A NaN stays a NaN. Those who look inside a network let other things through on the way back: [`RectifierRule`].

use std::fmt;

use convnet_kernels::{Machine, Real, elementwise};

use super::{Backward, Forward, LayerRules, LayerText, Memory, Use, WordError, Words};
use crate::shape::Shape;

/// y = max(x, 0).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Relu;

/// What a ReLU lets through on the way back of g, the gradient of its output y = max(x, 0).
///
/// All but the first give no gradient of anything; they make pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RectifierRule {
    /// g where x > 0: the gradient.
    #[default]
    Gradient,
    /// g where x > 0 and g > 0: guided backpropagation (Springenberg, Dosovitskiy, Brox and Riedmiller, "Striving for
    /// simplicity: the all convolutional net", 2015).
    Guided,
    /// g where g > 0, whatever x is: the deconvolutional network (Zeiler and Fergus, "Visualizing and understanding
    /// convolutional networks", 2014).
    Deconv,
    /// For an objective that is **ascended**: as the gradient, but for an image of the batch whose whole gradient at this
    /// ReLU would be zero, g where g > 0. There no positive x has any g, so what passes pushes inputs up that are not
    /// positive yet: a neuron that is silent can be woken (the redirected ReLU of the Lucid library, which descends and
    /// so has the other sign). To make a number small, ascend its negative.
    Redirected,
}

impl RectifierRule {
    /// Every rule.
    pub const ALL: [Self; 4] = [Self::Gradient, Self::Guided, Self::Deconv, Self::Redirected];

    /// Writes what is let through, channels last. Without `dy`, `dx` holds it.
    fn apply<T: Real>(self, machine: &Machine, y: &[T], dy: Option<&[T]>, dx: &mut [T]) {
        match self {
            Self::Gradient => elementwise::relu_gradient(machine, y, dy, dx),
            Self::Guided => {
                elementwise::relu_gradient(machine, y, dy, dx);
                elementwise::relu(machine, None, dx);
            }
            Self::Deconv => elementwise::relu(machine, dy, dx),
            Self::Redirected => {
                let passes = y.iter().zip(dy.unwrap_or(dx)).any(|(&y, &d)| y > T::ZERO && d != T::ZERO);
                let rule = if passes { Self::Gradient } else { Self::Deconv };
                rule.apply(machine, y, dy, dx);
            }
        }
    }
}

impl LayerRules for Relu {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        Ok(inputs[0])
    }

    fn elementwise(&self) -> bool {
        true
    }

    fn memory<T: Real>(&self, _: &[Shape], _: Use) -> Memory {
        Memory { keeps_output: true, in_place: true, ..Memory::default() }
    }

    fn forward<T: Real>(&self, pass: Forward<'_, T>) {
        elementwise::relu(pass.machine, pass.inputs.first().copied(), pass.output);
    }

    fn backward<T: Real>(&self, pass: Backward<'_, T>) {
        let dy = Some(pass.grad_output).filter(|dy| !dy.is_empty());
        let [Some(dx)] = pass.grad_inputs else { return };
        // Only the redirected rule asks what a whole image says.
        let length = if pass.rectifier == RectifierRule::Redirected { pass.output_shape.image() } else { dx.len() };
        for (image, (y, dx)) in pass.output.chunks(length).zip(dx.chunks_mut(length)).enumerate() {
            let dy = dy.map(|dy| &dy[image * length..][..y.len()]);
            pass.rectifier.apply(pass.machine, y, dy, dx);
        }
    }
}

impl LayerText for Relu {
    const KIND: &'static str = "relu";

    fn read(_: &mut Words<'_>) -> Result<Self, WordError> {
        Ok(Self)
    }

    fn examples() -> Vec<(Self, Vec<Shape>)> {
        vec![(Self, vec![Shape::new(2, 3, 4, 5)])]
    }
}

impl fmt::Display for Relu {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Self::KIND)
    }
}
