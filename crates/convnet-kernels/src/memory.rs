//! Memory for large numbers of numbers.

use std::alloc::{Layout, alloc_zeroed};

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

/// The memory cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// A vector of zeros, whose memory large systems only hand out when it is used. Where the system offers large pages it is
/// asked for them, since routines that walk through many megabytes at large distances would otherwise spend much of their
/// time on looking up addresses.
///
/// # Errors
/// The memory cannot be had.
pub fn zeros<V: Zero>(count: usize) -> Result<Vec<V>, NoMemory> {
    let layout = Layout::array::<V>(count).map_err(|_| NoMemory)?;
    if layout.size() == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the layout has a size.
    let memory = unsafe { alloc_zeroed(layout) }.cast::<V>();
    if memory.is_null() {
        return Err(NoMemory);
    }
    if layout.size() >= LARGE_PAGE {
        ask_for_large_pages(memory as usize, layout.size());
    }
    // SAFETY: the global allocator gave this memory for just this layout, and all bits zero are `count` numbers.
    Ok(unsafe { Vec::from_raw_parts(memory, count, count) })
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
    fn memory_that_cannot_be_had_is_an_error() {
        assert!(zeros::<f64>(usize::MAX / 16).is_err());
    }
}
