//! Segments: append-only files of records. This is the disk format, in prose.
//!
//! A data directory holds, side by side:
//!
//! - `identity`: which disk of which node of which cluster this is ([`super::disk_identity`]);
//! - `segment-<id>-<seed>`: records, the bulk of everything;
//! - `journal-<number>`: what must be durable at once and is small: tombstones, epochs, suspects ([`super::journal`]);
//! - `checkpoint-<number>`: the index as of some journal, so that a start need not read everything
//!   ([`super::checkpoint`]).
//!
//! **A segment file**, in order:
//!
//! 1. One page of head: tag, version, cluster, node, disk, id, seed. For people and tools: nothing depends on it, since
//!    id and seed are in the file's name as well, so that one rotten page does not cost a segment.
//! 2. Records one behind the other, each a whole number of pages ([`super::record`]): header, payload, trailer. Pages,
//!    because bulk is written around the page cache; one behind the other, because that is what disks do best.
//! 3. Nothing that counts: space that was allocated ahead, remains of an abandoned record.
//!
//! **The seed** is a random number per file which takes part in the checksum of every header and trailer, together with
//! the position. So bytes that lie in the wrong place, remains of an earlier file in recycled disk blocks, and payload
//! that a client made to look like a record (a backup of a data directory, say) are never taken for records.
//!
//! **One writer at a time.** A writer takes a segment from the disk's idle ones, or a new one, and gives it back only
//! when its record is synced or abandoned. An abandoned record's space is used again by the next. So at any moment all
//! records of a segment are durable except at most the last write; and each header says up to where (`settled`), which
//! tells recovery whether a damaged record was cut short by a crash (behind it) or has rotted (before it).
//!
//! **Growth.** Space is allocated record by record, ahead of the writes, so that a full disk is noticed before the
//! first byte and records lie in one piece. A segment takes no further record once it is `segment_bytes` long; it is
//! then sealed: cut behind its last record. Recovery seals everything it finds, so that no file is ever written to by
//! two processes.
//!
//! **Shrinking.** A dropped record becomes a hole (after its tombstone is durable). A sealed segment without records is
//! removed. Ids are never used again.

use bytes::{Buf, BufMut};
use common::disk::buffer::AlignedBuf;
use common::disk::{Disk, DiskFile, OpenMode};
use common::ids::{ClusterId, DiskId, NodeId};

use super::error::Error;
use super::index::SegmentId;
use super::record::RecordPlace;
use super::schema::{FORMAT_VERSION, PAGE, SEGMENT_TAG, Unreadable, close_head, open_head};

const NAME_PREFIX: &str = "segment-";

/// A segment file's name, which holds what its records' checksums need.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct SegmentName {
    pub(super) id: SegmentId,
    pub(super) seed: u64,
}

impl SegmentName {
    pub(super) fn file_name(self) -> String {
        format!("{NAME_PREFIX}{:016x}-{:016x}", self.id.0, self.seed)
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        let (id, seed) = name.strip_prefix(NAME_PREFIX)?.split_once('-')?;
        let number = |text: &str| {
            let plain = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            plain.then(|| u64::from_str_radix(text, 16).ok()).flatten()
        };
        Some(Self {
            id: SegmentId(number(id)?),
            seed: number(seed)?,
        })
    }

    /// What the checksums of a record at `offset` are bound to.
    pub(super) const fn place(self, offset: u64) -> RecordPlace {
        RecordPlace {
            seed: self.seed,
            segment: self.id.0,
            offset,
        }
    }
}

/// Whose segment it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Owner {
    pub(super) cluster: ClusterId,
    pub(super) node: NodeId,
    pub(super) disk: DiskId,
}

/// A segment that a writer holds, or that waits for one.
pub(super) struct OpenSegment {
    pub(super) name: SegmentName,
    pub(super) file: DiskFile,
    /// Where the next record begins; all before it is durable.
    pub(super) position: u64,
    /// Space is allocated up to here.
    pub(super) allocated: u64,
}

impl OpenSegment {
    /// Makes the file, durable as an entry; its head becomes durable with the first record.
    pub(super) async fn create(disk: &Disk, name: SegmentName, owner: Owner) -> Result<Self, Error> {
        let file = disk.open(&name.file_name(), OpenMode::Create).await?;
        let mut head = AlignedBuf::copied_from(&encode_head(name, owner));
        head.pad(PAGE as usize);
        file.write(0, vec![head.freeze()]).await?;
        disk.sync_directory().await?;
        Ok(Self {
            name,
            file,
            position: PAGE,
            allocated: PAGE,
        })
    }

    /// Makes sure that space is allocated for `bytes` more, in steps of at least `step`.
    pub(super) async fn allocate(&mut self, bytes: u64, step: u64) -> Result<(), Error> {
        let missing = (self.position + bytes).saturating_sub(self.allocated);
        if missing > 0 {
            let length = missing.max(step);
            self.file.allocate(self.allocated, length).await?;
            self.allocated += length;
        }
        Ok(())
    }
}

fn encode_head(name: SegmentName, owner: Owner) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_slice(&SEGMENT_TAG);
    out.put_u16(FORMAT_VERSION);
    out.put_slice(owner.cluster.bytes());
    out.put_u64(owner.node.get());
    out.put_slice(owner.disk.bytes());
    out.put_u64(name.id.0);
    out.put_u64(name.seed);
    close_head(out, name.seed, 0)
}

/// Checks the head of a segment; whose it is by its own word.
pub(super) fn decode_head(bytes: &[u8], name: SegmentName) -> Result<Owner, Unreadable> {
    let mut body = open_head(bytes, SEGMENT_TAG, name.seed, 0)?;
    let mut cluster = [0; 16];
    body.copy_to_slice(&mut cluster);
    let node = NodeId::new(body.get_u64());
    let mut disk = [0; 16];
    body.copy_to_slice(&mut disk);
    Ok(Owner {
        cluster: ClusterId::new(cluster),
        node,
        disk: DiskId::new(disk),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_heads_round_trip() {
        let name = SegmentName {
            id: SegmentId(7),
            seed: 0xfeed,
        };
        assert_eq!(name.file_name(), "segment-0000000000000007-000000000000feed");
        assert_eq!(SegmentName::parse(&name.file_name()), Some(name));
        for other in [
            "segment-7-feed",
            "segment-",
            "journal-0000000000000007",
            "segment-+00000000000007-000000000000feed",
        ] {
            assert_eq!(SegmentName::parse(other), None, "{other}");
        }
        let owner = Owner {
            cluster: ClusterId::new([1; 16]),
            node: NodeId::new(2),
            disk: DiskId::new([3; 16]),
        };
        let head = encode_head(name, owner);
        assert_eq!(decode_head(&head, name), Ok(owner));
        assert!(decode_head(&head, SegmentName { seed: 1, ..name }).is_err());
    }
}
