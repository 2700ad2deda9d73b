//! Pixels: planes of numbers as colours, images, sheets of tiles, PNG.

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

use super::colour_map::{ColourMap, Range};
use crate::error::{Error, Result};
use crate::shape::sizes_text;

/// The most pixels that a picture may have.
const MOST_PIXELS: usize = 1 << 27;

/// Bytes from which on the best compression would take too long for what it saves.
const LARGE: usize = 1 << 20;

/// Pixels of red, green, blue and opacity, row by row.
///
/// ```
/// use convnet::look::picture::{ColourMap, Range, Raster};
///
/// let numbers = [0.0, 0.5, 1.0, 0.5];
/// let plane = Raster::plane(&numbers, [2, 2], Range::of(&numbers), ColourMap::Grey)?;
/// let sheet = Raster::sheet(&[plane.clone(), plane], 2, 1)?.enlarged(3)?;
/// assert_eq!((sheet.width(), sheet.height()), (15, 6));
/// # Ok::<(), convnet::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raster {
    width: usize,
    height: usize,
    /// H×W×4.
    bytes: Vec<u8>,
}

impl Raster {
    /// A picture of one colour, the last byte of which is its opacity.
    ///
    /// # Errors
    /// A side is 0, or it has more than 2²⁷ pixels.
    pub fn new(width: usize, height: usize, colour: [u8; 4]) -> Result<Self> {
        match width.checked_mul(height) {
            Some(1..=MOST_PIXELS) => Ok(Self { width, height, bytes: colour.repeat(width * height) }),
            _ => Err(Error::Argument(format!("a picture of {width}x{height} pixels; it has at least one and at most {MOST_PIXELS}"))),
        }
    }

    /// A plane H×W of numbers, each as its colour.
    ///
    /// # Errors
    /// There are not H·W numbers, or none.
    pub fn plane(numbers: &[f32], [h, w]: [usize; 2], range: Range, map: ColourMap) -> Result<Self> {
        counted(numbers.len(), &[h, w])?;
        let mut raster = Self::new(w, h, [0, 0, 0, 255])?;
        for (pixel, &number) in raster.bytes.chunks_exact_mut(4).zip(numbers) {
            pixel[..3].copy_from_slice(&map.colour(number, range));
        }
        Ok(raster)
    }

    /// Three planes 3×H×W of numbers as red, green and blue, each on the scale of [`ColourMap::Grey`].
    ///
    /// # Errors
    /// There are not 3·H·W numbers, or none.
    pub fn colour_planes(numbers: &[f32], [h, w]: [usize; 2], range: Range) -> Result<Self> {
        counted(numbers.len(), &[3, h, w])?;
        let mut raster = Self::new(w, h, [0, 0, 0, 255])?;
        for (place, pixel) in raster.bytes.chunks_exact_mut(4).enumerate() {
            let of = |channel: usize| numbers[channel * h * w + place];
            let colours = [0, 1, 2].map(|channel| ColourMap::Grey.colour(of(channel), range));
            // What is not finite takes the whole pixel: half a colour could not be told from a number.
            let broken = (0..3).find(|&channel| !of(channel).is_finite());
            let colour = broken.map_or([colours[0][0], colours[1][0], colours[2][0]], |channel| colours[channel]);
            pixel[..3].copy_from_slice(&colour);
        }
        Ok(raster)
    }

    /// The bytes of an image C×H×W: three channels are colour, one is grey, of others the mean is shown.
    ///
    /// # Errors
    /// There are not C·H·W bytes, or none.
    pub fn image(bytes: &[u8], [c, h, w]: [usize; 3]) -> Result<Self> {
        counted(bytes.len(), &[c, h, w])?;
        let mut raster = Self::new(w, h, [0, 0, 0, 255])?;
        let plane = h * w;
        for (place, pixel) in raster.bytes.chunks_exact_mut(4).enumerate() {
            let of = |channel: usize| bytes[channel * plane + place];
            let mean = || ((0..c).map(|channel| u64::from(of(channel))).sum::<u64>() + c as u64 / 2) / c as u64;
            let colour = if c == 3 { [of(0), of(1), of(2)] } else { [mean().min(255) as u8; 3] };
            pixel[..3].copy_from_slice(&colour);
        }
        Ok(raster)
    }

    /// Pixels from left to right.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Pixels from top to bottom.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Red, green, blue and opacity of each pixel, row by row.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Every pixel as a square of `times` × `times` of them: sharp, no colour that was not there.
    ///
    /// # Errors
    /// The result would have too many pixels, or `times` is 0.
    pub fn enlarged(&self, times: usize) -> Result<Self> {
        let mut large = Self::new(self.width.saturating_mul(times), self.height.saturating_mul(times), [0; 4])?;
        for (y, row) in large.bytes.chunks_exact_mut(4 * large.width).enumerate() {
            let from = &self.bytes[4 * self.width * (y / times)..];
            for (pixel, colour) in row.chunks_exact_mut(4 * times).zip(from.chunks_exact(4)) {
                pixel.chunks_exact_mut(4).for_each(|pixel| pixel.copy_from_slice(colour));
            }
        }
        Ok(large)
    }

    /// Tiles in rows of `columns`, `gap` clear pixels between them; the largest tile decides the grid.
    ///
    /// # Errors
    /// There is no tile or no column, or the result would have too many pixels.
    pub fn sheet(tiles: &[Self], columns: usize, gap: usize) -> Result<Self> {
        let side = |of: fn(&Self) -> usize| tiles.iter().map(of).max().unwrap_or(0);
        let (width, height) = (side(Self::width), side(Self::height));
        let columns = columns.min(tiles.len());
        if columns == 0 {
            return Err(Error::Argument(format!("a sheet of {} tiles in {columns} columns; it has at least one of each", tiles.len())));
        }
        let length = |count: usize, tile: usize| count.saturating_mul(tile.saturating_add(gap)).saturating_sub(gap);
        let mut sheet = Self::new(length(columns, width), length(tiles.len().div_ceil(columns), height), [0; 4])?;
        for (place, tile) in tiles.iter().enumerate() {
            sheet.place(tile, [place / columns * (height + gap), place % columns * (width + gap)]);
        }
        Ok(sheet)
    }

    /// Copies a picture onto this one, its upper left corner at this row and column; what lies outside is cut off.
    pub fn place(&mut self, other: &Self, [top, left]: [usize; 2]) {
        let width = other.width.min(self.width.saturating_sub(left));
        for y in 0..other.height.min(self.height.saturating_sub(top)) {
            let (to, from) = (4 * ((top + y) * self.width + left), 4 * y * other.width);
            self.bytes[to..to + 4 * width].copy_from_slice(&other.bytes[from..from + 4 * width]);
        }
    }

    /// Gives one pixel a colour, if it lies inside.
    pub fn set(&mut self, [y, x]: [usize; 2], colour: [u8; 4]) {
        if y < self.height && x < self.width {
            self.bytes[4 * (y * self.width + x)..][..4].copy_from_slice(&colour);
        }
    }

    /// The picture as a PNG file: grey or without opacity where that loses nothing.
    ///
    /// # Errors
    /// The picture is longer than a PNG can be.
    pub fn png(&self) -> Result<Vec<u8>> {
        let opaque = self.bytes.chunks_exact(4).all(|pixel| pixel[3] == 255);
        // The colour under what is clear is seen by nobody.
        let grey = self.bytes.chunks_exact(4).all(|pixel| pixel[3] == 0 || (pixel[0] == pixel[1] && pixel[1] == pixel[2]));
        let (kept, colour): (&[usize], _) = match (grey, opaque) {
            (true, true) => (&[0], ExtendedColorType::L8),
            (true, false) => (&[0, 3], ExtendedColorType::La8),
            (false, true) => (&[0, 1, 2], ExtendedColorType::Rgb8),
            (false, false) => (&[0, 1, 2, 3], ExtendedColorType::Rgba8),
        };
        let bytes: Vec<u8> = self.bytes.chunks_exact(4).flat_map(|pixel| kept.iter().map(|&part| pixel[part])).collect();
        let side = |side: usize| u32::try_from(side).map_err(|_| Error::Argument(format!("a picture {side} pixels long is too large")));
        let effort = if bytes.len() > LARGE { CompressionType::Default } else { CompressionType::Best };
        // Few colours in sharp squares: a filter that predicts a pixel from its neighbours makes such files larger.
        let mut smallest: Option<Vec<u8>> = None;
        for filter in [FilterType::NoFilter, FilterType::Adaptive] {
            let mut png = Vec::new();
            PngEncoder::new_with_quality(&mut png, effort, filter)
                .write_image(&bytes, side(self.width)?, side(self.height)?, colour)
                .map_err(|error| Error::Argument(format!("a picture as PNG: {error}")))?;
            smallest = Some(smallest.filter(|smallest| smallest.len() <= png.len()).unwrap_or(png));
        }
        Ok(smallest.unwrap_or_default())
    }
}

/// Refuses a number of values that is not the product of the sizes, and no values.
fn counted(count: usize, sizes: &[usize]) -> Result<()> {
    let expected = sizes.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
    if count == 0 || expected != Some(count) {
        return Err(Error::Argument(format!("a picture of {} cannot be made of {count} numbers", sizes_text(sizes))));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: Range = Range { low: 0.0, high: 1.0 };

    fn reds(raster: &Raster) -> Vec<u8> {
        raster.bytes().chunks_exact(4).map(|pixel| pixel[0]).collect()
    }

    fn decoded(raster: &Raster) -> image::DynamicImage {
        image::load_from_memory(&raster.png().unwrap()).unwrap()
    }

    #[test]
    fn enlarging_repeats_pixels_and_invents_no_colour() {
        let small = Raster::plane(&[0.0, 1.0, 0.5, 0.0], [2, 2], UNIT, ColourMap::Grey).unwrap();
        assert_eq!(reds(&small.enlarged(2).unwrap()), [0, 0, 255, 255, 0, 0, 255, 255, 128, 128, 0, 0, 128, 128, 0, 0]);
        assert!(small.enlarged(0).is_err() && small.enlarged(usize::MAX).is_err());
    }

    #[test]
    fn a_sheet_has_gaps_only_between_its_tiles() {
        let tile = Raster::new(2, 1, [9, 9, 9, 255]).unwrap();
        let sheet = Raster::sheet(&vec![tile; 3], 2, 1).unwrap();
        assert_eq!((sheet.width(), sheet.height()), (5, 3));
        let opacity: Vec<u8> = sheet.bytes().chunks_exact(4).map(|pixel| pixel[3] / 255).collect();
        assert_eq!(opacity, [1, 1, 0, 1, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0]);
        assert!(Raster::sheet(&[], 2, 1).is_err());
    }

    #[test]
    fn a_png_has_every_pixel_and_no_channel_too_many() {
        let grey = Raster::plane(&[0.0, 0.2, 0.4], [1, 3], UNIT, ColourMap::Grey).unwrap();
        assert_eq!(decoded(&grey).color(), image::ColorType::L8);
        let colour = Raster::image(&[1, 2, 10, 20, 100, 200], [3, 1, 2]).unwrap();
        assert_eq!(
            (decoded(&colour).color(), decoded(&colour).to_rgb8().into_raw()),
            (image::ColorType::Rgb8, vec![1, 10, 100, 2, 20, 200])
        );
        let sheet = Raster::sheet(&[colour.clone(), colour], 2, 1).unwrap();
        assert_eq!(decoded(&sheet).to_rgba8().into_raw(), sheet.bytes());
    }

    #[test]
    fn other_channels_are_shown_as_their_mean() {
        assert_eq!(reds(&Raster::image(&[10, 20], [2, 1, 1]).unwrap()), [15]);
    }

    #[test]
    fn what_is_not_finite_is_seen() {
        let plane = Raster::colour_planes(&[0.0, f32::NAN, 1.0], [1, 1], UNIT).unwrap();
        assert_eq!(plane.bytes(), [255, 0, 255, 255]);
    }

    #[test]
    fn numbers_that_do_not_fit_the_size_are_refused() {
        let error = Raster::image(&[0; 5], [1, 2, 3]).unwrap_err().to_string();
        assert!(error.contains("1x2x3") && error.contains('5'), "{error}");
        assert!(Raster::image(&[], [0, 2, 3]).is_err() && Raster::image(&[0; 4], [usize::MAX, 2, 2]).is_err());
        assert!(Raster::plane(&[0.0; 3], [2, 2], UNIT, ColourMap::Grey).is_err());
    }
}
