//! The arithmetic behind single numbers.
//!
//! | file | idea |
//! |---|---|
//! | `forward` | one output number as products, sum and bias; what a pooling chose; which pixels count |
//! | `backward` | the gradient of a score at one number: what it flows back through |
//! | `weight` | the gradient of a score at one weight: input times gradient over all places |
//! | `correlation` | that the kernel is not flipped, and what true convolution would give |
//! | `columns` | the layer as a product of matrices |
//! | `picture` | all of these as drawings |
//! | `examples` | numbers worth a look |
//!
//! How often each pixel is read is a matter of the network alone: [`Network::coverage`](crate::network::Network::coverage).

mod backward;
mod columns;
mod correlation;
mod examples;
mod forward;
mod picture;
#[cfg(test)]
mod tests;
mod weight;

pub use backward::{GradientExplanation, GradientTerm, Reader, explain_gradient};
pub use columns::{ColumnEntry, Columns, columns};
pub use correlation::{Correlation, FlippedTerm, correlation};
pub use examples::examples;
pub use forward::{Choice, Explanation, Factor, Term, explain};
pub use picture::{
    Drawing, draw, draw_columns, draw_correlation, draw_coverage, draw_gradient, draw_weight_gradient, write as write_picture,
};
pub use weight::{WeightGradient, WeightTerm, explain_weight};
