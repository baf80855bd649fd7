//! Where an upload's bytes come from.

use std::path::PathBuf;
use std::pin::Pin;

use bytes::Bytes;
use common::units::ByteCount;
use tokio::io::AsyncRead;

/// Where an upload's bytes come from.
pub struct Source(pub(super) Origin);

pub(super) enum Origin {
    File(PathBuf),
    Stream {
        input: Pin<Box<dyn AsyncRead + Send>>,
        size_hint: Option<ByteCount>,
    },
    Bytes(Bytes),
    Generated {
        size: ByteCount,
        seed: u64,
    },
}

impl Source {
    /// A regular file, read to its end as it was opened, whatever becomes of its name. It is read by several tasks at
    /// once and read again where a chunk must be sent again; if its content changes meanwhile, the upload fails. What is
    /// appended meanwhile is uploaded too. A file whose length is not what the file system says (`/proc`, `/sys`) is
    /// read once, in order, like a stream.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Origin::File(path.into()))
    }

    /// Bytes that can be read once, in order, until they end. `size_hint` helps placement and need not be exact.
    /// Chunks are held in memory until they are acknowledged ([`crate::Limits::stream_chunks_held_max`]).
    pub fn stream(input: impl AsyncRead + Send + 'static, size_hint: Option<ByteCount>) -> Self {
        Self(Origin::Stream {
            input: Box::pin(input),
            size_hint,
        })
    }

    /// Bytes in memory.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self(Origin::Bytes(bytes.into()))
    }

    /// `size` bytes that do not compress, the same for the same `seed`: for benchmarks.
    pub fn generated(size: ByteCount, seed: u64) -> Self {
        Self(Origin::Generated { size, seed })
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Origin::File(path) => write!(f, "Source({})", path.display()),
            Origin::Stream { size_hint, .. } => write!(f, "Source(stream, {size_hint:?})"),
            Origin::Bytes(bytes) => write!(f, "Source({} bytes)", bytes.len()),
            Origin::Generated { size, seed } => write!(f, "Source({size} generated from {seed})"),
        }
    }
}
