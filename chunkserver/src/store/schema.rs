//! Tags, versions and arithmetic of everything the store writes. All numbers are big endian.
//!
//! | tag | where | what |
//! |---|---|---|
//! | `DBFS.seg` | first page of a segment file | which segment of which disk |
//! | `DBFS.rec` | first 512 bytes of a record | header |
//! | `DBFS.end` | behind a record's payload | trailer |
//! | `DBFS.jnl` | every page of a journal | tombstones, epochs, suspects |
//! | `DBFS.chk` | first page of a checkpoint | the index as of a journal |
//!
//! Each carries a version behind its tag. A change adds a version here, a decoder for the old one, and a frozen
//! fixture in `tests/` (P12). What is newer than this build is refused, never taken for damage.

use bytes::Buf;
use common::checksum::crc64;
use common::disk::PAGE_BYTES;
use common::units::{BLOCK_BYTES, CHUNK_BYTES_MAX};

pub(super) const SEGMENT_TAG: [u8; 8] = *b"DBFS.seg";
pub(super) const RECORD_TAG: [u8; 8] = *b"DBFS.rec";
pub(super) const TRAILER_TAG: [u8; 8] = *b"DBFS.end";
pub(super) const JOURNAL_TAG: [u8; 8] = *b"DBFS.jnl";
pub(super) const CHECKPOINT_TAG: [u8; 8] = *b"DBFS.chk";

/// The version which this build writes, of everything above.
pub(super) const FORMAT_VERSION: u16 = 1;

/// Fixed-size heads (segment, record, checkpoint) with their checksum in the last 8 bytes.
pub(super) const HEAD_BYTES: usize = 512;

/// One page, as a position.
pub(super) const PAGE: u64 = PAGE_BYTES as u64;

/// One block, as a length.
pub(super) const BLOCK: u64 = BLOCK_BYTES as u64;

/// The most blocks a record has.
pub(super) const BLOCKS_MAX: u32 = (CHUNK_BYTES_MAX / BLOCK) as u32;

/// What cannot be decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unreadable {
    /// Not there, or damaged.
    Damaged,
    /// Whole, but written by a newer build.
    Newer(u16),
}

/// The checksum of `bytes` that belong at `offset` of the file whose seed is `seed`: bytes of another file, of an
/// earlier file, of another place, or made up by a client fail.
pub(super) fn place_checksum(seed: u64, offset: u64, bytes: &[u8]) -> u64 {
    crc64(bytes) ^ mix(seed ^ mix(offset))
}

const fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Closes a head: pads `out` with zeros and appends the checksum, so that it is [`HEAD_BYTES`] long.
pub(super) fn close_head(mut out: Vec<u8>, seed: u64, offset: u64) -> Vec<u8> {
    out.resize(HEAD_BYTES - 8, 0);
    let sum = place_checksum(seed, offset, &out);
    out.extend_from_slice(&sum.to_be_bytes());
    out
}

/// Checks tag, checksum and version of a head; what follows the version.
pub(super) fn open_head(bytes: &[u8], tag: [u8; 8], seed: u64, offset: u64) -> Result<&[u8], Unreadable> {
    let head = bytes.get(..HEAD_BYTES).ok_or(Unreadable::Damaged)?;
    let (body, mut sum) = head.split_at_checked(HEAD_BYTES - 8).ok_or(Unreadable::Damaged)?;
    let mut rest = body.strip_prefix(&tag).ok_or(Unreadable::Damaged)?;
    if sum.get_u64() != place_checksum(seed, offset, body) {
        return Err(Unreadable::Damaged);
    }
    check_version(rest.try_get_u16().map_err(|_| Unreadable::Damaged)?)?;
    Ok(rest)
}

pub(super) const fn check_version(version: u16) -> Result<(), Unreadable> {
    match version {
        FORMAT_VERSION => Ok(()),
        newer if newer > FORMAT_VERSION => Err(Unreadable::Newer(newer)),
        _ => Err(Unreadable::Damaged),
    }
}

/// A place in a segment, in pages: a segment is far shorter than 2^32 pages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Extent {
    /// The first page.
    pub(super) start: u32,
    /// How many.
    pub(super) count: u32,
}

impl Extent {
    /// From byte positions, both at page boundaries.
    pub(super) fn between(start: u64, end: u64) -> Option<Self> {
        Some(Self {
            start: u32::try_from(start / PAGE).ok()?,
            count: u32::try_from(end.checked_sub(start)? / PAGE).ok()?,
        })
    }

    pub(super) const fn offset(self) -> u64 {
        self.start as u64 * PAGE
    }

    pub(super) const fn bytes(self) -> u64 {
        self.count as u64 * PAGE
    }

    pub(super) const fn end(self) -> u64 {
        self.offset() + self.bytes()
    }
}
