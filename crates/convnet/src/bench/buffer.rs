//! Numbers that lie as they do inside a plan: from the beginning of a cache line on, in large pages where there are some.

use std::ops::{Deref, DerefMut};

use convnet_kernels::memory;

use super::value;
use crate::error::{Error, Result};

/// Bytes of a cache line.
const LINE: usize = 64;

/// A slice of fixed length that begins a cache line.
#[derive(Clone, Debug)]
pub(super) struct Buffer<V> {
    values: Vec<V>,
    first: usize,
    count: usize,
}

impl<V: memory::Zero> Buffer<V> {
    /// `count` zeros.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub fn zeros(count: usize) -> Result<Self> {
        let spare = LINE / std::mem::size_of::<V>().max(1);
        let values: Vec<V> = memory::zeros(count.saturating_add(spare)).map_err(|_| {
            let mebibytes = count.saturating_mul(std::mem::size_of::<V>()) >> 20;
            Error::Argument(format!("{mebibytes} MiB of memory cannot be had; measure something smaller"))
        })?;
        let first = match values.as_ptr().align_offset(LINE) {
            first if first <= spare => first,
            _ => 0,
        };
        Ok(Self { values, first, count })
    }
}

impl Buffer<f32> {
    /// The first `count` numbers of a stream.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub fn stream(stream: u32, count: usize) -> Result<Self> {
        let mut values = Self::zeros(count)?;
        values.iter_mut().enumerate().for_each(|(place, number)| *number = value(stream, place));
        Ok(values)
    }
}

impl<V> Deref for Buffer<V> {
    type Target = [V];

    fn deref(&self) -> &[V] {
        &self.values[self.first..self.first + self.count]
    }
}

impl<V> DerefMut for Buffer<V> {
    fn deref_mut(&mut self) -> &mut [V] {
        &mut self.values[self.first..self.first + self.count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_begins_a_cache_line_and_has_its_length() {
        for count in [0, 1, 100, 3_000_000] {
            let mut buffer = Buffer::<f32>::zeros(count).unwrap();
            assert_eq!((buffer.len(), buffer.as_ptr() as usize % LINE), (count, 0));
            buffer.fill(1.0);
        }
        assert!(Buffer::<f32>::zeros(usize::MAX / 8).unwrap_err().to_string().contains("MiB"));
    }
}
