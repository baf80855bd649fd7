//! How errors of this node become answers: who failed, what the client can do, a stable code and one sentence.

use common::error::{Kind, chain};
use common::ids::NodeId;
use proto::bulk::error::Error as PeerError;
use proto::bulk::grant;
use proto::bulk::message::Failure;

use crate::store::error::Error as StoreError;

/// The grant was refused.
pub(crate) fn of_grant(me: NodeId, error: grant::Error) -> Failure {
    Failure::new(me, error.kind(), error.code(), error.to_string())
}

/// A grant for something else. Says no more than a forged one would (P9).
pub(crate) fn not_permitted(me: NodeId) -> Failure {
    of_grant(me, grant::Error::Invalid)
}

/// The store of this node refused or failed.
pub(crate) fn of_store(me: NodeId, error: &StoreError) -> Failure {
    let kind = match error.kind() {
        // What ends this process need not end the client's upload: another node takes the chunk.
        Kind::Fatal => Kind::Retry,
        kind => kind,
    };
    let code = match kind {
        Kind::Full => "E_DISK_FULL",
        Kind::Busy => "E_DISK_BUSY",
        Kind::NotFound => "E_CHUNK_NOT_HERE",
        Kind::Corrupt => "E_BLOCK_CORRUPT",
        Kind::Conflict => "E_ATTEMPT_CONFLICT",
        Kind::Invalid => "E_PUT_SHAPE",
        Kind::Retry | Kind::NotLeader | Kind::Stale | Kind::Denied | Kind::Fatal => "E_DISK_FAILED",
    };
    let block = match error {
        StoreError::Corrupt { block, .. } => Some(*block),
        _ => None,
    };
    Failure {
        block,
        ..Failure::new(me, kind, code, chain(error))
    }
}

/// The delegate failed, or could not be reached.
pub(crate) fn of_delegate(me: NodeId, error: PeerError) -> Failure {
    let (kind, node, retry_after) = (error.kind(), error.node(), error.retry_after());
    match error {
        PeerError::Failed(failure) => failure,
        // The limit is this node's own.
        PeerError::NoneFree { .. } => Failure::new(me, kind, "E_DELEGATE_CONNECTIONS", chain(&error)),
        PeerError::Refused { goodbye, .. } => Failure {
            retry_after,
            ..Failure::new(node, kind, &goodbye.code, goodbye.message)
        },
        other => Failure::new(node, kind, "E_DELEGATE_UNREACHABLE", chain(&other)),
    }
}

/// Blocks or lengths that do not fit together.
pub(crate) fn shape(me: NodeId, what: &str) -> Failure {
    Failure::new(me, Kind::Invalid, "E_PUT_SHAPE", what)
}

/// A transfer was slower than any may be, or a disk does not answer.
pub(crate) fn too_slow(node: NodeId, message: impl Into<String>) -> Failure {
    Failure::new(node, Kind::Retry, "E_TOO_SLOW", message)
}
