//! Opening: directories, identities, recovery of every disk, then one index of all, then the tasks.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use common::disk::buffer::BufferPool;
use common::disk::directory::{self, Settings};
use common::disk::{Disk, sync_directory};
use common::ids::DiskId;
use common::random::Random;
use common::shutdown::Shutdown;
use common::time::Clock;
use common::units::ByteCount;
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::config::StoreConfig;
use super::disk::StoreDisk;
use super::disk_identity::{Identity, claim};
use super::error::Error;
use super::index::{Content, DiskNumber, Index, State};
use super::journal::Journal;
use super::packer::Packer;
use super::recovery::{Loaded, Recovered, load};
use super::segment::Owner;
use super::space::Space;
use super::{DiskHandle, Inner, TRAILERS_CACHED_MAX, reclaim};

/// Makes and locks the directories of `config`.
pub(super) fn open_directories(config: &StoreConfig) -> Result<Vec<(Disk, Option<ByteCount>)>, Error> {
    config.validate()?;
    let settings = Settings {
        direct_io: config.direct_io,
        threads: config.io_threads_per_disk as usize,
    };
    let open = |path: &Path| {
        if !path.exists() {
            std::fs::create_dir_all(path)?;
            path.parent().map_or(Ok(()), sync_directory)?;
        }
        directory::open(path, settings)
    };
    let mut disks = Vec::new();
    for entry in &config.directories {
        let disk = open(&entry.path).map_err(|error| Error::Directory {
            path: entry.path.clone(),
            reason: error.to_string(),
        })?;
        disks.push((disk, entry.capacity_bytes));
    }
    Ok(disks)
}

pub(super) async fn open(
    config: &StoreConfig,
    identity: Identity,
    clock: Clock,
    random: Random,
    disks: Vec<(Disk, Option<ByteCount>)>,
) -> Result<(Inner, Vec<Recovered>), Error> {
    let owners = claim_all(&disks, identity, &random).await?;
    let mut all_loaded = Vec::new();
    for ((disk, _), (number, (owner, is_new))) in disks.iter().zip((0..).map(DiskNumber).zip(&owners)) {
        all_loaded.push(load(disk, *owner, number, *is_new).await?);
    }
    let index = Arc::new(Index::default());
    index.write(|content| merge(content, (0..).map(DiskNumber).zip(&mut all_loaded).collect()));
    let epoch = index.read(|content| content.disks.values().map(|disk| disk.epoch).max());
    let mut handles = Vec::new();
    let mut tasks = Vec::new();
    let stop = Shutdown::new();
    let mut beside = config.beside_bytes.iter().copied();
    for (((disk, capacity), (owner, _)), (number, loaded)) in disks
        .into_iter()
        .zip(owners)
        .zip((0..).map(DiskNumber).zip(&all_loaded))
    {
        let beside = beside.next().unwrap_or_default();
        let space = Space::new(capacity, config.reserve_bytes, beside, clock.clone());
        let used = index.read(|content| content.disks.get(&number).map_or(0, |own| own.bytes()));
        space.set_used(used + loaded.other_bytes);
        let disk = Arc::new(StoreDisk::new(
            number,
            owner,
            disk,
            space,
            Arc::clone(&index),
            random.clone(),
            config.segment_bytes.get(),
        ));
        disk.raise_next_journal(loaded.next_journal);
        handles.push(start(disk, loaded, &stop, &mut tasks).await);
    }
    let inner = Inner {
        config: config.clone(),
        clock,
        runtime: tokio::runtime::Handle::current(),
        index,
        disks: handles,
        read_buffers: BufferPool::new(config.read_buffer_bytes_max),
        trailers: Cache::new(TRAILERS_CACHED_MAX),
        epoch: Mutex::new(epoch.unwrap_or_default()),
        closed: std::sync::atomic::AtomicBool::new(false),
        stop,
        tasks: Mutex::new(tasks),
        lost: Mutex::default(),
    };
    inner.tidy_after_recovery().await;
    Ok((
        inner,
        all_loaded.into_iter().map(|loaded| loaded.report).collect(),
    ))
}

async fn claim_all(
    disks: &[(Disk, Option<ByteCount>)],
    identity: Identity,
    random: &Random,
) -> Result<Vec<(Owner, bool)>, Error> {
    let mut owners = Vec::new();
    let mut ids: BTreeSet<DiskId> = BTreeSet::new();
    for (disk, _) in disks {
        let (owner, is_new) = claim(disk, identity, random).await?;
        if !ids.insert(owner.disk) {
            return Err(Error::Directory {
                path: disk.describe().into(),
                reason: format!(
                    "it is a copy of another directory (disk {}); remove one of the two",
                    owner.disk
                ),
            });
        }
        owners.push((owner, is_new));
    }
    Ok(owners)
}

/// One index of all disks. Tombstones go first: whichever disk has one, no other brings the attempt back.
pub(super) fn merge(content: &mut Content, mut all: Vec<(DiskNumber, &mut Loaded)>) {
    for (number, loaded) in &mut all {
        let number = *number;
        content.disks.insert(number, std::mem::take(&mut loaded.content));
        for (attempt, entry) in std::mem::take(&mut loaded.records) {
            let is_twice = content.records.contains_key(&attempt);
            if let Some(segment) = content.disk(number).segments.get_mut(&entry.segment) {
                if is_twice {
                    // Looked at again at the next start, and not removed before.
                    segment.sealed = false;
                    segment.end = segment.end.min(entry.extent.offset());
                } else {
                    segment.records += 1;
                    segment.bytes += entry.extent.bytes();
                }
            }
            if is_twice {
                loaded.problem(format!(
                    "attempt {attempt} is stored on two disks; the copy here is left alone"
                ));
            } else {
                if entry.state == State::Suspect {
                    content.suspects.insert(attempt);
                }
                content.records.insert(attempt, entry);
            }
        }
    }
    for (number, loaded) in &mut all {
        for note in std::mem::take(&mut loaded.notes) {
            content.apply(*number, note);
        }
    }
    let dropped: Vec<_> = content
        .records
        .iter()
        .filter(|(attempt, entry)| entry.state == State::Dropped || content.has_tombstone(**attempt))
        .map(|(attempt, entry)| (*attempt, entry.disk))
        .collect();
    for (attempt, disk) in dropped {
        if let Some(entry) = content.records.get_mut(&attempt) {
            entry.state = State::Dropped;
        }
        content.suspects.remove(&attempt);
        content.disk(disk).unpunched.insert(attempt);
    }
    for (number, loaded) in all {
        let own = || content.records.values().filter(|entry| entry.disk == number);
        loaded.report.records = own().filter(|entry| entry.state == State::Stored).count() as u64;
        loaded.report.suspects = own().filter(|entry| entry.state == State::Suspect).count() as u64;
        let missing = std::mem::take(&mut loaded.missing);
        let lost = missing
            .into_iter()
            .filter(|attempt| !content.has_tombstone(*attempt));
        loaded.report.lost = lost.collect();
    }
}

async fn start(
    disk: Arc<StoreDisk>,
    loaded: &Loaded,
    stop: &Shutdown,
    tasks: &mut Vec<JoinHandle<()>>,
) -> DiskHandle {
    disk.measure().await;
    let (journal, journal_task) = Journal::start(Arc::clone(&disk), stop.clone());
    let (packer, packer_task) = Packer::start(Arc::clone(&disk), stop.clone());
    tasks.extend([journal_task, packer_task]);
    DiskHandle {
        journal,
        packer,
        disk,
        kept: Arc::new(Mutex::new(loaded.kept.clone())),
        checkpoint_permit: Arc::new(Semaphore::new(1)),
    }
}

impl Inner {
    /// Gives back what an earlier process had dropped, and saves what recovery found. What fails is tried again by
    /// maintenance.
    pub(super) async fn tidy_after_recovery(&self) {
        for handle in &self.disks {
            reclaim::punch_dropped(&handle.disk).await;
        }
        if let Err(error) = self.checkpoint().await {
            tracing::warn!(%error, "cannot write a checkpoint yet");
        }
    }
}
