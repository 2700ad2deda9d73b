//! Which activations a plan that trains computes twice, so that it need not keep them.
//!
//! The steps are cut into segments. What crosses a border between two segments is kept; what is made and read within one
//! segment alone is dropped behind forward, and computed again from what crosses its border just before the segment's part of
//! backward (Chen, Xu, Zhang and Guestrin, "Training deep nets with sublinear memory cost", 2016). The last segment, whose part
//! of backward follows at once, is kept whole. Few segments mean that much lies there again at once, many that much is kept at
//! their borders: for each of several limits on the former, a dynamic programme over the borders finds the least of the
//! latter; the plan that draws the smallest arena of all these wins.
//!
//! The same kernels compute the same numbers from the same inputs, random numbers have addresses, and the statistics of a
//! batch are folded into the buffers when the whole step is done: no bit differs from a training that keeps everything.

use std::ops::Range;

use super::layout::Placed;
use super::schedule::Readers;

/// How many limits on the memory of a segment are tried.
const LIMITS: usize = 16;

/// The most places at which a network may be cut; where it has more, some are left out.
const MOST_PLACES: usize = 160;

/// One thing to run behind the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Step of this number forward once more.
    Again(usize),
    /// Step of this number backward.
    Backward(usize),
}

/// What runs behind the loss, and which values do not lie there any more by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recomputation {
    /// In the order in which it runs.
    pub events: Vec<Event>,
    /// For each value, whether it is dropped: no buffer holds it from forward to backward.
    pub dropped: Vec<bool>,
    /// For each step, whether it is computed again.
    pub again: Vec<bool>,
    /// Number of segments that are computed again.
    pub segments: usize,
}

impl Recomputation {
    /// Everything is kept.
    pub fn none(steps: usize, values: usize) -> Self {
        let events = (0..steps).rev().map(Event::Backward).collect();
        Self { events, dropped: vec![false; values], again: vec![false; steps], segments: 0 }
    }

    /// All segments but the last are computed again.
    fn of(segments: &[Range<usize>], values: &Values) -> Self {
        let steps = values.steps;
        let mut found = Self { events: Vec::new(), ..Self::none(steps.len(), values.made.len()) };
        for (number, segment) in segments.iter().enumerate().rev() {
            if number + 1 < segments.len() {
                found.drop_inside(segment, values);
            }
            found.events.extend(segment.clone().filter(|step| found.again[*step]).map(Event::Again));
            found.events.extend(segment.clone().rev().map(Event::Backward));
        }
        found.segments = segments.iter().filter(|segment| found.again[(*segment).clone()].contains(&true)).count();
        found
    }

    /// Drops what is made and read within a segment, and finds the steps that bring back what backward reads of it.
    fn drop_inside(&mut self, segment: &Range<usize>, values: &Values) {
        let inside = |root: usize| segment.contains(&values.made[root]) && values.last_read[root] < segment.end;
        let mut wanted: Vec<bool> = (0..values.made.len()).map(|value| inside(value) && values.wanted[value]).collect();
        for step in segment.clone().rev() {
            let placed = &values.steps[step];
            self.again[step] = !placed.step.alias && wanted[placed.step.output.index()];
            if self.again[step] {
                for input in placed.step.inputs.iter().map(|id| values.root[id.index()]) {
                    wanted[input] |= inside(input);
                }
            }
        }
        for (dropped, root) in self.dropped.iter_mut().zip(&values.root) {
            *dropped |= inside(*root);
        }
    }
}

/// Values as the cutting sees them. The output of a flatten that was left out is its input: their *root* is one.
struct Values<'a> {
    steps: &'a [Placed],
    root: Vec<usize>,
    /// The step that makes the root; `usize::MAX` for the image, which is always kept.
    made: Vec<usize>,
    /// The last step that reads the root; `usize::MAX` for the output of the network.
    last_read: Vec<usize>,
    /// Whether backward reads the root.
    wanted: Vec<bool>,
    /// Numbers in each root; 0 for the others.
    count: Vec<usize>,
}

impl<'a> Values<'a> {
    fn new(steps: &'a [Placed], readers: &Readers, values: usize) -> Self {
        let mut root: Vec<usize> = (0..values).collect();
        let (mut made, mut last_read) = (vec![usize::MAX; values], vec![0; values]);
        let (mut wanted, mut count) = (vec![false; values], vec![0; values]);
        for (number, placed) in steps.iter().enumerate() {
            let (step, output) = (&placed.step, placed.step.output.index());
            for input in step.inputs.iter().map(|id| root[id.index()]) {
                last_read[input] = last_read[input].max(number);
                wanted[input] |= placed.memory.keeps_inputs;
            }
            if step.alias {
                root[output] = root[step.inputs[0].index()];
            } else {
                (made[output], count[output]) = (number, placed.output_shape.count());
            }
            wanted[root[output]] |= placed.memory.keeps_output;
        }
        last_read[root[readers.output().index()]] = usize::MAX;
        Self { steps, root, made, last_read, wanted, count }
    }

    /// For each place between two steps, the numbers of all values that cross it; the first and the last place have none.
    fn crossing(&self) -> Vec<u64> {
        let mut change = vec![0i128; self.steps.len() + 1];
        for value in (0..self.made.len()).filter(|value| self.count[*value] > 0) {
            let (from, to) = (self.made[value] + 1, self.last_read[value].min(self.steps.len() - 1) + 1);
            if from < to {
                change[from] += self.count[value] as i128;
                change[to] -= self.count[value] as i128;
            }
        }
        let mut sum = 0;
        change
            .iter()
            .map(|change| {
                sum += change;
                u64::try_from(sum).unwrap_or(u64::MAX)
            })
            .collect()
    }

    /// For each place, the numbers that backward reads of all values made before it.
    fn read_by_backward(&self) -> Vec<u64> {
        let mut sums = vec![0u64; self.steps.len() + 1];
        for value in (0..self.made.len()).filter(|value| self.wanted[*value] && self.count[*value] > 0) {
            sums[self.made[value] + 1] += self.count[value] as u64;
        }
        for place in 1..sums.len() {
            sums[place] += sums[place - 1];
        }
        sums
    }
}

/// Ways to save memory by computing again, each with other segments; the caller takes the one that suits it best.
pub(super) fn ways(steps: &[Placed], readers: &Readers, values: usize) -> Vec<Recomputation> {
    let values = Values::new(steps, readers, values);
    let mut ways: Vec<Recomputation> = segmentations(&values).iter().map(|segments| Recomputation::of(segments, &values)).collect();
    ways.retain(|way| way.segments > 0);
    ways
}

fn segmentations(values: &Values) -> Vec<Vec<Range<usize>>> {
    if values.steps.is_empty() {
        return Vec::new();
    }
    let (crossing, read) = (values.crossing(), values.read_by_backward());
    let places = places(&crossing);
    let weight = |from: usize, to: usize| read[places[to]] - read[places[from]];
    let least = (1..places.len()).map(|to| weight(to - 1, to)).max().unwrap_or(0).max(1) as f64;
    let whole = weight(0, places.len() - 1).max(1) as f64;
    let mut found: Vec<Vec<Range<usize>>> = Vec::new();
    for number in 0..LIMITS {
        let limit = least * (whole / least).powf(number as f64 / LIMITS as f64);
        let segments = cheapest(&places, &crossing, |from, to| weight(from, to) as f64 <= limit * (1.0 + 1e-9));
        if !found.contains(&segments) {
            found.push(segments);
        }
    }
    found
}

/// Where to cut: both ends, and the places that no more crosses than their neighbours.
fn places(crossing: &[u64]) -> Vec<usize> {
    let last = crossing.len() - 1;
    let good = |place: &usize| crossing[*place] <= crossing[place - 1] || crossing[*place] <= crossing[place + 1];
    let inner: Vec<usize> = (1..last).filter(|place| good(place)).collect();
    let stride = inner.len().div_ceil(MOST_PLACES).max(1);
    std::iter::once(0).chain(inner.into_iter().step_by(stride)).chain([last]).collect()
}

/// The segments within the limit with the least that crosses their borders.
fn cheapest(places: &[usize], crossing: &[u64], fits: impl Fn(usize, usize) -> bool) -> Vec<Range<usize>> {
    let mut best: Vec<(u64, usize)> = vec![(0, 0)];
    for to in 1..places.len() {
        let ways = (0..to).filter(|from| fits(*from, to) || from + 1 == to);
        let cost = |from: usize| best[from].0.saturating_add(if from == 0 { 0 } else { crossing[places[from]] });
        let way = ways.map(|from| (cost(from), from)).min();
        best.push(way.expect("one step back is always a way"));
    }
    let mut segments = Vec::new();
    let mut to = places.len() - 1;
    while to > 0 {
        let from = best[to].1;
        segments.push(places[from]..places[to]);
        to = from;
    }
    segments.reverse();
    segments
}

#[cfg(test)]
mod tests {
    use convnet_kernels::{Isa, Machine};

    use super::super::layout::{Layout, Outline};
    use super::super::{Plan, PlanBytes, Purpose};
    use super::*;
    use crate::layer::{
        ParameterSpec, add::Add, batch_norm2d::BatchNorm2d, concat::Concat, conv2d::Conv2d, dropout::Dropout, flatten::Flatten,
        linear::Linear, max_pool2d::MaxPool2d, relu::Relu, sigmoid::Sigmoid,
    };
    use crate::network::NodeId;
    use crate::network::{Network, Parameters};
    use crate::random::{self, Address, Random};

    const BATCH: usize = 2;

    fn machine() -> Machine {
        Machine::new(Isa::detect(), 1)
    }

    fn random(number: u64) -> Random {
        Address::new(number, random::Purpose::Check).random()
    }

    fn numbers(seed: u64, count: usize) -> Vec<f32> {
        let mut random = random(seed);
        (0..count).map(|_| random.uniform() - 0.5).collect()
    }

    /// A network of that many layers that read whatever was made before, with a classifier behind all that nobody read.
    fn any_network(seed: u64, layers: usize) -> Network {
        let mut random = random(seed);
        let mut builder = Network::builder([3, 5, 4]);
        let mut made = vec![builder.add(Conv2d::new(4, [3, 3]).pad([1, 1]), &[NodeId::IMAGE]).unwrap()];
        let mut unread = made.clone();
        for _ in 0..layers {
            // Mostly the last value, as in real networks.
            let mut pick = || made[made.len() - 1 - if random.below(3) > 0 { 0 } else { random.below(made.len()) }];
            let (first, second) = (pick(), pick());
            let (value, read) = match random.below(9) {
                0 => (builder.add(BatchNorm2d::default(), &[first]), vec![first]),
                1 | 2 => (builder.add(Relu, &[first]), vec![first]),
                3 => (builder.add(Sigmoid, &[first]), vec![first]),
                4 => (builder.add(Dropout::new(0.3), &[first]), vec![first]),
                5 => (builder.add(Add, &[first, second]), vec![first, second]),
                6 => (builder.add(MaxPool2d::new([3, 3]).stride([1, 1]).pad([1, 1]), &[first]), vec![first]),
                7 => {
                    let joined = builder.add(Concat, &[first, second]).unwrap();
                    (builder.add(Conv2d::new(4, [1, 1]), &[joined]), vec![first, second])
                }
                _ => (builder.add(Conv2d::new(4, [3, 3]).pad([1, 1]).without_bias(), &[first]), vec![first]),
            };
            unread.retain(|value| !read.contains(value));
            made.push(value.unwrap());
            unread.extend(made.last());
        }
        let last = if unread.len() > 1 { builder.add(Add, &unread).unwrap() } else { unread[0] };
        let flat = builder.add(Flatten, &[last]).unwrap();
        let behind = if random.below(2) == 0 { builder.add(Relu, &[flat]).unwrap() } else { flat };
        let behind = if random.below(2) == 0 { builder.add(Dropout::new(0.2), &[behind]).unwrap() } else { behind };
        let scores = builder.add(Linear::new(3), &[behind]).unwrap();
        builder.finish(scores).unwrap()
    }

    /// The bits of outputs, gradients and buffers of three training steps.
    fn bits(network: &Network, mut plan: Plan) -> Vec<u32> {
        let value = |index: usize, spec: &ParameterSpec| {
            let values = numbers(100 + index as u64, spec.count());
            if spec.name == "running_var" { values.iter().map(|value| value * value + 1.0).collect() } else { values }
        };
        let mut parameters = Parameters::build(network, value).unwrap();
        let mut bits = Vec::new();
        let mut keep = |values: &[f32]| bits.extend(values.iter().map(|value| value.to_bits()));
        for step in 0..3 {
            keep(plan.forward(&parameters, &numbers(step, plan.input_shape().count()), 7 + step));
            plan.backward(&parameters, &numbers(10 + step, plan.output_shape().count()));
            plan.gradients().iter().for_each(|gradient| keep(gradient));
            plan.update_buffers(network, &mut parameters);
            for index in 0..parameters.list().len() {
                let gradient = &plan.gradients()[index];
                parameters.values_mut(index).iter_mut().zip(gradient).for_each(|(value, gradient)| *value -= 0.01 * gradient);
            }
        }
        parameters.list().iter().for_each(|parameter| keep(parameter.tensor.values()));
        bits
    }

    fn all_ways(network: &Network) -> Vec<Layout> {
        let machine = Purpose::TrainRecomputing.on(&machine());
        let outline = Outline::new::<f32>(network, BATCH, Purpose::TrainRecomputing, machine.means()).unwrap();
        let ways = ways(&outline.steps, &outline.readers, outline.needs_gradient.len());
        ways.iter().map(|way| outline.draw(way).unwrap()).collect()
    }

    #[test]
    fn no_way_of_cutting_any_network_changes_a_bit() {
        let (mut tried, mut smaller) = (0, 0);
        for seed in 0..120 {
            let network = any_network(seed, 4 + seed as usize % 24);
            let plain = Plan::new(&network, BATCH, Purpose::Train, &machine()).unwrap();
            let arena = plain.layout.arena;
            let expected = bits(&network, plain);
            for layout in all_ways(&network) {
                let segments = layout.segments;
                smaller += usize::from(layout.arena < arena);
                let machine = Purpose::TrainRecomputing.on(&machine());
                let plan = Plan::of(layout, &network, BATCH, Purpose::TrainRecomputing, machine).unwrap();
                assert!(bits(&network, plan) == expected, "seed {seed}, {segments} segments:\n{network}");
                tried += 1;
            }
        }
        assert!(tried > 200 && smaller > 50, "{tried} ways, of which {smaller} save memory");
    }

    #[test]
    fn a_long_chain_takes_the_memory_of_a_few_layers() {
        let text = "input 4x16x16 -> [conv 4 3x3 pad 1 -> sigmoid]*64 -> flatten -> fc 2";
        let network = Network::parse(text).unwrap();
        let of = |purpose| PlanBytes::of::<f32>(&network, BATCH, purpose, &machine()).unwrap().arena;
        let (plain, recomputing) = (of(Purpose::Train), of(Purpose::TrainRecomputing));
        // 64 kept activations become about √64 at borders and √64 within a segment; the rest is working memory.
        assert!(recomputing < plain / 2, "{plain} and {recomputing}");
        let layout = all_ways(&network).into_iter().min_by_key(|layout| layout.arena).unwrap();
        assert!((4..=16).contains(&layout.segments), "{}", layout.segments);
        let again = layout.events.iter().filter(|event| matches!(event, Event::Again(_))).count();
        assert!(again < 2 * 64 && layout.macs_again() < layout.macs_of_step() / 3, "{again}");
    }

    #[test]
    fn where_nothing_is_saved_nothing_is_computed_again() {
        for text in ["input 3x4x4 -> conv 2 3x3", "input 3x4x4 -> flatten -> fc 2", "input 3x4x4 -> relu"] {
            let network = Network::parse(text).unwrap();
            let layout = Layout::new::<f32>(&network, BATCH, Purpose::TrainRecomputing, machine().means()).unwrap();
            assert_eq!((layout.segments, layout.macs_again()), (0, 0), "{text}");
        }
    }

    #[test]
    fn what_crosses_a_border_is_kept_and_what_lies_between_comes_back() {
        let network = Network::parse("input 1x4x4 -> conv 2 3x3 pad 1 -> sigmoid -> conv 2 3x3 pad 1 -> sigmoid -> conv 1 3x3").unwrap();
        let outline = Outline::new::<f32>(&network, 1, Purpose::TrainRecomputing, machine().means()).unwrap();
        let values = Values::new(&outline.steps, &outline.readers, outline.needs_gradient.len());
        let way = Recomputation::of(&[0..2, 2..5], &values);
        // The first convolution's output is written over; the first sigmoid's is read by the second convolution.
        assert_eq!(way.dropped, [false, true, false, false, false, false]);
        assert_eq!((way.again.as_slice(), way.segments), (&[false; 5][..], 0));
        let way = Recomputation::of(&[0..3, 3..5], &values);
        assert_eq!(way.dropped, [false, true, true, false, false, false]);
        assert_eq!(way.again, [true, true, false, false, false]);
        use Event::{Again, Backward};
        assert_eq!(way.events, [Backward(4), Backward(3), Again(0), Again(1), Backward(2), Backward(1), Backward(0)]);
    }
}
