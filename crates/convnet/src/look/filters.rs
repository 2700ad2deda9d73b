//! The filters of convolutions: their weights, their norms, and which of them are dead or doubled.
//!
//! | flag | rule |
//! |---|---|
//! | dead | the norm √(Σ w²) is at most [`DEAD_NORM`] of the median norm of the layer: nothing the filter sees makes a difference |
//! | double | the cosine Σ a·b / (‖a‖·‖b‖) with an earlier filter of the layer is at least [`DOUBLE_COSINE`] |
//! | opposite | that cosine is at most −[`DOUBLE_COSINE`]: the filter sees the same pattern with the signs turned |
//!
//! These are properties of the weights alone, exact and the same for any image. A filter can also be dead because its
//! outputs never pass the ReLU behind it; that is seen on images, by [`statistics`](super::statistics()).

use rayon::prelude::*;
use serde::Serialize;

use super::picture::{ColourMap, Range, Raster};
use crate::error::{Error, Result};
use crate::layer::Layer;
use crate::model::Model;
use crate::tensor::Tensor;

/// The share of the median norm up to which a filter is called dead.
pub const DEAD_NORM: f64 = 0.01;

/// The cosine from which on two filters are called double.
pub const DOUBLE_COSINE: f64 = 0.99;

/// The filters of one convolution.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerFilters {
    /// Name of the layer.
    pub layer: String,
    /// The weights K×C×R×S: filters, channels that each of them sees (those of its group), height, width.
    #[serde(skip)]
    pub weights: Tensor,
    /// Sizes of the weights, K×C×R×S.
    pub sizes: [usize; 4],
    /// Each filter, in order.
    pub filters: Vec<Filter>,
}

/// What is known of one filter without any image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Filter {
    /// √(Σ w²).
    pub norm: f64,
    /// Σ |w|.
    pub absolute_sum: f64,
    /// Mean of the weights; what a filter gives on an even image, but for the bias, is this times their number.
    pub mean: f64,
    /// The largest weight, whatever its sign.
    pub largest: f32,
    /// The bias, if the layer has one.
    pub bias: Option<f32>,
    /// Whether its norm is next to nothing in its layer.
    pub dead: bool,
    /// The earlier filter that it repeats, or turns around.
    pub like: Option<Like>,
}

/// An earlier filter of the same layer that looks the same but for its size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Like {
    /// Number of the earlier filter.
    pub filter: usize,
    /// The cosine between the two: near 1, or near −1 where the signs are turned.
    pub cosine: f64,
}

/// The filters of a convolution.
///
/// # Errors
/// There is no such layer, or it is no convolution; the message lists those there are.
///
/// ```
/// use convnet::data::Normalisation;
/// use convnet::look::filters;
/// use convnet::model::Model;
/// use convnet::network::{Network, Parameters};
///
/// let network = Network::parse("input 1x5x5 -> conv 2 3x3 -> flatten -> fc 2")?;
/// let parameters = Parameters::build(&network, |_, spec| (0..spec.count()).map(|place| place as f32).collect())?;
/// let normalisation = Normalisation { mean: vec![0.0], std: vec![1.0] };
/// let model = Model::new(network, parameters, vec!["no".into(), "yes".into()], normalisation)?;
/// let found = filters(&model, "conv1")?;
/// assert_eq!((found.sizes, found.filters[0].absolute_sum), ([2, 1, 3, 3], 36.0));
/// # Ok::<(), convnet::Error>(())
/// ```
pub fn filters(model: &Model, layer: &str) -> Result<LayerFilters> {
    let network = model.network();
    let node = network.node(network.find(layer)?).filter(|node| matches!(node.layer(), Layer::Conv2d(_)));
    let weights = node.and_then(|_| model.parameters().get(&format!("{layer}.weight")));
    let Some((weights, &[k, c, r, s])) =
        weights.and_then(|found| Some((&found.tensor, <&[usize; 4]>::try_from(found.tensor.sizes()).ok()?)))
    else {
        let convolutions = convolutions(model).join(", ");
        return Err(Error::Argument(format!("'{layer}' is no convolution; those of this network are {convolutions}")));
    };
    let biases = model.parameters().get(&format!("{layer}.bias")).map(|bias| bias.tensor.values());
    let mut list: Vec<Filter> = weights.values().chunks_exact(c * r * s).map(measured).collect();
    let median = median(list.iter().map(|filter| filter.norm).collect());
    for (number, filter) in list.iter_mut().enumerate() {
        filter.bias = biases.and_then(|biases| biases.get(number)).copied();
        filter.dead = filter.norm <= DEAD_NORM * median;
    }
    let likes = likes(weights.values(), c * r * s, &list);
    list.iter_mut().zip(likes).for_each(|(filter, like)| filter.like = like);
    Ok(LayerFilters { layer: layer.to_owned(), weights: weights.clone(), sizes: [k, c, r, s], filters: list })
}

/// Names of a model's convolutions.
pub fn convolutions(model: &Model) -> Vec<&str> {
    let nodes = model.network().nodes().iter();
    nodes.filter(|node| matches!(node.layer(), Layer::Conv2d(_))).map(|node| node.name()).collect()
}

fn measured(weights: &[f32]) -> Filter {
    let sum = |of: fn(f64) -> f64| weights.iter().map(|&weight| of(f64::from(weight))).sum::<f64>();
    Filter {
        norm: sum(|weight| weight * weight).sqrt(),
        absolute_sum: sum(f64::abs),
        mean: sum(|weight| weight) / weights.len().max(1) as f64,
        largest: Range::symmetric(weights).high,
        bias: None,
        dead: false,
        like: None,
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(0.0)
}

/// For each filter the earlier one that it is most like, if it is like one at all. Dead filters are like none.
fn likes(weights: &[f32], length: usize, list: &[Filter]) -> Vec<Option<Like>> {
    let of = |number: usize| &weights[number * length..][..length];
    let like = |number: usize| {
        let candidates = (0..number).filter(|&earlier| !list[earlier].dead && !list[number].dead);
        let cosine = |earlier: usize| dot(of(earlier), of(number)) / (list[earlier].norm * list[number].norm);
        let found = candidates.map(|earlier| Like { filter: earlier, cosine: cosine(earlier) });
        found.filter(|like| like.cosine.abs() >= DOUBLE_COSINE).reduce(|a, b| if b.cosine.abs() > a.cosine.abs() { b } else { a })
    };
    (0..list.len()).into_par_iter().map(like).collect()
}

/// Σ a·b in f64, in eight partial sums that a processor can keep side by side.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    for (a, b) in a.zip(b) {
        (0..8).for_each(|lane| sums[lane] += f64::from(a[lane]) * f64::from(b[lane]));
    }
    sums.iter().sum::<f64>() + rest
}

impl LayerFilters {
    /// The range −m to m that holds every weight of the layer.
    pub fn range(&self) -> Range {
        Range::symmetric(self.weights.values())
    }

    /// Whether a filter is one picture in colour (three channels) or in grey (one channel), as the first layer's are; of
    /// others each channel is a picture for itself.
    pub fn are_images(&self) -> bool {
        matches!(self.sizes[1], 1 | 3)
    }

    /// The colour map that the filters are drawn with: grey (or in colour, which has the same scale for each of the three
    /// channels) where a filter is an image, diverging otherwise.
    pub fn colour_map(&self) -> ColourMap {
        if self.are_images() { ColourMap::Grey } else { ColourMap::Diverging }
    }

    /// The pictures of one filter, R×S: one where [`are_images`](Self::are_images) holds, otherwise one for each channel.
    ///
    /// # Errors
    /// There is no such filter.
    pub fn pictures(&self, filter: usize, range: Range) -> Result<Vec<Raster>> {
        let [k, c, r, s] = self.sizes;
        if filter >= k {
            return Err(Error::Argument(format!("there is no filter {filter} in '{}'; it has {k}, counted from 0", self.layer)));
        }
        let weights = &self.weights.values()[filter * c * r * s..][..c * r * s];
        if c == 3 {
            return Ok(vec![Raster::colour_planes(weights, [r, s], range)?]);
        }
        weights.chunks_exact(r * s).map(|plane| Raster::plane(plane, [r, s], range, self.colour_map())).collect()
    }

    /// All filters in one picture, a clear pixel between them: side by side where they are images, otherwise a row for
    /// each filter and a column for each channel. At most `most` of both are drawn.
    ///
    /// # Errors
    /// The picture would be too large.
    pub fn sheet(&self, most: usize) -> Result<Raster> {
        let (range, shown) = (self.range(), self.sizes[0].min(most));
        let mut tiles = Vec::new();
        for filter in 0..shown {
            tiles.extend(self.pictures(filter, range)?.into_iter().take(most));
        }
        let columns = if self.are_images() { square(shown) } else { self.sizes[1].min(most) };
        Raster::sheet(&tiles, columns, 1)
    }
}

/// Columns of the nearly square arrangement of so many tiles.
pub(crate) fn square(tiles: usize) -> usize {
    (1..=tiles).find(|columns| columns * columns >= tiles).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Normalisation;
    use crate::network::{Network, Parameters};

    /// Five filters of a kind: one, its double, its opposite, a dead one and another.
    fn model(channels: usize) -> Model {
        let network = Network::parse(&format!("input {channels}x6x6 -> conv 5 2x3 -> relu -> flatten -> fc 2")).unwrap();
        let one = |place: usize| ((place * 7 + 3) % 5) as f32 - 1.5;
        let other = |place: usize| ((place * 3 + 1) % 4) as f32 - 1.0;
        let count = channels * 6;
        let parameters = Parameters::build(&network, |index, spec| match index {
            0 => (0..5 * count)
                .map(|place| match place / count {
                    0 => one(place % count),
                    1 => 3.0 * one(place % count),
                    2 => -one(place % count),
                    3 => 1e-4 * one(place % count),
                    _ => other(place % count),
                })
                .collect(),
            _ => vec![0.25; spec.count()],
        });
        let normalisation = Normalisation { mean: vec![0.0; channels], std: vec![1.0; channels] };
        Model::new(network, parameters.unwrap(), vec!["no".into(), "yes".into()], normalisation).unwrap()
    }

    #[test]
    fn dead_doubled_and_turned_filters_are_found() {
        let found = filters(&model(4), "conv1").unwrap();
        let flags: Vec<_> =
            found.filters.iter().map(|filter| (filter.dead, filter.like.map(|like| (like.filter, like.cosine > 0.0)))).collect();
        assert_eq!(flags, [(false, None), (false, Some((0, true))), (false, Some((0, false))), (true, None), (false, None)]);
        assert_eq!(found.filters[0].bias, Some(0.25));
        let like = found.filters[1].like.unwrap();
        assert!((like.cosine - 1.0).abs() < 1e-6, "{like:?}");
    }

    #[test]
    fn norms_are_those_of_the_definition() {
        let found = filters(&model(1), "conv1").unwrap();
        let weights: Vec<f64> = found.weights.values()[..6].iter().map(|&weight| f64::from(weight)).collect();
        let norm = weights.iter().map(|weight| weight.powi(2)).sum::<f64>().sqrt();
        assert!((found.filters[0].norm - norm).abs() < 1e-12);
        assert_eq!(found.filters[0].absolute_sum, weights.iter().map(|weight| weight.abs()).sum::<f64>());
    }

    #[test]
    fn a_sum_in_lanes_is_the_sum() {
        let (a, b): (Vec<f32>, Vec<f32>) = (0..37).map(|place| (place as f32, (place % 5) as f32 - 2.0)).unzip();
        let expected: f64 = a.iter().zip(&b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        assert_eq!(dot(&a, &b), expected);
    }

    #[test]
    fn the_first_layer_is_images_and_deeper_ones_are_a_grid() {
        let sheet = |channels| filters(&model(channels), "conv1").unwrap().sheet(64).unwrap();
        let sizes = [1, 3, 4].map(|channels| (sheet(channels).width(), sheet(channels).height()));
        // Three columns of two rows; four columns of five rows.
        assert_eq!(sizes, [(11, 5), (11, 5), (15, 14)]);
        let cut = filters(&model(4), "conv1").unwrap().sheet(2).unwrap();
        assert_eq!((cut.width(), cut.height()), (7, 5));
    }

    #[test]
    fn other_layers_are_refused_with_the_names_of_the_convolutions() {
        let message = filters(&model(1), "relu1").unwrap_err().to_string();
        assert!(message.contains("'relu1'") && message.contains("conv1"), "{message}");
        assert!(filters(&model(1), "conv7").is_err());
    }
}
