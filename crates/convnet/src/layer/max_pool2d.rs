//! Max pooling: the largest number of each window, in every channel by itself.
//!
//! | | |
//! |---|---|
//! | input | N×C×H×W |
//! | output | N×C×H'×W', H' = ⌊(H + 2P − (D·(R − 1) + 1)) / S⌋ + 1 (`ceil`: ⌈ ⌉ by Torch's exact rule), and W' likewise |
//! | gradient | dy goes to the pixel that was the largest |
//!
//! The stride is the kernel's size unless said. The first of equal numbers in row-major order wins, a NaN wins over every
//! number, and padding never wins.

use std::fmt;

use convnet_kernels::Real;
use convnet_kernels::pool::{PoolShape, max_backward, max_forward};
use convnet_kernels::window::{Rounding, Window};

use super::windowed::{Options, pooling, pooling_misfits, positive_pair, set_padding, tiling, write_pooling};
use super::{Backward, Forward, LayerRules, LayerText, Memory, Reach, Use, WordError, Words};
use crate::shape::Shape;

/// The largest number of each window.
///
/// ```
/// use convnet::layer::{LayerRules, max_pool2d::MaxPool2d};
/// use convnet::shape::Shape;
/// let image = [Shape::new(1, 8, 7, 7)];
/// assert_eq!(MaxPool2d::new([2, 2]).output_shape(&image), Ok(Shape::new(1, 8, 3, 3)));
/// assert_eq!(MaxPool2d::new([2, 2]).ceil().output_shape(&image), Ok(Shape::new(1, 8, 4, 4)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaxPool2d {
    /// Kernel, stride, padding and dilation of both axes.
    pub window: Window,
    /// What is done where the windows do not cover the image exactly.
    pub rounding: Rounding,
}

impl MaxPool2d {
    /// Windows of this height and width that lie side by side.
    pub const fn new(kernel: [usize; 2]) -> Self {
        Self { window: tiling(kernel), rounding: Rounding::Floor }
    }

    /// The same with another stride, height × width.
    #[must_use]
    pub const fn stride(mut self, [height, width]: [usize; 2]) -> Self {
        self.window.h = self.window.h.stride(height);
        self.window.w = self.window.w.stride(width);
        self
    }

    /// The same with this padding on each side of the height and of the width: at most half of the kernel.
    #[must_use]
    pub const fn pad(mut self, [height, width]: [usize; 2]) -> Self {
        set_padding(&mut self.window, [height, height, width, width]);
        self
    }

    /// The same with another dilation, height × width; 1 is ordinary.
    #[must_use]
    pub const fn dilation(mut self, [height, width]: [usize; 2]) -> Self {
        self.window.h = self.window.h.dilation(height);
        self.window.w = self.window.w.dilation(width);
        self
    }

    /// The same with a last, partial window where the windows do not cover the image exactly.
    #[must_use]
    pub const fn ceil(self) -> Self {
        Self { rounding: Rounding::Ceil, ..self }
    }

    fn problem(&self, input: Shape) -> Result<PoolShape, String> {
        pooling(&self.window, self.rounding, input)
    }

    /// The problem for inputs that [`output_shape`](LayerRules::output_shape) has accepted.
    fn accepted(&self, inputs: &[Shape]) -> PoolShape {
        self.problem(inputs[0]).expect("the input was accepted by output_shape")
    }
}

impl LayerRules for MaxPool2d {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let problem = self.problem(inputs[0])?;
        Ok(Shape { h: problem.oh(), w: problem.ow(), ..inputs[0] })
    }

    fn warnings(&self, inputs: &[Shape]) -> Vec<String> {
        let mut warnings = pooling_misfits(&self.window, self.rounding, inputs[0]);
        if self.problem(inputs[0]).is_ok_and(|problem| problem.has_empty_window()) {
            warnings.push(
                "a window lies beside the image altogether, and its maximum is −∞; leave out `ceil`, or use a smaller stride or dilation"
                    .into(),
            );
        }
        warnings
    }

    fn reach(&self) -> Reach {
        Reach::Window(self.window)
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

impl LayerText for MaxPool2d {
    const KIND: &'static str = "maxpool";

    fn read(words: &mut Words<'_>) -> Result<Self, WordError> {
        let mut pool = Self::new(positive_pair(words, "the kernel")?);
        let mut options = Options::new(words);
        while !options.is_done() {
            if options.take("ceil")? {
                pool.rounding = Rounding::Ceil;
            } else if options.take("pad")? {
                set_padding(&mut pool.window, options.words().padding()?);
            } else if !options.take_stride(&mut pool.window)? && !options.take_dilation(&mut pool.window)? {
                return Err(options.unknown(Self::KIND, "stride, pad, dilation and ceil"));
            }
        }
        Ok(pool)
    }

    fn examples() -> Vec<(Self, Vec<Shape>)> {
        let mut uneven = Self::new([3, 2]).stride([2, 1]);
        set_padding(&mut uneven.window, [0, 1, 1, 0]);
        vec![
            (Self::new([2, 2]), vec![Shape::new(2, 2, 4, 6)]),
            (Self::new([2, 2]).ceil(), vec![Shape::new(1, 3, 5, 7)]),
            (Self::new([3, 3]).stride([2, 2]).pad([1, 1]), vec![Shape::new(2, 3, 5, 4)]),
            (Self::new([3, 2]).stride([1, 2]).pad([1, 0]).dilation([2, 1]), vec![Shape::new(1, 2, 7, 6)]),
            (uneven, vec![Shape::new(1, 8, 3, 4)]),
        ]
    }
}

impl fmt::Display for MaxPool2d {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Self::KIND)?;
        write_pooling(formatter, &self.window, self.rounding)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Layer, Word, single::Single};
    use super::*;

    fn read(text: &str) -> Result<MaxPool2d, WordError> {
        let list: Vec<Word> =
            text.split(' ').enumerate().map(|(place, word)| Word { text: word.into(), offset: place, length: 1 }).collect();
        let mut words = Words::new(&list, list.len());
        assert!(words.take_all(MaxPool2d::KIND));
        MaxPool2d::read(&mut words)
    }

    #[test]
    fn the_stride_is_the_kernel_unless_said() {
        for (text, canonical) in [
            ("maxpool 2x2 stride 2", "maxpool 2"),
            ("maxpool 3x2 stride 3x2 ceil", "maxpool 3x2 ceil"),
            ("maxpool 3 ceil pad 1 dilation 2 stride 1", "maxpool 3 stride 1 pad 1 dilation 2 ceil"),
        ] {
            assert_eq!(read(text).unwrap().to_string(), canonical);
        }
        assert!(read("maxpool 2 floor").unwrap_err().message.contains("no option 'floor'; it has stride, pad"));
    }

    #[test]
    fn the_switches_of_the_course_route_the_gradient() {
        let mut single = Single::<f64>::new(Layer::from(MaxPool2d::new([2, 2])), &[Shape::new(1, 1, 4, 4)], true).unwrap();
        let x = vec![1., 1., 2., 4., 5., 6., 7., 8., 3., 2., 1., 0., 1., 2., 3., 4.];
        assert_eq!(single.forward(&[x], &[]), [6., 8., 3., 4.]);
        let dx = single.backward(&[1., 2., 3., 4.]).inputs.remove(0);
        assert_eq!(dx, [0., 0., 0., 0., 0., 1., 0., 2., 3., 0., 0., 0., 0., 0., 0., 4.]);
    }

    #[test]
    fn padding_of_more_than_half_of_the_kernel_is_refused() {
        let error = read("maxpool 3 pad 2").unwrap().output_shape(&[Shape::new(1, 1, 8, 8)]).unwrap_err();
        assert!(error.contains("a padding of 2 is more than half of the kernel of 3; at most 1"), "{error}");
    }

    #[test]
    fn lost_rows_and_windows_beside_the_image_are_said() {
        let warnings = |text: &str, size| read(text).unwrap().warnings(&[Shape::new(1, 1, size, size)]);
        let lost = warnings("maxpool 2", 7);
        assert!(lost.len() == 1 && lost[0].starts_with("the last row and column are never seen"), "{lost:?}");
        assert!(lost[0].ends_with("`ceil` would fit"), "{lost:?}");
        assert_eq!(warnings("maxpool 2 ceil", 7), [""; 0]);
        let empty = warnings("maxpool 1 stride 2 ceil", 6);
        assert!(empty.len() == 1 && empty[0].contains("−∞"), "{empty:?}");
    }
}
