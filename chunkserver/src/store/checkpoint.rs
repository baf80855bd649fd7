//! Checkpoints: one disk's part of the index as a file, so that a start reads only what came after.
//!
//! A file is one page of head and a body: `tag | version | cluster | disk | number | first journal needed | highest
//! segment | epoch | counts | body length | body checksum | head checksum`, then segments (25 bytes each), records
//! (58 bytes each) and tombstones (16 bytes each), filled up to a page.
//!
//! Making one, in this order and why:
//! 1. Turn the journal: the index now contains all of the earlier journals.
//! 2. Copy the index: segments first, then records in slices, so that nobody waits long for its lock, then tombstones.
//!    Every record before a segment's copied end was in the index by then, and is copied unless it is gone; a record
//!    that was entered later may be copied as well, and recovery meets it again in its segment. What changes while the
//!    copy is made has its note in the new journal.
//! 3. Sync segments that have holes by then, so that what the copy no longer names is gone for good.
//! 4. Write the file aside, sync it, rename it: the new one or none.
//! 5. Remove journals that neither this checkpoint nor the one before it needs, and the one before that. Two are
//!    kept, so that one rotten file costs a longer replay and nothing else.

use std::collections::BTreeSet;
use std::ops::Bound;

use bytes::{Buf, BufMut};
use common::checksum::{Crc64, crc64};
use common::disk::buffer::AlignedBuf;
use common::disk::{Disk, OpenMode, PAGE_BYTES};
use common::ids::{AttemptId, ClusterId, DiskId, Epoch, UploadNumber, VersionId};

use super::DiskHandle;
use super::disk_identity::replace;
use super::error::Error;
use super::index::{Content, DiskNumber, Entry, Segment, SegmentId, State};
use super::journal::{self, JOURNAL_BYTES};
use super::record::Layout;
use super::schema::{CHECKPOINT_TAG, Extent, FORMAT_VERSION, PAGE, Unreadable, close_head, open_head};
use super::segment::Owner;

const NAME_PREFIX: &str = "checkpoint-";
/// Records copied under one hold of the index's lock.
const SLICE_RECORDS: usize = if cfg!(test) { 4 } else { 4096 };
/// Read and written in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;
const SEGMENT_BYTES: usize = 25;
const RECORD_BYTES: usize = 58;
const TOMBSTONE_BYTES: usize = 16;
/// A body longer than this is taken for damage: 200 million records.
const BODY_BYTES_MAX: u64 = 12 << 30;

/// What a checkpoint says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Snapshot {
    /// Notes of lower journals are contained.
    pub(super) journal: u64,
    pub(super) highest_segment: u64,
    pub(super) epoch: Epoch,
    pub(super) segments: Vec<(SegmentId, Segment)>,
    pub(super) records: Vec<(AttemptId, Entry)>,
    pub(super) tombstones: Vec<AttemptId>,
}

/// Which checkpoints a disk has, oldest first, and which journals they need.
#[derive(Clone, Default, Debug)]
pub(super) struct Kept {
    pub(super) checkpoints: Vec<(u64, u64)>,
    pub(super) next_number: u64,
    /// [`super::index::DiskContent::changes`] at the last one.
    pub(super) changes: Option<u64>,
}

/// Makes a checkpoint of `handle`'s disk, if anything changed since the last.
pub(super) async fn make(handle: &DiskHandle) -> Result<(), Error> {
    let disk = &handle.disk;
    let _alone = handle
        .checkpoint_permit
        .acquire()
        .await
        .map_err(|_| Error::Closed)?;
    let mut kept = handle.kept.lock().clone();
    let changes = disk
        .index
        .read(|content| content.disks.get(&disk.number).map(|own| own.changes));
    if changes == kept.changes {
        return Ok(());
    }
    let journal = handle.journal.turn().await?;
    let number = kept.next_number;
    let file = copy_index(handle, journal, number).await;
    let holes = disk
        .index
        .write(|content| std::mem::take(&mut content.disk(disk.number).unsynced_holes));
    if let Err(error) = sync_holes(handle, &holes).await {
        disk.index
            .write(|content| content.disk(disk.number).unsynced_holes.extend(holes));
        return Err(error);
    }
    let bytes: usize = file.iter().map(AlignedBuf::len).sum();
    replace(&disk.disk, &file_name(number), file).await?;
    disk.space.add(bytes as u64);
    kept.next_number += 1;
    kept.checkpoints.push((number, journal));
    kept.changes = changes;
    *handle.kept.lock() = kept.clone();
    remove_old(handle, kept).await
}

/// The file of a checkpoint, in pieces.
async fn copy_index(handle: &DiskHandle, journal: u64, number: u64) -> Vec<AlignedBuf> {
    let disk = &handle.disk;
    let mut body = Body::default();
    let mut head = disk.index.write(|content| {
        trim_tombstones(content, disk.number);
        let own = content.disk(disk.number);
        for (id, segment) in &own.segments {
            encode_segment(&mut body, *id, segment);
        }
        Head {
            journal,
            highest_segment: own.highest_segment,
            epoch: own.epoch,
            segments: own.segments.len() as u64,
            ..Head::default()
        }
    });
    let mut after = None;
    loop {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut seen = 0;
        disk.index.read(|content| {
            let slice = content
                .records
                .range((from, Bound::Unbounded))
                .take(SLICE_RECORDS);
            for (attempt, entry) in slice {
                after = Some(*attempt);
                seen += 1;
                if entry.disk == disk.number {
                    encode_record(&mut body, *attempt, entry);
                    head.records += 1;
                }
            }
        });
        if seen < SLICE_RECORDS {
            break;
        }
        tokio::task::yield_now().await;
    }
    disk.index.read(|content| {
        let own = content.disks.get(&disk.number);
        for attempt in own.into_iter().flat_map(|own| own.tombstones.oldest_first()) {
            body.put(&attempt.to_bytes());
            head.tombstones += 1;
        }
    });
    body.close(head, disk.owner, number)
}

async fn sync_holes(handle: &DiskHandle, segments: &BTreeSet<SegmentId>) -> Result<(), Error> {
    for id in segments {
        match handle.disk.open_for_change(*id).await {
            Ok(file) => file.sync().await?,
            // Removed since: as good as punched.
            Err(Error::Disk(common::disk::Error::NotFound { .. })) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn trim_tombstones(content: &mut Content, number: DiskNumber) {
    if content.held().is_some() {
        // A record that is not known yet may need its tombstone.
        return;
    }
    let Content { records, disks, .. } = content;
    if let Some(own) = disks.get_mut(&number) {
        own.tombstones.trim(|attempt| records.contains_key(&attempt));
    }
}

async fn remove_old(handle: &DiskHandle, mut kept: Kept) -> Result<(), Error> {
    let disk = &handle.disk;
    while kept.checkpoints.len() > 2 {
        let (number, _) = kept.checkpoints.remove(0);
        let length = match disk.disk.open(&file_name(number), OpenMode::Read).await {
            Ok(file) => file.length().await.unwrap_or(0),
            Err(_) => 0,
        };
        remove_if_there(&disk.disk, &file_name(number)).await?;
        disk.space.remove(length);
        *handle.kept.lock() = kept.clone();
    }
    let (oldest, needed) = kept.checkpoints.first().copied().unwrap_or_default();
    for name in disk.disk.list().await? {
        // Damaged or unreadable when this process began: two that are good and newer take its place.
        let is_outdated = parse_name(&name).is_some_and(|number| number < oldest);
        if is_outdated && kept.checkpoints.len() > 1 {
            remove_if_there(&disk.disk, &name).await?;
        }
        if journal::parse_name(&name).is_some_and(|number| number < needed) {
            remove_if_there(&disk.disk, &name).await?;
            disk.space.remove(JOURNAL_BYTES);
        }
    }
    Ok(())
}

pub(super) async fn remove_if_there(disk: &Disk, name: &str) -> Result<(), Error> {
    match disk.remove(name).await {
        Ok(()) | Err(common::disk::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn file_name(number: u64) -> String {
    format!("{NAME_PREFIX}{number:016x}")
}

pub(super) fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(NAME_PREFIX)?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok())?
}

/// Reads the checkpoint `number`. The inner error says that it does not count.
pub(super) async fn read(
    disk: &Disk,
    owner: Owner,
    disk_number: DiskNumber,
    number: u64,
) -> Result<Result<Snapshot, Unreadable>, Error> {
    let file = disk.open(&file_name(number), OpenMode::ReadDirect).await?;
    let head = file.read(0, PAGE_BYTES, AlignedBuf::unpooled(PAGE_BYTES)).await?;
    let head = match Head::decode(head.as_slice(), owner, number) {
        Ok(head) => head,
        Err(unreadable) => return Ok(Err(unreadable)),
    };
    if head.body_bytes > BODY_BYTES_MAX || file.length().await? < PAGE + head.body_bytes {
        return Ok(Err(Unreadable::Damaged));
    }
    let mut body = Vec::new();
    while (body.len() as u64) < head.body_bytes {
        let piece = file
            .read(
                PAGE + body.len() as u64,
                PIECE_BYTES,
                AlignedBuf::unpooled(PIECE_BYTES),
            )
            .await?;
        if piece.is_empty() {
            return Ok(Err(Unreadable::Damaged));
        }
        body.extend_from_slice(piece.as_slice());
    }
    body.truncate(usize::try_from(head.body_bytes).unwrap_or(usize::MAX));
    Ok(head.open(&body, disk_number).ok_or(Unreadable::Damaged))
}

/// Everything behind the head, in pieces.
#[derive(Default)]
struct Body {
    pieces: Vec<AlignedBuf>,
    bytes: u64,
    checksum: Crc64,
}

impl Body {
    fn put(&mut self, mut bytes: &[u8]) {
        self.checksum.update(bytes);
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = self.pieces.last().map_or(0, |piece| PIECE_BYTES - piece.len());
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            if let Some(piece) = self.pieces.last_mut() {
                // There is room: it was measured above.
                let _ = piece.extend(now);
            }
            if !rest.is_empty() {
                self.pieces.push(AlignedBuf::unpooled(PIECE_BYTES));
            }
            bytes = rest;
        }
    }

    /// The whole file, with `head` in front.
    fn close(self, mut head: Head, owner: Owner, number: u64) -> Vec<AlignedBuf> {
        head.body_bytes = self.bytes;
        head.body_checksum = self.checksum.finish();
        let mut pieces = vec![AlignedBuf::copied_from(&head.encode(owner, number))];
        pieces.extend(self.pieces);
        for piece in &mut pieces {
            piece.pad(PAGE_BYTES);
        }
        pieces
    }
}

#[derive(Clone, Copy, Default)]
struct Head {
    journal: u64,
    highest_segment: u64,
    epoch: Epoch,
    segments: u64,
    records: u64,
    tombstones: u64,
    body_bytes: u64,
    body_checksum: u64,
}

impl Head {
    fn decode(bytes: &[u8], owner: Owner, number: u64) -> Result<Self, Unreadable> {
        let mut body = open_head(bytes, CHECKPOINT_TAG, number, 0)?;
        let mut cluster = [0; 16];
        body.copy_to_slice(&mut cluster);
        let mut disk = [0; 16];
        body.copy_to_slice(&mut disk);
        let is_ours = ClusterId::new(cluster) == owner.cluster && DiskId::new(disk) == owner.disk;
        if !is_ours || body.get_u64() != number {
            return Err(Unreadable::Damaged);
        }
        Ok(Self {
            journal: body.get_u64(),
            highest_segment: body.get_u64(),
            epoch: Epoch::new(body.get_u64()),
            segments: body.get_u64(),
            records: body.get_u64(),
            tombstones: body.get_u64(),
            body_bytes: body.get_u64(),
            body_checksum: body.get_u64(),
        })
    }

    fn encode(&self, owner: Owner, number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_slice(&CHECKPOINT_TAG);
        out.put_u16(FORMAT_VERSION);
        out.put_slice(owner.cluster.bytes());
        out.put_slice(owner.disk.bytes());
        out.put_u64(number);
        out.put_u64(self.journal);
        out.put_u64(self.highest_segment);
        out.put_u64(self.epoch.get());
        out.put_u64(self.segments);
        out.put_u64(self.records);
        out.put_u64(self.tombstones);
        out.put_u64(self.body_bytes);
        out.put_u64(self.body_checksum);
        close_head(out, number, 0)
    }

    fn open(self, body: &[u8], disk: DiskNumber) -> Option<Snapshot> {
        if crc64(body) != self.body_checksum {
            return None;
        }
        let split = |rest: &mut &[u8], count: u64, unit: usize| -> Option<Vec<u8>> {
            let length = usize::try_from(count).ok()?.checked_mul(unit)?;
            let (part, behind) = rest.split_at_checked(length)?;
            *rest = behind;
            Some(part.to_vec())
        };
        let mut rest = body;
        let segments = split(&mut rest, self.segments, SEGMENT_BYTES)?;
        let records = split(&mut rest, self.records, RECORD_BYTES)?;
        let tombstones = split(&mut rest, self.tombstones, TOMBSTONE_BYTES)?;
        let attempt = |bytes: &[u8]| AttemptId::try_from(bytes).ok();
        Some(Snapshot {
            journal: self.journal,
            highest_segment: self.highest_segment,
            epoch: self.epoch,
            segments: segments.chunks_exact(SEGMENT_BYTES).map(decode_segment).collect(),
            records: records
                .chunks_exact(RECORD_BYTES)
                .map(|bytes| decode_record(bytes, disk))
                .collect::<Option<_>>()?,
            tombstones: tombstones
                .chunks_exact(TOMBSTONE_BYTES)
                .map(attempt)
                .collect::<Option<_>>()?,
        })
    }
}

fn encode_segment(body: &mut Body, id: SegmentId, segment: &Segment) {
    let mut bytes = [0; SEGMENT_BYTES];
    let mut out = bytes.as_mut_slice();
    out.put_u64(id.0);
    out.put_u64(segment.seed);
    out.put_u64(segment.end);
    out.put_u8(u8::from(segment.sealed));
    body.put(&bytes);
}

/// Counts of records are made anew from the records.
fn decode_segment(mut bytes: &[u8]) -> (SegmentId, Segment) {
    let id = SegmentId(bytes.get_u64());
    let segment = Segment {
        seed: bytes.get_u64(),
        end: bytes.get_u64(),
        sealed: bytes.get_u8() != 0,
        records: 0,
        bytes: 0,
    };
    (id, segment)
}

fn encode_record(body: &mut Body, attempt: AttemptId, entry: &Entry) {
    let mut bytes = [0; RECORD_BYTES];
    let mut out = bytes.as_mut_slice();
    out.put_slice(&attempt.to_bytes());
    out.put_u64(entry.upload.get());
    out.put_u64(entry.version.get());
    out.put_u32(entry.index);
    out.put_u64(entry.segment.0);
    out.put_u32(entry.extent.start);
    out.put_u32(entry.extent.count);
    out.put_u32(entry.length);
    out.put_u8(entry.layout.code());
    out.put_u8(match entry.state {
        State::Stored => 1,
        State::Suspect => 2,
        State::Dropped => 3,
    });
    body.put(&bytes);
}

fn decode_record(mut bytes: &[u8], disk: DiskNumber) -> Option<(AttemptId, Entry)> {
    let mut attempt = [0; 16];
    bytes.copy_to_slice(&mut attempt);
    let entry = Entry {
        disk,
        upload: UploadNumber::new(bytes.get_u64()),
        version: VersionId::new(bytes.get_u64()),
        index: bytes.get_u32(),
        segment: SegmentId(bytes.get_u64()),
        extent: Extent {
            start: bytes.get_u32(),
            count: bytes.get_u32(),
        },
        length: bytes.get_u32(),
        layout: Layout::from_code(bytes.get_u8())?,
        state: match bytes.get_u8() {
            1 => State::Stored,
            2 => State::Suspect,
            3 => State::Dropped,
            _ => return None,
        },
    };
    Some((AttemptId::from_bytes(attempt), entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::NodeId;

    #[test]
    fn a_long_body_is_cut_into_whole_pieces() {
        let owner = Owner {
            cluster: ClusterId::new([1; 16]),
            node: NodeId::new(2),
            disk: DiskId::new([3; 16]),
        };
        let mut body = Body::default();
        let mut all = Vec::new();
        for number in 0..(3 * PIECE_BYTES / 58) as u64 {
            let bytes = [number as u8; 58];
            body.put(&bytes);
            all.extend_from_slice(&bytes);
        }
        let pieces = body.close(Head::default(), owner, 1);
        assert!(pieces.iter().all(|piece| piece.len() % PAGE_BYTES == 0));
        let written: Vec<u8> = pieces
            .iter()
            .flat_map(|piece| piece.as_slice().to_vec())
            .collect();
        assert!(written[PAGE_BYTES..][..all.len()] == all);
        let head = Head::decode(&written, owner, 1).unwrap();
        assert_eq!(
            (head.body_bytes, head.body_checksum),
            (all.len() as u64, crc64(&all))
        );
    }

    #[test]
    fn snapshots_round_trip_and_notice_damage() {
        let owner = Owner {
            cluster: ClusterId::new([1; 16]),
            node: NodeId::new(2),
            disk: DiskId::new([3; 16]),
        };
        let segment = Segment {
            seed: 4,
            end: 8192,
            sealed: true,
            records: 0,
            bytes: 0,
        };
        let attempt = |sequence| AttemptId::new(Epoch::new(6), sequence);
        let entry = |state| Entry {
            disk: DiskNumber(7),
            segment: SegmentId(8),
            extent: Extent { start: 1, count: 3 },
            length: 9,
            layout: Layout::Bulk,
            state,
            upload: UploadNumber::new(10),
            version: VersionId::new(11),
            index: 12,
        };
        let snapshot = Snapshot {
            journal: 13,
            highest_segment: 14,
            epoch: Epoch::new(15),
            segments: vec![(SegmentId(8), segment)],
            records: vec![
                (attempt(1), entry(State::Stored)),
                (attempt(2), entry(State::Suspect)),
                (attempt(3), entry(State::Dropped)),
            ],
            tombstones: vec![attempt(3)],
        };
        let mut body = Body::default();
        for (id, segment) in &snapshot.segments {
            encode_segment(&mut body, *id, segment);
        }
        for (attempt, entry) in &snapshot.records {
            encode_record(&mut body, *attempt, entry);
        }
        body.put(&attempt(3).to_bytes());
        let head = Head {
            journal: 13,
            highest_segment: 14,
            epoch: Epoch::new(15),
            segments: 1,
            records: 3,
            tombstones: 1,
            ..Head::default()
        };
        let pieces = body.close(head, owner, 16);
        let bytes: Vec<u8> = pieces
            .iter()
            .flat_map(|piece| piece.as_slice().to_vec())
            .collect();
        let open = |bytes: &[u8]| {
            let head = Head::decode(bytes, owner, 16).ok()?;
            let end = PAGE_BYTES + head.body_bytes as usize;
            head.open(&bytes[PAGE_BYTES..end], DiskNumber(7))
        };
        assert_eq!(open(&bytes), Some(snapshot));
        for at in (0..200).chain(PAGE_BYTES..PAGE_BYTES + 200) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(open(&damaged), None, "byte {at}");
        }
    }
}
