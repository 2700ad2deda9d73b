//! The header of a safetensors file: JSON in, entries out, and back.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::values::Dtype;
use super::{MOST_DIMS, MOST_ENTRIES, MOST_HEADER_BYTES};
use crate::error::{Fault, FormatError, printable, quoted};

const METADATA: &str = "__metadata__";

/// What the header says, not yet compared with the values.
pub(super) struct Header {
    pub metadata: BTreeMap<String, String>,
    pub tensors: BTreeMap<String, Entry>,
}

/// What the header says of one tensor.
pub(super) struct Entry {
    pub dtype: String,
    pub dims: Vec<usize>,
    /// The product of the dimensions, unless it overflows.
    pub count: Option<usize>,
    /// Where the values begin and end, from the end of the header.
    pub begin: usize,
    pub end: usize,
}

impl Header {
    /// Parses the JSON text. Offsets of an error count from its start.
    pub fn parse(text: &[u8]) -> Result<Header, FormatError> {
        let mut fault = Fault::Malformed;
        let mut parser = serde_json::Deserializer::from_slice(text);
        HeaderSeed { fault: &mut fault }.deserialize(&mut parser).and_then(|header| parser.end().map(|()| header)).map_err(|error| {
            let words = error.to_string();
            // The parser adds line and column, which the offset replaces.
            let words = words.rsplit_once(" at line ").map_or(words.as_str(), |(words, _)| words);
            let found = format!("a header that cannot be read ({})", printable(words));
            FormatError::new(fault, found, "tensors and metadata in JSON").at(offset_of(text, error.line(), error.column()))
        })
    }
}

/// The offset of a place that is given by line and column, both from 1.
fn offset_of(text: &[u8], line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive(|&byte| byte == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    (before + column.saturating_sub(1)).min(text.len())
}

/// The product of the dimensions, zeros left out, must be countable too: who
/// computes strides multiplies them in any order.
pub(super) fn count(dims: &[usize]) -> Option<usize> {
    let mut without_zeros = dims.iter().filter(|&&dim| dim != 0);
    let product = without_zeros.try_fold(1_usize, |product, &dim| product.checked_mul(dim))?;
    Some(if dims.contains(&0) { 0 } else { product })
}

struct HeaderSeed<'a> {
    /// What to call the error that stops the parser.
    fault: &'a mut Fault,
}

impl<'de> DeserializeSeed<'de> for HeaderSeed<'_> {
    type Value = Header;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Header, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderSeed<'_> {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut metadata = None;
        let mut tensors = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA {
                if metadata.is_some() {
                    return Err(A::Error::custom("\"__metadata__\" stands twice"));
                }
                metadata = Some(map.next_value_seed(MetadataSeed { fault: self.fault })?);
                continue;
            }
            if tensors.len() == MOST_ENTRIES {
                *self.fault = Fault::TooLarge;
                return Err(A::Error::custom(format!("more than {MOST_ENTRIES} tensors")));
            }
            if tensors.contains_key(&name) {
                return Err(A::Error::custom(format!("tensor {} stands twice", quoted(&name))));
            }
            let entry = map.next_value::<RawEntry>()?.checked()?;
            tensors.insert(name, entry);
        }
        Ok(Header { metadata: metadata.unwrap_or_default(), tensors })
    }
}

struct MetadataSeed<'a> {
    fault: &'a mut Fault,
}

impl<'de> DeserializeSeed<'de> for MetadataSeed<'_> {
    type Value = BTreeMap<String, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MetadataSeed<'_> {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut texts = BTreeMap::new();
        while let Some((name, text)) = map.next_entry::<String, String>()? {
            if texts.len() == MOST_ENTRIES {
                *self.fault = Fault::TooLarge;
                return Err(A::Error::custom(format!("more than {MOST_ENTRIES} texts of metadata")));
            }
            if texts.contains_key(&name) {
                return Err(A::Error::custom(format!("metadata {} stands twice", quoted(&name))));
            }
            texts.insert(name, text);
        }
        Ok(texts)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    dtype: String,
    shape: Dims,
    data_offsets: [u64; 2],
}

impl RawEntry {
    fn checked<E: serde::de::Error>(self) -> Result<Entry, E> {
        let offset = |offset: u64| usize::try_from(offset).map_err(|_| E::custom(format!("an offset of {offset}, beyond any file here")));
        Ok(Entry {
            count: count(&self.shape.0),
            dtype: self.dtype,
            dims: self.shape.0,
            begin: offset(self.data_offsets[0])?,
            end: offset(self.data_offsets[1])?,
        })
    }
}

/// Dimensions, at most [`MOST_DIMS`], so that a header of zeros cannot grow in
/// memory.
struct Dims(Vec<usize>);

impl<'de> Deserialize<'de> for Dims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Dims, D::Error> {
        deserializer.deserialize_seq(DimsVisitor)
    }
}

struct DimsVisitor;

impl<'de> Visitor<'de> for DimsVisitor {
    type Value = Dims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of dimensions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Dims, A::Error> {
        let mut dims = Vec::new();
        while dims.len() < MOST_DIMS {
            match sequence.next_element()? {
                Some(dim) => dims.push(dim),
                None => return Ok(Dims(dims)),
            }
        }
        match sequence.next_element::<IgnoredAny>()? {
            Some(_) => Err(A::Error::custom(format!("a tensor of more than {MOST_DIMS} dimensions"))),
            None => Ok(Dims(dims)),
        }
    }
}

/// Writes the header: entries as they come (name, type, dimensions, begin, end),
/// padded with spaces to a multiple of 8 bytes.
pub(super) fn write(
    metadata: &BTreeMap<String, String>,
    entries: &[(&str, Dtype, &[usize], usize, usize)],
) -> Result<Vec<u8>, FormatError> {
    let unwritable = |found: String, expected: String| FormatError::new(Fault::Unwritable, found, expected);
    if entries.len() > MOST_ENTRIES || metadata.len() > MOST_ENTRIES {
        return Err(unwritable(
            format!("{} tensors and {} texts of metadata", entries.len(), metadata.len()),
            format!("at most {MOST_ENTRIES} of each"),
        ));
    }
    let mut parts = Vec::with_capacity(entries.len() + 1);
    if !metadata.is_empty() {
        parts.push(format!("\"{METADATA}\":{}", json(metadata)?));
    }
    for &(name, dtype, dims, begin, end) in entries {
        if name == METADATA {
            return Err(unwritable(format!("a tensor named {METADATA}"), "another name".to_owned()));
        }
        parts.push(format!(
            "{}:{{\"dtype\":\"{}\",\"shape\":{},\"data_offsets\":[{begin},{end}]}}",
            json(&name)?,
            dtype.name(),
            json(&dims)?,
        ));
    }
    let mut header = format!("{{{}}}", parts.join(",")).into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    if header.len() > MOST_HEADER_BYTES {
        return Err(unwritable(format!("a header of {} bytes", header.len()), format!("at most {MOST_HEADER_BYTES} bytes")));
    }
    Ok(header)
}

fn json(value: &impl Serialize) -> Result<String, FormatError> {
    serde_json::to_string(value).map_err(|error| FormatError::new(Fault::Unwritable, error.to_string(), "a text that JSON can hold"))
}
