//! Pictures inside the page: small images as PNG in `data:` addresses.

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

use crate::error::{Error, Result};
use crate::shape::sizes_text;

/// The longest side of a picture that is kept as it is; larger ones are reduced.
const LONGEST: usize = 96;
/// How large a picture is shown at least, in pixels of the page, if its own size divides it.
const SHOWN: usize = 112;

/// A picture and the size at which it is shown.
#[derive(Debug, PartialEq)]
pub(super) struct Picture {
    /// The `data:` address.
    pub address: String,
    pub width: usize,
    pub height: usize,
}

/// Bytes of one image and what they mean.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pixels<'a> {
    pub height: usize,
    pub width: usize,
    /// H×W×channels.
    pub bytes: &'a [u8],
    pub colour: ExtendedColorType,
}

/// A picture whose pixels are shown as squares, as many of the page's pixels wide as fit into `shown`.
pub(super) fn picture(pixels: Pixels<'_>, shown: usize) -> Result<Picture> {
    let Pixels { height, width, bytes, colour } = pixels;
    let side = |side: usize| u32::try_from(side).map_err(|_| Error::Argument(format!("a picture {side} pixels long is too large")));
    let mut png = Vec::new();
    PngEncoder::new_with_quality(&mut png, CompressionType::Best, FilterType::Adaptive)
        .write_image(bytes, side(width)?, side(height)?, colour)
        .map_err(|error| Error::Argument(format!("a picture of the report: {error}")))?;
    let times = (shown / width.max(height)).max(1);
    Ok(Picture { address: format!("data:image/png;base64,{}", base64(&png)), width: times * width, height: times * height })
}

/// The picture of an image C×H×W: three channels are colour, one is grey, of others the mean is shown.
///
/// # Errors
/// There are not C·H·W bytes, or an axis is empty.
pub(super) fn of_image(image: &[u8], size: [usize; 3]) -> Result<Picture> {
    let [c, h, w] = size;
    let expected = c.checked_mul(h).and_then(|product| product.checked_mul(w)).filter(|&count| count > 0);
    if expected != Some(image.len()) {
        return Err(Error::Argument(format!("an image of {} cannot have {} bytes", sizes_text(&size), image.len())));
    }
    let factor = h.max(w).div_ceil(LONGEST);
    let (height, width) = (h.div_ceil(factor), w.div_ceil(factor));
    let shown = if c == 3 { 3 } else { 1 };
    let channels = c / shown;
    let mut bytes = Vec::with_capacity(height * width * shown);
    for y in 0..height {
        for x in 0..width {
            for first in 0..shown {
                let planes = image.chunks_exact(h * w).skip(first).take(channels);
                bytes.push(mean(planes, [y * factor, x * factor], [h, w], factor));
            }
        }
    }
    let colour = if shown == 3 { ExtendedColorType::Rgb8 } else { ExtendedColorType::L8 };
    picture(Pixels { height, width, bytes: &bytes, colour }, SHOWN)
}

/// The mean of a square of pixels through some planes H×W, as far as it lies inside.
fn mean<'a>(planes: impl Iterator<Item = &'a [u8]>, [top, left]: [usize; 2], [h, w]: [usize; 2], side: usize) -> u8 {
    let (bottom, right) = ((top + side).min(h), (left + side).min(w));
    let (mut sum, mut count) = (0_u64, 0_u64);
    for plane in planes {
        for y in top..bottom {
            sum += plane[y * w + left..y * w + right].iter().map(|&byte| u64::from(byte)).sum::<u64>();
            count += (right - left) as u64;
        }
    }
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
    fn other_channels_are_shown_as_their_mean() {
        assert_eq!(decoded(&of_image(&[10, 20], [2, 1, 1]).unwrap()).to_luma8().into_raw(), [15]);
    }

    #[test]
    fn bytes_that_do_not_fit_the_size_are_refused() {
        let error = of_image(&[0; 5], [1, 2, 3]).unwrap_err().to_string();
        assert!(error.contains("1x2x3") && error.contains('5'), "{error}");
        assert!(of_image(&[], [0, 2, 3]).is_err());
        assert!(of_image(&[0; 4], [usize::MAX, 2, 2]).is_err());
    }
}
