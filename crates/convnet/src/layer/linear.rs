//! Fully connected layer: every output number is the weighted sum of all numbers of the image, plus a bias.
//!
//! ```text
//! y[n, k] = bias[k] + Σ over f of  x[n, f] · weight[k, f]
//! ```
//!
//! | | |
//! |---|---|
//! | input | N×F×1×1 |
//! | weight | K×F |
//! | bias | K |
//! | output | N×K×1×1 |
//! | gradients | dx = dy·weight; dweight = dyᵀ·x; dbias: the sum of dy over N |
//!
//! It is a convolution whose kernel is the whole image, and is computed as one. Behind a flatten the kernel has the height
//! and width of what was flattened: the weights K×(C·H·W) already lie in the order K×C×H×W of such a kernel.

use std::fmt;

use convnet_kernels::Real;
use convnet_kernels::conv::ConvShape;
use convnet_kernels::window::{Axis, Window};

use super::conv2d::{backward, forward, memory, parameter_formula, prepare, specs};
use super::windowed::Options;
use super::{Backward, Forward, LayerRules, LayerText, Memory, ParameterSpec, Prepare, Reach, Use, WordError, Words};
use crate::shape::Shape;

/// Weighted sums of all features.
///
/// ```
/// use convnet::layer::{LayerRules, linear::Linear};
/// use convnet::shape::Shape;
/// assert_eq!(Linear::new(10).formula(&[Shape::new(1, 3072, 1, 1)]).as_deref(), Some("(3072 + 1)·10"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Linear {
    /// Number of outputs, K.
    pub outputs: usize,
    /// Whether a number is added to each output.
    pub bias: bool,
}

impl Linear {
    /// So many outputs, with a bias.
    pub const fn new(outputs: usize) -> Self {
        Self { outputs, bias: true }
    }

    /// The same without a bias.
    #[must_use]
    pub const fn without_bias(self) -> Self {
        Self { bias: false, ..self }
    }

    fn problem(&self, input: Shape, flattened: Option<Shape>) -> Result<ConvShape, String> {
        let image = flattened.unwrap_or(input);
        // The stride is as large as the kernel, so that backward sees each input under exactly one tap.
        let whole = |size| Axis::new(size).stride(size);
        let window = Window { h: whole(image.h), w: whole(image.w) };
        ConvShape::new(input.n, image.c, [image.h, image.w], self.outputs, window, 1)
    }

    /// The problem for inputs that [`output_shape`](LayerRules::output_shape) has accepted.
    pub(super) fn accepted(&self, inputs: &[Shape], flattened: Option<Shape>) -> ConvShape {
        self.problem(inputs[0], flattened).expect("the input was accepted by output_shape")
    }
}

impl LayerRules for Linear {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let Shape { n, c, h, w } = inputs[0];
        if (h, w) != (1, 1) {
            return Err(format!("{c}x{h}x{w} is not flat; put `flatten` before `fc`, or use `global avgpool`"));
        }
        self.problem(inputs[0], None)?;
        Ok(Shape::new(n, self.outputs, 1, 1))
    }

    fn parameters(&self, inputs: &[Shape]) -> Vec<ParameterSpec> {
        let features = inputs[0].c;
        specs(vec![self.outputs, features], features, self.outputs, self.bias)
    }

    fn formula(&self, inputs: &[Shape]) -> Option<String> {
        Some(parameter_formula(&inputs[0].c.to_string(), self.outputs, self.bias))
    }

    fn macs(&self, inputs: &[Shape]) -> u64 {
        self.problem(inputs[0], None).map_or(0, |problem| problem.macs())
    }

    fn reach(&self) -> Reach {
        Reach::Whole
    }

    fn takes_epilogue(&self) -> bool {
        true
    }

    fn memory<T: Real>(&self, inputs: &[Shape], usage: Use) -> Memory {
        memory::<T>(&self.accepted(inputs, usage.flattened), self.bias, usage)
    }

    fn prepare<T: Real>(&self, pass: Prepare<'_, T>) {
        prepare(&self.accepted(pass.input_shapes, pass.flattened), pass);
    }

    fn forward<T: Real>(&self, pass: Forward<'_, T>) {
        forward(&self.accepted(pass.input_shapes, pass.flattened), self.bias, pass);
    }

    fn backward<T: Real>(&self, pass: Backward<'_, T>) {
        backward(&self.accepted(pass.input_shapes, pass.flattened), self.bias, pass);
    }
}

impl LayerText for Linear {
    const KIND: &'static str = "fc";

    fn read(words: &mut Words<'_>) -> Result<Self, WordError> {
        let mut linear = Self::new(words.whole("the number of outputs")?);
        if linear.outputs == 0 {
            return Err(words.error_at_last("a fully connected layer needs at least 1 output"));
        }
        let mut options = Options::new(words);
        while !options.is_done() {
            if !options.take("no bias")? {
                return Err(options.unknown(Self::KIND, "no bias"));
            }
            linear.bias = false;
        }
        Ok(linear)
    }

    fn examples() -> Vec<(Self, Vec<Shape>)> {
        vec![
            (Self::new(4), vec![Shape::new(3, 7, 1, 1)]),
            (Self::new(5).without_bias(), vec![Shape::new(2, 6, 1, 1)]),
            (Self::new(18), vec![Shape::new(1, 8, 1, 1)]),
        ]
    }
}

impl fmt::Display for Linear {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}{}", Self::KIND, self.outputs, if self.bias { "" } else { " no bias" })
    }
}

#[cfg(test)]
mod tests {
    use convnet_kernels::{Isa, Machine};

    use super::super::Direction;
    use super::super::relu::RectifierRule;
    use super::*;
    use crate::tensor::{from_channels_last, to_channels_last};

    /// Output, and gradients of input, weight and bias, for numbers that only depend on their place.
    fn run(machine: &Machine, linear: Linear, input: Shape, flattened: Option<Shape>, x: &[f32]) -> [Vec<f32>; 4] {
        let number = |place: usize| (place * 37 % 19) as f32 - 9.0;
        let (shapes, output_shape) = ([input], linear.output_shape(&[input]).unwrap());
        let weight: Vec<f32> = (0..linear.outputs * input.c).map(number).collect();
        let bias: Vec<f32> = (0..linear.outputs).map(number).collect();
        let memory = linear.memory::<f32>(&shapes, Use { means: machine.means(), backward: true, input_gradient: true, flattened, relu: false });
        let mut prepared = [memory.prepared_forward, memory.prepared_backward].map(|count| vec![0.0; count]);
        let parameters = [&weight[..], &bias[..]];
        let training = true;
        let input_gradient = true;
        for (direction, prepared) in [Direction::Forward, Direction::Backward].into_iter().zip(&mut prepared) {
            linear.prepare(Prepare { machine, direction, input_shapes: &shapes, flattened, parameters: &parameters, prepared });
        }
        let mut output = vec![0.0; output_shape.count()];
        linear.forward(Forward {
            machine,
            training,
            input_gradient,
            random: 0,
            input_shapes: &shapes,
            output_shape,
            flattened,
            inputs: &[x],
            parameters: &parameters,
            prepared: &prepared[0],
            residual: None,
            relu: false,
            output: &mut output,
            saved: &mut [],
            saved_indices: &mut [],
            scratch: &mut vec![0.0; memory.forward_scratch],
        });
        let grad_output: Vec<f32> = (0..output.len()).map(|place| number(place + 5)).collect();
        let (mut dx, mut dw, mut db) = (vec![f32::NAN; x.len()], vec![0.0; weight.len()], vec![0.0; bias.len()]);
        linear.backward(Backward {
            machine,
            training,
            random: 0,
            input_shapes: &shapes,
            output_shape,
            flattened,
            inputs: &[x],
            output: &[],
            parameters: &parameters,
            prepared: &prepared[1],
            saved: &[],
            saved_indices: &[],
            relu: false,
            rectifier: RectifierRule::Gradient,
            grad_output: &grad_output,
            grad_inputs: &mut [Some(&mut dx)],
            grad_parameters: &mut [&mut dw, &mut db],
            scratch: &mut vec![0.0; memory.backward_scratch],
        });
        [output, dx, dw, db]
    }

    #[test]
    fn behind_a_skipped_flatten_everything_is_the_same() {
        let machine = Machine::new(Isa::detect(), 1);
        for image in [Shape::new(3, 5, 2, 4), Shape::new(2, 17, 3, 3), Shape::new(4, 1, 5, 2), Shape::new(2, 6, 1, 1)] {
            let (linear, flat) = (Linear::new(7), Shape::new(image.n, image.image(), 1, 1));
            let logical: Vec<f32> = (0..image.count()).map(|place| (place * 29 % 23) as f32 - 11.0).collect();
            let mut stored = logical.clone();
            to_channels_last(image, &logical, &mut stored);
            let [y, dx, dw, db] = run(&machine, linear, flat, None, &logical);
            let [skipped_y, skipped_dx, skipped_dw, skipped_db] = run(&machine, linear, flat, Some(image), &stored);
            let mut logical_dx = dx.clone();
            from_channels_last(image, &skipped_dx, &mut logical_dx);
            // Whole numbers are added exactly in any order.
            assert_eq!((skipped_y, logical_dx, skipped_dw, skipped_db), (y, dx, dw, db), "{image}");
        }
    }

    #[test]
    fn the_neuron_of_the_course_has_3072_weights() {
        let input = [Shape::new(1, 3072, 1, 1)];
        let linear = Linear::new(10);
        assert_eq!(linear.parameters(&input).iter().map(ParameterSpec::count).collect::<Vec<_>>(), [30_720, 10]);
        assert_eq!(linear.formula(&input).unwrap(), "(3072 + 1)·10");
        assert_eq!(linear.without_bias().formula(&input).unwrap(), "3072·10");
        assert_eq!(linear.macs(&input), 30_720);
    }

    #[test]
    fn an_image_that_is_not_flat_is_refused_with_the_remedy() {
        let error = Linear::new(10).output_shape(&[Shape::new(2, 8, 4, 4)]).unwrap_err();
        assert_eq!(error, "8x4x4 is not flat; put `flatten` before `fc`, or use `global avgpool`");
    }
}
