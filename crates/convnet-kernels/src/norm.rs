//! Normalisation: [`batch`], each channel over the whole batch, and [`layer`], each position over its channels.

pub mod batch;
pub mod layer;
pub(crate) mod strips;
