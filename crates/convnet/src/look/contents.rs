//! All that is looked at together: for a model the filters of its convolutions, for images their predictions and maps, for
//! a data set the statistics of every layer. A part that nothing was asked about stays empty.

use convnet_kernels::Machine;
use serde::Serialize;

use super::picture::{ColourMap, Range};
use super::{Inspector, LayerFilters, LayerMaps, Scale, Statistics, convolutions, filters, maps, ranges, statistics};
use crate::data::Split;
use crate::error::{Error, Result};
use crate::model::Model;

/// An image to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedImage {
    /// Where it is found again: its file, or its number in the data.
    pub name: String,
    /// Bytes 0 to 255, C×H×W, of the size that the network takes.
    pub bytes: Vec<u8>,
    /// The name of its class, where it is known.
    pub label: Option<String>,
}

/// What to look at.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// Names of the layers; all if there is none.
    pub layers: Vec<String>,
    /// The images whose maps are taken.
    pub images: Vec<NamedImage>,
    /// The images that statistics are taken over.
    pub split: Option<&'a Split>,
    /// Images of the split that are looked at.
    pub samples: usize,
    /// Which maps share a colour scale.
    pub scale: Scale,
    /// What the work is done on.
    pub machine: Machine,
}

/// What was seen. See the [module](self).
#[derive(Clone, Debug, Serialize)]
pub struct Contents<'a> {
    /// The model.
    #[serde(skip)]
    pub model: &'a Model,
    /// Names of the layers that were looked at, in the network's order.
    pub layers: Vec<String>,
    /// The filters of their convolutions.
    pub filters: Vec<LayerFilters>,
    /// The images.
    pub images: Vec<ImageContents>,
    /// The statistics of all layers.
    pub statistics: Option<Statistics>,
}

/// What was seen on one image.
#[derive(Clone, Debug, Serialize)]
pub struct ImageContents {
    /// Its name.
    pub name: String,
    /// The name of its class, where it is known.
    pub label: Option<String>,
    /// Its bytes, C×H×W.
    #[serde(skip)]
    pub bytes: Vec<u8>,
    /// Classes with their probabilities, most probable first.
    pub prediction: Vec<(String, f32)>,
    /// The maps of each layer that was looked at.
    pub maps: Vec<LayerMaps>,
    /// The colour scale of each map of each layer.
    pub scales: Vec<Vec<(Range, ColourMap)>>,
}

/// Classes that are kept of a prediction.
const TOP: usize = 5;

impl<'a> Contents<'a> {
    /// Looks at a model. `progress` is told what is done next.
    ///
    /// # Errors
    /// A layer or an image does not belong to the model, or the memory cannot be had.
    pub fn gather(model: &'a Model, options: &Options<'_>, mut progress: impl FnMut(&str)) -> Result<Self> {
        let layers = chosen(model, &options.layers)?;
        progress("filters");
        let convolutions = convolutions(model);
        let filters = layers.iter().filter(|layer| convolutions.contains(&layer.as_str())).map(|layer| filters(model, layer));
        let filters = filters.collect::<Result<Vec<_>>>()?;
        let mut images = Vec::with_capacity(options.images.len());
        for image in &options.images {
            progress(&format!("maps of {}", image.name));
            images.push(seen(model, image, &layers, options.scale)?);
        }
        let statistics = match options.split.filter(|split| !split.is_empty()) {
            Some(split) => {
                progress("statistics");
                Some(statistics(model, split, options.samples, &options.machine)?)
            }
            None => None,
        };
        Ok(Self { model, layers, filters, images, statistics })
    }
}

/// The layers asked for in the network's order, each once.
fn chosen(model: &Model, asked: &[String]) -> Result<Vec<String>> {
    for layer in asked {
        model.network().find(layer)?;
    }
    let nodes = model.network().nodes().iter().map(|node| node.name().to_owned());
    Ok(nodes.filter(|name| asked.is_empty() || asked.contains(name)).collect())
}

fn seen(model: &Model, image: &NamedImage, layers: &[String], scale: Scale) -> Result<ImageContents> {
    let inspector = Inspector::new(model, &image.bytes).map_err(|error| Error::Argument(format!("the image '{}': {error}", image.name)))?;
    let maps = layers.iter().map(|layer| maps(&inspector, layer)).collect::<Result<Vec<_>>>()?;
    Ok(ImageContents {
        name: image.name.clone(),
        label: image.label.clone(),
        bytes: image.bytes.clone(),
        prediction: model.predict(&image.bytes)?.top(TOP).to_vec(),
        scales: ranges(&maps, scale),
        maps,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Normalisation;
    use crate::network::{Network, Parameters};

    fn model() -> Model {
        let network = Network::parse("input 1x4x4 -> conv 2 3x3 -> relu -> flatten -> fc 2").unwrap();
        let parameters = Parameters::build(&network, |_, spec| (0..spec.count()).map(|place| place as f32 - 2.0).collect()).unwrap();
        let normalisation = Normalisation { mean: vec![0.5], std: vec![0.5] };
        Model::new(network, parameters, vec!["no".into(), "yes".into()], normalisation).unwrap()
    }

    fn options(layers: &[&str], bytes: usize) -> Options<'static> {
        Options {
            layers: layers.iter().map(|layer| (*layer).to_owned()).collect(),
            images: vec![NamedImage { name: "a".into(), bytes: vec![7; bytes], label: None }],
            split: None,
            samples: 10,
            scale: Scale::Layer,
            machine: Machine::detect().unwrap(),
        }
    }

    #[test]
    fn layers_are_looked_at_in_the_order_of_the_network() {
        let model = model();
        let found = Contents::gather(&model, &options(&["relu1", "conv1"], 16), |_| {}).unwrap();
        assert_eq!(found.layers, ["conv1", "relu1"]);
        assert_eq!((found.filters.len(), found.images[0].maps.len(), found.statistics.is_none()), (1, 2, true));
        let all = Contents::gather(&model, &options(&[], 16), |_| {}).unwrap();
        assert_eq!(all.layers, ["conv1", "relu1", "flatten1", "fc1"]);
    }

    #[test]
    fn what_does_not_belong_to_the_model_is_refused_by_name() {
        let model = model();
        let error = Contents::gather(&model, &options(&["conv9"], 16), |_| {}).unwrap_err().to_string();
        assert!(error.contains("conv9") && error.contains("conv1"), "{error}");
        let error = Contents::gather(&model, &options(&[], 15), |_| {}).unwrap_err().to_string();
        assert!(error.contains("'a'") && error.contains("15"), "{error}");
    }
}
