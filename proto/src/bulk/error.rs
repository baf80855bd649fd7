//! What can go wrong on the asking side of the data plane. Every error says which node it concerns, so that the next
//! plan can avoid that node.

use std::io;
use std::time::Duration;

use common::error::Kind;
use common::ids::{AttemptId, NodeId};

use super::frame::Malformed;
use super::message::{Failure, Goodbye};
use super::transport;

/// A put or a get did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers at the address, or not as the node's cluster would.
    #[error("cannot reach node {node} at {address}")]
    Connect {
        /// Who was meant.
        node: NodeId,
        /// Where it should be.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The node ended the connection and said why.
    #[error("node {node} ended the connection: {goodbye}")]
    Refused {
        /// Who.
        node: NodeId,
        /// What it said.
        goodbye: Goodbye,
    },
    /// Another node serves the address now.
    #[error("{address} belongs to node {found}, not to node {node}")]
    WrongNode {
        /// Who was meant.
        node: NodeId,
        /// Who answered.
        found: NodeId,
        /// Where.
        address: String,
    },
    /// The connection ended or failed under way.
    #[error("the connection to node {node} broke")]
    Broken {
        /// Who was at the other end.
        node: NodeId,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The node sent what the protocol does not allow.
    #[error("node {node} broke the protocol")]
    Protocol {
        /// Who.
        node: NodeId,
        /// What.
        #[source]
        source: Malformed,
    },
    /// The node did not do its part in time.
    #[error("node {node} did not {what} within {limit:?}")]
    Timeout {
        /// Who.
        node: NodeId,
        /// What it should have done.
        what: &'static str,
        /// In which time.
        limit: Duration,
    },
    /// The node, or the delegate behind it, said that the request failed.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// A block from the node does not match its checksum: read it elsewhere and report it.
    #[error("node {node} sent block {block} of attempt {attempt} with other bytes than were stored")]
    Corrupt {
        /// Who.
        node: NodeId,
        /// The attempt read.
        attempt: AttemptId,
        /// The block's number in the chunk, from 0.
        block: u32,
    },
    /// The caller's own blocks or lengths do not fit together.
    #[error("the request to node {node} is not one: {what}")]
    Misuse {
        /// Who it was for.
        node: NodeId,
        /// What is wrong.
        what: &'static str,
    },
    /// This process has as many connections as it may have.
    #[error("no connection to node {node} is free")]
    NoneFree {
        /// Who was meant.
        node: NodeId,
    },
}

impl Error {
    /// What can be done about it. What concerns one node alone is passing: another attempt goes elsewhere.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Connect { .. } | Error::Broken { .. } | Error::Protocol { .. } | Error::Timeout { .. } => {
                Kind::Retry
            }
            Error::WrongNode { .. } => Kind::Stale,
            Error::Refused { goodbye, .. } => goodbye.kind,
            Error::Failed(failure) => failure.kind,
            Error::Corrupt { .. } => Kind::Corrupt,
            Error::Misuse { .. } => Kind::Invalid,
            Error::NoneFree { .. } => Kind::Busy,
        }
    }

    /// The node that failed: the one asked, or the delegate behind it.
    pub fn node(&self) -> NodeId {
        match self {
            Error::Connect { node, .. }
            | Error::Refused { node, .. }
            | Error::WrongNode { node, .. }
            | Error::Broken { node, .. }
            | Error::Protocol { node, .. }
            | Error::Timeout { node, .. }
            | Error::Corrupt { node, .. }
            | Error::Misuse { node, .. }
            | Error::NoneFree { node } => *node,
            Error::Failed(failure) => failure.node,
        }
    }

    /// Wait at least this long before asking the same node again; zero means: your own backoff.
    pub fn retry_after(&self) -> Duration {
        match self {
            Error::Refused { goodbye, .. } => goodbye.retry_after,
            Error::Failed(failure) => failure.retry_after,
            Error::Connect { .. }
            | Error::WrongNode { .. }
            | Error::Broken { .. }
            | Error::Protocol { .. }
            | Error::Timeout { .. }
            | Error::Corrupt { .. }
            | Error::Misuse { .. }
            | Error::NoneFree { .. } => Duration::ZERO,
        }
    }

    pub(super) fn of_transport(node: NodeId, error: transport::Error) -> Self {
        match error {
            transport::Error::Io(source) => Error::Broken { node, source },
            transport::Error::Malformed(source) => Error::Protocol { node, source },
        }
    }

    pub(super) fn protocol(node: NodeId, source: Malformed) -> Self {
        Error::Protocol { node, source }
    }
}
