//! Where a download's bytes go.

use std::path::PathBuf;
use std::pin::Pin;

use tokio::io::AsyncWrite;

/// Where a download's bytes go.
pub struct Sink(pub(super) Target);

pub(super) enum Target {
    File(PathBuf),
    Writer(Pin<Box<dyn AsyncWrite + Send>>),
    Discard,
}

impl Sink {
    /// A file. The bytes are written beside it and take its name, durably, once all of them are there and verified.
    /// Where the path is a link, the file it leads to. A pipe, terminal or device is written through, in order, and
    /// never replaced; a socket is refused.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Target::File(path.into()))
    }

    /// In order, each byte after its block was verified. The writer is flushed at the end, not shut down.
    pub fn writer(output: impl AsyncWrite + Send + 'static) -> Self {
        Self(Target::Writer(Box::pin(output)))
    }

    /// Nowhere: verified and forgotten, for checks and benchmarks.
    pub const fn discard() -> Self {
        Self(Target::Discard)
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Target::File(path) => write!(f, "Sink({})", path.display()),
            Target::Writer(_) => f.write_str("Sink(writer)"),
            Target::Discard => f.write_str("Sink(discard)"),
        }
    }
}
