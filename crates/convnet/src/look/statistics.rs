//! Activations over a data set: mean, spread, sparsity, and which channels are dead.
//!
//! A channel is called dead where its numbers do not differ by more than [`SAME`] of the layer's range, over every place of
//! every image that was looked at. Behind a ReLU such a channel is nearly always 0 everywhere; whatever it is, the layers
//! behind learn nothing from it about the image. Channels of layers that see one number of each image (after a global
//! pooling) are judged by the same rule.

use convnet_kernels::Machine;
use rayon::prelude::*;
use serde::Serialize;

use super::viewer::Viewer;
use crate::data::Split;
use crate::error::{Error, Result};
use crate::layer::{Layer, LayerRules};
use crate::model::{Model, check_image};
use crate::network::{Network, NodeId};

/// The share of a layer's range up to which the numbers of a channel are called the same.
pub const SAME: f64 = 1e-6;

/// The activations of every layer over a number of images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Statistics {
    /// Images that were looked at, evenly spread over the split.
    pub images: usize,
    /// Images that there are.
    pub of: usize,
    /// Each layer in order.
    pub layers: Vec<LayerStatistics>,
}

/// The activations of one layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerStatistics {
    /// Name of the layer.
    pub layer: String,
    /// Over all channels together.
    pub whole: ChannelStatistics,
    /// Number of dead channels.
    pub dead: usize,
    /// Each channel in order.
    pub channels: Vec<ChannelStatistics>,
}

/// The activations of one channel over all places of all images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ChannelStatistics {
    /// Mean.
    pub mean: f64,
    /// Standard deviation, divided by the number of values.
    pub std: f64,
    /// Smallest number.
    pub low: f32,
    /// Largest number.
    pub high: f32,
    /// Share of the numbers that are exactly 0.
    pub zeros: f64,
    /// Share of the numbers that are above 0.
    pub positive: f64,
    /// Share of the images in which a number of the channel is above 0.
    pub images: f64,
    /// Whether its numbers are the same everywhere.
    pub dead: bool,
}

/// Looks at `images` images of a split, evenly spread, or at all if there are not more.
///
/// # Errors
/// There is no image, the images have another size than the network takes, or the memory for one cannot be had.
pub fn statistics(model: &Model, split: &Split, images: usize, machine: &Machine) -> Result<Statistics> {
    let network = model.network();
    let samples = split.spread(images);
    let count = samples.len();
    if count == 0 {
        return Err(Error::Argument(format!("statistics of {images} of {} images; at least one is needed", split.len())));
    }
    check_image(network.input_shape(), split.image(0))?;
    let mut sums: Vec<Vec<Sums>> = network.nodes().iter().map(|node| vec![Sums::NONE; node.output_shape().c]).collect();
    let write = |number: usize, values: &mut [f32]| model.normalisation().apply(split.image(samples[number]), values);
    Viewer::new(model, count, machine)?.show(count, None, write, |images, plan| {
        for ((id, node), sums) in network.layers().zip(&mut sums) {
            let Some(activation) = plan.activation(id) else { continue };
            add(sums, activation.values(), node.output_shape().pixels(), images.len());
        }
    });
    let layers = network.nodes().iter().zip(sums).map(|(node, sums)| finish(node.name(), &sums)).collect();
    Ok(Statistics { images: count, of: split.len(), layers })
}

/// Adds the first `images` of a batch N×C×H×W whose planes have so many pixels.
fn add(sums: &mut [Sums], values: &[f32], pixels: usize, images: usize) {
    let channels = sums.len();
    // Each channel is one piece, its images in order: the same sums for any number of threads.
    sums.par_iter_mut().enumerate().for_each(|(channel, sums)| {
        let planes = values.chunks_exact(pixels.max(1)).skip(channel).step_by(channels);
        planes.take(images).for_each(|plane| sums.add(plane));
    });
}

/// The sums of one channel.
#[derive(Clone, Copy, Debug)]
struct Sums {
    count: u64,
    sum: f64,
    squares: f64,
    low: f32,
    high: f32,
    zeros: u64,
    positive: u64,
    planes: u64,
    positive_planes: u64,
}

impl Sums {
    const NONE: Self = Self {
        count: 0,
        sum: 0.0,
        squares: 0.0,
        low: f32::INFINITY,
        high: f32::NEG_INFINITY,
        zeros: 0,
        positive: 0,
        planes: 0,
        positive_planes: 0,
    };

    fn add(&mut self, plane: &[f32]) {
        let before = self.positive;
        for &value in plane {
            let wide = f64::from(value);
            self.sum += wide;
            self.squares += wide * wide;
            self.low = self.low.min(value);
            self.high = self.high.max(value);
            self.zeros += u64::from(value == 0.0);
            self.positive += u64::from(value > 0.0);
        }
        self.count += plane.len() as u64;
        self.planes += 1;
        self.positive_planes += u64::from(self.positive > before);
    }

    fn joined(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            sum: self.sum + other.sum,
            squares: self.squares + other.squares,
            low: self.low.min(other.low),
            high: self.high.max(other.high),
            zeros: self.zeros + other.zeros,
            positive: self.positive + other.positive,
            planes: self.planes + other.planes,
            positive_planes: self.positive_planes + other.positive_planes,
        }
    }

    fn measured(&self, range: f64) -> ChannelStatistics {
        let count = self.count.max(1) as f64;
        let mean = self.sum / count;
        ChannelStatistics {
            mean,
            std: (self.squares / count - mean * mean).max(0.0).sqrt(),
            low: self.low,
            high: self.high,
            zeros: self.zeros as f64 / count,
            positive: self.positive as f64 / count,
            images: self.positive_planes as f64 / self.planes.max(1) as f64,
            dead: f64::from(self.high) - f64::from(self.low) <= SAME * range,
        }
    }
}

fn finish(layer: &str, sums: &[Sums]) -> LayerStatistics {
    let whole = sums.iter().copied().fold(Sums::NONE, Sums::joined);
    let range = f64::from(whole.high) - f64::from(whole.low);
    let channels: Vec<ChannelStatistics> = sums.iter().map(|sums| sums.measured(range)).collect();
    let dead = channels.iter().filter(|channel| channel.dead).count();
    LayerStatistics { layer: layer.to_owned(), whole: whole.measured(range), dead, channels }
}

/// The value in which a layer's channels do their work: behind the batch norm and the activation function that follow it
/// directly and are read by it alone. The layer's own output where none follows.
pub fn activated(network: &Network, id: NodeId) -> NodeId {
    let mut id = id;
    loop {
        let mut readers = network.layers().filter(|(_, node)| node.inputs().contains(&id));
        let (Some((next, node)), None) = (readers.next(), readers.next()) else { return id };
        match node.layer() {
            Layer::BatchNorm2d(_) => id = next,
            Layer::Dropout(_) | Layer::SpatialDropout(_) => return id,
            layer if layer.elementwise() && node.inputs().len() == 1 => return next,
            _ => return id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Normalisation;
    use crate::network::Parameters;

    /// One filter passes the image on, one never passes its ReLU, one has no weight at all.
    fn model() -> Model {
        let network = Network::parse("input 1x2x2 -> conv 3 1x1 -> relu -> flatten -> fc 2").unwrap();
        let parameters = Parameters::build(&network, |index, spec| match index {
            0 => vec![1.0, 1.0, 0.0],
            1 => vec![0.0, -5.0, 0.5],
            _ => vec![0.5; spec.count()],
        });
        let normalisation = Normalisation { mean: vec![0.0], std: vec![1.0] };
        Model::new(network, parameters.unwrap(), vec!["no".into(), "yes".into()], normalisation).unwrap()
    }

    fn found(images: usize) -> Statistics {
        let pixels = [[0, 0, 0, 255], [255, 255, 0, 0], [0, 0, 0, 0]].concat();
        let split = Split::new([1, 2, 2], pixels, vec![0, 1, 0]).unwrap();
        statistics(&model(), &split, images, &Machine::detect().unwrap()).unwrap()
    }

    #[test]
    fn sums_over_places_and_images_are_those_of_the_definition() {
        let found = found(10);
        assert_eq!((found.images, found.of), (3, 3));
        let first = found.layers[1].channels[0];
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-5, "{a} {b}");
        near(first.mean, 0.25);
        near(first.std, (0.25_f64 - 0.0625).sqrt());
        near(first.zeros, 0.75);
        near(first.positive, 0.25);
        near(first.images, 2.0 / 3.0);
        near(f64::from(first.high), 1.0);
    }

    #[test]
    fn channels_that_are_the_same_everywhere_are_dead() {
        let found = found(10);
        let dead = |layer: usize| found.layers[layer].channels.iter().map(|channel| channel.dead).collect::<Vec<_>>();
        assert_eq!(dead(0), [false, false, true], "before the ReLU the second one still moves");
        assert_eq!(dead(1), [false, true, true]);
        assert_eq!(found.layers[1].dead, 2);
    }

    #[test]
    fn a_part_of_the_images_is_spread_evenly() {
        let found = found(2);
        assert_eq!((found.images, found.of), (2, 3));
        assert!((found.layers[0].channels[0].mean - 0.375).abs() < 1e-5, "the first and the second image");
    }

    #[test]
    fn the_work_of_a_convolution_is_seen_behind_its_batch_norm_and_relu() {
        let network = Network::parse("input 1x4x4 -> conv 2 1x1 -> bn -> relu -> add( conv 2 1x1 -> bn | identity ) -> relu").unwrap();
        let behind = |name: &str| network.node(activated(&network, network.find(name).unwrap())).unwrap().name().to_owned();
        assert_eq!(["conv1", "bn1", "conv2", "add1"].map(behind), ["relu1", "relu1", "bn2", "relu2"]);
    }
}
