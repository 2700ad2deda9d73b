//! Activation maps: what a layer gives for one image, a plane for each channel.
//!
//! Maps can be drawn on three scales. On the scale of each map its own pattern is seen best; on that of the layer its
//! channels can be compared; on that of the network, its layers.

use serde::Serialize;

use super::Inspector;
use super::filters::square;
use super::picture::{ColourMap, Range, Raster};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Which maps share a colour scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Each map has its own.
    Map,
    /// The maps of a layer share one.
    #[default]
    Layer,
    /// All maps of an image share one.
    Network,
}

/// The activation maps of one layer for one image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerMaps {
    /// Name of the layer.
    pub layer: String,
    /// Channels, height and width.
    pub sizes: [usize; 3],
    /// The numbers, C×H×W.
    #[serde(skip)]
    pub values: Tensor,
    /// Share of the layer's numbers that are exactly 0: its sparsity.
    pub zeros: f64,
    /// Each map in order.
    pub maps: Vec<Map>,
}

/// What is told of one map in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Map {
    /// Smallest number.
    pub low: f32,
    /// Largest number.
    pub high: f32,
    /// Mean.
    pub mean: f64,
    /// Share of the numbers that are exactly 0, as a ReLU makes them.
    pub zeros: f64,
}

/// The maps of a layer for the image that the inspector has seen.
///
/// # Errors
/// There is no such layer; the message lists those there are.
pub fn maps(inspector: &Inspector<'_>, layer: &str) -> Result<LayerMaps> {
    let values = inspector.activation(layer)?;
    let &[c, h, w] = values.sizes() else {
        return Err(Error::Shape(format!("the output of '{layer}' has {} axes instead of C×H×W", values.sizes().len())));
    };
    let maps: Vec<Map> = values.values().chunks_exact((h * w).max(1)).map(measured).collect();
    let zeros = maps.iter().map(|map| map.zeros).sum::<f64>() / maps.len().max(1) as f64;
    Ok(LayerMaps { layer: layer.to_owned(), sizes: [c, h, w], values, zeros, maps })
}

fn measured(plane: &[f32]) -> Map {
    let Range { low, high } = Range::of(plane);
    let count = plane.len().max(1) as f64;
    let mean = plane.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    Map { low, high, mean, zeros: plane.iter().filter(|&&value| value == 0.0).count() as f64 / count }
}

/// For each layer the scale of each of its maps. Where no number that shares a scale is negative it goes from 0 to the
/// largest; otherwise it is symmetric around 0.
pub fn ranges(layers: &[LayerMaps], scale: Scale) -> Vec<Vec<(Range, ColourMap)>> {
    let whole = |layer: &LayerMaps| Range::of(layer.values.values());
    let network = layers.iter().map(whole).reduce(Range::joined).map(|range| Range::suited(&[range.low, range.high]));
    let of = |layer: &LayerMaps| match (scale, network) {
        (Scale::Map, _) => (0..layer.maps.len()).map(|map| Range::suited(layer.plane(map))).collect(),
        (Scale::Network, Some(network)) => vec![network; layer.maps.len()],
        _ => vec![Range::suited(layer.values.values()); layer.maps.len()],
    };
    layers.iter().map(of).collect()
}

impl LayerMaps {
    /// The numbers of one map, H×W; none if there is no such map.
    pub fn plane(&self, map: usize) -> &[f32] {
        let [_, h, w] = self.sizes;
        self.values.values().chunks_exact((h * w).max(1)).nth(map).unwrap_or(&[])
    }

    /// One map as a picture, a pixel for each number.
    ///
    /// # Errors
    /// There is no such map.
    pub fn picture(&self, map: usize, (range, colours): (Range, ColourMap)) -> Result<Raster> {
        let [c, h, w] = self.sizes;
        if map >= c {
            return Err(Error::Argument(format!("there is no map {map} in '{}'; it has {c}, counted from 0", self.layer)));
        }
        Raster::plane(self.plane(map), [h, w], range, colours)
    }

    /// The first `most` maps in one picture, nearly square, a clear pixel between them.
    ///
    /// # Errors
    /// There are fewer scales than maps, or the picture would be too large.
    pub fn sheet(&self, scales: &[(Range, ColourMap)], most: usize) -> Result<Raster> {
        let shown = self.sizes[0].min(most);
        if scales.len() < shown {
            return Err(Error::Argument(format!("{shown} maps of '{}' are drawn, but {} scales are given", self.layer, scales.len())));
        }
        let tiles: Vec<Raster> = (0..shown).map(|map| self.picture(map, scales[map])).collect::<Result<_>>()?;
        Raster::sheet(&tiles, square(shown), 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Normalisation;
    use crate::model::Model;
    use crate::network::{Network, Parameters};

    /// A network whose first filter is the identity and whose second turns the sign.
    fn model() -> Model {
        let network = Network::parse("input 1x2x3 -> conv 2 1x1 no bias -> relu -> flatten -> fc 2").unwrap();
        let parameters = Parameters::build(&network, |index, spec| if index == 0 { vec![1.0, -2.0] } else { vec![0.5; spec.count()] });
        let normalisation = Normalisation { mean: vec![0.5], std: vec![0.5] };
        Model::new(network, parameters.unwrap(), vec!["no".into(), "yes".into()], normalisation).unwrap()
    }

    fn layers() -> Vec<LayerMaps> {
        let model = model();
        let inspector = Inspector::new(&model, &[0, 255, 255, 255, 255, 255]).unwrap();
        ["conv1", "relu1"].map(|layer| maps(&inspector, layer).unwrap()).to_vec()
    }

    #[test]
    fn maps_are_the_activations_and_their_sparsity_counts_zeros() {
        let [conv, relu] = &layers()[..] else { panic!() };
        assert_eq!(conv.sizes, [2, 2, 3]);
        let near = |found: &[f32], expected: &[f32]| found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near(conv.plane(0), &[-1.0, 1.0, 1.0, 1.0, 1.0, 1.0]), "{:?}", conv.plane(0));
        assert!(near(relu.plane(1), &[2.0, 0.0, 0.0, 0.0, 0.0, 0.0]), "{:?}", relu.plane(1));
        assert!((relu.maps[0].zeros - 1.0 / 6.0).abs() < 1e-12 && (relu.zeros - 0.5).abs() < 1e-12);
        assert!((conv.maps[0].mean - 4.0 / 6.0).abs() < 1e-5);
        assert!(conv.plane(2).is_empty() && conv.picture(2, Range::suited(&[])).is_err());
    }

    #[test]
    fn a_scale_is_of_a_map_a_layer_or_the_network() {
        let layers = layers();
        let highs = |scale| ranges(&layers, scale).concat().iter().map(|(range, _)| range.high.round()).collect::<Vec<_>>();
        assert_eq!(highs(Scale::Map), [1.0, 2.0, 1.0, 2.0]);
        assert_eq!(highs(Scale::Layer), [2.0; 4]);
        assert_eq!(highs(Scale::Network), [2.0; 4]);
        let colours = |scale| ranges(&layers, scale).concat().iter().map(|(_, map)| *map).collect::<Vec<_>>();
        assert_eq!(colours(Scale::Layer)[1..3], [ColourMap::Diverging, ColourMap::Sequential]);
        assert_eq!(colours(Scale::Network)[2], ColourMap::Diverging);
    }

    #[test]
    fn a_sheet_has_the_maps_side_by_side() {
        let layers = layers();
        let scales = ranges(&layers, Scale::Layer);
        let sheet = layers[0].sheet(&scales[0], 64).unwrap();
        assert_eq!((sheet.width(), sheet.height()), (7, 2));
        assert!(layers[0].sheet(&scales[0][..1], 64).is_err());
    }
}
