//! From arrays to pictures, the last step of looking: colour maps, sheets of tiles, and legends with their numbers.
//!
//! Pictures are sharp: a pixel is enlarged to a square, never smoothed. Every picture that is written to a file carries
//! its legend, so that it can be read alone.

mod classes;
mod digits;
mod legend;
mod placed;

use std::ops::Range as Places;

use crate::error::Result;
pub use crate::page::colour_map::{ColourMap, NOT_FINITE, Range, STEPS};
pub use crate::page::raster::Raster;
pub use classes::{CLASS_COLOURS, class_colour};
pub use legend::with_legend;
pub(super) use placed::placed;

/// What pictures with numbers are written on, and with.
const PAPER: [u8; 4] = [255; 4];
const INK: [u8; 4] = [40, 44, 50, 255];

/// The rectangle of an image of bytes, C×H×W of this size, that lies in these rows and columns, and its own size.
pub(super) fn part(image: &[u8], [channels, h, w]: [usize; 3], rows: &Places<usize>, columns: &Places<usize>) -> ([usize; 3], Vec<u8>) {
    let starts = (0..channels).flat_map(|channel| rows.clone().map(move |row| (channel * h + row) * w));
    let bytes = starts.flat_map(|start| &image[start + columns.start..start + columns.end]).copied().collect();
    ([channels, rows.len(), columns.len()], bytes)
}

/// An image of bytes C×H×W and others of its size, from left to right.
pub(super) fn strip(first: &[u8], others: impl Iterator<Item = Vec<u8>>, size: [usize; 3]) -> Result<Raster> {
    let mut tiles = vec![Raster::image(first, size)?];
    for image in others {
        tiles.push(Raster::image(&image, size)?);
    }
    Raster::sheet(&tiles, tiles.len(), 1)
}
