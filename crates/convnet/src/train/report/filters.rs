//! The filters of the first convolution as pictures: mid-grey is 0, white and black are the largest weight of the filter
//! and its negative. Filters of three channels are shown in colour, those of others as one grey square for each channel.

use image::ExtendedColorType;

use super::number::{count, figure, sizes};
use super::picture::{Picture, Pixels, picture};
use crate::error::Result;
use crate::layer::Layer;
use crate::network::{Network, Parameters};

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
        let largest = filter.iter().filter(|weight| weight.is_finite()).fold(0.0, |largest: f32, weight| largest.max(weight.abs()));
        let picture = if c == 3 { colour(filter, [r, s], largest) } else { squares(filter, [c.min(MOST), r, s], largest) }?;
        let broken = filter.iter().any(|weight| !weight.is_finite());
        let largest = if broken { "not finite".to_owned() } else { format!("±{}", figure(f64::from(largest))) };
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

/// A weight as brightness: 128 for 0, up to 127 more or less for the largest. What is not finite is 0.
fn brightness(weight: f32, largest: f32) -> u8 {
    let share = if largest > 0.0 && weight.is_finite() { weight / largest } else { 0.0 };
    (128.0 + 127.0 * share).round() as u8
}

/// A filter 3×R×S as a picture R×S.
fn colour(filter: &[f32], [r, s]: [usize; 2], largest: f32) -> Result<Picture> {
    let bytes: Vec<u8> = (0..r * s).flat_map(|place| [0, 1, 2].map(|c| brightness(filter[c * r * s + place], largest))).collect();
    picture(Pixels { height: r, width: s, bytes: &bytes, colour: ExtendedColorType::Rgb8 }, SHOWN)
}

/// A filter C×R×S as C grey pictures beside and below each other, one clear pixel between them.
fn squares(filter: &[f32], [c, r, s]: [usize; 3], largest: f32) -> Result<Picture> {
    let columns = (1..=c).find(|columns| columns * columns >= c).unwrap_or(1);
    let (height, width) = (c.div_ceil(columns) * (r + 1) - 1, columns * (s + 1) - 1);
    let mut bytes = vec![0; height * width * 2];
    for (channel, plane) in filter.chunks_exact(r * s).take(c).enumerate() {
        let (top, left) = (channel / columns * (r + 1), channel % columns * (s + 1));
        for (place, &weight) in plane.iter().enumerate() {
            let pixel = (top + place / s) * width + left + place % s;
            bytes[2 * pixel..2 * pixel + 2].copy_from_slice(&[brightness(weight, largest), 255]);
        }
    }
    let shown = if c == 1 { SHOWN } else { 2 * SHOWN };
    picture(Pixels { height, width, bytes: &bytes, colour: ExtendedColorType::La8 }, shown)
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
    fn zero_is_mid_grey_and_the_scale_is_symmetric() {
        assert_eq!([-2.0, -1.0, 0.0, 1.0, 2.0].map(|weight| brightness(weight, 2.0)), [1, 65, 128, 192, 255]);
        assert_eq!(brightness(0.0, 0.0), 128);
        assert_eq!(brightness(f32::NAN, 1.0), 128);
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
