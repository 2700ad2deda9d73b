//! Dropout: in training every number becomes 0 with the probability P, the others are divided by 1 − P.
//!
//! | | |
//! |---|---|
//! | input, output | N×C×H×W |
//! | training | y = x·m / (1 − P), m = 0 with the probability P, else 1, for each number on its own |
//! | inference | y = x |
//! | gradient | dx = dy·m / (1 − P) |
//!
//! Srivastava et al. 2014, scaled in training as in PyTorch and Torch7, so that inference has nothing to do. m is a
//! function of the step's random address and of the number's place in N×H×W×C: backward makes it again, nothing is kept.

use std::fmt;

use convnet_kernels::{Real, dropout, elementwise};

use super::{Backward, Forward, LayerRules, LayerText, Memory, Use, WordError, Words};
use crate::shape::Shape;

/// Drops single numbers in training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability that a number becomes 0: at least 0, below 1.
    pub share: f64,
}

impl Dropout {
    /// Dropout of this share.
    pub const fn new(share: f64) -> Self {
        Self { share }
    }
}

/// Reads a probability that is at least 0 and below 1.
pub(super) fn read_share(words: &mut Words<'_>) -> Result<f64, WordError> {
    let share = words.decimal("the share that is dropped")?;
    if (0.0..1.0).contains(&share) {
        Ok(share)
    } else {
        Err(words.error_at_last(format!("a share of {share} cannot be dropped; it must be at least 0 and below 1, as 0.5")))
    }
}

impl LayerRules for Dropout {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        Ok(inputs[0])
    }

    fn memory<T: Real>(&self, _: &[Shape], _: Use) -> Memory {
        Memory { in_place: true, ..Memory::default() }
    }

    fn forward<T: Real>(&self, pass: Forward<'_, T>) {
        let x = pass.inputs.first().copied();
        if pass.training {
            dropout::dropout(pass.machine, self.share, pass.random, x, pass.output);
        } else if let Some(x) = x {
            elementwise::copy(pass.machine, x, pass.output);
        }
    }

    fn backward<T: Real>(&self, pass: Backward<'_, T>) {
        let dy = Some(pass.grad_output).filter(|dy| !dy.is_empty());
        let [Some(dx)] = pass.grad_inputs else { return };
        if pass.training {
            dropout::dropout(pass.machine, self.share, pass.random, dy, dx);
        } else if let Some(dy) = dy {
            elementwise::copy(pass.machine, dy, dx);
        }
    }
}

impl LayerText for Dropout {
    const KIND: &'static str = "dropout";

    fn read(words: &mut Words<'_>) -> Result<Self, WordError> {
        Ok(Self::new(read_share(words)?))
    }

    fn examples() -> Vec<(Self, Vec<Shape>)> {
        [0.5, 0.2, 0.0].map(|share| (Self::new(share), vec![Shape::new(2, 3, 4, 5)])).to_vec()
    }
}

impl fmt::Display for Dropout {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", Self::KIND, self.share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::single::Single;

    #[test]
    fn training_drops_and_scales_inference_does_nothing() {
        let shape = Shape::new(4, 10, 20, 20);
        let image = vec![3.0_f32; shape.count()];
        let mut training = Single::<f32>::new(Dropout::new(0.25).into(), &[shape], true).unwrap();
        let output = training.forward(std::slice::from_ref(&image), &[]);
        assert!(output.iter().all(|&y| y == 0.0 || y == 4.0));
        let share = output.iter().filter(|&&y| y == 0.0).count() as f64 / output.len() as f64;
        // Five standard deviations.
        assert!((share - 0.25).abs() < 5.0 * (0.1875 / output.len() as f64).sqrt(), "{share}");
        let mut inference = Single::<f32>::new(Dropout::new(0.25).into(), &[shape], false).unwrap();
        assert_eq!(inference.forward(std::slice::from_ref(&image), &[]), image);
    }

    #[test]
    fn a_share_of_everything_is_refused() {
        for share in ["1", "-0.1", "1.5"] {
            let list = [super::super::Word { text: share.into(), offset: 8, length: share.len() }];
            let error = Dropout::read(&mut Words::new(&list, 20)).unwrap_err();
            assert!(error.message.contains("below 1") && error.offset == 8, "{error:?}");
        }
    }
}
