//! One chunk's bytes, frame by frame, as often as it takes to store it.
//!
//! Invariant: a chunk's digest is computed from the very frames that are sent. Hashing and reading files happen on
//! blocking threads, at most [`FRAMES_AHEAD_MAX`] frames ahead of the connection (P10).

use std::sync::Arc;

use bytes::Bytes;
use common::digest::ChunkHasher;
use common::ids::Digest;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use super::repeatable::Repeatable;
use crate::buffer::{Buffers, FRAME_BYTES, IN_PLACE_BYTES_MAX};
use crate::error::Error;
use crate::task::Watched;

/// Frames of one chunk that are read and hashed ahead of the connection.
const FRAMES_AHEAD_MAX: usize = 2;

/// What a chunk turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ChunkEnd {
    pub(super) length: u64,
    /// Its chaining value at its place in the file.
    pub(super) digest: Digest,
    /// The digest of the file, should this be its only chunk; `None` for all but the first.
    pub(super) single: Option<Digest>,
}

impl ChunkEnd {
    /// The end of the chunk at `offset` that went through `hasher`.
    pub(super) fn of(offset: u64, length: u64, hasher: &ChunkHasher) -> Self {
        Self {
            length,
            digest: hasher.finish(),
            single: (offset == 0).then(|| hasher.finish_single()),
        }
    }
}

/// Where a chunk's bytes come from.
#[derive(Clone)]
pub(super) enum ChunkSource {
    /// A part of something that can be read again.
    Part {
        source: Arc<Repeatable>,
        offset: u64,
        length: u64,
        buffers: Buffers,
    },
    /// A part of a stream, held in memory while it is read and until it is acknowledged.
    Held(Arc<HeldChunk>),
}

/// A part of a stream.
pub(super) struct HeldChunk {
    state: watch::Receiver<Held>,
    /// Why the reader of the stream gave up within this chunk.
    failure: Failure,
    _place: OwnedSemaphorePermit,
}

/// What there is of a part of a stream so far.
#[derive(Default)]
pub(super) struct Held {
    pub(super) frames: Vec<Bytes>,
    pub(super) end: Option<ChunkEnd>,
}

/// Set before the reader of a stream gives up; taken by whoever notices first.
pub(super) type Failure = Arc<Mutex<Option<Error>>>;

impl HeldChunk {
    pub(super) fn new(state: watch::Receiver<Held>, failure: Failure, place: OwnedSemaphorePermit) -> Self {
        Self {
            state,
            failure,
            _place: place,
        }
    }
}

impl ChunkSource {
    /// Reads the chunk from its beginning.
    pub(super) fn open(&self) -> Feed {
        match self {
            ChunkSource::Part {
                source,
                offset,
                length,
                buffers,
            } => {
                let (sender, frames) = mpsc::channel(FRAMES_AHEAD_MAX);
                let (source, offset, length) = (Arc::clone(source), *offset, *length);
                let buffers = buffers.clone();
                let reader = tokio::task::spawn_blocking(move || {
                    read_part(&source, offset, length, &buffers, &sender)
                });
                Feed::Part {
                    frames,
                    reader: Watched::new(reader),
                    end: None,
                }
            }
            ChunkSource::Held(chunk) => Feed::Held {
                state: chunk.state.clone(),
                chunk: Arc::clone(chunk),
                next: 0,
            },
        }
    }

    /// The whole of a chunk that is no longer than one frame.
    pub(super) async fn read_small(&self) -> Result<(Bytes, ChunkEnd), Error> {
        let ChunkSource::Part {
            source,
            offset,
            length,
            buffers,
        } = self
        else {
            let mut feed = self.open();
            let frame = feed.next().await?.unwrap_or_default();
            feed.next().await?;
            return Ok((frame, feed.end()?));
        };
        let (offset, length) = (*offset, *length);
        if !source.is_on_disk() && length <= IN_PLACE_BYTES_MAX as u64 {
            return read_frame(source, offset, length, buffers);
        }
        let (source, buffers) = (Arc::clone(source), buffers.clone());
        let reading = tokio::task::spawn_blocking(move || read_frame(&source, offset, length, &buffers));
        reading.await.map_err(Error::of_task)?
    }

    /// Its length, where it is known before it is read.
    pub(super) fn length_hint(&self) -> Option<u64> {
        match self {
            ChunkSource::Part { length, .. } => Some(*length),
            ChunkSource::Held(chunk) => chunk.state.borrow().end.map(|end| end.length),
        }
    }

    /// What the chunk is, by reading all of it and sending nothing.
    pub(super) async fn examine(&self) -> Result<ChunkEnd, Error> {
        let mut feed = self.open();
        while feed.next().await?.is_some() {}
        feed.end()
    }
}

pub(super) enum Step {
    Frame(Bytes),
    End(ChunkEnd),
}

/// One reading of a chunk.
pub(super) enum Feed {
    Part {
        frames: mpsc::Receiver<Result<Step, Error>>,
        reader: Watched,
        end: Option<ChunkEnd>,
    },
    Held {
        state: watch::Receiver<Held>,
        chunk: Arc<HeldChunk>,
        next: usize,
    },
}

impl Feed {
    /// The next frame, whole blocks but for the chunk's last; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        match self {
            Feed::Part { frames, reader, end } => match frames.recv().await {
                Some(Ok(Step::Frame(frame))) => Ok(Some(frame)),
                Some(Ok(Step::End(found))) => {
                    *end = Some(found);
                    Ok(None)
                }
                Some(Err(error)) => Err(error),
                None => Err(reader.reason().await),
            },
            Feed::Held { state, chunk, next } => {
                let ready = state
                    .wait_for(|held| held.frames.len() > *next || held.end.is_some())
                    .await
                    .map_err(|_| chunk.failure.lock().take().unwrap_or_else(reader_gone))?;
                let frame = ready.frames.get(*next).cloned();
                *next += usize::from(frame.is_some());
                Ok(frame)
            }
        }
    }

    /// What the chunk is, once [`Feed::next`] has returned `None`.
    pub(super) fn end(&self) -> Result<ChunkEnd, Error> {
        let end = match self {
            Feed::Part { end, .. } => *end,
            Feed::Held { state, .. } => state.borrow().end,
        };
        end.ok_or_else(|| Error::Panicked("a chunk was looked at before its end".to_owned()))
    }
}

/// The reader of a stream ended within a chunk without saying why.
fn reader_gone() -> Error {
    Error::Panicked("the reader of the input ended within a chunk".to_owned())
}

/// Reads a chunk that is no longer than one frame.
fn read_frame(
    source: &Repeatable,
    offset: u64,
    length: u64,
    buffers: &Buffers,
) -> Result<(Bytes, ChunkEnd), Error> {
    let mut hasher = ChunkHasher::new(offset);
    let frame = source.frame(offset, usize::try_from(length).unwrap_or(FRAME_BYTES), buffers)?;
    hasher.update(&frame);
    Ok((frame, ChunkEnd::of(offset, length, &hasher)))
}

/// Runs on a blocking thread until the chunk is read or nobody wants it any more.
fn read_part(
    source: &Repeatable,
    offset: u64,
    length: u64,
    buffers: &Buffers,
    sender: &mpsc::Sender<Result<Step, Error>>,
) {
    let mut hasher = ChunkHasher::new(offset);
    let mut done = 0;
    while done < length {
        let wanted = usize::try_from(length - done)
            .unwrap_or(FRAME_BYTES)
            .min(FRAME_BYTES);
        let step = source.frame(offset + done, wanted, buffers);
        if let Ok(frame) = &step {
            hasher.update(frame);
            done += frame.len() as u64;
        }
        let failed = step.is_err();
        if sender.blocking_send(step.map(Step::Frame)).is_err() || failed {
            return;
        }
    }
    let end = ChunkEnd::of(offset, length, &hasher);
    // Whoever gave up on the chunk does not need its digest.
    let _ = sender.blocking_send(Ok(Step::End(end)));
}
