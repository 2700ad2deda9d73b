//! What an attribution explains: the score of a class, or any neuron's number.

use std::fmt;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::layer::Layer;
use crate::network::{Network, NodeId};

/// What is explained.
///
/// The score of a class is what the network computes **before** a last softmax or log softmax. A probability would also
/// rise when other classes lose, and its gradient vanishes where the network is sure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Target {
    /// The score of a class, by its number.
    Class(usize),
    /// One number of a layer's output.
    Neuron {
        /// The layer's name.
        layer: String,
        /// Channel, row and column.
        at: [usize; 3],
    },
}

/// Where a target's number lies in one image's values: the value, and the place in it in the order C×H×W.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub value: NodeId,
    pub index: usize,
}

impl Target {
    /// Reads a target: the name of a class, its number, or a neuron, `conv2:17,3,4` (layer:channel,row,column).
    ///
    /// # Errors
    /// The text is none of these; the message says what it may be.
    pub fn parse(text: &str, classes: &[String]) -> Result<Self> {
        if let Some(class) = classes.iter().position(|class| class == text) {
            return Ok(Self::Class(class));
        }
        if let Ok(class) = text.parse() {
            return Ok(Self::Class(class));
        }
        let neuron = text.rsplit_once(':').and_then(|(layer, place)| {
            let numbers: Vec<usize> = place.split(',').map(|number| number.trim().parse().ok()).collect::<Option<_>>()?;
            Some(Self::Neuron { layer: layer.to_owned(), at: numbers.try_into().ok()? })
        });
        neuron.ok_or_else(|| {
            Error::Argument(format!(
                "'{text}' is no target; give a class by name or number, or a neuron as LAYER:CHANNEL,ROW,COLUMN such as conv2:17,3,4"
            ))
        })
    }

    /// Where its number lies.
    ///
    /// # Errors
    /// There is no such class, layer or place.
    pub(crate) fn spot(&self, network: &Network) -> Result<Spot> {
        match self {
            Self::Class(class) => {
                let value = scores(network);
                let count = network.shape(value).image();
                if *class >= count {
                    return Err(Error::Argument(format!("there is no class {class}; the network gives {count} scores, counted from 0")));
                }
                Ok(Spot { value, index: *class })
            }
            Self::Neuron { layer, at } => {
                let value = network.find(layer)?;
                let shape = network.shape(value);
                let inside = at.iter().zip(shape.chw()).all(|(place, size)| *place < size);
                if !inside {
                    let [channel, row, column] = at;
                    return Err(Error::Argument(format!(
                        "the output of '{layer}' is {}x{}x{}; {channel},{row},{column} lies outside (channel, row and column count from 0)",
                        shape.c, shape.h, shape.w
                    )));
                }
                Ok(Spot { value, index: (at[0] * shape.h + at[1]) * shape.w + at[2] })
            }
        }
    }
}

/// The value that holds the classes' scores: the network's output, or what goes into a last softmax or log softmax.
pub fn scores(network: &Network) -> NodeId {
    match network.node(network.output()) {
        Some(node) if matches!(node.layer(), Layer::Softmax(_) | Layer::LogSoftmax(_)) => node.inputs()[0],
        _ => network.output(),
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(class) => write!(formatter, "class {class}"),
            Self::Neuron { layer, at: [channel, row, column] } => write!(formatter, "{layer}:{channel},{row},{column}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_class_by_name_or_number_or_a_neuron() {
        let classes = ["7".to_owned(), "a:b".to_owned(), "cat".to_owned()];
        let parse = |text: &str| Target::parse(text, &classes);
        assert_eq!(parse("7").unwrap(), Target::Class(0), "a name goes before a number");
        assert_eq!(parse("a:b").unwrap(), Target::Class(1));
        assert_eq!(parse("2").unwrap(), Target::Class(2));
        assert_eq!(parse("conv2:17,3,4").unwrap(), Target::Neuron { layer: "conv2".into(), at: [17, 3, 4] });
        for wrong in ["dog", "conv2:1,2", "conv2:1,2,3,4", "conv2:a,b,c", "conv2:1,-2,3", ""] {
            assert!(parse(wrong).unwrap_err().to_string().contains("LAYER:CHANNEL,ROW,COLUMN"), "{wrong}");
        }
    }

    #[test]
    fn scores_are_what_goes_into_a_last_softmax() {
        for (end, expected) in [("", "fc1"), ("-> softmax", "fc1"), ("-> log softmax", "fc1"), ("-> sigmoid", "sigmoid1")] {
            let network = Network::parse(&format!("input 1x4x4 -> conv 2 3x3 -> relu -> flatten -> fc 3 {end}")).unwrap();
            assert_eq!(scores(&network), network.find(expected).unwrap(), "{end}");
        }
    }

    #[test]
    fn places_outside_are_told_the_sizes() {
        let network = Network::parse("input 1x4x5 -> conv 2 3x3 -> relu -> flatten -> fc 3").unwrap();
        let neuron = |layer: &str, at| Target::Neuron { layer: layer.into(), at }.spot(&network);
        assert_eq!(neuron("conv1", [1, 1, 2]).unwrap(), Spot { value: network.find("conv1").unwrap(), index: 11 });
        assert!(neuron("conv1", [1, 2, 0]).unwrap_err().to_string().contains("2x2x3; 1,2,0 lies outside"));
        assert!(neuron("conv9", [0, 0, 0]).unwrap_err().to_string().contains("no layer 'conv9'"));
        assert!(Target::Class(3).spot(&network).unwrap_err().to_string().contains("3 scores"));
    }
}
