//! What reports are made of, whatever they tell: numbers as people read them, colours, pixels, pictures in a page, scales.
//!
//! | file | idea |
//! |---|---|
//! | `number` | `1,234`, `90.1 %`, `1 min 23 s` |
//! | `colour` | paths of equal steps of lightness through OKLab |
//! | `colour_map` | numbers to colours |
//! | `raster` | pixels: planes, images, filters, sheets of tiles, PNG |
//! | `picture` | a raster in a page, as a `data:` address |
//! | `confusion` | which class is taken for which, as a table of colours |
//! | `svg` | linear scales and ticks at round numbers |

pub(crate) mod colour;
pub(crate) mod colour_map;
pub(crate) mod confusion;
pub mod number;
pub(crate) mod picture;
pub(crate) mod raster;
#[cfg(test)]
pub(crate) mod reading;
pub(crate) mod svg;
