//! Small records of one disk: one task writes them, all that wait together in one piece with one sync.
//!
//! Invariant: a batch is durable before any of its records is entered or answered, and the next batch is begun only
//! then; so the segment which the task holds obeys the rule of every other segment ([`super::segment`]).

use std::sync::Arc;

use bytes::Bytes;
use common::disk::buffer::{AlignedBuf, BufferPool, BufferSize};
use common::fail;
use common::ids::Digest;
use common::shutdown::Shutdown;
use common::units::ByteCount;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::disk::StoreDisk;
use super::error::Error;
use super::index::{Entry, State};
use super::reclaim;
use super::record::{Header, Layout, RecordMeta, Stored, Trailer};
use super::schema::{Extent, PAGE};
use super::segment::OpenSegment;
use super::space::Promise;

/// Small records under way per disk: as many as may wait for it. They hold memory, not segments.
pub(super) const SMALL_WRITERS_PER_DISK_MAX: u32 = 1024;
/// The most that is written in one piece; room for one more record must be left in a buffer.
const BATCH_BYTES_MAX: u64 = 1 << 20;
/// Space is allocated in such steps, where there is room.
const ALLOCATION_STEP_BYTES: u64 = 4 << 20;

/// A whole small record.
pub(super) struct Parcel {
    pub(super) meta: RecordMeta,
    pub(super) payload: Vec<Bytes>,
    pub(super) length: u64,
    pub(super) checksums: Vec<u64>,
    pub(super) digest: Digest,
    pub(super) promise: Promise,
}

impl Parcel {
    const fn bytes(&self) -> u64 {
        Layout::Packed.record_bytes(self.length)
    }
}

struct Request {
    parcel: Parcel,
    answer: oneshot::Sender<Result<Stored, Error>>,
}

/// A handle to the task.
#[derive(Clone)]
pub(super) struct Packer {
    requests: mpsc::Sender<Request>,
}

impl Packer {
    /// Begins to write the small records of `disk`, until `stop`.
    pub(super) fn start(disk: Arc<StoreDisk>, stop: Shutdown) -> (Self, JoinHandle<()>) {
        let (requests, inbox) = mpsc::channel(SMALL_WRITERS_PER_DISK_MAX as usize);
        let buffers = BufferPool::new(ByteCount::new(2 * BufferSize::Bulk.bytes() as u64));
        let task = Task {
            disk,
            buffers,
            segment: None,
        };
        (Self { requests }, tokio::spawn(task.run(inbox, stop)))
    }

    /// Stores one record. It is queued when this is called, and runs to its end whether or not the answer is awaited.
    /// The queue has room for every small writer that the disk admits.
    ///
    /// # Errors
    /// The disk is full or poisoned, or the attempt was dropped in the meantime.
    pub(super) fn store(&self, parcel: Parcel) -> impl Future<Output = Result<Stored, Error>> + Send + use<> {
        let (answer, answered) = oneshot::channel();
        let queued = self.requests.try_send(Request { parcel, answer });
        async move {
            queued.map_err(|_| Error::Closed)?;
            answered.await.map_err(|_| Error::Closed)?
        }
    }
}

struct Task {
    disk: Arc<StoreDisk>,
    buffers: BufferPool,
    segment: Option<OpenSegment>,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::Receiver<Request>, stop: Shutdown) {
        while let Some(first) = stop.guard(inbox.recv()).await.flatten() {
            let mut bytes = first.parcel.bytes();
            let mut batch = vec![first];
            while bytes < BATCH_BYTES_MAX
                && let Ok(next) = inbox.try_recv()
            {
                bytes += next.parcel.bytes();
                batch.push(next);
            }
            match self.write(&batch, bytes).await {
                Ok(extents) => self.enter(batch, &extents).await,
                Err(error) => self.refuse(batch, &error).await,
            }
            self.give_back_if_full().await;
        }
    }

    /// Writes and syncs a batch; where each record lies.
    async fn write(&mut self, batch: &[Request], bytes: u64) -> Result<Vec<Extent>, Error> {
        let mut segment = match self.segment.take() {
            Some(segment) => segment,
            None => self.disk.acquire().await?,
        };
        let outcome = self.write_to(&mut segment, batch, bytes).await;
        self.segment = Some(segment);
        outcome
    }

    async fn write_to(
        &self,
        segment: &mut OpenSegment,
        batch: &[Request],
        bytes: u64,
    ) -> Result<Vec<Extent>, Error> {
        match segment.allocate(bytes, ALLOCATION_STEP_BYTES).await {
            Err(Error::Disk(common::disk::Error::Full { .. })) => segment.allocate(bytes, 0).await?,
            outcome => outcome?,
        }
        let size = BufferSize::fitting(usize::try_from(bytes).unwrap_or(usize::MAX)).ok_or(Error::Closed)?;
        let mut buffer = self.buffers.take(size).await;
        let mut extents = Vec::with_capacity(batch.len());
        for request in batch {
            let start = segment.position + buffer.len() as u64;
            self.encode(&mut buffer, &request.parcel, segment, start);
            let end = segment.position + buffer.len() as u64;
            let extent = Extent::between(start, end);
            extents.push(extent.ok_or(Error::Closed)?);
        }
        let end = segment.position + buffer.len() as u64;
        segment
            .file
            .write(segment.position, vec![buffer.freeze()])
            .await?;
        fail::point("replica.stored:before");
        segment.file.sync().await?;
        segment.position = end;
        Ok(extents)
    }

    fn encode(&self, buffer: &mut AlignedBuf, parcel: &Parcel, segment: &OpenSegment, start: u64) {
        let place = segment.name.place(start);
        let header = Header {
            cluster: self.disk.owner.cluster,
            layout: Layout::Packed,
            meta: parcel.meta.clone(),
            length_max: parcel.length,
            settled: segment.position,
        };
        let trailer = Trailer {
            layout: Layout::Packed,
            attempt: parcel.meta.attempt,
            upload: parcel.meta.upload,
            version: parcel.meta.version,
            index: parcel.meta.index,
            length: parcel.length,
            digest: parcel.digest,
            checksums: parcel.checksums.clone(),
        };
        // There is room: the buffer was chosen by the sum of the records' lengths.
        let _ = buffer.extend(&header.encode(place));
        for part in &parcel.payload {
            let _ = buffer.extend(part);
        }
        buffer.pad(8);
        let _ = buffer.extend(&trailer.encode(place));
        buffer.pad(PAGE as usize);
    }

    async fn enter(&self, batch: Vec<Request>, extents: &[Extent]) {
        let Some(segment) = self.segment.as_ref().map(|segment| segment.name.id) else {
            return;
        };
        let outcomes: Vec<Result<(), Error>> = self.disk.index.write(|content| {
            let entries = batch.iter().zip(extents).map(|(request, extent)| {
                let parcel = &request.parcel;
                let entry = Entry {
                    disk: self.disk.number,
                    segment,
                    extent: *extent,
                    length: u32::try_from(parcel.length).unwrap_or(u32::MAX),
                    layout: Layout::Packed,
                    state: State::Stored,
                    upload: parcel.meta.upload,
                    version: parcel.meta.version,
                    index: parcel.meta.index,
                };
                content.enter(parcel.meta.attempt, entry)
            });
            entries.collect()
        });
        fail::point("replica.stored:after");
        let dropped = outcomes.iter().any(Result::is_err);
        for (request, outcome) in batch.into_iter().zip(outcomes) {
            let Parcel {
                meta,
                length,
                digest,
                promise,
                ..
            } = request.parcel;
            promise.keep(Layout::Packed.record_bytes(length));
            let stored = Stored {
                attempt: meta.attempt,
                upload: meta.upload,
                version: meta.version,
                index: meta.index,
                disk: self.disk.owner.disk,
                length,
                digest,
            };
            // Who no longer waits finds it by asking for the attempt.
            let _ = request.answer.send(outcome.map(|()| stored));
        }
        if dropped {
            reclaim::punch_dropped(&self.disk).await;
        }
    }

    async fn refuse(&mut self, batch: Vec<Request>, error: &Error) {
        if let Some(segment) = self.segment.take() {
            self.disk.seal(segment).await;
        }
        self.disk.index.write(|content| {
            for request in &batch {
                content.writing.remove(&request.parcel.meta.attempt);
            }
        });
        for request in batch {
            let _ = request.answer.send(Err(error.shared()));
        }
    }

    async fn give_back_if_full(&mut self) {
        if let Some(segment) = self.segment.take_if(|segment| self.disk.is_full_length(segment)) {
            self.disk.release(segment).await;
        }
    }
}
