//! What a record says about itself: to callers, and on disk.
//!
//! A record is `header | payload | trailer`, begins at a page boundary and is a whole number of pages long. The header
//! is written first, so that a scan knows what it has met even when nothing behind it arrived; the trailer is written
//! last, because only then are length, digest and checksums known, and a record without one does not count. Two
//! layouts:
//!
//! - **bulk**: the header has a page of its own, the payload begins at the next page (so that it is written from the
//!   buffers it arrived in), the trailer begins at the page boundary behind it;
//! - **packed**, for payloads of at most one block: the payload follows the 512-byte header at once, the trailer
//!   follows at the next multiple of 8 bytes; the record is written in one piece from one buffer.
//!
//! Invariant: header and trailer decode only at the place, in the segment, for which they were encoded.

use bytes::{Buf, BufMut};
use common::ids::{AttemptId, ClusterId, Digest, DiskId, UploadNumber, VersionId};
use common::units::BLOCK_BYTES;

use super::schema::{
    BLOCK, BLOCKS_MAX, FORMAT_VERSION, HEAD_BYTES, PAGE, RECORD_TAG, TRAILER_TAG, Unreadable, check_version,
    close_head, open_head, place_checksum,
};

/// The longest path hint that is kept, in bytes.
pub const PATH_HINT_BYTES_MAX: usize = 384;

/// The longest payload that is packed: one block.
pub(super) const PACKED_BYTES_MAX: u64 = BLOCK;

const TRAILER_FIXED_BYTES: usize = 112;

/// What is known of a chunk before its first byte; goes into the record's header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordMeta {
    /// The try.
    pub attempt: AttemptId,
    /// The upload, as the cluster counts it.
    pub upload: UploadNumber,
    /// The version the chunk belongs to.
    pub version: VersionId,
    /// The chunk's place in the version.
    pub index: u32,
    /// For the operator who has lost everything else; cut at a character boundary where it is too long.
    pub path_hint: String,
}

/// A record that is on stable storage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    /// The try.
    pub attempt: AttemptId,
    /// The upload, as the cluster counts it.
    pub upload: UploadNumber,
    /// The version the chunk belongs to.
    pub version: VersionId,
    /// The chunk's place in the version.
    pub index: u32,
    /// Where it is.
    pub disk: DiskId,
    /// Bytes of payload.
    pub length: u64,
    /// The chunk's digest as its writer stated it. Not computed here: blocks are checked by their checksums, the
    /// digest is checked end to end by the client.
    pub digest: Digest,
}

/// One line of the inventory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InventoryItem {
    /// The try.
    pub attempt: AttemptId,
    /// The upload, as the cluster counts it.
    pub upload: UploadNumber,
    /// The version the chunk belongs to.
    pub version: VersionId,
    /// The chunk's place in the version.
    pub index: u32,
    /// Where it is.
    pub disk: DiskId,
    /// Bytes of payload.
    pub length: u64,
    /// Found damaged: kept aside, not served, to be replaced from another copy and then dropped.
    pub suspect: bool,
}

/// How a record's parts lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Layout {
    /// Parts at page boundaries.
    Bulk,
    /// Parts close together.
    Packed,
}

impl Layout {
    pub(super) const fn code(self) -> u8 {
        match self {
            Layout::Bulk => 1,
            Layout::Packed => 2,
        }
    }

    pub(super) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Layout::Bulk),
            2 => Some(Layout::Packed),
            _ => None,
        }
    }

    /// From the record's start to its payload.
    pub(super) const fn payload_at(self) -> u64 {
        match self {
            Layout::Bulk => PAGE,
            Layout::Packed => HEAD_BYTES as u64,
        }
    }

    /// From the record's start to its trailer.
    pub(super) const fn trailer_at(self, length: u64) -> u64 {
        match self {
            Layout::Bulk => PAGE + length.next_multiple_of(PAGE),
            Layout::Packed => HEAD_BYTES as u64 + length.next_multiple_of(8),
        }
    }

    /// Bytes of the whole record.
    pub(super) const fn record_bytes(self, length: u64) -> u64 {
        let blocks = length.div_ceil(BLOCK) as usize;
        (self.trailer_at(length) + trailer_bytes(blocks) as u64).next_multiple_of(PAGE)
    }
}

pub(super) const fn trailer_bytes(blocks: usize) -> usize {
    TRAILER_FIXED_BYTES + 8 * blocks
}

/// The place of a record, of which its checksums are part.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordPlace {
    pub(super) seed: u64,
    pub(super) segment: u64,
    pub(super) offset: u64,
}

/// A record's header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) cluster: ClusterId,
    pub(super) layout: Layout,
    pub(super) meta: RecordMeta,
    /// The payload's length, or the most it can be where it was not known yet.
    pub(super) length_max: u64,
    /// All before this position of the segment was durable when the record was begun. So what is damaged before it
    /// has rotted, and what is incomplete behind it was cut short.
    pub(super) settled: u64,
}

impl Header {
    /// [`HEAD_BYTES`] of header.
    pub(super) fn encode(&self, place: RecordPlace) -> Vec<u8> {
        let hint = cut(&self.meta.path_hint, PATH_HINT_BYTES_MAX);
        let mut out = Vec::with_capacity(HEAD_BYTES);
        out.put_slice(&RECORD_TAG);
        out.put_u16(FORMAT_VERSION);
        out.put_u16(u16::from(self.layout.code()));
        out.put_u32(BLOCK_BYTES as u32);
        out.put_slice(self.cluster.bytes());
        out.put_slice(&self.meta.attempt.to_bytes());
        out.put_u64(self.meta.upload.get());
        out.put_u64(self.meta.version.get());
        out.put_u32(self.meta.index);
        out.put_u32(hint.len() as u32);
        out.put_u64(self.length_max);
        out.put_u64(self.settled);
        out.put_u64(place.segment);
        out.put_u64(place.offset);
        out.put_slice(hint.as_bytes());
        close_head(out, place.seed, place.offset)
    }

    pub(super) fn decode(bytes: &[u8], place: RecordPlace) -> Result<Self, Unreadable> {
        let mut body = open_head(bytes, RECORD_TAG, place.seed, place.offset)?;
        let layout = u8::try_from(body.get_u16()).ok().and_then(Layout::from_code);
        let block_bytes = body.get_u32();
        let cluster = ClusterId::new(take(&mut body));
        let attempt = AttemptId::from_bytes(take(&mut body));
        let upload = UploadNumber::new(body.get_u64());
        let version = VersionId::new(body.get_u64());
        let index = body.get_u32();
        let hint_bytes = body.get_u32() as usize;
        let length_max = body.get_u64();
        let settled = body.get_u64();
        let segment = body.get_u64();
        let offset = body.get_u64();
        let hint = body.get(..hint_bytes).ok_or(Unreadable::Damaged)?;
        let fits = block_bytes == BLOCK_BYTES as u32
            && segment == place.segment
            && offset == place.offset
            && length_max <= u64::from(BLOCKS_MAX) * BLOCK;
        if !fits {
            return Err(Unreadable::Damaged);
        }
        Ok(Self {
            cluster,
            layout: layout.ok_or(Unreadable::Damaged)?,
            meta: RecordMeta {
                attempt,
                upload,
                version,
                index,
                path_hint: String::from_utf8_lossy(hint).into_owned(),
            },
            length_max,
            settled,
        })
    }
}

/// A record's trailer. It repeats what the index needs, so that a record whose header rotted is still known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Trailer {
    pub(super) layout: Layout,
    pub(super) attempt: AttemptId,
    pub(super) upload: UploadNumber,
    pub(super) version: VersionId,
    pub(super) index: u32,
    pub(super) length: u64,
    pub(super) digest: Digest,
    /// One per block.
    pub(super) checksums: Vec<u64>,
}

impl Trailer {
    pub(super) fn encode(&self, place: RecordPlace) -> Vec<u8> {
        let mut out = Vec::with_capacity(trailer_bytes(self.checksums.len()));
        out.put_slice(&TRAILER_TAG);
        out.put_u16(FORMAT_VERSION);
        out.put_u16(u16::from(self.layout.code()));
        out.put_u32(self.checksums.len() as u32);
        out.put_slice(&self.attempt.to_bytes());
        out.put_u64(self.upload.get());
        out.put_u64(self.version.get());
        out.put_u32(self.index);
        out.put_u32(0);
        out.put_u64(place.offset);
        out.put_u64(self.length);
        out.put_slice(self.digest.bytes());
        for sum in &self.checksums {
            out.put_u64(*sum);
        }
        let sum = place_checksum(place.seed, place.offset, &out);
        out.put_u64(sum);
        out
    }

    /// How long the trailer is that begins with `bytes` (at least [`TRAILER_FIXED_BYTES`] of it), if it is one.
    pub(super) fn announced_bytes(bytes: &[u8]) -> Option<usize> {
        let mut rest = bytes.strip_prefix(&TRAILER_TAG)?.get(4..)?;
        let blocks = rest.try_get_u32().ok()?;
        (1..=BLOCKS_MAX)
            .contains(&blocks)
            .then(|| trailer_bytes(blocks as usize))
    }

    /// Where the record begins whose trailer begins with `bytes`, by its own word.
    pub(super) fn announced_offset(bytes: &[u8]) -> Option<u64> {
        bytes.get(56..)?.try_get_u64().ok()
    }

    pub(super) fn decode(bytes: &[u8], place: RecordPlace) -> Result<Self, Unreadable> {
        let length = Self::announced_bytes(bytes).ok_or(Unreadable::Damaged)?;
        let whole = bytes.get(..length).ok_or(Unreadable::Damaged)?;
        let (body, mut sum) = whole.split_at_checked(length - 8).ok_or(Unreadable::Damaged)?;
        if sum.get_u64() != place_checksum(place.seed, place.offset, body) {
            return Err(Unreadable::Damaged);
        }
        let mut body = body.get(TRAILER_TAG.len()..).ok_or(Unreadable::Damaged)?;
        check_version(body.get_u16())?;
        let layout = u8::try_from(body.get_u16()).ok().and_then(Layout::from_code);
        let blocks = body.get_u32() as usize;
        let attempt = AttemptId::from_bytes(take(&mut body));
        let upload = UploadNumber::new(body.get_u64());
        let version = VersionId::new(body.get_u64());
        let index = body.get_u32();
        let _reserved = body.get_u32();
        let offset = body.get_u64();
        let length = body.get_u64();
        let digest = Digest::new(take(&mut body));
        let checksums: Vec<u64> = std::iter::from_fn(|| body.try_get_u64().ok()).collect();
        if offset != place.offset || checksums.len() != blocks || length.div_ceil(BLOCK) != blocks as u64 {
            return Err(Unreadable::Damaged);
        }
        Ok(Self {
            layout: layout.ok_or(Unreadable::Damaged)?,
            attempt,
            upload,
            version,
            index,
            length,
            digest,
            checksums,
        })
    }
}

fn take<const N: usize>(body: &mut &[u8]) -> [u8; N] {
    let mut out = [0; N];
    body.copy_to_slice(&mut out);
    out
}

/// The longest beginning of `text` of at most `bytes_max` bytes that ends at a character boundary.
fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::Epoch;

    fn place() -> RecordPlace {
        RecordPlace {
            seed: 5,
            segment: 6,
            offset: 8192,
        }
    }

    fn header() -> Header {
        Header {
            cluster: ClusterId::new([1; 16]),
            layout: Layout::Bulk,
            meta: RecordMeta {
                attempt: AttemptId::new(Epoch::new(2), 3),
                upload: UploadNumber::new(4),
                version: VersionId::new(5),
                index: 6,
                path_hint: "/lab/a".to_owned(),
            },
            length_max: 7,
            settled: 4096,
        }
    }

    fn trailer() -> Trailer {
        Trailer {
            layout: Layout::Bulk,
            attempt: header().meta.attempt,
            upload: UploadNumber::new(4),
            version: VersionId::new(5),
            index: 6,
            length: BLOCK + 1,
            digest: Digest::new([9; 32]),
            checksums: vec![10, 11],
        }
    }

    #[test]
    fn both_ends_round_trip_and_notice_every_flipped_bit() {
        let head = header().encode(place());
        assert_eq!(head.len(), HEAD_BYTES);
        assert_eq!(Header::decode(&head, place()), Ok(header()));
        let tail = trailer().encode(place());
        assert_eq!(tail.len(), trailer_bytes(2));
        assert_eq!(Trailer::decode(&tail, place()), Ok(trailer()));
        assert_eq!(Trailer::announced_offset(&tail), Some(8192));
        for at in 0..head.len().max(tail.len()) {
            for (bytes, is_head) in [(&head, true), (&tail, false)] {
                let mut bytes = bytes.clone();
                let Some(byte) = bytes.get_mut(at) else { continue };
                *byte ^= 0x10;
                if is_head {
                    assert_eq!(
                        Header::decode(&bytes, place()),
                        Err(Unreadable::Damaged),
                        "byte {at}"
                    );
                } else {
                    assert_eq!(
                        Trailer::decode(&bytes, place()),
                        Err(Unreadable::Damaged),
                        "byte {at}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_record_counts_only_in_its_place() {
        let head = header().encode(place());
        let tail = trailer().encode(place());
        let elsewhere = [
            RecordPlace { seed: 6, ..place() },
            RecordPlace {
                offset: 4096,
                ..place()
            },
        ];
        for other in elsewhere {
            assert!(Header::decode(&head, other).is_err());
            assert!(Trailer::decode(&tail, other).is_err());
        }
    }

    #[test]
    fn a_newer_version_is_not_damage() {
        let mut head = header().encode(place());
        head[9] = 2;
        let sum = place_checksum(5, 8192, &head[..HEAD_BYTES - 8]);
        head[HEAD_BYTES - 8..].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(Header::decode(&head, place()), Err(Unreadable::Newer(2)));
    }

    #[test]
    fn long_hints_are_cut_between_characters() {
        let mut long = header();
        long.meta.path_hint = "\u{e4}".repeat(PATH_HINT_BYTES_MAX);
        let read = Header::decode(&long.encode(place()), place()).unwrap();
        assert_eq!(read.meta.path_hint, "\u{e4}".repeat(PATH_HINT_BYTES_MAX / 2));
        assert_eq!(cut("a\u{e4}", 2), "a");
    }

    #[test]
    fn lengths_are_whole_pages() {
        assert_eq!(Layout::Packed.record_bytes(1024), PAGE);
        assert_eq!(Layout::Packed.record_bytes(PACKED_BYTES_MAX), 17 * PAGE);
        assert_eq!(Layout::Bulk.record_bytes(1), 3 * PAGE);
        assert_eq!(Layout::Bulk.record_bytes(64 << 20), (64 << 20) + 4 * PAGE);
    }
}
