//! Reading records: whole blocks, each checked against the checksum that its client stated, which travels on with it.
//!
//! Invariant (P3, P5): no block leaves here unchecked. A block that fails is read once more around the cache; if it
//! fails again the record is marked suspect, listed, and not served any more, by this process or a later one. Whether
//! the attempt was dropped under the reader's feet is looked at first: a hole is not damage.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use common::checksum::block_checksum;
use common::disk::buffer::{AlignedBuf, BufferSize};
use common::disk::{DiskFile, PAGE_BYTES};
use common::ids::AttemptId;
use common::units::BLOCK_BYTES;

use super::disk::ReadFrom;
use super::error::Error;
use super::index::{Entry, Note};
use super::record::{Header, RecordPlace, Stored, Trailer, trailer_bytes};
use super::schema::{BLOCK, PAGE};
use super::{DiskHandle, Inner};

/// Blocks that [`Reader::next`] answers at once, at most: 1 MiB.
pub const BLOCKS_PER_PART_MAX: u32 = 16;

/// Whole blocks of a record.
#[derive(Clone, Debug)]
pub struct Part {
    /// The place in the chunk of the first of them.
    pub first_block: u32,
    /// The blocks, one behind the other; only the record's last is shorter than 64 KiB.
    pub bytes: Bytes,
    /// One [`block_checksum`] per block.
    pub checksums: Vec<u64>,
}

/// A read under way over the blocks that cover a range.
pub struct Reader {
    inner: Arc<Inner>,
    record: Record,
    next_block: u32,
    end_block: u32,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("attempt", &self.record.attempt)
            .field("blocks", &(self.next_block..self.end_block))
            .finish_non_exhaustive()
    }
}

/// A record with its trailer read.
#[derive(Clone)]
struct Record {
    attempt: AttemptId,
    entry: Entry,
    handle: DiskHandle,
    trailer: Arc<Trailer>,
}

impl Reader {
    /// Of which record.
    pub fn stored(&self) -> Stored {
        self.record.stored()
    }

    /// The next blocks, at most [`BLOCKS_PER_PART_MAX`]; `None` behind the range. Waits for a buffer while too much
    /// is being read.
    ///
    /// # Errors
    /// [`Error::Corrupt`] (the record is kept aside from now on), [`Error::Dropped`] if it was dropped in the
    /// meantime, [`Error::Disk`].
    pub async fn next(&mut self) -> Result<Option<Part>, Error> {
        let count = (self.end_block - self.next_block).min(BLOCKS_PER_PART_MAX);
        if count == 0 {
            return Ok(None);
        }
        let first_block = self.next_block;
        let bytes = self.inner.read_blocks(&self.record, first_block, count).await?;
        self.next_block += count;
        let range = first_block as usize..(first_block + count) as usize;
        let checksums = self.record.trailer.checksums.get(range).unwrap_or_default();
        Ok(Some(Part {
            first_block,
            bytes,
            checksums: checksums.to_vec(),
        }))
    }
}

impl Record {
    fn stored(&self) -> Stored {
        Stored {
            attempt: self.attempt,
            upload: self.entry.upload,
            version: self.entry.version,
            index: self.entry.index,
            disk: self.handle.disk.owner.disk,
            length: u64::from(self.entry.length),
            digest: self.trailer.digest,
        }
    }

    fn blocks(&self) -> u32 {
        u64::from(self.entry.length).div_ceil(BLOCK) as u32
    }
}

impl Inner {
    pub(super) async fn stored(&self, attempt: AttemptId) -> Result<Stored, Error> {
        Ok(self.open_record(attempt, ReadFrom::Cache).await?.stored())
    }

    pub(super) async fn open_read(
        self: &Arc<Self>,
        attempt: AttemptId,
        range: Range<u64>,
    ) -> Result<Reader, Error> {
        let record = self.open_record(attempt, ReadFrom::Cache).await?;
        let length = u64::from(record.entry.length);
        if range.start >= range.end || range.end > length {
            let reason = format!(
                "attempt {attempt} has {length} bytes, which do not cover {}..{}",
                range.start, range.end
            );
            return Err(Error::Invalid { reason });
        }
        Ok(Reader {
            inner: Arc::clone(self),
            record,
            next_block: (range.start / BLOCK) as u32,
            end_block: range.end.div_ceil(BLOCK) as u32,
        })
    }

    /// Reads and checks all of a record around the cache: header, trailer, blocks.
    pub(super) async fn verify(&self, attempt: AttemptId) -> Result<(), Error> {
        let record = self.open_record(attempt, ReadFrom::Medium).await?;
        let file = record
            .handle
            .disk
            .open_for_reading(record.entry.segment, ReadFrom::Medium)
            .await?;
        let place = self.place(&record.handle, &record.entry)?;
        let head = self
            .read_or_suspect(&record, &file, place.offset, PAGE_BYTES, "header")
            .await?;
        let known = Header::decode(head.as_slice(), place).is_ok_and(|header| header.meta.attempt == attempt);
        drop(head);
        if !known {
            return Err(self.damaged(&record.handle, attempt, "header").await);
        }
        let mut block = 0;
        while block < record.blocks() {
            let count = (record.blocks() - block).min(BLOCKS_PER_PART_MAX);
            let (_, bad) = self.try_blocks(&record, block, count, ReadFrom::Medium).await?;
            if let Some(bad) = bad {
                return Err(self.corrupt(&record, bad).await);
            }
            block += count;
        }
        Ok(())
    }

    fn place(&self, handle: &DiskHandle, entry: &Entry) -> Result<RecordPlace, Error> {
        let name = handle.disk.segment_name(entry.segment)?;
        Ok(name.place(entry.extent.offset()))
    }

    async fn open_record(&self, attempt: AttemptId, from: ReadFrom) -> Result<Record, Error> {
        self.check_open()?;
        let entry = self.index.find_stored(attempt)?;
        let handle = self.handle(entry.disk)?.clone();
        if from == ReadFrom::Cache
            && let Some(trailer) = self.trailers.get(&attempt)
        {
            return Ok(Record {
                attempt,
                entry,
                handle,
                trailer,
            });
        }
        let found = match self.read_trailer(&handle, &entry, from).await {
            Err(Error::Disk(_)) | Ok(None) => self.read_trailer(&handle, &entry, ReadFrom::Medium).await,
            found => found,
        };
        let trailer = match found {
            Ok(Some(trailer)) if trailer.attempt == attempt && trailer.length == u64::from(entry.length) => {
                trailer
            }
            Ok(_) => return Err(self.damaged(&handle, attempt, "trailer").await),
            Err(error) => return Err(self.unreadable(&handle, &entry, attempt, "trailer", error).await),
        };
        let trailer = Arc::new(trailer);
        self.trailers.insert(attempt, Arc::clone(&trailer));
        Ok(Record {
            attempt,
            entry,
            handle,
            trailer,
        })
    }

    /// `None`: damaged.
    async fn read_trailer(
        &self,
        handle: &DiskHandle,
        entry: &Entry,
        from: ReadFrom,
    ) -> Result<Option<Trailer>, Error> {
        let place = self.place(handle, entry)?;
        let length = u64::from(entry.length);
        let at = place.offset + entry.layout.trailer_at(length);
        let first = at / PAGE * PAGE;
        let end = (at + trailer_bytes(length.div_ceil(BLOCK) as usize) as u64).next_multiple_of(PAGE);
        let bytes = (end - first) as usize;
        let file = handle.disk.open_for_reading(entry.segment, from).await?;
        let buffer = file.read(first, bytes, AlignedBuf::unpooled(bytes)).await?;
        let trailer = buffer.as_slice().get((at - first) as usize..).unwrap_or_default();
        Ok(Trailer::decode(trailer, place).ok())
    }

    /// `count` checked blocks from `first` on.
    async fn read_blocks(&self, record: &Record, first: u32, count: u32) -> Result<Bytes, Error> {
        let (bytes, bad) = match self.try_blocks(record, first, count, ReadFrom::Cache).await {
            Ok((bytes, None)) => return Ok(bytes),
            // Perhaps it was memory or the way here: the medium has the last word.
            Ok(_) | Err(Error::Disk(_)) => self.try_blocks(record, first, count, ReadFrom::Medium).await?,
            Err(error) => return Err(error),
        };
        match bad {
            None => Ok(bytes),
            Some(bad) => Err(self.corrupt(record, bad).await),
        }
    }

    /// Reads blocks; which of them is the first that fails its checksum, if one does.
    async fn try_blocks(
        &self,
        record: &Record,
        first: u32,
        count: u32,
        from: ReadFrom,
    ) -> Result<(Bytes, Option<u32>), Error> {
        let entry = &record.entry;
        let start = u64::from(first) * BLOCK;
        let end = (start + u64::from(count) * BLOCK).min(u64::from(entry.length));
        let at = entry.extent.offset() + entry.layout.payload_at() + start;
        let from_page = at / PAGE * PAGE;
        let skip = (at - from_page) as usize;
        let length = (end - start) as usize;
        let to_read = (skip + length).next_multiple_of(PAGE_BYTES);
        let file = record.handle.disk.open_for_reading(entry.segment, from).await;
        let read = match file {
            Ok(file) => self.read_pooled(&file, from_page, to_read).await,
            Err(error) => Err(error),
        };
        let buffer = match read {
            Ok(buffer) => buffer.freeze(),
            Err(error) if from == ReadFrom::Cache => return Err(error),
            Err(error) => {
                return Err(self
                    .unreadable(&record.handle, entry, record.attempt, "payload", error)
                    .await);
            }
        };
        if buffer.len() < skip + length {
            return Ok((Bytes::new(), Some(first)));
        }
        let bytes = buffer.slice(skip..skip + length);
        let bad = bytes.chunks(BLOCK_BYTES).zip(first..).find(|(block, index)| {
            let stated = record.trailer.checksums.get(*index as usize);
            stated != Some(&block_checksum(record.attempt, *index, block))
        });
        let bad = bad.map(|(_, index)| index);
        Ok((bytes, bad))
    }

    async fn read_pooled(&self, file: &DiskFile, offset: u64, bytes: usize) -> Result<AlignedBuf, Error> {
        let size = BufferSize::fitting(bytes).ok_or(Error::Busy { what: "bytes read" })?;
        let buffer = self.read_buffers.take(size).await;
        Ok(file.read(offset, bytes, buffer).await?)
    }

    async fn read_or_suspect(
        &self,
        record: &Record,
        file: &DiskFile,
        offset: u64,
        bytes: usize,
        part: &'static str,
    ) -> Result<AlignedBuf, Error> {
        match self.read_pooled(file, offset, bytes).await {
            Ok(buffer) => Ok(buffer),
            Err(error) => Err(self
                .unreadable(&record.handle, &record.entry, record.attempt, part, error)
                .await),
        }
    }

    async fn corrupt(&self, record: &Record, block: u32) -> Error {
        let attempt = record.attempt;
        match self.damaged(&record.handle, attempt, "payload").await {
            Error::Damaged { .. } => Error::Corrupt { attempt, block },
            other => other,
        }
    }

    /// The bytes could not be read. If the medium would not give them and gives others of the same file, they are lost:
    /// a bad sector. Otherwise it is the whole disk, or something that passes (memory, descriptors), and says nothing
    /// about the record.
    async fn unreadable(
        &self,
        handle: &DiskHandle,
        entry: &Entry,
        attempt: AttemptId,
        part: &'static str,
        error: Error,
    ) -> Error {
        if !matches!(&error, Error::Disk(error) if error.is_of_medium()) {
            return self.index.find_stored(attempt).err().unwrap_or(error);
        }
        let probe = async {
            let file = handle
                .disk
                .open_for_reading(entry.segment, ReadFrom::Medium)
                .await?;
            Ok::<_, Error>(file.read(0, PAGE_BYTES, AlignedBuf::unpooled(PAGE_BYTES)).await?)
        };
        match probe.await {
            Ok(_) => self.damaged(handle, attempt, part).await,
            Err(_) => error,
        }
    }

    /// Keeps a damaged record aside, unless it was dropped in the meantime; the error to answer.
    async fn damaged(&self, handle: &DiskHandle, attempt: AttemptId, part: &'static str) -> Error {
        if let Err(gone) = self.index.find_stored(attempt) {
            return gone;
        }
        if self.index.write(|content| content.suspect(attempt)) {
            tracing::warn!(%attempt, part, disk = handle.disk.disk.describe(), "a record is damaged and kept aside");
            // If this cannot be noted down, the next start will find the record damaged again when it is read.
            if let Err(error) = handle.journal.append(vec![Note::Suspect(attempt)]).await {
                tracing::warn!(%attempt, %error, "cannot note down that a record is damaged");
            }
        }
        Error::Damaged { attempt, part }
    }
}
