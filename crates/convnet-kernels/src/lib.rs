//! Numbers in, numbers out: the computing routines of `convnet`.
//!
//! Every function here takes slices and checked shapes and writes slices. There are no layers, no tensors and no
//! files. This is the only crate of the workspace in which `unsafe` compiles.
//!
//! * Images are **channels last**: N×H×W×C, C fastest.
//! * Convolution weights are given in their logical order K×(C/G)×R×S and packed once by the algorithm that uses them.
//! * [`Machine`] carries the two facts a routine needs about the computer: which instructions it has ([`Isa`]) and who
//!   does the work ([`Threads`]). It is passed as a value, never kept in a global.
//! * Work is cut into pieces by the problem's size alone, and partial sums are added in a fixed order: the same bits for
//!   any number of threads.
//! * Routines are generic over [`Real`] (`f32` and `f64`). Hand-written kernels exist for `f32`; `f64` runs the portable
//!   form of the same routine, which is what gradient checks are made with.

mod blocks;
pub mod columns;
pub mod concat;
pub mod conv;
pub mod dropout;
pub mod elementwise;
pub mod functions;
mod gemm;
pub mod isa;
pub mod memory;
pub mod norm;
mod once;
pub mod peak;
pub mod pool;
pub mod precision;
pub mod product;
pub mod real;
pub mod reduce;
pub mod scale;
pub mod softmax;
mod stream;
pub mod threads;
pub mod update;
pub mod window;

pub use isa::{Isa, Machine, Means};
pub use precision::Precision;
pub use real::Real;
pub use threads::Threads;
