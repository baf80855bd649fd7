//! Takes what a segment holds beyond the checkpoint, makes it durable, and seals the segment.
//!
//! Invariants:
//! - What is shown has been synced. If it cannot be, the segment stays as it was: neither cut nor sealed nor removed,
//!   and its disk is held ([`super::held`]).
//! - What cannot be recognised for the moment (pages that the medium does not give, a second copy of an attempt) is
//!   neither cut off nor sealed away: the next start looks at it again, from there on.
//! - A damaged record that was durable once (a later header, the journal or the checkpoint says so), or that may only
//!   look damaged because pages of it cannot be read, is kept as suspect. One that was cut short by the crash is cut
//!   off, by itself.

use common::disk::buffer::AlignedBuf;
use common::disk::{Disk, DiskFile, OpenMode, PAGE_BYTES};
use common::ids::AttemptId;

use super::error::Error;
use super::index::{DiskNumber, Entry, Note, Segment, State};
use super::recovery::Loaded;
use super::scan::{Found, Scan, scan};
use super::schema::{Extent, PAGE, Unreadable};
use super::segment::{SegmentName, decode_head};

/// What counts of that which was found in a segment.
struct Judged {
    records: Vec<(AttemptId, Entry)>,
    /// Behind the last record that counts, in the checkpoint or now.
    end: u64,
    torn: u64,
    /// Where the first record begins that cannot be judged: it is stored elsewhere too, or cannot be read in part.
    unsure: Option<u64>,
}

impl Judged {
    fn unsure_from(&mut self, position: u64) {
        self.unsure = Some(self.unsure.map_or(position, |first| first.min(position)));
    }
}

impl Loaded {
    /// Takes what the segment `name` holds beyond the checkpoint.
    ///
    /// # Errors
    /// [`Error::Disk`]: nothing of it is taken, and nothing of it is changed. [`Error::Directory`] for what a newer
    /// build wrote.
    pub(super) async fn load_segment(
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
        // What could not be synced need not be read.
        disk.check()?;
        let file = disk.open(&name.file_name(), OpenMode::ReadDirect).await?;
        self.check_head(&file, name).await?;
        let from = known.map_or(PAGE, |segment| segment.end);
        let scan = scan(&file, name, from).await?;
        drop(file);
        let judged = self.judge(number, name, &scan, from);
        let unsure = judged.unsure;
        let cut_at = unsure.is_none().then_some(judged.end);
        let sealed = settle(disk, name, cut_at).await?;
        self.report.scanned_bytes += scan.bytes;
        self.report.torn += judged.torn;
        self.report.replayed += judged.records.len() as u64;
        self.records.extend(judged.records);
        if !scan.unreadable.is_empty() {
            self.problem(format!(
                "{} has {} pages that cannot be read; it is looked at again at the next start",
                name.file_name(),
                scan.unreadable.len()
            ));
        } else if !sealed && unsure.is_none() {
            self.problem(format!(
                "space behind the records of {} is not given back yet",
                name.file_name()
            ));
        }
        let segment = Segment {
            seed: name.seed,
            end: unsure.map_or(judged.end, |unsure| unsure.min(judged.end)),
            sealed,
            records: 0,
            bytes: 0,
        };
        self.content.segments.insert(name.id, segment);
        self.content.changes += 1;
        Ok(())
    }

    async fn check_head(&mut self, file: &DiskFile, name: SegmentName) -> Result<(), Error> {
        let head = match file.read(0, PAGE_BYTES, AlignedBuf::unpooled(PAGE_BYTES)).await {
            Ok(head) => head,
            Err(error) if error.is_of_medium() => {
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
    fn judge(&mut self, number: DiskNumber, name: SegmentName, scan: &Scan, from: u64) -> Judged {
        let mut judged = Judged {
            records: Vec::new(),
            end: from,
            torn: 0,
            unsure: scan.unreadable.first().copied(),
        };
        for (at, found) in scan.found.iter().enumerate() {
            let is_noted = self.notes.contains(&Note::Suspect(found.attempt));
            let known = self.records.get_mut(&found.attempt);
            if let Some(known) = known
                && known.segment == name.id
                && known.extent.offset() == found.start
            {
                // The checkpoint was copied while records were entered, or an earlier start was not sure.
                if known.state == State::Suspect
                    && found.whole
                    && !is_noted
                    && let Some(extent) = Extent::between(found.start, found.end)
                {
                    *known = entry(number, name, found, extent);
                }
                judged.end = judged.end.max(known.extent.end());
                continue;
            }
            let next = scan.found.get(at + 1).map_or(u64::MAX, |next| next.start);
            let was_durable = found.start < scan.settled || is_noted;
            let is_unsure = !found.whole && scan.unreadable.range(found.start..next).next().is_some();
            if is_unsure {
                judged.unsure_from(found.start);
            }
            if !found.whole && !was_durable && !is_unsure {
                judged.torn += 1;
                continue;
            }
            let end = if found.whole {
                found.end
            } else {
                damaged_end(found, next)
            };
            let Some(extent) = Extent::between(found.start, end) else {
                continue;
            };
            if self.records.contains_key(&found.attempt)
                || judged
                    .records
                    .iter()
                    .any(|(attempt, _)| *attempt == found.attempt)
            {
                judged.unsure_from(found.start);
                self.problem(format!(
                    "attempt {} is stored twice; the second copy is left alone",
                    found.attempt
                ));
                continue;
            }
            judged.end = judged.end.max(extent.end());
            judged
                .records
                .push((found.attempt, entry(number, name, found, extent)));
        }
        judged
    }
}

fn entry(disk: DiskNumber, name: SegmentName, found: &Found, extent: Extent) -> Entry {
    Entry {
        disk,
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

/// Makes what was found in a segment durable, and cuts the rest off at `cut_at`, if given; whether it was cut. Nothing
/// is lost if it cannot be: the next start cuts again.
async fn settle(disk: &Disk, name: SegmentName, cut_at: Option<u64>) -> Result<bool, Error> {
    let file = disk.open(&name.file_name(), OpenMode::Update).await?;
    file.sync().await?;
    disk.sync_directory().await?;
    match cut_at {
        Some(end) => Ok(file.cut(end).await.is_ok()),
        None => Ok(false),
    }
}
