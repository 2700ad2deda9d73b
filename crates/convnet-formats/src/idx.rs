//! IDX, the format of MNIST and its kin, plain or gzip.
//!
//! | bytes | content |
//! |---|---|
//! | 0, 1 | zero |
//! | 2 | type of the values: `08` u8, `09` i8, `0B` i16, `0C` i32, `0D` f32, `0E` f64 |
//! | 3 | number of dimensions D |
//! | 4 … 4 + 4·D | the dimensions, big-endian u32, slowest first |
//! | 4 + 4·D … | the values, row-major |
//!
//! Images are u8 with D = 3 (N, H, W), labels u8 with D = 1 (N). Only u8 is
//! read here; the other types are recognised and refused by name.

use std::io::{self, ErrorKind, Read, Write};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

use crate::error::{Fault, FormatError};
use crate::foreign;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Deflate writes at most 258 bytes for 2 bits, so no stream grows by more.
const MOST_GROWTH_OF_DEFLATE: usize = 1032;
/// So much is read first, to recognise the content.
const HEAD_BYTES: u64 = 512;

/// The content of an IDX file of unsigned bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idx {
    /// The dimensions, slowest first: (N, H, W) of images, (N) of labels.
    pub dims: Vec<usize>,
    /// The values, row-major; as many as the product of `dims`.
    pub data: Vec<u8>,
}

/// How [`write_idx`] packs its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As they are.
    Plain,
    /// As a gzip stream without name or time, so that the same content gives
    /// the same bytes.
    Gzip,
}

/// Reads an IDX file of unsigned bytes, plain or gzip (recognised by its first
/// bytes).
///
/// No more than `limit_bytes` of values are read: what promises more is refused
/// before anything is allocated. The content must end where its dimensions say.
///
/// ```
/// use convnet_formats::idx::{Packing, read_idx, write_idx};
///
/// let labels = write_idx(&[3], &[7, 0, 9], Packing::Gzip)?;
/// let read = read_idx(&labels, 1_000_000)?;
/// assert_eq!((read.dims, read.data), (vec![3], vec![7, 0, 9]));
/// # Ok::<(), convnet_formats::FormatError>(())
/// ```
///
/// # Errors
/// A [`FormatError`] for every content that is not exactly one IDX file of
/// unsigned bytes within the limit.
pub fn read_idx(bytes: &[u8], limit_bytes: usize) -> Result<Idx, FormatError> {
    if !bytes.starts_with(&GZIP_MAGIC) {
        return read_content(&mut &bytes[..], bytes.len(), limit_bytes);
    }
    let mut stream = GzDecoder::new(bytes);
    let longest = bytes.len().saturating_mul(MOST_GROWTH_OF_DEFLATE);
    let idx = read_content(&mut stream, longest, limit_bytes)?;
    match stream.into_inner().len() {
        0 => Ok(idx),
        left => {
            Err(FormatError::new(Fault::Trailing, format!("{left} more bytes after the end of the gzip stream"), "the end of the file"))
        }
    }
}

/// Reads the content out of a source that cannot give more than `longest` bytes.
fn read_content(source: &mut impl Read, longest: usize, limit_bytes: usize) -> Result<Idx, FormatError> {
    let mut head = Vec::new();
    if let Err(error) = source.by_ref().take(HEAD_BYTES).read_to_end(&mut head) {
        return Err(broken_stream(&error, head.len(), "the header of an IDX file"));
    }
    let (dims, header_bytes) = read_header(&head)?;
    let count = checked_count(&dims).filter(|&count| count <= limit_bytes).ok_or_else(|| {
        FormatError::new(Fault::TooLarge, format!("{} bytes of values", by_cross(&dims)), format!("at most {limit_bytes}"))
            .at(4)
            .remedy("take fewer or smaller images, or set a higher limit")
    })?;
    if count > longest.saturating_sub(header_bytes) {
        let most = longest.saturating_sub(header_bytes);
        return Err(cut_off(format!("room for {most} bytes of values"), &dims).at(header_bytes));
    }

    let mut data = Vec::new();
    if data.try_reserve_exact(count).is_err() {
        return Err(FormatError::new(
            Fault::TooLarge,
            format!("{} bytes of values", by_cross(&dims)),
            "a size that fits into the memory of this machine",
        ));
    }
    let mut rest = head[header_bytes..].chain(source);
    if let Err(error) = rest.by_ref().take(count as u64).read_to_end(&mut data) {
        let expected = format!("{count} bytes of values ({})", by_cross(&dims));
        return Err(broken_stream(&error, header_bytes + data.len(), &expected));
    }
    if data.len() < count {
        let found = format!("{} bytes of values", data.len());
        return Err(cut_off(found, &dims).at(header_bytes + data.len()));
    }
    // The read past the end also makes the gzip decoder compare its checksum.
    match rest.read(&mut [0]) {
        Ok(0) => Ok(Idx { dims, data }),
        Ok(_) => Err(FormatError::new(
            Fault::Trailing,
            format!("more bytes after the {count} values of {}", by_cross(&dims)),
            "the end of the file",
        )
        .at(header_bytes + count)),
        Err(error) => Err(broken_stream(&error, header_bytes + count, "the end of the file")),
    }
}

/// The dimensions and the number of bytes that the header takes.
fn read_header(head: &[u8]) -> Result<(Vec<usize>, usize), FormatError> {
    if head.len() < 4 || head[..2] != [0, 0] || !(0x08..=0x0e).contains(&head[2]) || head[2] == 0x0a {
        let fault = if head.starts_with(&[0, 0]) && head.len() < 4 { Fault::Truncated } else { Fault::Foreign };
        return Err(FormatError::new(fault, foreign::describe(head), "an IDX file (plain or gzip)"));
    }
    let kind = match head[2] {
        0x08 => None,
        0x09 => Some("i8"),
        0x0b => Some("i16"),
        0x0c => Some("i32"),
        0x0d => Some("f32"),
        _ => Some("f64"),
    };
    if let Some(kind) = kind {
        return Err(FormatError::new(
            Fault::Unsupported,
            format!("an IDX file of {kind} values (type {:02x})", head[2]),
            "u8 values (type 08)",
        )
        .at(2)
        .remedy("write the values again as unsigned bytes"));
    }
    let count = usize::from(head[3]);
    if count == 0 {
        return Err(FormatError::new(
            Fault::Malformed,
            "an IDX file without dimensions",
            "1 dimension for labels (N) or 3 for images (N, H, W)",
        )
        .at(3));
    }
    // 255 dimensions are 1,024 bytes; real files have 1 to 4, the head has room for 127.
    let header_bytes = 4 + 4 * count;
    if header_bytes as u64 > HEAD_BYTES {
        return Err(FormatError::new(
            Fault::Unsupported,
            format!("an IDX file of {count} dimensions"),
            "1 dimension for labels (N) or 3 for images (N, H, W)",
        )
        .at(3));
    }
    let Some(fields) = head.get(4..header_bytes) else {
        return Err(FormatError::new(
            Fault::Truncated,
            format!("{} bytes", head.len()),
            format!("a header of {header_bytes} bytes ({count} dimensions)"),
        )
        .at(head.len()));
    };
    let mut dims = Vec::with_capacity(count);
    for field in fields.chunks_exact(4) {
        let dim = u32::from_be_bytes([field[0], field[1], field[2], field[3]]);
        // A dimension that does not fit is far beyond any limit.
        dims.push(usize::try_from(dim).unwrap_or(usize::MAX));
    }
    Ok((dims, header_bytes))
}

/// Writes an IDX file of unsigned bytes; [`read_idx`] reads it back.
///
/// # Errors
/// [`Fault::Unwritable`] when there are no or more than 127 dimensions, when
/// one is beyond `u32`, or when `data` is not as long as they say.
pub fn write_idx(dims: &[usize], data: &[u8], packing: Packing) -> Result<Vec<u8>, FormatError> {
    let unwritable = |found: String, expected: String| FormatError::new(Fault::Unwritable, found, expected);
    if dims.is_empty() || dims.len() > 127 {
        return Err(unwritable(format!("{} dimensions", dims.len()), "1 to 127 dimensions".to_owned()));
    }
    if checked_count(dims) != Some(data.len()) {
        return Err(unwritable(format!("{} values", data.len()), format!("as many as {} says", by_cross(dims))));
    }
    let mut content = vec![0, 0, 0x08, dims.len() as u8];
    for &dim in dims {
        let dim = u32::try_from(dim).map_err(|_| unwritable(format!("a dimension of {dim}"), format!("at most {}", u32::MAX)))?;
        content.extend(dim.to_be_bytes());
    }
    content.extend(data);
    match packing {
        Packing::Plain => Ok(content),
        Packing::Gzip => {
            let mut stream = GzEncoder::new(Vec::new(), Compression::best());
            stream
                .write_all(&content)
                .and_then(|()| stream.finish())
                .map_err(|error| unwritable(error.to_string(), "a gzip stream".to_owned()))
        }
    }
}

/// The product of the dimensions, unless it overflows.
fn checked_count(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim))
}

/// The dimensions as text: `60000×28×28`.
fn by_cross(dims: &[usize]) -> String {
    let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
    dims.join("×")
}

fn cut_off(found: String, dims: &[usize]) -> FormatError {
    FormatError::new(Fault::Truncated, found, format!("{} of them", by_cross(dims)))
}

fn broken_stream(error: &io::Error, offset: usize, expected: &str) -> FormatError {
    if error.kind() == ErrorKind::UnexpectedEof {
        FormatError::new(Fault::Truncated, "the end of the gzip stream", expected).at(offset)
    } else {
        FormatError::new(Fault::Malformed, format!("a broken gzip stream ({error})"), expected).at(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEBIBYTE: usize = 1 << 20;

    fn images() -> Idx {
        let data = (0..2 * 5 * 3).map(|value| value as u8 * 7).collect();
        Idx { dims: vec![2, 5, 3], data }
    }

    fn written(packing: Packing) -> Vec<u8> {
        write_idx(&images().dims, &images().data, packing).unwrap()
    }

    fn fault(bytes: &[u8]) -> Fault {
        read_idx(bytes, MEBIBYTE).unwrap_err().fault
    }

    fn message(bytes: &[u8]) -> String {
        read_idx(bytes, MEBIBYTE).unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_read_back() {
        for packing in [Packing::Plain, Packing::Gzip] {
            assert_eq!(read_idx(&written(packing), MEBIBYTE), Ok(images()));
        }
        for (dims, data) in [(vec![0], vec![]), (vec![0, 28, 28], vec![]), (vec![1, 1, 1, 1, 1], vec![9])] {
            let bytes = write_idx(&dims, &data, Packing::Gzip).unwrap();
            assert_eq!(read_idx(&bytes, MEBIBYTE), Ok(Idx { dims, data }));
        }
    }

    #[test]
    fn the_layout_is_that_of_the_format() {
        let bytes = write_idx(&[1, 2], &[3, 4], Packing::Plain).unwrap();
        assert_eq!(bytes, [0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 2, 3, 4]);
    }

    #[test]
    fn a_file_cut_off_anywhere_is_refused() {
        for packing in [Packing::Plain, Packing::Gzip] {
            let whole = written(packing);
            for length in 0..whole.len() {
                let error = read_idx(&whole[..length], MEBIBYTE).unwrap_err();
                let foreign_is_fair = length < 4;
                assert!(error.fault == Fault::Truncated || foreign_is_fair, "{packing:?} cut at {length}: {error}");
            }
        }
        assert_eq!(
            message(&written(Packing::Plain)[..45]),
            "at byte 16: found room for 29 bytes of values, expected 2×5×3 of them; \
             the file is cut off: fetch or write it again"
        );
    }

    #[test]
    fn a_file_with_more_than_it_says_is_refused() {
        for packing in [Packing::Plain, Packing::Gzip] {
            let mut longer = written(packing);
            longer.push(0);
            assert_eq!(fault(&longer), Fault::Trailing, "{packing:?}");
        }
        let mut twice = written(Packing::Gzip);
        twice.extend(written(Packing::Gzip));
        assert_eq!(fault(&twice), Fault::Trailing);
    }

    #[test]
    fn a_gzip_stream_with_a_wrong_checksum_is_refused() {
        let mut bytes = written(Packing::Gzip);
        let checksum = bytes.len() - 8;
        bytes[checksum] ^= 1;
        assert_eq!(fault(&bytes), Fault::Malformed);
    }

    #[test]
    fn a_foreign_file_is_named() {
        let mut photo = b"\x89PNG\r\n\x1a\n".to_vec();
        photo.extend([0; 100]);
        assert!(message(&photo).starts_with("found a PNG image, expected an IDX file"));
        assert!(message(b"PK\x03\x04............").contains("a ZIP archive"));
        assert!(message(b"").starts_with("found an empty file"));
        assert!(message(b"<!DOCTYPE html><html>404").contains("an HTML page"));
        assert!(message(b"label,pixel1,pixel2\n").contains("a text that begins with \"label,pi\""));
        for bytes in [&photo[..], b"", b"x", b"\0\0\x0a\x01\0\0\0\0", b"\x08\0\0\x01\0\0\0\0"] {
            assert_eq!(fault(bytes), Fault::Foreign);
        }
        let mut stream = GzEncoder::new(Vec::new(), Compression::best());
        stream.write_all(&photo).unwrap();
        assert!(message(&stream.finish().unwrap()).contains("a PNG image"), "inside gzip");
    }

    #[test]
    fn other_types_of_values_are_refused_by_name() {
        for (code, name) in [(0x09, "i8"), (0x0b, "i16"), (0x0c, "i32"), (0x0d, "f32"), (0x0e, "f64")] {
            let mut bytes = written(Packing::Plain);
            bytes[2] = code;
            let error = read_idx(&bytes, MEBIBYTE).unwrap_err();
            assert_eq!(error.fault, Fault::Unsupported);
            assert!(error.to_string().contains(&format!("an IDX file of {name} values")), "{error}");
        }
    }

    #[test]
    fn a_size_beyond_the_limit_is_refused_before_it_is_allocated() {
        let mut bytes = written(Packing::Plain);
        assert_eq!(read_idx(&bytes, 30), Ok(images()));
        assert_eq!(read_idx(&bytes, 29).unwrap_err().fault, Fault::TooLarge);
        bytes[4..16].fill(0xff);
        assert_eq!(
            message(&bytes),
            "at byte 4: found 4294967295×4294967295×4294967295 bytes of values, \
             expected at most 1048576; take fewer or smaller images, or set a higher limit"
        );
        assert_eq!(read_idx(&bytes, usize::MAX).unwrap_err().fault, Fault::TooLarge);
    }

    #[test]
    fn a_promise_that_the_stream_cannot_keep_is_refused_before_it_is_allocated() {
        let header = [0, 0, 8, 1, 0xff, 0xff, 0xff, 0xff];
        let mut stream = GzEncoder::new(Vec::new(), Compression::best());
        stream.write_all(&header).unwrap();
        let error = read_idx(&stream.finish().unwrap(), usize::MAX).unwrap_err();
        assert_eq!(error.fault, Fault::Truncated);
        assert!(error.found.starts_with("room for"), "{error}");
    }

    #[test]
    fn a_gzip_bomb_stops_at_the_promised_length() {
        let mut content = vec![0, 0, 8, 1, 0, 0, 0, 10];
        content.resize(50 * MEBIBYTE, 0);
        let mut stream = GzEncoder::new(Vec::new(), Compression::fast());
        stream.write_all(&content).unwrap();
        let bomb = stream.finish().unwrap();
        assert_eq!(fault(&bomb), Fault::Trailing);
    }

    #[test]
    fn what_does_not_fit_the_format_is_not_written() {
        for (dims, data) in [(vec![], vec![]), (vec![3], vec![1, 2]), (vec![0; 200], vec![])] {
            let error = write_idx(&dims, &data, Packing::Plain).unwrap_err();
            assert_eq!(error.fault, Fault::Unwritable, "{error}");
        }
        let error = write_idx(&[0, usize::MAX], &[], Packing::Plain).unwrap_err();
        assert_eq!(error.fault, Fault::Unwritable, "{error}");
    }
}
