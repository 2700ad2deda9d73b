//! One image file as bytes C×H×W of a wanted size.
//!
//! PNG, JPEG, WebP and BMP are recognised by their content, whatever the name says. What happens on the way:
//!
//! 1. The header is read; more than 2²⁶ pixels are refused before anything is decoded.
//! 2. The image is decoded and turned as its Exif orientation says. Colour profiles are not applied.
//! 3. Transparency is composed on black: value·alpha/255, rounded.
//! 4. For one channel, colours become grey by the weights of ITU-R BT.601 in the fixed-point form of Pillow:
//!    (19595·R + 38470·G + 7471·B + 2¹⁵) / 2¹⁶. For three channels, grey stands in all of them.
//! 5. The centre of the image that has the wanted proportions is resized by a triangle filter as wide as the reduction
//!    (antialiasing), so nothing is stretched and the margins of the longer side are lost. An image that has the wanted
//!    size already is taken as it is.

use std::fs::File;
use std::io::{self, Cursor, ErrorKind, Read};
use std::path::Path;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::error::{Error, Result};

/// The most pixels of an image file.
pub const MOST_PIXELS: u64 = 1 << 26;
/// The longest side that images can be brought to.
pub const LONGEST_SIDE: usize = 1 << 14;
/// The most bytes that decoding one file may allocate: a colour image of [`MOST_PIXELS`] with transparency.
const MOST_ALLOCATED: u64 = 4 * MOST_PIXELS;
/// The most bytes of an image file; an uncompressed BMP of [`MOST_PIXELS`] fits.
pub(super) const MOST_FILE_BYTES: u64 = 4 * MOST_PIXELS + (1 << 20);

/// Reads an image file as bytes C×H×W of the size `[C, H, W]`, C being 1 or 3; see the [module](self) for how.
///
/// # Errors
/// [`Error::Argument`] for an impossible size, [`Error::Io`] for a file that cannot be read, [`Error::Format`] for one that
/// is not an image.
pub fn read_image(path: impl AsRef<Path>, size: [usize; 3]) -> Result<Vec<u8>> {
    let path = path.as_ref();
    check_size(size)?;
    let bytes = read_regular_file(path, MOST_FILE_BYTES).map_err(Error::io(path, "cannot read the image"))?;
    decode_image(&bytes, size).map_err(|reason| Error::format(path, reason))
}

/// The same of the content of a file.
///
/// # Errors
/// Why not, as a sentence without the name of the file.
pub fn decode_image(bytes: &[u8], size: [usize; 3]) -> Result<Vec<u8>, String> {
    check_size(size).map_err(|error| error.to_string())?;
    let mut pixels = vec![0; size.iter().product()];
    decode_into(bytes, size, &mut pixels)?;
    Ok(pixels)
}

/// Whether images can be brought to this size `[C, H, W]`.
pub(super) fn check_size(size: [usize; 3]) -> Result<()> {
    let [channels, height, width] = size;
    let text = format!("{channels}x{height}x{width}");
    if channels != 1 && channels != 3 {
        return Err(Error::Argument(format!("images have 1 (grey) or 3 (red, green, blue) channels, not the {channels} of {text}")));
    }
    if !(1..=LONGEST_SIDE).contains(&height) || !(1..=LONGEST_SIDE).contains(&width) {
        return Err(Error::Argument(format!("images can be brought to 1 to {LONGEST_SIDE} pixels on a side, not to {text}")));
    }
    Ok(())
}

/// The content of a file, if it is an ordinary file of at most `most` bytes. A pipe or a device would block for ever.
pub(super) fn read_regular_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let refused = |reason: String| Err(io::Error::new(ErrorKind::InvalidInput, reason));
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return refused("it is a folder".to_owned());
    }
    if !metadata.is_file() {
        return refused("it is a pipe, a socket or a device".to_owned());
    }
    if metadata.len() > most {
        return refused(format!("it has {} bytes, at most {most} are read", metadata.len()));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The size `[C, H, W]` of an image as its header says, turned as its orientation says.
pub(super) fn measure(bytes: &[u8]) -> Result<[usize; 3], String> {
    guarded(|| {
        let mut decoder = decoder(bytes)?;
        let channels = if decoder.color_type().has_color() { 3 } else { 1 };
        let (width, height) = decoder.dimensions();
        let (width, height) = (width as usize, height as usize);
        Ok(match decoder.orientation() {
            Ok(Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH) => {
                [channels, width, height]
            }
            _ => [channels, height, width],
        })
    })
}

/// Decodes an image into C·H·W bytes.
pub(super) fn decode_into(bytes: &[u8], size: [usize; 3], pixels: &mut [u8]) -> Result<(), String> {
    let image = guarded(|| {
        let mut decoder = decoder(bytes)?;
        // Metadata that cannot be read is no reason to refuse the pixels.
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut image = DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?;
        image.apply_orientation(orientation);
        Ok(image)
    })?;
    if image::guess_format(bytes).is_ok_and(|format| format == ImageFormat::Jpeg) && !jpeg_has_an_end(bytes) {
        return Err("the JPEG image is cut off; fetch or write it again".to_owned());
    }
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (values, channels) = composed(image);
    fit(&values, [channels, height, width], size, pixels)
}

/// A decoder with limits, past the checks of the header.
fn decoder(bytes: &[u8]) -> Result<impl ImageDecoder + '_, String> {
    let foreign = || format!("is {}, a PNG, JPEG, WebP or BMP image was expected", convnet_formats::describe(bytes));
    let format = image::guess_format(bytes).map_err(|_| foreign())?;
    if !matches!(format, ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP | ImageFormat::Bmp) {
        return Err(foreign());
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(MOST_ALLOCATED);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|error| error.to_string())?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MOST_PIXELS || decoder.total_bytes() > MOST_ALLOCATED {
        return Err(format!(
            "the image has {width}×{height} pixels of {} bytes, at most {MOST_PIXELS} pixels and {MOST_ALLOCATED} bytes are decoded; make it smaller",
            decoder.color_type().bytes_per_pixel()
        ));
    }
    if width == 0 || height == 0 {
        return Err(format!("the image has {width}×{height} pixels"));
    }
    Ok(decoder)
}

/// A fault inside a decoder is that file's fault, not the end of the program.
fn guarded<T>(decode: impl FnOnce() -> Result<T, String> + std::panic::UnwindSafe) -> Result<T, String> {
    std::panic::catch_unwind(decode).unwrap_or_else(|_| Err("the decoder of images failed on it".to_owned()))
}

/// Whether the compressed data of a JPEG image end with the marker FF D9. The decoder fills what is missing with grey.
fn jpeg_has_an_end(bytes: &[u8]) -> bool {
    // Segments are FF, a marker, and a length that counts itself; the first FF DA begins the data. Those before can hold
    // a small preview with an end of its own.
    let mut place = 2;
    while let Some(&[0xff, marker, high, low]) = bytes.get(place..place + 4).and_then(|segment| segment.first_chunk::<4>()) {
        if marker == 0xff {
            place += 1;
            continue;
        }
        place += 2 + usize::from(u16::from_be_bytes([high, low]));
        if marker == 0xda {
            return bytes.get(place..).is_some_and(|data| data.windows(2).any(|pair| pair == [0xff, 0xd9]));
        }
    }
    // Not laid out like this: the decoder has the word.
    true
}

/// The values of an image without transparency, interleaved, and how many channels they have (1 or 3).
fn composed(image: DynamicImage) -> (Vec<u8>, usize) {
    let color = image.color();
    match (color.has_color(), color.has_alpha()) {
        (true, false) => (image.into_rgb8().into_raw(), 3),
        (true, true) => (on_black::<4>(image.into_rgba8().into_raw()), 3),
        (false, false) => (image.into_luma8().into_raw(), 1),
        (false, true) => (on_black::<2>(image.into_luma_alpha8().into_raw()), 1),
    }
}

/// Composes pixels of `SIZE` bytes, the last being alpha, on black and leaves alpha out.
fn on_black<const SIZE: usize>(pixels: Vec<u8>) -> Vec<u8> {
    let mut composed = Vec::with_capacity(pixels.len() / SIZE * (SIZE - 1));
    for pixel in pixels.as_chunks::<SIZE>().0 {
        let alpha = u16::from(pixel[SIZE - 1]);
        composed.extend(pixel[..SIZE - 1].iter().map(|&value| ((u16::from(value) * alpha + 127) / 255) as u8));
    }
    composed
}

/// Brings interleaved values of size `from` = `[C, H, W]` to C×H×W of the size `to`; see the [module](self).
pub(super) fn fit(values: &[u8], from: [usize; 3], to: [usize; 3], pixels: &mut [u8]) -> Result<(), String> {
    let [_, height, width] = to;
    let plane = height * width;
    if from[0] == 3 && to[0] == 3 {
        let interleaved = resized(values, from, [height, width], PixelType::U8x3)?;
        for (index, pixel) in interleaved.as_chunks::<3>().0.iter().enumerate() {
            for (channel, &value) in pixel.iter().enumerate() {
                pixels[channel * plane + index] = value;
            }
        }
        return Ok(());
    }
    let grey = if from[0] == 3 {
        let grey: Vec<u8> = values.as_chunks::<3>().0.iter().map(|&pixel| luma(pixel)).collect();
        resized(&grey, from, [height, width], PixelType::U8)?.into_owned()
    } else {
        resized(values, from, [height, width], PixelType::U8)?.into_owned()
    };
    for target in pixels.chunks_exact_mut(plane) {
        target.copy_from_slice(&grey);
    }
    Ok(())
}

fn luma([red, green, blue]: [u8; 3]) -> u8 {
    ((19595 * u32::from(red) + 38470 * u32::from(green) + 7471 * u32::from(blue) + (1 << 15)) >> 16) as u8
}

/// The centre of the wanted proportions, resized; the values themselves if they have the size.
fn resized<'a>(
    values: &'a [u8],
    from: [usize; 3],
    [height, width]: [usize; 2],
    kind: PixelType,
) -> Result<std::borrow::Cow<'a, [u8]>, String> {
    if from[1..] == [height, width] {
        return Ok(values.into());
    }
    let source = ImageRef::new(from[2] as u32, from[1] as u32, values, kind).map_err(|error| error.to_string())?;
    let mut target = Image::new(width as u32, height as u32, kind);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .fit_into_destination(Some((0.5, 0.5)))
        .use_alpha(false);
    Resizer::new().resize(&source, &mut target, &options).map_err(|error| error.to_string())?;
    Ok(target.into_vec().into())
}

#[cfg(test)]
mod tests {
    use image::{GrayAlphaImage, GrayImage, ImageBuffer, Luma, LumaA, Rgb, RgbImage, Rgba, RgbaImage};

    use super::*;

    fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn gradient(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([(x * 7) as u8, (y * 11) as u8, (x + y) as u8]))
    }

    fn planar(image: &RgbImage) -> Vec<u8> {
        (0..3).flat_map(|channel| image.pixels().map(move |pixel| pixel.0[channel])).collect()
    }

    #[test]
    fn an_image_of_the_wanted_size_keeps_its_bytes() {
        let image = gradient(5, 4);
        for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP] {
            let bytes = encoded(image.clone(), format);
            assert_eq!(measure(&bytes), Ok([3, 4, 5]), "{format:?}");
            assert_eq!(decode_image(&bytes, [3, 4, 5]).unwrap(), planar(&image), "{format:?}");
        }
        let jpeg = encoded(RgbImage::from_pixel(16, 8, Rgb([200, 100, 50])), ImageFormat::Jpeg);
        let pixels = decode_image(&jpeg, [3, 8, 16]).unwrap();
        for (channel, value) in [200_u8, 100, 50].into_iter().enumerate() {
            assert!(pixels[channel * 128..][..128].iter().all(|&found| found.abs_diff(value) <= 3), "channel {channel}");
        }
    }

    #[test]
    fn grey_and_colour_become_each_other() {
        let grey = encoded(GrayImage::from_fn(2, 1, |x, _| Luma([x as u8 * 90 + 10])), ImageFormat::Png);
        assert_eq!(measure(&grey), Ok([1, 1, 2]));
        assert_eq!(decode_image(&grey, [3, 1, 2]).unwrap(), [10, 100, 10, 100, 10, 100]);
        let colours = RgbImage::from_vec(4, 1, vec![255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255]).unwrap();
        // As Pillow's convert("L").
        assert_eq!(decode_image(&encoded(colours, ImageFormat::Png), [1, 1, 4]).unwrap(), [76, 150, 29, 255]);
    }

    #[test]
    fn sixteen_bits_become_eight() {
        let image: ImageBuffer<Luma<u16>, Vec<u16>> = ImageBuffer::from_vec(3, 1, vec![0, 257 * 100, u16::MAX]).unwrap();
        assert_eq!(decode_image(&encoded(image, ImageFormat::Png), [1, 1, 3]).unwrap(), [0, 100, 255]);
    }

    #[test]
    fn transparency_is_composed_on_black() {
        let image = RgbaImage::from_fn(3, 1, |x, _| Rgba([200, 100, 50, [0, 128, 255][x as usize]]));
        let pixels = decode_image(&encoded(image, ImageFormat::Png), [3, 1, 3]).unwrap();
        assert_eq!(pixels, [0, 100, 200, 0, 50, 100, 0, 25, 50]);
        let image = GrayAlphaImage::from_fn(3, 1, |x, _| LumaA([200, [0, 128, 255][x as usize]]));
        assert_eq!(decode_image(&encoded(image, ImageFormat::Png), [1, 1, 3]).unwrap(), [0, 100, 200]);
    }

    #[test]
    fn nothing_is_stretched_and_the_centre_is_kept() {
        // Twice as wide as high: left and right quarter black, the centre white. Made square, all is white.
        let wide = GrayImage::from_fn(80, 40, |x, _| Luma([if (20..60).contains(&x) { 255 } else { 0 }]));
        let pixels = decode_image(&encoded(wide, ImageFormat::Png), [1, 10, 10]).unwrap();
        let columns: Vec<u8> = pixels[..10].to_vec();
        assert!(columns[1..9].iter().all(|&value| value == 255), "{columns:?}");
        let high = GrayImage::from_fn(40, 80, |_, y| Luma([if (20..60).contains(&y) { 255 } else { 0 }]));
        let pixels = decode_image(&encoded(high, ImageFormat::Png), [1, 10, 10]).unwrap();
        assert!((1..9).all(|row| pixels[row * 10 + 5] == 255), "{pixels:?}");
    }

    #[test]
    fn a_reduction_averages_all_pixels() {
        // A chessboard of single pixels becomes even grey; without antialiasing it would stay black or white.
        let board = GrayImage::from_fn(64, 64, |x, y| Luma([((x + y) % 2 * 255) as u8]));
        let pixels = decode_image(&encoded(board, ImageFormat::Png), [1, 8, 8]).unwrap();
        assert!(pixels.iter().all(|&value| (126..=129).contains(&value)), "{pixels:?}");
    }

    #[test]
    fn an_even_image_stays_even_at_every_size() {
        for (channels, format) in [(3, ImageFormat::Png), (1, ImageFormat::Bmp)] {
            let bytes = encoded(RgbImage::from_pixel(37, 23, Rgb([90, 90, 90])), format);
            for (height, width) in [(1, 1), (5, 50), (64, 3), (224, 224)] {
                let pixels = decode_image(&bytes, [channels, height, width]).unwrap();
                assert_eq!(pixels.len(), channels * height * width);
                assert!(pixels.iter().all(|&value| value == 90), "{channels}x{height}x{width}");
            }
        }
    }

    /// A JPEG with an Exif block that holds nothing but this orientation.
    fn oriented(image: RgbImage, orientation: u8) -> Vec<u8> {
        let plain = encoded(image, ImageFormat::Jpeg);
        let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
        let mut bytes = plain[..2].to_vec();
        bytes.extend([0xff, 0xe1]);
        bytes.extend((exif.len() as u16 + 2).to_be_bytes());
        bytes.extend(exif);
        bytes.extend(&plain[2..]);
        bytes
    }

    #[test]
    fn the_orientation_of_a_photo_is_applied() {
        // Left half black, right half white; turned by 90° clockwise the upper half is black.
        let image = RgbImage::from_fn(32, 16, |x, _| Rgb([if x < 16 { 0 } else { 255 }; 3]));
        let turned = oriented(image.clone(), 6);
        assert_eq!(measure(&turned), Ok([3, 32, 16]));
        let pixels = decode_image(&turned, [1, 32, 16]).unwrap();
        assert!(pixels[..15 * 16].iter().all(|&value| value < 20) && pixels[17 * 16..].iter().all(|&value| value > 235));
        let upright = oriented(image, 1);
        assert_eq!(measure(&upright), Ok([3, 16, 32]));
    }

    #[test]
    fn an_image_cut_off_anywhere_is_refused() {
        let image = gradient(40, 30);
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp, ImageFormat::WebP] {
            let whole = encoded(image.clone(), format);
            assert!(decode_image(&whole, [3, 30, 40]).is_ok(), "{format:?}");
            // The last chunk of a PNG carries nothing, nor does the padding of a BMP and a WebP file.
            let needed = whole.len() - if format == ImageFormat::Png { 12 } else { 2 };
            for length in (0..needed).step_by(7) {
                let result = decode_image(&whole[..length], [3, 30, 40]);
                assert!(result.is_err(), "{format:?} of {} bytes cut at {length}", whole.len());
            }
        }
    }

    #[test]
    fn damaged_images_never_panic() {
        let mut random = crate::random::Address::new(1, crate::random::Purpose::Split).random();
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp, ImageFormat::WebP] {
            let whole = encoded(gradient(20, 20), format);
            for _ in 0..500 {
                let mut bytes = whole.clone();
                for _ in 0..1 + random.below(4) {
                    let place = random.below(bytes.len());
                    bytes[place] = random.bits() as u8;
                }
                if let Ok(pixels) = decode_image(&bytes, [3, 8, 8]) {
                    assert_eq!(pixels.len(), 192);
                }
                // The header alone can be whole while the rest is not.
                let _ = measure(&bytes);
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_decoded() {
        // 65,000 × 65,000 pixels in a header; nothing behind it.
        let mut png = encoded(gradient(1, 1), ImageFormat::Png);
        png[16..20].copy_from_slice(&65_000_u32.to_be_bytes());
        png[20..24].copy_from_slice(&65_000_u32.to_be_bytes());
        assert!(decode_image(&png, [3, 8, 8]).is_err());
        let mut bmp = encoded(gradient(1, 1), ImageFormat::Bmp);
        bmp[18..22].copy_from_slice(&20_000_u32.to_le_bytes());
        bmp[22..26].copy_from_slice(&20_000_u32.to_le_bytes());
        let error = decode_image(&bmp, [3, 8, 8]).unwrap_err();
        assert!(error.contains("20000×20000 pixels"), "{error}");
    }

    #[test]
    fn what_is_no_image_is_named() {
        for (bytes, name) in [
            (&b"PK\x03\x04......"[..], "a ZIP archive"),
            (b"", "an empty file"),
            (b"GIF89a..........", "a GIF image"),
            (b"\0\0\x08\x03\0\0\0\x01", "an IDX file"),
            (b"just text", "a text that begins with \"just tex\""),
        ] {
            let error = decode_image(bytes, [1, 8, 8]).unwrap_err();
            assert!(error.starts_with(&format!("is {name}")) && error.contains("a PNG, JPEG, WebP or BMP image"), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_not_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = read_image(folder.path(), [1, 8, 8]).unwrap_err();
        assert!(error.to_string().ends_with("cannot read the image: it is a folder"), "{error}");
        let error = read_image(folder.path().join("missing.png"), [1, 8, 8]).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        let error = read_image("/dev/zero", [1, 8, 8]).unwrap_err();
        assert!(error.to_string().contains("a device"), "{error}");
    }

    #[test]
    fn an_impossible_size_is_refused() {
        for size in [[2, 8, 8], [0, 8, 8], [1, 0, 8], [3, 8, usize::MAX]] {
            assert!(matches!(check_size(size), Err(Error::Argument(_))), "{size:?}");
            assert!(decode_image(b"", size).is_err(), "{size:?}");
        }
    }
}
