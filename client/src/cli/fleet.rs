//! Many transfers at once: several small files in parallel, few large ones, one total for the person who waits.
//!
//! Invariant: one file that fails stops no other; what was done and what was not is told in the end (exit 9). A result is
//! handed on as it comes and kept by nobody, so that memory does not grow with what was done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::units::ByteCount;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::meter::{Meter, Reading};
use super::partly::Parts;
use crate::Progress;
use crate::throttle::chunks_at_once;

/// Files above this size use the whole path by themselves, so that only few of them go at once.
const LARGE_FROM: ByteCount = ByteCount::mib(64);
const LARGE_AT_ONCE_MAX: usize = 2;
/// What `-j` may be at most.
pub(super) const PARALLEL_MAX: u64 = 64;

/// One file to be moved.
#[derive(Clone, Debug)]
pub(super) struct Job<T> {
    /// What a person calls it.
    pub name: String,
    /// Its size, where known.
    pub size: Option<u64>,
    /// What the transfer needs.
    pub work: T,
}

/// What all transfers together have moved.
struct Tally {
    verb: &'static str,
    files: usize,
    total: Option<u64>,
    files_done: AtomicU64,
    bytes_done: AtomicU64,
    /// The transfers under way, by job.
    active: Mutex<BTreeMap<usize, (String, Progress)>>,
}

impl Tally {
    fn reading(&self) -> Reading {
        let active = self.active.lock();
        let moving: u64 = active
            .values()
            .map(|(_, progress)| progress.now().bytes_done)
            .sum();
        // A stream's total is known only at its end.
        let only = active.values().next().filter(|_| self.files == 1);
        let name = match (self.files, active.values().next()) {
            (1, Some((name, _))) => name.clone(),
            (_, Some((name, _))) => {
                format!(
                    "{} {}/{} {name}",
                    self.verb,
                    self.files_done.load(Ordering::Relaxed),
                    self.files
                )
            }
            (_, None) => self.verb.to_owned(),
        };
        Reading {
            name,
            done: self.bytes_done.load(Ordering::Relaxed) + moving,
            total: self
                .total
                .or_else(|| only.and_then(|(_, progress)| progress.now().bytes_total)),
        }
    }
}

/// Runs `transfer` for every job, at most `parallel` at once, with one meter for all. `told` takes each result as it
/// comes, in the order of their ends, and says what a person calls it; nothing of it is kept here. An error of `told` (the
/// output is gone) stops what has not begun. `past` is the verb of what was done, as in "not uploaded".
///
/// # Errors
/// That of `told`; an interruption, told once however many jobs it ended. Other failures of jobs are in the parts.
pub(super) async fn run<T, R, F, Fut>(
    context: &Context,
    (verb, past): (&'static str, &'static str),
    jobs: Vec<Job<T>>,
    parallel: u64,
    transfer: F,
    mut told: impl FnMut(R) -> Result<String, Failure>,
) -> Result<Parts, Failure>
where
    F: Fn(T, Progress) -> Fut,
    Fut: Future<Output = Result<R, Failure>>,
{
    let tally = Arc::new(Tally {
        verb,
        files: jobs.len(),
        total: jobs.iter().map(|job| job.size).sum(),
        files_done: AtomicU64::new(0),
        bytes_done: AtomicU64::new(0),
        active: Mutex::new(BTreeMap::new()),
    });
    let meter = Meter::start(&context.console, &context.seams.clock, {
        let tally = Arc::clone(&tally);
        move || tally.reading()
    });
    let large = Semaphore::new(LARGE_AT_ONCE_MAX);
    let width = usize::try_from(parallel.clamp(1, PARALLEL_MAX)).unwrap_or(1);
    let width = width.min(chunks_at_once(context.options.bwlimit));
    let runs = jobs.into_iter().enumerate().map(|(index, job)| {
        let (tally, large, transfer) = (&tally, &large, &transfer);
        async move {
            let result = one(
                context,
                tally,
                large,
                transfer,
                index,
                job.work,
                (&job.name, job.size),
            )
            .await;
            (job.name, result)
        }
    });
    let mut ends = futures::stream::iter(runs).buffer_unordered(width);
    let mut parts = Parts::new(past);
    let mut interrupted = 0;
    while let Some((name, result)) = ends.next().await {
        match result {
            Ok(result) => parts.done(&told(result)?),
            Err(failure) if failure.exit == Exit::Interrupted => interrupted += 1,
            Err(failure) => parts.failed(&name, failure),
        }
    }
    drop((ends, meter));
    if interrupted > 0 {
        if parts.count() > parts.count_done() {
            parts.tell(context);
        }
        return Err(Failure::interrupted_while(verb, parts.count_done(), tally.files));
    }
    Ok(parts)
}

async fn one<T, R, F, Fut>(
    context: &Context,
    tally: &Tally,
    large: &Semaphore,
    transfer: &F,
    index: usize,
    work: T,
    (name, size): (&str, Option<u64>),
) -> Result<R, Failure>
where
    F: Fn(T, Progress) -> Fut,
    Fut: Future<Output = Result<R, Failure>>,
{
    let is_large = size.is_some_and(|size| size > LARGE_FROM.get());
    // The semaphore is never closed, so that a permit always comes.
    let _permit = if is_large {
        large.acquire().await.ok()
    } else {
        None
    };
    if context.shutdown.is_triggered() {
        return Err(Failure::interrupted());
    }
    let progress = Progress::new();
    tally
        .active
        .lock()
        .insert(index, (name.to_owned(), progress.clone()));
    let result = transfer(work, progress.clone()).await;
    tally.active.lock().remove(&index);
    tally.files_done.fetch_add(1, Ordering::Relaxed);
    let counted = size.unwrap_or_else(|| progress.now().bytes_done);
    tally.bytes_done.fetch_add(counted, Ordering::Relaxed);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::console::Console;
    use crate::cli::options::{Environment, Options};
    use common::shutdown::Shutdown;
    use std::sync::atomic::AtomicUsize;

    /// A result that counts how many of its kind there are.
    struct Counted(Arc<AtomicUsize>);

    impl Counted {
        fn new(alive: &Arc<AtomicUsize>) -> Self {
            alive.fetch_add(1, Ordering::SeqCst);
            Self(Arc::clone(alive))
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn no_result_is_kept_however_many_there_are() {
        const FILES: usize = 20_000;
        let options = Options::default();
        let context = Context {
            console: Console::to_writers(&options, Box::new(std::io::sink()), Box::new(std::io::sink())),
            ..Context::of_process(options, Environment::default(), Shutdown::new())
        };
        let jobs = (0..FILES).map(|at| Job {
            name: at.to_string(),
            size: Some(1),
            work: at,
        });
        let alive = Arc::new(AtomicUsize::new(0));
        let transfer = |at: usize, _| {
            let alive = Arc::clone(&alive);
            async move {
                if at.is_multiple_of(2) {
                    Ok(Counted::new(&alive))
                } else {
                    Err(Failure::usage("odd"))
                }
            }
        };
        let mut most = 0;
        let told = |result: Counted| {
            most = most.max(result.0.load(Ordering::SeqCst));
            Ok(String::new())
        };
        let parts = run(&context, ("moving", "moved"), jobs.collect(), 8, transfer, told)
            .await
            .unwrap();
        assert_eq!((parts.count_done(), parts.count()), (FILES / 2, FILES));
        assert!(most <= 8, "{most} results at once");
        let sides = parts.end(&context, |_| None).unwrap_err().sides.unwrap();
        assert!(sides.done.len() <= 1000 && sides.not_done.len() <= 1000);
    }
}
