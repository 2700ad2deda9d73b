//! Size it, train it, look inside it, prove it, ship it: convolutional networks on the CPU.
//!
//! A [`Network`](network::Network) says *what* is computed, a [`Plan`](plan::Plan) says *how*, a
//! [`Tensor`](tensor::Tensor) is what flows. Errors happen while building; a built plan cannot fail.
#![forbid(unsafe_code)]

pub mod error;
pub mod layer;
pub mod network;
pub mod shape;
pub mod tensor;

pub use error::{Error, Result};
