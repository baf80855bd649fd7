//! What is stored where, in memory: attempts, tombstones, and the segments of every disk.
//!
//! Invariants:
//! - A record is in here only after the sync that covers it, and a segment's `end` moves under the same lock: whoever
//!   copies the index (a checkpoint) sees all records before every `end`.
//! - A tombstone is in here only after the sync that covers it. An attempt with a tombstone is never found again; its
//!   record, if there is one, stays as [`State::Dropped`] until its bytes are gone.
//!
//! The lock guards all of it, is held for map operations alone and never across an await.

use std::collections::{BTreeMap, BTreeSet};

use common::ids::{AttemptId, Epoch, UploadNumber, VersionId};
use parking_lot::RwLock;

use super::error::Error;
use super::record::Layout;
use super::schema::{Extent, PAGE};
use super::tombstone::Tombstones;

/// A disk's place in the store's list; means nothing to anybody else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct DiskNumber(pub(super) u16);

/// A segment of one disk: counted up, never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct SegmentId(pub(super) u64);

/// What is known of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) disk: DiskNumber,
    pub(super) segment: SegmentId,
    pub(super) extent: Extent,
    pub(super) length: u32,
    pub(super) layout: Layout,
    pub(super) state: State,
    pub(super) upload: UploadNumber,
    pub(super) version: VersionId,
    pub(super) index: u32,
}

/// What may be done with a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// May be read.
    Stored,
    /// Found damaged by a read, the scrubber or recovery. Not read; kept until it is ordered dropped.
    Suspect,
    /// Has a durable tombstone. Not read, not listed; its bytes are about to go.
    Dropped,
}

/// One segment of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Segment {
    pub(super) seed: u64,
    /// Behind the last record that is in the index or was cut out.
    pub(super) end: u64,
    /// No record is added any more.
    pub(super) sealed: bool,
    /// Records of the index that lie in it.
    pub(super) records: u32,
    /// Bytes of these records.
    pub(super) bytes: u64,
}

/// What a disk must make durable; applied to the index after the sync.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Note {
    /// The attempt never comes back.
    Tombstone(AttemptId),
    /// The attempt's record is damaged.
    Suspect(AttemptId),
    /// The highest epoch seen.
    Epoch(Epoch),
}

#[derive(Default)]
pub(super) struct Index {
    content: RwLock<Content>,
}

#[derive(Default)]
pub(super) struct Content {
    pub(super) records: BTreeMap<AttemptId, Entry>,
    /// Records in state [`State::Suspect`].
    pub(super) suspects: BTreeSet<AttemptId>,
    /// Attempts under way, and where.
    pub(super) writing: BTreeMap<AttemptId, DiskNumber>,
    pub(super) disks: BTreeMap<DiskNumber, DiskContent>,
}

#[derive(Default)]
pub(super) struct DiskContent {
    pub(super) segments: BTreeMap<SegmentId, Segment>,
    pub(super) tombstones: Tombstones,
    /// Records in state [`State::Dropped`].
    pub(super) unpunched: BTreeSet<AttemptId>,
    /// Segments with holes that no sync covers yet.
    pub(super) unsynced_holes: BTreeSet<SegmentId>,
    /// The highest id given to a segment.
    pub(super) highest_segment: u64,
    /// The highest epoch made durable on this disk.
    pub(super) epoch: Epoch,
    /// Bytes of records entered since the process began.
    pub(super) entered_bytes: u64,
    /// Raised by every change that a checkpoint would save.
    pub(super) changes: u64,
    /// Why recovery is not complete, if so: nothing on the disk is changed until it is.
    pub(super) held: Option<String>,
}

impl Index {
    /// Runs `look` over a consistent state.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Content) -> T) -> T {
        look(&self.content.read())
    }

    pub(super) fn write<T>(&self, change: impl FnOnce(&mut Content) -> T) -> T {
        change(&mut self.content.write())
    }

    /// The record of an attempt that may be read.
    pub(super) fn find_stored(&self, attempt: AttemptId) -> Result<Entry, Error> {
        let content = self.content.read();
        match content.records.get(&attempt) {
            Some(entry) => match entry.state {
                State::Stored => Ok(*entry),
                State::Suspect => Err(Error::Damaged {
                    attempt,
                    part: "it was found damaged before",
                }),
                State::Dropped => Err(Error::Dropped { attempt }),
            },
            None if content.has_tombstone(attempt) => Err(Error::Dropped { attempt }),
            None => Err(match content.held() {
                Some(reason) => Error::Unrecovered {
                    reason: reason.to_owned(),
                },
                None => Error::NotFound { attempt },
            }),
        }
    }
}

impl Content {
    pub(super) fn has_tombstone(&self, attempt: AttemptId) -> bool {
        self.disks.values().any(|disk| disk.tombstones.contains(attempt))
    }

    /// Why a disk is not recovered, if there is one: what is not found may lie there.
    pub(super) fn held(&self) -> Option<&str> {
        self.disks.values().find_map(|disk| disk.held.as_deref())
    }

    pub(super) fn disk(&mut self, disk: DiskNumber) -> &mut DiskContent {
        self.disks.entry(disk).or_default()
    }

    /// Enters a record that is durable, and moves its segment's end behind it. A record whose tombstone came first is
    /// entered as dropped, so that its bytes are reclaimed.
    ///
    /// # Errors
    /// [`Error::Dropped`].
    pub(super) fn enter(&mut self, attempt: AttemptId, mut entry: Entry) -> Result<(), Error> {
        self.writing.remove(&attempt);
        let dropped = self.has_tombstone(attempt);
        if dropped {
            entry.state = State::Dropped;
        }
        let disk = self.disk(entry.disk);
        disk.changes += 1;
        disk.entered_bytes += entry.extent.bytes();
        if dropped {
            disk.unpunched.insert(attempt);
        }
        if let Some(segment) = disk.segments.get_mut(&entry.segment) {
            segment.end = segment.end.max(entry.extent.end());
            segment.records += 1;
            segment.bytes += entry.extent.bytes();
        }
        self.records.insert(attempt, entry);
        if dropped {
            Err(Error::Dropped { attempt })
        } else {
            Ok(())
        }
    }

    /// Applies what `disk` has made durable.
    pub(super) fn apply(&mut self, disk: DiskNumber, note: Note) {
        match note {
            Note::Tombstone(attempt) => {
                let home = self.disk(disk);
                home.changes += 1;
                home.tombstones.insert(attempt);
                self.suspects.remove(&attempt);
                if let Some(entry) = self.records.get_mut(&attempt) {
                    entry.state = State::Dropped;
                    let disk = entry.disk;
                    self.disk(disk).unpunched.insert(attempt);
                }
            }
            Note::Suspect(attempt) => {
                self.disk(disk).changes += 1;
                self.suspect(attempt);
            }
            Note::Epoch(epoch) => {
                let disk = self.disk(disk);
                disk.changes += 1;
                disk.epoch = disk.epoch.max(epoch);
            }
        }
    }

    /// Marks a record as damaged; true if it was not before.
    pub(super) fn suspect(&mut self, attempt: AttemptId) -> bool {
        match self.records.get_mut(&attempt) {
            Some(entry) if entry.state == State::Stored => {
                entry.state = State::Suspect;
                self.suspects.insert(attempt);
                true
            }
            _ => false,
        }
    }

    /// Forgets a dropped record whose bytes are gone; its bytes on disk. The tombstone stays.
    pub(super) fn forget(&mut self, attempt: AttemptId) -> u64 {
        let Some(entry) = self.records.get(&attempt).copied() else {
            return 0;
        };
        if entry.state != State::Dropped {
            return 0;
        }
        self.records.remove(&attempt);
        let disk = self.disk(entry.disk);
        disk.changes += 1;
        disk.unpunched.remove(&attempt);
        disk.unsynced_holes.insert(entry.segment);
        if let Some(segment) = disk.segments.get_mut(&entry.segment) {
            segment.records = segment.records.saturating_sub(1);
            segment.bytes = segment.bytes.saturating_sub(entry.extent.bytes());
        }
        entry.extent.bytes()
    }
}

impl DiskContent {
    /// Sealed segments without records: their files can go. None of a disk that is not recovered: what it holds is not
    /// known.
    pub(super) fn empty_segments(&self) -> Vec<SegmentId> {
        if self.held.is_some() {
            return Vec::new();
        }
        let empty = |segment: &Segment| segment.sealed && segment.records == 0;
        let found = self.segments.iter().filter(|(_, segment)| empty(segment));
        found.map(|(id, _)| *id).collect()
    }

    /// Bytes that its segments use when they hold `records`.
    pub(super) fn bytes_of(&self, records: &BTreeMap<AttemptId, Entry>) -> u64 {
        let records: u64 = records.values().map(|entry| entry.extent.bytes()).sum();
        records + self.segments.len() as u64 * PAGE
    }

    /// Records in its segments.
    pub(super) fn records(&self) -> u64 {
        self.segments
            .values()
            .map(|segment| u64::from(segment.records))
            .sum()
    }

    /// Bytes that its segments use.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.bytes + PAGE).sum()
    }
}
