//! safetensors: named tensors and texts, without code.
//!
//! | bytes | content |
//! |---|---|
//! | 0 … 8 | length L of the header, little-endian u64 |
//! | 8 … 8 + L | the header: a JSON object, padded with spaces |
//! | 8 + L … | the values of all tensors, little-endian, row-major |
//!
//! The header maps each name to `{"dtype", "shape", "data_offsets": [begin,
//! end]}`, the offsets counting from the end of the header, and
//! `"__metadata__"` to a map of texts. The tensors must cover the rest of the
//! file without hole, overlap or remainder.
//!
//! The format's own crate takes a name or a metadata key that stands twice
//! (the last one wins), ignores unknown keys and writes the metadata in an
//! order that changes from run to run. This reader refuses the first two, and
//! this writer gives the same bytes for the same content; the tests hold both
//! against that crate.

mod header;
mod values;

use std::collections::BTreeMap;
use std::io::{self, Read};

use crate::error::{Fault, FormatError, quoted};
use crate::foreign;
use header::{Entry, Header};

pub use values::{Dtype, Values};

/// The longest header that is read or written, in bytes.
pub const MOST_HEADER_BYTES: usize = 16 << 20;
/// The most tensors, and the most metadata texts, that are read or written.
pub const MOST_ENTRIES: usize = 100_000;
/// The most dimensions of one tensor.
pub const MOST_DIMS: usize = 16;

/// Bytes before the header.
const LENGTH_BYTES: usize = 8;
/// Bytes by which a file of another format is recognised.
const HEAD_BYTES: usize = 4096;

/// The content of a safetensors file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TensorFile {
    /// Texts by name.
    pub metadata: BTreeMap<String, String>,
    /// Tensors by name.
    pub tensors: BTreeMap<String, TensorData>,
}

/// One tensor: its dimensions and its values.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorData {
    /// The dimensions, slowest first; empty for a single number.
    pub dims: Vec<usize>,
    /// The values, row-major; as many as the product of `dims`.
    pub values: Values,
}

impl TensorData {
    /// A tensor of `f32`.
    pub fn f32(dims: impl Into<Vec<usize>>, values: impl Into<Vec<f32>>) -> Self {
        TensorData { dims: dims.into(), values: Values::F32(values.into()) }
    }

    /// The type of the values.
    pub fn dtype(&self) -> Dtype {
        self.values.dtype()
    }

    /// The values as `f32`: unchanged, bit for bit, where they are that;
    /// rounded to the nearest otherwise.
    pub fn to_f32(&self) -> std::borrow::Cow<'_, [f32]> {
        self.values.to_f32()
    }
}

/// Reads a safetensors file.
///
/// F32, F64, U8 and I64 keep their type and their bits; F16 and BF16 become
/// `f32`, exactly. The result takes at most about twice the memory of `bytes`.
///
/// ```
/// use convnet_formats::safetensors::{TensorData, TensorFile, read, write};
///
/// let mut file = TensorFile::default();
/// file.metadata.insert("made by".into(), "an example".into());
/// file.tensors.insert("weight".into(), TensorData::f32([2, 1], [0.5, -1.0]));
/// let bytes = write(&file)?;
/// assert_eq!(read(&bytes)?, file);
/// # Ok::<(), convnet_formats::FormatError>(())
/// ```
///
/// # Errors
/// A [`FormatError`] for everything that is not exactly one safetensors file
/// within [`MOST_HEADER_BYTES`], [`MOST_ENTRIES`] and [`MOST_DIMS`], and for
/// values of another type.
pub fn read(bytes: &[u8]) -> Result<TensorFile, FormatError> {
    let cut_off = |error: io::Error| FormatError::new(Fault::Truncated, error.to_string(), "the bytes that the header speaks of");
    read_from(bytes, bytes.len() as u64, Vec::with_capacity).unwrap_or_else(|error| Err(cut_off(error)))
}

/// As [`read`], from what a reader gives: `length` bytes, of which only a small part is in memory beside the tensors. The values
/// of each F32 tensor go to the empty vector that `room(how many)` gives: for memory of a special kind.
///
/// # Errors
/// The reader fails or ends before it has given `length` bytes, or the room given is too small (`OutOfMemory`). Inside: as [`read`].
pub fn read_from(
    mut reader: impl Read,
    length: u64,
    mut room: impl FnMut(usize) -> Vec<f32>,
) -> io::Result<Result<TensorFile, FormatError>> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let mut head = vec![0; length.min(HEAD_BYTES)];
    reader.read_exact(&mut head)?;
    let header_end = match header_end(&head, length) {
        Ok(end) => end,
        Err(error) => return Ok(Err(error)),
    };
    let read_before = head.len();
    head.resize(read_before.max(header_end), 0);
    reader.read_exact(&mut head[read_before..])?;
    let (header, begun) = head.split_at(header_end);
    let parsed = Header::parse(&header[LENGTH_BYTES..]).map_err(|error| error.shifted(LENGTH_BYTES)).and_then(|header| {
        check_cover(&header.tensors, length - header_end).map_err(|error| error.shifted(header_end))?;
        Ok(header)
    });
    let header = match parsed {
        Ok(header) => header,
        Err(error) => return Ok(Err(error)),
    };

    let mut body = begun.chain(reader);
    let mut in_order: Vec<(String, Entry)> = header.tensors.into_iter().collect();
    in_order.sort_by_key(|(_, entry)| (entry.begin, entry.end));
    let mut tensors = BTreeMap::new();
    for (name, entry) in in_order {
        let Some(values) = Values::decode(&entry.dtype, entry.end - entry.begin, &mut body, &mut room) else {
            let found = format!("tensor {} of type {}", quoted(&name), quoted(&entry.dtype));
            let error = FormatError::new(Fault::Unsupported, found, format!("one of the types {}", values::names().join(", ")));
            return Ok(Err(error.remedy("write the tensor again as F32")));
        };
        tensors.insert(name, TensorData { dims: entry.dims, values: values? });
    }
    Ok(Ok(TensorFile { metadata: header.metadata, tensors }))
}

/// Where the header of a file of `length` bytes ends, after checking that it is there; `head` is the beginning of the file.
fn header_end(head: &[u8], length: usize) -> Result<usize, FormatError> {
    let wanted = "a safetensors file";
    let Some(header) = head.first_chunk::<LENGTH_BYTES>() else {
        let fault = if head.is_empty() { Fault::Foreign } else { Fault::Truncated };
        return Err(FormatError::new(fault, foreign::describe(head), wanted));
    };
    let begins_like_json = head.get(LENGTH_BYTES).is_none_or(|&byte| byte == b'{');
    let header = usize::try_from(u64::from_le_bytes(*header)).unwrap_or(usize::MAX);
    if !begins_like_json || (header > MOST_HEADER_BYTES && length == LENGTH_BYTES) {
        return Err(FormatError::new(Fault::Foreign, foreign::describe(head), wanted));
    }
    if header > MOST_HEADER_BYTES {
        return Err(
            FormatError::new(Fault::TooLarge, format!("a header of {header} bytes"), format!("at most {MOST_HEADER_BYTES} bytes")).at(0)
        );
    }
    let end = LENGTH_BYTES + header;
    if end > length {
        return Err(FormatError::new(Fault::Truncated, format!("{length} bytes"), format!("a header that ends at byte {end}")).at(length));
    }
    Ok(end)
}

/// Checks that each tensor has the bytes that its dimensions need and that all
/// together cover the body, `length` bytes, exactly. Offsets of an error count
/// from the start of the body.
fn check_cover(tensors: &BTreeMap<String, Entry>, length: usize) -> Result<(), FormatError> {
    let mut in_order: Vec<(&String, &Entry)> = tensors.iter().collect();
    in_order.sort_by_key(|(_, entry)| (entry.begin, entry.end));
    let mut end = 0;
    for (name, entry) in in_order {
        let name = quoted(name);
        if entry.end < entry.begin {
            return Err(FormatError::new(
                Fault::Malformed,
                format!("tensor {name} from {} to {}", entry.begin, entry.end),
                "an end that is not before the begin",
            ));
        }
        if entry.begin != end {
            let (what, between) = if entry.begin < end {
                ("an overlap", format!("its values to begin at {end}, where those before end"))
            } else {
                ("a hole", format!("its values to begin at {end}, right after those before"))
            };
            return Err(FormatError::new(Fault::Malformed, format!("{what} at tensor {name}"), between).at(entry.begin));
        }
        let found = entry.end - entry.begin;
        if let Some(size) = values::size_of(&entry.dtype) {
            let expected = entry.count.and_then(|count| count.checked_mul(size));
            if expected != Some(found) {
                return Err(FormatError::new(
                    Fault::Malformed,
                    format!("{found} bytes for tensor {name}"),
                    match expected {
                        Some(expected) => format!("{expected} bytes ({:?} of {})", entry.dims, entry.dtype),
                        None => format!("dimensions that a file can hold, not {:?}", entry.dims),
                    },
                )
                .at(entry.begin));
            }
        }
        end = entry.end;
    }
    if end > length {
        return Err(FormatError::new(Fault::Truncated, format!("{length} bytes of values"), format!("{end} bytes of values")).at(length));
    }
    if end < length {
        return Err(
            FormatError::new(Fault::Trailing, format!("{} bytes that belong to no tensor", length - end), "the end of the file").at(end)
        );
    }
    Ok(())
}

/// Writes a safetensors file: the same bytes whenever the content is the same.
///
/// The order is that of the format's own crate: wide types first, then by name,
/// the values beginning at a multiple of 8 bytes.
///
/// # Errors
/// [`Fault::Unwritable`] when a tensor has more or fewer values than its
/// dimensions say, when a name is `__metadata__`, or when a limit is exceeded.
pub fn write(file: &TensorFile) -> Result<Vec<u8>, FormatError> {
    let unwritable = |found: String, expected: &str| FormatError::new(Fault::Unwritable, found, expected);
    let mut in_order: Vec<(&String, &TensorData)> = file.tensors.iter().collect();
    in_order.sort_by_key(|(name, tensor)| (std::cmp::Reverse(tensor.dtype()), *name));

    let mut entries = Vec::with_capacity(in_order.len());
    let mut end = 0_usize;
    for &(name, tensor) in &in_order {
        if header::count(&tensor.dims) != Some(tensor.values.len()) || tensor.dims.len() > MOST_DIMS {
            return Err(unwritable(
                format!("tensor {} of {} values and dimensions {:?}", quoted(name), tensor.values.len(), tensor.dims),
                "as many values as the dimensions say, in at most 16 dimensions",
            ));
        }
        let begin = end;
        end = tensor
            .values
            .len()
            .checked_mul(tensor.dtype().size())
            .and_then(|bytes| begin.checked_add(bytes))
            .ok_or_else(|| unwritable("more bytes than can be counted".to_owned(), "a file that fits into memory"))?;
        entries.push((name.as_str(), tensor.dtype(), tensor.dims.as_slice(), begin, end));
    }
    let header = header::write(&file.metadata, &entries)?;

    let mut bytes = Vec::with_capacity(LENGTH_BYTES + header.len() + end);
    bytes.extend((header.len() as u64).to_le_bytes());
    bytes.extend(header);
    for (_, tensor) in in_order {
        tensor.values.encode(&mut bytes);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use ::safetensors::{SafeTensors, serialize, tensor::TensorView};

    use super::*;

    fn example() -> TensorFile {
        let mut file = TensorFile::default();
        file.metadata.insert("network".into(), "input 1x2x2 -> fc 3\n# \"ü\"".into());
        file.metadata.insert("classes".into(), "[]".into());
        file.tensors.insert("fc.weight".into(), TensorData::f32([3, 4], (0..12).map(|v| v as f32 / 7.0).collect::<Vec<_>>()));
        file.tensors.insert("fc.bias".into(), TensorData::f32([3], [f32::MIN_POSITIVE, -0.0, f32::INFINITY]));
        file.tensors.insert("step".into(), TensorData { dims: vec![], values: Values::I64(vec![-7]) });
        file.tensors.insert("loss".into(), TensorData { dims: vec![2], values: Values::F64(vec![0.1, f64::NAN]) });
        file.tensors.insert("mask".into(), TensorData { dims: vec![1, 3], values: Values::U8(vec![1, 0, 255]) });
        file.tensors.insert("empty".into(), TensorData::f32([0, 5], []));
        file
    }

    /// A file with this header and this many zeros after it.
    fn raw(header: &str, body: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + body, 0);
        bytes
    }

    fn refused(header: &str, body: usize) -> (Fault, String) {
        let error = read(&raw(header, body)).unwrap_err();
        (error.fault, error.to_string())
    }

    #[test]
    fn a_reader_gives_the_same_as_its_bytes_and_its_early_end_is_an_error() {
        let mut file = example();
        file.metadata.insert("long".into(), "x".repeat(3 * HEAD_BYTES));
        file.tensors.insert("many".into(), TensorData::f32([100_001], vec![0.25; 100_001]));
        let bytes = write(&file).unwrap();
        let read = |bytes: &[u8], length: usize| read_from(bytes, length as u64, Vec::with_capacity);
        let same = read(&bytes, bytes.len()).unwrap().unwrap();
        assert_eq!(write(&same).unwrap(), bytes);
        for missing in [1, 5, 400_000, bytes.len() - 9, bytes.len() - 3, bytes.len()] {
            let error = read(&bytes[..bytes.len() - missing], bytes.len()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{missing} bytes missing");
        }
        let error = read_from(&bytes[..], bytes.len() as u64, |_| Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let bytes = write(&example()).unwrap();
        let read = read(&bytes).unwrap();
        assert_eq!(read.metadata, example().metadata);
        // Compared as text, so that NaN equals NaN and -0 differs from 0.
        assert_eq!(format!("{:?}", read.tensors), format!("{:?}", example().tensors));
    }

    #[test]
    fn the_same_content_gives_the_same_bytes() {
        let first = write(&example()).unwrap();
        for _ in 0..8 {
            assert_eq!(write(&example()).unwrap(), first);
        }
        assert_eq!(write(&read(&first).unwrap()).unwrap(), first);
    }

    #[test]
    fn every_f32_keeps_its_bits() {
        let mut state = 1_u32;
        let mut bits: Vec<u32> = (0..10_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state
            })
            .collect();
        bits.extend([0x7fc0_0001, 0xffc1_2345, 0x7f80_0001, 0xff80_0001, 0x8000_0000, 1]);
        let values: Vec<f32> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
        let mut file = TensorFile::default();
        file.tensors.insert("x".into(), TensorData::f32([values.len()], values));
        let back = read(&write(&file).unwrap()).unwrap();
        let back: Vec<u32> = back.tensors["x"].to_f32().iter().map(|value| value.to_bits()).collect();
        assert_eq!(back, bits);
    }

    #[test]
    fn the_bytes_are_those_of_the_formats_own_crate() {
        let mut file = example();
        file.metadata.remove("classes");
        let ours = write(&file).unwrap();

        let encoded: Vec<(&String, Dtype, &[usize], Vec<u8>)> = file
            .tensors
            .iter()
            .map(|(name, tensor)| {
                let mut bytes = Vec::new();
                tensor.values.encode(&mut bytes);
                (name, tensor.dtype(), tensor.dims.as_slice(), bytes)
            })
            .collect();
        let views = encoded.iter().map(|(name, dtype, dims, bytes)| {
            let dtype = match dtype {
                Dtype::U8 => ::safetensors::Dtype::U8,
                Dtype::F32 => ::safetensors::Dtype::F32,
                Dtype::F64 => ::safetensors::Dtype::F64,
                Dtype::I64 => ::safetensors::Dtype::I64,
            };
            (name.as_str(), TensorView::new(dtype, dims.to_vec(), bytes).unwrap())
        });
        let metadata: HashMap<String, String> = file.metadata.clone().into_iter().collect();
        let theirs = serialize(views, Some(metadata)).unwrap();
        assert_eq!(ours, theirs);
        assert_eq!(write(&read(&theirs).unwrap()).unwrap(), theirs);
    }

    #[test]
    fn the_formats_own_crate_reads_what_is_written() {
        let bytes = write(&example()).unwrap();
        let theirs = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(theirs.len(), example().tensors.len());
        for (name, tensor) in example().tensors {
            let view = theirs.tensor(&name).unwrap();
            assert_eq!(view.shape(), tensor.dims);
            let mut expected = Vec::new();
            tensor.values.encode(&mut expected);
            assert_eq!(view.data(), expected, "{name}");
        }
        let start = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        assert_eq!(start % 8, 0, "the values begin at a multiple of 8 bytes");
    }

    #[test]
    fn half_precision_is_read_as_f32() {
        let header = r#"{"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"b":{"dtype":"BF16","shape":[1],"data_offsets":[2,4]}}"#;
        let mut bytes = raw(header, 0);
        bytes.extend([0x00, 0x3e, 0xc0, 0x3f]);
        let file = read(&bytes).unwrap();
        assert_eq!(*file.tensors["a"].to_f32(), [1.5]);
        assert_eq!(*file.tensors["b"].to_f32(), [1.5]);
        assert_eq!(file.tensors["b"].dtype(), Dtype::F32);
    }

    #[test]
    fn a_file_cut_off_anywhere_is_refused() {
        let whole = write(&example()).unwrap();
        for length in 0..whole.len() {
            let error = read(&whole[..length]).unwrap_err();
            assert!(error.fault == Fault::Truncated || length == 0, "cut at {length}: {error}");
        }
    }

    #[test]
    fn what_follows_the_last_tensor_is_refused() {
        let mut bytes = write(&example()).unwrap();
        bytes.push(0);
        assert_eq!(read(&bytes).unwrap_err().fault, Fault::Trailing);
    }

    #[test]
    fn names_that_stand_twice_are_refused() {
        let tensor = r#""a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
        let (fault, message) = refused(&format!("{{{tensor},{tensor}}}"), 0);
        assert_eq!(fault, Fault::Malformed);
        assert!(message.contains("tensor \"a\" stands twice"), "{message}");
        let (_, message) = refused(r#"{"__metadata__":{"k":"1","k":"2"}}"#, 0);
        assert!(message.contains("metadata \"k\" stands twice"), "{message}");
        let (_, message) = refused(r#"{"__metadata__":{},"__metadata__":{}}"#, 0);
        assert!(message.contains("\"__metadata__\" stands twice"), "{message}");
    }

    #[test]
    fn a_hole_an_overlap_and_a_wrong_size_are_named() {
        let pair = |a: [usize; 2], b: [usize; 2]| {
            format!(
                r#"{{"a":{{"dtype":"U8","shape":[{}],"data_offsets":{a:?}}},"b":{{"dtype":"U8","shape":[{}],"data_offsets":{b:?}}}}}"#,
                a[1] - a[0],
                b[1] - b[0]
            )
        };
        assert!(read(&raw(&pair([0, 3], [3, 5]), 5)).is_ok());
        assert!(read(&raw(&pair([3, 5], [0, 3]), 5)).is_ok());
        assert!(refused(&pair([0, 3], [4, 5]), 5).1.contains("a hole at tensor \"b\""));
        assert!(refused(&pair([1, 3], [3, 5]), 5).1.contains("a hole at tensor \"a\""));
        assert!(refused(&pair([0, 3], [2, 5]), 5).1.contains("an overlap at tensor \"b\""));
        assert!(refused(&pair([0, 3], [0, 3]), 3).1.contains("an overlap at tensor \"b\""));

        let (fault, message) = refused(r#"{"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,20]}}"#, 20);
        assert_eq!(fault, Fault::Malformed);
        assert!(message.contains("found 20 bytes for tensor \"w\", expected 24 bytes ([2, 3] of F32)"), "{message}");
        let (_, message) = refused(r#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}"#, 1);
        assert!(message.contains("an end that is not before the begin"), "{message}");
    }

    #[test]
    fn dimensions_whose_product_overflows_are_refused() {
        // Four dimensions whose product is 4 modulo 2⁶⁴, and one that hides behind a zero.
        for dims in ["[4194305,4194305,211106198978564]", "[0,4611686018427387904,8]", "[18446744073709551615,2]"] {
            let (fault, message) = refused(&format!(r#"{{"w":{{"dtype":"F32","shape":{dims},"data_offsets":[0,16]}}}}"#), 16);
            assert_eq!(fault, Fault::Malformed, "{message}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for header in [
            r#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"scale":2}}"#,
            r#"{"w":{"dtype":"U8","shape":[1]}}"#,
            r#"{"w":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}"#,
            r#"{"w":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}"#,
            r#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}"#,
            r#"{"__metadata__":{"a":1}}"#,
            r#"{"__metadata__":null}"#,
            r#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}} x"#,
            r#"{"w":"#,
            "{\"\u{1}\":0}",
        ] {
            let (fault, message) = refused(header, 1);
            assert_eq!(fault, Fault::Malformed, "{header}: {message}");
        }
        let (fault, message) = refused(r#"{"w":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}"#, 1);
        assert_eq!(fault, Fault::Unsupported);
        assert_eq!(
            message,
            "found tensor \"w\" of type \"F8_E4M3\", expected one of the types U8, F16, BF16, F32, F64, I64; \
             write the tensor again as F32"
        );
    }

    #[test]
    fn an_error_in_the_header_has_its_place() {
        let header = "{\n\"w\":{\"dtype\":?}}";
        let error = read(&raw(header, 0)).unwrap_err();
        assert_eq!(error.offset, Some(8 + header.find('?').unwrap()), "{error}");
    }

    #[test]
    fn a_foreign_file_is_named() {
        for (bytes, name) in [
            (&b"PK\x03\x04..............."[..], "a ZIP archive"),
            (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P", "a Python pickle"),
            (b"\x89HDF\r\n\x1a\n\0\0\0\0", "an HDF5 file"),
            (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
            (b"\0\0\x08\x01\0\0\0\x03\x07\0\x09", "an IDX file"),
            (b"", "an empty file"),
        ] {
            let error = read(bytes).unwrap_err();
            assert_eq!(error.fault, Fault::Foreign, "{name}");
            assert!(error.to_string().starts_with(&format!("found {name}")), "{error}");
        }
    }

    #[test]
    fn the_limits_are_kept() {
        let mut long = ((MOST_HEADER_BYTES + 1) as u64).to_le_bytes().to_vec();
        long.push(b'{');
        assert_eq!(read(&long).unwrap_err().fault, Fault::TooLarge);

        let names = |count: usize, value: &str| {
            let entries: Vec<String> = (0..count).map(|i| format!("\"{i}\":{value}")).collect();
            entries.join(",")
        };
        let tensor = r#"{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
        assert_eq!(read(&raw(&format!("{{{}}}", names(MOST_ENTRIES, tensor)), 0)).unwrap().tensors.len(), MOST_ENTRIES);
        assert_eq!(refused(&format!("{{{}}}", names(MOST_ENTRIES + 1, tensor)), 0).0, Fault::TooLarge);
        let metadata = format!("{{\"__metadata__\":{{{}}}}}", names(MOST_ENTRIES + 1, "\"\""));
        assert_eq!(refused(&metadata, 0).0, Fault::TooLarge);

        let dims = vec!["1"; MOST_DIMS].join(",");
        let of = |dims: &str| format!(r#"{{"w":{{"dtype":"U8","shape":[{dims}],"data_offsets":[0,1]}}}}"#);
        assert!(read(&raw(&of(&dims), 1)).is_ok());
        assert_eq!(refused(&of(&format!("{dims},1")), 1).0, Fault::Malformed);
    }

    #[test]
    fn what_does_not_fit_the_format_is_not_written() {
        let unwritable = |name: &str, tensor: TensorData| {
            let file = TensorFile { tensors: [(name.to_owned(), tensor)].into(), ..TensorFile::default() };
            assert_eq!(write(&file).unwrap_err().fault, Fault::Unwritable);
        };
        unwritable("w", TensorData::f32([2, 2], [1.0; 3]));
        unwritable("w", TensorData::f32([0, usize::MAX, 3], []));
        unwritable("w", TensorData::f32([1; 17], [1.0]));
        unwritable("__metadata__", TensorData::f32([1], [1.0]));
        let long = TensorFile { metadata: [("k".into(), "x".repeat(MOST_HEADER_BYTES))].into(), ..TensorFile::default() };
        assert_eq!(write(&long).unwrap_err().fault, Fault::Unwritable);
    }
}
