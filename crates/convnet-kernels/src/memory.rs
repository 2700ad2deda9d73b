//! Memory for large numbers of numbers.

use std::alloc::{Layout, alloc_zeroed};
use std::error::Error;
use std::fmt::{self, Display, Formatter};
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};

/// Bytes of a cache line.
const LINE: usize = 64;

/// Bytes of a large page on the computers that have them.
const LARGE_PAGE: usize = 2 << 20;

/// A number whose zero is all bits zero.
pub trait Zero: Copy + sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
    impl Sealed for u32 {}
    impl Sealed for u8 {}
}

impl<T: sealed::Sealed + Copy> Zero for T {}

/// So many bytes of memory cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory(pub usize);

impl Display for NoMemory {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB of memory cannot be had", self.0 >> 20)
    }
}

impl Error for NoMemory {}

/// A vector of zeros, whose memory large systems only hand out when it is used. Where the system offers large pages it is
/// asked for them, since routines that walk through many megabytes at large distances would otherwise spend much of their
/// time on looking up addresses.
///
/// # Errors
/// The memory cannot be had.
pub fn zeros<V: Zero>(count: usize) -> Result<Vec<V>, NoMemory> {
    let none = NoMemory(count.saturating_mul(size_of::<V>()));
    let layout = Layout::array::<V>(count).map_err(|_| none)?;
    if layout.size() == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the layout has a size.
    let memory = unsafe { alloc_zeroed(layout) }.cast::<V>();
    if memory.is_null() {
        return Err(none);
    }
    if layout.size() >= LARGE_PAGE {
        ask_for_large_pages(memory as usize, layout.size());
    }
    // SAFETY: the global allocator gave this memory for just this layout, and all bits zero are `count` numbers.
    Ok(unsafe { Vec::from_raw_parts(memory, count, count) })
}

/// A slice of fixed length that begins a cache line, so that whole vectors of it never lie in two: what [`zeros`] gives may begin
/// anywhere in one.
#[derive(Debug)]
pub struct Buffer<V> {
    values: Vec<V>,
    first: usize,
    count: usize,
}

impl<V: Zero> Buffer<V> {
    /// `count` zeros, as [`zeros`] has them.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub fn zeros(count: usize) -> Result<Self, NoMemory> {
        let spare = if count == 0 { 0 } else { LINE / size_of::<V>() };
        let values: Vec<V> = zeros(count.saturating_add(spare))?;
        let first = match values.as_ptr().align_offset(LINE) {
            first if first <= spare => first,
            _ => 0,
        };
        Ok(Self { values, first, count })
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

/// Room on the stack for numbers that are written before they are read. It begins a cache line, so that whole vectors of it never
/// lie in two.
#[repr(align(64))]
pub(crate) struct Room<const LENGTH: usize>([MaybeUninit<f32>; LENGTH]);

impl<const LENGTH: usize> Room<LENGTH> {
    /// Nothing is written yet.
    #[inline(always)]
    pub const fn new() -> Self {
        Self([const { MaybeUninit::uninit() }; LENGTH])
    }
}

impl<const LENGTH: usize> Deref for Room<LENGTH> {
    type Target = [MaybeUninit<f32>];

    #[inline(always)]
    fn deref(&self) -> &[MaybeUninit<f32>] {
        &self.0
    }
}

impl<const LENGTH: usize> DerefMut for Room<LENGTH> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [MaybeUninit<f32>] {
        &mut self.0
    }
}

/// Tells the system that large pages are welcome for the whole pages between these addresses.
#[cfg(target_os = "linux")]
fn ask_for_large_pages(address: usize, bytes: usize) {
    use std::ffi::{c_int, c_void};
    unsafe extern "C" {
        fn madvise(address: *mut c_void, length: usize, advice: c_int) -> c_int;
    }
    /// `MADV_HUGEPAGE` of Linux.
    const HUGE_PAGES: c_int = 14;
    /// The largest page that any of Rust's targets for Linux uses by default.
    const PAGE: usize = 1 << 16;
    let first = address.next_multiple_of(PAGE);
    let length = (address + bytes).saturating_sub(first) / PAGE * PAGE;
    // SAFETY: the advice changes no contents, and the pages lie inside memory that the caller owns. A refusal changes
    // nothing, so the answer is of no interest.
    unsafe { madvise(first as *mut c_void, length, HUGE_PAGES) };
}

#[cfg(not(target_os = "linux"))]
fn ask_for_large_pages(_: usize, _: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_vectors_are_zero_and_as_long_as_asked() {
        for count in [0, 1, 1000, (LARGE_PAGE / 4) * 3 + 5] {
            let values = zeros::<f32>(count).unwrap();
            assert!(values.len() == count && values.iter().all(|value| *value == 0.0));
        }
    }

    #[test]
    fn a_buffer_begins_a_cache_line_and_has_its_length() {
        for count in [0, 1, 100, 3_000_000] {
            let mut buffer = Buffer::<f32>::zeros(count).unwrap();
            assert_eq!(buffer.len(), count);
            assert!(count == 0 || buffer.as_ptr().addr().is_multiple_of(LINE));
            buffer.fill(1.0);
            assert!(buffer.iter().all(|&number| number == 1.0));
        }
    }

    #[test]
    fn memory_that_cannot_be_had_is_an_error() {
        assert_eq!(zeros::<f64>(usize::MAX / 16), Err(NoMemory(usize::MAX / 16 * 8)));
        assert!(Buffer::<f32>::zeros(usize::MAX / 8).is_err() && Buffer::<u8>::zeros(usize::MAX).is_err());
        assert_eq!(NoMemory(7 << 20).to_string(), "7 MiB of memory cannot be had");
    }
}
