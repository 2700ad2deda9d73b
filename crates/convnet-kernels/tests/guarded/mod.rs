//! Buffers beside which nothing may be read or written.
//!
//! Each buffer has an unreadable page right behind its last number, or right in front of its first, so that one number too
//! far ends the process at once; [`fault`] says during which case. The other side, and both sides where there are no such
//! pages, hold [canaries](Number::canary): numbers that spoil every result they are read into, and that are looked at when the
//! buffer is dropped.

use std::ops::{Deref, DerefMut, Range};

pub mod fault;
#[cfg(target_os = "linux")]
mod pages;
#[cfg(not(target_os = "linux"))]
mod vector;

#[cfg(target_os = "linux")]
use pages::Memory;
#[cfg(not(target_os = "linux"))]
use vector::Memory;

/// Canaries on a side without an unreadable page: more than any vector holds, and no multiple of one.
const MARGIN: usize = 67;

/// Where the unreadable page of a buffer lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Right in front of the first number, which therefore begins a page.
    Before,
    /// Right behind the last number, so that the first one is aligned as its type demands and no better.
    After,
}

/// What a buffer may hold.
pub trait Number: Copy {
    /// A number for this place that no routine computes by chance; for floats a NaN.
    fn canary(place: usize) -> Self;
    /// Whether this is that very number.
    fn is_canary(self, place: usize) -> bool;
}

/// 21 bits that differ from place to place.
fn pattern(place: usize) -> u32 {
    (place as u32).wrapping_mul(0x9e37_79b1) >> 11
}

impl Number for f32 {
    fn canary(place: usize) -> Self {
        Self::from_bits(0x7fc0_0000 | pattern(place))
    }

    fn is_canary(self, place: usize) -> bool {
        self.to_bits() == Self::canary(place).to_bits()
    }
}

impl Number for f64 {
    fn canary(place: usize) -> Self {
        Self::from_bits(0x7ff8_0000_0000_0000 | u64::from(pattern(place)))
    }

    fn is_canary(self, place: usize) -> bool {
        self.to_bits() == Self::canary(place).to_bits()
    }
}

impl Number for u32 {
    fn canary(place: usize) -> Self {
        0xabc0_0000 | pattern(place)
    }

    fn is_canary(self, place: usize) -> bool {
        self == Self::canary(place)
    }
}

/// A slice with guards on both sides. Dropping it checks that nobody wrote beside it.
pub struct Buffer<T: Number> {
    memory: Memory<T>,
    inner: Range<usize>,
}

impl<T: Number> Buffer<T> {
    /// A copy of these numbers.
    pub fn holding(numbers: &[T], guard: Guard) -> Self {
        let mut buffer = Self::empty(numbers.len(), guard);
        buffer.copy_from_slice(numbers);
        buffer
    }

    /// A buffer that is full of canaries until somebody writes to it.
    pub fn empty(length: usize, guard: Guard) -> Self {
        let (mut memory, inner) = Memory::around(length, MARGIN, guard);
        let around = inner.start.saturating_sub(MARGIN)..(inner.end + MARGIN).min(memory.numbers().len());
        for (place, number) in around.clone().zip(&mut memory.numbers_mut()[around]) {
            *number = T::canary(place);
        }
        Self { memory, inner }
    }
}

impl<T: Number> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.memory.numbers()[self.inner.clone()]
    }
}

impl<T: Number> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory.numbers_mut()[self.inner.clone()]
    }
}

impl<T: Number> Drop for Buffer<T> {
    fn drop(&mut self) {
        let numbers = self.memory.numbers();
        let before = self.inner.start.saturating_sub(MARGIN)..self.inner.start;
        let behind = self.inner.end..(self.inner.end + MARGIN).min(numbers.len());
        let spoiled = before.chain(behind).find(|&place| !numbers[place].is_canary(place));
        if let Some(place) = spoiled
            && !std::thread::panicking()
        {
            let distance = place as isize - self.inner.start as isize;
            panic!("{}: number {distance} of a buffer of {} was written", fault::in_hand(), self.inner.len());
        }
    }
}

#[test]
fn a_number_written_beside_a_buffer_is_noticed_when_it_is_dropped() {
    for guard in [Guard::Before, Guard::After] {
        let outcome = std::panic::catch_unwind(|| {
            let mut buffer = Buffer::<f32>::empty(10, guard);
            let beside = if buffer.inner.start > 0 { buffer.inner.start - 1 } else { buffer.inner.end };
            buffer.memory.numbers_mut()[beside] = f32::NAN;
        });
        assert!(outcome.is_err(), "{guard:?}");
        drop(Buffer::<f32>::empty(10, guard));
    }
}
