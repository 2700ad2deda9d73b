//! L_p pooling: y = (Σ xᵖ)^(1/p) of each window, in every channel by itself.
//!
//! | | |
//! |---|---|
//! | input | N×C×H×W |
//! | output | N×C×H'×W', H' = ⌊(H − R) / S⌋ + 1 (`ceil`: ⌈ ⌉), and W' likewise |
//! | gradient | dx = dy·(x/y)ᵖ⁻¹; 0 where y is 0 and p is not 1 |
//!
//! As in Torch and PyTorch, x keeps its sign: with an odd p a negative sum has no root and gives NaN. A window that hangs
//! over the end (with `ceil`) is weighted as if it were whole. The stride is the kernel's size unless said.

use std::fmt;

use convnet_kernels::Real;
use convnet_kernels::pool::{PoolShape, lp_backward, lp_forward};
use convnet_kernels::window::{Rounding, Window};

use super::windowed::{Options, pooling, pooling_misfits, positive_pair, tiling, write_pooling};
use super::{Backward, Forward, LayerRules, LayerText, Memory, Reach, Use, WordError, Words};
use crate::shape::Shape;

/// The L_p norm of each window.
///
/// ```
/// use convnet::layer::{Layer, lp_pool2d::LpPool2d, single::Single};
/// use convnet::shape::Shape;
/// let mut pool = Single::<f32>::new(Layer::from(LpPool2d::new(2.0, [1, 2])), &[Shape::new(1, 1, 1, 2)], false)?;
/// assert_eq!(pool.forward(&[vec![3.0, 4.0]], &[]), [5.0]);
/// # Ok::<(), convnet::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LpPool2d {
    /// The exponent p, larger than 0.
    pub power: f64,
    /// Kernel and stride of both axes; there is no padding and the dilation is 1.
    pub window: Window,
    /// What is done where the windows do not cover the image exactly.
    pub rounding: Rounding,
}

impl LpPool2d {
    /// This exponent over windows of this height and width that lie side by side.
    pub const fn new(power: f64, kernel: [usize; 2]) -> Self {
        Self { power, window: tiling(kernel), rounding: Rounding::Floor }
    }

    /// The same with another stride, height × width.
    #[must_use]
    pub const fn stride(mut self, [height, width]: [usize; 2]) -> Self {
        self.window.h = self.window.h.stride(height);
        self.window.w = self.window.w.stride(width);
        self
    }

    /// The same with a last, partial window where the windows do not cover the image exactly.
    #[must_use]
    pub const fn ceil(self) -> Self {
        Self { rounding: Rounding::Ceil, ..self }
    }

    fn problem(&self, input: Shape) -> Result<PoolShape, String> {
        if !(self.power > 0.0 && self.power.is_finite()) {
            return Err(format!("the power is {}, but must be larger than 0", self.power));
        }
        let Window { h, w } = self.window;
        if [h, w].iter().any(|axis| axis.dilation != 1 || [axis.pad_before, axis.pad_after] != [0, 0]) {
            return Err("L_p pooling has neither padding nor dilation; they must be 0 and 1".into());
        }
        pooling(&self.window, self.rounding, input)
    }

    /// The problem for inputs that [`output_shape`](LayerRules::output_shape) has accepted.
    fn accepted(&self, inputs: &[Shape]) -> PoolShape {
        self.problem(inputs[0]).expect("the input was accepted by output_shape")
    }
}

impl LayerRules for LpPool2d {
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
        Memory { keeps_inputs: true, keeps_output: true, ..Memory::default() }
    }

    fn forward<T: Real>(&self, pass: Forward<'_, T>) {
        let power = T::from_f64(self.power);
        lp_forward(pass.machine, &self.accepted(pass.input_shapes), power, pass.inputs[0], pass.output);
    }

    fn backward<T: Real>(&self, pass: Backward<'_, T>) {
        let problem = self.accepted(pass.input_shapes);
        if let Some(dx) = &mut pass.grad_inputs[0] {
            lp_backward(pass.machine, &problem, T::from_f64(self.power), pass.inputs[0], pass.output, pass.grad_output, dx);
        }
    }
}

impl LayerText for LpPool2d {
    const KIND: &'static str = "lppool";

    fn read(words: &mut Words<'_>) -> Result<Self, WordError> {
        let power = words.decimal("the power p")?;
        if power <= 0.0 {
            return Err(words.error_at_last("the power p must be larger than 0"));
        }
        let mut pool = Self::new(power, positive_pair(words, "the kernel")?);
        let mut options = Options::new(words);
        while !options.is_done() {
            if options.take("ceil")? {
                pool.rounding = Rounding::Ceil;
            } else if !options.take_stride(&mut pool.window)? {
                return Err(options.unknown(Self::KIND, "stride and ceil"));
            }
        }
        Ok(pool)
    }

    /// Only powers for which every signed input has a norm.
    fn examples() -> Vec<(Self, Vec<Shape>)> {
        vec![
            (Self::new(2.0, [2, 2]), vec![Shape::new(2, 2, 4, 6)]),
            (Self::new(2.0, [3, 2]).stride([2, 1]).ceil(), vec![Shape::new(1, 3, 6, 5)]),
            (Self::new(1.0, [2, 3]), vec![Shape::new(1, 2, 4, 6)]),
            (Self::new(4.0, [3, 3]).stride([1, 2]), vec![Shape::new(1, 8, 4, 4)]),
        ]
    }
}

impl fmt::Display for LpPool2d {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", Self::KIND, self.power)?;
        write_pooling(formatter, &self.window, self.rounding)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Layer, Word, single::Single};
    use super::*;

    fn read(text: &str) -> Result<LpPool2d, WordError> {
        let list: Vec<Word> =
            text.split(' ').enumerate().map(|(place, word)| Word { text: word.into(), offset: place, length: 1 }).collect();
        let mut words = Words::new(&list, list.len());
        assert!(words.take_all(LpPool2d::KIND));
        LpPool2d::read(&mut words)
    }

    #[test]
    fn a_window_of_zeros_has_norm_0_and_no_gradient() {
        let mut single = Single::<f64>::new(Layer::from(LpPool2d::new(2.0, [2, 2])), &[Shape::new(1, 1, 2, 2)], true).unwrap();
        assert_eq!(single.forward(&[vec![0.0; 4]], &[]), [0.0]);
        assert_eq!(single.backward(&[3.0]).inputs, [vec![0.0; 4]]);
    }

    #[test]
    fn the_power_is_a_positive_number() {
        assert_eq!(read("lppool 2.5 3x2 ceil stride 1").unwrap().to_string(), "lppool 2.5 3x2 stride 1 ceil");
        assert!(read("lppool 0 2").unwrap_err().message.contains("larger than 0"));
        assert!(LpPool2d::new(f64::NAN, [2, 2]).output_shape(&[Shape::new(1, 1, 4, 4)]).unwrap_err().contains("larger than 0"));
    }
}
