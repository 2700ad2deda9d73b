//! Measured choices of algorithms, kept in files.
//!
//! Which algorithm computes a convolution in the least time is expected from a cost model, or measured: a
//! [`Tuning`](convnet_kernels::conv::tuning::Tuning) holds measured times, and a [`Machine`](convnet_kernels::Machine) that
//! carries one chooses by it. Algorithms differ in how they round, so a choice is part of what makes a result repeatable. This
//! module keeps tunings: in a [`Cache`], which belongs to one machine and version and is ignored by any other, and in a run
//! folder, whose choices hold wherever the training goes on.

mod cache;
mod file;
mod signature;

pub use cache::{Cache, FOLDER_VARIABLE};
pub(crate) use file::{read, write};
pub use signature::Signature;
