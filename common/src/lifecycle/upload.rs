//! An upload: the cluster's side of one attempt to write a version.

use super::IllegalMove;

states! {
    /// The cluster's side of one upload. Sealed and abandoned are two commands on one row: whichever is applied first
    /// wins, and the other is refused.
    Upload is "upload" {
        /// Not readable; may be written; its chunks may be planned on nodes and are not reclaimed. Moved on by `Seal`
        /// (the client, through the leader) or by `Abandon` (the leader, when the client is silent for too long or
        /// the names layer says that the session was aborted).
        Open = 1 "open",
        /// Has a manifest, and from now on its [`Version`](super::Version) says what may be read. Not writable. Final.
        Sealed = 2 "sealed",
        /// Never readable, not writable, its chunks are reclaimed. Final: a late seal is refused.
        Abandoned = 3 "abandoned",
    }
}

events! {
    /// What the cluster log applies to an upload.
    UploadEvent moves Upload {
        /// `Seal` with a manifest that names no doomed chunk.
        Seal -> Sealed "upload.sealed",
        /// `Abandon`.
        Abandon -> Abandoned "upload.abandoned",
    }
}

impl Upload {
    /// The state after `event`.
    pub const fn next(self, event: UploadEvent) -> Result<Self, IllegalMove> {
        match (self, event) {
            (Self::Open, UploadEvent::Seal | UploadEvent::Abandon) => Ok(event.target()),
            (Self::Sealed | Self::Abandoned, UploadEvent::Seal | UploadEvent::Abandon) => {
                Err(event.illegal_from(self))
            }
        }
    }

    /// May chunks be planned and written for it? Its chunks are kept for as long as this holds.
    pub const fn may_be_written(self) -> bool {
        match self {
            Self::Open => true,
            Self::Sealed | Self::Abandoned => false,
        }
    }
}
