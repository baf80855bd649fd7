//! The chunks that are to be sent, in order, as they become known.

use std::sync::Arc;

use common::units::ByteCount;
use proto::CHUNKS_PER_VERSION_MAX;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::feed::ChunkSource;
use super::repeatable::Repeatable;
use super::session::Expected;
use super::source::{Origin, Source};
use super::stream;
use crate::buffer::Buffers;
use crate::error::Error;

/// The most that is sent again because the supernodes lost a session. Larger uploads have theirs committed at once.
const REPEATED_BYTES_MAX: u64 = 1 << 20;

/// A chunk that is to be sent.
pub(super) struct Work {
    pub(super) index: u32,
    pub(super) source: ChunkSource,
}

/// A source made ready to be read.
pub(super) enum Input {
    Repeatable(Arc<Repeatable>),
    Stream(Origin),
}

impl Input {
    pub(super) async fn open(source: Source) -> Result<Self, Error> {
        let repeatable = match source.0 {
            Origin::File(path) => tokio::task::spawn_blocking(move || Repeatable::open(path))
                .await
                .map_err(|_| Error::Interrupted)??,
            Origin::Bytes(bytes) => Repeatable::Bytes(bytes),
            Origin::Generated { size, seed } => Repeatable::Generated {
                size: size.get(),
                seed,
            },
            stream @ Origin::Stream { .. } => return Ok(Input::Stream(stream)),
        };
        Ok(Input::Repeatable(Arc::new(repeatable)))
    }

    /// What the supernode is told to expect.
    pub(super) fn expected(&self) -> Expected {
        let size = match self {
            Input::Repeatable(source) => Some(source.size()),
            Input::Stream(Origin::Stream { size_hint, .. }) => size_hint.map(ByteCount::get),
            Input::Stream(_) => None,
        };
        Expected {
            size,
            repeatable: self.again().is_some(),
        }
    }

    /// The same once more, where that is possible and little to send.
    pub(super) fn again(&self) -> Option<Self> {
        match self {
            Input::Repeatable(source) if source.size() <= REPEATED_BYTES_MAX => {
                Some(Input::Repeatable(Arc::clone(source)))
            }
            Input::Repeatable(_) | Input::Stream(_) => None,
        }
    }
}

/// The chunks of one upload, or some of them.
pub(super) enum Works {
    /// Known from the beginning.
    Known(std::vec::IntoIter<Work>),
    /// As a task cuts them from a stream.
    Cut {
        announced: mpsc::Receiver<Result<Work, Error>>,
        _cutter: AbortOnDropHandle<()>,
    },
}

impl Works {
    /// The next chunk; `None` after the last. May be dropped and called again without losing anything.
    pub(super) async fn next(&mut self) -> Option<Result<Work, Error>> {
        match self {
            Works::Known(works) => works.next().map(Ok),
            Works::Cut { announced, .. } => announced.recv().await,
        }
    }
}

/// The parts `indices` of `source`.
pub(super) fn parts(
    source: &Arc<Repeatable>,
    chunk_bytes: u64,
    indices: impl Iterator<Item = u32>,
    buffers: &Buffers,
) -> Works {
    let size = source.size();
    let works: Vec<Work> = indices
        .map(|index| {
            let offset = u64::from(index) * chunk_bytes;
            Work {
                index,
                source: ChunkSource::Part {
                    source: Arc::clone(source),
                    offset,
                    length: size.saturating_sub(offset).min(chunk_bytes),
                    buffers: buffers.clone(),
                },
            }
        })
        .collect();
    Works::Known(works.into_iter())
}

/// A stream's chunks.
pub(super) fn cut(
    input: std::pin::Pin<Box<dyn tokio::io::AsyncRead + Send>>,
    chunk_bytes: u64,
    chunks_held_max: usize,
) -> Works {
    let (announce, announced) = mpsc::channel(1);
    let cutter = stream::cut(
        input,
        chunk_bytes,
        chunks_held_max,
        CHUNKS_PER_VERSION_MAX,
        announce,
    );
    Works::Cut {
        announced,
        _cutter: AbortOnDropHandle::new(tokio::spawn(cutter)),
    }
}
