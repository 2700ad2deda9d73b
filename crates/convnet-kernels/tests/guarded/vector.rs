//! Ordinary memory, with room for canaries on both sides.

use std::ops::Range;

use super::{Guard, Number};

/// A vector of numbers.
pub struct Memory<T> {
    numbers: Vec<T>,
}

impl<T: Number> Memory<T> {
    /// Memory that holds `length` numbers and `margin` more on both sides, and where the former lie.
    pub fn around(length: usize, margin: usize, _: Guard) -> (Self, Range<usize>) {
        (Self { numbers: vec![T::canary(0); length + 2 * margin] }, margin..margin + length)
    }

    pub fn numbers(&self) -> &[T] {
        &self.numbers
    }

    pub fn numbers_mut(&mut self) -> &mut [T] {
        &mut self.numbers
    }
}
