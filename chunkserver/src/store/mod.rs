//! The chunk layer's store: bytes of chunk attempts on this node's disks, checksummed, self-describing, fsynced.
//!
//! Its interface, in the order in which a chunk meets it (the method docs hold the details):
//!
//! ```text
//! Store::open(config, identity, clock, random).await  -> (Store, Vec<Recovered>)  one report per directory
//! store.begin(meta, length_max).await                 -> Begun::Writing(Writer) | Begun::Stored(Stored)
//! writer.append(bytes, &checksums).await              whole 64 KiB blocks, only the last may be short; verified here
//! writer.finish(digest).await                         -> Stored: fsynced and visible; drop the Writer to abandon
//! store.stored(attempt).await                         -> Stored: what is there, for receipts
//! store.open_read(attempt, start..end).await          -> Reader
//! reader.next().await                                 -> Option<Part>: whole verified blocks with their checksums
//! store.verify(attempt).await                         reads the whole record around the cache, for the scrubber
//! store.raise_epoch(epoch).await                      durable when it returns
//! store.drop_attempts(epoch, &attempts).await         tombstones fsynced, then holes; Stale below the highest epoch
//! store.inventory(disk, after, limit), store.suspects(), store.usage(), store.epoch()
//! store.maintain(shutdown).await                      checkpoints, holes, space: one task per store
//! store.close().await                                 last checkpoint; the directories are given up
//! ```
//!
//! Invariants: what [`writer::Writer::finish`] answered is read back whole, or found damaged and not served, until it
//! is ordered dropped (P1, P3, P5); what [`Store::drop_attempts`] answered never comes back (P6); a directory of
//! another node, a full disk and a failed fsync are errors that name what to do (P11).
//!
//! How bytes lie on disk: [`segment`]. What a start does: [`recovery`].

pub mod config;
pub mod disk_identity;
pub mod error;
pub mod orders;
pub mod record;
pub mod recovery;
pub mod segment;

pub mod reader;
pub mod writer;

mod admission;
mod checkpoint;
mod disk;
mod held;
mod index;
mod journal;
mod maintenance;
mod open;
mod packer;
mod reclaim;
mod replay;
mod scan;
mod schema;
mod space;
mod tombstone;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::disk::Disk;
use common::disk::buffer::BufferPool;
use common::ids::{AttemptId, DiskId, Epoch};
use common::random::Random;
use common::shutdown::Shutdown;
use common::time::Clock;
use common::units::ByteCount;
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use checkpoint::Kept;
use config::StoreConfig;
use disk::StoreDisk;
use disk_identity::Identity;
use error::Error;
use index::{DiskNumber, Entry, Index, State};
use journal::Journal;
use orders::Dropped;
use packer::Packer;
use reader::Reader;
use record::{InventoryItem, RecordMeta, Stored, Trailer};
use recovery::Recovered;
use space::Room;
use writer::Begun;

/// Trailers kept in memory, so that many small reads of one chunk cost one read each (8 KiB each at most).
const TRAILERS_CACHED_MAX: usize = 1024;

/// A cloneable handle to the store of this node.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    config: StoreConfig,
    clock: Clock,
    runtime: tokio::runtime::Handle,
    index: Arc<Index>,
    disks: Vec<DiskHandle>,
    read_buffers: BufferPool,
    trailers: Cache<AttemptId, Arc<Trailer>>,
    /// Guards the highest epoch made durable.
    epoch: Mutex<Epoch>,
    closed: AtomicBool,
    /// Ends the tasks beside the disks.
    stop: Shutdown,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Guards the attempts which a late recovery found missing, until they are asked for.
    lost: Mutex<Vec<AttemptId>>,
}

/// One disk and the tasks beside it.
#[derive(Clone)]
struct DiskHandle {
    disk: Arc<StoreDisk>,
    journal: Journal,
    packer: Packer,
    /// Which checkpoints there are; changed by whoever holds the permit.
    kept: Arc<Mutex<Kept>>,
    checkpoint_permit: Arc<Semaphore>,
}

/// One disk as status shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskUsage {
    /// Which.
    pub disk: DiskId,
    /// Its directory.
    pub path: String,
    /// What it may hold: the configured limit, or the file system.
    pub capacity: ByteCount,
    /// Records, and what the store needs beside them.
    pub used: ByteCount,
    /// Promised to chunks that are being written.
    pub in_flight: ByteCount,
    /// What may still be promised; the reserve is not part of it.
    pub free: ByteCount,
    /// Why it takes no writes, or not all of them, if so: one sentence.
    pub refuses_because: Option<String>,
}

impl Store {
    /// Opens all data directories of `config`, making those that are missing, and recovers what they hold.
    /// Must be called within a runtime, which also carries the store's tasks.
    ///
    /// # Errors
    /// [`Error::Directory`] for a directory that belongs to another cluster or node, is used by another process, holds
    /// strangers' files, or cannot be made; nothing in it is touched. [`Error::Invalid`] for a configuration that
    /// cannot be used. [`Error::Disk`].
    pub async fn open(
        config: &StoreConfig,
        identity: Identity,
        clock: Clock,
        random: Random,
    ) -> Result<(Self, Vec<Recovered>), Error> {
        let disks = open::open_directories(config)?;
        Self::open_on(config, identity, clock, random, disks).await
    }

    /// Like [`Store::open`], on `disks` (each with its capacity limit, if it has one) in place of the configured
    /// directories: for simulation.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_on(
        config: &StoreConfig,
        identity: Identity,
        clock: Clock,
        random: Random,
        disks: Vec<(Disk, Option<ByteCount>)>,
    ) -> Result<(Self, Vec<Recovered>), Error> {
        let (inner, reports) = open::open(config, identity, clock, random, disks).await?;
        Ok((Self(Arc::new(inner)), reports))
    }

    /// Begins to write the record of an attempt, of at most `length_max` bytes: chooses a disk and promises the room.
    /// Never waits for another writer.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the attempt is being written, or stored for another upload, version or index;
    /// [`Error::Dropped`]; [`Error::Full`]; [`Error::Busy`]; [`Error::Unwritable`]; [`Error::Invalid`] for a length
    /// of 0 or above 64 MiB.
    pub async fn begin(&self, meta: RecordMeta, length_max: u64) -> Result<Begun, Error> {
        Arc::clone(&self.0).begin(meta, length_max).await
    }

    /// What is stored under an attempt.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Dropped`], [`Error::Damaged`], [`Error::Disk`].
    pub async fn stored(&self, attempt: AttemptId) -> Result<Stored, Error> {
        self.0.stored(attempt).await
    }

    /// Begins to read the blocks that cover `range` (bytes of the chunk, not empty, within its length).
    ///
    /// # Errors
    /// As [`Store::stored`], and [`Error::Invalid`] for a range that the chunk does not have.
    pub async fn open_read(&self, attempt: AttemptId, range: Range<u64>) -> Result<Reader, Error> {
        self.0.open_read(attempt, range).await
    }

    /// Reads and checks all of a record, from the medium. For the scrubber.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Damaged`] if it is damaged: it is kept aside from now on. Else as
    /// [`Store::stored`].
    pub async fn verify(&self, attempt: AttemptId) -> Result<(), Error> {
        self.0.verify(attempt).await
    }

    /// The highest epoch made durable here.
    pub fn epoch(&self) -> Epoch {
        *self.0.epoch.lock()
    }

    /// Makes an epoch durable, before any order of it is acted on.
    ///
    /// # Errors
    /// [`Error::Stale`] if a higher one has been seen; [`Error::Unwritable`], [`Error::Disk`] if no disk takes it.
    pub async fn raise_epoch(&self, epoch: Epoch) -> Result<(), Error> {
        self.0.raise_epoch(epoch).await
    }

    /// Drops attempts by order of the leader of `epoch`: at most [`orders::DROPS_PER_ORDER_MAX`]. Of those that are
    /// answered as dropped none is found, none can be written, and none comes back; attempts that are unknown too.
    /// Those on a disk that refuses are left. Asking again does no harm.
    ///
    /// # Errors
    /// [`Error::Stale`] if a higher epoch has been seen: nothing is done. [`Error::Unwritable`], [`Error::Disk`]: no
    /// disk takes the epoch.
    pub async fn drop_attempts(&self, epoch: Epoch, attempts: &[AttemptId]) -> Result<Dropped, Error> {
        self.0.drop_attempts(epoch, attempts).await
    }

    /// Splits an order to drop by the disks that carry it out. Waits for no disk.
    pub fn split_drops(&self, attempts: &[AttemptId]) -> orders::Drops {
        self.0.split_drops(attempts)
    }

    /// Carries out the part of an order that concerns `disk` ([`Store::split_drops`]). When it returns, the tombstones
    /// are durable; [`Store::punch_dropped`] gives the bytes back.
    ///
    /// # Errors
    /// As [`Store::drop_attempts`].
    pub async fn drop_on(&self, disk: DiskId, epoch: Epoch, attempts: &[AttemptId]) -> Result<(), Error> {
        self.0.drop_on(disk, epoch, attempts).await
    }

    /// Gives the bytes of dropped records on `disk` back, as far as the disk allows now.
    pub async fn punch_dropped(&self, disk: DiskId) {
        self.0.punch_dropped(disk).await;
    }

    /// A page of what `disk` holds (all disks, if `None`), in the order of attempts, behind `after`, at most `limit`.
    /// Fewer than `limit` means that there are no more.
    pub fn inventory(
        &self,
        disk: Option<DiskId>,
        after: Option<AttemptId>,
        limit: usize,
    ) -> Vec<InventoryItem> {
        self.0
            .list(disk, after, limit, |entry| entry.state != State::Dropped)
    }

    /// Records that were found damaged and are kept aside, at most `limit`.
    pub fn suspects(&self, limit: usize) -> Vec<InventoryItem> {
        self.0.suspects(limit)
    }

    /// Attempts of which a checkpoint knew and whose segments were found missing since the store was opened; each is
    /// answered once. Those found before are in the reports of [`Store::open`].
    pub fn take_lost(&self) -> Vec<AttemptId> {
        std::mem::take(&mut *self.0.lost.lock())
    }

    /// One line per disk.
    pub fn usage(&self) -> Vec<DiskUsage> {
        self.0.disks.iter().map(DiskHandle::usage).collect()
    }

    /// Writes checkpoints, gives space back that could not be given back at once, watches free space, until
    /// `shutdown`. One task per store runs it.
    pub async fn maintain(&self, shutdown: Shutdown) {
        self.0.maintain(shutdown).await;
    }

    /// Writes the index out, if it changed, so that the next start has less to read.
    ///
    /// # Errors
    /// [`Error::Disk`], [`Error::Full`]; the last checkpoint is still good then.
    pub async fn checkpoint(&self) -> Result<(), Error> {
        self.0.checkpoint().await
    }

    /// Takes no more requests, writes the last checkpoint, ends the store's tasks and gives the directories up.
    /// Records under way come to nothing; end them first. When it returns, the directories can be opened again (once
    /// writers that are still held are dropped).
    ///
    /// # Errors
    /// As [`Store::checkpoint`]; the store is closed all the same.
    pub async fn close(&self) -> Result<(), Error> {
        self.0.closed.store(true, Ordering::SeqCst);
        let outcome = self.0.checkpoint().await;
        self.0.stop.trigger();
        let tasks = std::mem::take(&mut *self.0.tasks.lock());
        for task in tasks {
            // A task that panicked has ended, too.
            let _ = task.await;
        }
        for handle in &self.0.disks {
            handle.disk.close();
        }
        outcome
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.disks.iter().map(|handle| handle.disk.owner.disk))
            .finish()
    }
}

impl Inner {
    fn check_open(&self) -> Result<(), Error> {
        if self.closed.load(Ordering::SeqCst) {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    fn handle(&self, disk: DiskNumber) -> Result<&DiskHandle, Error> {
        self.disks.get(usize::from(disk.0)).ok_or(Error::Closed)
    }

    fn list(
        &self,
        disk: Option<DiskId>,
        after: Option<AttemptId>,
        limit: usize,
        wanted: impl Fn(&Entry) -> bool,
    ) -> Vec<InventoryItem> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.index.read(|content| {
            let records = content.records.range((from, Unbounded));
            let records = records.filter(|(_, entry)| wanted(entry));
            let items = records.filter_map(|(attempt, entry)| self.item(*attempt, entry));
            let items = items.filter(|item| disk.is_none_or(|disk| disk == item.disk));
            items.take(limit).collect()
        })
    }

    fn suspects(&self, limit: usize) -> Vec<InventoryItem> {
        self.index.read(|content| {
            let found = content.suspects.iter().filter_map(|attempt| {
                let entry = content.records.get(attempt)?;
                self.item(*attempt, entry)
            });
            found.take(limit).collect()
        })
    }

    fn item(&self, attempt: AttemptId, entry: &Entry) -> Option<InventoryItem> {
        Some(InventoryItem {
            attempt,
            upload: entry.upload,
            version: entry.version,
            index: entry.index,
            disk: self.handle(entry.disk).ok()?.disk.owner.disk,
            length: u64::from(entry.length),
            suspect: entry.state == State::Suspect,
        })
    }
}

impl DiskHandle {
    fn usage(&self) -> DiskUsage {
        let room = self.disk.space.room();
        let full = || match room {
            Room { capacity: 0, .. } => Some("its free space cannot be measured".to_owned()),
            Room { free: 0, .. } => Some("it is full".to_owned()),
            _ => None,
        };
        DiskUsage {
            disk: self.disk.owner.disk,
            path: self.disk.disk.describe().to_owned(),
            capacity: ByteCount::new(room.capacity),
            used: ByteCount::new(room.used),
            in_flight: ByteCount::new(room.promised),
            free: ByteCount::new(room.free),
            refuses_because: self.disk.trouble().or_else(full),
        }
    }
}

#[cfg(test)]
mod tests;
