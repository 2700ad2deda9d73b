//! Pictures of the page: with their legend, and what the script needs to tell a pixel's number.

use askama::Template;

use super::LONGEST;
use crate::error::Result;
use crate::look::picture::{ColourMap, Range, Raster};
use crate::page::number::figure;
use crate::page::picture::{Picture, reduced};

/// A picture with its legend.
#[derive(Template)]
#[template(path = "look/picture.html", whitespace = "minimize")]
pub(super) struct Shown {
    pub picture: Picture,
    /// The picture in words.
    pub alt: String,
    pub hover: Hover,
    pub legend: Option<Legend>,
}

/// How the numbers under the pointer are found.
pub(super) struct Hover {
    /// The colour map, or `image` (bytes) or `colour` (three channels of grey).
    pub map: &'static str,
    /// Columns of tiles, and the tile's height and width.
    pub columns: usize,
    pub tile: [usize; 2],
    /// The lowest and highest number of all tiles, or of each, `0 2.5;0 1`.
    pub ranges: String,
    /// What a tile is: a word and the number of the first; of a grid the word for its rows and for its columns.
    pub words: String,
    /// The layer whose neurons the tiles (of a grid, its rows) are, for the pointer to follow.
    pub layer: Option<String>,
}

/// The two ends of a colour scale.
pub(super) struct Legend {
    pub map: &'static str,
    pub low: String,
    pub high: String,
}

impl Legend {
    pub fn new(range: Range, map: ColourMap) -> Self {
        let [low, high] = [range.low, range.high].map(|number| figure(f64::from(number)));
        Self { map: map.name(), low, high }
    }
}

impl Hover {
    /// Numbers of a picture that is one tile.
    pub fn plane(tile: [usize; 2], range: Range, map: &'static str) -> Self {
        Self { map, columns: 1, tile, ranges: text_of(&[range]), words: String::new(), layer: None }
    }
}

/// Ranges for the script.
pub(super) fn text_of(ranges: &[Range]) -> String {
    ranges.iter().map(|range| format!("{} {}", range.low, range.high)).collect::<Vec<_>>().join(";")
}

impl Shown {
    /// An image of bytes C×H×W; the numbers under the pointer are bytes.
    pub fn image(bytes: &[u8], size: [usize; 3], shown: usize, alt: String) -> Result<Self> {
        Self::image_within(bytes, size, LONGEST, shown, alt)
    }

    /// The same with its longest side reduced to at most `longest`.
    pub fn image_within(bytes: &[u8], size: [usize; 3], longest: usize, shown: usize, alt: String) -> Result<Self> {
        let raster = reduced(bytes, size, longest)?;
        let tile = [raster.height(), raster.width()];
        let map = if size[0] == 3 { "image-colour" } else { "image" };
        let hover = Hover::plane(tile, Range { low: 0.0, high: 255.0 }, map);
        Ok(Self { picture: Picture::new(&raster, shown)?, alt, hover, legend: None })
    }

    /// A plane of numbers with its legend.
    pub fn plane(numbers: &[f32], tile: [usize; 2], (range, map): (Range, ColourMap), shown: usize, alt: String) -> Result<Self> {
        let picture = Picture::new(&Raster::plane(numbers, tile, range, map)?, shown)?;
        Ok(Self { picture, alt, hover: Hover::plane(tile, range, map.name()), legend: Some(Legend::new(range, map)) })
    }
}
