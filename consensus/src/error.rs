//! What can go wrong with a group, as its users see it.

use std::path::PathBuf;

use common::error::Kind;
use common::ids::{Epoch, NodeId};

use crate::machine::FeatureLevel;
use crate::status::Member;

/// A group could not be opened, or did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// This member does not lead. Nothing was proposed.
    #[error("this member does not lead{}", leader.as_ref().map(|leader| format!(": ask {}", leader.control)).unwrap_or_default())]
    NotLeader {
        /// Who does, where it is known.
        leader: Option<Box<Member>>,
    },
    /// A queue is full. Nothing was proposed.
    #[error("too many requests wait for the group")]
    Busy,
    /// Passing, and nothing was proposed: no quorum, an election, a slow peer.
    #[error("the group cannot answer now: {reason}")]
    Retry {
        /// What is in the way.
        reason: String,
    },
    /// The command may or may not be applied, now or later. Only commands that recognise their repetition may be sent
    /// again.
    #[error("the outcome of the command is unknown")]
    OutcomeUnknown,
    /// Proposed under an epoch that was not in force when the command's turn came. Nothing was applied.
    #[error("epoch {asked} is not in force")]
    Stale {
        /// The epoch of the proposal.
        asked: Epoch,
    },
    /// The command is larger than a log entry may be.
    #[error("the command has {bytes} bytes, the limit is {limit_bytes}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// The command belongs to a feature level that is not in force. Nothing was proposed.
    #[error("this needs feature level {needed}, and the group works at {level}: upgrade all of its members")]
    Level {
        /// Of the command.
        needed: FeatureLevel,
        /// In force.
        level: FeatureLevel,
    },
    /// The disk under a voter's log is nearly full. Nothing was proposed.
    #[error(
        "the metadata disk of member {node} ({name}) is nearly full: free some space there or delete something"
    )]
    Full {
        /// Whose disk.
        node: NodeId,
        /// Its name.
        name: String,
    },
    /// A query of `read` or `read_local` failed or took longer than it may.
    #[error("the query failed: {reason}")]
    Query {
        /// What SQLite said.
        reason: String,
    },
    /// The data directory cannot be used: another process has it, it belongs to another group, or a part is missing.
    /// Nothing in it was touched.
    #[error("data directory {path}: {reason}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The settings make no sense.
    #[error("settings: {reason}")]
    Settings {
        /// Which, and why.
        reason: String,
    },
    /// The group refuses this process as a member.
    #[error("the group refuses this member: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The group was shut down.
    #[error("the group is shut down")]
    Closed,
    /// The member must not go on: a broken disk, a broken database, or broken rules of consensus. Other members do
    /// not need it; an operator does.
    #[error("this member ended: {reason}")]
    Fatal {
        /// What broke.
        reason: String,
    },
}

impl Error {
    /// What a caller can do about it. [`Error::OutcomeUnknown`] is [`Kind::Retry`]: callers whose commands do not
    /// recognise repetition match on the variant first.
    pub fn kind(&self) -> Kind {
        match self {
            Error::NotLeader { .. } => Kind::NotLeader,
            Error::Busy => Kind::Busy,
            Error::Retry { .. } | Error::OutcomeUnknown | Error::Closed => Kind::Retry,
            Error::Stale { .. } => Kind::Stale,
            Error::TooLarge { .. } | Error::Level { .. } | Error::Settings { .. } | Error::Query { .. } => {
                Kind::Invalid
            }
            Error::Full { .. } => Kind::Full,
            Error::Refused { .. } => Kind::Denied,
            Error::Directory { .. } | Error::Fatal { .. } => Kind::Fatal,
        }
    }

    pub(crate) fn retry(reason: impl Into<String>) -> Self {
        Error::Retry {
            reason: reason.into(),
        }
    }

    pub(crate) fn fatal(reason: impl std::fmt::Display) -> Self {
        Error::Fatal {
            reason: reason.to_string(),
        }
    }
}
