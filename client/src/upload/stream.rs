//! Cuts a stream of unknown length into chunks.
//!
//! Invariant: at most `chunks_held_max` chunks are in memory; the stream is not read further until one of them is
//! acknowledged (P10). A chunk is announced with its first frame and sent while the rest of it is still being read.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use common::digest::ChunkHasher;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{Semaphore, mpsc, watch};

use super::feed::{ChunkEnd, ChunkSource, Failure, Held, HeldChunk};
use super::work::Work;
use crate::buffer::{Buffers, FRAME_BYTES};
use crate::error::Error;

/// Reads `input` to its end and announces its chunks. An error is announced, or told to the chunk it happened in.
pub(super) async fn cut(
    mut input: Pin<Box<dyn AsyncRead + Send>>,
    chunk_bytes: u64,
    chunks_held_max: usize,
    chunks_max: u32,
    announce: mpsc::Sender<Result<Work, Error>>,
) {
    let places = Arc::new(Semaphore::new(chunks_held_max.max(1)));
    let buffers = Buffers::default();
    for index in 0.. {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let first = read_frame(&mut input, &buffers, chunk_bytes).await;
        let first = match first {
            Ok(Some(frame)) if index < chunks_max => frame,
            Ok(None) => return,
            other => {
                let error = other.err().unwrap_or_else(|| {
                    Error::Invalid(format!(
                        "the input is longer than {chunks_max} chunks, the most a file may have"
                    ))
                });
                // Nobody listens where the upload has ended for another reason.
                let _ = announce.send(Err(error)).await;
                return;
            }
        };
        let (sender, state) = watch::channel(Held::default());
        let failure = Failure::default();
        let chunk = HeldChunk::new(state, Arc::clone(&failure), place);
        let source = ChunkSource::Held(Arc::new(chunk));
        if announce.send(Ok(Work { index, source })).await.is_err() {
            return;
        }
        let offset = u64::from(index) * chunk_bytes;
        match read_rest(&mut input, &buffers, first, offset, chunk_bytes, &sender).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                // Before `sender` is dropped, which is how the chunk's reader notices.
                *failure.lock() = Some(error);
                return;
            }
        }
    }
}

/// Reads the rest of a chunk that begins with `first`; `false` where the input has ended.
async fn read_rest(
    input: &mut Pin<Box<dyn AsyncRead + Send>>,
    buffers: &Buffers,
    first: Bytes,
    offset: u64,
    chunk_bytes: u64,
    held: &watch::Sender<Held>,
) -> Result<bool, Error> {
    let mut hashing = Hashing::new(offset);
    let mut length = 0;
    let mut next = Some(first);
    while let Some(frame) = next {
        length += frame.len() as u64;
        // The hash runs on its own thread while the next frame is read.
        hashing.update(frame.clone()).await?;
        held.send_modify(|held| held.frames.push(frame));
        next = match chunk_bytes.saturating_sub(length) {
            0 => None,
            left => read_frame(input, buffers, left).await?,
        };
    }
    let hasher = hashing.finish().await?;
    let end = ChunkEnd::of(offset, length, &hasher);
    held.send_modify(|held| held.end = Some(end));
    Ok(length == chunk_bytes)
}

/// The next frame of at most `left` bytes, full unless the input ends; `None` at its end.
async fn read_frame(
    input: &mut Pin<Box<dyn AsyncRead + Send>>,
    buffers: &Buffers,
    left: u64,
) -> Result<Option<Bytes>, Error> {
    let wanted = usize::try_from(left).unwrap_or(FRAME_BYTES).min(FRAME_BYTES);
    let mut buffer = buffers.lease();
    let mut filled = 0;
    while filled < wanted {
        let space = buffer.space().get_mut(filled..wanted).unwrap_or_default();
        let read = input.read(space).await;
        match read.map_err(|error| Error::local("read", Path::new("the input"), error))? {
            0 => break,
            count => filled += count,
        }
    }
    Ok((filled > 0).then(|| buffer.freeze(filled)))
}

/// A hasher that is on a blocking thread most of the time.
struct Hashing(tokio::task::JoinHandle<ChunkHasher>);

impl Hashing {
    fn new(offset: u64) -> Self {
        Self(tokio::task::spawn_blocking(move || ChunkHasher::new(offset)))
    }

    async fn update(&mut self, frame: Bytes) -> Result<(), Error> {
        let mut hasher = (&mut self.0).await.map_err(Error::of_task)?;
        self.0 = tokio::task::spawn_blocking(move || {
            hasher.update(&frame);
            hasher
        });
        Ok(())
    }

    async fn finish(self) -> Result<ChunkHasher, Error> {
        self.0.await.map_err(Error::of_task)
    }
}
