//! Memory between two pages that nobody may touch.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::null_mut;

use super::{Guard, Number};

/// Readable pages with an unreadable one on each side.
struct Pages {
    first: *mut u8,
    bytes: usize,
}

/// Bytes of a page.
fn page() -> usize {
    // SAFETY: a question without arguments that could be wrong.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).expect("the system knows the size of its pages")
}

impl Pages {
    /// `bytes` is a multiple of the page.
    fn new(bytes: usize) -> Self {
        let (page, private) = (page(), libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, at an address that the system chooses, takes nothing from anybody.
        let base = unsafe { libc::mmap(null_mut(), bytes + 2 * page, libc::PROT_NONE, private, -1, 0) };
        assert!(base != libc::MAP_FAILED, "no memory for {bytes} bytes between guards");
        let first = base.cast::<u8>().wrapping_add(page);
        // SAFETY: these pages lie inside the mapping that was just made, which nobody else knows.
        let answer = unsafe { libc::mprotect(first.cast(), bytes, libc::PROT_READ | libc::PROT_WRITE) };
        assert_eq!(answer, 0, "the pages between the guards cannot be made readable");
        Self { first, bytes }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let page = page();
        // SAFETY: this is the mapping that `new` made, and its only owner is gone.
        unsafe { libc::munmap(self.first.wrapping_sub(page).cast(), self.bytes + 2 * page) };
    }
}

thread_local! {
    /// Pages that are not in use: making them anew for each of millions of buffers would take longer than the tests.
    static SPARE: RefCell<Vec<Pages>> = const { RefCell::new(Vec::new()) };
}

/// Pages, seen as numbers.
pub struct Memory<T> {
    /// Always there until the memory is dropped.
    pages: Option<Pages>,
    kind: PhantomData<T>,
}

impl<T: Number> Memory<T> {
    /// Memory that holds `length` numbers next to the guard and at least `margin` more on the other side, and where the
    /// former lie.
    pub fn around(length: usize, margin: usize, guard: Guard) -> (Self, Range<usize>) {
        // Powers of two, so that few sizes serve all.
        let bytes = ((length + margin) * size_of::<T>()).next_power_of_two().max(page());
        let spare = SPARE.with_borrow_mut(|spare| {
            let place = spare.iter().position(|pages| pages.bytes == bytes)?;
            Some(spare.swap_remove(place))
        });
        let memory = Self { pages: Some(spare.unwrap_or_else(|| Pages::new(bytes))), kind: PhantomData };
        let all = bytes / size_of::<T>();
        let inner = match guard {
            Guard::Before => 0..length,
            Guard::After => all - length..all,
        };
        (memory, inner)
    }

    fn extent(&self) -> (*mut T, usize) {
        let pages = self.pages.as_ref().expect("pages are there until the drop");
        (pages.first.cast(), pages.bytes / size_of::<T>())
    }

    pub fn numbers(&self) -> &[T] {
        let (first, count) = self.extent();
        // SAFETY: the pages are readable, page-aligned and owned by this memory; the system filled them with zeros, and every
        // pattern of bits is a `Number`, all of which are plain floats and integers.
        unsafe { std::slice::from_raw_parts(first, count) }
    }

    pub fn numbers_mut(&mut self) -> &mut [T] {
        let (first, count) = self.extent();
        // SAFETY: as in `numbers`, and this memory is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(first, count) }
    }
}

impl<T> Drop for Memory<T> {
    fn drop(&mut self) {
        let pages = self.pages.take();
        // At the end of a thread there is nobody to keep them for.
        let _ = SPARE.try_with(|spare| spare.borrow_mut().extend(pages));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Buffer, Guard};

    /// Whether a process that does this is ended by the system for it.
    fn faults(deed: impl Fn()) -> bool {
        // SAFETY: the child calls nothing but `signal`, the deed, which touches memory, and `_exit`, none of which needs
        // anything that another thread of the parent might have held.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "no process can be made");
        if child == 0 {
            // SAFETY: the default takes the place of whatever handler there is.
            unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
            deed();
            // SAFETY: ends this process.
            unsafe { libc::_exit(0) };
        }
        let mut status = 0;
        // SAFETY: the child is ours, and `status` outlives the call.
        let ended = unsafe { libc::waitpid(child, &mut status, 0) };
        assert_eq!(ended, child);
        libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV
    }

    #[test]
    fn one_number_too_far_read_or_written_ends_the_process() {
        for length in [0, 1, 15, 1000, 1024, 5000] {
            let mut behind = Buffer::<f32>::holding(&vec![1.0; length], Guard::After);
            let mut before = Buffer::<f32>::holding(&vec![1.0; length], Guard::Before);
            assert!(behind.as_ptr().is_aligned() && before.as_ptr().is_aligned());
            let (last, first) = (behind.as_mut_ptr().wrapping_add(length), before.as_mut_ptr().wrapping_sub(1));
            for beside in [last, first] {
                // SAFETY: not sound, on purpose, in a process of its own: the page is there but may not be touched.
                assert!(faults(|| unsafe { _ = beside.read_volatile() }), "read beside {length}");
                // SAFETY: as above.
                assert!(faults(|| unsafe { beside.write_volatile(0.0) }), "write beside {length}");
            }
            assert!(!faults(|| assert!(behind.iter().chain(before.iter()).all(|number| *number == 1.0))));
        }
    }
}
