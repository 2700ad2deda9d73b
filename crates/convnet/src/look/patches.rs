//! Patches **from the data**: the places of a data set that a channel answers to most, and least.
//!
//! Every image is shown once, in batches; of each channel the best place of the image is kept, so that one image gives a
//! channel at most one patch, and of all images only the k best and the k worst. A patch is what the place sees of its
//! image, its receptive field without what lies in the padding. Values are taken in front of a ReLU, as those of
//! [synthetic images](super::maximise) are, so that there is a least one too.

use std::collections::HashMap;
use std::ops::Range;

use convnet_kernels::Machine;
use rayon::prelude::*;
use serde::{Serialize, Serializer};

use super::maximise::{Values, check_data, name_of, taken_at};
use super::picture::part;
use super::viewer::Viewer;
use crate::data::Split;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::network::{Network, NodeId, Region};
use crate::shape::Shape;

/// A piece of an image of the data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Patch {
    /// The channel's number there.
    pub value: f32,
    /// Row and column of the number in the channel's map.
    pub at: [usize; 2],
    /// Number of the image in the data.
    pub image: usize,
    /// Its class.
    pub label: usize,
    /// Rows of the image that the number depends on.
    pub rows: Range<usize>,
    /// Columns of the image that the number depends on.
    pub columns: Range<usize>,
    /// Channels, height and width of the patch.
    pub size: [usize; 3],
    /// Bytes of the patch, C×H×W.
    #[serde(skip)]
    pub pixels: Vec<u8>,
}

/// The patches of one channel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChannelPatches {
    /// Number of the channel.
    pub channel: usize,
    /// The patches with the largest values, largest first.
    pub top: Vec<Patch>,
    /// The patches with the smallest values, smallest first.
    pub bottom: Vec<Patch>,
    /// Share of each class among the images of `top`; as JSON only the classes with a share.
    #[serde(serialize_with = "but_zeros")]
    pub label_shares: Vec<f64>,
    /// For each class, the mean over its images of the channel's largest number; 0 for a class without images, which is left
    /// out as JSON.
    #[serde(serialize_with = "but_zeros")]
    pub class_means: Vec<f64>,
    /// Share of the images in which the channel is above 0 somewhere: what a ReLU behind it lets through. 0 is a channel that
    /// is dead behind a ReLU.
    pub positive_images: f64,
}

/// Of a thousand classes most have nothing to tell of a channel: an object of the numbers that are not 0, by their places.
fn but_zeros<S: Serializer>(numbers: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(numbers.iter().enumerate().filter(|(_, number)| **number != 0.0))
}

/// The patches of one layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerPatches {
    /// The layer that was asked for.
    pub layer: String,
    /// The layer whose output the values are of: in front of the ReLU.
    pub taken_at: String,
    /// Images that were shown.
    pub images: usize,
    /// Each channel in order, from the first on.
    pub channels: Vec<ChannelPatches>,
}

/// Looks for patches. A builder.
///
/// ```no_run
/// use convnet::{data::Dataset, look::Patches, model::Model};
///
/// let model = Model::load("runs/1")?;
/// let layers = Patches::new(&model).layers(["conv2", "conv3"]).top(9).run(&Dataset::embedded().test)?;
/// let best = &layers[0].channels[0].top[0];
/// println!("image {} gives channel 0 of conv2 the value {}", best.image, best.value);
/// # Ok::<(), convnet::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Patches<'a> {
    model: &'a Model,
    layers: Vec<String>,
    top: usize,
    bottom: usize,
    most: usize,
    machine: Option<Machine>,
}

/// The most patches that a channel keeps at either end.
const MOST: usize = 10_000;

impl<'a> Patches<'a> {
    /// Nine at the top and three at the bottom, of the scores of the classes until layers are named.
    pub fn new(model: &'a Model) -> Self {
        Self { model, layers: Vec::new(), top: 9, bottom: 3, most: usize::MAX, machine: None }
    }

    /// Of these layers, in one pass over the data.
    pub fn layers<S: Into<String>>(self, names: impl IntoIterator<Item = S>) -> Self {
        Self { layers: names.into_iter().map(Into::into).collect(), ..self }
    }

    /// So many with the largest values.
    pub fn top(self, count: usize) -> Self {
        Self { top: count, ..self }
    }

    /// So many with the smallest values.
    pub fn bottom(self, count: usize) -> Self {
        Self { bottom: count, ..self }
    }

    /// Of at most so many channels of each layer, from the first on. A patch of a large field is most of an image: those of all
    /// channels of a network for large images take gigabytes.
    pub fn most(self, channels: usize) -> Self {
        Self { most: channels, ..self }
    }

    /// The instructions and threads to use; by default the best and all.
    pub fn machine(self, machine: Machine) -> Self {
        Self { machine: Some(machine), ..self }
    }

    /// Shows every image of the data and returns the patches of each layer.
    ///
    /// # Errors
    /// There is no such layer, the data is empty, of another size or has other classes, more than 10,000 patches are asked
    /// for, or memory cannot be had.
    pub fn run(&self, data: &Split) -> Result<Vec<LayerPatches>> {
        let (network, classes) = (self.model.network(), self.model.classes().len());
        check_data(self.model, data)?;
        if let Some(label) = data.labels().iter().find(|label| **label >= classes) {
            return Err(Error::Argument(format!("an image has class number {label}, but the model knows {classes} classes")));
        }
        if self.top.max(self.bottom) > MOST {
            return Err(Error::Argument(format!("{} patches of each channel are asked for; at most {MOST}", self.top.max(self.bottom))));
        }
        let machine = self.machine.clone().map_or_else(|| Machine::detect().map_err(Error::Argument), Ok)?;
        let asked = match self.layers.as_slice() {
            [] => vec![network.output()],
            names => names.iter().map(|name| network.find(name)).collect::<Result<_>>()?,
        };
        let mut layers: Vec<Layer> = asked.into_iter().map(|id| Layer::new(network, id, [self.top, self.bottom], classes)).collect();
        self.show(data, &machine, &mut layers)?;
        layers.into_iter().map(|layer| layer.finish(network, data, self.most)).collect()
    }

    fn show(&self, data: &Split, machine: &Machine, layers: &mut [Layer]) -> Result<()> {
        let write = |number: usize, image: &mut [f32]| self.model.normalisation().apply(data.image(number), image);
        let only = if let [layer] = layers { Some(layer.node) } else { None };
        Viewer::new(self.model, data.len(), machine)?.show(data.len(), only, write, |images, plan| {
            for layer in &mut *layers {
                let Some(values) = plan.stored_activation(layer.node) else { continue };
                let (shape, stored, batch) = (layer.shape, values.shape, values.values);
                let of = |place: usize| Extremes::of(&Values::of_image(shape, stored, batch, place), shape);
                let found: Vec<Extremes> = (0..images.len()).into_par_iter().map(of).collect();
                for (image, found) in images.clone().zip(&found) {
                    layer.count(image, data.labels()[image], found);
                }
            }
        });
        Ok(())
    }
}

/// A number and its place in the channel's map.
type Found = (f32, usize);

/// The largest and the smallest number of each channel for one image.
struct Extremes {
    largest: Vec<Found>,
    smallest: Vec<Found>,
}

impl Extremes {
    /// The first of equals counts; numbers that are none never do.
    fn of(values: &Values<'_, f32>, shape: Shape) -> Self {
        let mut found = Self { largest: vec![(f32::NEG_INFINITY, 0); shape.c], smallest: vec![(f32::INFINITY, 0); shape.c] };
        let channels = values.stored_channels();
        let places = values.all().len() / channels;
        for (place, row) in values.all().chunks_exact(channels).enumerate() {
            for (index, value) in row.iter().enumerate() {
                // Behind a flatten every number is a channel of its own.
                let (channel, place) = if channels == shape.c { (index, place) } else { (index * places + place, 0) };
                if *value > found.largest[channel].0 {
                    found.largest[channel] = (*value, place);
                }
                if *value < found.smallest[channel].0 {
                    found.smallest[channel] = (*value, place);
                }
            }
        }
        found
    }
}

/// A layer while images are shown.
struct Layer {
    asked: NodeId,
    node: NodeId,
    shape: Shape,
    keep: [usize; 2],
    images: usize,
    images_of_class: Vec<usize>,
    channels: Vec<Channel>,
}

/// A channel while images are shown.
#[derive(Clone)]
struct Channel {
    top: Vec<Kept>,
    bottom: Vec<Kept>,
    sums: Vec<f64>,
    positive: usize,
}

/// A place of an image.
#[derive(Clone, Copy)]
struct Kept {
    value: f32,
    place: usize,
    image: usize,
}

impl Layer {
    fn new(network: &Network, asked: NodeId, keep: [usize; 2], classes: usize) -> Self {
        let node = taken_at(network, asked);
        let shape = network.shape(node);
        let channel = Channel { top: Vec::new(), bottom: Vec::new(), sums: vec![0.0; classes], positive: 0 };
        Self { asked, node, shape, keep, images: 0, images_of_class: vec![0; classes], channels: vec![channel; shape.c] }
    }

    fn count(&mut self, image: usize, label: usize, found: &Extremes) {
        self.images += 1;
        self.images_of_class[label] += 1;
        for (channel, (largest, smallest)) in self.channels.iter_mut().zip(found.largest.iter().zip(&found.smallest)) {
            keep(&mut channel.top, self.keep[0], Kept { value: largest.0, place: largest.1, image }, |new, old| new > old);
            keep(&mut channel.bottom, self.keep[1], Kept { value: smallest.0, place: smallest.1, image }, |new, old| new < old);
            channel.sums[label] += f64::from(largest.0);
            channel.positive += usize::from(largest.0 > 0.0);
        }
    }

    fn finish(self, network: &Network, data: &Split, most: usize) -> Result<LayerPatches> {
        let mut regions: HashMap<usize, Region> = HashMap::new();
        let mut channels = Vec::with_capacity(self.channels.len());
        for (number, channel) in self.channels.iter().enumerate().take(most) {
            let mut patches =
                |kept: &[Kept]| kept.iter().map(|kept| self.patch(network, data, kept, &mut regions)).collect::<Result<Vec<_>>>();
            let (top, bottom) = (patches(&channel.top)?, patches(&channel.bottom)?);
            let share = |class: usize| top.iter().filter(|patch| patch.label == class).count() as f64 / top.len().max(1) as f64;
            let classes = self.images_of_class.len();
            channels.push(ChannelPatches {
                channel: number,
                label_shares: (0..classes).map(share).collect(),
                class_means: channel.sums.iter().zip(&self.images_of_class).map(|(sum, count)| sum / (*count).max(1) as f64).collect(),
                positive_images: channel.positive as f64 / self.images.max(1) as f64,
                top,
                bottom,
            });
        }
        let name = |id: NodeId| name_of(network, id).to_owned();
        Ok(LayerPatches { layer: name(self.asked), taken_at: name(self.node), images: self.images, channels })
    }

    fn patch(&self, network: &Network, data: &Split, kept: &Kept, regions: &mut HashMap<usize, Region>) -> Result<Patch> {
        let at = [kept.place / self.shape.w, kept.place % self.shape.w];
        let region = match regions.get(&kept.place) {
            Some(region) => region.clone(),
            None => network.region(self.node, at[0], at[1])?,
        };
        regions.insert(kept.place, region.clone());
        let (size, pixels) = part(data.image(kept.image), data.size(), &region.rows, &region.columns);
        Ok(Patch {
            value: kept.value,
            at,
            image: kept.image,
            label: data.labels()[kept.image],
            size,
            rows: region.rows,
            columns: region.columns,
            pixels,
        })
    }
}

/// Puts a place into a list that is in order and has at most `most`; of equals the one that came first stays in front. A
/// value that is not finite is no patch.
fn keep(list: &mut Vec<Kept>, most: usize, new: Kept, better: impl Fn(f32, f32) -> bool) {
    let full = list.len() >= most && list.last().is_none_or(|last| !better(new.value, last.value));
    if full || !new.value.is_finite() {
        return;
    }
    let place = list.partition_point(|old| !better(new.value, old.value));
    list.insert(place, new);
    list.truncate(most);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, Normalisation};
    use crate::initialise::{Initialisation, initial_parameters};
    use crate::look::Inspector;
    use convnet_kernels::Isa;

    fn model(text: &str, seed: u64) -> Model {
        let network = Network::parse(text).unwrap();
        let parameters = initial_parameters(&network, Initialisation::default(), seed).unwrap();
        let classes = (0..network.output_shape().c).map(|class| class.to_string()).collect();
        Model::new(network, parameters, classes, Normalisation { mean: vec![0.3], std: vec![0.35] }).unwrap()
    }

    fn data(images: usize) -> Split {
        let split = Dataset::embedded().test;
        let pixels = split.pixels()[..images * 784].to_vec();
        Split::new([1, 28, 28], pixels, split.labels()[..images].to_vec()).unwrap()
    }

    const TEXT: &str = "input 1x28x28 -> conv 4 3x3 -> relu -> maxpool 2 -> conv 6 3x3 pad 1 -> relu -> maxpool 2 -> flatten -> fc 10";

    #[test]
    fn patches_are_those_of_every_image_looked_at_alone() {
        let (model, data) = (model(TEXT, 3), data(70));
        let found = Patches::new(&model).layers(["relu2", "flatten1", "fc1"]).top(5).bottom(4).run(&data).unwrap();
        for (layer, source) in found.iter().zip(["conv2", "flatten1", "fc1"]) {
            assert_eq!((layer.taken_at.as_str(), layer.images), (source, 70));
            let alone: Vec<_> =
                (0..70).map(|image| Inspector::new(&model, data.image(image)).unwrap().activation(source).unwrap()).collect();
            for channel in &layer.channels {
                let plane = alone[0].len() / layer.channels.len();
                let of = |image: usize| &alone[image].values()[channel.channel * plane..][..plane];
                let largest = |image: usize| of(image).iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let smallest = |image: usize| of(image).iter().copied().fold(f32::INFINITY, f32::min);
                let near = |a: f32, b: f32| (a - b).abs() <= 1e-5 * (1.0 + a.abs());
                let mut tops: Vec<f32> = (0..70).map(largest).collect();
                tops.sort_by(|a, b| b.total_cmp(a));
                let mut bottoms: Vec<f32> = (0..70).map(smallest).collect();
                bottoms.sort_by(f32::total_cmp);
                assert!(
                    channel.top.iter().zip(&tops).all(|(patch, value)| near(patch.value, *value)),
                    "{} {}",
                    layer.layer,
                    channel.channel
                );
                assert!(channel.bottom.iter().zip(&bottoms).all(|(patch, value)| near(patch.value, *value)));
                assert_eq!((channel.top.len(), channel.bottom.len()), (5, 4));
                for patch in channel.top.iter().chain(&channel.bottom) {
                    let width = if plane == 1 { 1 } else { 13 };
                    assert!(near(patch.value, of(patch.image)[patch.at[0] * width + patch.at[1]]));
                    assert_eq!(patch.label, data.labels()[patch.image]);
                }
                assert!((channel.label_shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                let class = data.labels()[0];
                let members: Vec<usize> = (0..70).filter(|image| data.labels()[*image] == class).collect();
                let mean = members.iter().map(|image| f64::from(largest(*image))).sum::<f64>() / members.len() as f64;
                assert!((channel.class_means[class] - mean).abs() < 1e-5);
                let positive = (0..70).filter(|image| largest(*image) > 0.0).count() as f64 / 70.0;
                assert!((channel.positive_images - positive).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn a_patch_is_the_receptive_field_cut_at_the_border() {
        let (model, data) = (model(TEXT, 3), data(40));
        let found = Patches::new(&model).layers(["conv1", "conv2"]).top(20).run(&data).unwrap();
        for patch in found[0].channels.iter().flat_map(|channel| &channel.top) {
            assert_eq!((patch.rows.clone(), patch.columns.clone()), (patch.at[0]..patch.at[0] + 3, patch.at[1]..patch.at[1] + 3));
            let first = data.image(patch.image)[patch.rows.start * 28 + patch.columns.start];
            assert_eq!((patch.size, patch.pixels.len(), patch.pixels[0]), ([1, 3, 3], 9, first));
        }
        // 3 + 1 pixels of the pooled pairs, and two more pairs on either side, less at the border where conv2 pads.
        let sizes: Vec<[usize; 3]> = found[1].channels.iter().flat_map(|channel| &channel.top).map(|patch| patch.size).collect();
        assert!(sizes.iter().all(|size| size[1] <= 8 && size[2] <= 8 && size[1] >= 6));
        for patch in found[1].channels.iter().flat_map(|channel| &channel.top) {
            let region = model.network().region(model.network().find("conv2").unwrap(), patch.at[0], patch.at[1]).unwrap();
            assert_eq!((&patch.rows, &patch.columns), (&region.rows, &region.columns));
        }
    }

    #[test]
    fn equal_values_keep_the_order_of_the_images_and_threads_change_nothing() {
        let mut list = Vec::new();
        for (image, value) in [1.0, 2.0, 2.0, f32::NAN, 2.0, 3.0, 0.0].into_iter().enumerate() {
            keep(&mut list, 3, Kept { value, place: 0, image }, |new, old| new > old);
        }
        assert_eq!(list.iter().map(|kept| kept.image).collect::<Vec<_>>(), [5, 1, 2]);
        let (model, data) = (model(TEXT, 5), data(50));
        let run = |threads| Patches::new(&model).layers(["conv2"]).machine(Machine::new(Isa::detect(), threads)).run(&data).unwrap();
        assert_eq!(run(1), run(3));
        let few = Patches::new(&model).layers(["conv2"]).most(2).run(&data).unwrap();
        assert_eq!(few[0].channels, run(2)[0].channels[..2]);
    }

    #[test]
    fn what_cannot_be_shown_is_refused() {
        let model = model(TEXT, 3);
        let refused = |patches: Patches<'_>, data: &Split| patches.run(data).unwrap_err().to_string();
        assert!(refused(Patches::new(&model).layers(["conv9"]), &data(2)).contains("no layer 'conv9'"));
        assert!(refused(Patches::new(&model).top(20_000), &data(2)).contains("20000 patches"));
        let other = Split::new([1, 2, 2], vec![0; 4], vec![0]).unwrap();
        assert!(refused(Patches::new(&model), &other).contains("1x2x2"));
        let label = Split::new([1, 28, 28], vec![0; 784], vec![10]).unwrap();
        assert!(refused(Patches::new(&model), &label).contains("class number 10"));
        assert!(refused(Patches::new(&model), &Split::new([1, 28, 28], Vec::new(), Vec::new()).unwrap()).contains("no images"));
    }
}
