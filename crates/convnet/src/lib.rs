//! Size it, train it, look inside it, prove it, ship it: convolutional networks on the CPU.
//!
//! A [`Network`](network::Network) says *what* is computed, a [`Plan`](plan::Plan) says *how*, a
//! [`Tensor`](tensor::Tensor) is what flows. Errors happen while building; a built plan cannot fail.
#![forbid(unsafe_code)]

pub mod bench;
pub mod check;
pub mod data;
pub mod error;
mod file;
pub mod initialise;
pub mod layer;
pub mod look;
pub mod loss;
pub mod model;
pub mod network;
pub mod optim;
pub mod page;
pub mod plan;
pub mod random;
pub mod shape;
pub mod tensor;
pub mod train;
pub mod tuning;
pub mod zoo;

pub use convnet_kernels::{Isa, Machine, Precision, Real, Threads};
pub use error::{Error, Result};
