//! The excerpt of a network that the middle neuron of a layer depends on: the layers below it, for as much of the image as it
//! sees and a margin around that.
//!
//! Where a neuron's receptive field lies inside of the image, no padding has a part in its number. The same layers for a
//! smaller image have a neuron whose field lies in that image in the same way; both compute the same number from the same
//! pixels, so an image for the one is an image for the other. A neuron of SqueezeNet's `fire3` sees 23×23 of 227×227 pixels:
//! its excerpt does a thirtieth of the work.

use std::collections::HashMap;

use crate::error::Error;
use crate::layer::{Layer, LayerRules};
use crate::model::Model;
use crate::network::{AxisField, Network, Node, NodeId, Parameters};

/// Pixels of margin around a field at least, and as a share of its side.
const LEAST_MARGIN: usize = 4;
const MARGIN: f64 = 0.125;

/// An excerpt pays if it has at most this share of the image's pixels.
const PAYS: f64 = 0.75;

/// See the [module](self).
#[derive(Clone, Debug)]
pub(super) struct Excerpt {
    /// The layers, for an image of the excerpt's size.
    pub network: Network,
    /// Their parameters.
    pub parameters: Parameters,
    /// The layer in question.
    pub node: NodeId,
    /// Row and column of the neuron.
    pub at: [usize; 2],
    /// Where the excerpt lies in the image: its first row and column.
    pub origin: [usize; 2],
}

impl Excerpt {
    /// That of the neuron at this row and column of a layer; `None` where it would not pay, where the field reaches into the
    /// padding or is not the same everywhere, and where a layer takes images of one size only.
    pub fn of(model: &Model, node: NodeId, at: [usize; 2]) -> Option<Self> {
        let network = model.network();
        let [channels, h, w] = model.image_size();
        let field = network.receptive_fields()[node.index()];
        if node == NodeId::IMAGE || field.is_whole() || !field.in_step {
            return None;
        }
        let (rows, columns) = (Cut::of(&field.h, at[0], h)?, Cut::of(&field.w, at[1], w)?);
        if (rows.side * columns.side) as f64 > PAYS * (h * w) as f64 {
            return None;
        }
        let (network, node) = below(network, node, [channels, rows.side, columns.side])?;
        let own = model.parameters();
        let tensor = |name: &str| {
            let found = own.get(name).map(|parameter| parameter.tensor.clone());
            found.ok_or_else(|| Error::Argument(format!("the model has no parameter '{name}'")))
        };
        let parameters = Parameters::from_tensors(&network, tensor).ok()?;
        Some(Self { network, parameters, node, at: [rows.place, columns.place], origin: [rows.origin, columns.origin] })
    }
}

/// What is cut out of an axis.
struct Cut {
    /// The first pixel.
    origin: usize,
    /// How many pixels.
    side: usize,
    /// The neuron's place in the layer for so many pixels.
    place: usize,
}

impl Cut {
    /// Around what `place` sees of an axis of `length` pixels.
    fn of(field: &AxisField, place: usize, length: usize) -> Option<Self> {
        let window = field.window(place);
        let (first, last) = (usize::try_from(window.start).ok()?, usize::try_from(window.end).ok()?);
        let jump = usize::try_from(field.jump).ok().filter(|jump| *jump > 0)?;
        if last > length {
            return None;
        }
        let margin = LEAST_MARGIN.max(((last - first) as f64 * MARGIN) as usize);
        // The excerpt begins whole steps away from the image's beginning, so that its windows lie as those of the image do.
        let steps = (first.saturating_sub(margin) / jump).min(place);
        let origin = steps * jump;
        Some(Self { origin, side: (last + margin).min(length) - origin, place: place - steps })
    }
}

/// The layers that a value depends on, under their names, for images of this size.
fn below(network: &Network, node: NodeId, size: [usize; 3]) -> Option<(Network, NodeId)> {
    let mut needed = vec![false; node.index() + 1];
    needed[node.index()] = true;
    let layers: Vec<(NodeId, &Node)> = network.layers().take(node.index()).collect();
    for (id, layer) in layers.iter().rev().filter(|(id, _)| id.index() <= node.index()) {
        if needed[id.index()] {
            layer.inputs().iter().for_each(|input| needed[input.index()] = true);
        }
    }
    let mut builder = Network::builder(size);
    let mut known = HashMap::from([(NodeId::IMAGE, builder.input())]);
    for (id, layer) in layers.into_iter().filter(|(id, _)| needed[id.index()]) {
        // The parts of an adaptive pooling follow the size of what comes in, and what strangers' layers do is not known.
        if layer.layer().kind().starts_with("adaptive") || matches!(layer.layer(), Layer::Custom(_)) {
            return None;
        }
        let inputs = layer.inputs().iter().map(|input| known.get(input).copied()).collect::<Option<Vec<_>>>()?;
        known.insert(id, builder.add_named(layer.name(), layer.layer().clone(), &inputs).ok()?);
    }
    let node = *known.get(&node)?;
    Some((builder.finish(node).ok()?, node))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Normalisation;
    use crate::initialise::{Initialisation, initial_parameters};
    use crate::plan::{Plan, Purpose};
    use convnet_kernels::Machine;

    const BODY: &str = "conv 6 3x3 stride 2 pad 1 -> bn -> relu -> maxpool 3 stride 2 -> conv 4 1x1
        -> concat( conv 5 3x3 pad 1 -> relu | identity ) -> last: conv 7 3x3 pad 1 -> relu -> global avgpool -> flatten -> fc 3";

    fn model(input: &str) -> Model {
        let network = Network::parse(&format!("input {input} -> {BODY}")).unwrap();
        let parameters = initial_parameters(&network, Initialisation::default(), 5).unwrap();
        let classes = ["a", "b", "c"].map(String::from).to_vec();
        Model::new(network, parameters, classes, Normalisation { mean: vec![0.4; 2], std: vec![0.3; 2] }).unwrap()
    }

    fn value(network: &Network, parameters: &Parameters, node: NodeId, image: &[f32]) -> Vec<f32> {
        let mut plan: Plan = Plan::new(network, 1, Purpose::Inspect, &Machine::detect().unwrap()).unwrap();
        plan.forward_until(parameters, image, node);
        plan.activation(node).unwrap().values().to_vec()
    }

    #[test]
    fn an_excerpt_computes_the_same_number_from_the_same_pixels() {
        let model = model("2x90x101");
        let image: Vec<f32> = (0..2 * 90 * 101).map(|i| (i * 131 % 257) as f32 / 128.0 - 1.0).collect();
        for (layer, smaller_than) in [("conv1", 200), ("maxpool1", 500), ("last", 4000)] {
            let node = model.network().find(layer).unwrap();
            let shape = model.network().shape(node);
            for at in [[shape.h / 2, shape.w / 2], [shape.h / 2 + 1, shape.w / 2 - 2]] {
                let excerpt = Excerpt::of(&model, node, at).unwrap();
                let [_, h, w] = excerpt.network.input_shape().chw();
                assert!(h * w < smaller_than, "{layer}: {h}x{w}");
                let pixel = |i: usize| {
                    let (c, y, x) = (i / (h * w), i / w % h + excerpt.origin[0], i % w + excerpt.origin[1]);
                    image[(c * 90 + y) * 101 + x]
                };
                let part: Vec<f32> = (0..2 * h * w).map(pixel).collect();
                let whole = value(model.network(), model.parameters(), node, &image);
                let few = value(&excerpt.network, &excerpt.parameters, excerpt.node, &part);
                let small = excerpt.network.shape(excerpt.node);
                for channel in 0..shape.c {
                    let a = whole[(channel * shape.h + at[0]) * shape.w + at[1]];
                    let b = few[(channel * small.h + excerpt.at[0]) * small.w + excerpt.at[1]];
                    assert!((a - b).abs() <= 1e-5 * (1.0 + a.abs()), "{layer} {channel}: {a} {b}");
                }
            }
        }
    }

    #[test]
    fn there_is_none_at_the_border_for_what_sees_the_whole_or_nearly() {
        let (large, small) = (model("2x90x101"), model("2x32x32"));
        let id = |model: &Model, layer: &str| model.network().find(layer).unwrap();
        assert!(Excerpt::of(&large, id(&large, "last"), [0, 5]).is_none(), "padding");
        assert!(Excerpt::of(&large, id(&large, "fc1"), [0, 0]).is_none(), "the whole image");
        assert!(Excerpt::of(&small, id(&small, "last"), [3, 3]).is_none(), "nearly the whole image");
        assert!(Excerpt::of(&small, id(&small, "conv1"), [9, 9]).is_some());
    }
}
