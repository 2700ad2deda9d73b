//! The filters of the first convolution as pictures: mid-grey is 0, white and black are the largest weight of the filter
//! and its negative. Filters of three channels are shown in colour, those of others as one grey square for each channel.

use crate::error::Result;
use crate::layer::Layer;
use crate::network::{Network, Parameters};
use crate::page::colour_map::{ColourMap, Range};
use crate::page::number::{count, figure, sizes};
use crate::page::picture::Picture;
use crate::page::raster::Raster;

/// The most filters, and the most channels of one filter, that are shown.
const MOST: usize = 64;
/// How large a filter is shown.
const SHOWN: usize = 60;

/// The filters of one layer.
#[derive(Debug)]
pub(super) struct Filters {
    pub layer: String,
    /// `K×C×R×S`.
    pub sizes: String,
    pub colour: bool,
    /// Channels of a filter, where each is a square for itself.
    pub squares: Option<String>,
    /// What is not shown.
    pub notes: Vec<String>,
    pub list: Vec<Filter>,
}

#[derive(Debug)]
pub(super) struct Filter {
    pub number: usize,
    pub picture: Picture,
    /// The largest weight, whatever its sign: the value of white.
    pub largest: String,
}

/// The first convolution's filters, if the network has one.
pub(super) fn first_layer(network: &Network, parameters: &Parameters) -> Result<Option<Filters>> {
    let Some(node) = network.nodes().iter().find(|node| matches!(node.layer(), Layer::Conv2d(_))) else {
        return Ok(None);
    };
    let weight = parameters.get(&format!("{}.weight", node.name())).map(|parameter| &parameter.tensor);
    let Some((weight, &[k, c, r, s])) = weight.and_then(|weight| Some((weight, <&[usize; 4]>::try_from(weight.sizes()).ok()?))) else {
        return Ok(None);
    };
    let mut notes = Vec::new();
    if k > MOST {
        notes.push(format!("Shown are the first {MOST} of {} filters.", count(k as u64)));
    }
    if c > MOST {
        notes.push(format!("Of each filter the first {MOST} of {} channels are shown.", count(c as u64)));
    }
    let list = weight.values().chunks_exact(c * r * s).take(MOST).enumerate().map(|(number, filter)| {
        let range = Range::symmetric(filter);
        let picture = if c == 3 {
            Picture::new(&Raster::colour_planes(filter, [r, s], range)?, SHOWN)
        } else {
            squares(filter, [c.min(MOST), r, s], range)
        }?;
        let broken = filter.iter().any(|weight| !weight.is_finite());
        let largest = if broken { "not finite".to_owned() } else { format!("±{}", figure(f64::from(range.high))) };
        Ok(Filter { number, picture, largest })
    });
    Ok(Some(Filters {
        layer: node.name().to_owned(),
        sizes: sizes(weight.sizes()),
        colour: c == 3,
        squares: (c != 3 && c != 1).then(|| count(c as u64)),
        notes,
        list: list.collect::<Result<_>>()?,
    }))
}

/// A filter C×R×S as C grey pictures beside and below each other, one clear pixel between them.
fn squares(filter: &[f32], [c, r, s]: [usize; 3], range: Range) -> Result<Picture> {
    let columns = (1..=c).find(|columns| columns * columns >= c).unwrap_or(1);
    let tiles = filter.chunks_exact(r * s).take(c).map(|plane| Raster::plane(plane, [r, s], range, ColourMap::Grey));
    let shown = if c == 1 { SHOWN } else { 2 * SHOWN };
    Picture::new(&Raster::sheet(&tiles.collect::<Result<Vec<_>>>()?, columns, 1)?, shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::conv2d::Conv2d;
    use crate::layer::relu::Relu;
    use crate::network::NodeId;

    fn filters(channels: usize, filters: usize) -> Filters {
        let mut builder = Network::builder([channels, 8, 8]);
        let conv = builder.add(Conv2d::new(filters, [3, 5]), &[NodeId::IMAGE]).unwrap();
        let network = builder.finish(conv).unwrap();
        let parameters = Parameters::build(&network, |_, spec| (0..spec.count()).map(|place| place as f32 - 7.0).collect()).unwrap();
        first_layer(&network, &parameters).unwrap().unwrap()
    }

    #[test]
    fn one_channel_is_grey_three_are_colour_and_others_are_squares() {
        let grey = filters(1, 2);
        assert_eq!((grey.layer.as_str(), grey.sizes.as_str(), grey.colour, grey.squares), ("conv1", "2×1×3×5", false, None));
        assert_eq!((grey.list[0].largest.as_str(), grey.list[0].picture.width, grey.list[0].picture.height), ("±7.00", 60, 36));
        assert!(filters(3, 2).colour);
        let four = filters(4, 1);
        assert_eq!((four.squares.as_deref(), four.list[0].picture.width, four.list[0].picture.height), (Some("4"), 110, 70));
    }

    #[test]
    fn many_filters_and_channels_are_cut_short_and_said_so() {
        let many = filters(100, 70);
        assert_eq!(many.list.len(), 64);
        assert_eq!(many.notes, ["Shown are the first 64 of 70 filters.", "Of each filter the first 64 of 100 channels are shown."]);
    }

    #[test]
    fn a_network_without_convolution_has_no_filters() {
        let mut builder = Network::builder([1, 2, 2]);
        let relu = builder.add(Relu, &[NodeId::IMAGE]).unwrap();
        let network = builder.finish(relu).unwrap();
        let parameters = Parameters::constant(&network).unwrap();
        assert!(first_layer(&network, &parameters).unwrap().is_none());
    }
}
