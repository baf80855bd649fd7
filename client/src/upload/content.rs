//! What the whole of an upload's bytes is: length, digest, number of chunks.

use common::digest;
use common::ids::Digest;

use super::feed::ChunkEnd;
use super::send::Tally;
use super::session::Session;
use super::source::Origin;
use super::work::{self, Input};
use crate::error::Error;
use crate::names::{Entry, EntryKind};

/// What the whole content is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Content {
    pub(super) size: u64,
    pub(super) digest: Digest,
    pub(super) chunks: u32,
}

impl Content {
    /// Of the chunks in `ends`, in order.
    fn of_chunks(ends: &[ChunkEnd]) -> Option<Self> {
        let digest = match ends {
            [] => digest::empty(),
            [only] => only.single?,
            several => {
                let digests: Vec<_> = several.iter().map(|end| end.digest).collect();
                digest::combine(&digests)?
            }
        };
        Some(Self {
            size: ends.iter().map(|end| end.length).sum(),
            digest,
            chunks: u32::try_from(ends.len()).ok()?,
        })
    }

    /// Of all that `input` has, by reading it to its end and sending nothing.
    pub(super) async fn of_input(session: &Session, input: Input) -> Result<Self, Error> {
        let chunk_bytes = session.chunk_bytes;
        let mut works = match input {
            Input::Repeatable(source) => {
                let chunks = super::chunks_of(source.size(), chunk_bytes)?;
                work::parts(&source, chunk_bytes, 0..chunks, &session.router.buffers)
            }
            Input::Stream(Origin::Stream { input, .. }) => work::cut(input, chunk_bytes, 1),
            Input::Stream(_) => return Err(Error::Panicked("a stream that is none".to_owned())),
        };
        let mut ends = Vec::new();
        while let Some(work) = works.next().await {
            ends.push(work?.source.examine().await?);
        }
        Self::of_chunks(&ends).ok_or_else(|| Error::protocol("chunk lengths that make no file"))
    }

    /// Whether the version that `entry` tells of has this content.
    pub(super) fn is_of(&self, entry: &Entry) -> bool {
        matches!(&entry.kind, EntryKind::File { size, digest, .. }
            if size.get() == self.size && *digest == self.digest)
    }
}

impl Tally {
    /// What the chunks make; `None` where one is missing.
    pub(super) fn content(&self) -> Option<Content> {
        let count = u32::try_from(self.stored.len()).ok()?;
        if !self.stored.keys().copied().eq(0..count) {
            return None;
        }
        let ends: Vec<_> = self.stored.values().map(|stored| stored.end).collect();
        Content::of_chunks(&ends)
    }
}
