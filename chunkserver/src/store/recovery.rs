//! What a start makes of a disk: the last good checkpoint, the journals, and whatever the segments hold beyond.
//!
//! Invariants:
//! - What was acknowledged is found; what was not is found whole or not at all; what has a tombstone is not found.
//! - Everything that is found has been synced before it is shown: a process that was killed may have left records in
//!   the cache that a power cut would take.
//! - Nothing is written into a segment of an earlier process: each is sealed behind its last record.
//! - A damaged record that was durable once (a later header or the journal says so) is kept and listed as suspect. One
//!   that was cut short by the crash is cut off, by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use common::disk::buffer::AlignedBuf;
use common::disk::{Disk, OpenMode, PAGE_BYTES};
use common::ids::{AttemptId, DiskId};

use super::checkpoint::{self, Kept, Snapshot};
use super::disk_identity::aside;
use super::error::Error;
use super::index::{DiskContent, DiskNumber, Entry, Note, Segment, State};
use super::journal::{self, JOURNAL_BYTES};
use super::scan::{Found, Scan, scan};
use super::schema::{Extent, PAGE, Unreadable};
use super::segment::{Owner, SegmentName, decode_head};

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

/// Reads `disk`, seals its segments, and makes what was found durable.
pub(super) async fn load(
    disk: &Disk,
    owner: Owner,
    number: DiskNumber,
    is_new: bool,
) -> Result<Loaded, Error> {
    let names = disk.list().await?;
    let mut loaded = Loaded::new(disk, owner, is_new);
    for name in names.iter().filter(|name| name.ends_with(&aside(""))) {
        if let Err(error) = checkpoint::remove_if_there(disk, name).await {
            loaded.problem(format!("{name} is not removed yet: {error}"));
        }
    }
    loaded.load_checkpoint(disk, owner, number, &names).await?;
    loaded.load_journals(disk, owner, &names).await?;
    let segments: BTreeSet<SegmentName> = names.iter().filter_map(|name| SegmentName::parse(name)).collect();
    loaded.note_missing_segments(&segments);
    for name in segments {
        loaded.load_segment(disk, number, name).await?;
    }
    Ok(loaded)
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

    fn problem(&mut self, sentence: String) {
        self.report.problems.push(sentence);
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
                    self.problem(format!(
                        "checkpoint {at} is damaged; the segments are read instead"
                    ));
                    // It has no use, and must not be counted as one of those to keep.
                    if let Err(error) = checkpoint::remove_if_there(disk, &checkpoint::file_name(at)).await {
                        self.problem(format!("checkpoint {at} is not removed yet: {error}"));
                    }
                }
                Err(error @ Error::Disk(common::disk::Error::Io { .. })) => {
                    self.problem(format!(
                        "checkpoint {at} cannot be read: {}",
                        common::error::chain(&error)
                    ));
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

    /// Takes what a segment holds beyond the checkpoint, and seals it.
    async fn load_segment(
        &mut self,
        disk: &Disk,
        number: DiskNumber,
        name: SegmentName,
    ) -> Result<(), Error> {
        self.content.highest_segment = self.content.highest_segment.max(name.id.0);
        let known = self.content.segments.get(&name.id).copied();
        if known.is_some_and(|segment| segment.sealed) {
            return Ok(());
        }
        let file = disk.open(&name.file_name(), OpenMode::ReadDirect).await?;
        self.check_head(&file, name).await?;
        let from = known.map_or(PAGE, |segment| segment.end);
        let scan = scan(&file, name, from).await?;
        drop(file);
        self.report.scanned_bytes += scan.bytes;
        if scan.unreadable_pages > 0 {
            let count = scan.unreadable_pages;
            self.problem(format!(
                "{} has {count} pages that cannot be read",
                name.file_name()
            ));
        }
        let (records, torn) = self.judge(number, name, &scan);
        self.report.torn += torn;
        let end = records
            .iter()
            .map(|(_, entry)| entry.extent.end())
            .fold(from, u64::max);
        match settle(disk, name, end).await {
            Ok(()) => {
                self.report.replayed += records.len() as u64;
                self.records.extend(records);
            }
            Err(error) => self.problem(format!(
                "{} records of {} are left out, because they could not be synced: {}",
                records.len(),
                name.file_name(),
                common::error::chain(&error)
            )),
        }
        let segment = Segment {
            seed: name.seed,
            end,
            sealed: true,
            records: 0,
            bytes: 0,
        };
        self.content.segments.insert(name.id, segment);
        self.content.changes += 1;
        Ok(())
    }

    async fn check_head(&mut self, file: &common::disk::DiskFile, name: SegmentName) -> Result<(), Error> {
        let head = match file.read(0, PAGE_BYTES, AlignedBuf::unpooled(PAGE_BYTES)).await {
            Ok(head) => head,
            Err(error @ common::disk::Error::Io { .. }) => {
                self.problem(format!(
                    "the head of {} cannot be read: {error}",
                    name.file_name()
                ));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        match decode_head(head.as_slice(), name) {
            Ok(_) => Ok(()),
            Err(Unreadable::Newer(version)) => Err(Error::Directory {
                path: name.file_name().into(),
                reason: format!(
                    "it is of format {version}, which a newer build wrote; run the newer version"
                ),
            }),
            Err(Unreadable::Damaged) => {
                // Zeros are a segment that lost its power before its first record.
                if head.as_slice().iter().any(|byte| *byte != 0) {
                    self.problem(format!(
                        "the head of {} is damaged; its records are read all the same",
                        name.file_name()
                    ));
                }
                Ok(())
            }
        }
    }

    /// Which of the found records count, and how many were torn.
    fn judge(
        &mut self,
        number: DiskNumber,
        name: SegmentName,
        scan: &Scan,
    ) -> (Vec<(AttemptId, Entry)>, u64) {
        let mut records = Vec::new();
        let mut torn = 0;
        let noted = |attempt| self.notes.contains(&Note::Suspect(attempt));
        let was_durable: Vec<bool> = scan
            .found
            .iter()
            .map(|found| found.start < scan.settled || noted(found.attempt))
            .collect();
        for (at, (found, was_durable)) in scan.found.iter().zip(was_durable).enumerate() {
            if !found.whole && !was_durable {
                torn += 1;
                continue;
            }
            let next = scan.found.get(at + 1).map_or(u64::MAX, |next| next.start);
            let end = if found.whole {
                found.end
            } else {
                damaged_end(found, next)
            };
            let Some(extent) = Extent::between(found.start, end) else {
                continue;
            };
            let entry = Entry {
                disk: number,
                segment: name.id,
                extent,
                length: u32::try_from(found.length).unwrap_or(u32::MAX),
                layout: found.layout,
                state: if found.whole {
                    State::Stored
                } else {
                    State::Suspect
                },
                upload: found.upload,
                version: found.version,
                index: found.index,
            };
            if self.records.contains_key(&found.attempt) {
                self.problem(format!(
                    "attempt {} is stored twice; the second copy is left alone",
                    found.attempt
                ));
                continue;
            }
            records.push((found.attempt, entry));
        }
        (records, torn)
    }
}

/// A damaged record reaches to the next record where its own end is unknown.
fn damaged_end(found: &Found, next: u64) -> u64 {
    if found.length > 0 || next == u64::MAX {
        found.end.min(next)
    } else {
        next
    }
}

/// Makes what was found in a segment durable, and cuts the rest off.
async fn settle(disk: &Disk, name: SegmentName, end: u64) -> Result<(), Error> {
    let file = disk.open(&name.file_name(), OpenMode::Update).await?;
    file.sync().await?;
    disk.sync_directory().await?;
    file.cut(end).await?;
    Ok(())
}
