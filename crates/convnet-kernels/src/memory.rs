//! Memory for large numbers of numbers.

use std::collections::TryReserveError;

/// Bytes of a large page on the computers that have them.
const LARGE_PAGE: usize = 2 << 20;

/// A vector of zeros. Where the system offers large pages it is asked for them, since routines that walk through many
/// megabytes at large distances would otherwise spend much of their time on looking up addresses.
///
/// # Errors
/// The memory cannot be had.
pub fn zeros<V: Copy + Default>(count: usize) -> Result<Vec<V>, TryReserveError> {
    let mut values = Vec::<V>::new();
    values.try_reserve_exact(count)?;
    let bytes = count * std::mem::size_of::<V>();
    if bytes >= LARGE_PAGE {
        ask_for_large_pages(values.as_mut_ptr() as usize, bytes);
    }
    values.resize(count, V::default());
    Ok(values)
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
