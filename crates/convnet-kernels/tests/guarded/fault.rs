//! Says which case was in hand when memory was touched that is nobody's.
//!
//! A thread that works for the tests is not the one that knows the case, so every test notes its own, and all are printed.

use std::cell::Cell;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Tests that run at one time and are told apart.
const TESTS: usize = 16;
/// Bytes of a note; longer ones are cut.
const LENGTH: usize = 240;

/// What one test is doing, in a form that may be read at any moment.
struct Note {
    length: AtomicUsize,
    text: [AtomicU8; LENGTH],
}

static NOTES: [Note; TESTS] = [const { Note { length: AtomicUsize::new(0), text: [const { AtomicU8::new(0) }; LENGTH] } }; TESTS];
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// Which note is a thread's. Its end wipes the note out.
struct Own(Cell<Option<usize>>);

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(own) = self.0.get() {
            NOTES[own].length.store(0, Ordering::Relaxed);
        }
    }
}

thread_local! {
    static OWN: Own = const { Own(Cell::new(None)) };
}

impl Note {
    fn read(&self) -> ([u8; LENGTH], usize) {
        let length = self.length.load(Ordering::Relaxed).min(LENGTH);
        (std::array::from_fn(|place| self.text[place].load(Ordering::Relaxed)), length)
    }
}

/// Notes the case that this thread begins.
pub fn begin(case: &str) {
    let own = OWN.with(|own| {
        let place = own.0.get().unwrap_or_else(|| {
            handler::install();
            TAKEN.fetch_add(1, Ordering::Relaxed) % TESTS
        });
        own.0.set(Some(place));
        place
    });
    let note = &NOTES[own];
    for (place, byte) in note.text.iter().zip(case.bytes()) {
        place.store(byte, Ordering::Relaxed);
    }
    note.length.store(case.len(), Ordering::Relaxed);
}

/// The case that this thread is at.
pub fn in_hand() -> String {
    let (text, length) = OWN.with(|own| own.0.get()).map_or(([0; LENGTH], 0), |own| NOTES[own].read());
    String::from_utf8_lossy(&text[..length]).into_owned()
}

#[cfg(target_os = "linux")]
mod handler {
    use std::sync::Once;

    use super::NOTES;

    fn print(text: &[u8]) {
        // SAFETY: the bytes are readable, and writing them is allowed inside a signal handler.
        unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
    }

    extern "C" fn on_fault(_: libc::c_int) {
        print(b"\nmemory was touched that is nobody's; in hand were\n");
        for note in &NOTES {
            let (text, length) = note.read();
            if length > 0 {
                print(&text[..length]);
                print(b"\n");
            }
        }
        // SAFETY: with the default in place, the access that is tried again on return ends the process.
        unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
    }

    /// Has faults reported from now on.
    pub fn install() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // SAFETY: an empty action is a valid one to begin with.
            let mut action = unsafe { std::mem::zeroed::<libc::sigaction>() };
            action.sa_sigaction = on_fault as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_ONSTACK;
            // SAFETY: the handler only reads atomics, writes to a file and resets the action.
            unsafe { libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut()) };
        });
    }
}

#[cfg(not(target_os = "linux"))]
mod handler {
    /// Nothing is reported.
    pub fn install() {}
}

#[test]
fn a_case_that_was_begun_is_in_hand() {
    begin("first");
    assert_eq!(in_hand(), "first");
    begin("ü");
    assert_eq!(in_hand(), "ü");
    begin(&"long".repeat(LENGTH));
    assert_eq!(in_hand().len(), LENGTH);
}
