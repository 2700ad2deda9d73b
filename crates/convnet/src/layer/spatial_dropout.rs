//! Spatial dropout: in training every channel of every image becomes 0 as a whole with the probability P, the others are
//! divided by 1 − P.
//!
//! | | |
//! |---|---|
//! | input, output | N×C×H×W |
//! | training | y\[n, c\] = x\[n, c\]·m\[n, c\] / (1 − P), m = 0 with the probability P, else 1 |
//! | inference | y = x |
//! | gradient | dx\[n, c\] = dy\[n, c\]·m\[n, c\] / (1 − P) |
//!
//! Tompson et al. 2015, scaled as PyTorch's Dropout2d. Torch7's SpatialDropout differs: it did not scale in training, but
//! multiplied by 1 − P in inference.

use std::fmt;

use convnet_kernels::{Real, dropout, elementwise};

use super::dropout::read_share;
use super::{Backward, Forward, LayerRules, LayerText, Memory, Use, WordError, Words};
use crate::shape::Shape;

/// Drops whole channels of single images in training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpatialDropout {
    /// Probability that a channel becomes 0: at least 0, below 1.
    pub share: f64,
}

impl SpatialDropout {
    /// Dropout of this share of the channels.
    pub const fn new(share: f64) -> Self {
        Self { share }
    }
}

impl LayerRules for SpatialDropout {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        Ok(inputs[0])
    }

    fn memory<T: Real>(&self, inputs: &[Shape], usage: Use) -> Memory {
        let factors = inputs[0].n * inputs[0].c;
        Memory { forward_scratch: factors, backward_scratch: if usage.backward { factors } else { 0 }, in_place: true, ..Memory::default() }
    }

    fn forward<T: Real>(&self, pass: Forward<'_, T>) {
        let (x, shape) = (pass.inputs.first().copied(), pass.output_shape);
        if pass.training {
            let pixels = shape.pixels();
            dropout::spatial_dropout(pass.machine, self.share, pass.random, shape.c, pixels, x, pass.output, pass.scratch);
        } else if let Some(x) = x {
            elementwise::copy(pass.machine, x, pass.output);
        }
    }

    fn backward<T: Real>(&self, pass: Backward<'_, T>) {
        let (dy, shape) = (Some(pass.grad_output).filter(|dy| !dy.is_empty()), pass.output_shape);
        let [Some(dx)] = pass.grad_inputs else { return };
        if pass.training {
            let pixels = shape.pixels();
            dropout::spatial_dropout(pass.machine, self.share, pass.random, shape.c, pixels, dy, dx, pass.scratch);
        } else if let Some(dy) = dy {
            elementwise::copy(pass.machine, dy, dx);
        }
    }
}

impl LayerText for SpatialDropout {
    const KIND: &'static str = "spatial dropout";

    fn read(words: &mut Words<'_>) -> Result<Self, WordError> {
        Ok(Self::new(read_share(words)?))
    }

    fn examples() -> Vec<(Self, Vec<Shape>)> {
        [0.5, 0.2].map(|share| (Self::new(share), vec![Shape::new(3, 5, 2, 4)])).to_vec()
    }
}

impl fmt::Display for SpatialDropout {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", Self::KIND, self.share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::single::Single;

    #[test]
    fn a_channel_of_an_image_is_dropped_as_a_whole_or_not_at_all() {
        let shape = Shape::new(20, 30, 4, 5);
        let image = vec![3.0_f32; shape.count()];
        let mut training = Single::<f32>::new(SpatialDropout::new(0.25).into(), &[shape], true).unwrap();
        let output = training.forward(std::slice::from_ref(&image), &[]);
        let planes: Vec<f32> = output.chunks(20).map(|plane| plane[0]).collect();
        assert!(output.chunks(20).all(|plane| plane.iter().all(|&y| y == plane[0] && (y == 0.0 || y == 4.0))));
        let dropped = planes.iter().filter(|&&y| y == 0.0).count() as f64;
        // A quarter of 600, within five standard deviations.
        assert!((dropped - 150.0).abs() < 5.0 * (0.1875_f64 * 600.0).sqrt(), "{dropped}");
        let mut inference = Single::<f32>::new(SpatialDropout::new(0.25).into(), &[shape], false).unwrap();
        assert_eq!(inference.forward(std::slice::from_ref(&image), &[]), image);
    }
}
