//! One disk of the store: its segments that wait for a writer, its open files, its room.
//!
//! Invariant: a segment is held by one writer, or is idle in here, or is sealed; never two of these. It does not own:
//! the index (shared by all disks), the journal and the packer, which run beside it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::disk::health::Standing;
use common::disk::{Disk, DiskFile, OpenMode};
use common::random::Random;
use common::time::Moment;
use parking_lot::Mutex;
use quick_cache::sync::Cache;

use super::error::Error;
use super::index::{DiskNumber, Index, Segment, SegmentId};
use super::schema::PAGE;
use super::segment::{OpenSegment, Owner, SegmentName};
use super::space::Space;

const REMOVE: &str = "remove an empty segment";
const MEASURE: &str = "measure free space";

/// Files kept open for reading per disk.
const READ_FILES_OPEN_MAX: usize = 256;

pub(super) struct StoreDisk {
    pub(super) number: DiskNumber,
    pub(super) owner: Owner,
    pub(super) disk: Disk,
    pub(super) space: Arc<Space>,
    pub(super) index: Arc<Index>,
    random: Random,
    segment_bytes: u64,
    /// Guards the segments without a writer, the last used last; `None` once the disk is closed.
    idle: Mutex<Option<Vec<OpenSegment>>>,
    read_files: Cache<(SegmentId, bool), DiskFile>,
    next_journal: AtomicU64,
    /// Guards when the disk is tried again.
    retry: Mutex<Retry>,
    /// Guards the failures that were logged and have not passed.
    logged: Mutex<BTreeSet<&'static str>>,
}

/// Tries come later and later, and soon again after a long quiet time.
struct Retry {
    due: Moment,
    last: Moment,
    wait: Duration,
}

const RETRY_WAIT_MIN: Duration = Duration::from_secs(1);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_secs(600);

/// Where a segment is read from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ReadFrom {
    /// The operating system's cache, if it is there.
    Cache,
    /// The medium.
    Medium,
}

impl StoreDisk {
    pub(super) fn new(
        number: DiskNumber,
        owner: Owner,
        disk: Disk,
        space: Arc<Space>,
        index: Arc<Index>,
        random: Random,
        segment_bytes: u64,
    ) -> Self {
        Self {
            number,
            owner,
            disk,
            space,
            index,
            random,
            segment_bytes,
            idle: Mutex::new(Some(Vec::new())),
            read_files: Cache::new(READ_FILES_OPEN_MAX),
            next_journal: AtomicU64::new(1),
            retry: Mutex::new(Retry {
                due: Moment::default(),
                last: Moment::default(),
                wait: RETRY_WAIT_MIN,
            }),
            logged: Mutex::default(),
        }
    }

    /// Why nothing on the disk is changed, if so.
    pub(super) fn refusal(&self) -> Option<String> {
        let held = self.index.read(|content| {
            let own = content.disks.get(&self.number)?;
            own.held
                .as_ref()
                .map(|reason| format!("it is not recovered yet: {reason}"))
        });
        held.or_else(|| self.disk.stopped())
    }

    /// What an operator should know of the disk, if anything.
    pub(super) fn trouble(&self) -> Option<String> {
        let because = |reason: String, outlook: &str| Some(format!("{reason}; {outlook}"));
        match self.disk.standing() {
            Standing::Poisoned(reason) => because(reason, "check the disk, then restart this node"),
            Standing::Stopped(reason) => because(reason, "it is tried again from time to time"),
            standing => self.refusal().or(match standing {
                Standing::Strained(reason) => Some(reason),
                _ => None,
            }),
        }
    }

    /// Whether it is time to try the disk again; the next time is later.
    pub(super) fn is_due(&self, now: Moment) -> bool {
        let mut retry = self.retry.lock();
        if now < retry.due {
            return false;
        }
        if now.since(retry.last) > QUIET {
            retry.wait = RETRY_WAIT_MIN;
        }
        *retry = Retry {
            due: now + retry.wait,
            last: now,
            wait: (retry.wait * 2).min(RETRY_WAIT_MAX),
        };
        true
    }

    /// Logs a failure that is tried again: once, until it passes.
    pub(super) fn log_failure(&self, what: &'static str, error: &dyn std::error::Error) {
        if self.logged.lock().insert(what) {
            tracing::warn!(disk = self.disk.describe(), error = %common::error::chain(error), "cannot {what} yet");
        }
    }

    /// What failed before works again.
    pub(super) fn log_success(&self, what: &'static str) {
        if self.logged.lock().remove(what) {
            tracing::info!(disk = self.disk.describe(), "can {what} again");
        }
    }

    /// Makes sure that the next journal has at least this number.
    pub(super) fn raise_next_journal(&self, number: u64) {
        self.next_journal.fetch_max(number, Ordering::SeqCst);
    }

    pub(super) fn next_journal(&self) -> u64 {
        self.next_journal.load(Ordering::SeqCst)
    }

    /// A segment to write the next record into: an idle one, or a new one.
    pub(super) async fn acquire(&self) -> Result<OpenSegment, Error> {
        let idle = self.idle.lock().as_mut().ok_or(Error::Closed)?.pop();
        if let Some(segment) = idle {
            return Ok(segment);
        }
        let id = self.index.write(|content| {
            let disk = content.disk(self.number);
            disk.highest_segment += 1;
            SegmentId(disk.highest_segment)
        });
        let name = SegmentName {
            id,
            seed: self.random.number(),
        };
        let segment = match OpenSegment::create(&self.disk, name, self.owner).await {
            Ok(segment) => segment,
            Err(error) => {
                // It may or may not be there; an empty one is removed at the next start at the latest.
                let _ = self.disk.remove(&name.file_name()).await;
                return Err(error);
            }
        };
        self.index.write(|content| {
            let state = Segment {
                seed: name.seed,
                end: PAGE,
                sealed: false,
                records: 0,
                bytes: 0,
            };
            content.disk(self.number).segments.insert(id, state);
        });
        self.space.add(PAGE);
        Ok(segment)
    }

    /// Whether a segment takes no further record.
    pub(super) const fn is_full_length(&self, segment: &OpenSegment) -> bool {
        segment.position >= self.segment_bytes
    }

    /// Takes a segment back whose last record is synced or was abandoned.
    pub(super) async fn release(&self, segment: OpenSegment) {
        if self.is_full_length(&segment) || self.disk.stopped().is_some() {
            self.seal(segment).await;
        } else if let Some(idle) = self.idle.lock().as_mut() {
            idle.push(segment);
        }
    }

    /// Takes a segment back into which nothing more is written.
    pub(super) async fn seal(&self, segment: OpenSegment) {
        if segment.allocated > segment.position
            && let Err(error) = segment.file.cut(segment.position).await
        {
            tracing::warn!(segment = segment.name.id.0, %error, "space behind a sealed segment is not given back yet");
        }
        let id = segment.name.id;
        drop(segment);
        self.index.write(|content| {
            let disk = content.disk(self.number);
            disk.changes += 1;
            if let Some(state) = disk.segments.get_mut(&id) {
                state.sealed = true;
            }
        });
        self.remove_empty_segments().await;
    }

    /// Removes the files of sealed segments without records. What cannot be removed now is tried again later.
    pub(super) async fn remove_empty_segments(&self) {
        if self.refusal().is_some() {
            return;
        }
        let empty = self.index.write(|content| {
            let disk = content.disk(self.number);
            let ids = disk.empty_segments();
            let names = ids.iter().filter_map(|id| {
                let segment = disk.segments.get(id)?;
                let seed = segment.seed;
                Some(SegmentName { id: *id, seed })
            });
            names.collect::<Vec<_>>()
        });
        for name in empty {
            match self.disk.remove(&name.file_name()).await {
                Ok(()) | Err(common::disk::Error::NotFound { .. }) => {}
                Err(error) => {
                    self.log_failure(REMOVE, &error);
                    continue;
                }
            }
            self.log_success(REMOVE);
            for direct in [false, true] {
                self.read_files.remove(&(name.id, direct));
            }
            let removed = self.index.write(|content| {
                let disk = content.disk(self.number);
                disk.changes += 1;
                disk.unsynced_holes.remove(&name.id);
                disk.segments.remove(&name.id)
            });
            if removed.is_some() {
                self.space.remove(PAGE);
            }
        }
    }

    /// A segment's file, for reading.
    pub(super) async fn open_for_reading(&self, id: SegmentId, from: ReadFrom) -> Result<DiskFile, Error> {
        let key = (id, from == ReadFrom::Medium);
        if let Some(file) = self.read_files.get(&key) {
            return Ok(file);
        }
        let mode = match from {
            ReadFrom::Cache => OpenMode::Read,
            ReadFrom::Medium => OpenMode::ReadDirect,
        };
        let file = self.disk.open(&self.segment_name(id)?.file_name(), mode).await?;
        self.read_files.insert(key, file.clone());
        Ok(file)
    }

    /// A segment's file, to punch holes into it or to sync them.
    pub(super) async fn open_for_change(&self, id: SegmentId) -> Result<DiskFile, Error> {
        let name = self.segment_name(id)?.file_name();
        Ok(self.disk.open(&name, OpenMode::Update).await?)
    }

    pub(super) fn segment_name(&self, id: SegmentId) -> Result<SegmentName, Error> {
        let seed = self.index.read(|content| {
            let disk = content.disks.get(&self.number)?;
            disk.segments.get(&id).map(|segment| segment.seed)
        });
        match seed {
            Some(seed) => Ok(SegmentName { id, seed }),
            None => Err(Error::Disk(common::disk::Error::NotFound {
                disk: self.disk.describe().to_owned(),
                name: format!("segment {}", id.0),
            })),
        }
    }

    /// Closes all files and gives the disk up.
    pub(super) fn close(&self) {
        self.idle.lock().take();
        self.read_files.clear();
        self.disk.close();
    }

    /// Asks the file system for its free space, if the last answer is old.
    pub(super) async fn measure(&self) {
        if !self.space.is_stale() {
            return;
        }
        match self.disk.space().await {
            Ok(space) => self.space.measured(space),
            Err(error) => return self.log_failure(MEASURE, &error),
        }
        self.log_success(MEASURE);
    }
}
