//! What is to be fetched, in order: a range cut at the borders of chunks, and where wanted into smaller pieces.

use std::sync::Arc;

use futures::Stream;

use super::manifest::{Chunk, PAGE_CHUNKS_MAX, Version};
use super::range::Extent;
use crate::error::Error;

/// A part of one chunk.
pub(super) struct Piece {
    pub(super) chunk: Arc<Chunk>,
    /// Relative to the chunk.
    pub(super) wanted: Extent,
}

impl Piece {
    /// Whether this is the whole chunk.
    pub(super) fn is_whole(&self) -> bool {
        self.wanted == Extent::whole(self.chunk.length)
    }

    /// Whether the chunk ends with this.
    pub(super) fn ends_chunk(&self) -> bool {
        self.wanted.end == self.chunk.length
    }
}

/// The pieces of `extent`, at most `piece_bytes` each. Pages of the manifest are fetched when they are needed. Ends
/// after the first error.
pub(super) fn pieces(
    version: Arc<Version>,
    chunk_bytes: u64,
    extent: Extent,
    piece_bytes: u64,
) -> impl Stream<Item = Result<Piece, Error>> + Send {
    let first = u32::try_from(extent.start / chunk_bytes.max(1)).unwrap_or(u32::MAX);
    let walk = Walk {
        version,
        extent,
        piece_bytes,
        next: first,
        end: u32::try_from(extent.end.div_ceil(chunk_bytes.max(1))).unwrap_or(u32::MAX),
        ready: Vec::new().into_iter(),
    };
    futures::stream::unfold(Some(walk), |walk| async move {
        let mut walk = walk?;
        match walk.step().await {
            Ok(Some(piece)) => Some((Ok(piece), Some(walk))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
}

struct Walk {
    version: Arc<Version>,
    extent: Extent,
    piece_bytes: u64,
    /// The next chunk to be asked for, and the first that is not wanted.
    next: u32,
    end: u32,
    ready: std::vec::IntoIter<Piece>,
}

impl Walk {
    async fn step(&mut self) -> Result<Option<Piece>, Error> {
        loop {
            if let Some(piece) = self.ready.next() {
                return Ok(Some(piece));
            }
            if self.next >= self.end {
                return Ok(None);
            }
            let limit = (self.end - self.next).min(PAGE_CHUNKS_MAX);
            let page = self.version.page(self.next, limit).await?;
            self.next = self
                .next
                .saturating_add(u32::try_from(page.chunks.len()).unwrap_or(u32::MAX));
            let pieces = page.chunks.into_iter().flat_map(|chunk| {
                let part = self.extent.within(chunk.offset, chunk.offset + chunk.length);
                let parts = part.into_iter().flat_map(|part| part.pieces(self.piece_bytes));
                parts.map(move |wanted| Piece {
                    chunk: Arc::clone(&chunk),
                    wanted,
                })
            });
            self.ready = pieces.collect::<Vec<_>>().into_iter();
        }
    }
}
