//! Average pooling: the mean of each window, in every channel by itself.
//!
//! | | |
//! |---|---|
//! | input | N×C×H×W |
//! | output | N×C×H'×W', H' = ⌊(H + 2P − R) / S⌋ + 1 (`ceil`: ⌈ ⌉ by Torch's exact rule), and W' likewise |
//! | gradient | dy is shared out evenly among the window |
//!
//! The stride is the kernel's size unless said, as for max pooling and as in PyTorch (in Torch7 the stride of average
//! pooling was 1 unless said). Zeros in the padding count as elements unless `exclude pad` is said; what a window covers
//! beyond the padding (with `ceil`) never counts.

use std::fmt;

use convnet_kernels::Real;
use convnet_kernels::pool::{PoolShape, average_backward, average_forward};
use convnet_kernels::window::{Rounding, Window};

use super::windowed::{Options, pooling, pooling_misfits, positive_pair, set_padding, tiling, write_pooling};
use super::{Backward, Forward, LayerRules, LayerText, Memory, Reach, Use, WordError, Words};
use crate::shape::Shape;

/// The mean of each window.
///
/// ```
/// use convnet::layer::{LayerRules, avg_pool2d::AvgPool2d};
/// use convnet::shape::Shape;
/// let pool = AvgPool2d::new([3, 3]).stride([2, 2]).pad([1, 1]);
/// assert_eq!(pool.output_shape(&[Shape::new(1, 8, 7, 7)]), Ok(Shape::new(1, 8, 4, 4)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AvgPool2d {
    /// Kernel, stride and padding of both axes; the dilation is 1.
    pub window: Window,
    /// What is done where the windows do not cover the image exactly.
    pub rounding: Rounding,
    /// Whether zeros in the padding count as elements.
    pub count_padding: bool,
}

impl AvgPool2d {
    /// Windows of this height and width that lie side by side.
    pub const fn new(kernel: [usize; 2]) -> Self {
        Self { window: tiling(kernel), rounding: Rounding::Floor, count_padding: true }
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

    /// The same with a last, partial window where the windows do not cover the image exactly.
    #[must_use]
    pub const fn ceil(self) -> Self {
        Self { rounding: Rounding::Ceil, ..self }
    }

    /// The same with the mean of the elements inside the image alone.
    #[must_use]
    pub const fn exclude_pad(self) -> Self {
        Self { count_padding: false, ..self }
    }

    fn problem(&self, input: Shape) -> Result<PoolShape, String> {
        if [self.window.h.dilation, self.window.w.dilation] != [1, 1] {
            return Err("average pooling has no dilation; it must be 1".into());
        }
        pooling(&self.window, self.rounding, input)
    }

    /// The problem for inputs that [`output_shape`](LayerRules::output_shape) has accepted.
    fn accepted(&self, inputs: &[Shape]) -> PoolShape {
        self.problem(inputs[0]).expect("the input was accepted by output_shape")
    }
}

impl LayerRules for AvgPool2d {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let problem = self.problem(inputs[0])?;
        Ok(Shape { h: problem.oh(), w: problem.ow(), ..inputs[0] })
    }

    fn warnings(&self, inputs: &[Shape]) -> Vec<String> {
        pooling_misfits(&self.window, self.rounding, inputs[0])
    }

    fn reach(&self) -> Reach {
        Reach::Window(self.window)
    }

    fn memory<T: Real>(&self, _: &[Shape], _: Use) -> Memory {
        Memory::default()
    }

    fn forward<T: Real>(&self, pass: Forward<'_, T>) {
        average_forward(pass.machine, &self.accepted(pass.input_shapes), self.count_padding, pass.inputs[0], pass.output);
    }

    fn backward<T: Real>(&self, pass: Backward<'_, T>) {
        let problem = self.accepted(pass.input_shapes);
        if let Some(dx) = &mut pass.grad_inputs[0] {
            average_backward(pass.machine, &problem, self.count_padding, pass.grad_output, dx);
        }
    }
}

impl LayerText for AvgPool2d {
    const KIND: &'static str = "avgpool";

    fn read(words: &mut Words<'_>) -> Result<Self, WordError> {
        let mut pool = Self::new(positive_pair(words, "the kernel")?);
        let mut options = Options::new(words);
        while !options.is_done() {
            if options.take("ceil")? {
                pool.rounding = Rounding::Ceil;
            } else if options.take("exclude pad")? {
                pool.count_padding = false;
            } else if options.take("pad")? {
                set_padding(&mut pool.window, options.words().padding()?);
            } else if !options.take_stride(&mut pool.window)? {
                return Err(options.unknown(Self::KIND, "stride, pad, ceil and exclude pad"));
            }
        }
        Ok(pool)
    }

    fn examples() -> Vec<(Self, Vec<Shape>)> {
        vec![
            (Self::new([2, 2]), vec![Shape::new(2, 2, 4, 6)]),
            (Self::new([3, 2]).stride([2, 1]).ceil(), vec![Shape::new(1, 3, 6, 5)]),
            (Self::new([3, 3]).stride([2, 2]).pad([1, 1]), vec![Shape::new(2, 3, 5, 4)]),
            (Self::new([3, 3]).stride([2, 2]).pad([1, 1]).ceil().exclude_pad(), vec![Shape::new(1, 8, 4, 4)]),
        ]
    }
}

impl fmt::Display for AvgPool2d {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Self::KIND)?;
        write_pooling(formatter, &self.window, self.rounding)?;
        formatter.write_str(if self.count_padding { "" } else { " exclude pad" })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Layer, Word, single::Single};
    use super::*;

    fn read(text: &str) -> Result<AvgPool2d, WordError> {
        let list: Vec<Word> =
            text.split(' ').enumerate().map(|(place, word)| Word { text: word.into(), offset: place, length: 1 }).collect();
        let mut words = Words::new(&list, list.len());
        assert!(words.take_all(AvgPool2d::KIND));
        AvgPool2d::read(&mut words)
    }

    #[test]
    fn padding_counts_as_zeros_unless_it_is_excluded() {
        let mean = |text: &str| {
            let mut single = Single::<f64>::new(Layer::from(read(text).unwrap()), &[Shape::new(1, 1, 3, 3)], false).unwrap();
            single.forward(&[vec![9.0; 9]], &[])
        };
        assert_eq!(mean("avgpool 3 pad 1 stride 2"), [4.0; 4]);
        assert_eq!(mean("avgpool 3 pad 1 stride 2 exclude pad"), [9.0; 4]);
        // A window that hangs over the end divides by what is there.
        assert_eq!(mean("avgpool 2 ceil"), [9.0; 4]);
    }

    #[test]
    fn options_are_printed_in_one_order_and_dilation_is_refused() {
        assert_eq!(read("avgpool 3x3 exclude pad ceil pad 1 stride 2").unwrap().to_string(), "avgpool 3 stride 2 pad 1 ceil exclude pad");
        assert!(read("avgpool 3 dilation 2").unwrap_err().message.contains("no option 'dilation'"));
    }
}
