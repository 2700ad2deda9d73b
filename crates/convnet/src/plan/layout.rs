//! Where everything lies: the memory of a plan, known before anything runs.

use std::ops::Range;

use convnet_kernels::{Means, Real};

use super::arena::{ALIGNMENT, pack};
use super::lives::{Buffer, Lives, Target};
use super::recompute::{Event, Recomputation, ways};
use super::schedule::{Readers, Step, steps};
use super::{PlanBytes, Purpose};
use crate::error::{Error, Result};
use crate::layer::{LayerRules, Memory, Role, Use};
use crate::network::{Network, NodeId};
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

/// Where a step finds what it needs when it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Operands {
    pub inputs: Vec<Range<usize>>,
    pub output: Range<usize>,
    pub residual: Range<usize>,
    pub scratch: Range<usize>,
    /// Where a plan that trains prepares weights just before they are used.
    pub passing: Range<usize>,
}

/// A step with its places.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub step: Step,
    pub memory: Memory,
    pub input_shapes: Vec<Shape>,
    pub output_shape: Shape,
    /// The output is written over the input.
    pub in_place: bool,
    pub forward: Operands,
    /// For forward once more, behind the loss; only where the plan computes the step again.
    pub again: Operands,
    /// As backward finds them.
    pub backward_operands: Operands,
    /// Weights that stay prepared, for forward and for backward; none in a plan that trains.
    pub prepared: [Range<usize>; 2],
    /// The bias of a convolution that a batch norm was folded into.
    pub folded: Range<usize>,
    pub saved: Range<usize>,
    pub saved_indices: Range<usize>,
    pub grad_output: Range<usize>,
    pub grad_inputs: Vec<GradientTarget>,
    /// Numbers of the layer's parameters in the network's list.
    pub parameters: Range<usize>,
    /// Whether backward has anything to do here.
    pub backward: bool,
    /// Whether weights stay prepared.
    stays: bool,
}

impl Placed {
    /// Whether backward asks for the gradient of the first input.
    pub fn asks_input_gradient(&self) -> bool {
        self.backward && self.grad_inputs.first().is_some_and(|target| *target != GradientTarget::None)
    }

    /// Numbers of the weights that are prepared just before they are used, for forward and for backward.
    pub fn passing(&self) -> [usize; 2] {
        if self.stays { [0, 0] } else { [self.memory.prepared_forward, self.memory.prepared_backward] }
    }
}

/// The whole plan as places.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub steps: Vec<Placed>,
    /// What runs behind the loss.
    pub events: Vec<Event>,
    /// Number of segments of steps that are computed again.
    pub segments: usize,
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

impl Layout {
    /// Draws the plan.
    ///
    /// # Errors
    /// The batch is zero or too large.
    pub fn new<T: Real>(network: &Network, batch: usize, purpose: Purpose, means: Means) -> Result<Self> {
        let outline = Outline::new::<T>(network, batch, purpose, means)?;
        let plain = Recomputation::none(outline.steps.len(), outline.needs_gradient.len());
        let layout = outline.draw(&plain)?;
        if purpose != Purpose::TrainRecomputing {
            return Ok(layout);
        }
        // The smallest; of those, the one with the least to compute.
        let mut best = layout;
        for way in ways(&outline.steps, &outline.readers, outline.needs_gradient.len()) {
            let layout = outline.draw(&way)?;
            if (layout.arena, layout.macs_again()) < (best.arena, best.macs_again()) {
                best = layout;
            }
        }
        Ok(best)
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

    /// Multiplications with additions that are done a second time, for the whole batch.
    pub fn macs_again(&self) -> u64 {
        let again = self.events.iter().filter_map(|event| if let Event::Again(step) = event { self.steps.get(*step) } else { None });
        again.fold(0, |sum: u64, placed| sum.saturating_add(placed.step.layer.macs(&placed.input_shapes)))
    }

    /// Multiplications with additions of one step forward and backward without them, for the whole batch.
    pub fn macs_of_step(&self) -> u64 {
        self.steps.iter().fold(0, |sum: u64, placed| {
            let passes = 1 + u64::from(placed.backward) + u64::from(placed.asks_input_gradient());
            sum.saturating_add(placed.step.layer.macs(&placed.input_shapes).saturating_mul(passes))
        })
    }
}

/// The steps of a plan and what each needs, before anything has a place.
pub(super) struct Outline<'a> {
    pub network: &'a Network,
    pub readers: Readers,
    pub purpose: Purpose,
    batch: usize,
    /// The steps, all places empty.
    pub steps: Vec<Placed>,
    /// For each value, whether its gradient is wanted.
    pub needs_gradient: Vec<bool>,
    indices: usize,
    prepared: usize,
}

impl<'a> Outline<'a> {
    pub fn new<T: Real>(network: &'a Network, batch: usize, purpose: Purpose, means: Means) -> Result<Self> {
        if batch == 0 {
            return Err(Error::Argument("the batch is 0; a batch has at least one image".into()));
        }
        for shape in network.nodes().iter().map(|node| node.output_shape()).chain([network.input_shape()]) {
            shape.with_batch(batch).check().map_err(|reason| Error::Shape(format!("a batch of {batch}: {reason}; use a smaller batch")))?;
        }
        let readers = Readers::of(network);
        let steps = steps(network, &readers, purpose);
        let mut needs_gradient = vec![false; network.nodes().len() + 1];
        needs_gradient[0] = purpose == Purpose::Inspect;
        let mut outline = Self { network, readers, purpose, batch, steps: Vec::new(), needs_gradient, indices: 0, prepared: 0 };
        for step in steps {
            let placed = outline.outline_step::<T>(step, means)?;
            outline.needs_gradient[placed.step.output.index()] = placed.backward;
            outline.steps.push(placed);
        }
        Ok(outline)
    }

    /// Shape of a value with the batch.
    pub fn shape(&self, id: NodeId) -> Shape {
        self.network.shape(id).with_batch(self.batch)
    }

    fn outline_step<T: Real>(&mut self, step: Step, means: Means) -> Result<Placed> {
        let node = self.network.node(step.node).ok_or_else(|| Error::Shape("a step without a layer".into()))?;
        let input_shapes: Vec<Shape> = step.inputs.iter().map(|id| self.shape(*id)).collect();
        let trained = node.parameters().iter().any(|spec| spec.role != Role::Buffer);
        let input_needs = step.inputs.first().is_some_and(|id| self.needs_gradient[id.index()]);
        let backward = self.purpose != Purpose::Infer && (trained || step.inputs.iter().any(|id| self.needs_gradient[id.index()]));
        let usage = Use { means, backward, input_gradient: backward && input_needs, flattened: step.flattened, relu: step.relu };
        let mut memory = if step.alias { Memory::default() } else { step.layer.memory::<T>(&input_shapes, usage) };
        if !backward {
            (memory.keeps_inputs, memory.keeps_output) = (false, false);
        }
        let saved_indices = take(&mut self.indices, memory.saved_indices);
        let stays = !self.purpose.trains();
        let prepared = [memory.prepared_forward, memory.prepared_backward].map(|length| if stays { length } else { 0 });
        let prepared = prepared.map(|length| take(&mut self.prepared, length));
        Ok(Placed {
            memory,
            output_shape: self.shape(step.output),
            input_shapes,
            in_place: false,
            forward: Operands::default(),
            again: Operands::default(),
            backward_operands: Operands::default(),
            prepared,
            folded: take(&mut self.prepared, folded_length(self.network, &step)),
            saved: 0..0,
            saved_indices,
            grad_output: 0..0,
            grad_inputs: Vec::new(),
            parameters: node.parameter_range(),
            backward,
            stays,
            step,
        })
    }

    /// Gives everything its place.
    pub fn draw(&self, recomputation: &Recomputation) -> Result<Layout> {
        let lives = Lives::new(self, recomputation);
        let places = pack(&lives.list).map_err(Error::Shape)?;
        let range = |buffer: Option<Buffer>| {
            buffer.map_or(0..0, |buffer| places.offsets[buffer]..places.offsets[buffer] + lives.list[buffer].length)
        };
        let value = |id: NodeId| lives.values[id.index()];
        let later = |id: NodeId| lives.later(id);
        let mut placed = self.steps.clone();
        for (placed, buffers) in placed.iter_mut().zip(&lives.steps) {
            let step = &placed.step;
            let operands = |find: &dyn Fn(NodeId) -> Option<Buffer>, [scratch, passing]: [Option<Buffer>; 2]| Operands {
                inputs: step.inputs.iter().map(|id| range(find(*id))).collect(),
                output: range(find(step.output)),
                residual: range(step.residual.and_then(find)),
                scratch: range(scratch),
                passing: range(passing),
            };
            placed.forward = operands(&value, buffers.forward);
            placed.again = operands(&later, buffers.again);
            placed.backward_operands = operands(&later, buffers.backward);
            placed.in_place = buffers.in_place;
            placed.saved = range(buffers.saved);
            placed.grad_output = range(lives.gradients[step.output.index()]);
            placed.backward &= !placed.grad_output.is_empty();
            let targets = step.inputs.iter().zip(&buffers.targets).map(|(id, (target, temporary))| {
                let sum = range(lives.gradients[id.index()]);
                match target {
                    Target::None => GradientTarget::None,
                    Target::Write => GradientTarget::Write(sum),
                    Target::InPlace => GradientTarget::InPlace(sum),
                    Target::Add => GradientTarget::Add(range(*temporary), sum),
                }
            });
            placed.grad_inputs = targets.collect();
        }
        let trained = self.network.parameters().filter(|(_, spec)| spec.role != Role::Buffer).map(|(_, spec)| spec.count());
        let list = |buffers: &[Option<Buffer>]| buffers.iter().map(|buffer| buffer.map(|buffer| range(Some(buffer)))).collect();
        Ok(Layout {
            stored: self.stored(),
            values: list(&lives.values),
            gradients: list(&lives.gradients),
            parameter_gradients: if self.purpose == Purpose::Infer { 0 } else { trained.sum() },
            steps: placed,
            events: recomputation.events.clone(),
            segments: recomputation.segments,
            arena: places.length,
            indices: self.indices,
            prepared: self.prepared,
        })
    }

    /// The shape in which each value lies: behind a flatten that was left out, the shape that was flattened.
    fn stored(&self) -> Vec<Shape> {
        let mut stored: Vec<Shape> = (0..self.needs_gradient.len()).map(|_| self.shape(NodeId::IMAGE)).collect();
        for placed in &self.steps {
            let passes_on = placed.step.layer.elementwise() || placed.step.alias;
            let input = placed.step.inputs[0].index();
            let carried = stored[input].count() == placed.output_shape.count() && passes_on;
            stored[placed.step.output.index()] = if carried { stored[input] } else { placed.output_shape };
        }
        stored
    }
}

/// The next `length` places, from the beginning of a cache line on.
fn take(next: &mut usize, length: usize) -> Range<usize> {
    let first = if length == 0 { *next } else { next.next_multiple_of(ALIGNMENT) };
    *next = first + length;
    first..*next
}

/// Numbers of the bias that a convolution has with a batch norm folded in.
fn folded_length(network: &Network, step: &Step) -> usize {
    match (&step.batch_norm, network.node(step.node)) {
        (Some(_), Some(node)) => node.output_shape().c,
        _ => 0,
    }
}
