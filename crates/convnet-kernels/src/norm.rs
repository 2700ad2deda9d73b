//! Normalisation of channels.

pub mod batch;
pub(crate) mod strips;
