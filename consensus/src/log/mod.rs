//! The Raft log: a SQLite file, one writer thread, the latest entries in memory.
//!
//! Invariants:
//! - what openraft was told is durable is durable: a transaction with `synchronous=FULL` was committed;
//! - writes take effect in the order in which they were asked for, votes included;
//! - entries can be read as soon as `append` returns, before they are durable;
//! - nothing is purged that the state machine has not durably applied (`durable`);
//! - every row that is read is checked.
//!
//! Not owned: what entries mean.

mod rows;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::stream::{self, Stream};
use openraft::alias::VoteOf;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::engine::{self, Entry, LogId, Types, Vote};
use crate::health::Health;
use crate::log::rows::{Opened, Row, Rows};
use crate::log::writer::Write;
use crate::schema;

/// Writes waiting for the writer thread.
const WRITES_WAITING_MAX: usize = 4096;
/// Bytes of entries handed out at once, for replication and for applying.
pub(crate) const READ_BYTES_MAX: usize = 1 << 20;
/// Entries handed out at once for applying.
const READ_ENTRIES_MAX: u64 = 2048;

/// A cheap handle to the log of one member.
#[derive(Clone)]
pub(crate) struct LogStore {
    writes: mpsc::Sender<Write>,
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    view: Mutex<View>,
    rows: Rows,
    health: Health,
    cache_bytes_max: usize,
    /// Up to here the state machine is durable; purging further would lose entries in a power cut.
    durable: Arc<AtomicU64>,
    /// Bytes of payload appended since the log was opened.
    appended_bytes: AtomicU64,
}

/// What the log contains, durable or not.
struct View {
    /// The first entry, where there is one.
    first: u64,
    last: Option<LogId>,
    purged: Option<LogId>,
    vote: Option<Vote>,
    committed: Option<LogId>,
    /// The latest entries, without a hole, up to `last`.
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    /// Entries up to here are in the file; later ones are in the cache alone.
    flushed: u64,
    /// Counts truncations, so that a read of the file that raced with one is repeated.
    truncations: u64,
}

impl LogStore {
    /// Opens the log at `path`; with `create`, makes it for `owner` first.
    pub(crate) fn open(
        path: &Path,
        owner: schema::Owner,
        create: bool,
        cache_bytes_max: usize,
        durable: Arc<AtomicU64>,
        health: Health,
    ) -> io::Result<Self> {
        let (rows, opened, connection) = Rows::open(path, &owner, create)?;
        let Opened {
            first,
            last,
            purged,
            vote,
            committed,
        } = opened;
        let shared = Arc::new(Shared {
            view: Mutex::new(View {
                first,
                flushed: last.map_or(0, |last| last.index()),
                last,
                purged,
                vote,
                committed,
                cache: VecDeque::new(),
                cache_bytes: 0,
                truncations: 0,
            }),
            rows,
            health: health.clone(),
            cache_bytes_max,
            durable,
            appended_bytes: AtomicU64::new(0),
        });
        let (writes, waiting) = mpsc::channel(WRITES_WAITING_MAX);
        writer::spawn(connection, waiting, Arc::clone(&shared), health)?;
        Ok(Self { writes, shared })
    }

    /// Whether nothing was ever written.
    pub(crate) fn is_pristine(&self) -> bool {
        let view = self.shared.view.lock();
        view.last.is_none() && view.vote.is_none()
    }

    /// Bytes of payload appended since the log was opened.
    pub(crate) fn appended_bytes(&self) -> u64 {
        self.shared.appended_bytes.load(Ordering::Relaxed)
    }

    /// The index up to which the log must go for at most `bytes` to be left, if it is longer.
    pub(crate) async fn surplus(&self, bytes: u64) -> io::Result<Option<u64>> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.rows.surplus(bytes)).await
    }

    /// Tells the writer that little is going on: it may tidy up.
    pub(crate) fn quiet(&self) {
        // A full queue is not quiet.
        let _ = self.writes.try_send(Write::Quiet);
    }

    /// Ends the writer thread after what is waiting; resolves when the file is closed.
    pub(crate) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.writes.send(Write::Close { done }).await.is_ok() {
            let _ = closed.await;
        }
    }

    async fn write<T>(&self, make: impl FnOnce(oneshot::Sender<io::Result<T>>) -> Write) -> io::Result<T> {
        let (done, outcome) = oneshot::channel();
        self.writes
            .send(make(done))
            .await
            .map_err(|_| self.shared.gone())?;
        outcome.await.map_err(|_| self.shared.gone())?
    }
}

impl Shared {
    fn gone(&self) -> io::Error {
        let reason = self.health.reason();
        io::Error::other(reason.unwrap_or_else(|| "the log is closed".to_owned()))
    }

    /// Called by the writer: entries up to `index` are in the file.
    fn flushed(&self, index: u64) {
        let mut view = self.view.lock();
        view.flushed = view.flushed.max(index);
        view.evict(self.cache_bytes_max);
    }

    /// Entries `start..end`, at most `bytes_max` bytes but at least one if there is one.
    async fn read(self: &Arc<Self>, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        'again: loop {
            let truncations = self.view.lock().truncations;
            let mut entries = Vec::new();
            let mut next = start;
            let mut bytes_left = bytes_max;
            // Entries leave memory while the file is read: as many pieces as it takes.
            loop {
                let range = {
                    let view = self.view.lock();
                    let (from, end) = view.clamp(next, end);
                    if view.truncations != truncations || (from > next && !entries.is_empty()) {
                        continue 'again;
                    }
                    if from >= end {
                        return Ok(entries);
                    }
                    if from >= view.cached_from() {
                        entries.extend(view.cached(from, end, bytes_left));
                        return Ok(entries);
                    }
                    from..end.min(view.cached_from())
                };
                let (shared, wanted) = (Arc::clone(self), range.clone());
                let read = blocking(move || shared.rows.read(wanted, bytes_left)).await;
                {
                    let view = self.view.lock();
                    if view.truncations != truncations || view.first > range.start {
                        continue 'again;
                    }
                }
                let (more, bytes) = read
                    .inspect_err(|error| self.health.fail(format!("the Raft log cannot be read: {error}")))?;
                next = range.start + more.len() as u64;
                entries.extend(more);
                if next < range.end || bytes >= bytes_left {
                    return Ok(entries);
                }
                bytes_left -= bytes;
            }
        }
    }
}

impl View {
    /// The part of `start..end` that the log contains.
    fn clamp(&self, start: u64, end: u64) -> (u64, u64) {
        let after = self.last.map_or(0, |last| last.index() + 1);
        (start.max(self.first), end.min(after))
    }

    fn cached_from(&self) -> u64 {
        let after = self.last.map_or(0, |last| last.index() + 1);
        after - self.cache.len() as u64
    }

    fn cached(&self, start: u64, end: u64, bytes_max: usize) -> Vec<Entry> {
        let skip = usize::try_from(start - self.cached_from()).unwrap_or(usize::MAX);
        let count = usize::try_from(end - start).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let mut entries = Vec::new();
        for entry in self.cache.iter().skip(skip).take(count) {
            bytes += entry_bytes(entry);
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        entries
    }

    fn push(&mut self, entry: Entry) {
        if self.last.is_none() {
            self.first = entry.index();
        }
        self.last = Some(entry.log_id());
        self.cache_bytes += entry_bytes(&entry);
        self.cache.push_back(entry);
    }

    fn evict(&mut self, bytes_max: usize) {
        while self.cache_bytes > bytes_max {
            match self.cache.front() {
                Some(entry) if entry.index() <= self.flushed => {}
                _ => return,
            }
            if let Some(entry) = self.cache.pop_front() {
                self.cache_bytes -= entry_bytes(&entry);
            }
        }
    }

    fn truncate_after(&mut self, after: Option<LogId>) {
        if after.map(|after| after.index()) >= self.last.map(|last| last.index()) {
            return;
        }
        let kept = after.map_or(0, |after| after.index() + 1);
        while self.cache.back().is_some_and(|entry| entry.index() >= kept) {
            if let Some(entry) = self.cache.pop_back() {
                self.cache_bytes -= entry_bytes(&entry);
            }
        }
        self.last = after.or(self.purged);
        self.flushed = self.flushed.min(after.map_or(0, |after| after.index()));
        self.truncations += 1;
    }

    fn purge(&mut self, upto: LogId) {
        while self
            .cache
            .front()
            .is_some_and(|entry| entry.index() <= upto.index())
        {
            if let Some(entry) = self.cache.pop_front() {
                self.cache_bytes -= entry_bytes(&entry);
            }
        }
        self.purged = Some(upto);
        self.first = upto.index() + 1;
        if self.last < Some(upto) {
            self.last = Some(upto);
            self.cache.clear();
            self.cache_bytes = 0;
        }
    }
}

fn entry_bytes(entry: &Entry) -> usize {
    // Room for what an entry costs beside its payload.
    64 + match &entry.payload {
        openraft::EntryPayload::Normal(payload) => payload.0.len(),
        openraft::EntryPayload::Blank => 1,
        openraft::EntryPayload::Membership(membership) => 16 * membership.nodes().count(),
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let (start, end) = bounds(&range);
        self.shared.read(start, end, usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.shared.read(start, end, READ_BYTES_MAX).await
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let shared = Arc::clone(&self.shared);
        let begin = (shared, bounds(&range), VecDeque::new());
        stream::unfold(begin, |(shared, (start, end), mut ready)| async move {
            if ready.is_empty() && start < end {
                let upto = end.min(start.saturating_add(READ_ENTRIES_MAX));
                match shared.read(start, upto, READ_BYTES_MAX).await {
                    Ok(entries) => ready.extend(entries),
                    Err(error) => return Some((Err(error), (shared, (end, end), ready))),
                }
            }
            let entry: Entry = ready.pop_front()?;
            let next = entry.index() + 1;
            Some((Ok(entry), (shared, (next, end), ready)))
        })
    }

    async fn read_vote(&mut self) -> io::Result<Option<VoteOf<Types>>> {
        Ok(self.shared.view.lock().vote)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let view = self.shared.view.lock();
        Ok(LogState {
            last_purged_log_id: view.purged,
            last_log_id: view.last,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let stored = engine::vote_out(vote);
        self.write(|done| Write::Vote { vote: stored, done }).await?;
        self.shared.view.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let Some(committed) = committed else {
            return Ok(());
        };
        self.shared.view.lock().committed = Some(committed);
        // Written with the next batch: it only spares a restarted member from answering with older state.
        let write = Write::Committed {
            committed: engine::log_id_out(&committed),
        };
        self.writes.send(write).await.map_err(|_| self.shared.gone())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.shared.view.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let rows: Vec<Row> = entries.iter().map(Row::of).collect();
        let bytes: usize = rows.iter().map(|row| row.payload.len()).sum();
        self.shared
            .appended_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
        {
            let mut view = self.shared.view.lock();
            entries.into_iter().for_each(|entry| view.push(entry));
        }
        let write = Write::Append { rows, done: callback };
        self.writes.send(write).await.map_err(|_| self.shared.gone())
    }

    async fn truncate_after(&mut self, after: Option<LogId>) -> io::Result<()> {
        self.shared.view.lock().truncate_after(after);
        let kept = after.map(|after| after.index());
        self.write(|done| Write::Truncate { after: kept, done }).await?;
        // The writer may meanwhile have reported entries as flushed that are gone now.
        let mut view = self.shared.view.lock();
        view.flushed = view.flushed.min(kept.unwrap_or(0));
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let durable = self.shared.durable.load(Ordering::SeqCst);
        if upto.index() > durable {
            let reason = format!(
                "the log up to {} may not go: the state machine is durable up to {durable} only",
                upto.index()
            );
            self.shared.health.fail(&reason);
            return Err(io::Error::other(reason));
        }
        let stored = engine::log_id_out(&upto);
        // First out of sight, then out of the file: a reader that finds a row gone looks here again.
        self.shared.view.lock().purge(upto);
        self.write(|done| Write::Purge { upto: stored, done }).await
    }
}
