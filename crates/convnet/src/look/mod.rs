//! Looking inside: what every layer computes for an image, and the arithmetic behind any single number.

mod explain;
mod inspector;

pub use explain::{Choice, Explanation, Factor, Term, explain};
pub use inspector::Inspector;
