//! Batch normalisation: every channel is brought to mean 0 and variance 1 over the batch, then scaled and shifted.
//!
//! ```text
//! y[n, c, h, w] = weight[c] · (x[n, c, h, w] − mean[c]) / √(var[c] + eps) + bias[c]
//! ```
//!
//! | | |
//! |---|---|
//! | input, output | N×C×H×W |
//! | weight, bias | C; at first 1 and 0 (Torch7 drew the weights from 0 to 1) |
//! | running_mean, running_var | C, buffers; at first 0 and 1 |
//! | training | mean and var over N, H, W; var divides by N·H·W |
//! | inference | mean and var are the running ones |
//! | after a step | running ← (1 − momentum) · running + momentum · batch, with the unbiased variance, by N·H·W − 1 |
//! | gradients | dbias = Σ dy, dweight = Σ dy·x̂, dx = weight/√(var + eps) · (dy − dbias/m − x̂·dweight/m), m = N·H·W |
//!
//! Ioffe and Szegedy 2015; the momentum is PyTorch's and Torch7's, the share of the *new* value. With a single value per
//! channel (N·H·W = 1) there is no variance: training then uses the running statistics and leaves them as they are, as
//! Torch7 does; PyTorch refuses.

use std::fmt;

use convnet_kernels::Real;
use convnet_kernels::norm::batch::{self, BatchNorm, STATISTICS};

use super::windowed::Options;
use super::{Backward, Forward, Initial, LayerRules, LayerText, Memory, ParameterSpec, Role, Use, WordError, Words};
use crate::shape::Shape;

/// Every channel with mean 0 and variance 1 over the batch, times a weight, plus a bias.
///
/// ```
/// use convnet::layer::{LayerRules, batch_norm2d::BatchNorm2d};
/// use convnet::shape::Shape;
/// let bn = BatchNorm2d::default();
/// assert_eq!(bn.to_string(), "bn");
/// assert_eq!(bn.formula(&[Shape::new(1, 64, 8, 8)]).as_deref(), Some("2·64"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm2d {
    /// Added to the variance.
    pub epsilon: f64,
    /// Share of the batch in the new running statistics.
    pub momentum: f64,
    /// Whether there are a weight and a bias.
    pub affine: bool,
}

impl Default for BatchNorm2d {
    fn default() -> Self {
        Self { epsilon: 1e-5, momentum: 0.1, affine: true }
    }
}

/// What a pass normalises with: the problem, the affine parameters and the running statistics.
struct Parts<'a, T> {
    norm: BatchNorm,
    affine: Option<[&'a [T]; 2]>,
    running: [&'a [T]; 2],
}

impl BatchNorm2d {
    fn norm(&self, input: Shape) -> BatchNorm {
        BatchNorm { rows: input.n * input.pixels(), channels: input.c, epsilon: self.epsilon }
    }

    fn parts<'a, T>(&self, inputs: &[Shape], parameters: &[&'a [T]]) -> Parts<'a, T> {
        let norm = self.norm(inputs[0]);
        match *parameters {
            [weight, bias, mean, variance] => Parts { norm, affine: Some([weight, bias]), running: [mean, variance] },
            [mean, variance] => Parts { norm, affine: None, running: [mean, variance] },
            _ => unreachable!("the parameters are those that the layer has asked for"),
        }
    }
}

/// Whether the statistics are those of the batch: there must be more than one value to have a variance.
fn of_batch(training: bool, norm: BatchNorm) -> bool {
    training && norm.rows > 1
}

impl LayerRules for BatchNorm2d {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        Ok(inputs[0])
    }

    fn parameters(&self, inputs: &[Shape]) -> Vec<ParameterSpec> {
        let spec = |name, role, value| ParameterSpec { name, sizes: vec![inputs[0].c], role, initial: Initial::Constant(value) };
        let affine = [spec("weight", Role::Scale, 1.0), spec("bias", Role::Bias, 0.0)];
        let running = [spec("running_mean", Role::Buffer, 0.0), spec("running_var", Role::Buffer, 1.0)];
        affine.into_iter().filter(|_| self.affine).chain(running).collect()
    }

    fn formula(&self, inputs: &[Shape]) -> Option<String> {
        self.affine.then(|| format!("2·{}", inputs[0].c))
    }

    fn takes_epilogue(&self) -> bool {
        true
    }

    fn memory<T: Real>(&self, inputs: &[Shape], usage: Use) -> Memory {
        let norm = self.norm(inputs[0]);
        let statistics = STATISTICS * norm.channels;
        let memory = Memory { forward_scratch: statistics + norm.forward_scratch(), in_place: true, ..Memory::default() };
        // Without parameters, and with none before it, a training step has no backward here, but batch statistics all the same.
        if !usage.backward && self.affine {
            return memory;
        }
        Memory {
            saved: statistics,
            forward_scratch: memory.forward_scratch.max(norm.statistics_scratch()),
            backward_scratch: if usage.backward { statistics + norm.backward_scratch() } else { 0 },
            keeps_inputs: usage.backward,
            ..memory
        }
    }

    fn forward<T: Real>(&self, pass: Forward<'_, T>) {
        let Parts { norm, affine, running: [mean, variance] } = self.parts(pass.input_shapes, pass.parameters);
        let x = pass.inputs.first().copied();
        let of_batch = of_batch(pass.training, norm);
        if of_batch {
            norm.batch_statistics(pass.machine, x.unwrap_or(&*pass.output), pass.saved, pass.scratch);
        }
        let (own, scratch) = pass.scratch.split_at_mut(STATISTICS * norm.channels);
        let statistics = if of_batch {
            &*pass.saved
        } else {
            norm.running_statistics(mean, variance, own);
            &*own
        };
        let (residual, relu, y) = (pass.residual, pass.relu, pass.output);
        norm.forward(pass.machine, batch::Forward { x, statistics, affine, residual, relu, y, scratch });
    }

    fn backward<T: Real>(&self, pass: Backward<'_, T>) {
        let Parts { norm, affine, running: [mean, variance] } = self.parts(pass.input_shapes, pass.parameters);
        let (own, scratch) = pass.scratch.split_at_mut(STATISTICS * norm.channels);
        let of_batch = of_batch(pass.training, norm);
        let statistics = if of_batch {
            pass.saved
        } else {
            norm.running_statistics(mean, variance, own);
            &*own
        };
        let daffine = match pass.grad_parameters {
            [weight, bias] => Some([&mut **weight, &mut **bias]),
            _ => None,
        };
        norm.backward(
            pass.machine,
            batch::Backward {
                x: pass.inputs[0],
                dy: (!pass.grad_output.is_empty()).then_some(pass.grad_output),
                relu: pass.relu,
                statistics,
                of_batch,
                affine,
                dx: pass.grad_inputs.first_mut().and_then(Option::take),
                daffine,
                scratch,
            },
        );
    }

    fn update_buffers<T: Real>(&self, inputs: &[Shape], saved: &[T], buffers: &mut [&mut [T]]) {
        let norm = self.norm(inputs[0]);
        if !of_batch(true, norm) {
            return;
        }
        let [running_mean, running_var] = buffers else { return };
        let unbiased = norm.rows as f64 / (norm.rows - 1) as f64;
        let mix = |running: &mut T, batch: f64| *running = T::from_f64((1.0 - self.momentum) * running.to_f64() + self.momentum * batch);
        for (running, mean) in running_mean.iter_mut().zip(batch::means(saved, norm.channels)) {
            mix(running, mean);
        }
        for (running, variance) in running_var.iter_mut().zip(batch::variances(saved, norm.channels)) {
            mix(running, unbiased * variance);
        }
    }
}

impl LayerText for BatchNorm2d {
    const KIND: &'static str = "bn";

    fn read(words: &mut Words<'_>) -> Result<Self, WordError> {
        let mut bn = Self::default();
        let mut options = Options::new(words);
        while !options.is_done() {
            if options.take("eps")? {
                bn.epsilon = options.words().decimal("eps")?;
                if bn.epsilon <= 0.0 {
                    return Err(options.words().error_at_last("eps must be above 0; 1e-5 is usual"));
                }
            } else if options.take("momentum")? {
                bn.momentum = options.words().decimal("the momentum")?;
                if !(0.0..=1.0).contains(&bn.momentum) {
                    let message = "the momentum, the share of the new batch in the running statistics, is from 0 to 1; 0.1 is usual";
                    return Err(options.words().error_at_last(message));
                }
            } else if options.take("no affine")? {
                bn.affine = false;
            } else {
                return Err(options.unknown(Self::KIND, "eps, momentum, no affine"));
            }
        }
        Ok(bn)
    }

    fn examples() -> Vec<(Self, Vec<Shape>)> {
        let usual = Self::default();
        vec![
            (usual, vec![Shape::new(2, 3, 3, 4)]),
            (usual, vec![Shape::new(5, 4, 1, 1)]),
            (usual, vec![Shape::new(1, 5, 1, 1)]),
            (Self { epsilon: 1e-3, momentum: 0.3, ..usual }, vec![Shape::new(3, 2, 2, 2)]),
            (Self { affine: false, ..usual }, vec![Shape::new(2, 2, 4, 3)]),
        ]
    }
}

impl fmt::Display for BatchNorm2d {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = Self::default();
        formatter.write_str(Self::KIND)?;
        if self.epsilon != usual.epsilon {
            write!(formatter, " eps {}", self.epsilon)?;
        }
        if self.momentum != usual.momentum {
            write!(formatter, " momentum {}", self.momentum)?;
        }
        if self.affine { Ok(()) } else { formatter.write_str(" no affine") }
    }
}

#[cfg(test)]
mod tests {
    use convnet_kernels::{Isa, Machine};

    use super::*;
    use crate::layer::single::Single;

    const CHANNELS: usize = 3;
    const SHAPE: Shape = Shape::new(4, CHANNELS, 5, 6);

    /// Channel c has the mean 10·c and a deviation of some c + 1.
    fn image() -> Vec<f32> {
        let pixels = SHAPE.pixels();
        (0..SHAPE.count())
            .map(|place| {
                let c = (place / pixels % CHANNELS) as f32;
                10.0 * c + (c + 1.0) * ((place * 37 % 101) as f32 / 50.0 - 1.0)
            })
            .collect()
    }

    fn channel(values: &[f32], c: usize) -> Vec<f64> {
        values.chunks(SHAPE.pixels()).skip(c).step_by(CHANNELS).flatten().map(|&value| f64::from(value)).collect()
    }

    fn mean_and_variance(values: &[f64]) -> (f64, f64) {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64)
    }

    fn ones_and_zeros() -> Vec<Vec<f32>> {
        [1.0, 0.0, 0.0, 1.0].map(|value| vec![value; CHANNELS]).to_vec()
    }

    #[test]
    fn in_training_every_channel_gets_mean_0_and_variance_1() {
        let mut bn = Single::<f32>::new(BatchNorm2d::default().into(), &[SHAPE], true).unwrap();
        let output = bn.forward(&[image()], &ones_and_zeros());
        for c in 0..CHANNELS {
            let (mean, variance) = mean_and_variance(&channel(&output, c));
            assert!(mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-4, "channel {c}: {mean}, {variance}");
        }
    }

    #[test]
    fn the_running_statistics_take_in_the_unbiased_variance() {
        let mut bn = Single::<f32>::new(BatchNorm2d { momentum: 0.25, ..BatchNorm2d::default() }.into(), &[SHAPE], true).unwrap();
        bn.forward(&[image()], &ones_and_zeros());
        let (mut running_mean, mut running_var) = ([1.0_f32; CHANNELS], [2.0_f32; CHANNELS]);
        bn.update_buffers(&mut [&mut running_mean, &mut running_var]);
        for c in 0..CHANNELS {
            let values = channel(&image(), c);
            let (mean, variance) = mean_and_variance(&values);
            let unbiased = variance * values.len() as f64 / (values.len() - 1) as f64;
            assert!((f64::from(running_mean[c]) - (0.75 + 0.25 * mean)).abs() < 1e-5);
            assert!((f64::from(running_var[c]) - (1.5 + 0.25 * unbiased)).abs() < 1e-5);
        }
    }

    #[test]
    fn a_single_value_per_channel_uses_and_keeps_the_running_statistics() {
        let shape = Shape::new(1, 2, 1, 1);
        let parameters = [[1.0, 1.0], [0.0, 0.5], [3.0, -1.0], [4.0, 1.0]].map(|values| values.to_vec());
        let outputs = [true, false].map(|training| {
            let mut bn = Single::<f64>::new(BatchNorm2d { epsilon: 1e-300, ..BatchNorm2d::default() }.into(), &[shape], training).unwrap();
            let output = bn.forward(&[vec![7.0, 0.0]], &parameters);
            let (mut mean, mut variance) = ([3.0, -1.0], [4.0, 1.0]);
            bn.update_buffers(&mut [&mut mean, &mut variance]);
            assert_eq!((mean, variance), ([3.0, -1.0], [4.0, 1.0]));
            output
        });
        assert_eq!(outputs, [vec![2.0, 1.5], vec![2.0, 1.5]]);
    }

    /// The output of a plan without backward: in place, channels last.
    fn in_place(bn: BatchNorm2d, training: bool, x: &[f64], residual: Option<&[f64]>, relu: bool) -> Vec<f64> {
        let (machine, shape) = (Machine::new(Isa::detect(), 2), Shape::new(2, 2, 2, 2));
        let memory = bn.memory::<f64>(&[shape], Use { means: machine.means(), backward: false, input_gradient: false, flattened: None, relu: false });
        let mut output = x.to_vec();
        bn.forward(Forward {
            machine: &machine,
            training,
            input_gradient: false,
            random: 0,
            input_shapes: &[shape],
            output_shape: shape,
            flattened: None,
            inputs: &[],
            parameters: &[&[8.0, 7.0], &[4.0, 9.0]],
            prepared: &[],
            residual,
            relu,
            output: &mut output,
            saved: &mut vec![f64::NAN; memory.saved],
            saved_indices: &mut [],
            scratch: &mut vec![f64::NAN; memory.forward_scratch],
        });
        output
    }

    #[test]
    fn the_epilogue_adds_the_residual_and_then_cuts_off_what_is_negative() {
        let bn = BatchNorm2d { affine: false, ..BatchNorm2d::default() };
        let x: Vec<f64> = (0..16).map(|place| f64::from(place * 7 % 16)).collect();
        let residual: Vec<f64> = (0..16).map(|place| f64::from(place % 3) - 1.0).collect();
        let (plain, fused) = (in_place(bn, false, &x, None, false), in_place(bn, false, &x, Some(&residual), true));
        for ((plain, residual), fused) in plain.iter().zip(&residual).zip(fused) {
            assert_eq!(fused, (plain + residual).max(0.0));
        }
    }

    #[test]
    fn a_training_step_without_backward_still_takes_the_statistics_of_the_batch() {
        let bn = BatchNorm2d { affine: false, epsilon: 1e-12, ..BatchNorm2d::default() };
        let x: Vec<f64> = (0..16).map(|place| f64::from(place * 7 % 16)).collect();
        let output = in_place(bn, true, &x, None, false);
        for channel in 0..2 {
            let values: Vec<f64> = output.iter().skip(channel).step_by(2).copied().collect();
            let (mean, variance) = mean_and_variance(&values);
            assert!(mean.abs() < 1e-12 && (variance - 1.0).abs() < 1e-9, "{mean} {variance}");
        }
    }

    #[test]
    fn impossible_settings_are_refused_with_what_is_usual() {
        for (text, expected) in
            [("eps 0", "1e-5"), ("momentum 1.5", "0.1"), ("eps", "missing"), ("affine", "no option 'affine'"), ("eps 1 eps 1", "twice")]
        {
            let list: Vec<_> = text.split(' ').map(|word| super::super::Word { text: word.into(), offset: 0, length: 0 }).collect();
            let error = BatchNorm2d::read(&mut Words::new(&list, 0)).unwrap_err();
            assert!(error.message.contains(expected), "{text}: {}", error.message);
        }
    }
}
