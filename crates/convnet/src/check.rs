//! Proof that a network's gradients are those of its forward pass: every layer against central differences in `f64`.
//!
//! A layer is checked alone, at random inputs and parameters, in both modes (training and inference); products, which know
//! no modes, in one. Where it is large, it is checked at a smaller height and width with the same hyperparameters and
//! channels, and at a fixed number of places drawn by the seed; the result says so.

use convnet_kernels::{Isa, Machine};

use crate::error::Result;
use crate::layer::LayerRules;
use crate::layer::single::{GRADIENT_TOLERANCE, GradientError, Places, gradient_errors_at};
use crate::network::{Network, Node};
use crate::shape::Shape;

/// Numbers of one gradient that are compared at most.
const PLACES: usize = 24;

/// The same for a layer of more than [`HEAVY`] multiplications, which would take minutes.
const HEAVY_PLACES: usize = 6;

/// Multiplications of one forward pass beyond which a layer is heavy.
const HEAVY: u64 = 50_000_000;

/// Images in the batch of a check.
const BATCH: usize = 2;

/// Height and width beyond which a layer is checked at a smaller size if it can be.
const LARGE: usize = 8;

/// What the check of one layer found.
#[derive(Clone, Debug)]
pub struct LayerCheck {
    /// Name of the layer.
    pub name: String,
    /// Its text form.
    pub text: String,
    /// Shapes at which it was checked.
    pub inputs: Vec<Shape>,
    /// Whether those are smaller than in the network.
    pub reduced: bool,
    /// One for each gradient and mode.
    pub errors: Vec<GradientError>,
}

impl LayerCheck {
    /// The largest error of any gradient.
    pub fn worst(&self) -> f64 {
        self.errors.iter().map(|error| error.error).fold(0.0, f64::max)
    }

    /// Whether every gradient is within [`GRADIENT_TOLERANCE`].
    pub fn holds(&self) -> bool {
        self.worst() <= GRADIENT_TOLERANCE
    }
}

/// Checks every layer of a network, calling `done` after each.
///
/// # Errors
/// A layer cannot take the shapes of its place; a network that was built has none such.
pub fn check(network: &Network, seed: u64, threads: usize, mut done: impl FnMut(&LayerCheck)) -> Result<Vec<LayerCheck>> {
    let machine = Machine::new(Isa::detect(), threads);
    let mut checks = Vec::with_capacity(network.nodes().len());
    for node in network.nodes() {
        let check = check_layer(node, seed, &machine)?;
        done(&check);
        checks.push(check);
    }
    Ok(checks)
}

fn check_layer(node: &Node, seed: u64, machine: &Machine) -> Result<LayerCheck> {
    let full: Vec<Shape> = node.input_shapes().iter().map(|shape| shape.with_batch(BATCH)).collect();
    let inputs = reduced(node, &full);
    let macs = node.layer().macs(&inputs);
    let places = Places::Drawn { count: if macs > HEAVY { HEAVY_PLACES } else { PLACES }, seed };
    let modes: &[bool] = if macs > 0 { &[true] } else { &[false, true] };
    let mut errors = Vec::new();
    for &training in modes {
        for mut error in gradient_errors_at(machine, node.layer(), &inputs, training, seed, places)? {
            error.of += if training { " (training)" } else { " (inference)" };
            errors.push(error);
        }
    }
    Ok(LayerCheck { name: node.name().into(), text: node.layer().to_string(), reduced: inputs != full, inputs, errors })
}

/// The smallest of a few heights and widths that the layer accepts with the same parameters.
fn reduced(node: &Node, full: &[Shape]) -> Vec<Shape> {
    let parameters = node.layer().parameters(full);
    let candidates = [3usize, 5, 7, 9, 11, 13, 17, 23].into_iter().map(|size| {
        let shrink = |shape: &Shape| Shape { h: shape.h.min(size), w: shape.w.min(size), ..*shape };
        full.iter().map(shrink).collect::<Vec<_>>()
    });
    let large = full.iter().any(|shape| shape.h > LARGE || shape.w > LARGE);
    let fits = |inputs: &Vec<Shape>| {
        let output = node.layer().output_shape(inputs);
        node.layer().parameters(inputs) == parameters && output.is_ok_and(|output| output.pixels() >= 4 || node.output_shape().pixels() < 4)
    };
    candidates.filter(|_| large).find(fits).unwrap_or_else(|| full.to_vec())
}
