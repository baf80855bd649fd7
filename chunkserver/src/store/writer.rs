//! Writing one record.
//!
//! Blocks are checked when they arrive and go to the disk from the memory they arrived in. A record of at most 1 MiB
//! is held until its end and written in one piece; a longer one is written as it comes, a few writes ahead. Nothing is
//! visible before [`Writer::finish`] has synced it.
//!
//! Invariant: a segment goes back to its disk only after all writes into it have answered, whatever became of the
//! record and of those who waited for it. So the end of a record (good or bad) runs in a task of its own.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use common::checksum::block_checksum;
use common::disk::Pending;
use common::disk::buffer::AlignedBuf;
use common::fail;
use common::ids::Digest;
use common::units::{BLOCK_BYTES, CHUNK_BYTES_MAX};

use super::Inner;
use super::disk::StoreDisk;
use super::error::Error;
use super::index::{Entry, State};
use super::packer::Parcel;
use super::reclaim;
use super::record::{Header, Layout, PACKED_BYTES_MAX, RecordMeta, Stored, Trailer};
use super::schema::{BLOCK, Extent, PAGE};
use super::segment::OpenSegment;
use super::space::Promise;

/// A record up to this length is written in one piece; longer ones in pieces of at least this.
const PIECE_BYTES: u64 = 1 << 20;
/// Writes of one record that run at once.
const WRITES_IN_FLIGHT_MAX: usize = 4;

/// What [`super::Store::begin`] answers.
#[derive(Debug)]
pub enum Begun {
    /// Go on and write.
    Writing(Writer),
    /// The attempt is stored already, for the same upload, version and index.
    Stored(Stored),
}

/// A record under way. Dropping it abandons the record: nothing becomes visible, the space is given back.
pub struct Writer {
    /// Present until finished.
    open: Option<Open>,
}

/// Everything about a record under way. Bulk records hold a segment, packed ones none.
pub(super) struct Open {
    pub(super) inner: Arc<Inner>,
    pub(super) disk: Arc<StoreDisk>,
    pub(super) meta: RecordMeta,
    pub(super) length_max: u64,
    pub(super) segment: Option<OpenSegment>,
    pub(super) promise: Promise,
    pub(super) progress: Progress,
}

/// What has arrived and what became of it.
#[derive(Default)]
pub(super) struct Progress {
    length: u64,
    checksums: Vec<u64>,
    /// Arrived, not written.
    waiting: Vec<Bytes>,
    waiting_bytes: u64,
    /// Payload bytes given to the disk; the header went with the first.
    written: u64,
    in_flight: VecDeque<Pending<Result<(), common::disk::Error>>>,
    /// Something was refused: nothing more is taken.
    failed: bool,
    /// The disk failed a write: its segment is not written to again.
    broken: bool,
}

impl Writer {
    pub(super) const fn new(open: Open) -> Self {
        Self { open: Some(open) }
    }

    /// Appends blocks: `bytes` is a whole number of 64 KiB blocks, only the record's last may be shorter, with one
    /// [`block_checksum`] each. They are checked here; the caller need not. Bytes whose memory begins at a page
    /// boundary (an `AlignedBuf` that was frozen, or a slice of it at whole blocks) are written without a copy.
    /// Waits while too many writes are under way. After an error only dropping the writer is left.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Invalid`] (more than `length_max`, blocks and checksums that do not match in
    /// number, anything behind a short block), [`Error::Disk`].
    pub async fn append(&mut self, bytes: Bytes, checksums: &[u64]) -> Result<(), Error> {
        let open = self.open.as_mut().ok_or(Error::Closed)?;
        let outcome = open.append(bytes, checksums).await;
        open.progress.failed |= outcome.is_err();
        outcome
    }

    /// Bytes of payload so far.
    pub fn length(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.progress.length)
    }

    /// The record is complete, and `digest` is what its client says of it: writes what is missing, syncs, and makes it
    /// visible. Once called it runs to its end, even if nobody waits for it. After an error nothing is visible.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty record, [`Error::Dropped`] if the attempt was dropped in the meantime,
    /// [`Error::Full`], [`Error::Unwritable`], [`Error::Disk`].
    pub async fn finish(mut self, digest: Digest) -> Result<Stored, Error> {
        let open = self.open.take().ok_or(Error::Closed)?;
        if open.segment.is_none() && open.is_storable() {
            return open.pack(digest)?.await;
        }
        let runtime = open.inner.runtime.clone();
        let end = runtime.spawn(open.finish(digest));
        end.await.map_err(|_| Error::Closed)?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        if open.segment.is_some() {
            let runtime = open.inner.runtime.clone();
            runtime.spawn(open.abandon());
        } else {
            open.disk
                .index
                .write(|content| content.writing.remove(&open.meta.attempt));
        }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let attempt = self.open.as_ref().map(|open| open.meta.attempt);
        f.debug_struct("Writer")
            .field("attempt", &attempt)
            .finish_non_exhaustive()
    }
}

impl Open {
    async fn append(&mut self, bytes: Bytes, checksums: &[u64]) -> Result<(), Error> {
        self.check(&bytes, checksums)?;
        let progress = &mut self.progress;
        progress.length += bytes.len() as u64;
        progress.checksums.extend_from_slice(checksums);
        progress.waiting_bytes += bytes.len() as u64;
        progress.waiting.push(bytes);
        let streams = self.segment.is_some() && self.length_max > PIECE_BYTES;
        let whole = progress.length.is_multiple_of(BLOCK);
        if streams && whole && progress.waiting_bytes >= PIECE_BYTES {
            self.write(None)?;
            self.let_writes_end(WRITES_IN_FLIGHT_MAX).await?;
        }
        Ok(())
    }

    fn check(&self, bytes: &Bytes, checksums: &[u64]) -> Result<(), Error> {
        let invalid = |reason: &str| {
            Err(Error::Invalid {
                reason: format!("attempt {}: {reason}", self.meta.attempt),
            })
        };
        let progress = &self.progress;
        if progress.failed {
            return invalid("nothing can be appended after an error");
        }
        if !progress.length.is_multiple_of(BLOCK) {
            return invalid("a short block must be the last");
        }
        if bytes.len().div_ceil(BLOCK_BYTES) != checksums.len() || bytes.is_empty() {
            return invalid("there must be one checksum for each block, and at least one block");
        }
        if progress.length + bytes.len() as u64 > self.length_max {
            return invalid("the chunk is longer than its grant allows");
        }
        let first = progress.checksums.len();
        for (at, (block, stated)) in bytes.chunks(BLOCK_BYTES).zip(checksums).enumerate() {
            let index = u32::try_from(first + at).unwrap_or(u32::MAX);
            if block_checksum(self.meta.attempt, index, block) != *stated {
                return Err(Error::Corrupt {
                    attempt: self.meta.attempt,
                    block: index,
                });
            }
        }
        Ok(())
    }

    /// Begins to write what waits; with `digest`, the trailer behind it.
    fn write(&mut self, digest: Option<Digest>) -> Result<(), Error> {
        let segment = self.segment.as_ref().ok_or(Error::Closed)?;
        let place = segment.name.place(segment.position);
        let progress = &mut self.progress;
        let mut parts = Vec::with_capacity(progress.waiting.len() + 3);
        let mut offset = segment.position + PAGE + progress.written;
        if progress.written == 0 {
            offset = segment.position;
            let header = Header {
                cluster: self.disk.owner.cluster,
                layout: Layout::Bulk,
                meta: self.meta.clone(),
                length_max: if digest.is_some() {
                    progress.length
                } else {
                    self.length_max
                },
                settled: segment.position,
            };
            let mut page = AlignedBuf::copied_from(&header.encode(place));
            page.pad(PAGE as usize);
            parts.push(page.freeze());
        }
        parts.append(&mut progress.waiting);
        progress.written += progress.waiting_bytes;
        progress.waiting_bytes = 0;
        if let Some(digest) = digest {
            let rest = split_off_last_page(&mut parts, progress.length);
            let trailer = Trailer {
                layout: Layout::Bulk,
                attempt: self.meta.attempt,
                upload: self.meta.upload,
                version: self.meta.version,
                index: self.meta.index,
                length: progress.length,
                digest,
                checksums: std::mem::take(&mut progress.checksums),
            };
            parts.push(last_part(&rest, &trailer.encode(place)));
        }
        progress.in_flight.push_back(segment.file.write(offset, parts));
        Ok(())
    }

    /// Waits until fewer than `count` writes are under way.
    async fn let_writes_end(&mut self, count: usize) -> Result<(), Error> {
        while self.progress.in_flight.len() >= count.max(1) {
            if let Some(write) = self.progress.in_flight.front_mut() {
                let outcome = write.await;
                self.progress.in_flight.pop_front();
                self.progress.broken |= outcome.is_err();
                outcome?;
            }
        }
        Ok(())
    }

    async fn finish(mut self, digest: Digest) -> Result<Stored, Error> {
        if !self.is_storable() {
            let reason = format!(
                "attempt {}: an empty or broken chunk cannot be stored",
                self.meta.attempt
            );
            self.abandon().await;
            return Err(Error::Invalid { reason });
        }
        let length = self.progress.length;
        let outcome = match self.write(Some(digest)) {
            Ok(()) => self.let_writes_end(1).await,
            Err(error) => Err(error),
        };
        fail::point("replica.stored:before");
        let outcome = match (outcome, &self.segment) {
            (Ok(()), Some(segment)) => segment.file.sync().await.map_err(Error::from),
            (outcome, _) => outcome,
        };
        match outcome {
            Ok(()) => self.enter(length, digest).await,
            Err(error) => {
                self.abandon().await;
                Err(error)
            }
        }
    }

    const fn is_storable(&self) -> bool {
        self.progress.length > 0 && !self.progress.failed
    }

    /// Hands a small record over; it is the packer's from then on.
    fn pack(self, digest: Digest) -> Result<impl Future<Output = Result<Stored, Error>> + Send, Error> {
        let packer = self.inner.handle(self.disk.number)?.packer.clone();
        let parcel = Parcel {
            meta: self.meta,
            payload: self.progress.waiting,
            length: self.progress.length,
            checksums: self.progress.checksums,
            digest,
            promise: self.promise,
        };
        Ok(packer.store(parcel))
    }

    /// The record is durable.
    async fn enter(self, length: u64, digest: Digest) -> Result<Stored, Error> {
        let mut segment = self.segment.ok_or(Error::Closed)?;
        let bytes = Layout::Bulk.record_bytes(length);
        let end = segment.position + bytes;
        let entry = Entry {
            disk: self.disk.number,
            segment: segment.name.id,
            extent: Extent::between(segment.position, end).ok_or(Error::Closed)?,
            length: u32::try_from(length).map_err(|_| Error::Closed)?,
            layout: Layout::Bulk,
            state: State::Stored,
            upload: self.meta.upload,
            version: self.meta.version,
            index: self.meta.index,
        };
        let outcome = self
            .disk
            .index
            .write(|content| content.enter(self.meta.attempt, entry));
        fail::point("replica.stored:after");
        self.promise.keep(bytes);
        segment.position = end;
        self.disk.release(segment).await;
        if outcome.is_err() {
            reclaim::punch_dropped(&self.disk).await;
        }
        outcome.map(|()| Stored {
            attempt: self.meta.attempt,
            upload: self.meta.upload,
            version: self.meta.version,
            index: self.meta.index,
            disk: self.disk.owner.disk,
            length,
            digest,
        })
    }

    /// Nothing of the record counts. Its segment goes back when the last write into it has answered.
    pub(super) async fn abandon(mut self) {
        let mut broken = self.progress.broken;
        for write in self.progress.in_flight.drain(..) {
            broken |= write.await.is_err();
        }
        self.disk
            .index
            .write(|content| content.writing.remove(&self.meta.attempt));
        drop(self.promise);
        if let Some(segment) = self.segment {
            if broken {
                self.disk.seal(segment).await;
            } else {
                self.disk.release(segment).await;
            }
        }
    }
}

/// Takes the bytes behind the last whole page of a payload of `length` off `parts`: fewer than a page.
fn split_off_last_page(parts: &mut Vec<Bytes>, length: u64) -> Bytes {
    let rest = (length % PAGE) as usize;
    match parts.pop() {
        Some(last) if rest > 0 && last.len() >= rest => {
            let whole = last.len() - rest;
            if whole > 0 {
                parts.push(last.slice(..whole));
            }
            last.slice(whole..)
        }
        Some(last) => {
            parts.push(last);
            Bytes::new()
        }
        None => Bytes::new(),
    }
}

/// The last bytes of the payload, filled up to a page, and the trailer, filled up to a page.
fn last_part(rest: &[u8], trailer: &[u8]) -> Bytes {
    let mut buffer = AlignedBuf::unpooled(PAGE as usize + trailer.len());
    // There is room: less than a page of rest, then the trailer.
    let _ = buffer.extend(rest);
    buffer.pad(PAGE as usize);
    let _ = buffer.extend(trailer);
    buffer.pad(PAGE as usize);
    buffer.freeze()
}

/// How a record of at most `length_max` is laid out.
pub(super) const fn layout_for(length_max: u64) -> Layout {
    if length_max <= PACKED_BYTES_MAX {
        Layout::Packed
    } else {
        Layout::Bulk
    }
}

/// Whether a chunk may be that long.
pub(super) const fn is_length(length_max: u64) -> bool {
    length_max > 0 && length_max <= CHUNK_BYTES_MAX
}
