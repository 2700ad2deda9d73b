//! Who does the work: a persistent pool that runs numbered pieces.
//!
//! [`Threads::run`] calls `work(piece)` once for each piece. *Which* thread runs a piece is decided as threads become
//! free; *what* a piece is must depend on the problem alone. A routine that gives each piece its own output, or adds
//! partial results in the order of the pieces, therefore computes the same bits with any number of threads.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// How long an idle worker looks for new work before it sleeps, in rounds of the spin loop.
const SPIN_ROUNDS: u32 = 20_000;

type Work<'a> = dyn Fn(usize) + Sync + 'a;

/// One call of [`Threads::run`], shared with the workers while it lasts.
struct Job {
    /// The closure, with its lifetime erased; valid until `pending` has reached zero.
    work: *const Work<'static>,
    pieces: usize,
    /// The next piece that nobody has taken.
    next: AtomicUsize,
    /// Workers that have not yet finished with this job.
    pending: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: the closure behind `work` is `Sync`, and `Threads::run` keeps it alive until every worker has let go of it.
unsafe impl Send for Job {}
// SAFETY: as above; the other fields are atomics and a mutex.
unsafe impl Sync for Job {}

impl Job {
    /// Takes pieces until none is left. A panic stops the handing out and is kept for the caller.
    fn take_part(&self) {
        // SAFETY: `Threads::run` does not return, so the closure lives, before `pending` is zero; this worker is pending.
        let work = unsafe { &*self.work };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let piece = self.next.fetch_add(1, Ordering::Relaxed);
                if piece >= self.pieces {
                    break;
                }
                work(piece);
            }
        }));
        if let Err(panic) = outcome {
            self.next.store(self.pieces, Ordering::Relaxed);
            lock(&self.panic).get_or_insert(panic);
        }
    }
}

#[derive(Default)]
struct Board {
    /// Number of the newest job; a worker that has seen a smaller one has work to do.
    number: usize,
    job: Option<Arc<Job>>,
    closing: bool,
}

struct Shared {
    board: Mutex<Board>,
    posted: Condvar,
    /// A copy of `board.number` (or `usize::MAX` when closing) that spinning workers watch.
    number: AtomicUsize,
}

struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held while a job runs: one job at a time.
    turn: Mutex<()>,
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.shared.board).closing = true;
        self.shared.number.store(usize::MAX, Ordering::Release);
        self.shared.posted.notify_all();
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
    /// A pool in which `count` threads work: the caller of [`run`](Self::run) and `count − 1` others. Zero counts as one.
    pub fn new(count: usize) -> Self {
        let shared = Arc::new(Shared { board: Mutex::default(), posted: Condvar::new(), number: AtomicUsize::new(0) });
        let workers = (1..count)
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new().name(format!("convnet-{index}")).spawn(move || serve(&shared)).ok()
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
        // SAFETY: only the lifetime changes; `wait` below keeps this frame alive until no worker holds the pointer.
        let work: *const Work<'static> = unsafe { std::mem::transmute::<*const Work<'_>, *const Work<'static>>(work) };
        let job = Arc::new(Job {
            work,
            pieces,
            next: AtomicUsize::new(0),
            pending: AtomicUsize::new(self.pool.workers.len()),
            panic: Mutex::new(None),
        });
        let turn = lock(&self.pool.turn);
        self.post(Some(Arc::clone(&job)));
        INSIDE.set(true);
        job.take_part();
        INSIDE.set(false);
        wait(&job);
        lock(&self.pool.shared.board).job = None;
        drop(turn);
        let panic = lock(&job.panic).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
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

    fn post(&self, job: Option<Arc<Job>>) {
        let shared = &self.pool.shared;
        let mut board = lock(&shared.board);
        board.number += 1;
        board.job = job;
        shared.number.store(board.number, Ordering::Release);
        drop(board);
        shared.posted.notify_all();
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

/// Waits until no worker holds the job: first spinning, since the rest is usually short, then giving way.
fn wait(job: &Job) {
    let mut rounds = 0u32;
    while job.pending.load(Ordering::Acquire) != 0 {
        rounds = rounds.saturating_add(1);
        if rounds < SPIN_ROUNDS {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

/// The life of a worker: wait for a job, take part in it, let go of it.
fn serve(shared: &Shared) {
    INSIDE.set(true);
    let mut seen = 0;
    loop {
        let mut rounds = 0;
        while shared.number.load(Ordering::Acquire) == seen && rounds < SPIN_ROUNDS {
            std::hint::spin_loop();
            rounds += 1;
        }
        let mut board = lock(&shared.board);
        while board.number == seen && !board.closing {
            board = shared.posted.wait(board).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        if board.closing {
            return;
        }
        seen = board.number;
        let job = board.job.clone();
        drop(board);
        if let Some(job) = job {
            job.take_part();
            job.pending.fetch_sub(1, Ordering::Release);
        }
    }
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
