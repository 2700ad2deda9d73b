//! Running a plan: the list of steps downwards for forward, upwards for backward.

use std::ops::Range;

use convnet_kernels::{Machine, Real, elementwise};

use super::arena::carve;
use super::fold::fold_batch_norm;
use super::layout::{GradientTarget, Operands, Placed};
use super::recompute::Event;
use super::{Plan, Purpose};
use crate::layer::relu::RectifierRule;
use crate::layer::{Backward, Direction, Forward, LayerRules, Prepare};
use crate::network::Parameters;
use crate::tensor::{from_channels_last, to_channels_last};

impl<T: Real> Plan<T> {
    /// The output, N×C×H×W, for a batch of images, N×C×H×W. `random` addresses the random numbers of dropout: the same
    /// number gives the same masks.
    ///
    /// # Panics
    /// If the images are not exactly one batch, or the parameters belong to another network.
    pub fn forward(&mut self, parameters: &Parameters<T>, images: &[T], random: u64) -> &[T] {
        self.begin(parameters, images, random);
        self.computed.fill(true);
        let arena = &mut self.arena[..];
        let walk = Walk { machine: &self.machine, purpose: self.purpose, random, rectifier: RectifierRule::Gradient };
        for placed in &self.layout.steps {
            if !placed.step.alias {
                let work = Work { arena, indices: &mut self.indices, prepared: &self.prepared };
                forward_step(&walk, placed, &placed.forward, parameters, work);
            }
        }
        let output = self.layout.values[self.output.index()].clone().unwrap_or(0..0);
        from_channels_last(self.layout.stored[self.output.index()], &arena[output], &mut self.logical_output);
        &self.logical_output
    }

    /// Takes in a batch of images, and parameters that may have changed.
    pub(super) fn begin(&mut self, parameters: &Parameters<T>, images: &[T], random: u64) {
        assert_eq!(images.len(), self.input_shape.count(), "a batch of {} numbers is expected", self.input_shape);
        assert_eq!(parameters.list().len(), self.roles.len(), "the parameters must be those of the planned network");
        self.random = random;
        self.prepare(parameters);
        let input = self.layout.values[0].clone().unwrap_or(0..0);
        to_channels_last(self.input_shape, images, &mut self.arena[input]);
    }

    /// The gradients of the parameters for this gradient of the output, N×C×H×W, at the last forward pass: written to
    /// [`gradients`](Self::gradients).
    ///
    /// # Panics
    /// If the gradient is not exactly one batch of outputs, or the plan is for inference.
    pub fn backward(&mut self, parameters: &Parameters<T>, grad_output: &[T]) {
        assert!(self.purpose != Purpose::Infer, "a plan for inference has no backward pass");
        assert_eq!(grad_output.len(), self.output_shape.count(), "a gradient of {} numbers is expected", self.output_shape);
        for gradient in &mut self.gradients {
            gradient.fill(T::ZERO);
        }
        self.differentiated.fill(true);
        let arena = &mut self.arena[..];
        let Some(output) = self.layout.gradients[self.output.index()].clone() else { return };
        to_channels_last(self.layout.stored[self.output.index()], grad_output, &mut arena[output]);
        let walk = Walk { machine: &self.machine, purpose: self.purpose, random: self.random, rectifier: RectifierRule::Gradient };
        for event in &self.layout.events {
            let (Event::Again(step) | Event::Backward(step)) = event;
            let placed = &self.layout.steps[*step];
            let work = Work { arena, indices: &mut self.indices, prepared: &self.prepared };
            match event {
                Event::Again(_) => forward_step(&walk, placed, &placed.again, parameters, work),
                Event::Backward(_) if placed.backward => {
                    backward_step(&walk, placed, &placed.grad_inputs, parameters, work, &mut self.gradients);
                }
                Event::Backward(_) => {}
            }
        }
    }

    /// Packs the weights again if the parameters have changed.
    fn prepare(&mut self, parameters: &Parameters<T>) {
        if self.prepared_version == parameters.version() {
            return;
        }
        let mut weight = Vec::new();
        for placed in &self.layout.steps {
            let mut values = parameter_values(placed, parameters);
            let ranges = [placed.prepared[0].clone(), placed.prepared[1].clone(), placed.folded.clone()];
            let Ok([forward, backward, folded]) = <[&mut [T]; 3]>::try_from(carve(&mut self.prepared, &ranges)) else { continue };
            if placed.step.batch_norm.is_some() {
                weight.clear();
                weight.resize(values[0].len(), T::ZERO);
                fold_batch_norm(placed, parameters, &values, &mut weight, folded);
                values = vec![&weight, folded];
            }
            prepare_step(&self.machine, placed, Direction::Forward, &values, forward);
            prepare_step(&self.machine, placed, Direction::Backward, &values, backward);
        }
        self.prepared_version = parameters.version();
    }
}

/// Writes the parameters of a step in the order in which its kernels read them.
fn prepare_step<T: Real>(machine: &Machine, placed: &Placed, direction: Direction, parameters: &[&[T]], prepared: &mut [T]) {
    if !prepared.is_empty() {
        let (input_shapes, flattened) = (&placed.input_shapes, placed.step.flattened);
        placed.step.layer.prepare(Prepare { machine, direction, input_shapes, flattened, parameters, prepared });
    }
}

/// What is the same for all steps of one pass.
pub(super) struct Walk<'a> {
    pub machine: &'a Machine,
    pub purpose: Purpose,
    pub random: u64,
    pub rectifier: RectifierRule,
}

/// The memory of a plan while a step runs.
pub(super) struct Work<'a, T> {
    pub arena: &'a mut [T],
    pub indices: &'a mut [u32],
    pub prepared: &'a [T],
}

fn parameter_values<'a, T: Real>(placed: &Placed, parameters: &'a Parameters<T>) -> Vec<&'a [T]> {
    placed.parameters.clone().map(|index| parameters.values(index)).collect()
}

/// A number for each layer and step, for its random numbers.
fn address(random: u64, placed: &Placed) -> u64 {
    random.wrapping_add((placed.step.node.index() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// The inputs without repetitions, and the place of each input among them: a layer may read one value twice.
fn distinct(ranges: &[Range<usize>]) -> (Vec<Range<usize>>, Vec<usize>) {
    let mut list: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    let places = ranges.iter().map(|range| {
        list.iter().position(|other| other == range).unwrap_or_else(|| {
            list.push(range.clone());
            list.len() - 1
        })
    });
    let places = places.collect();
    (list, places)
}

/// Runs one step forward on these operands: its first ones, or those for once more.
pub(super) fn forward_step<T: Real>(walk: &Walk<'_>, placed: &Placed, operands: &Operands, parameters: &Parameters<T>, work: Work<'_, T>) {
    let read: Vec<Range<usize>> = if placed.in_place { Vec::new() } else { operands.inputs.clone() };
    let residual_read = (!operands.residual.is_empty()).then(|| operands.residual.clone());
    let (mut ranges, places) = distinct(&read.into_iter().chain(residual_read.clone()).collect::<Vec<_>>());
    let reads = ranges.len();
    ranges.extend([operands.output.clone(), placed.saved.clone(), operands.scratch.clone(), operands.passing.clone()]);
    let mut parts = carve(work.arena, &ranges);
    let written = parts.split_off(reads);
    let Ok([output, saved, scratch, passing]) = <[&mut [T]; 4]>::try_from(written) else { return };
    let read: Vec<&[T]> = places.iter().map(|&place| &*parts[place]).collect();
    let (residual, inputs) = match residual_read {
        Some(_) => (read.last().copied(), &read[..read.len() - 1]),
        None => (None, &read[..]),
    };
    let folded = &work.prepared[placed.folded.clone()];
    let values = if placed.step.batch_norm.is_some() {
        // The weights are in the prepared ones.
        vec![&[][..], folded]
    } else {
        parameter_values(placed, parameters)
    };
    prepare_step(walk.machine, placed, Direction::Forward, &values, passing);
    placed.step.layer.forward(Forward {
        machine: walk.machine,
        training: walk.purpose.trains(),
        input_gradient: placed.asks_input_gradient(),
        random: address(walk.random, placed),
        input_shapes: &placed.input_shapes,
        output_shape: placed.output_shape,
        flattened: placed.step.flattened,
        inputs,
        parameters: &values,
        prepared: if passing.is_empty() { &work.prepared[placed.prepared[0].clone()] } else { passing },
        residual,
        relu: placed.step.relu,
        output,
        saved,
        saved_indices: &mut work.indices[placed.saved_indices.clone()],
        scratch,
    });
}

/// Walks one step back: writes the gradients of its inputs to these targets, and adds to those of the parameters, unless
/// `gradients` is empty.
pub(super) fn backward_step<T: Real>(
    walk: &Walk<'_>,
    placed: &Placed,
    targets: &[GradientTarget],
    parameters: &Parameters<T>,
    work: Work<'_, T>,
    gradients: &mut [Vec<T>],
) {
    let Work { arena, indices, prepared } = work;
    if placed.step.alias {
        alias_backward(placed, targets, arena);
    } else {
        let work = Work { arena: &mut *arena, indices, prepared };
        layer_backward(walk, placed, targets, parameters, work, gradients);
    }
    add_gradients(walk.machine, targets, arena);
}

fn layer_backward<T: Real>(
    walk: &Walk<'_>,
    placed: &Placed,
    targets: &[GradientTarget],
    parameters: &Parameters<T>,
    work: Work<'_, T>,
    gradients: &mut [Vec<T>],
) {
    let operands = &placed.backward_operands;
    let (mut ranges, places) = if placed.memory.keeps_inputs { distinct(&operands.inputs) } else { (Vec::new(), Vec::new()) };
    let reads = ranges.len();
    let in_place = targets.iter().any(|target| matches!(target, GradientTarget::InPlace(_)));
    let output = if placed.memory.keeps_output { operands.output.clone() } else { 0..0 };
    let grad_output = if in_place { 0..0 } else { placed.grad_output.clone() };
    ranges.extend([output, placed.saved.clone(), grad_output, operands.scratch.clone(), operands.passing.clone()]);
    ranges.extend(targets.iter().map(|target| match target {
        GradientTarget::None => 0..0,
        GradientTarget::Write(range) | GradientTarget::InPlace(range) | GradientTarget::Add(range, _) => range.clone(),
    }));
    let mut parts = carve(work.arena, &ranges);
    let grad_inputs = parts.split_off(reads + 5);
    let others = parts.split_off(reads);
    let Ok([output, saved, grad_output, scratch, passing]) = <[&mut [T]; 5]>::try_from(others) else { return };
    let inputs: Vec<&[T]> = places.iter().map(|&place| &*parts[place]).collect();
    let mut grad_inputs: Vec<Option<&mut [T]>> =
        grad_inputs.into_iter().zip(targets).map(|(part, target)| (*target != GradientTarget::None).then_some(part)).collect();
    let asked = gradients.get_mut(placed.parameters.clone()).unwrap_or_default();
    let mut grad_parameters: Vec<&mut [T]> = asked.iter_mut().filter(|gradient| !gradient.is_empty()).map(Vec::as_mut_slice).collect();
    let values = parameter_values(placed, parameters);
    prepare_step(walk.machine, placed, Direction::Backward, &values, passing);
    placed.step.layer.backward(Backward {
        machine: walk.machine,
        training: walk.purpose.trains(),
        random: address(walk.random, placed),
        input_shapes: &placed.input_shapes,
        output_shape: placed.output_shape,
        flattened: placed.step.flattened,
        inputs: &inputs,
        output,
        parameters: &values,
        prepared: if passing.is_empty() { &work.prepared[placed.prepared[1].clone()] } else { passing },
        saved,
        saved_indices: &work.indices[placed.saved_indices.clone()],
        relu: placed.step.relu,
        rectifier: walk.rectifier,
        grad_output,
        grad_inputs: &mut grad_inputs,
        grad_parameters: &mut grad_parameters,
        scratch,
    });
}

/// The gradient of a flatten that was left out: the same numbers, unless another reader's gradient lies there already.
fn alias_backward<T: Real>(placed: &Placed, targets: &[GradientTarget], arena: &mut [T]) {
    if let Some(GradientTarget::Write(range) | GradientTarget::Add(range, _)) = targets.first() {
        let parts = carve(arena, &[placed.grad_output.clone(), range.clone()]);
        let Ok([from, to]) = <[&mut [T]; 2]>::try_from(parts) else { return };
        to.copy_from_slice(from);
    }
}

/// Where a value is read more than once, its gradients are added.
fn add_gradients<T: Real>(machine: &Machine, targets: &[GradientTarget], arena: &mut [T]) {
    for target in targets {
        if let GradientTarget::Add(part, sum) = target {
            let parts = carve(arena, &[part.clone(), sum.clone()]);
            let Ok([part, sum]) = <[&mut [T]; 2]>::try_from(parts) else { return };
            elementwise::add_to(machine, part, sum);
        }
    }
}
