//! A network as text that parses to the same network.
//!
//! One layer a line. Where the graph parts at a value and meets again in one layer, and its layers stand in the order of the
//! branches, that is written by nesting, `add( … | … )`. Whatever else there is, `from` says. A layer's name is written where
//! it is not the one it would get anyway, or where `from` needs it.
//!
//! The value at which all ways from a value to the output meet first is its post-dominator; branches that part there can only
//! meet in it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;

use super::text::MAX_DEPTH;
use super::{Network, Node};
use crate::layer::LayerRules;
use crate::shape::sizes_text;

impl Network {
    /// Whether the other network has the same image, and the same layers under the same names in the same order and wiring.
    /// Layers from outside this crate are the same when they print the same.
    ///
    /// ```
    /// use convnet::network::Network;
    ///
    /// let network = Network::parse("input 1x8x8 -> [conv 4 3x3 -> relu]*2 -> flatten -> fc 10")?;
    /// assert!(network.same_as(&Network::parse(&network.to_string())?));
    /// assert!(!network.same_as(&Network::parse("input 1x8x8 -> flatten -> fc 10")?));
    /// # Ok::<(), convnet::Error>(())
    /// ```
    pub fn same_as(&self, other: &Self) -> bool {
        let same = |(left, right): (&Node, &Node)| {
            left.name() == right.name() && left.inputs() == right.inputs() && left.layer().to_string() == right.layer().to_string()
        };
        self.input_shape() == other.input_shape()
            && self.output() == other.output()
            && self.nodes().len() == other.nodes().len()
            && self.nodes().iter().zip(other.nodes()).all(same)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "input {}", sizes_text(&self.input_shape().chw()))?;
        let structure = Structure::new(self);
        let pieces = structure.pieces();
        let named = named(self, &pieces);
        for piece in &pieces {
            match *piece {
                Piece::Text(text) => formatter.write_str(text)?,
                Piece::From(0) => formatter.write_str("from input")?,
                Piece::From(id) => write!(formatter, "from {}", structure.node(id).name())?,
                Piece::Layer(id) => {
                    let node = structure.node(id);
                    if named.contains(&id) {
                        write!(formatter, "{}: ", node.name())?;
                    }
                    node.layer().fmt(formatter)?;
                }
            }
        }
        Ok(())
    }
}

/// A part of the text. Values are numbered as by [`NodeId::index`](super::NodeId::index): 0 is the image, node `id - 1` makes value `id`.
#[derive(Clone, Copy, Debug)]
enum Piece {
    Text(&'static str),
    Layer(usize),
    From(usize),
}

/// The values whose layers must be given their names.
fn named(network: &Network, pieces: &[Piece]) -> HashSet<usize> {
    let mut named: HashSet<usize> = pieces.iter().filter_map(|piece| if let Piece::From(id) = piece { Some(*id) } else { None }).collect();
    let mut counters: HashMap<&str, usize> = HashMap::new();
    let mut taken: HashSet<&str> = HashSet::new();
    for (id, node) in network.layers() {
        let id = id.index();
        if !named.contains(&id) {
            // The name that the builder would choose here.
            let kind = node.layer().kind();
            let mut counter = counters.get(kind).copied().unwrap_or(0);
            let automatic = loop {
                counter += 1;
                let name = format!("{}{counter}", kind.replace(' ', "_"));
                if !taken.contains(name.as_str()) {
                    break name;
                }
            };
            if automatic == node.name() {
                counters.insert(kind, counter);
            } else {
                named.insert(id);
            }
        }
        taken.insert(node.name());
    }
    named
}

/// What the text needs to know of the graph.
struct Structure<'a> {
    network: &'a Network,
    /// The layers that read each value, in order.
    readers: Vec<Vec<usize>>,
    /// For each value the first one at which all its ways to the output meet.
    meets: Vec<usize>,
}

impl<'a> Structure<'a> {
    fn new(network: &'a Network) -> Self {
        let output = network.output().index();
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); network.nodes().len() + 1];
        for (id, node) in network.layers() {
            node.inputs().iter().for_each(|input| readers[input.index()].push(id.index()));
        }
        let mut structure = Self { network, meets: vec![output; readers.len()], readers };
        // Readers come after what they read, so backwards they are done first.
        for value in (0..output).rev() {
            structure.meets[value] = structure.meeting(value, 1..output + 1).unwrap_or(output);
        }
        structure
    }

    /// The first value at which all ways from this one through its readers among `layers` meet.
    fn meeting(&self, value: usize, layers: Range<usize>) -> Option<usize> {
        let readers = self.readers[value].iter().copied().filter(|reader| layers.contains(reader));
        readers.reduce(|mut left, mut right| {
            while left != right {
                let smaller = if left < right { &mut left } else { &mut right };
                *smaller = self.meets[*smaller];
            }
            left
        })
    }

    fn node(&self, id: usize) -> &'a Node {
        &self.network.nodes()[id - 1]
    }

    fn inputs(&self, id: usize) -> impl Iterator<Item = usize> + use<'a> {
        self.node(id).inputs().iter().map(|input| input.index())
    }

    /// Whether the layer is written with branches.
    fn joins(&self, id: usize) -> bool {
        self.node(id).layer().arity().1 > 1
    }

    /// The whole text behind the image.
    fn pieces(&self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let (mut value, mut next) = (0, 1);
        while next < self.readers.len() {
            pieces.push(Piece::Text("\n"));
            let (begin, id) = (pieces.len(), next);
            value = self.step(value, &mut next, self.readers.len(), 0, &mut pieces).unwrap_or_else(|| {
                pieces.truncate(begin);
                self.unnested(value, id, &mut pieces);
                next = id + 1;
                id
            });
        }
        pieces
    }

    /// Writes the layer that takes `value`, or all branches that part at it and the layer in which they meet. Layers are
    /// taken in order from `next` on, and none from `end` on. Gives the new value, or `None` when the layers are not in that
    /// order or no such structure.
    fn step(&self, value: usize, next: &mut usize, end: usize, depth: usize, pieces: &mut Vec<Piece>) -> Option<usize> {
        let meeting = self.meeting(value, *next..end).filter(|&meeting| meeting < end)?;
        pieces.push(Piece::Layer(meeting));
        if self.joins(meeting) {
            self.branches(value, meeting, next, depth, pieces)?;
        }
        if *next != meeting {
            return None;
        }
        *next += 1;
        Some(meeting)
    }

    fn branches(&self, fork: usize, meeting: usize, next: &mut usize, depth: usize, pieces: &mut Vec<Piece>) -> Option<()> {
        if depth == MAX_DEPTH {
            return None;
        }
        for (index, target) in self.inputs(meeting).enumerate() {
            pieces.push(Piece::Text(if index == 0 { "( " } else { " | " }));
            let mut value = fork;
            if target == fork {
                pieces.push(Piece::Text("identity"));
            }
            while value != target {
                if value != fork {
                    pieces.push(Piece::Text(" -> "));
                }
                value = self.step(value, next, target + 1, depth + 1, pieces)?;
            }
        }
        pieces.push(Piece::Text(" )"));
        Some(())
    }

    /// Writes one layer by itself, with `from` for what is not the present value.
    fn unnested(&self, value: usize, id: usize, pieces: &mut Vec<Piece>) {
        let source = |input: usize| if input == value { Piece::Text("identity") } else { Piece::From(input) };
        if !self.joins(id) {
            for input in self.inputs(id).filter(|&input| input != value) {
                pieces.extend([Piece::From(input), Piece::Text(" -> ")]);
            }
            pieces.push(Piece::Layer(id));
            return;
        }
        pieces.push(Piece::Layer(id));
        for (index, input) in self.inputs(id).enumerate() {
            pieces.extend([Piece::Text(if index == 0 { "( " } else { " | " }), source(input)]);
        }
        pieces.push(Piece::Text(" )"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::NodeId;
    use super::*;
    use crate::layer::{Layer, add::Add, flatten::Flatten, relu::Relu};

    /// A stream of numbers by SplitMix64.
    struct Random(u64);

    impl Random {
        fn below(&mut self, count: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ (mixed >> 31)) % count as u64) as usize
        }
    }

    #[track_caller]
    fn comes_back(network: &Network, what: &str) {
        let text = network.to_string();
        let back = Network::parse(&text).unwrap_or_else(|error| panic!("{what}\n{text}\n{error}"));
        assert!(back.same_as(network), "{what}\n{text}\nis read as\n{back}");
        assert_eq!(back.to_string(), text, "{what}");
        for (left, right) in network.nodes().iter().zip(back.nodes()) {
            assert_eq!((left.input_shapes(), left.output_shape()), (right.input_shapes(), right.output_shape()), "{what}");
        }
    }

    fn some_name(random: &mut Random, id: usize) -> String {
        // Names that the builder may choose itself are the difficult ones.
        match random.below(3) {
            0 => format!("relu{}", random.below(6) + 1),
            1 => format!("add{}", random.below(6) + 1),
            _ => format!("layer-{id}.{}", random.below(3)),
        }
    }

    fn push(builder: &mut super::super::NetworkBuilder, random: &mut Random, layer: impl Into<Layer>, inputs: &[NodeId]) -> NodeId {
        let layer = layer.into();
        if random.below(4) == 0 {
            let name = some_name(random, builder.nodes().len());
            if let Ok(id) = builder.add_named(&name, layer.clone(), inputs) {
                return id;
            }
        }
        builder.add(layer, inputs).unwrap()
    }

    /// Layers that take any values above, joined at the end.
    fn any_graph(random: &mut Random) -> Network {
        let mut builder = Network::builder([2, 3, 3]);
        let mut values = vec![NodeId::IMAGE];
        let mut unread = Vec::new();
        for _ in 0..random.below(14) + 1 {
            // Mostly the latest values, so that there are chains as well.
            let pick = |random: &mut Random| {
                let back = if random.below(3) == 0 { random.below(values.len()) } else { random.below(values.len().min(2)) };
                values[values.len() - 1 - back]
            };
            let count = if random.below(3) == 0 { random.below(3) + 2 } else { 1 };
            let inputs: Vec<NodeId> = (0..count).map(|_| pick(random)).collect();
            let layer = if count == 1 { Layer::from(Relu) } else { Add.into() };
            let id = push(&mut builder, random, layer, &inputs);
            unread.retain(|value| !inputs.contains(value));
            unread.push(id);
            values.push(id);
        }
        let last = if unread.len() > 1 { push(&mut builder, random, Add, &unread) } else { unread[0] };
        let flat = builder.add(Flatten, &[last]).unwrap();
        builder.finish(flat).unwrap()
    }

    /// Nested branches, in order or (rarely) not.
    fn nested_value(builder: &mut super::super::NetworkBuilder, random: &mut Random, value: NodeId, depth: usize) -> NodeId {
        let mut value = value;
        for _ in 0..random.below(3) + usize::from(depth == 0) {
            value = if depth < 4 && random.below(2) == 0 {
                let mut branches: Vec<NodeId> = (0..random.below(3) + 2).map(|_| nested_value(builder, random, value, depth + 1)).collect();
                if random.below(8) == 0 {
                    branches.reverse();
                }
                push(builder, random, Add, &branches)
            } else {
                push(builder, random, Relu, &[value])
            };
        }
        value
    }

    #[test]
    fn any_graph_comes_back_from_its_text() {
        for seed in 0..3000 {
            comes_back(&any_graph(&mut Random(seed)), &format!("seed {seed}"));
        }
    }

    #[test]
    fn nested_branches_come_back_from_their_text() {
        for seed in 0..3000 {
            let mut random = Random(seed);
            let mut builder = Network::builder([2, 3, 3]);
            let value = nested_value(&mut builder, &mut random, NodeId::IMAGE, 0);
            let last = builder.add(Flatten, &[value]).unwrap();
            comes_back(&builder.finish(last).unwrap(), &format!("seed {seed}"));
        }
    }

    #[test]
    fn nested_branches_in_order_are_written_without_from() {
        for text in [
            "input 2x3x3\nadd( identity | identity )\nrelu",
            "input 2x3x3\nadd( add( relu | identity ) | identity | add( identity | relu -> relu ) )",
            "input 2x3x3\nrelu\nadd( add( add( relu | relu ) -> relu | identity ) | relu )\nflatten",
            "input 2x3x3\nadd( relu -> add( relu | add( identity | relu -> relu ) -> relu ) | identity )\nrelu",
        ] {
            assert_eq!(Network::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_value_read_again_from_afar_is_named_where_it_stands() {
        let text = "input 2x3x3\nrelu1: relu\nb: relu\nadd( from relu1 | from input | from b | identity )\nadd( relu | from b )";
        assert_eq!(
            Network::parse(text).unwrap().to_string(),
            "input 2x3x3\nrelu1: relu\nb: relu\nadd( from relu1 | from input | identity | identity )\nrelu\nadd( identity | from b )"
        );
    }

    #[test]
    fn nesting_deeper_than_a_text_may_be_is_written_with_from() {
        let mut builder = Network::builder([2, 3, 3]);
        let mut forks = vec![NodeId::IMAGE];
        for _ in 0..2 * MAX_DEPTH {
            forks.push(builder.add(Relu, &[*forks.last().unwrap()]).unwrap());
        }
        let mut value = *forks.last().unwrap();
        for fork in forks.iter().rev() {
            value = builder.add(Add, &[value, *fork]).unwrap();
        }
        let network = builder.finish(value).unwrap();
        comes_back(&network, "a ladder");
        assert!(network.to_string().contains("from relu64"));
    }
}
