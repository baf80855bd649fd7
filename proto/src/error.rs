//! Errors on the wire: a gRPC status whose details carry an `ErrorDetail`, in both directions.

use std::time::Duration;

use common::error::Kind;
use prost::Message;
use tonic::{Code, Status};

use crate::detail::v1::ErrorDetail;

/// An error that crosses a process boundary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    /// What the caller can do.
    pub kind: Kind,
    /// Stable name, for example `E_NO_LEADER`.
    pub code: String,
    /// One sentence that names the thing concerned.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
    /// Wait at least this long before trying again.
    pub retry_after: Duration,
    /// Control address of the leader, where known (kind `NotLeader`).
    pub leader: Option<String>,
    /// The request as the server logged it; may be empty.
    pub request_id: String,
}

impl RpcError {
    /// An error of `kind` with a stable `code` and one sentence.
    pub fn new(kind: Kind, code: &str, message: impl Into<String>) -> Self {
        Self {
            kind,
            code: code.to_owned(),
            message: message.into(),
            hint: String::new(),
            retry_after: Duration::ZERO,
            leader: None,
            request_id: String::new(),
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Adds how long to wait.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = wait;
        self
    }

    /// This member does not lead; `leader` is the control address of the one that does.
    pub fn not_leader(leader: Option<String>) -> Self {
        let message = match &leader {
            Some(address) => format!("this member does not lead; {address} does"),
            None => "there is no leader at the moment".to_owned(),
        };
        Self {
            leader,
            ..Self::new(Kind::NotLeader, "E_NO_LEADER", message)
        }
    }
}

fn grpc_code(kind: Kind) -> Code {
    match kind {
        Kind::Retry | Kind::NotLeader => Code::Unavailable,
        Kind::Stale => Code::Aborted,
        Kind::NotFound => Code::NotFound,
        Kind::Denied => Code::PermissionDenied,
        Kind::Busy | Kind::Full => Code::ResourceExhausted,
        Kind::Corrupt => Code::DataLoss,
        Kind::Conflict => Code::FailedPrecondition,
        Kind::Invalid => Code::InvalidArgument,
        Kind::Fatal => Code::Internal,
    }
}

/// The kind of a status without details: it came from the transport or from a foreign server.
fn kind_of_code(code: Code) -> Kind {
    match code {
        Code::NotFound => Kind::NotFound,
        Code::PermissionDenied | Code::Unauthenticated => Kind::Denied,
        Code::ResourceExhausted => Kind::Busy,
        Code::DataLoss => Kind::Corrupt,
        Code::AlreadyExists | Code::FailedPrecondition => Kind::Conflict,
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => Kind::Invalid,
        _ => Kind::Retry,
    }
}

impl From<RpcError> for Status {
    fn from(error: RpcError) -> Status {
        let detail = ErrorDetail {
            kind: error.kind.code(),
            code: error.code,
            message: error.message.clone(),
            hint: error.hint,
            retry_after_millis: u32::try_from(error.retry_after.as_millis()).unwrap_or(u32::MAX),
            leader: error.leader.unwrap_or_default(),
            request_id: error.request_id,
        };
        Status::with_details(
            grpc_code(error.kind),
            error.message,
            detail.encode_to_vec().into(),
        )
    }
}

impl From<Status> for RpcError {
    fn from(status: Status) -> RpcError {
        match ErrorDetail::decode(status.details()) {
            Ok(detail) if detail.kind != 0 => RpcError {
                kind: Kind::from_code(detail.kind),
                code: detail.code,
                message: detail.message,
                hint: detail.hint,
                retry_after: Duration::from_millis(detail.retry_after_millis.into()),
                leader: Some(detail.leader).filter(|leader| !leader.is_empty()),
                request_id: detail.request_id,
            },
            _ => {
                let message = if status.message().is_empty() {
                    format!("the call failed: {}", status.code())
                } else {
                    status.message().to_owned()
                };
                RpcError::new(kind_of_code(status.code()), "E_TRANSPORT", message)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_survive_the_wire() {
        let error = RpcError::not_leader(Some("127.0.0.1:7001".to_owned()))
            .hint("wait for an election")
            .retry_after(Duration::from_millis(50));
        assert_eq!(RpcError::from(Status::from(error.clone())), error);
    }

    #[test]
    fn foreign_statuses_have_a_kind() {
        assert_eq!(RpcError::from(Status::unavailable("gone")).kind, Kind::Retry);
        assert_eq!(RpcError::from(Status::not_found("")).kind, Kind::NotFound);
    }
}
