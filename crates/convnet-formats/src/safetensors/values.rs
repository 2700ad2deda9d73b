//! The types of values of a safetensors file, from bytes and to bytes.

use std::borrow::Cow;
use std::io::{self, Read};

/// Bytes that are read at a time: whole numbers of every type.
const BLOCK_BYTES: usize = 1 << 17;

/// A type of values that is kept as it is. The order is that of writing, from
/// the narrowest to the widest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dtype {
    /// Unsigned bytes.
    U8,
    /// 32-bit floating point.
    F32,
    /// 64-bit floating point.
    F64,
    /// Signed 64-bit integers.
    I64,
}

impl Dtype {
    /// The name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::U8 => "U8",
            Dtype::F32 => "F32",
            Dtype::F64 => "F64",
            Dtype::I64 => "I64",
        }
    }

    /// Bytes of one value.
    pub fn size(self) -> usize {
        match self {
            Dtype::U8 => 1,
            Dtype::F32 => 4,
            Dtype::F64 | Dtype::I64 => 8,
        }
    }
}

/// The values of one tensor, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Unsigned bytes.
    U8(Vec<u8>),
    /// 32-bit floating point; also what F16 and BF16 become.
    F32(Vec<f32>),
    /// 64-bit floating point.
    F64(Vec<f64>),
    /// Signed 64-bit integers.
    I64(Vec<i64>),
}

impl Values {
    /// The type.
    pub fn dtype(&self) -> Dtype {
        match self {
            Values::U8(_) => Dtype::U8,
            Values::F32(_) => Dtype::F32,
            Values::F64(_) => Dtype::F64,
            Values::I64(_) => Dtype::I64,
        }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        match self {
            Values::U8(values) => values.len(),
            Values::F32(values) => values.len(),
            Values::F64(values) => values.len(),
            Values::I64(values) => values.len(),
        }
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values as `f32`: unchanged, bit for bit, where they are that;
    /// rounded to the nearest otherwise.
    pub fn to_f32(&self) -> Cow<'_, [f32]> {
        match self {
            Values::U8(values) => values.iter().map(|&value| f32::from(value)).collect(),
            Values::F32(values) => Cow::Borrowed(values),
            Values::F64(values) => values.iter().map(|&value| value as f32).collect(),
            Values::I64(values) => values.iter().map(|&value| value as f32).collect(),
        }
    }

    /// As [`to_f32`](Self::to_f32), without a copy where they are that.
    pub fn into_f32(self) -> Vec<f32> {
        match self {
            Values::F32(values) => values,
            other => other.to_f32().into_owned(),
        }
    }

    /// The values of the next `length` bytes, or `None` if the type is not read here. Those of F32 go to `room(how many)`.
    pub(super) fn decode(
        dtype: &str,
        length: usize,
        bytes: &mut impl Read,
        room: &mut impl FnMut(usize) -> Vec<f32>,
    ) -> Option<io::Result<Values>> {
        Some(match dtype {
            "U8" => each(length, bytes, reserved, |[byte]| byte).map(Values::U8),
            "F32" => each(length, bytes, room, f32::from_le_bytes).map(Values::F32),
            "F64" => each(length, bytes, reserved, f64::from_le_bytes).map(Values::F64),
            "I64" => each(length, bytes, reserved, i64::from_le_bytes).map(Values::I64),
            "F16" => each(length, bytes, reserved, |half| f16_to_f32(u16::from_le_bytes(half))).map(Values::F32),
            "BF16" => each(length, bytes, reserved, |half| bf16_to_f32(u16::from_le_bytes(half))).map(Values::F32),
            _ => return None,
        })
    }

    /// Adds the bytes of the values to `bytes`.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        match self {
            Values::U8(values) => bytes.extend(values),
            Values::F32(values) => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Values::F64(values) => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Values::I64(values) => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        }
    }
}

/// The names of the types that are read.
pub(super) fn names() -> [&'static str; 6] {
    ["U8", "F16", "BF16", "F32", "F64", "I64"]
}

/// Bytes of one value of a type that is read.
pub(super) fn size_of(dtype: &str) -> Option<usize> {
    match dtype {
        "U8" => Some(1),
        "F16" | "BF16" => Some(2),
        "F32" => Some(4),
        "F64" | "I64" => Some(8),
        _ => None,
    }
}

/// An empty vector with room for so many numbers, or with less where the memory cannot be had.
fn reserved<T>(count: usize) -> Vec<T> {
    let mut numbers = Vec::new();
    // What came of it is seen by who uses the room.
    let _ = numbers.try_reserve_exact(count);
    numbers
}

/// The numbers of the next `length` bytes, in the vector that `room(how many)` gives.
fn each<const SIZE: usize, T>(
    length: usize,
    bytes: &mut impl Read,
    mut room: impl FnMut(usize) -> Vec<T>,
    convert: impl Fn([u8; SIZE]) -> T,
) -> io::Result<Vec<T>> {
    let mut numbers = room(length / SIZE);
    if numbers.capacity() < length / SIZE {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    let mut block = vec![0; length.min(BLOCK_BYTES)];
    let mut left = length;
    while left > 0 {
        let block = &mut block[..left.min(BLOCK_BYTES)];
        bytes.read_exact(block)?;
        numbers.extend(block.as_chunks::<SIZE>().0.iter().map(|&chunk| convert(chunk)));
        left -= block.len();
    }
    Ok(numbers)
}

/// bfloat16 is the upper half of an f32.
fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// IEEE binary16: 1 sign bit, 5 exponent bits (bias 15), 10 fraction bits. Every
/// value is an f32; a NaN keeps its sign and its fraction.
fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let exponent = u32::from(bits >> 10) & 0x1f;
    let fraction = u32::from(bits & 0x3ff);
    let magnitude = match exponent {
        // Subnormal: fraction · 2⁻²⁴, a product that is exact.
        0 => (fraction as f32 * f32::from_bits(0x3380_0000)).to_bits(),
        0x1f => 0x7f80_0000 | fraction << 13,
        _ => (exponent + 127 - 15) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value by the definition of the format, in f64.
    fn f16_by_definition(bits: u16) -> f64 {
        let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
        let exponent = i32::from(bits >> 10 & 0x1f);
        let fraction = f64::from(bits & 0x3ff) / 1024.0;
        match exponent {
            0 => sign * fraction * 2_f64.powi(-14),
            0x1f if fraction == 0.0 => sign * f64::INFINITY,
            0x1f => f64::NAN,
            _ => sign * (1.0 + fraction) * 2_f64.powi(exponent - 15),
        }
    }

    #[test]
    fn every_half_precision_number_becomes_the_same_number() {
        for bits in 0..=u16::MAX {
            let expected = f16_by_definition(bits);
            let value = f16_to_f32(bits);
            if expected.is_nan() {
                assert!(value.is_nan(), "{bits:04x}");
                assert_eq!(value.to_bits() >> 13 & 0x3ff, u32::from(bits & 0x3ff), "{bits:04x}");
            } else {
                assert_eq!(f64::from(value), expected, "{bits:04x}");
            }
            assert_eq!(value.is_sign_negative(), bits & 0x8000 != 0, "{bits:04x}");
        }
    }

    #[test]
    fn a_bfloat16_is_the_upper_half_of_its_f32() {
        for (bits, value) in [(0x3f80, 1.0), (0xc000, -2.0), (0x7f80, f32::INFINITY), (0x0001, 9.183_55e-41)] {
            assert_eq!(bf16_to_f32(bits), value);
        }
        assert_eq!(bf16_to_f32(0x7fc1).to_bits(), 0x7fc1_0000);
    }

    #[test]
    fn other_types_are_rounded_to_the_nearest_f32() {
        assert_eq!(*Values::U8(vec![0, 255]).to_f32(), [0.0, 255.0]);
        assert_eq!(*Values::F64(vec![0.1, 1e300]).to_f32(), [0.1, f32::INFINITY]);
        assert_eq!(*Values::I64(vec![-3, (1 << 24) + 1]).to_f32(), [-3.0, 16_777_216.0]);
    }

    #[test]
    fn every_type_that_is_read_has_a_size() {
        for name in names() {
            let size = size_of(name).unwrap();
            let values = Values::decode(name, 3 * size, &mut &vec![0; 3 * size][..], &mut Vec::with_capacity).unwrap();
            assert_eq!(values.unwrap().len(), 3, "{name}");
        }
        assert_eq!(size_of("I8"), None);
        assert!(Values::decode("I8", 0, &mut io::empty(), &mut Vec::with_capacity).is_none());
        for dtype in [Dtype::U8, Dtype::F32, Dtype::F64, Dtype::I64] {
            assert_eq!(size_of(dtype.name()), Some(dtype.size()));
        }
    }
}
