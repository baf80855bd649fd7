//! Downloads to a place that can be written in any order: chunks in parallel, each checked against its digest before it
//! counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::digest::{self, ChunkHasher};
use common::ids::Digest;
use futures::StreamExt;
use tokio::task::JoinSet;

use super::fetch::{Fetcher, Frame};
use super::part::Part;
use super::pieces::{Piece, pieces};
use super::range::Extent;
use crate::buffer::IN_PLACE_BYTES_MAX;
use crate::error::Error;
use crate::pace::Pace;

/// Fetches `extent` of the version, writing it to `part`, where given, from offset 0 on. With `reuse`, chunks that the
/// part holds already are kept.
pub(super) async fn fetch_all(
    fetcher: &Fetcher,
    chunk_bytes: u64,
    extent: Extent,
    part: Option<Arc<Part>>,
    reuse: bool,
) -> Result<Fetched, Error> {
    let settings = &fetcher.version.router.settings;
    let mut pace = Pace::new(settings.limits.download_chunks_in_flight_max);
    let pieces = pieces(Arc::clone(&fetcher.version), chunk_bytes, extent, chunk_bytes);
    let mut pieces = std::pin::pin!(pieces);
    let mut under_way = JoinSet::new();
    let mut fetched = Fetched::default();
    let mut more = true;
    while more || !under_way.is_empty() {
        tokio::select! {
            piece = pieces.next(), if more && under_way.len() < pace.at_once() => match piece {
                Some(piece) => {
                    let one = One {
                        fetcher: fetcher.clone(),
                        piece: Arc::new(piece?),
                        part: part.clone(),
                        base: extent.start,
                        reuse,
                    };
                    let clock = settings.seams.clock.clone();
                    under_way.spawn(async move {
                        let begun = clock.moment();
                        let done = one.carry_out().await;
                        (done, clock.moment().since(begun))
                    });
                }
                None => more = false,
            },
            Some(done) = under_way.join_next() => {
                let (done, took) = done.map_err(Error::of_task)?;
                let done = done?;
                pace.took(done.fetched, took, under_way.len() + 1);
                fetched.add(done);
                fetcher.progress.chunk_done();
            }
        }
    }
    Ok(fetched)
}

/// What was fetched.
#[derive(Default)]
pub(super) struct Fetched {
    /// Digests of whole chunks, by index.
    digests: BTreeMap<u32, Digest>,
    single: Option<Digest>,
    /// Bytes that the part held already.
    pub(super) resumed: u64,
}

impl Fetched {
    fn add(&mut self, done: Done) {
        if let Some(hasher) = done.hasher {
            self.digests.insert(done.index, hasher.finish());
            if done.index == 0 {
                self.single = Some(hasher.finish_single());
            }
        }
        self.resumed += done.resumed;
    }

    /// The digest of the file, where all of its `count` chunks were read wholly.
    pub(super) fn digest(&self, count: u64) -> Option<Digest> {
        if self.digests.len() as u64 != count {
            return None;
        }
        match count {
            0 => Some(digest::empty()),
            1 => self.single,
            _ => digest::combine(&self.digests.values().copied().collect::<Vec<_>>()),
        }
    }
}

struct Done {
    index: u32,
    /// Over the whole chunk; `None` for a part of it.
    hasher: Option<ChunkHasher>,
    resumed: u64,
    fetched: u64,
}

struct One {
    fetcher: Fetcher,
    piece: Arc<Piece>,
    part: Option<Arc<Part>>,
    base: u64,
    reuse: bool,
}

impl One {
    async fn carry_out(self) -> Result<Done, Error> {
        let chunk = &self.piece.chunk;
        let mut done = Done {
            index: chunk.index,
            hasher: None,
            resumed: 0,
            fetched: 0,
        };
        if let Some(hasher) = self.held().await? {
            self.fetcher.progress.found(chunk.length);
            done.hasher = Some(hasher);
            done.resumed = chunk.length;
            return Ok(done);
        }
        done.fetched = self.piece.wanted.length();
        let mut distrusted = Vec::new();
        loop {
            let (frames, work) = self
                .fetcher
                .fetch(Arc::clone(chunk), self.piece.wanted, distrusted.clone());
            let (served, hasher) = tokio::join!(work, self.take(frames));
            // The sink's error is the cause where both failed.
            let hasher = hasher?;
            let served = served.map_err(|error| self.explain(error))?;
            if !self.piece.is_whole() {
                return Ok(done);
            }
            if hasher.finish() == chunk.digest {
                done.hasher = Some(hasher);
                return Ok(done);
            }
            self.fetcher.progress.undone(self.piece.wanted.length());
            self.fetcher.report_digest(chunk, &served);
            distrusted.extend(served);
        }
    }

    /// Where no copy is left because of what was found earlier, that is what to tell.
    fn explain(&self, error: Error) -> Error {
        match error {
            Error::ChunkNotReadable { path, index, bad } if bad.is_empty() => {
                let known = self
                    .fetcher
                    .bad_copies()
                    .into_iter()
                    .filter(|copy| copy.index == index);
                Error::ChunkNotReadable {
                    path,
                    index,
                    bad: known.collect(),
                }
            }
            error => error,
        }
    }

    /// The hasher over the chunk, where the part holds it already.
    async fn held(&self) -> Result<Option<ChunkHasher>, Error> {
        let Some(part) = self.part.clone().filter(|_| self.reuse && self.piece.is_whole()) else {
            return Ok(None);
        };
        let buffers = self.fetcher.version.router.buffers.clone();
        let piece = Arc::clone(&self.piece);
        let looking = tokio::task::spawn_blocking(move || part.holds(&piece.chunk, &buffers));
        looking.await.map_err(Error::of_task)
    }

    /// Hashes and writes what arrives.
    async fn take(&self, mut frames: tokio::sync::mpsc::Receiver<Frame>) -> Result<ChunkHasher, Error> {
        let chunk = &self.piece.chunk;
        let mut hasher = ChunkHasher::new(chunk.offset);
        let wants_hash = self.piece.is_whole();
        while let Some(frame) = frames.recv().await {
            let (part, at) = (self.part.clone(), chunk.offset + frame.offset - self.base);
            let in_place = part.is_none() && frame.bytes.len() <= IN_PLACE_BYTES_MAX;
            let work = move || {
                if wants_hash {
                    hasher.update(&frame.bytes);
                }
                part.map_or(Ok(()), |part| part.write(at, &frame.bytes))
                    .map(|()| hasher)
            };
            hasher = if in_place {
                work()?
            } else {
                let working = tokio::task::spawn_blocking(work);
                working.await.map_err(Error::of_task)??
            };
        }
        Ok(hasher)
    }
}
