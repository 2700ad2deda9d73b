//! When each buffer of a plan is in use: from this the arena gives it its place.

use super::Purpose;
use super::arena::Life;
use super::layout::{Outline, Placed};
use super::recompute::{Event, Recomputation};
use crate::layer::Role;
use crate::network::NodeId;

/// A buffer's number in the list of lives.
pub(super) type Buffer = usize;

/// As [`GradientTarget`](super::layout::GradientTarget), before there are places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    None,
    Write,
    InPlace,
    Add,
}

/// The buffers of one step before they have places.
#[derive(Default)]
pub(super) struct StepBuffers {
    /// The output is written over the input.
    pub in_place: bool,
    pub saved: Option<Buffer>,
    /// Working memory and weights just packed, forward, forward again, and backward.
    pub forward: [Option<Buffer>; 2],
    pub again: [Option<Buffer>; 2],
    pub backward: [Option<Buffer>; 2],
    /// For each input, where its gradient goes, and where it lies until it is added.
    pub targets: Vec<(Target, Option<Buffer>)>,
}

/// The moments at which steps run: the image is there at 0, forward step i runs at i + 1, then comes the loss, then each of the
/// events of backward, then the end.
struct Moments {
    loss: usize,
    again: Vec<usize>,
    backward: Vec<usize>,
    end: usize,
}

impl Moments {
    fn new(steps: usize, events: &[Event]) -> Self {
        let loss = steps + 1;
        let mut moments = Self { loss, again: vec![0; steps], backward: vec![0; steps], end: loss + 1 + events.len() };
        for (moment, event) in (loss + 1..).zip(events) {
            match event {
                Event::Again(step) => moments.again[*step] = moment,
                Event::Backward(step) => moments.backward[*step] = moment,
            }
        }
        moments
    }
}

/// All buffers of a plan.
pub(super) struct Lives<'a> {
    outline: &'a Outline<'a>,
    recomputation: &'a Recomputation,
    moments: Moments,
    pub list: Vec<Life>,
    /// The buffer of each value in forward.
    pub values: Vec<Option<Buffer>>,
    /// The buffer of each value that is computed again.
    pub again: Vec<Option<Buffer>>,
    pub gradients: Vec<Option<Buffer>>,
    pub steps: Vec<StepBuffers>,
    /// Whether a later layer may not write over the buffer.
    fixed: Vec<bool>,
}

impl<'a> Lives<'a> {
    /// Gives every value, gradient and working memory a buffer.
    pub fn new(outline: &'a Outline<'a>, recomputation: &'a Recomputation) -> Self {
        let values = outline.needs_gradient.len();
        let mut lives = Self {
            outline,
            recomputation,
            moments: Moments::new(outline.steps.len(), &recomputation.events),
            list: Vec::new(),
            values: vec![None; values],
            again: vec![None; values],
            gradients: vec![None; values],
            steps: Vec::with_capacity(outline.steps.len()),
            fixed: vec![false; values],
        };
        lives.values[0] = Some(lives.add(outline.shape(NodeId::IMAGE).count(), 0));
        lives.fixed[0] = true;
        for (number, placed) in outline.steps.iter().enumerate() {
            let in_place = lives.add_values(number, placed);
            let buffers = lives.add_work(number, placed);
            lives.steps.push(StepBuffers { in_place, ..buffers });
        }
        lives.add_again();
        lives.keep_output();
        if outline.purpose != Purpose::Infer {
            lives.add_gradients();
        }
        lives
    }

    fn add(&mut self, length: usize, moment: usize) -> Buffer {
        self.list.push(Life { length, first: moment, last: moment });
        self.list.len() - 1
    }

    fn add_some(&mut self, length: usize, first: usize, last: usize) -> Option<Buffer> {
        (length > 0).then(|| {
            let buffer = self.add(length, first);
            self.list[buffer].last = last;
            buffer
        })
    }

    fn extend(&mut self, buffer: Option<Buffer>, moment: usize) {
        if let Some(buffer) = buffer {
            let life = &mut self.list[buffer];
            life.first = life.first.min(moment);
            life.last = life.last.max(moment);
        }
    }

    fn dropped(&self, value: NodeId) -> bool {
        self.recomputation.dropped[value.index()]
    }

    /// Where backward, and a step that is computed again, find a value.
    pub fn later(&self, value: NodeId) -> Option<Buffer> {
        self.again[value.index()].or(self.values[value.index()])
    }

    /// Finds or makes the buffer of a step's output, and lets what it reads live until then. Returns whether the step
    /// writes over its input.
    fn add_values(&mut self, number: usize, placed: &Placed) -> bool {
        let (step, memory) = (&placed.step, &placed.memory);
        let (moment, backward) = (number + 1, self.moments.backward[number]);
        for id in step.inputs.iter().chain(&step.residual) {
            let buffer = self.values[id.index()];
            self.extend(buffer, moment);
            if memory.keeps_inputs && buffer.is_some() {
                self.fixed[id.index()] = true;
                if !self.dropped(*id) {
                    self.extend(buffer, backward);
                }
            }
        }
        let output = step.output.index();
        let only_input = match step.inputs[..] {
            [input] if step.residual != Some(input) => Some(input),
            _ => None,
        };
        let over = only_input.filter(|input| {
            let alone = self.outline.readers.only_reader(*input).is_some();
            let read_again = self.recomputation.again[number] && !self.dropped(*input);
            let free = alone && !self.fixed[input.index()] && !memory.keeps_inputs && !read_again;
            step.alias || (memory.in_place && free && self.outline.purpose != Purpose::Inspect)
        });
        if let Some(input) = over {
            self.values[output] = self.values[input.index()];
            // Whoever may not lose the input may not lose the output either, since they are one.
            let shared = step.alias && (self.fixed[input.index()] || self.outline.readers.only_reader(input).is_none());
            self.fixed[output] = memory.keeps_output || shared;
        } else {
            self.values[output] = Some(self.add(self.outline.shape(step.output).count(), moment));
            self.fixed[output] = memory.keeps_output;
        }
        if memory.keeps_output && !self.dropped(step.output) {
            self.extend(self.values[output], backward);
        }
        over.is_some()
    }

    fn add_work(&mut self, number: usize, placed: &Placed) -> StepBuffers {
        let memory = &placed.memory;
        let (moment, backward) = (number + 1, self.moments.backward[number]);
        let node = self.outline.network.node(placed.step.node);
        // The statistics of a batch are folded into the buffers when the whole step is done.
        let has_buffers = node.is_some_and(|node| node.parameters().iter().any(|spec| spec.role == Role::Buffer));
        // A plan for inspection may walk back more than once.
        let stays = has_buffers || self.outline.purpose == Purpose::Inspect;
        let saved_until = if stays { self.moments.end } else { backward };
        let [forward, prepared_backward] = placed.passing();
        let packed = [self.add_some(forward, moment, moment), self.add_some(prepared_backward, backward, backward)];
        let saved = self.add_some(memory.saved, moment, saved_until);
        StepBuffers {
            saved,
            forward: [self.add_some(memory.forward_scratch, moment, moment), packed[0]],
            backward: [self.add_some(memory.backward_scratch, backward, backward), packed[1]],
            ..StepBuffers::default()
        }
    }

    /// Gives each step that is computed again a second buffer for its output and its work, and lets what is read behind the
    /// loss live until then.
    fn add_again(&mut self) {
        let outline = self.outline;
        for (number, placed) in outline.steps.iter().enumerate() {
            let (step, output) = (&placed.step, placed.step.output);
            if step.alias {
                self.again[output.index()] = self.again[step.inputs[0].index()];
            } else if self.recomputation.again[number] {
                let moment = self.moments.again[number];
                step.inputs.iter().for_each(|input| self.extend(self.later(*input), moment));
                self.again[output.index()] = match self.steps[number].in_place {
                    true => self.again[step.inputs[0].index()],
                    false => Some(self.add(outline.shape(output).count(), moment)),
                };
                self.extend(self.again[output.index()], moment);
                let [prepared, _] = placed.passing();
                self.steps[number].again =
                    [self.add_some(placed.memory.forward_scratch, moment, moment), self.add_some(prepared, moment, moment)];
            }
        }
        for (number, placed) in outline.steps.iter().enumerate() {
            let inputs = placed.step.inputs.iter().filter(|_| placed.memory.keeps_inputs);
            let output = std::iter::once(&placed.step.output).filter(|_| placed.memory.keeps_output);
            for value in inputs.chain(output) {
                if self.dropped(*value) {
                    self.extend(self.again[value.index()], self.moments.backward[number]);
                }
            }
        }
    }

    fn keep_output(&mut self) {
        self.extend(self.values[self.outline.network.output().index()], self.moments.loss);
        if self.outline.purpose == Purpose::Inspect {
            self.values.clone().into_iter().for_each(|buffer| self.extend(buffer, self.moments.end));
        }
    }

    /// Walks the steps upwards and gives every gradient a buffer. For each step and input: where its gradient goes.
    fn add_gradients(&mut self) {
        let outline = self.outline;
        let output = outline.network.output();
        if outline.needs_gradient[output.index()] {
            self.gradients[output.index()] = Some(self.add(outline.shape(output).count(), self.moments.loss));
        }
        for (number, placed) in outline.steps.iter().enumerate().rev() {
            let moment = self.moments.backward[number];
            let gradient = self.gradients[placed.step.output.index()].filter(|_| placed.backward);
            self.extend(gradient, moment);
            for (slot, input) in placed.step.inputs.iter().enumerate() {
                let target = match gradient {
                    Some(gradient) => self.add_gradient(placed, slot, *input, gradient, moment),
                    None => (Target::None, None),
                };
                self.steps[number].targets.push(target);
            }
        }
        if outline.purpose == Purpose::Inspect {
            self.gradients.clone().into_iter().for_each(|buffer| self.extend(buffer, self.moments.end));
        } else {
            self.extend(self.gradients[0], self.moments.end);
        }
    }

    fn add_gradient(&mut self, placed: &Placed, slot: usize, input: NodeId, gradient: Buffer, moment: usize) -> (Target, Option<Buffer>) {
        if !self.outline.needs_gradient[input.index()] {
            return (Target::None, None);
        }
        let length = self.outline.shape(input).count();
        if let Some(sum) = self.gradients[input.index()] {
            self.extend(Some(sum), moment);
            return (Target::Add, Some(self.add(length, moment)));
        }
        let alias = placed.step.alias && self.outline.purpose != Purpose::Inspect;
        let over = placed.memory.in_place && slot == 0 && placed.step.inputs.len() == 1 && self.outline.purpose != Purpose::Inspect;
        if alias || over {
            self.gradients[input.index()] = Some(gradient);
            return (Target::InPlace, None);
        }
        self.gradients[input.index()] = Some(self.add(length, moment));
        (Target::Write, None)
    }
}
