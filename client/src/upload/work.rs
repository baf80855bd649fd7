//! The chunks that are to be sent, in order, as they become known.

use std::sync::Arc;

use common::units::ByteCount;
use proto::CHUNKS_PER_VERSION_MAX;
use tokio::sync::mpsc;

use super::feed::ChunkSource;
use super::repeatable::{Opened, Repeatable};
use super::session::Expected;
use super::source::{Origin, Source};
use super::stamp::SourceStamp;
use super::stream;
use crate::buffer::Buffers;
use crate::error::Error;
use crate::task::{AbortOnDrop, Watched};

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
            Origin::File(path) => {
                let opening = tokio::task::spawn_blocking(move || Repeatable::open(path));
                match opening.await.map_err(Error::of_task)?? {
                    Opened::Anywhere(file) => file,
                    Opened::InOrder(file) => {
                        let input = Box::pin(tokio::fs::File::from_std(file));
                        let size_hint = None;
                        return Ok(Input::Stream(Origin::Stream { input, size_hint }));
                    }
                }
            }
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

    /// What can be read any number of times.
    pub(super) fn repeatable(&self) -> Option<Arc<Repeatable>> {
        match self {
            Input::Repeatable(source) => Some(Arc::clone(source)),
            Input::Stream(_) => None,
        }
    }

    /// What tells the file from others; `None` for what is no file.
    pub(super) fn stamp(&self) -> Option<SourceStamp> {
        self.repeatable().and_then(|source| source.stamp())
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
        cutter: Watched,
        _abort: AbortOnDrop,
    },
}

impl Works {
    /// The next chunk; `None` after the last. May be dropped and called again without losing anything.
    pub(super) async fn next(&mut self) -> Option<Result<Work, Error>> {
        match self {
            Works::Known(works) => works.next().map(Ok),
            Works::Cut {
                announced, cutter, ..
            } => match announced.recv().await {
                Some(work) => Some(work),
                // A cutter that panicked has not come to the input's end.
                None => cutter.check().await.err().map(Err),
            },
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
    let task = tokio::spawn(cutter);
    Works::Cut {
        announced,
        _abort: AbortOnDrop(task.abort_handle()),
        cutter: Watched::new(task),
    }
}
