//! What a start makes of a disk: the last good checkpoint, the journals, and whatever the segments hold beyond.
//!
//! Invariants:
//! - What was acknowledged is found; what was not is found whole or not at all; what has a tombstone is not found.
//! - Everything that is found has been synced before it is shown: a process that was killed may have left records in
//!   the cache that a power cut would take.
//! - Nothing is written into a segment of an earlier process: each is sealed behind its last record ([`super::replay`]).
//! - What could not be read or synced, for whatever reason, is not removed, sealed, cut or left out of a checkpoint: its
//!   disk is held. Of a held disk that is shown which is certain; nothing on it is changed until all of it could be
//!   recovered ([`super::held`]). Damage is another matter: bytes that are there and wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use common::disk::buffer::AlignedBuf;
use common::disk::{Disk, OpenMode, PAGE_BYTES};
use common::error::chain;
use common::ids::{AttemptId, DiskId};

use super::checkpoint::{self, Kept, Snapshot};
use super::disk_identity::aside;
use super::error::Error;
use super::index::{DiskContent, DiskNumber, Entry, Note};
use super::journal::{self, JOURNAL_BYTES};
use super::schema::{PAGE, Unreadable};
use super::segment::{Owner, SegmentName};

/// What a start found in one data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The disk.
    pub disk: DiskId,
    /// Its directory.
    pub path: PathBuf,
    /// The directory was empty and has become a new disk.
    pub is_new: bool,
    /// Records that may be read.
    pub records: u64,
    /// Of these, records that were found by reading segments, not in a checkpoint.
    pub replayed: u64,
    /// Bytes read from segments.
    pub scanned_bytes: u64,
    /// Records that the crash had cut short, and that were cut off.
    pub torn: u64,
    /// Records that are damaged and kept aside.
    pub suspects: u64,
    /// Records of which a checkpoint knew, but whose segment is not there any more though nobody dropped them.
    pub lost: Vec<AttemptId>,
    /// Anything else an operator should know, a sentence each.
    pub problems: Vec<String>,
}

/// A disk as recovery leaves it.
pub(super) struct Loaded {
    pub(super) content: DiskContent,
    pub(super) records: BTreeMap<AttemptId, Entry>,
    /// Records whose segment is gone.
    pub(super) missing: Vec<AttemptId>,
    /// From the journals, oldest first.
    pub(super) notes: Vec<Note>,
    pub(super) kept: Kept,
    pub(super) next_journal: u64,
    /// Bytes of everything that is not a segment.
    pub(super) other_bytes: u64,
    pub(super) report: Recovered,
}

/// Reads `disk`, seals its segments, and makes what was found durable. What the disk refuses holds it.
///
/// # Errors
/// [`Error::Directory`] for what a newer build wrote.
pub(super) async fn load(
    disk: &Disk,
    owner: Owner,
    number: DiskNumber,
    is_new: bool,
) -> Result<Loaded, Error> {
    let mut loaded = Loaded::new(disk, owner, is_new);
    match loaded.load_all(disk, owner, number).await {
        Ok(()) => Ok(loaded),
        Err(Error::Disk(error)) => {
            // Without all notes a record may have been dropped, and without all segments there is nothing to compare.
            loaded.records.clear();
            loaded.content.segments.clear();
            loaded.hold(chain(&error));
            Ok(loaded)
        }
        Err(error) => Err(error),
    }
}

impl Loaded {
    fn new(disk: &Disk, owner: Owner, is_new: bool) -> Self {
        Self {
            content: DiskContent::default(),
            records: BTreeMap::new(),
            missing: Vec::new(),
            notes: Vec::new(),
            kept: Kept {
                next_number: 1,
                ..Kept::default()
            },
            next_journal: 1,
            other_bytes: PAGE,
            report: Recovered {
                disk: owner.disk,
                path: disk.describe().into(),
                is_new,
                records: 0,
                replayed: 0,
                scanned_bytes: 0,
                torn: 0,
                suspects: 0,
                lost: Vec::new(),
                problems: Vec::new(),
            },
        }
    }

    pub(super) fn problem(&mut self, sentence: String) {
        self.report.problems.push(sentence);
    }

    fn hold(&mut self, reason: String) {
        self.problem(format!("nothing is written here until this passes: {reason}"));
        self.content.held = Some(reason);
    }

    /// # Errors
    /// [`Error::Disk`]: what is needed to understand the rest cannot be read.
    async fn load_all(&mut self, disk: &Disk, owner: Owner, number: DiskNumber) -> Result<(), Error> {
        let names = disk.list().await?;
        for name in names.iter().filter(|name| name.ends_with(&aside(""))) {
            if let Err(error) = checkpoint::remove_if_there(disk, name).await {
                self.problem(format!("{name} is not removed yet: {error}"));
            }
        }
        self.load_checkpoint(disk, owner, number, &names).await?;
        self.load_journals(disk, owner, &names).await?;
        let segments: BTreeSet<SegmentName> =
            names.iter().filter_map(|name| SegmentName::parse(name)).collect();
        self.note_missing_segments(&segments);
        let mut left = 0;
        let mut first = None;
        for name in segments {
            match self.load_segment(disk, number, name).await {
                Err(Error::Disk(error)) => {
                    left += 1;
                    first = first.or(Some(error));
                }
                outcome => outcome?,
            }
        }
        if let Some(error) = first {
            self.hold(format!(
                "{left} segments could not be read or made durable: {}",
                chain(&error)
            ));
        }
        Ok(())
    }

    async fn load_checkpoint(
        &mut self,
        disk: &Disk,
        owner: Owner,
        number: DiskNumber,
        names: &[String],
    ) -> Result<(), Error> {
        let mut numbers: Vec<u64> = names
            .iter()
            .filter_map(|name| checkpoint::parse_name(name))
            .collect();
        numbers.sort_unstable();
        self.kept.next_number = numbers.last().map_or(1, |last| last + 1);
        let mut chosen = None;
        for at in numbers.into_iter().rev() {
            match checkpoint::read(disk, owner, number, at).await {
                Ok(Ok(snapshot)) => {
                    self.kept.checkpoints.insert(0, (at, snapshot.journal));
                    chosen = chosen.or(Some(snapshot));
                }
                Ok(Err(Unreadable::Newer(version))) => {
                    return Err(Error::Directory {
                        path: disk.describe().into(),
                        reason: format!(
                            "it has a checkpoint of format {version}, which a newer build wrote; run the newer version"
                        ),
                    });
                }
                Ok(Err(Unreadable::Damaged)) => {
                    // It is not one of those to keep, and goes when two newer ones are there.
                    self.problem(format!(
                        "checkpoint {at} is damaged; the segments are read instead"
                    ));
                }
                Err(Error::Disk(error)) if error.is_of_medium() => {
                    self.problem(format!("checkpoint {at} cannot be read: {}", chain(&error)));
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(snapshot) = chosen {
            self.take_snapshot(snapshot);
        }
        Ok(())
    }

    fn take_snapshot(&mut self, snapshot: Snapshot) {
        let Snapshot {
            journal,
            highest_segment,
            epoch,
            segments,
            records,
            tombstones,
        } = snapshot;
        self.next_journal = journal;
        self.content.highest_segment = highest_segment;
        self.content.epoch = epoch;
        self.content.segments = segments.into_iter().collect();
        self.records = records.into_iter().collect();
        for attempt in tombstones {
            self.content.tombstones.insert(attempt);
        }
        self.other_bytes += (self.records.len() * 58) as u64;
    }

    async fn load_journals(&mut self, disk: &Disk, owner: Owner, names: &[String]) -> Result<(), Error> {
        let mut numbers: Vec<u64> = names
            .iter()
            .filter_map(|name| journal::parse_name(name))
            .collect();
        numbers.sort_unstable();
        for number in numbers {
            self.next_journal = self.next_journal.max(number + 1);
            self.other_bytes += JOURNAL_BYTES;
            let file = disk
                .open(&journal::file_name(number), OpenMode::ReadDirect)
                .await?;
            let bytes = JOURNAL_BYTES as usize;
            let content = file.read(0, bytes, AlignedBuf::unpooled(bytes)).await?;
            let mut damaged = 0;
            for (at, page) in content.as_slice().chunks(PAGE_BYTES).enumerate() {
                match journal::decode_page(owner.disk, number, at as u64 * PAGE, page) {
                    Ok(notes) => self.notes.extend(notes),
                    Err(Unreadable::Newer(version)) => {
                        return Err(Error::Directory {
                            path: disk.describe().into(),
                            reason: format!(
                                "it has a journal of format {version}, which a newer build wrote; run the newer version"
                            ),
                        });
                    }
                    Err(Unreadable::Damaged) if page.iter().all(|byte| *byte == 0) => {}
                    Err(Unreadable::Damaged) => damaged += 1,
                }
            }
            if damaged > 1 {
                self.problem(format!(
                    "journal {number} has {damaged} damaged pages; deletions may be undone"
                ));
            }
        }
        Ok(())
    }

    fn note_missing_segments(&mut self, there: &BTreeSet<SegmentName>) {
        let there: BTreeSet<_> = there.iter().map(|name| name.id).collect();
        self.content.segments.retain(|id, _| there.contains(id));
        let missing = self
            .records
            .extract_if(.., |_, entry| !there.contains(&entry.segment));
        self.missing = missing.map(|(attempt, _)| attempt).collect();
    }
}
