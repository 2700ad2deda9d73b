//! The time of one pass of one layer: convolutions through their kernels, every layer through its own two passes.

use std::fmt;
use std::str::FromStr;

use convnet_kernels::conv::{ConvShape, Pass, choose};
use convnet_kernels::memory::Buffer;
use convnet_kernels::{Machine, Precision};
use serde::Serialize;

use super::convolution::ConvWork;
use super::{Bench, Limits, median, sample_places, value, values};
use crate::error::{Error, Result};
use crate::layer::relu::RectifierRule;
use crate::layer::{Backward, Direction, Forward, Initial, Layer, LayerRules, Memory, ParameterSpec, Prepare, Role, Use, Word, Words};
use crate::shape::Shape;
use crate::tensor::to_channels_last;

/// Convolutions that stand for many: the layers of VGG-16, ResNet-50 and MobileNetV2, and nets for small images.
pub const PROBLEMS: [&str; 14] = [
    "conv n1 c64 224x224 -> 64 w3 s1 p1",
    "conv n1 c256 56x56 -> 256 w3 s1 p1",
    "conv n1 c512 14x14 -> 512 w3 s1 p1",
    "conv n1 c3 224x224 -> 64 w7 s2 p3",
    "conv n1 c256 56x56 -> 64 w1 s1 p0",
    "conv n1 c1024 14x14 -> 256 w1 s1 p0",
    "conv n1 c128 56x56 -> 128 w3 s2 p1",
    "conv n1 c32 112x112 -> 32 w3 s1 p1 g32",
    "conv n1 c96 112x112 -> 96 w3 s2 p1 g96",
    "conv n128 c3 32x32 -> 64 w3 s1 p1",
    "conv n128 c64 32x32 -> 64 w3 s1 p1",
    "conv n64 c1 28x28 -> 32 w3 s1 p1",
    "conv n64 c32 28x28 -> 64 w3 s1 p1",
    "conv n64 c64 14x14 -> 64 w3 s1 p1",
];

/// The names of all passes: those of a convolution, and `backward`, all gradients at once, of any other layer.
pub const PASSES: [&str; 4] = ["forward", "backward", "backward_input", "backward_weight"];

/// What is measured: a convolution, `conv n1 c64 28x28 -> 64 w3 s1 p1`, or any layer of the network language on inputs of
/// one size N×C×H×W, `maxpool 3 stride 2 pad 1 @ 16x64x112x112`.
#[derive(Clone, Debug)]
pub enum Problem {
    /// One of a convolution's three passes, without the layer around it: no bias, weights packed beforehand.
    Conv(ConvShape),
    /// A layer in training, with as many inputs as it takes at least.
    Layer(Layer, Shape),
}

impl Problem {
    /// The passes that can be measured.
    pub fn passes(&self) -> &'static [&'static str] {
        match self {
            Self::Conv(_) => &["forward", "backward_input", "backward_weight"],
            Self::Layer(..) => &["forward", "backward"],
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conv(shape) => shape.fmt(formatter),
            Self::Layer(layer, shape) => write!(formatter, "{layer} @ {shape}"),
        }
    }
}

impl FromStr for Problem {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((layer, shape)) = text.split_once('@') else {
            return text.parse().map(Self::Conv).map_err(Error::Argument);
        };
        let wrong = |reason: String| Error::Argument(format!("'{text}': {reason}"));
        let sizes: Option<Vec<usize>> = shape.trim().split('x').map(|size| size.parse().ok()).collect();
        let Some(Ok([n, c, h, w])) = sizes.map(<[usize; 4]>::try_from) else {
            return Err(wrong(format!("'{}' is no size of a batch; expected NxCxHxW, as 16x64x112x112", shape.trim())));
        };
        let shape = Shape::new(n, c, h, w).check().map_err(wrong)?;
        let list: Vec<Word> = layer.split_whitespace().map(|word| Word { text: word.into(), offset: 0, length: word.len() }).collect();
        let mut words = Words::new(&list, layer.len());
        let layer = Layer::read(&mut words).map_err(|error| wrong(error.message))?;
        match words.peek() {
            Some(word) => Err(wrong(format!("'{word}' does not belong to the layer '{layer}'"))),
            None => Ok(Self::Layer(layer, shape)),
        }
    }
}

/// The time of one pass of one layer.
#[derive(Clone, Debug, Serialize)]
pub struct LayerTiming {
    /// The problem, as text that parses back.
    pub problem: String,
    /// One of [`PASSES`].
    pub pass: &'static str,
    /// Threads that worked.
    pub threads: usize,
    /// Median of the rounds.
    pub seconds: f64,
    /// Median seconds to pack the weights, which `seconds` does not contain; 0 where nothing is packed.
    pub pack_seconds: f64,
    /// 10⁹ floating-point operations per second, two for each multiplication with addition of the definition; 0 for layers
    /// that are not counted so.
    pub gflops: f64,
    /// Of the fused multiply-adds, or products of tiles, that the same threads do at best ([`Limits::gflops_of`]).
    pub percent_of_peak: f64,
    /// 10⁹ bytes per second: every number that is read or written, once.
    pub gigabytes_per_second: f64,
    /// Of the bytes that the same threads read from memory at best. More than 100 where the numbers stay in a cache.
    pub percent_of_bandwidth: f64,
    /// The algorithm that was chosen for a convolution, or the kind of the layer.
    pub algorithm: &'static str,
    /// Of the algorithm's products, or that the layer was asked for.
    pub precision: &'static str,
    /// Numbers of the result, evenly spaced in logical order: of the output, of the gradient of the (first) input, or of the
    /// gradient of the weights.
    pub sample: Vec<f32>,
}

/// One pass, ready to be measured.
#[derive(Debug)]
pub struct LayerBench {
    problem: String,
    pass: &'static str,
    limits: Limits,
    threads: usize,
    algorithm: &'static str,
    precision: Precision,
    macs: u64,
    bytes: u64,
    sample: Vec<f32>,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Conv(Box<ConvWork>),
    Layer(Box<LayerWork>),
}

impl LayerBench {
    /// Sets everything aside, and works once for the sample.
    ///
    /// # Errors
    /// The problem has no such pass, the layer cannot take the inputs, or the memory cannot be had.
    pub fn new(problem: &Problem, pass: &str, machine: &Machine, limits: Limits) -> Result<Self> {
        let passes = problem.passes();
        let Some(pass) = passes.iter().copied().find(|known| *known == pass) else {
            return Err(Error::Argument(format!("'{problem}' has no pass '{pass}'; it has {}", passes.join(", "))));
        };
        let mut bench = match problem {
            Problem::Conv(shape) => {
                let pass = Pass::ALL.into_iter().find(|known| known.name() == pass).unwrap_or(Pass::Forward);
                let work = ConvWork::new(shape, pass, choose::<f32>(shape, machine.means(), pass), machine)?;
                Self {
                    problem: problem.to_string(),
                    pass: pass.name(),
                    limits,
                    threads: machine.threads.count(),
                    algorithm: work.algorithm().name,
                    precision: work.algorithm().precision,
                    macs: shape.macs(),
                    bytes: 4 * (shape.input_len() + shape.weight_len() + shape.output_len()) as u64,
                    sample: Vec::new(),
                    work: Work::Conv(Box::new(work)),
                }
            }
            Problem::Layer(layer, shape) => {
                let work = LayerWork::new(layer, *shape, pass == "backward", machine)?;
                Self {
                    problem: problem.to_string(),
                    pass,
                    limits,
                    threads: machine.threads.count(),
                    algorithm: layer.kind(),
                    precision: machine.precision,
                    macs: layer.macs(&work.input_shapes) * if pass == "backward" { 2 } else { 1 },
                    bytes: work.bytes(),
                    sample: Vec::new(),
                    work: Work::Layer(Box::new(work)),
                }
            }
        };
        bench.sample = match &mut bench.work {
            Work::Conv(work) => work.first_sample(),
            Work::Layer(work) => work.first_sample(),
        };
        Ok(bench)
    }
}

impl Bench for LayerBench {
    type Timing = LayerTiming;

    fn measure(&mut self, rounds: usize) -> LayerTiming {
        let (seconds, pack_seconds) = match &mut self.work {
            Work::Conv(work) => (median(rounds, || work.run()), if work.packs() { median(3, || work.pack()) } else { 0.0 }),
            Work::Layer(work) => (median(rounds, || work.run()), 0.0),
        };
        let gflops = 2.0 * self.macs as f64 / seconds / 1e9;
        let gigabytes_per_second = self.bytes as f64 / seconds / 1e9;
        LayerTiming {
            problem: self.problem.clone(),
            pass: self.pass,
            threads: self.threads,
            seconds,
            pack_seconds,
            gflops,
            percent_of_peak: 100.0 * gflops / self.limits.gflops_of(self.precision),
            gigabytes_per_second,
            percent_of_bandwidth: 100.0 * gigabytes_per_second / self.limits.gigabytes_per_second,
            algorithm: self.algorithm,
            precision: self.precision.name(),
            sample: self.sample.clone(),
        }
    }
}

/// One pass of a layer with everything that a plan would set aside for it, channels last.
#[derive(Debug)]
struct LayerWork {
    machine: Machine,
    layer: Layer,
    backward: bool,
    input_shapes: Vec<Shape>,
    output_shape: Shape,
    memory: Memory,
    parameters: Vec<Buffer<f32>>,
    prepared: [Buffer<f32>; 2],
    inputs: Vec<Buffer<f32>>,
    output: Buffer<f32>,
    saved: Buffer<f32>,
    saved_indices: Buffer<u32>,
    scratch: Buffer<f32>,
    grad_output: Buffer<f32>,
    grad_inputs: Vec<Buffer<f32>>,
    grad_parameters: Vec<Buffer<f32>>,
}

impl LayerWork {
    fn new(layer: &Layer, input: Shape, backward: bool, machine: &Machine) -> Result<Self> {
        let input_shapes = vec![input; layer.arity().0];
        let refused = |reason: String| Error::Shape(format!("layer '{layer}': {reason}"));
        let output_shape = layer.output_shape(&input_shapes).map_err(refused)?;
        let specs = layer.parameters(&input_shapes);
        let memory = layer.memory::<f32>(
            &input_shapes,
            Use { means: machine.means(), backward: true, input_gradient: true, flattened: None, relu: false },
        );
        let trained = specs.iter().filter(|spec| spec.role != Role::Buffer);
        let mut work = Self {
            machine: machine.clone(),
            layer: layer.clone(),
            backward,
            output_shape,
            memory,
            parameters: (16..).zip(&specs).map(|(stream, spec)| parameter(stream, spec)).collect::<Result<_>>()?,
            prepared: [Buffer::zeros(memory.prepared_forward)?, Buffer::zeros(memory.prepared_backward)?],
            inputs: (0..).zip(&input_shapes).map(|(stream, shape)| stored(stream, *shape)).collect::<Result<_>>()?,
            output: Buffer::zeros(output_shape.count())?,
            saved: Buffer::zeros(memory.saved)?,
            saved_indices: Buffer::zeros(memory.saved_indices)?,
            scratch: Buffer::zeros(memory.forward_scratch.max(memory.backward_scratch))?,
            grad_output: if backward { stored(32, output_shape)? } else { Buffer::zeros(0)? },
            grad_inputs: input_shapes
                .iter()
                .map(|shape| Buffer::zeros(if backward { shape.count() } else { 0 }))
                .collect::<Result<_, _>>()?,
            grad_parameters: trained.map(|spec| Buffer::zeros(spec.count())).collect::<Result<_, _>>()?,
            input_shapes,
        };
        let parameters: Vec<&[f32]> = work.parameters.iter().map(|values| &**values).collect();
        for (direction, prepared) in [Direction::Forward, Direction::Backward].into_iter().zip(&mut work.prepared) {
            layer.prepare(Prepare {
                machine,
                direction,
                input_shapes: &work.input_shapes,
                flattened: None,
                parameters: &parameters,
                prepared,
            });
        }
        Ok(work)
    }

    /// Bytes that the pass has to read and write, each once.
    fn bytes(&self) -> u64 {
        let inputs: usize = self.input_shapes.iter().map(Shape::count).sum();
        let kept = |keeps: bool, numbers: usize| if keeps { numbers } else { 0 };
        let numbers = if self.backward {
            let read =
                kept(self.memory.keeps_inputs, inputs) + kept(self.memory.keeps_output, self.output.len()) + self.saved_indices.len();
            read + self.grad_output.len() + inputs
        } else {
            inputs + self.output.len() + self.saved_indices.len()
        };
        4 * numbers as u64
    }

    fn run(&mut self) {
        if self.backward { self.run_backward() } else { self.run_forward() }
    }

    fn run_forward(&mut self) {
        self.layer.forward(Forward {
            machine: &self.machine,
            training: true,
            input_gradient: true,
            random: 1,
            input_shapes: &self.input_shapes,
            output_shape: self.output_shape,
            flattened: None,
            inputs: &self.inputs.iter().map(|values| &**values).collect::<Vec<_>>(),
            parameters: &self.parameters.iter().map(|values| &**values).collect::<Vec<_>>(),
            prepared: &self.prepared[0],
            residual: None,
            relu: false,
            output: &mut self.output,
            saved: &mut self.saved,
            saved_indices: &mut self.saved_indices,
            scratch: &mut self.scratch[..self.memory.forward_scratch],
        });
    }

    fn run_backward(&mut self) {
        let inputs: Vec<&[f32]> = if self.memory.keeps_inputs { self.inputs.iter().map(|values| &**values).collect() } else { Vec::new() };
        self.layer.backward(Backward {
            machine: &self.machine,
            training: true,
            random: 1,
            input_shapes: &self.input_shapes,
            output_shape: self.output_shape,
            flattened: None,
            inputs: &inputs,
            output: if self.memory.keeps_output { &self.output } else { &[] },
            parameters: &self.parameters.iter().map(|values| &**values).collect::<Vec<_>>(),
            prepared: &self.prepared[1],
            saved: &self.saved,
            saved_indices: &self.saved_indices,
            relu: false,
            rectifier: RectifierRule::Gradient,
            grad_output: &self.grad_output,
            grad_inputs: &mut self.grad_inputs.iter_mut().map(|gradient| Some(&mut **gradient)).collect::<Vec<_>>(),
            grad_parameters: &mut self.grad_parameters.iter_mut().map(|gradient| &mut **gradient).collect::<Vec<_>>(),
            scratch: &mut self.scratch[..self.memory.backward_scratch],
        });
    }

    fn first_sample(&mut self) -> Vec<f32> {
        self.run_forward();
        match (self.backward, self.grad_inputs.is_empty()) {
            (true, false) => {
                self.run_backward();
                stored_sample(self.input_shapes[0], &self.grad_inputs[0])
            }
            _ => stored_sample(self.output_shape, &self.output),
        }
    }
}

/// A stream of [`value`]s over a shape, channels last.
pub(super) fn stored(stream: u32, shape: Shape) -> Result<Buffer<f32>> {
    let logical = values(stream, shape.count())?;
    let mut stored = Buffer::zeros(shape.count())?;
    to_channels_last(shape, &logical, &mut stored);
    Ok(stored)
}

/// The sample of numbers that lie channels last.
pub(super) fn stored_sample(shape: Shape, stored: &[f32]) -> Vec<f32> {
    let place = |logical: usize| {
        let (image, within) = (logical / shape.image(), logical % shape.image());
        image * shape.image() + within % shape.pixels() * shape.c + within / shape.pixels()
    };
    sample_places(shape.count()).filter_map(|logical| stored.get(place(logical)).copied()).collect()
}

/// A parameter of a layer: [`value`]s, halved around 1 for those that begin above 0, such as scales.
pub(super) fn parameter(stream: u32, spec: &ParameterSpec) -> Result<Buffer<f32>> {
    let mut values = Buffer::zeros(spec.count())?;
    let around_one = matches!(spec.initial, Initial::Constant(constant) if constant > 0.0);
    for (place, number) in values.iter_mut().enumerate() {
        let value = value(stream, place);
        *number = if around_one { 1.0 + value / 2.0 } else { value };
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use convnet_kernels::Isa;

    use super::super::sample;
    use super::*;
    use crate::layer::single::Single;

    const LIMITS: Limits = Limits { gflops: 1.0, tile_gflops: None, gigabytes_per_second: 1.0 };

    fn machine() -> Machine {
        Machine::new(Isa::detect(), 1)
    }

    fn timing(problem: &str, pass: &str) -> LayerTiming {
        LayerBench::new(&problem.parse().unwrap(), pass, &machine(), LIMITS).unwrap().measure(2)
    }

    #[test]
    fn problems_print_what_parses_back() {
        for text in ["conv n2 c8 9x7 -> 4 w3x5 s2 p1 g2", "maxpool 3 stride 2 pad 1 @ 2x4x9x9", "add @ 1x2x3x4"] {
            assert_eq!(text.parse::<Problem>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_problem_is_refused_with_the_reason() {
        let refused = |text: &str| text.parse::<Problem>().unwrap_err().to_string();
        assert!(refused("relu @ 1x2x3").contains("NxCxHxW"));
        assert!(refused("relu @ 1x0x3x3").contains("at least 1"));
        assert!(refused("relo @ 1x2x3x3").contains("'relo' is not a layer"));
        assert!(refused("relu 7 @ 1x2x3x3").contains("'7' does not belong"));
        assert!(refused("relu").contains("conv n1"));
        let error = LayerBench::new(&"relu @ 1x2x3x3".parse().unwrap(), "backward_weight", &machine(), LIMITS).unwrap_err();
        assert!(error.to_string().contains("forward, backward"), "{error}");
        let error = LayerBench::new(&"maxpool 5 @ 1x2x3x3".parse().unwrap(), "forward", &machine(), LIMITS).unwrap_err();
        assert!(error.to_string().contains("maxpool 5"), "{error}");
    }

    #[test]
    fn more_memory_than_there_is_is_an_error() {
        let problem: Problem = "relu @ 1000000x1000x1000x100".parse().unwrap();
        let error = LayerBench::new(&problem, "forward", &machine(), LIMITS).unwrap_err().to_string();
        assert!(error.contains("MiB"), "{error}");
    }

    #[test]
    fn samples_are_the_numbers_of_the_layer_alone() {
        for text in ["maxpool 3 stride 2 pad 1 @ 2x5x9x8", "bn @ 3x4x5x5", "softmax @ 4x7x1x1", "add @ 2x3x4x4"] {
            let Problem::Layer(layer, shape) = text.parse().unwrap() else { panic!("{text}") };
            let shapes = vec![shape; layer.arity().0];
            let mut single = Single::<f32>::new(layer, &shapes, true).unwrap();
            let inputs: Vec<Vec<f32>> = (0..).zip(&shapes).map(|(stream, shape)| values(stream, shape.count()).unwrap().to_vec()).collect();
            let specs = single.specs().to_vec();
            let parameters: Vec<Vec<f32>> = (16..).zip(&specs).map(|(stream, spec)| parameter(stream, spec).unwrap().to_vec()).collect();
            let output = single.forward(&inputs, &parameters);
            let gradients = single.backward(&values(32, output.len()).unwrap());
            assert_eq!(timing(text, "forward").sample, sample(&output), "{text}");
            assert_eq!(timing(text, "backward").sample, sample(&gradients.inputs[0]), "{text}");
        }
    }

    #[test]
    fn the_sample_of_a_convolution_is_its_definition() {
        let forward = timing("conv n1 c2 3x3 -> 2 w2 s1 p0", "forward");
        let at = |k: usize, y: usize, x: usize| -> f32 {
            let taps = (0..2).flat_map(|c| (0..2).flat_map(move |r| (0..2).map(move |s| (c, r, s))));
            taps.map(|(c, r, s)| value(0, (c * 3 + y + r) * 3 + x + s) * value(16, ((k * 2 + c) * 2 + r) * 2 + s)).sum()
        };
        assert!((forward.sample[0] - at(0, 0, 0)).abs() < 1e-6 && (forward.sample[15] - at(1, 1, 1)).abs() < 1e-6);
        let weight = timing("conv n1 c2 3x3 -> 2 w2 s1 p0", "backward_weight");
        let last: f32 = (0..4).map(|place| value(0, (3 + 1 + place / 2) * 3 + 1 + place % 2) * value(32, 4 + place)).sum();
        assert!((weight.sample[15] - last).abs() < 1e-6, "{weight:?} {last}");
    }

    #[test]
    fn the_rates_are_operations_and_bytes_by_seconds() {
        let conv = timing("conv n1 c2 8x8 -> 4 w1 s1 p0", "forward");
        assert!((conv.gflops * conv.seconds * 1e9 - 2.0 * 512.0).abs() < 1e-3);
        assert!((conv.gigabytes_per_second * conv.seconds * 1e9 - 4.0 * (128.0 + 8.0 + 256.0)).abs() < 1e-3);
        let forward = timing("relu @ 1x2x8x8", "forward");
        assert!((forward.gigabytes_per_second * forward.seconds * 1e9 - 4.0 * 256.0).abs() < 1e-3 && forward.gflops == 0.0);
    }
}
