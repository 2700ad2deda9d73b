//! Codes: what a network makes of an image at one layer, as a point in space. Images that the network takes for much the same
//! lie near each other, however unlike their pixels are.
//!
//! | file | idea |
//! |---|---|
//! | `pca` | the directions in which codes differ most |
//! | `tsne` | a map on which neighbours stay neighbours |
//! | `trust` | whether neighbours on a map are neighbours |
//! | `grid` | a map whose images do not overlap |
//! | `neighbours` | the nearest codes of a data set |
//! | `invert` | an image that has a code |
//! | `gathered` | all of that together, and its pictures as files |
//!
//! ```no_run
//! use convnet::{data::Dataset, look::codes, model::Model};
//! use convnet_kernels::Machine;
//!
//! let (model, data) = (Model::load("runs/1")?, Dataset::embedded());
//! let machine = Machine::detect().map_err(convnet::Error::Argument)?;
//! let layer = codes::code_layer(model.network());
//! let codes = codes::codes(&model, &data.test, &layer, 1000, &machine)?;
//! let map = codes::tsne(&codes, &codes::Tsne::default(), &machine)?;
//! println!("image {} lies at {:?}", codes.images[0], map.points[0]);
//! # Ok::<(), convnet::Error>(())
//! ```

mod gathered;
#[cfg(test)]
mod golden;
mod grid;
mod invert;
mod neighbours;
mod pca;
mod trust;
mod tsne;

pub use gathered::{Asked, Gathered, Grid, ImageNeighbours, Inversions, Map, Shown};
pub(super) use gathered::{Sources, colour_among};
pub use grid::{assign, grid};
pub use invert::{Inversion, InversionRecipe, invert, invertible};
pub use neighbours::{Metric, Neighbour, neighbours};
pub use pca::{Pca, pca};
pub use trust::trustworthiness;
pub use tsne::{Embedding, Tsne, tsne};

use convnet_kernels::Machine;

use super::gram::{Gram, square_distances};
use super::inspector::Inspector;
use super::maximise::name_of;
use super::viewer::Viewer;
use crate::data::Split;
use crate::error::{Error, Result};
use crate::layer::Layer;
use crate::model::{Model, check_image};
use crate::network::{Network, NodeId};

/// The most bytes that the codes of a data set may take.
const LIMIT: u64 = 1 << 30;

/// The most images whose pairs are compared.
const MOST: usize = 4096;

/// The codes of some images of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Codes {
    /// The layer whose output they are.
    pub layer: String,
    /// Numbers of the images in the split, evenly spread over it.
    pub images: Vec<usize>,
    /// Their classes.
    pub labels: Vec<usize>,
    /// Images of the split.
    pub of: usize,
    /// N×D: a row for each image.
    values: Vec<f32>,
}

impl Codes {
    /// Numbers of a code, D.
    pub fn features(&self) -> usize {
        self.values.len() / self.images.len().max(1)
    }

    /// The code of one of the images.
    ///
    /// # Panics
    /// If there are not that many.
    pub fn code(&self, place: usize) -> &[f32] {
        &self.values[place * self.features()..][..self.features()]
    }

    /// All codes, N×D.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The pixels themselves in the place of codes, 0 … 1: what neighbours look like without a network.
    ///
    /// # Errors
    /// There is no image, or they take too much memory.
    pub fn pixels(split: &Split, samples: usize) -> Result<Self> {
        let images = chosen(split, samples)?;
        let length = split.image(0).len();
        checked("the pixels", images.len(), length)?;
        let bytes = images.iter().flat_map(|image| split.image(*image));
        let values = bytes.map(|byte| f32::from(*byte) / 255.0).collect();
        Ok(Self::new("pixels".into(), split, images, values))
    }

    /// Codes that were computed elsewhere: N×D, a row for each label.
    ///
    /// # Errors
    /// There is no row, or the rows are not equally long.
    pub fn of_rows(layer: &str, labels: Vec<usize>, values: Vec<f32>) -> Result<Self> {
        let count = labels.len();
        if count == 0 || values.is_empty() || !values.len().is_multiple_of(count) {
            return Err(Error::Argument(format!("{} numbers are no codes of {count} images, equally long", values.len())));
        }
        Ok(Self { layer: layer.to_owned(), images: (0..count).collect(), labels, of: count, values })
    }

    fn new(layer: String, split: &Split, images: Vec<usize>, values: Vec<f32>) -> Self {
        let labels = images.iter().map(|image| split.labels()[*image]).collect();
        Self { layer, labels, of: split.len(), images, values }
    }

    /// Squared distances of all pairs, N×N.
    ///
    /// # Errors
    /// There are too many images for all pairs of them.
    pub(super) fn square_distances(&self, machine: &Machine) -> Result<Vec<f64>> {
        Ok(square_distances(&self.products(machine)?, self.images.len()))
    }

    /// Scalar products of all pairs, N×N.
    ///
    /// # Errors
    /// There are too many images for all pairs of them.
    fn products(&self, machine: &Machine) -> Result<Vec<f64>> {
        let count = self.images.len();
        if count > MOST {
            return Err(Error::Argument(format!("all pairs of {count} images; at most {MOST} images can be compared: take fewer")));
        }
        Ok(Gram::of(count, &self.values, machine))
    }

    /// # Errors
    /// A number is not finite.
    fn check_finite(&self) -> Result<()> {
        match self.values.iter().position(|value| !value.is_finite()) {
            Some(place) => Err(Error::Argument(format!(
                "the code of image {} at '{}' has a number that is not finite; choose a layer below the one where numbers overflow",
                self.images[place / self.features()],
                self.layer
            ))),
            None => Ok(()),
        }
    }
}

/// The layer whose output is usually called the code of an image: what the last fully connected layer reads; without one, what
/// the last convolution reads; where neither reads a layer, the last layer.
pub fn code_layer(network: &Network) -> String {
    let last = network.nodes().iter().rev().find(|node| matches!(node.layer(), Layer::Linear(_)));
    let last = last.or_else(|| network.nodes().iter().rev().find(|node| matches!(node.layer(), Layer::Conv2d(_))));
    let before = last.map(|node| node.inputs()[0]).filter(|input| *input != NodeId::IMAGE);
    let id = before.unwrap_or_else(|| network.layers().map(|(id, _)| id).last().unwrap_or(NodeId::IMAGE));
    name_of(network, id).to_owned()
}

/// The codes at a layer of `samples` images of a split, evenly spread, or of all if there are not more.
///
/// # Errors
/// There is no such layer or no image, the images have another size than the network takes, or the codes take too much memory.
pub fn codes(model: &Model, split: &Split, layer: &str, samples: usize, machine: &Machine) -> Result<Codes> {
    let id = model.network().find(layer)?;
    let images = chosen(split, samples)?;
    check_image(model.network().input_shape(), split.image(0))?;
    let length = model.network().shape(id).image();
    checked(&format!("the codes at '{layer}'"), images.len(), length)?;
    let mut values = vec![0.0; images.len() * length];
    let write = |number: usize, image: &mut [f32]| model.normalisation().apply(split.image(images[number]), image);
    Viewer::new(model, images.len(), machine)?.show(images.len(), Some(id), write, |numbers, plan| {
        let Some(activation) = plan.activation(id) else { return };
        let present = numbers.len() * length;
        values[numbers.start * length..][..present].copy_from_slice(&activation.values()[..present]);
    });
    Ok(Codes::new(layer.to_owned(), split, images, values))
}

/// The code of one image of bytes, C×H×W.
///
/// # Errors
/// There is no such layer, or the image has another size.
pub fn code(model: &Model, image: &[u8], layer: &str, machine: &Machine) -> Result<Vec<f32>> {
    Ok(Inspector::on(model, image, machine)?.activation(layer)?.into_values())
}

/// Numbers of `samples` images of a split, evenly spread.
///
/// # Errors
/// There would be none.
pub(super) fn chosen(split: &Split, samples: usize) -> Result<Vec<usize>> {
    let images = split.spread(samples);
    if images.is_empty() {
        return Err(Error::Argument(format!("codes of {samples} of {} images; at least one is needed", split.len())));
    }
    Ok(images)
}

/// Whether the codes of so many images at a layer can be held.
pub fn fit(network: &Network, layer: &str, samples: usize) -> bool {
    network.find(layer).is_ok_and(|id| checked(layer, samples, network.shape(id).image()).is_ok())
}

/// # Errors
/// So many codes of this length would take more than the limit.
fn checked(what: &str, count: usize, length: usize) -> Result<()> {
    let bytes = (count as u64).saturating_mul(length as u64).saturating_mul(4);
    if bytes <= LIMIT {
        return Ok(());
    }
    let most = LIMIT / (length as u64).saturating_mul(4).max(1);
    Err(Error::Argument(format!(
        "{what} of {count} images are {length} numbers each, {} MiB together; at most {} MiB are taken: look at no more than {most} images, or at a smaller layer",
        bytes >> 20,
        LIMIT >> 20
    )))
}

/// Codes for tests.
#[cfg(test)]
mod samples {
    use super::*;

    /// Rows of one class at a layer `fc1`.
    pub fn of_values(values: &[f32], count: usize) -> Codes {
        Codes::of_rows("fc1", vec![0; count], values.to_vec()).unwrap()
    }

    pub fn machine(threads: usize) -> Machine {
        Machine::new(convnet_kernels::Isa::detect(), threads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, Normalisation};
    use crate::initialise::{Initialisation, initial_parameters};
    use convnet_kernels::Isa;

    fn model(text: &str) -> Model {
        let network = Network::parse(text).unwrap();
        let parameters = initial_parameters(&network, Initialisation::default(), 3).unwrap();
        let normalisation = Normalisation::of(&Dataset::embedded().test);
        let classes = Dataset::embedded().classes;
        Model::new(network, parameters, classes, normalisation).unwrap()
    }

    const TEXT: &str = "input 1x28x28 -> conv 4 5x5 stride 2 -> relu -> maxpool 2 -> flatten -> dropout 0.5 -> fc 10 -> softmax";

    #[test]
    fn codes_are_the_activations_of_each_image_for_any_threads() {
        let (model, split) = (model(TEXT), Dataset::embedded().test);
        let found = codes(&model, &split, "maxpool1", 70, &Machine::new(Isa::detect(), 1)).unwrap();
        assert_eq!((found.images.len(), found.features(), found.of), (70, 4 * 36, split.len()));
        assert_eq!((found.images[0], found.images[69]), (0, 69 * split.len() / 70));
        for place in [0, 33, 69] {
            let image = found.images[place];
            assert_eq!(found.labels[place], split.labels()[image]);
            let alone = code(&model, split.image(image), "maxpool1", &Machine::new(Isa::detect(), 1)).unwrap();
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * (1.0 + a.abs());
            assert!(alone.iter().zip(found.code(place)).all(near));
        }
        for threads in [2, 3] {
            assert!(codes(&model, &split, "maxpool1", 70, &Machine::new(Isa::detect(), threads)).unwrap() == found);
        }
    }

    #[test]
    fn the_code_of_a_network_is_what_its_last_fully_connected_layer_reads() {
        let of = |text: &str| code_layer(&Network::parse(text).unwrap());
        assert_eq!(of(TEXT), "dropout1");
        assert_eq!(of("input 3x9x9 -> conv 8 3x3 -> relu -> conv 5 1x1 -> global avgpool"), "relu1");
        assert_eq!(of("input 1x2x2 -> flatten -> fc 3"), "flatten1");
        assert_eq!(of("input 1x2x2 -> maxpool 2"), "maxpool1");
    }

    #[test]
    fn what_cannot_be_had_is_told_with_what_to_do() {
        let (model, split) = (model(TEXT), Dataset::embedded().test);
        let machine = Machine::new(Isa::detect(), 1);
        let told = |layer: &str, samples: usize| codes(&model, &split, layer, samples, &machine).unwrap_err().to_string();
        assert!(told("conv9", 5).contains("conv1, relu1"));
        assert!(told("conv1", 0).contains("at least one"));
        let error = checked("the codes at 'conv1'", 10_000, 1 << 20).unwrap_err().to_string();
        assert!(error.contains("40000 MiB") && error.contains("256 images") && error.contains("conv1"), "{error}");
        checked("", usize::MAX, usize::MAX).unwrap_err();
    }
}
