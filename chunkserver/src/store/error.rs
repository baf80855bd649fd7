//! What can go wrong in the store, and what a caller can do about it.

use std::path::PathBuf;

use common::disk;
use common::error::Kind;
use common::ids::{AttemptId, Epoch};

/// The store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A data directory cannot be used as it is; the text says what to do.
    #[error("cannot use {path}: {reason}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// No disk takes writes: every one of them is full.
    #[error("no disk of this node has room for {bytes} more bytes; add a disk or delete data")]
    Full {
        /// What was asked for.
        bytes: u64,
    },
    /// No disk takes writes: those that are not full have failed.
    #[error("no disk of this node takes writes: {reason}")]
    Unwritable {
        /// Why, for one of them.
        reason: String,
    },
    /// Too much at once.
    #[error("too many {what} at once")]
    Busy {
        /// Of what.
        what: &'static str,
    },
    /// The attempt may lie on a disk that is not recovered yet.
    #[error("a disk of this node is not recovered yet: {reason}")]
    Unrecovered {
        /// What keeps it.
        reason: String,
    },
    /// Nothing is stored under this attempt.
    #[error("attempt {attempt} is not stored here")]
    NotFound {
        /// Which.
        attempt: AttemptId,
    },
    /// The attempt was dropped; it never comes back.
    #[error("attempt {attempt} was dropped here")]
    Dropped {
        /// Which.
        attempt: AttemptId,
    },
    /// The attempt is being written, or is stored with another upload, version or index.
    #[error("attempt {attempt} is {state}")]
    Conflict {
        /// Which.
        attempt: AttemptId,
        /// What is in the way.
        state: &'static str,
    },
    /// A block failed its checksum or could not be read. When reading, the record is kept aside and never served
    /// again; when writing, the bytes that arrived were not those that were sent.
    #[error("block {block} of attempt {attempt} failed its checksum")]
    Corrupt {
        /// Which attempt.
        attempt: AttemptId,
        /// Its place in the chunk.
        block: u32,
    },
    /// The record's header or trailer is damaged; the record is kept aside and never served again.
    #[error("the record of attempt {attempt} is damaged: {part}")]
    Damaged {
        /// Which attempt.
        attempt: AttemptId,
        /// Which part of it.
        part: &'static str,
    },
    /// An order of a leadership that is over.
    #[error("the order is of epoch {epoch}, but epoch {highest} has been seen")]
    Stale {
        /// Of the order.
        epoch: Epoch,
        /// The highest made durable here.
        highest: Epoch,
    },
    /// The request can never succeed as it is.
    #[error("{reason}")]
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
    /// The disk did not do what it was asked for.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// The store is being closed.
    #[error("the store is closed")]
    Closed,
}

impl Error {
    /// The same error for one more of those who shared a sync.
    pub(super) fn shared(&self) -> Self {
        match self {
            Error::Full { bytes } => Error::Full { bytes: *bytes },
            Error::Disk(disk::Error::Full { disk }) => Error::Disk(disk::Error::Full { disk: disk.clone() }),
            other => Error::Unwritable {
                reason: common::error::chain(other),
            },
        }
    }

    /// What a caller can do.
    pub const fn kind(&self) -> Kind {
        match self {
            Error::Directory { .. } => Kind::Fatal,
            Error::Full { .. } => Kind::Full,
            Error::Unwritable { .. } | Error::Unrecovered { .. } | Error::Closed => Kind::Retry,
            Error::Busy { .. } => Kind::Busy,
            Error::NotFound { .. } => Kind::NotFound,
            Error::Dropped { .. } | Error::Conflict { .. } => Kind::Conflict,
            Error::Corrupt { .. } | Error::Damaged { .. } => Kind::Corrupt,
            Error::Stale { .. } => Kind::Stale,
            Error::Invalid { .. } => Kind::Invalid,
            Error::Disk(error) => error.kind(),
        }
    }
}
