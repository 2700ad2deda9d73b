//! From arrays to pictures, the last step of looking: colour maps, sheets of tiles, and legends with their numbers.
//!
//! Pictures are sharp: a pixel is enlarged to a square, never smoothed. Every picture that is written to a file carries
//! its legend, so that it can be read alone.

mod digits;
mod legend;

pub use crate::page::colour_map::{ColourMap, NOT_FINITE, Range, STEPS};
pub use crate::page::raster::Raster;
pub use legend::with_legend;
