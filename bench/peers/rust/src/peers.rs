//! The engines, one file and one Cargo feature each.

use std::path::Path;

use anyhow::{Result, bail};

#[cfg(feature = "burn")]
mod burn;
#[cfg(feature = "candle")]
mod candle;
#[cfg(feature = "rten")]
mod rten;
#[cfg(feature = "tract")]
mod tract;

/// What a peer is given: a model for one batch size, and the images.
pub struct Work<'a> {
    /// The ONNX file.
    pub onnx: &'a Path,
    /// N×C×H×W.
    pub shape: [usize; 4],
    /// As many as the shape says.
    pub images: Vec<f32>,
    /// Threads that may work.
    pub threads: usize,
}

/// Runs the model once and gives the scores of all images. The images are in the peer's own tensor beforehand.
pub type Predict = Box<dyn FnMut() -> Result<Vec<f32>>>;

/// Loads the model.
pub type Load = fn(Work<'_>) -> Result<Predict>;

/// The peers by name; none where one was left out when compiling.
const PEERS: [(&str, Option<Load>); 4] = [
    #[cfg(feature = "tract")]
    ("tract", Some(tract::load)),
    #[cfg(not(feature = "tract"))]
    ("tract", None),
    #[cfg(feature = "rten")]
    ("rten", Some(rten::load)),
    #[cfg(not(feature = "rten"))]
    ("rten", None),
    #[cfg(feature = "candle")]
    ("candle", Some(candle::load)),
    #[cfg(not(feature = "candle"))]
    ("candle", None),
    #[cfg(feature = "burn")]
    ("burn", Some(burn::load)),
    #[cfg(not(feature = "burn"))]
    ("burn", None),
];

/// A peer by its name; an error if there is none or it is not compiled in.
pub fn load(peer: &str) -> Result<Load> {
    match PEERS.iter().find(|(name, _)| *name == peer) {
        Some((_, Some(load))) => Ok(*load),
        Some((_, None)) => bail!("{peer} was left out when this program was compiled"),
        None => bail!("there is no peer '{peer}'; peers are tract, rten, candle and burn"),
    }
}
