//! Download: the bytes of one version, each of them verified, from whichever copies are good.

mod options;
mod placement;
mod range;
mod sink;

pub use options::{DownloadOptions, DownloadReport};
pub use placement::{PlacedChunk, PlacedCopy, Placement, ReplicaState};
pub use range::{ByteRange, ParseRangeError};
pub use sink::Sink;
