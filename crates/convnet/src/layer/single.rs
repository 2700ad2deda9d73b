//! One layer alone: given inputs and parameters in logical order, its outputs and gradients. For tests, gradient checks
//! and those who write a layer.
//!
//! ```
//! use convnet::layer::{Layer, relu::Relu, single::Single};
//! use convnet::shape::Shape;
//! let mut relu = Single::<f64>::new(Layer::from(Relu), &[Shape::new(1, 1, 1, 3)], true)?;
//! assert_eq!(relu.forward(&[vec![-1.0, 0.0, 2.0]], &[]), [0.0, 0.0, 2.0]);
//! # Ok::<(), convnet::Error>(())
//! ```

use convnet_kernels::{Isa, Machine, Real};

use super::relu::RectifierRule;
use super::{Backward, Direction, Forward, Initial, Layer, LayerRules, Memory, ParameterSpec, Prepare, Role, Use};
use crate::error::{Error, Result};
use crate::random::{Address, Purpose, Random};
use crate::shape::Shape;
use crate::tensor::{from_channels_last, to_channels_last};

/// The largest difference between a gradient and its central difference that passes, relative to the larger of the
/// gradient and 1: that of Torch's and PyTorch's checks.
pub const GRADIENT_TOLERANCE: f64 = 1e-5;

/// Half the distance between the two values of a central difference, in `f64`.
const STEP: f64 = 1e-6;

/// A layer with everything that a plan would set aside for it.
#[derive(Debug)]
pub struct Single<T> {
    layer: Layer,
    machine: Machine,
    input_shapes: Vec<Shape>,
    output_shape: Shape,
    specs: Vec<ParameterSpec>,
    memory: Memory,
    training: bool,
    parameters: Vec<Vec<T>>,
    prepared: [Vec<T>; 2],
    inputs: Vec<Vec<T>>,
    output: Vec<T>,
    saved: Vec<T>,
    saved_indices: Vec<u32>,
}

/// The gradients of one layer, in logical order.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<T> {
    /// One for each input.
    pub inputs: Vec<Vec<T>>,
    /// One for each parameter that is not a buffer.
    pub parameters: Vec<Vec<T>>,
}

impl<T: Real> Single<T> {
    /// Sets everything aside, for one thread and this computer's best instructions.
    ///
    /// # Errors
    /// The layer cannot take these inputs.
    pub fn new(layer: Layer, input_shapes: &[Shape], training: bool) -> Result<Self> {
        Self::on(Machine::new(Isa::detect(), 1), layer, input_shapes, training)
    }

    /// As [`new`](Self::new), on this machine.
    ///
    /// # Errors
    /// The layer cannot take these inputs.
    pub fn on(machine: Machine, layer: Layer, input_shapes: &[Shape], training: bool) -> Result<Self> {
        let output_shape = layer.output_shape(input_shapes).map_err(|reason| Error::Shape(format!("layer '{layer}': {reason}")))?;
        let specs = layer.parameters(input_shapes);
        let memory = layer
            .memory::<T>(input_shapes, Use { means: machine.means(), backward: true, input_gradient: true, flattened: None, relu: false });
        Ok(Self {
            machine,
            input_shapes: input_shapes.to_vec(),
            output_shape,
            memory,
            training,
            parameters: specs.iter().map(|spec| vec![T::ZERO; spec.count()]).collect(),
            specs,
            prepared: [memory.prepared_forward, memory.prepared_backward].map(|count| vec![T::ZERO; count]),
            inputs: input_shapes.iter().map(|shape| vec![T::ZERO; shape.count()]).collect(),
            output: vec![T::ZERO; output_shape.count()],
            saved: vec![T::ZERO; memory.saved],
            saved_indices: vec![0; memory.saved_indices],
            layer,
        })
    }

    /// What the layer says of its parameters.
    pub fn specs(&self) -> &[ParameterSpec] {
        &self.specs
    }

    /// Shape of the output.
    pub fn output_shape(&self) -> Shape {
        self.output_shape
    }

    /// The output, N×C×H×W, for these inputs, N×C×H×W, and parameters in the order of [`specs`](Self::specs).
    ///
    /// # Panics
    /// If a slice has another length than its shape says.
    pub fn forward(&mut self, inputs: &[Vec<T>], parameters: &[Vec<T>]) -> Vec<T> {
        for ((shape, logical), stored) in self.input_shapes.iter().zip(inputs).zip(&mut self.inputs) {
            assert_eq!(logical.len(), shape.count(), "input of {shape}");
            to_channels_last(*shape, logical, stored);
        }
        for ((spec, given), parameter) in self.specs.iter().zip(parameters).zip(&mut self.parameters) {
            assert_eq!(given.len(), spec.count(), "{}", spec.name);
            parameter.copy_from_slice(given);
        }
        let parameters: Vec<&[T]> = self.parameters.iter().map(Vec::as_slice).collect();
        for (direction, prepared) in [Direction::Forward, Direction::Backward].into_iter().zip(&mut self.prepared) {
            self.layer.prepare(Prepare {
                machine: &self.machine,
                direction,
                input_shapes: &self.input_shapes,
                flattened: None,
                parameters: &parameters,
                prepared,
            });
        }
        let mut scratch = vec![T::ZERO; self.memory.forward_scratch];
        self.layer.forward(Forward {
            machine: &self.machine,
            training: self.training,
            input_gradient: true,
            random: 1,
            input_shapes: &self.input_shapes,
            output_shape: self.output_shape,
            flattened: None,
            inputs: &self.inputs.iter().map(Vec::as_slice).collect::<Vec<_>>(),
            parameters: &parameters,
            prepared: &self.prepared[0],
            residual: None,
            relu: false,
            output: &mut self.output,
            saved: &mut self.saved,
            saved_indices: &mut self.saved_indices,
            scratch: &mut scratch,
        });
        let mut output = vec![T::ZERO; self.output.len()];
        from_channels_last(self.output_shape, &self.output, &mut output);
        output
    }

    /// The gradients for this gradient of the output, N×C×H×W, at the inputs and parameters of the last forward.
    ///
    /// # Panics
    /// If the slice has another length than the output.
    pub fn backward(&self, grad_output: &[T]) -> Gradients<T> {
        let mut stored = vec![T::ZERO; self.output.len()];
        to_channels_last(self.output_shape, grad_output, &mut stored);
        // NaN shows a gradient that the layer forgot to write.
        let nan = T::from_f64(f64::NAN);
        let mut grad_inputs: Vec<Vec<T>> = self.inputs.iter().map(|input| vec![nan; input.len()]).collect();
        let trained = self.specs.iter().filter(|spec| spec.role != Role::Buffer);
        let mut grad_parameters: Vec<Vec<T>> = trained.map(|spec| vec![T::ZERO; spec.count()]).collect();
        let mut scratch = vec![T::ZERO; self.memory.backward_scratch];
        let inputs: Vec<&[T]> = if self.memory.keeps_inputs { self.inputs.iter().map(Vec::as_slice).collect() } else { Vec::new() };
        self.layer.backward(Backward {
            machine: &self.machine,
            training: self.training,
            random: 1,
            input_shapes: &self.input_shapes,
            output_shape: self.output_shape,
            flattened: None,
            inputs: &inputs,
            output: if self.memory.keeps_output { &self.output } else { &[] },
            parameters: &self.parameters.iter().map(Vec::as_slice).collect::<Vec<_>>(),
            prepared: &self.prepared[1],
            saved: &self.saved,
            saved_indices: &self.saved_indices,
            relu: false,
            rectifier: RectifierRule::Gradient,
            grad_output: &stored,
            grad_inputs: &mut grad_inputs.iter_mut().map(|gradient| Some(gradient.as_mut_slice())).collect::<Vec<_>>(),
            grad_parameters: &mut grad_parameters.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>(),
            scratch: &mut scratch,
        });
        let inputs = self.input_shapes.iter().zip(grad_inputs).map(|(shape, stored)| {
            let mut logical = vec![T::ZERO; stored.len()];
            from_channels_last(*shape, &stored, &mut logical);
            logical
        });
        Gradients { inputs: inputs.collect(), parameters: grad_parameters }
    }

    /// The batch statistics of the last forward folded into these buffers.
    pub fn update_buffers(&self, buffers: &mut [&mut [T]]) {
        self.layer.update_buffers(&self.input_shapes, &self.saved, buffers);
    }
}

/// How far one gradient of a layer is from its central differences.
#[derive(Clone, Debug, PartialEq)]
pub struct GradientError {
    /// `input 1` or the name of the parameter.
    pub of: String,
    /// Numbers compared.
    pub count: usize,
    /// The largest |gradient − difference| / max(1, |gradient|, |difference|).
    pub error: f64,
    /// Place of the largest error, in logical order.
    pub place: usize,
    /// The gradient there.
    pub gradient: f64,
    /// The central difference there.
    pub difference: f64,
}

/// Which numbers of a gradient are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Places {
    /// Every one.
    All,
    /// So many, drawn by a seed; all if there are no more.
    Drawn {
        /// How many at most.
        count: usize,
        /// Draws them.
        seed: u64,
    },
}

impl Places {
    fn of(self, length: usize) -> Vec<usize> {
        match self {
            Self::Drawn { count, seed } if count < length => {
                let mut random = Address::new(seed, Purpose::Check).then(length as u64).random();
                let mut places: Vec<usize> = (0..count).map(|_| random.below(length)).collect();
                places.sort_unstable();
                places.dedup();
                places
            }
            _ => (0..length).collect(),
        }
    }
}

/// Compares every gradient of a layer with central differences in `f64`, at random inputs and parameters.
///
/// The value that is differentiated is Σ output · r with random r. Inputs of layers with kinks are spread so that no
/// difference straddles one: all values are distinct by more than the step.
///
/// # Errors
/// The layer cannot take these inputs.
pub fn gradient_errors(layer: &Layer, input_shapes: &[Shape], training: bool, seed: u64) -> Result<Vec<GradientError>> {
    gradient_errors_at(&Machine::new(Isa::detect(), 1), layer, input_shapes, training, seed, Places::All)
}

/// As [`gradient_errors`], on this machine and at these places of each gradient.
///
/// # Errors
/// The layer cannot take these inputs.
pub fn gradient_errors_at(
    machine: &Machine,
    layer: &Layer,
    input_shapes: &[Shape],
    training: bool,
    seed: u64,
    places: Places,
) -> Result<Vec<GradientError>> {
    let mut single = Single::<f64>::on(machine.clone(), layer.clone(), input_shapes, training)?;
    let mut random = Address::new(seed, Purpose::Check).random();
    let specs = single.specs().to_vec();
    // The inputs first, then the parameters: all that the value depends on.
    let mut values: Vec<Vec<f64>> = input_shapes.iter().map(|shape| distinct(&mut random, shape.count())).collect();
    values.extend(specs.iter().map(|spec| parameter_values(&mut random, spec)));
    let direction = distinct(&mut random, single.output_shape().count());
    single.forward(&values[..input_shapes.len()], &values[input_shapes.len()..]);
    let gradients = single.backward(&direction);
    let trained = specs.iter().enumerate().filter(|(_, spec)| spec.role != Role::Buffer);
    let named: Vec<(String, usize)> = (0..input_shapes.len())
        .map(|index| (format!("input {}", index + 1), index))
        .chain(trained.map(|(index, spec)| (spec.name.to_owned(), input_shapes.len() + index)))
        .collect();
    let mut errors = Vec::new();
    for ((of, index), gradient) in named.into_iter().zip(gradients.inputs.iter().chain(&gradients.parameters)) {
        let mut error = GradientError { of, count: 0, error: 0.0, place: 0, gradient: 0.0, difference: 0.0 };
        for place in places.of(gradient.len()) {
            let kept = values[index][place];
            let mut moved = |step: f64| -> f64 {
                values[index][place] = kept + step;
                let output = single.forward(&values[..input_shapes.len()], &values[input_shapes.len()..]);
                output.iter().zip(&direction).map(|(output, direction)| output * direction).sum()
            };
            let difference = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            values[index][place] = kept;
            error.take(place, gradient[place], difference);
        }
        errors.push(error);
    }
    Ok(errors)
}

impl GradientError {
    /// Counts one more comparison.
    fn take(&mut self, place: usize, gradient: f64, difference: f64) {
        let error = (gradient - difference).abs() / gradient.abs().max(difference.abs()).max(1.0);
        let error = if error.is_nan() { f64::INFINITY } else { error };
        self.count += 1;
        if error >= self.error {
            (self.error, self.place, self.gradient, self.difference) = (error, place, gradient, difference);
        }
    }
}

/// Random values in (−2, 2) of which no two, and none and zero, are closer than a small share of their spacing.
fn distinct(random: &mut Random, count: usize) -> Vec<f64> {
    // An even number of cells puts a border, never a value, on zero.
    let cells = (count + count % 2) as f64;
    let mut values: Vec<f64> = (0..count).map(|place| 4.0 * (place as f64 + 0.25 + random.uniform_f64() / 2.0) / cells - 2.0).collect();
    random.shuffle(&mut values);
    values
}

/// Values for a parameter: near one for those that begin at a positive constant, such as a running variance.
fn parameter_values(random: &mut Random, spec: &ParameterSpec) -> Vec<f64> {
    let values = distinct(random, spec.count());
    match spec.initial {
        Initial::Constant(value) if value > 0.0 => values.into_iter().map(|value| 1.0 + value.abs() / 4.0).collect(),
        _ => values,
    }
}
