//! Who does the work: a persistent pool that runs numbered pieces.
//!
//! [`Threads::run`] calls `work(piece)` once for each piece. *Which* thread runs a piece is decided as threads become
//! free: each begins with its own share, neighbouring pieces, so that jobs on the same data find it in the caches of the
//! same processor, and helps the others when it has done. *What* a piece is must depend on the problem alone. A routine that gives each piece its own output, or adds
//! partial results in the order of the pieces, therefore computes the same bits with any number of threads.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// How often an idle worker looks for new work before it sleeps: about a tenth of a millisecond.
const SPIN_ROUNDS: u32 = 6_000;
/// The same when there are more threads than processors, where spinning keeps others from working.
const CROWDED_SPIN_ROUNDS: u32 = 50;

type Work<'a> = dyn Fn(usize) + Sync + 'a;

/// A value on cache lines of its own, so that threads that write it do not slow down those that read its neighbours.
#[repr(align(128))]
struct Apart<T>(T);

/// The state of the one job of a pool, in one word: how many workers are inside, whether others may enter, and which job
/// it is.
///
/// A worker enters by raising the count *while the job is open*; the caller closes the job, after which nobody can
/// enter, and waits for the count to reach zero. So a worker that is slow to wake is never waited for, and a worker that
/// is inside is never left behind.
struct State(AtomicU64);

impl State {
    const INSIDE: u64 = (1 << 16) - 1;
    const OPEN: u64 = 1 << 16;
    const NUMBER: u32 = 17;
    /// The pool is being dropped.
    const END: u64 = u64::MAX;

    /// Opens the next job and returns its number. Only while the job is closed and nobody is inside.
    fn open(&self) {
        let number = (self.0.load(Ordering::Relaxed) >> Self::NUMBER) + 1;
        // Numbers begin again long before they could reach END.
        let number = number % (1 << 46);
        self.0.store(number << Self::NUMBER | Self::OPEN, Ordering::SeqCst);
    }

    /// Lets nobody enter any more and waits until those inside have left.
    fn close(&self) {
        let mut inside = self.0.fetch_and(!Self::OPEN, Ordering::AcqRel) & Self::INSIDE;
        let mut rounds = 0u32;
        while inside != 0 {
            rounds = rounds.saturating_add(1);
            if rounds < SPIN_ROUNDS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
            inside = self.0.load(Ordering::Acquire) & Self::INSIDE;
        }
    }

    /// Whether there is a job that a worker who last saw job `seen` has not been in, or the end.
    fn has_news(&self, seen: u64) -> bool {
        let state = self.0.load(Ordering::SeqCst);
        state == Self::END || state & Self::OPEN != 0 && state >> Self::NUMBER != seen
    }

    /// Enters the job if it is open and not number `seen`; returns its number.
    fn enter(&self, seen: u64) -> Option<u64> {
        let mut state = self.0.load(Ordering::Acquire);
        loop {
            if state == Self::END || state & Self::OPEN == 0 || state >> Self::NUMBER == seen {
                return None;
            }
            match self.0.compare_exchange_weak(state, state + 1, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(state >> Self::NUMBER),
                Err(now) => state = now,
            }
        }
    }

    /// Leaves the job that was entered.
    fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// What the caller and its workers share.
struct Shared {
    state: Apart<State>,
    /// For each thread, the next piece of its share that nobody has taken.
    next: Vec<Apart<AtomicUsize>>,
    /// The closure of the job, with its lifetime erased, and the number of pieces.
    job: UnsafeCell<Option<(*const Work<'static>, usize)>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Workers that sleep or are about to.
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    awake: Condvar,
    spin_rounds: u32,
}

// SAFETY: `job` is written only by the caller of `run`, which holds the pool's turn, while the job is closed and nobody
// is inside; it is read only from inside. The closure it points to is `Sync`. The other fields may be shared.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Shared {
    /// Where the share of this thread begins.
    fn share(&self, thread: usize, pieces: usize) -> usize {
        let (each, more) = (pieces / self.next.len(), pieces % self.next.len());
        thread * each + thread.min(more)
    }

    /// Takes pieces until none is left: those of this thread's share, then those of the others. A panic stops the handing
    /// out and is kept for the caller.
    fn take_part(&self, thread: usize, work: &Work<'_>, pieces: usize) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            for other in 0..self.next.len() {
                let owner = (thread + other) % self.next.len();
                let end = self.share(owner + 1, pieces);
                loop {
                    let piece = self.next[owner].0.fetch_add(1, Ordering::Relaxed);
                    if piece >= end {
                        break;
                    }
                    work(piece);
                }
            }
        }));
        if let Err(panic) = outcome {
            self.next.iter().for_each(|next| next.0.store(pieces, Ordering::Relaxed));
            lock(&self.panic).get_or_insert(panic);
        }
    }

    /// Wakes up to `count` sleeping workers.
    fn wake(&self, count: usize) {
        let sleepers = self.sleepers.load(Ordering::SeqCst);
        if sleepers == 0 {
            return;
        }
        // A worker that has counted itself but not yet looked for news holds this lock.
        drop(lock(&self.sleep));
        if count >= sleepers {
            self.awake.notify_all();
        } else {
            (0..count).for_each(|_| self.awake.notify_one());
        }
    }

    /// Waits for a job that is not number `seen`: first looking, then sleeping.
    fn wait_for_news(&self, seen: u64) {
        for _ in 0..self.spin_rounds {
            if self.state.0.has_news(seen) {
                return;
            }
            std::hint::spin_loop();
        }
        let mut sleep = lock(&self.sleep);
        // Either the caller sees this worker counted after opening a job, or this worker sees the job.
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while !self.state.0.has_news(seen) {
            sleep = self.awake.wait(sleep).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The life of a worker, the thread of this number: wait for a job, take part in it, let go of it.
fn serve(shared: &Shared, thread: usize) {
    INSIDE.set(true);
    let mut seen = 0;
    loop {
        shared.wait_for_news(seen);
        let state = &shared.state.0;
        if state.0.load(Ordering::Acquire) == State::END {
            return;
        }
        let Some(number) = state.enter(seen) else { continue };
        seen = number;
        // SAFETY: this worker is inside: nobody writes `job`, and the caller of `run` keeps the closure alive, until it
        // has left.
        if let Some((work, pieces)) = unsafe { *shared.job.get() } {
            // SAFETY: as above.
            shared.take_part(thread, unsafe { &*work }, pieces);
        }
        state.leave();
    }
}

struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held while a job runs: one job at a time.
    turn: Mutex<()>,
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.state.0.0.store(State::END, Ordering::SeqCst);
        self.shared.wake(usize::MAX);
        for worker in self.workers.drain(..) {
            // A worker only ends by returning; its panics were handed to the caller of `run`.
            let _ = worker.join();
        }
    }
}

thread_local! {
    /// Whether this thread is inside a piece: nested calls then run in place instead of waiting for themselves.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// A handle to a pool of threads; clones share the pool.
#[derive(Clone)]
pub struct Threads {
    pool: Arc<Pool>,
}

impl Threads {
    /// Most threads of a pool; more are not started.
    const MOST: usize = 1024;

    /// A pool in which `count` threads work: the caller of [`run`](Self::run) and `count − 1` others. Zero counts as one.
    pub fn new(count: usize) -> Self {
        let count = count.clamp(1, Self::MOST);
        let shared = Arc::new(Shared {
            state: Apart(State(AtomicU64::new(0))),
            next: (0..count).map(|_| Apart(AtomicUsize::new(0))).collect(),
            job: UnsafeCell::new(None),
            panic: Mutex::new(None),
            sleepers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            awake: Condvar::new(),
            spin_rounds: if count <= Self::available() { SPIN_ROUNDS } else { CROWDED_SPIN_ROUNDS },
        });
        let workers = (1..count)
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new().name(format!("convnet-{index}")).spawn(move || serve(&shared, index)).ok()
            })
            .collect();
        Self { pool: Arc::new(Pool { shared, workers, turn: Mutex::new(()) }) }
    }

    /// How many threads this process may run at once (its affinity and quota respected).
    pub fn available() -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    /// Number of threads that work, the caller included.
    pub fn count(&self) -> usize {
        self.pool.workers.len() + 1
    }

    /// Calls `work(0)`, …, `work(pieces − 1)`, each once, in any order and on any thread, and returns when all are done.
    ///
    /// # Panics
    /// If a piece panics, the panic continues here after the other threads have stopped.
    pub fn run(&self, pieces: usize, work: impl Fn(usize) + Sync) {
        if pieces <= 1 || self.pool.workers.is_empty() || INSIDE.get() {
            (0..pieces).for_each(work);
            return;
        }
        let work: &Work<'_> = &work;
        // SAFETY: only the lifetime changes; `close` below returns when no worker holds the pointer or can get it.
        let erased: *const Work<'static> = unsafe { std::mem::transmute::<*const Work<'_>, *const Work<'static>>(work) };
        let shared = &*self.pool.shared;
        let turn = lock(&self.pool.turn);
        for (thread, next) in shared.next.iter().enumerate() {
            next.0.store(shared.share(thread, pieces), Ordering::Relaxed);
        }
        // SAFETY: the job is closed and nobody is inside, since the caller before waited for that; `turn` keeps others out.
        unsafe { *shared.job.get() = Some((erased, pieces)) };
        shared.state.0.open();
        shared.wake(pieces - 1);
        INSIDE.set(true);
        shared.take_part(0, work, pieces);
        INSIDE.set(false);
        shared.state.0.close();
        let panic = lock(&shared.panic).take();
        drop(turn);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// As [`run`](Self::run), but on this thread alone where all of it is so `small` that waking the others would take longer.
    pub fn run_unless(&self, small: bool, pieces: usize, work: impl Fn(usize) + Sync) {
        if small { (0..pieces).for_each(work) } else { self.run(pieces, work) }
    }

    /// The piece that stands as far from the end of its thread's share as this one from the beginning: a job that runs it
    /// in the place of this one meets what the job before left in each thread's caches, the last first.
    pub fn mirrored(&self, piece: usize, pieces: usize) -> usize {
        let shared = &self.pool.shared;
        let owner = (0..self.count()).find(|&thread| piece < shared.share(thread + 1, pieces)).unwrap_or(0);
        shared.share(owner, pieces) + shared.share(owner + 1, pieces).saturating_sub(piece + 1)
    }

    /// Cuts `data` into chunks of `length` (the last may be shorter) and calls `work(index, chunk)` for each.
    ///
    /// # Panics
    /// If `length` is zero, or as [`run`](Self::run).
    pub fn chunks_mut<T: Send>(&self, data: &mut [T], length: usize, work: impl Fn(usize, &mut [T]) + Sync) {
        let pieces = Pieces::new(data, length);
        self.run(pieces.count(), |index| {
            // SAFETY: `run` hands out each index once.
            work(index, unsafe { pieces.get(index) });
        });
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Threads({})", self.count())
    }
}

/// A slice cut into equal chunks that different threads may hold at the same time.
pub struct Pieces<'a, T> {
    data: *mut T,
    length: usize,
    chunk: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: the only access is `get`, whose contract gives each chunk to one holder; `T: Send` lets it cross threads.
unsafe impl<T: Send> Sync for Pieces<'_, T> {}

impl<'a, T> Pieces<'a, T> {
    /// Chunks of `chunk` elements, the last one possibly shorter.
    ///
    /// # Panics
    /// If `chunk` is zero.
    pub fn new(data: &'a mut [T], chunk: usize) -> Self {
        assert!(chunk > 0, "a chunk has at least one element");
        Self { data: data.as_mut_ptr(), length: data.len(), chunk, lifetime: PhantomData }
    }

    /// Number of chunks.
    pub fn count(&self) -> usize {
        self.length.div_ceil(self.chunk)
    }

    /// Chunk number `index`; empty when there is no such chunk.
    ///
    /// # Safety
    /// No two chunks of the same index may be held at the same time.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn get(&self, index: usize) -> &mut [T] {
        let start = (index * self.chunk).min(self.length);
        let end = (start + self.chunk).min(self.length);
        // SAFETY: start ≤ end ≤ length, chunks of different indices do not overlap, and the caller holds this one alone.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), end - start) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn every_piece_runs_exactly_once_for_any_number_of_threads() {
        for count in [1, 2, 3, 8] {
            let threads = Threads::new(count);
            for pieces in [0, 1, 2, 7, 1000] {
                let hits: Vec<AtomicU64> = (0..pieces).map(|_| AtomicU64::new(0)).collect();
                threads.run(pieces, |piece| {
                    hits[piece].fetch_add(1, Ordering::Relaxed);
                });
                assert!(hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 1), "{count} threads, {pieces} pieces");
            }
        }
    }

    #[test]
    fn the_shares_of_all_threads_are_all_pieces() {
        for count in [1, 2, 3, 8] {
            let threads = Threads::new(count);
            for pieces in [0, 1, 2, 7, 1000, usize::MAX] {
                let shares: Vec<usize> = (0..=count).map(|thread| threads.pool.shared.share(thread, pieces)).collect();
                assert_eq!((shares[0], shares[count]), (0, pieces));
                for piece in 0..pieces.min(1000) {
                    let mirrored = threads.mirrored(piece, pieces);
                    let share_of = |piece: usize| shares.iter().filter(|&&first| first <= piece).count();
                    assert_eq!((threads.mirrored(mirrored, pieces), share_of(mirrored)), (piece, share_of(piece)));
                }
                let sizes = || shares.windows(2).map(|share| share[1] - share[0]);
                assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 1, "{count} threads, {pieces} pieces: {shares:?}");
            }
        }
    }

    #[test]
    fn many_short_jobs_in_a_row_all_finish() {
        let threads = Threads::new(3);
        let total = AtomicU64::new(0);
        for _ in 0..2_000 {
            threads.run(4, |piece| {
                total.fetch_add(piece as u64, Ordering::Relaxed);
            });
        }
        assert_eq!(total.load(Ordering::Relaxed), 2_000 * 6);
    }

    #[test]
    fn sleeping_workers_wake_for_the_next_job() {
        let threads = Threads::new(3);
        for _ in 0..5 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            // Each piece waits until another thread has come to take the other one.
            let arrived = AtomicU64::new(0);
            threads.run(2, |_| {
                arrived.fetch_add(1, Ordering::SeqCst);
                while arrived.load(Ordering::SeqCst) < 2 {
                    std::thread::yield_now();
                }
            });
        }
    }

    #[test]
    fn several_callers_may_share_a_pool() {
        let threads = Threads::new(3);
        let total = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        threads.run(3, |_| {
                            total.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(total.load(Ordering::Relaxed), 4 * 200 * 3);
    }

    #[test]
    fn chunks_cover_the_data_and_know_their_number() {
        let threads = Threads::new(2);
        let mut data = vec![0usize; 103];
        threads.chunks_mut(&mut data, 10, |index, chunk| chunk.fill(index + 1));
        assert!(data.iter().enumerate().all(|(place, value)| *value == place / 10 + 1));
    }

    #[test]
    fn a_nested_run_works_in_place() {
        let threads = Threads::new(2);
        let total = AtomicU64::new(0);
        threads.run(4, |_| {
            threads.run(5, |_| {
                total.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(total.load(Ordering::Relaxed), 20);
    }

    #[test]
    fn a_panic_in_a_piece_reaches_the_caller_and_the_pool_lives_on() {
        let threads = Threads::new(2);
        let outcome = catch_unwind(AssertUnwindSafe(|| threads.run(8, |piece| assert!(piece != 5, "piece five"))));
        assert!(outcome.is_err());
        let total = AtomicU64::new(0);
        threads.run(8, |_| {
            total.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(total.load(Ordering::Relaxed), 8);
    }
}
