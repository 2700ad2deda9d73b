//! The effective receptive field: how much each pixel of the image moves the middle of a layer.
//!
//! The theoretical field says which pixels can have an influence; the effective one how much they have. With y the numbers
//! of all channels at the middle position of the layer and x the image,
//!
//! ```text
//! E(row, column) = mean over images of Σ over channels k and c of (∂y_k / ∂x[c, row, column])²
//! ```
//!
//! It falls off from the middle nearly as a Gaussian does (Luo, Li, Urtasun and Zemel, "Understanding the effective
//! receptive field in deep convolutional neural networks", 2016). The sum over k would take a backward pass for each
//! channel. With random signs s the square of ∂(Σ s_k·y_k)/∂x has that sum as its mean, so one pass for each image estimates it.

use convnet_kernels::Machine;
use serde::Serialize;

use crate::data::Split;
use crate::error::{Error, Result};
use crate::layer::relu::RectifierRule;
use crate::model::{Model, check_image};
use crate::network::NodeId;
use crate::plan::{Plan, Purpose, Seed};
use crate::random::{Address, Purpose as For};
use crate::tensor::Tensor;

/// The share of E that lies inside of the [sides](EffectiveField::sides).
pub const SHARE: f64 = 0.95;

/// Tells these random numbers from others that are drawn to look inside.
const PLACE: u64 = 0x6566_6665_6374; // "effect"

/// The effective receptive field of the middle of a layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EffectiveField {
    /// Name of the layer.
    pub layer: String,
    /// Row and column of the position in the layer.
    pub at: [usize; 2],
    /// √E, H×W of the image.
    #[serde(skip)]
    pub influence: Tensor,
    /// Height and width of the smallest rectangle around the theoretical field's middle, of the image's or the field's
    /// proportions, that holds [`SHARE`] of E.
    pub sides: [usize; 2],
    /// Images that the mean is over.
    pub images: usize,
}

/// The effective receptive fields of these layers, over at most `images` images of a split, evenly spread.
///
/// # Errors
/// There is no such layer or no image, or the images have another size than the network takes.
pub fn effective_fields(model: &Model, layers: &[String], split: &Split, images: usize, machine: &Machine) -> Result<Vec<EffectiveField>> {
    let network = model.network();
    let ids = layers.iter().map(|layer| network.find(layer)).collect::<Result<Vec<_>>>()?;
    let samples = split.spread(images);
    let count = samples.len();
    if count == 0 {
        return Err(Error::Argument(format!("effective fields over {images} of {} images; at least one is needed", split.len())));
    }
    check_image(network.input_shape(), split.image(0))?;
    let [channels, h, w] = model.image_size();
    let mut plan: Plan = Plan::new(network, 1, Purpose::Inspect, machine)?;
    let mut values = vec![0.0; channels * h * w];
    let mut energy = vec![vec![0.0_f64; h * w]; ids.len()];
    for (image, &sample) in samples.iter().enumerate() {
        model.normalisation().apply(split.image(sample), &mut values);
        plan.forward(model.parameters(), &values, 0);
        for (energy, id) in energy.iter_mut().zip(&ids) {
            let shape = network.shape(*id);
            let mut gradient = vec![0.0; shape.image()];
            let mut random = Address::new(0, For::Look).then(PLACE).at(id.index() as u64, image as u64);
            let middle = shape.h / 2 * shape.w + shape.w / 2;
            for plane in gradient.chunks_exact_mut(shape.pixels()) {
                plane[middle] = if random.chance(0.5) { 1.0 } else { -1.0 };
            }
            plan.backward_from(model.parameters(), &[Seed { at: *id, gradient: &gradient }], RectifierRule::Gradient);
            let Some(found) = plan.gradient(NodeId::IMAGE) else { continue };
            for plane in found.values().chunks_exact(h * w) {
                energy.iter_mut().zip(plane).for_each(|(sum, &value)| *sum += f64::from(value) * f64::from(value));
            }
        }
    }
    let field = |(id, energy): (&NodeId, Vec<f64>)| {
        let shape = network.shape(*id);
        let at = [shape.h / 2, shape.w / 2];
        let region = network.region(*id, at[0], at[1])?;
        let middle = [&region.window_rows, &region.window_columns].map(|pixels| (pixels.start + pixels.end - 1) as f64 / 2.0);
        let influence = energy.iter().map(|sum| (sum / count as f64).sqrt() as f32).collect();
        Ok(EffectiveField {
            layer: network.node(*id).map_or(String::new(), |node| node.name().to_owned()),
            at,
            influence: Tensor::new(vec![h, w], influence)?,
            sides: sides(&energy, [h, w], middle),
            images: count,
        })
    };
    ids.iter().zip(energy).map(field).collect()
}

/// Height and width of the smallest square around a middle that holds [`SHARE`] of what there is, cut to the image.
fn sides(energy: &[f64], [h, w]: [usize; 2], middle: [f64; 2]) -> [usize; 2] {
    let total: f64 = energy.iter().sum();
    let within = |radius: f64| {
        let range = |middle: f64, side: usize| {
            let first = (middle - radius).ceil().max(0.0) as usize;
            let last = (middle + radius).floor().min(side as f64 - 1.0);
            first..if last < 0.0 { 0 } else { last as usize + 1 }
        };
        (range(middle[0], h), range(middle[1], w))
    };
    let mut radius = 0.0;
    loop {
        let (rows, columns) = within(radius);
        let inside: f64 = rows.clone().flat_map(|y| columns.clone().map(move |x| y * w + x)).map(|place| energy[place]).sum();
        if inside >= SHARE * total || radius > (h + w) as f64 {
            return [rows.len(), columns.len()];
        }
        radius += 0.5;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Normalisation;
    use crate::network::{Network, Parameters};

    fn found(text: &str, weights: impl Fn(usize) -> f32) -> EffectiveField {
        let network = Network::parse(&format!("input 1x9x9 -> {text} -> flatten -> fc 2")).unwrap();
        let parameters = Parameters::build(&network, |_, spec| (0..spec.count()).map(&weights).collect()).unwrap();
        let normalisation = Normalisation { mean: vec![0.0], std: vec![1.0] };
        let model = Model::new(network, parameters, vec!["no".into(), "yes".into()], normalisation).unwrap();
        let split = Split::new([1, 9, 9], vec![100; 162], vec![0, 1]).unwrap();
        effective_fields(&model, &["conv1".into()], &split, 2, &Machine::detect().unwrap()).unwrap().remove(0)
    }

    #[test]
    fn of_one_convolution_it_is_the_size_of_its_weights() {
        let field = found("conv 1 3x3 no bias", |place| place as f32);
        let of = |y: usize, x: usize| field.influence.values()[y * 9 + x];
        // The middle of 7×7 sees rows and columns 3 to 5.
        assert_eq!([of(3, 3), of(3, 4), of(4, 4), of(5, 5)], [0.0, 1.0, 4.0, 8.0]);
        assert_eq!(field.influence.values().iter().filter(|value| **value != 0.0).count(), 8);
        assert_eq!((field.at, field.sides, field.images), ([3, 3], [3, 3], 2));
    }

    #[test]
    fn a_field_in_one_pixel_has_a_side_of_one() {
        let field = found("conv 1 3x3 no bias", |place| if place % 9 == 4 { 2.0 } else { 0.0 });
        assert_eq!((field.sides, field.influence.values()[4 * 9 + 4]), ([1, 1], 2.0));
    }
}
