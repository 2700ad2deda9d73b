//! Where everything lies: the memory of a plan, known before anything runs.

use std::ops::Range;

use convnet_kernels::{Means, Real};

use super::arena::{Life, pack};
use super::schedule::{Readers, Step, steps};
use super::{PlanBytes, Purpose};
use crate::error::{Error, Result};
use crate::layer::{LayerRules, Memory, Role, Use};
use crate::network::{Network, Node, NodeId};
use crate::shape::Shape;

/// Where the gradient that a step writes for one of its inputs goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GradientTarget {
    /// Nobody asks for it.
    None,
    /// Straight to the input's gradient.
    Write(Range<usize>),
    /// To the input's gradient, which lies where the output's gradient lies.
    InPlace(Range<usize>),
    /// To the first range, which is then added to the second: another reader has written there before.
    Add(Range<usize>, Range<usize>),
}

/// A step with its places.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub step: Step,
    pub memory: Memory,
    pub input_shapes: Vec<Shape>,
    pub output_shape: Shape,
    pub inputs: Vec<Range<usize>>,
    pub output: Range<usize>,
    pub residual: Range<usize>,
    /// The output is written over the input.
    pub in_place: bool,
    /// Weights that stay prepared, for forward and for backward; none in a plan that trains.
    pub prepared: [Range<usize>; 2],
    /// Where a plan that trains prepares weights just before they are used, for forward and for backward.
    pub prepared_scratch: [Range<usize>; 2],
    /// The bias of a convolution that a batch norm was folded into.
    pub folded: Range<usize>,
    pub saved: Range<usize>,
    pub saved_indices: Range<usize>,
    pub forward_scratch: Range<usize>,
    pub backward_scratch: Range<usize>,
    pub grad_output: Range<usize>,
    pub grad_inputs: Vec<GradientTarget>,
    /// Numbers of the layer's parameters in the network's list.
    pub parameters: Range<usize>,
    /// Whether backward has anything to do here.
    pub backward: bool,
}

impl Placed {
    /// Whether backward asks for the gradient of the first input.
    pub fn asks_input_gradient(&self) -> bool {
        self.backward && self.grad_inputs.first().is_some_and(|target| *target != GradientTarget::None)
    }
}

/// The whole plan as places.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub steps: Vec<Placed>,
    pub arena: usize,
    pub indices: usize,
    pub prepared: usize,
    /// Place of each value; of those that have one.
    pub values: Vec<Option<Range<usize>>>,
    /// Place of each value's gradient, where there is one.
    pub gradients: Vec<Option<Range<usize>>>,
    /// The shape in which each value's numbers lie channels last: its own, but for a flatten that was left out.
    pub stored: Vec<Shape>,
    /// Numbers of gradients of parameters.
    pub parameter_gradients: usize,
}

/// A buffer's number in the list of lives.
type Buffer = usize;

#[derive(Default)]
struct Lives {
    list: Vec<Life>,
}

impl Lives {
    fn add(&mut self, length: usize, moment: usize) -> Buffer {
        self.list.push(Life { length, first: moment, last: moment });
        self.list.len() - 1
    }

    fn extend(&mut self, buffer: Buffer, moment: usize) {
        let life = &mut self.list[buffer];
        life.first = life.first.min(moment);
        life.last = life.last.max(moment);
    }
}

/// The buffers of one step before they have places.
#[derive(Default)]
struct StepBuffers {
    saved: Option<Buffer>,
    forward_scratch: Option<Buffer>,
    backward_scratch: Option<Buffer>,
    prepared: [Option<Buffer>; 2],
    temporaries: Vec<Option<Buffer>>,
}

struct Drawing<'a> {
    network: &'a Network,
    readers: Readers,
    purpose: Purpose,
    batch: usize,
    /// Moment of the loss: forward step i runs at i, backward step i at 2·loss − i.
    loss: usize,
    lives: Lives,
    values: Vec<Option<Buffer>>,
    gradients: Vec<Option<Buffer>>,
    /// Whether a later layer may not write over the buffer.
    fixed: Vec<bool>,
    needs_gradient: Vec<bool>,
}

impl Layout {
    /// Draws the plan.
    ///
    /// # Errors
    /// The batch is zero or too large.
    pub fn new<T: Real>(network: &Network, batch: usize, purpose: Purpose, input_gradient: bool, means: Means) -> Result<Self> {
        if batch == 0 {
            return Err(Error::Argument("the batch is 0; a batch has at least one image".into()));
        }
        for shape in network.nodes().iter().map(|node| node.output_shape()).chain([network.input_shape()]) {
            shape.with_batch(batch).check().map_err(|reason| Error::Shape(format!("a batch of {batch}: {reason}; use a smaller batch")))?;
        }
        let values = network.nodes().len() + 1;
        let readers = Readers::of(network);
        let steps = steps(network, &readers, purpose);
        let mut drawing = Drawing {
            network,
            readers,
            purpose,
            batch,
            loss: steps.len() + 1,
            lives: Lives::default(),
            values: vec![None; values],
            gradients: vec![None; values],
            fixed: vec![false; values],
            needs_gradient: vec![false; values],
        };
        drawing.draw::<T>(steps, input_gradient, means)
    }

    /// What the plan takes, in bytes.
    pub fn bytes<T>(&self) -> PlanBytes {
        let size = std::mem::size_of::<T>() as u64;
        PlanBytes {
            arena: self.arena as u64 * size + self.indices as u64 * 4,
            prepared: self.prepared as u64 * size,
            gradients: self.parameter_gradients as u64 * size,
        }
    }
}

impl Drawing<'_> {
    fn shape(&self, id: NodeId) -> Shape {
        self.network.shape(id).with_batch(self.batch)
    }

    fn draw<T: Real>(&mut self, steps: Vec<Step>, input_gradient: bool, means: Means) -> Result<Layout> {
        let backward = self.purpose != Purpose::Infer;
        self.needs_gradient[0] = input_gradient;
        let image = self.lives.add(self.shape(NodeId::IMAGE).count(), 0);
        self.values[0] = Some(image);
        self.fixed[0] = true;
        let mut placed = Vec::with_capacity(steps.len());
        let mut buffers = Vec::with_capacity(steps.len());
        let (mut indices, mut prepared) = (0, 0);
        for (number, step) in steps.into_iter().enumerate() {
            let moment = number + 1;
            let node = self.network.node(step.node).ok_or_else(|| Error::Shape("a step without a layer".into()))?;
            let input_shapes: Vec<Shape> = step.inputs.iter().map(|id| self.shape(*id)).collect();
            let parameters = node.parameter_range();
            let trained = node.parameters().iter().any(|spec| spec.role != Role::Buffer);
            let input_needs = step.inputs.first().is_some_and(|id| self.needs_gradient[id.index()]);
            let needs = backward && (trained || step.inputs.iter().any(|id| self.needs_gradient[id.index()]));
            self.needs_gradient[step.output.index()] = needs;
            let usage = Use { means, backward: needs, input_gradient: needs && input_needs, flattened: step.flattened };
            let mut memory = if step.alias { Memory::default() } else { step.layer.memory::<T>(&input_shapes, usage) };
            memory.keeps_output |= step.relu;
            if !needs {
                (memory.keeps_inputs, memory.keeps_output) = (false, false);
            }
            let in_place = self.place_values(&step, &memory, moment);
            buffers.push(self.place_work(node, &memory, moment));
            let saved_indices = indices..indices + memory.saved_indices;
            indices = saved_indices.end;
            let mut keep = |length: usize| {
                prepared += length;
                prepared - length..prepared
            };
            let stay = if self.purpose == Purpose::Train { [0, 0] } else { [memory.prepared_forward, memory.prepared_backward] };
            let (weights, folded) = (stay.map(&mut keep), keep(folded_length(self.network, &step)));
            placed.push(Placed {
                memory,
                output_shape: self.shape(step.output),
                input_shapes,
                inputs: Vec::new(),
                output: 0..0,
                residual: 0..0,
                in_place,
                prepared: weights,
                prepared_scratch: [0..0, 0..0],
                folded,
                saved: 0..0,
                saved_indices,
                forward_scratch: 0..0,
                backward_scratch: 0..0,
                grad_output: 0..0,
                grad_inputs: Vec::new(),
                parameters,
                backward: needs,
                step,
            });
        }
        self.keep_output();
        let targets = if backward { self.place_gradients(&placed, &mut buffers) } else { vec![Vec::new(); placed.len()] };
        self.finish(placed, buffers, targets, indices, prepared)
    }

    /// Finds or makes the buffer of a step's output, and lets what it reads live until then. Returns whether the step
    /// writes over its input.
    fn place_values(&mut self, step: &Step, memory: &Memory, moment: usize) -> bool {
        let backward_moment = 2 * self.loss - moment;
        for id in step.inputs.iter().chain(&step.residual) {
            if let Some(buffer) = self.values[id.index()] {
                self.lives.extend(buffer, moment);
                if memory.keeps_inputs {
                    self.lives.extend(buffer, backward_moment);
                    self.fixed[id.index()] = true;
                }
            }
        }
        let output = step.output.index();
        let only_input = match step.inputs[..] {
            [input] if step.residual != Some(input) => Some(input),
            _ => None,
        };
        let over = only_input.filter(|input| {
            let alone = self.readers.only_reader(*input).is_some();
            step.alias
                || (memory.in_place && alone && !self.fixed[input.index()] && !memory.keeps_inputs && self.purpose != Purpose::Inspect)
        });
        if let Some(input) = over {
            self.values[output] = self.values[input.index()];
            // Whoever may not lose the input may not lose the output either, since they are one.
            let shared = step.alias && (self.fixed[input.index()] || self.readers.only_reader(input).is_none());
            self.fixed[output] = memory.keeps_output || shared;
        } else {
            self.values[output] = Some(self.lives.add(self.shape(step.output).count(), moment));
            self.fixed[output] = memory.keeps_output;
        }
        if let (true, Some(buffer)) = (memory.keeps_output, self.values[output]) {
            self.lives.extend(buffer, backward_moment);
        }
        over.is_some()
    }

    fn place_work(&mut self, node: &Node, memory: &Memory, moment: usize) -> StepBuffers {
        let backward_moment = 2 * self.loss - moment;
        // The statistics of a batch are folded into the buffers when the whole step is done.
        let has_buffers = node.parameters().iter().any(|spec| spec.role == Role::Buffer);
        // A plan for inspection may walk back more than once.
        let saved_until = if has_buffers || self.purpose == Purpose::Inspect { 2 * self.loss } else { backward_moment };
        let mut add = |length: usize, from: usize, to: usize| {
            (length > 0).then(|| {
                let buffer = self.lives.add(length, from);
                self.lives.extend(buffer, to);
                buffer
            })
        };
        let passing = if self.purpose == Purpose::Train { [memory.prepared_forward, memory.prepared_backward] } else { [0, 0] };
        StepBuffers {
            prepared: [add(passing[0], moment, moment), add(passing[1], backward_moment, backward_moment)],
            saved: add(memory.saved, moment, saved_until),
            forward_scratch: add(memory.forward_scratch, moment, moment),
            backward_scratch: add(memory.backward_scratch, backward_moment, backward_moment),
            temporaries: Vec::new(),
        }
    }

    fn keep_output(&mut self) {
        let end = 2 * self.loss;
        if let Some(buffer) = self.values[self.network.output().index()] {
            self.lives.extend(buffer, self.loss);
        }
        if self.purpose == Purpose::Inspect {
            for buffer in self.values.clone().into_iter().flatten() {
                self.lives.extend(buffer, end);
            }
        }
    }

    /// Walks the steps upwards and gives every gradient a buffer. For each step and input: where its gradient goes.
    fn place_gradients(&mut self, placed: &[Placed], buffers: &mut [StepBuffers]) -> Vec<Vec<Target>> {
        let mut targets = vec![Vec::new(); placed.len()];
        let output = self.network.output().index();
        if self.needs_gradient[output] {
            self.gradients[output] = Some(self.lives.add(self.shape(self.network.output()).count(), self.loss));
        }
        for (number, placed) in placed.iter().enumerate().rev() {
            let moment = 2 * self.loss - (number + 1);
            let Some(gradient) = self.gradients[placed.step.output.index()].filter(|_| placed.backward) else {
                targets[number] = vec![Target::None; placed.step.inputs.len()];
                buffers[number].temporaries = vec![None; placed.step.inputs.len()];
                continue;
            };
            self.lives.extend(gradient, moment);
            for (slot, input) in placed.step.inputs.iter().enumerate() {
                let (target, temporary) = self.place_gradient(placed, slot, *input, gradient, moment);
                targets[number].push(target);
                buffers[number].temporaries.push(temporary);
            }
        }
        if self.purpose == Purpose::Inspect {
            for buffer in self.gradients.clone().into_iter().flatten() {
                self.lives.extend(buffer, 2 * self.loss);
            }
        } else if let Some(buffer) = self.gradients[0] {
            self.lives.extend(buffer, 2 * self.loss);
        }
        targets
    }

    fn place_gradient(&mut self, placed: &Placed, slot: usize, input: NodeId, gradient: Buffer, moment: usize) -> (Target, Option<Buffer>) {
        if !self.needs_gradient[input.index()] {
            return (Target::None, None);
        }
        let length = self.shape(input).count();
        if let Some(sum) = self.gradients[input.index()] {
            self.lives.extend(sum, moment);
            return (Target::Add, Some(self.lives.add(length, moment)));
        }
        let alias = placed.step.alias && self.purpose != Purpose::Inspect;
        let over = placed.memory.in_place && slot == 0 && placed.step.inputs.len() == 1 && self.purpose != Purpose::Inspect;
        if alias || over {
            self.gradients[input.index()] = Some(gradient);
            return (Target::InPlace, None);
        }
        self.gradients[input.index()] = Some(self.lives.add(length, moment));
        (Target::Write, None)
    }

    fn finish(
        &self,
        mut placed: Vec<Placed>,
        buffers: Vec<StepBuffers>,
        targets: Vec<Vec<Target>>,
        indices: usize,
        prepared: usize,
    ) -> Result<Layout> {
        let places = pack(&self.lives.list).map_err(Error::Shape)?;
        let range = |buffer: Option<Buffer>| {
            buffer.map_or(0..0, |buffer| places.offsets[buffer]..places.offsets[buffer] + self.lives.list[buffer].length)
        };
        for ((placed, buffers), targets) in placed.iter_mut().zip(buffers).zip(targets) {
            let value = |id: NodeId| range(self.values[id.index()]);
            placed.inputs = placed.step.inputs.iter().map(|id| value(*id)).collect();
            placed.output = value(placed.step.output);
            placed.residual = placed.step.residual.map_or(0..0, value);
            placed.prepared_scratch = buffers.prepared.map(range);
            placed.saved = range(buffers.saved);
            placed.forward_scratch = range(buffers.forward_scratch);
            placed.backward_scratch = range(buffers.backward_scratch);
            placed.grad_output = range(self.gradients[placed.step.output.index()]);
            placed.backward &= !placed.grad_output.is_empty();
            placed.grad_inputs = (placed.step.inputs.iter().zip(targets).zip(buffers.temporaries))
                .map(|((id, target), temporary)| {
                    let sum = range(self.gradients[id.index()]);
                    match target {
                        Target::None => GradientTarget::None,
                        Target::Write => GradientTarget::Write(sum),
                        Target::InPlace => GradientTarget::InPlace(sum),
                        Target::Add => GradientTarget::Add(range(temporary), sum),
                    }
                })
                .collect();
        }
        let trained = self.network.parameters().filter(|(_, spec)| spec.role != Role::Buffer).map(|(_, spec)| spec.count());
        let list = |buffers: &[Option<Buffer>]| buffers.iter().map(|buffer| buffer.map(|buffer| range(Some(buffer)))).collect();
        Ok(Layout {
            stored: self.stored(&placed),
            values: list(&self.values),
            gradients: list(&self.gradients),
            parameter_gradients: if self.purpose == Purpose::Infer { 0 } else { trained.sum() },
            steps: placed,
            arena: places.length,
            indices,
            prepared,
        })
    }

    /// The shape in which each value lies: behind a flatten that was left out, the shape that was flattened.
    fn stored(&self, placed: &[Placed]) -> Vec<Shape> {
        let mut stored: Vec<Shape> = (0..self.values.len()).map(|_| self.shape(NodeId::IMAGE)).collect();
        for placed in placed {
            let passes_on = placed.step.layer.elementwise() || placed.step.alias;
            let input = placed.step.inputs[0].index();
            let carried = stored[input].count() == placed.output_shape.count() && passes_on;
            stored[placed.step.output.index()] = if carried { stored[input] } else { placed.output_shape };
        }
        stored
    }
}

/// As [`GradientTarget`], before there are places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    None,
    Write,
    InPlace,
    Add,
}

/// Numbers of the bias that a convolution has with a batch norm folded in.
fn folded_length(network: &Network, step: &Step) -> usize {
    match (&step.batch_norm, network.node(step.node)) {
        (Some(_), Some(node)) => node.output_shape().c,
        _ => 0,
    }
}
