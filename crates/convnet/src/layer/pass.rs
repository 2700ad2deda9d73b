//! What a plan hands to a layer: slices, shapes and the machine.

use convnet_kernels::{Machine, Real};

use super::relu::RectifierRule;
use crate::shape::Shape;

/// One of the two ways through a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the image to the output.
    Forward,
    /// From the gradient of the output to those of the parameters.
    Backward,
}

/// The parameters of a layer, to be written in the order in which its kernels read them.
#[derive(Debug)]
pub struct Prepare<'a, T> {
    /// Who computes.
    pub machine: &'a Machine,
    /// Which kernels will read what is written.
    pub direction: Direction,
    /// Shapes of the inputs.
    pub input_shapes: &'a [Shape],
    /// Set when input 0 is the output of a flatten whose permutation was skipped: the shape that was flattened. The
    /// numbers still lie channels last in it, so logical feature `(c·H + y)·W + x` is found at `(y·W + x)·C + c`.
    pub flattened: Option<Shape>,
    /// The parameters in their logical order.
    pub parameters: &'a [&'a [T]],
    /// Where to write: as many numbers as [`Memory`](super::Memory) says for this direction.
    pub prepared: &'a mut [T],
}

/// Everything for one forward pass of one layer.
#[derive(Debug)]
pub struct Forward<'a, T> {
    /// Who computes.
    pub machine: &'a Machine,
    /// Whether this is a training step: batch statistics, dropout, and keeping what backward needs.
    pub training: bool,
    /// Whether the gradient of the first input will be asked for.
    pub input_gradient: bool,
    /// Addresses this layer's random numbers in this step.
    pub random: u64,
    /// Shapes of the inputs.
    pub input_shapes: &'a [Shape],
    /// Shape of the output.
    pub output_shape: Shape,
    /// As [`Prepare::flattened`].
    pub flattened: Option<Shape>,
    /// The inputs, channels last. Empty when the output already holds the only input: see
    /// [`output_holding_input`](Self::output_holding_input).
    pub inputs: &'a [&'a [T]],
    /// The parameters in their logical order.
    pub parameters: &'a [&'a [T]],
    /// What [`LayerRules::prepare`](super::LayerRules::prepare) wrote for forward.
    pub prepared: &'a [T],
    /// Added to the output before [`relu`](Self::relu); only for layers that take an epilogue.
    pub residual: Option<&'a [T]>,
    /// Whether negative outputs become zero; only for layers that take an epilogue.
    pub relu: bool,
    /// Where to write the output, channels last.
    pub output: &'a mut [T],
    /// Kept for backward; empty when there is none.
    pub saved: &'a mut [T],
    /// Kept for backward; empty when there is none.
    pub saved_indices: &'a mut [u32],
    /// Working memory.
    pub scratch: &'a mut [T],
}

impl<'a, T: Real> Forward<'a, T> {
    /// The output slice, filled with the only input: for layers that work in place.
    pub fn output_holding_input(self) -> &'a mut [T] {
        if let [input] = self.inputs {
            self.output.copy_from_slice(input);
        }
        self.output
    }
}

/// Everything for one backward pass of one layer.
#[derive(Debug)]
pub struct Backward<'a, T> {
    /// Who computes.
    pub machine: &'a Machine,
    /// As in the forward pass: batch statistics and dropout, or running statistics and none.
    pub training: bool,
    /// Addresses this layer's random numbers in this step, as in forward.
    pub random: u64,
    /// Shapes of the inputs.
    pub input_shapes: &'a [Shape],
    /// Shape of the output.
    pub output_shape: Shape,
    /// As [`Prepare::flattened`].
    pub flattened: Option<Shape>,
    /// The inputs, channels last; empty unless [`Memory::keeps_inputs`](super::Memory::keeps_inputs).
    pub inputs: &'a [&'a [T]],
    /// The output, channels last; empty unless [`Memory::keeps_output`](super::Memory::keeps_output).
    pub output: &'a [T],
    /// The parameters in their logical order.
    pub parameters: &'a [&'a [T]],
    /// What [`LayerRules::prepare`](super::LayerRules::prepare) wrote for backward.
    pub prepared: &'a [T],
    /// What forward kept.
    pub saved: &'a [T],
    /// What forward kept.
    pub saved_indices: &'a [u32],
    /// Whether forward set negative outputs to zero; then the gradient of the output counts only where the output is
    /// positive. Only for layers that take an epilogue.
    pub relu: bool,
    /// What a ReLU lets through. Other layers, and a ReLU that was joined to one, always give the gradient.
    pub rectifier: RectifierRule,
    /// Gradient of the output, channels last. Empty when the first of `grad_inputs` already holds it: see
    /// [`grad_input_holding_grad_output`](Self::grad_input_holding_grad_output).
    pub grad_output: &'a [T],
    /// Where to write the gradient of each input; `None` where it is not asked for.
    pub grad_inputs: &'a mut [Option<&'a mut [T]>],
    /// Where to add the gradient of each parameter that is not a buffer, in the order of the parameters; empty when
    /// nobody asks for these gradients.
    pub grad_parameters: &'a mut [&'a mut [T]],
    /// Working memory.
    pub scratch: &'a mut [T],
}

impl<'a, T: Real> Backward<'a, T> {
    /// The only input's gradient, filled with the output's gradient: for layers that work in place. `None` when the
    /// gradient is not asked for.
    pub fn grad_input_holding_grad_output(self) -> Option<&'a mut [T]> {
        let grad_input = self.grad_inputs.first_mut()?.take()?;
        if !self.grad_output.is_empty() {
            grad_input.copy_from_slice(self.grad_output);
        }
        Some(grad_input)
    }
}
