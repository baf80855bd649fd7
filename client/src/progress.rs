//! How far a transfer has come: counters that the transfer advances and anyone may read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const UNKNOWN: u64 = u64::MAX;

/// A cloneable handle to the counters of one transfer. All clones see the same.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
    bytes_moved: AtomicU64,
    chunks_done: AtomicU64,
    chunks_total: AtomicU64,
    retries: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            bytes_done: AtomicU64::new(0),
            bytes_total: AtomicU64::new(UNKNOWN),
            bytes_moved: AtomicU64::new(0),
            chunks_done: AtomicU64::new(0),
            chunks_total: AtomicU64::new(UNKNOWN),
            retries: AtomicU64::new(0),
        }
    }
}

/// The counters at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProgressNow {
    /// Bytes of the file that are done: sent (upload) or verified (download). Goes back when a chunk is tried again.
    pub bytes_done: u64,
    /// Bytes of the file in all; `None` for a stream that has not ended.
    pub bytes_total: Option<u64>,
    /// Bytes that went over the network, repetitions included.
    pub bytes_moved: u64,
    /// Chunks acknowledged (upload) or verified (download).
    pub chunks_done: u64,
    /// Chunks in all; `None` while not known.
    pub chunks_total: Option<u64>,
    /// How often something was tried again.
    pub retries: u64,
}

impl Progress {
    /// Counters at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// The counters now.
    pub fn now(&self) -> ProgressNow {
        let known = |counter: &AtomicU64| Some(counter.load(Ordering::Relaxed)).filter(|n| *n != UNKNOWN);
        let Counters {
            bytes_done,
            bytes_total,
            bytes_moved,
            chunks_done,
            chunks_total,
            retries,
        } = &*self.0;
        ProgressNow {
            bytes_done: bytes_done.load(Ordering::Relaxed),
            bytes_total: known(bytes_total),
            bytes_moved: bytes_moved.load(Ordering::Relaxed),
            chunks_done: chunks_done.load(Ordering::Relaxed),
            chunks_total: known(chunks_total),
            retries: retries.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn set_total(&self, bytes: u64, chunks: u64) {
        self.0.bytes_total.store(bytes, Ordering::Relaxed);
        self.0.chunks_total.store(chunks, Ordering::Relaxed);
    }

    /// Bytes that went over the network and count as done.
    pub(crate) fn moved(&self, bytes: u64) {
        self.0.bytes_moved.fetch_add(bytes, Ordering::Relaxed);
        self.0.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that are done without having been moved: shared with the base version, or found in a part file.
    pub(crate) fn found(&self, bytes: u64) {
        self.0.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that counted as done and must be moved again.
    pub(crate) fn undone(&self, bytes: u64) {
        self.0.bytes_done.fetch_sub(bytes, Ordering::Relaxed);
        self.retried();
    }

    /// Everything must be moved again.
    pub(crate) fn restarted(&self) {
        self.0.bytes_done.store(0, Ordering::Relaxed);
        self.0.chunks_done.store(0, Ordering::Relaxed);
        self.retried();
    }

    pub(crate) fn chunk_done(&self) {
        self.0.chunks_done.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn chunk_undone(&self) {
        self.0.chunks_done.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn retried(&self) {
        self.0.retries.fetch_add(1, Ordering::Relaxed);
    }
}
