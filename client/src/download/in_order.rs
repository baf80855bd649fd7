//! Downloads to a writer: pieces in parallel, written in order.
//!
//! Invariant: what is fetched and not yet written stays below the configured window (P10). Every byte that is written
//! was verified with its block; chunks and the whole file are checked as they go by, and the first that does not have
//! its digest ends the download with an error.

use std::sync::Arc;

use bytes::Bytes;
use common::digest::{self, ChunkHasher};
use common::ids::Digest;
use futures::StreamExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_util::task::AbortOnDropHandle;

use super::fetch::Fetcher;
use super::pieces::{Piece, pieces};
use super::range::Extent;
use crate::error::Error;

/// What is fetched by one request.
const PIECE_BYTES: u64 = 4 << 20;

/// Writes `extent` of the version to `output`. The digest of the file where all of it was read.
pub(super) async fn write_all(
    fetcher: &Fetcher,
    chunk_bytes: u64,
    extent: Extent,
    mut output: std::pin::Pin<Box<dyn AsyncWrite + Send>>,
) -> Result<Option<Digest>, Error> {
    let window = fetcher
        .version
        .router
        .settings
        .limits
        .download_window_bytes_max
        .get();
    let piece_bytes = PIECE_BYTES.min(window.max(1));
    let at_once = usize::try_from(window / piece_bytes).unwrap_or(1).max(1);
    let whole = extent == Extent::whole(fetcher.version.size);
    let fetching = pieces(Arc::clone(&fetcher.version), chunk_bytes, extent, piece_bytes)
        .map(|piece| begin(fetcher, piece))
        .buffered(at_once);
    let mut fetching = std::pin::pin!(fetching);
    let mut check = Check::new(whole);
    while let Some(fetched) = fetching.next().await {
        let (piece, frames) = fetched?;
        let ends_chunk = piece.ends_chunk();
        check = check.update(piece, frames.clone()).await?;
        for frame in frames {
            output
                .write_all(&frame)
                .await
                .map_err(|error| Error::local("write", "the output", error))?;
        }
        if ends_chunk {
            fetcher.progress.chunk_done();
        }
    }
    output
        .flush()
        .await
        .map_err(|error| Error::local("write", "the output", error))?;
    check.finish(fetcher)
}

/// Begins to fetch a piece on a task of its own.
async fn begin(fetcher: &Fetcher, piece: Result<Piece, Error>) -> Result<(Piece, Vec<Bytes>), Error> {
    let piece = piece?;
    let (mut frames, work) = fetcher.fetch(Arc::clone(&piece.chunk), piece.wanted, Vec::new());
    let task = AbortOnDropHandle::new(tokio::spawn(async move {
        let collect = async {
            let mut all = Vec::new();
            while let Some(frame) = frames.recv().await {
                all.push(frame.bytes);
            }
            all
        };
        let (served, all) = tokio::join!(work, collect);
        served.map(|_| all)
    }));
    let frames = task.await.map_err(Error::of_task)??;
    Ok((piece, frames))
}

/// Digests of what went by.
struct Check {
    /// Only whole files are checked beyond their blocks.
    whole: bool,
    hasher: Option<ChunkHasher>,
    digests: Vec<Digest>,
    single: Option<Digest>,
    /// The first chunk that does not have its digest.
    wrong: bool,
}

impl Check {
    const fn new(whole: bool) -> Self {
        Self {
            whole,
            hasher: None,
            digests: Vec::new(),
            single: None,
            wrong: false,
        }
    }

    async fn update(mut self, piece: Piece, frames: Vec<Bytes>) -> Result<Self, Error> {
        if !self.whole {
            return Ok(self);
        }
        let hashing = tokio::task::spawn_blocking(move || {
            let begin = || ChunkHasher::new(piece.chunk.offset);
            let mut hasher = self.hasher.take().unwrap_or_else(begin);
            for frame in &frames {
                hasher.update(frame);
            }
            if piece.ends_chunk() {
                self.wrong |= hasher.finish() != piece.chunk.digest;
                self.digests.push(hasher.finish());
                if piece.chunk.index == 0 {
                    self.single = Some(hasher.finish_single());
                }
            } else {
                self.hasher = Some(hasher);
            }
            self
        });
        hashing.await.map_err(Error::of_task)
    }

    fn finish(self, fetcher: &Fetcher) -> Result<Option<Digest>, Error> {
        if self.wrong {
            return Err(Error::WrongDigest {
                path: fetcher.version.path.clone(),
            });
        }
        if !self.whole {
            return Ok(None);
        }
        Ok(match self.digests.len() {
            0 => Some(digest::empty()),
            1 => self.single,
            _ => digest::combine(&self.digests),
        })
    }
}
