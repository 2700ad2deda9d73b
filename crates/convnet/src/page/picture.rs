//! Pictures inside a page: small images as PNG in `data:` addresses.

use super::raster::Raster;
use crate::error::{Error, Result};
use crate::shape::sizes_text;

/// The longest side of a picture that is kept as it is; larger ones are reduced.
const LONGEST: usize = 96;
/// How large a picture is shown at least, in pixels of the page, if its own size divides it.
const SHOWN: usize = 112;

/// A picture and the size at which it is shown.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Picture {
    /// The `data:` address.
    pub address: String,
    pub width: usize,
    pub height: usize,
}

impl Picture {
    /// A picture whose pixels are shown as squares, as many of the page's pixels wide as fit into `shown`.
    pub fn new(raster: &Raster, shown: usize) -> Result<Self> {
        let times = (shown / raster.width().max(raster.height())).max(1);
        let address = format!("data:image/png;base64,{}", base64(&raster.png()?));
        Ok(Self { address, width: times * raster.width(), height: times * raster.height() })
    }
}

/// The picture of an image C×H×W: three channels are colour, one is grey, of others the mean is shown. Large images are
/// reduced to means of squares.
///
/// # Errors
/// There are not C·H·W bytes, or an axis is empty.
pub(crate) fn of_image(image: &[u8], size: [usize; 3]) -> Result<Picture> {
    Picture::new(&reduced(image, size, LONGEST)?, SHOWN)
}

/// The pixels of an image C×H×W, its longest side reduced to at most `longest` by taking means of squares.
///
/// # Errors
/// There are not C·H·W bytes, or an axis is empty.
pub(crate) fn reduced(image: &[u8], size: [usize; 3], longest: usize) -> Result<Raster> {
    let [c, h, w] = size;
    let expected = c.checked_mul(h).and_then(|product| product.checked_mul(w)).filter(|&count| count > 0);
    if expected != Some(image.len()) {
        return Err(Error::Argument(format!("an image of {} cannot have {} bytes", sizes_text(&size), image.len())));
    }
    let factor = h.max(w).div_ceil(longest);
    if factor == 1 {
        return Raster::image(image, size);
    }
    let (height, width) = (h.div_ceil(factor), w.div_ceil(factor));
    let mut bytes = Vec::with_capacity(c * height * width);
    for plane in image.chunks_exact(h * w) {
        bytes.extend((0..height * width).map(|place| mean(plane, [place / width * factor, place % width * factor], [h, w], factor)));
    }
    Raster::image(&bytes, [c, height, width])
}

/// The mean of a square of pixels of a plane H×W, as far as it lies inside.
fn mean(plane: &[u8], [top, left]: [usize; 2], [h, w]: [usize; 2], side: usize) -> u8 {
    let (bottom, right) = ((top + side).min(h), (left + side).min(w));
    let count = ((bottom - top) * (right - left)) as u64;
    let sum: u64 = (top..bottom).flat_map(|y| &plane[y * w + left..y * w + right]).map(|&byte| u64::from(byte)).sum();
    ((sum + count / 2) / count.max(1)).min(255) as u8
}

/// Bytes in base 64 by RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_usize, |bits, place| bits << 8 | usize::from(group.get(place).copied().unwrap_or(0)));
        for place in 0..4 {
            let letter = char::from(LETTERS[bits >> (18 - 6 * place) & 63]);
            text.push(if place <= group.len() { letter } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_64_is_that_of_the_rfc() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="), ("foobar", "Zm9vYmFy")];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    /// The bytes of the PNG in an address.
    fn decoded(picture: &Picture) -> image::DynamicImage {
        let text = picture.address.strip_prefix("data:image/png;base64,").unwrap();
        let value = |letter: u8| match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        let mut bytes = Vec::new();
        for group in text.trim_end_matches('=').as_bytes().chunks(4) {
            let bits = group.iter().fold(0_u32, |bits, &letter| bits << 6 | u32::from(value(letter))) << (6 * (4 - group.len()));
            bytes.extend(&bits.to_be_bytes()[1..group.len()]);
        }
        image::load_from_memory(&bytes).unwrap()
    }

    #[test]
    fn a_small_image_is_kept_pixel_by_pixel() {
        let bytes: Vec<u8> = (0..28 * 28).map(|pixel| (pixel % 251) as u8).collect();
        let picture = of_image(&bytes, [1, 28, 28]).unwrap();
        assert_eq!((picture.width, picture.height), (112, 112));
        assert_eq!(decoded(&picture).to_luma8().into_raw(), bytes);
    }

    #[test]
    fn colour_goes_from_planes_to_pixels() {
        let picture = of_image(&[1, 2, 10, 20, 100, 200], [3, 1, 2]).unwrap();
        assert_eq!(decoded(&picture).to_rgb8().into_raw(), [1, 10, 100, 2, 20, 200]);
    }

    #[test]
    fn a_large_image_is_reduced_to_means() {
        let bytes: Vec<u8> = (0..200 * 101).map(|pixel| if pixel % 101 == 100 { 200 } else { (pixel / 101 % 3) as u8 * 100 }).collect();
        let small = of_image(&bytes, [1, 200, 101]).unwrap();
        let image = decoded(&small).to_luma8();
        assert_eq!(image.dimensions(), (34, 67));
        assert_eq!(image.get_pixel(0, 0).0, [100], "the mean of 0, 100 and 200");
    }

    #[test]
    fn bytes_that_do_not_fit_the_size_are_refused() {
        let error = of_image(&[0; 5], [1, 2, 3]).unwrap_err().to_string();
        assert!(error.contains("1x2x3") && error.contains('5'), "{error}");
        assert!(of_image(&[], [0, 2, 3]).is_err());
        assert!(of_image(&[0; 4], [usize::MAX, 2, 2]).is_err());
    }
}
