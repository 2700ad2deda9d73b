//! Coverage: how often each pixel is read.
//!
//! Along one axis, pixel i lies in window o under tap t where o·S − P + t·D = i; the number of such pairs is how often the pixel
//! is read along the axis, and the product of both axes' numbers how often it is read at all: border pixels less often than
//! those in the middle, unless the padding lets windows begin outside. Through a network the numbers multiply along a path and
//! add up over all of them: a pixel counts as often as there are ways from it to the places of a layer. That is also how often a
//! weighted sum of the image with all weights 1 would count it.

use convnet_kernels::window::Axis;
use serde::Serialize;

use super::receptive_field::{Way, ways};
use super::{Network, NodeId};
use crate::error::Result;

/// Counts for a plane of pixels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Counts {
    /// Height and width.
    pub size: [usize; 2],
    /// The counts, row by row: whole numbers, exact up to 2⁵³.
    pub values: Vec<f64>,
}

/// How often each pixel is read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Coverage {
    /// Name of the layer.
    pub layer: String,
    /// How often each place of the layer's input is read by the layer, in each channel; of several inputs, of the first.
    pub reads: Counts,
    /// How often each pixel of the image is read by all places of the layer, on all ways through the network, in each channel.
    pub paths: Counts,
}

impl Counts {
    fn new(size: [usize; 2], value: f64) -> Self {
        Self { size, values: vec![value; size[0] * size[1]] }
    }

    /// The sum of all counts.
    pub fn sum(&self) -> f64 {
        self.values.iter().sum()
    }

    /// The smallest and the largest count.
    pub fn range(&self) -> [f64; 2] {
        [self.values.iter().copied().fold(f64::INFINITY, f64::min), self.values.iter().copied().fold(0.0, f64::max)]
    }

    /// Adds what lies behind a layer that reads in these ways, an axis after the other.
    fn add_through(&mut self, behind: &Self, [h, w]: [Way; 2]) {
        let [height, width] = self.size;
        let [rows, columns] = behind.size;
        let (down, across) = (Reading::of(h, height, rows), Reading::of(w, width, columns));
        let mut narrow = vec![0.0; rows * width];
        for row in 0..rows {
            for x in 0..width {
                narrow[row * width + x] = across.sum(x, |column| behind.values[row * columns + column]);
            }
        }
        for (place, value) in self.values.iter_mut().enumerate() {
            *value += down.sum(place / width, |row| narrow[row * width + place % width]);
        }
    }
}

/// Which outputs of an axis read each of its inputs.
enum Reading {
    Same,
    Whole(usize),
    Windows(Vec<Vec<(usize, usize)>>),
}

impl Reading {
    fn of(way: Way, input: usize, outputs: usize) -> Self {
        match way {
            Way::Same => Self::Same,
            Way::Whole => Self::Whole(outputs),
            Way::Window(axis) => Self::Windows((0..input).map(|place| readings(&axis, place, outputs)).collect()),
        }
    }

    /// Σ over the outputs that read a place.
    fn sum(&self, place: usize, value: impl Fn(usize) -> f64) -> f64 {
        match self {
            Self::Same => value(place),
            Self::Whole(outputs) => (0..*outputs).map(value).sum(),
            Self::Windows(lists) => lists[place].iter().map(|(output, _)| value(*output)).sum(),
        }
    }
}

/// The windows of an axis that read element `place` of it, and under which tap it lies in each; from the first window on.
pub(crate) fn readings(axis: &Axis, place: usize, outputs: usize) -> Vec<(usize, usize)> {
    let reading = |tap: usize| {
        let start = (place + axis.pad_before).checked_sub(tap * axis.dilation)?;
        (start % axis.stride == 0 && start / axis.stride < outputs).then_some((start / axis.stride, tap))
    };
    (0..axis.size).rev().filter_map(reading).collect()
}

impl Network {
    /// How often each pixel of a layer's input, and of the image, is read by the layer.
    ///
    /// ```
    /// # use convnet::network::Network;
    /// let network = Network::parse("input 1x4x5 -> conv 2 3x3 -> relu -> maxpool 2")?;
    /// let found = network.coverage("conv1")?;
    /// assert_eq!(found.reads.values[..5], [1.0, 2.0, 3.0, 2.0, 1.0]);
    /// assert_eq!(found.reads.values[5..10], [2.0, 4.0, 6.0, 4.0, 2.0]);
    /// // The pooling leaves out the last column of what it reads.
    /// assert_eq!(network.coverage("maxpool1")?.paths.values[..5], [1.0, 2.0, 2.0, 1.0, 0.0]);
    /// # Ok::<(), convnet::Error>(())
    /// ```
    ///
    /// # Errors
    /// There is no such layer.
    pub fn coverage(&self, layer: &str) -> Result<Coverage> {
        let last = self.find(layer)?;
        let size = |id: NodeId| [self.shape(id).h, self.shape(id).w];
        let mut counts: Vec<Option<Counts>> = vec![None; last.index() + 1];
        counts[last.index()] = Some(Counts::new(size(last), 1.0));
        let mut reads = counts[last.index()].clone();
        for index in (1..=last.index()).rev() {
            let (Some(behind), Some(node)) = (counts[index].take(), self.nodes().get(index - 1)) else { continue };
            for (place, (&input, shape)) in node.inputs().iter().zip(node.input_shapes()).enumerate() {
                let through = ways(node, *shape);
                counts[input.index()].get_or_insert_with(|| Counts::new(size(input), 0.0)).add_through(&behind, through);
                if index == last.index() && place == 0 {
                    let mut own = Counts::new(size(input), 0.0);
                    own.add_through(&behind, through);
                    reads = Some(own);
                }
            }
        }
        let nothing = || Counts::new(size(NodeId::IMAGE), 0.0);
        let paths = counts[NodeId::IMAGE.index()].take();
        Ok(Coverage { layer: layer.to_owned(), reads: reads.unwrap_or_else(nothing), paths: paths.unwrap_or_else(nothing) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks every path back from every place, one by one.
    fn brute(network: &Network, id: NodeId, [y, x]: [usize; 2], counts: &mut Counts) {
        let Some(node) = network.node(id) else {
            counts.values[y * counts.size[1] + x] += 1.0;
            return;
        };
        for (&input, shape) in node.inputs().iter().zip(node.input_shapes()) {
            let along = |way: Way, place: usize, length: usize| -> Vec<usize> {
                match way {
                    Way::Same => vec![place],
                    Way::Whole => (0..length).collect(),
                    Way::Window(axis) => {
                        let element = |tap: usize| axis.start(place) + (tap * axis.dilation) as isize;
                        (0..axis.size).map(element).filter(|at| (0..length as isize).contains(at)).map(|at| at as usize).collect()
                    }
                }
            };
            let [h, w] = ways(node, *shape);
            for row in along(h, y, shape.h) {
                for column in along(w, x, shape.w) {
                    brute(network, input, [row, column], counts);
                }
            }
        }
    }

    #[test]
    fn the_counts_are_those_of_walking_every_path() {
        for text in [
            "input 2x9x7 -> conv 4 3x3 pad 1 -> bn -> relu -> maxpool 2 -> conv 2 3x2 dilation 2x1 pad 1 -> relu",
            "input 1x10x9 -> conv 4 4x3 stride 2x3 pad 1 -> add( conv 4 3x3 pad 1 -> conv 4 1x1 | identity ) -> avgpool 2 stride 1 pad 1",
            "input 3x8x8 -> concat( conv 2 1x1 | conv 2 1x1 -> conv 3 5x5 pad 2 | maxpool 3 stride 1 pad 1 ) -> maxpool 3 stride 2 ceil",
            "input 1x6x6 -> conv 2 3x3 pad 2 -> global avgpool -> flatten -> fc 3 -> relu",
            "input 1x6x5 -> conv 2 2x2 stride 3 -> flatten -> fc 2",
        ] {
            let network = Network::parse(text).unwrap();
            for (id, node) in network.layers() {
                let found = network.coverage(node.name()).unwrap();
                let mut counts = Counts::new([network.input_shape().h, network.input_shape().w], 0.0);
                let shape = node.output_shape();
                for place in 0..shape.pixels() {
                    brute(&network, id, [place / shape.w, place % shape.w], &mut counts);
                }
                assert_eq!(found.paths, counts, "{text}: {}", node.name());
                if node.inputs() == [NodeId::IMAGE] {
                    assert_eq!(found.reads, counts, "{text}: {}", node.name());
                }
            }
        }
    }

    #[test]
    fn what_no_window_covers_is_never_read() {
        let network = Network::parse("input 1x5x5 -> conv 1 2x2 stride 2").unwrap();
        let found = network.coverage("conv1").unwrap();
        assert_eq!((found.reads.range(), found.reads.sum()), ([0.0, 1.0], 16.0));
        assert!(network.coverage("conv7").is_err());
    }
}
