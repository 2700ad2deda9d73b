//! Whether a map depends on what was learnt: the randomisation test.
//!
//! The layers' numbers are drawn anew from the top down, one layer after the other, and each time the map is made again. A map
//! that shows what the network has learnt becomes another one; a map that stays alike shows the image alone. (Adebayo, Gilmer,
//! Muelly, Goodfellow, Hardt and Kim, "Sanity checks for saliency maps", 2018: cascading randomisation.)
//!
//! How alike two maps are is Spearman's rank correlation of their planes: 1 for the same order of pixels, 0 for none.

use convnet_kernels::Real;
use serde::Serialize;

use super::attribution::{Attribution, Method, Settings, Subject, Target};
use crate::error::Result;
use crate::initialise::Initialisation;
use crate::network::{Network, NodeId};

/// One more layer drawn anew.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stage {
    /// Name of the layer that was drawn anew last; those above it were before.
    pub layer: String,
    /// Layers drawn anew so far.
    pub depth: usize,
    /// Rank correlation of the map with that of the true network; `None` where a map is the same everywhere and has no order.
    pub correlation: Option<f64>,
}

/// The randomisation test of one map.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Randomisation {
    /// The method of the map.
    pub method: Method,
    /// From the top layer with numbers down to the bottom one.
    pub stages: Vec<Stage>,
}

/// The rank correlation from which on two maps look alike. Maps of smooth shapes reach a fifth by chance.
pub const ALIKE: f64 = 0.3;

impl Randomisation {
    /// Whether the map is much the same, or much the opposite, when every layer is random.
    pub fn stays_alike(&self) -> bool {
        self.at_last().is_some_and(|correlation| correlation.abs() >= ALIKE)
    }

    /// The correlation when every layer is random; `None` where the map has no order then.
    pub fn at_last(&self) -> Option<f64> {
        self.stages.last().and_then(|stage| stage.correlation)
    }
}

/// Makes the map again and again while the layers below the target are drawn anew from the top down, as before a training
/// ([`Initialisation::He`] of the seed).
///
/// # Errors
/// As [`Subject::attribute`].
pub fn randomisation<T: Real>(
    subject: &mut Subject<'_, T>,
    image: &[T],
    target: &Target,
    method: Method,
    settings: &Settings<T>,
    seed: u64,
) -> Result<Randomisation> {
    let network = subject.network();
    let plane = |attribution: Attribution<T>| attribution.plane().cast::<f64>().into_values();
    let truth = plane(subject.attribute(image, target, method, settings)?);
    let mut plans = Subject::on(network, subject.parameters(), subject.machine())?.into_plans();
    let mut numbers = subject.parameters().clone();
    let mut stages = Vec::new();
    for id in drawn_anew(network, target)? {
        let Some(node) = network.node(id) else { continue };
        for (index, spec) in node.parameter_range().zip(node.parameters()) {
            let drawn = Initialisation::He.fill(spec, seed, index);
            numbers.values_mut(index).iter_mut().zip(drawn).for_each(|(value, drawn)| *value = T::from_f32(drawn));
        }
        let mut subject = Subject::with(network, &numbers, plans);
        let map = plane(subject.attribute(image, target, method, settings)?);
        plans = subject.into_plans();
        stages.push(Stage { layer: node.name().into(), depth: stages.len() + 1, correlation: rank_correlation(&truth, &map) });
    }
    Ok(Randomisation { method, stages })
}

/// The layers with numbers that the target depends on, from the top down.
fn drawn_anew(network: &Network, target: &Target) -> Result<Vec<NodeId>> {
    let mut depends = vec![false; network.nodes().len() + 1];
    depends[target.spot(network)?.value.index()] = true;
    let mut layers: Vec<(NodeId, &crate::network::Node)> = network.layers().collect();
    layers.reverse();
    let mut found = Vec::new();
    for (id, node) in layers {
        if depends[id.index()] {
            node.inputs().iter().for_each(|input| depends[input.index()] = true);
            if !node.parameters().is_empty() {
                found.push(id);
            }
        }
    }
    Ok(found)
}

/// Spearman's rank correlation of two lists of one length: Pearson's correlation of the ranks, equal numbers sharing the mean of
/// theirs. `None` where one list is the same everywhere.
pub fn rank_correlation(first: &[f64], second: &[f64]) -> Option<f64> {
    let (first, second) = (ranks(first), ranks(second));
    let mean = (first.len() as f64 - 1.0) / 2.0;
    let sum = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum() };
    let scale = (sum(&first, &first) * sum(&second, &second)).sqrt();
    (scale > 0.0).then(|| (sum(&first, &second) / scale).clamp(-1.0, 1.0))
}

/// The rank of each number, from 0; equal numbers share the mean of their ranks.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for equal in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = first as f64 + (equal.len() as f64 - 1.0) / 2.0;
        equal.iter().for_each(|place| ranks[*place] = rank);
        first += equal.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::initialise::initial_parameters;
    use crate::random::{Address, Purpose};

    #[test]
    fn rank_correlation_is_spearmans() {
        assert_eq!(rank_correlation(&[1.0, 2.0, 3.0], &[10.0, 20.0, 90.0]), Some(1.0));
        assert_eq!(rank_correlation(&[1.0, 2.0, 3.0], &[3.0, 2.0, -1.0]), Some(-1.0));
        // Ranks 0, 1.5, 1.5, 3 and 1, 0, 2, 3: (1.5·0.5 + 0 + 0 + 1.5·1.5) / √(4.5 · 5).
        let found = rank_correlation(&[1.0, 2.0, 2.0, 4.0], &[5.0, 4.0, 6.0, 7.0]).unwrap();
        assert!((found - 3.0 / (4.5_f64 * 5.0).sqrt()).abs() < 1e-15, "{found}");
        assert_eq!(rank_correlation(&[1.0, 1.0], &[1.0, 2.0]), None);
    }

    #[test]
    fn layers_are_drawn_anew_from_the_top_down_as_far_as_the_target_depends_on_them() {
        let text = "input 1x9x9 -> conv 4 3x3 -> bn -> relu -> add( conv 4 3x3 pad 1 | identity ) -> relu -> flatten -> fc 3 -> softmax";
        let network = Network::parse(text).unwrap();
        let names = |target: &Target| -> Vec<String> {
            drawn_anew(&network, target).unwrap().iter().map(|id| network.node(*id).unwrap().name().into()).collect()
        };
        assert_eq!(names(&Target::Class(1)), ["fc1", "conv2", "bn1", "conv1"]);
        assert_eq!(names(&Target::Neuron { layer: "relu1".into(), at: [0, 0, 0] }), ["bn1", "conv1"]);
    }

    #[test]
    fn a_network_that_is_drawn_with_the_same_seed_keeps_its_map_and_another_loses_it() {
        let text = "input 1x12x12 -> conv 8 3x3 pad 1 -> relu -> maxpool 2 -> conv 16 3x3 pad 1 -> relu -> flatten -> fc 4";
        let network = Network::parse(text).unwrap();
        let parameters = initial_parameters(&network, Initialisation::He, 1).unwrap();
        let mut random = Address::new(3, Purpose::Check).random();
        let image: Vec<f32> = (0..144).map(|_| random.between(-1.0, 1.0)).collect();
        let mut subject = Subject::new(&network, &parameters).unwrap();
        let mut test = |seed| randomisation(&mut subject, &image, &Target::Class(2), Method::Gradient, &Settings::default(), seed).unwrap();
        let (same, other) = (test(1), test(2));
        assert_eq!(same.stages.iter().map(|stage| &stage.layer[..]).collect::<Vec<_>>(), ["fc1", "conv2", "conv1"]);
        assert!(same.stages.iter().all(|stage| stage.correlation == Some(1.0)), "{same:?}");
        assert!(other.at_last().unwrap().abs() < 0.5, "{other:?}");
    }
}
