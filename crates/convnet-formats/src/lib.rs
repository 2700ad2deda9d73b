//! Readers and writers of files that strangers made: bytes in, plain structs
//! out, and the other way round.
//!
//! | module | format | typical file |
//! |---|---|---|
//! | [`idx`] | IDX, plain or gzip | `train-images-idx3-ubyte.gz` |
//! | [`safetensors`] | safetensors | `model.safetensors` |
//!
//! Every reader keeps the same promises: it never panics, whatever the bytes;
//! it checks every size before it allocates; it never holds more memory than
//! the limit it is given or, where it takes none, than a small multiple of the
//! bytes it was given; and it refuses what it does not understand instead of
//! skipping it. No reader opens a file or a connection of its own.
//!
//! A [`FormatError`] says what was found, where, what was expected and what to
//! do. It does not name the file: who opened it does.

#![forbid(unsafe_code)]

mod error;
mod foreign;
pub mod idx;
pub mod safetensors;

pub use error::{Fault, FormatError};
pub use foreign::describe;
