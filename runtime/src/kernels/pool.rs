//! Threads for kernels: a few that spin for work a short while, then sleep.
//!
//! A kernel says how its work may be cut ([`Pool::split`], [`Pool::each`]); the pieces write to different places and compute the same
//! whoever runs them, so results do not depend on the number of threads. A job begins and ends inside one call. One pool of the
//! process works at a time: a caller that finds another at work does its job alone, so that several models never have more threads
//! than the machine has cores. This file must not know what is computed.
//!
//! ```
//! use tilewright_runtime::kernels::pool::Pool;
//! let pool = Pool::new(2);
//! let mut squares = vec![0u64; 1000];
//! pool.split_mut(&mut squares, 1, u64::MAX, |start, piece| {
//!     piece.iter_mut().enumerate().for_each(|(at, square)| *square = ((start + at) as u64).pow(2));
//! });
//! assert_eq!(squares[31], 961);
//! ```

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Work (bytes touched, or operations) below which a job is not worth waking others for: about 5 microseconds of one core.
pub(crate) const WORK_MIN: u64 = 64 * 1024;
/// How often a worker looks for work before it sleeps: about 100 microseconds, longer than the gap between two commands of a program.
const SPINS: u32 = 4_000;

/// The one pool that works now.
static WORKING: Mutex<()> = Mutex::new(());

type Job = dyn Fn(usize) + Sync;

/// Threads that wait for jobs. The caller of a job is one of them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Counts jobs; what workers look at.
    round: AtomicUsize,
    /// The job of this round, and whether there will be more.
    job: Mutex<Current>,
    wake: Condvar,
    sleepers: AtomicUsize,
    unfinished: AtomicUsize,
    has_panicked: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

#[derive(Clone, Copy, Default)]
struct Current {
    job: Option<Pointer>,
    is_over: bool,
}

/// A job that its caller keeps alive until every worker has finished it.
#[derive(Clone, Copy)]
struct Pointer(NonNull<Job>);

#[allow(unsafe_code, reason = "a job is lent to other threads for the time of one call")]
// SAFETY: what it points to is `Sync`, and is called only while its owner waits in `Pool::run`.
unsafe impl Send for Pointer {}

impl Pool {
    /// As many threads as the process may use cores.
    pub fn of_machine() -> Pool {
        Pool::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// So many threads, at least 1 (the caller). Where the system refuses some there are fewer.
    pub fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared::default());
        let spawn = |index: usize| {
            let shared = shared.clone();
            let name = format!("tilewright-{index}");
            std::thread::Builder::new().name(name).spawn(move || shared.work(index)).ok()
        };
        let workers = (1..threads.max(1)).map_while(spawn).collect();
        Pool { shared, workers }
    }

    /// How many threads a job has at most.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `body` for contiguous ranges that together are `0..total`, one per thread, each but the last a multiple of `granule` long. A job of
    /// little `work` (bytes or operations) is done by the caller.
    pub fn split(&self, total: usize, granule: usize, work: u64, body: impl Fn(Range<usize>) + Sync) {
        let granules = total.div_ceil(granule.max(1));
        let threads = self.threads().min(granules);
        let part = |index: usize| {
            let edge = |index: usize| (granules * index / threads * granule.max(1)).min(total);
            edge(index)..edge(index + 1)
        };
        if threads <= 1 || work < WORK_MIN {
            if total != 0 {
                body(0..total);
            }
            return;
        }
        let is_shared = self.run(&|index| {
            if index < threads {
                body(part(index));
            }
        });
        if !is_shared {
            body(0..total);
        }
    }

    /// Calls `body` with every index below `parts`, whoever is free next: for parts that cost differently.
    pub fn each(&self, parts: usize, work: u64, body: impl Fn(usize) + Sync) {
        let next = AtomicUsize::new(0);
        let take = |_: usize| {
            loop {
                let part = next.fetch_add(1, Ordering::Relaxed);
                if part >= parts {
                    return;
                }
                body(part);
            }
        };
        if parts <= 1 || self.workers.is_empty() || work < WORK_MIN || !self.run(&take) {
            take(0);
        }
    }

    /// As [`Pool::split`], handing out the pieces of a slice with where each begins.
    pub fn split_mut<T: Send>(
        &self,
        slice: &mut [T],
        granule: usize,
        work: u64,
        body: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let pieces = Pieces::new(slice);
        self.split(pieces.len(), granule, work, |range| {
            #[allow(unsafe_code, reason = "disjoint pieces of one slice for several threads")]
            // SAFETY: the ranges of one split do not overlap.
            body(range.start, unsafe { pieces.piece(range) });
        });
    }

    /// Runs the job on all threads, and returns when all have finished. False when another pool is at work: nothing ran.
    fn run(&self, job: &(dyn Fn(usize) + Sync)) -> bool {
        let _turn = match WORKING.try_lock() {
            Ok(turn) => turn,
            Err(std::sync::TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return false,
        };
        let shared = &*self.shared;
        #[allow(unsafe_code, reason = "a job is lent to other threads for the time of one call")]
        // SAFETY: only the lifetime changes. No worker holds the job after `unfinished` reached 0, which is waited for below, also when
        // this thread's own part panics.
        let job_pointer = Pointer(NonNull::from(unsafe {
            std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static Job>(job)
        }));
        shared.unfinished.store(self.workers.len(), Ordering::Relaxed);
        shared.publish(Current { job: Some(job_pointer), is_over: false });
        let mine = catch_unwind(AssertUnwindSafe(|| job(0)));
        let mut looks = 0u32;
        while shared.unfinished.load(Ordering::Acquire) != 0 {
            looks += 1;
            if looks < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        if let Err(panic) = mine {
            resume_unwind(panic);
        }
        if shared.has_panicked.swap(false, Ordering::Relaxed) {
            let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
            resume_unwind(panic.unwrap_or_else(|| Box::new("a kernel's thread panicked")));
        }
        true
    }
}

impl Default for Pool {
    /// The caller alone.
    fn default() -> Pool {
        Pool::new(1)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.publish(Current { job: None, is_over: true });
        for worker in self.workers.drain(..) {
            // A worker catches what its jobs throw: there is nothing to hear from it.
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Pool({} threads)", self.threads())
    }
}

impl Shared {
    /// Hands a job to the workers, those that sleep too.
    fn publish(&self, current: Current) {
        *self.job.lock().unwrap_or_else(PoisonError::into_inner) = current;
        // One order of all for this and `sleepers`: a worker about to sleep sees the round, or is seen here.
        self.round.fetch_add(1, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) != 0 {
            let _job = self.job.lock().unwrap_or_else(PoisonError::into_inner);
            self.wake.notify_all();
        }
    }

    /// Waits for a round after `seen`.
    fn next(&self, seen: usize) -> usize {
        for _ in 0..SPINS {
            let round = self.round.load(Ordering::Acquire);
            if round != seen {
                return round;
            }
            std::hint::spin_loop();
        }
        let mut job = self.job.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while self.round.load(Ordering::SeqCst) == seen {
            job = self.wake.wait(job).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        self.round.load(Ordering::SeqCst)
    }

    /// A worker's life.
    fn work(&self, index: usize) {
        let mut seen = 0;
        loop {
            seen = self.next(seen);
            let current = *self.job.lock().unwrap_or_else(PoisonError::into_inner);
            if current.is_over {
                return;
            }
            let Some(Pointer(job)) = current.job else { continue };
            #[allow(unsafe_code, reason = "a job is lent to other threads for the time of one call")]
            // SAFETY: the caller of `Pool::run` keeps the job alive until `unfinished` is 0, which this worker's part still counts in.
            let job = unsafe { job.as_ref() };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(index))) {
                *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
                self.has_panicked.store(true, Ordering::Relaxed);
            }
            self.unfinished.fetch_sub(1, Ordering::Release);
        }
    }
}

/// A slice whose disjoint pieces are written by several threads.
pub struct Pieces<'s, T> {
    start: *mut T,
    length: usize,
    slice: std::marker::PhantomData<&'s mut [T]>,
}

#[allow(unsafe_code, reason = "disjoint pieces of one slice for several threads")]
// SAFETY: handing out pieces is unsafe itself, and asks that they do not overlap.
unsafe impl<T: Send> Sync for Pieces<'_, T> {}

impl<'s, T> Pieces<'s, T> {
    /// Of this slice.
    pub fn new(slice: &'s mut [T]) -> Pieces<'s, T> {
        Pieces { start: slice.as_mut_ptr(), length: slice.len(), slice: std::marker::PhantomData }
    }

    /// Elements in all.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// One piece.
    ///
    /// # Safety
    /// No two pieces that are alive at one time may overlap.
    ///
    /// # Panics
    /// When the range is not inside the slice.
    #[allow(unsafe_code, reason = "disjoint pieces of one slice for several threads")]
    #[allow(clippy::mut_from_ref, reason = "the caller promises that pieces do not overlap")]
    pub unsafe fn piece(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.length, "a piece lies outside its slice");
        // SAFETY: inside the slice, as was just asserted; that nobody else holds it is the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_visited_once_at_any_thread_count() {
        for threads in [1, 2, 3, 7] {
            let pool = Pool::new(threads);
            for (total, granule) in [(0, 1), (1, 16), (16, 16), (17, 16), (1000, 16), (1000, 7), (5, 1000)] {
                let mut counts = vec![0u8; total];
                pool.split_mut(&mut counts, granule, u64::MAX, |start, piece| {
                    assert!(start.is_multiple_of(granule), "{start} is no multiple of {granule}");
                    piece.iter_mut().for_each(|count| *count += 1);
                });
                assert!(counts.iter().all(|count| *count == 1), "{threads} threads, {total} by {granule}");
                let visits: Vec<AtomicUsize> = (0..total).map(|_| AtomicUsize::new(0)).collect();
                pool.each(total, u64::MAX, |part| {
                    visits[part].fetch_add(1, Ordering::Relaxed);
                });
                assert!(visits.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn workers_sleep_and_wake_again() {
        let pool = Pool::new(3);
        for pause_ms in [0, 0, 20, 0, 20] {
            std::thread::sleep(std::time::Duration::from_millis(pause_ms));
            let sum = AtomicUsize::new(0);
            pool.split(300, 1, u64::MAX, |range| {
                sum.fetch_add(range.sum::<usize>(), Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 300 * 299 / 2);
        }
    }

    #[test]
    fn a_job_inside_a_job_runs_on_its_own_thread() {
        let (outer, inner) = (Pool::new(2), Pool::new(2));
        let sum = AtomicUsize::new(0);
        outer.each(4, u64::MAX, |_| {
            inner.each(10, u64::MAX, |part| {
                sum.fetch_add(part, Ordering::Relaxed);
            });
        });
        assert_eq!(sum.into_inner(), 4 * 45);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        for guilty in [0, 1] {
            let thrown = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|index| assert_ne!(index, guilty, "wanted"));
            }));
            // Where another test's pool is at work nothing runs, and nothing is thrown.
            if let Err(panic) = thrown {
                let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                assert!(text.contains("wanted"), "{text}");
            }
            let count = AtomicUsize::new(0);
            pool.each(9, u64::MAX, |_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(count.into_inner(), 9);
        }
    }
}
