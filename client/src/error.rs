//! What can go wrong for a client, told apart by what the caller may conclude.
//!
//! Invariant: [`Error::UploadFailed`] is returned only when it is certain that the version will never appear (its
//! abort is committed at the supernodes, or the upload was never opened); anything less is [`Error::OutcomeUnknown`].

use std::io;
use std::path::PathBuf;

use common::error::Kind;
use common::ids::{IdempotencyKey, NodeId, UploadId};
use common::path::RemotePath;
use proto::error::RpcError;
use tokio::task::JoinError;

use crate::task;

/// Codes by which servers say that the session or the key of an upload is of no use any more.
const UPLOAD_OVER: &[&str] = &[
    "E_ABANDONED",
    "E_CHUNK_LENGTH",
    "E_KEY",
    "E_KEY_EXPIRED",
    "E_KEY_FROM_FUTURE",
    "E_KEY_REUSED",
    "E_SESSION_LOST",
    "E_UPLOAD_ABORTED",
    "E_UPLOAD_ENDED",
    "E_UPLOAD_FORGOTTEN",
    "E_UPLOAD_NOT_FOUND",
    "E_UPLOAD_UNKNOWN",
];

/// A client's error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A server refused, or did not come to an answer within the budget of retries.
    #[error("{call} failed")]
    Call {
        /// What was asked, for example `stat`.
        call: &'static str,
        /// What was answered.
        #[source]
        source: Box<RpcError>,
    },
    /// No supernode, or no member of a cluster, could be reached.
    #[error("none of the {whom} answers: tried {}", tried.join(", "))]
    Unreachable {
        /// `supernodes`, or `members of cluster alpha`.
        whom: String,
        /// Their addresses.
        tried: Vec<String>,
        /// The last reason.
        #[source]
        source: Box<RpcError>,
    },
    /// Not uploaded, and certain never to appear.
    #[error("the upload of {path} failed; nothing of it will appear")]
    UploadFailed {
        /// Where it should have gone.
        path: RemotePath,
        /// `None` where it was never opened.
        upload: Option<UploadId>,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// Whether the upload was or will be published could not be learned.
    #[error("the outcome of the upload of {path} is unknown")]
    OutcomeUnknown {
        /// Where it goes.
        path: RemotePath,
        /// `None` where not even opening it was answered.
        upload: Option<UploadId>,
        /// Uploading again with this key never makes a second version.
        key: IdempotencyKey,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// The upload was stopped on request and can be resumed.
    #[error("the upload of {path} was interrupted")]
    UploadInterrupted {
        /// Where it goes.
        path: RemotePath,
        /// Its id.
        upload: UploadId,
    },
    /// The names layer refused to publish: a condition did not hold, the quota is used up, a permission was taken.
    #[error("{message}")]
    Refused {
        /// A stable code, for example `E_CONFLICT`.
        code: String,
        /// One sentence.
        message: String,
    },
    /// A chunk could not be stored anywhere.
    #[error("chunk {index} could not be stored in {tries} tries")]
    ChunkNotStored {
        /// The chunk's place in the file.
        index: u32,
        /// How often it was tried.
        tries: u32,
        /// The last reason.
        #[source]
        source: Box<RpcError>,
    },
    /// No copy of a chunk could be read.
    #[error("chunk {index} of {path} cannot be read from any node{}", bad.iter().map(|bad| format!("; {bad}")).collect::<String>())]
    ChunkNotReadable {
        /// The file.
        path: RemotePath,
        /// The chunk's place in the file.
        index: u32,
        /// Every copy that was tried, and what was wrong.
        bad: Vec<BadCopy>,
    },
    /// The bytes do not have the digest of the version although every chunk had its own.
    #[error("{path} does not have the digest that its version states")]
    WrongDigest {
        /// The file.
        path: RemotePath,
    },
    /// The local file changed while it was being read.
    #[error("{path} changed while it was uploaded")]
    SourceChanged {
        /// The local file.
        path: PathBuf,
    },
    /// The source of a resumed upload is not the one it began with.
    #[error("the upload cannot be resumed: {0}")]
    NotResumable(String),
    /// A local file or stream failed.
    #[error("cannot {action} {path}")]
    Local {
        /// `read`, `create`, ...
        action: &'static str,
        /// The local file, or `the input`.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Stopped on request.
    #[error("interrupted")]
    Interrupted,
    /// A task of this process panicked: a defect of this program, never of what was asked.
    #[error("a part of this program panicked: {0}")]
    Panicked(String),
    /// The request makes no sense as it is.
    #[error("{0}")]
    Invalid(String),
    /// The path is a directory or bucket where a file is needed.
    #[error("{0} is not a file")]
    NotAFile(RemotePath),
    /// A server sent something that this build cannot make sense of.
    #[error("a server sent {0}")]
    Protocol(String),
    /// The CA certificate or a server's name is unusable.
    #[error("TLS cannot be set up")]
    Tls(#[from] common::tls::Error),
}

/// One copy of a chunk that could not be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadCopy {
    /// The chunk's place in the file.
    pub index: u32,
    /// Where the copy is.
    pub node: NodeId,
    /// The node's name.
    pub node_name: String,
    /// `Corrupt` for bytes that failed their checksum; otherwise why the node could not give them.
    pub kind: Kind,
    /// One sentence.
    pub reason: String,
}

impl std::fmt::Display for BadCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "chunk {} at {} (node {}): {}",
            self.index, self.node_name, self.node, self.reason
        )
    }
}

impl Error {
    /// How a task ended that was waited for and gave no result: by a panic, or with its runtime.
    pub(crate) fn of_task(error: JoinError) -> Self {
        match error.try_into_panic() {
            Ok(payload) => Error::Panicked(task::panic_message(payload.as_ref())),
            Err(_) => Error::Interrupted,
        }
    }

    /// Whether this says of an upload that is to go on that there is nothing to go on with: its session has ended, is
    /// forgotten or belongs to something else. Uploading from the beginning is what helps.
    pub(crate) fn is_upload_over(&self) -> bool {
        match self {
            Error::NotResumable(_) => true,
            Error::UploadFailed { source, .. } | Error::OutcomeUnknown { source, .. } => {
                source.is_upload_over()
            }
            other => UPLOAD_OVER.contains(&other.code()),
        }
    }

    /// What the failure of an upload came from.
    pub(crate) fn innermost(&self) -> &Self {
        match self {
            Error::UploadFailed { source, .. } | Error::OutcomeUnknown { source, .. } => source.innermost(),
            other => other,
        }
    }

    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Error::Protocol(what.into())
    }

    pub(crate) fn local(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Error::Local {
            action,
            path: path.into(),
            source,
        }
    }

    /// As it would travel.
    pub(crate) fn into_rpc(self) -> RpcError {
        match self {
            Error::Call { source, .. } | Error::Unreachable { source, .. } => *source,
            other => {
                RpcError::new(other.kind(), other.code(), common::error::chain(&other)).hint(other.hint())
            }
        }
    }

    /// What the caller can do.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Call { source, .. } => source.kind,
            Error::ChunkNotStored { source, .. } if !source.kind.is_passing() => source.kind,
            Error::Unreachable { .. }
            | Error::OutcomeUnknown { .. }
            | Error::UploadInterrupted { .. }
            | Error::ChunkNotStored { .. }
            | Error::Interrupted => Kind::Retry,
            Error::UploadFailed { source, .. } => source.kind(),
            Error::Refused { code, .. } => kind_of_refusal(code),
            Error::ChunkNotReadable { bad, .. } => {
                if !bad.is_empty() && bad.iter().all(|copy| copy.kind == Kind::Corrupt) {
                    Kind::Corrupt
                } else {
                    Kind::Retry
                }
            }
            Error::WrongDigest { .. } => Kind::Corrupt,
            Error::SourceChanged { .. } => Kind::Conflict,
            Error::Local { source, .. } => kind_of_io(source),
            Error::NotResumable(_) | Error::Invalid(_) | Error::NotAFile(_) | Error::Protocol(_) => {
                Kind::Invalid
            }
            Error::Tls(_) | Error::Panicked(_) => Kind::Fatal,
        }
    }

    /// A stable name, for example `E_NO_LEADER`. `dbfs explain CODE` says more.
    pub fn code(&self) -> &str {
        match self {
            Error::Call { source, .. } => &source.code,
            Error::Unreachable { .. } => "E_UNREACHABLE",
            Error::UploadFailed { source, .. } => source.code(),
            Error::OutcomeUnknown { .. } => "E_OUTCOME_UNKNOWN",
            Error::UploadInterrupted { .. } | Error::Interrupted => "E_INTERRUPTED",
            Error::Refused { code, .. } => code,
            Error::ChunkNotStored { source, .. } => match source.kind {
                Kind::Full => "E_NO_SPACE",
                _ => "E_CHUNK_NOT_STORED",
            },
            Error::ChunkNotReadable { .. } => "E_CHUNK_NOT_READABLE",
            Error::WrongDigest { .. } => "E_CORRUPT",
            Error::SourceChanged { .. } => "E_SOURCE_CHANGED",
            Error::NotResumable(_) => "E_NOT_RESUMABLE",
            Error::Panicked(_) => "E_PANIC",
            Error::Local { .. } => "E_LOCAL_FILE",
            Error::Invalid(_) => "E_INVALID",
            Error::NotAFile(_) => "E_NOT_A_FILE",
            Error::Protocol(_) => "E_PROTOCOL",
            Error::Tls(_) => "E_TLS",
        }
    }

    /// What to do about it; may be empty.
    pub fn hint(&self) -> String {
        match self {
            Error::Call { source, .. } => source.hint.clone(),
            Error::Unreachable { source, .. } if source.hint.is_empty() => {
                "check that the addresses are right and that the servers run; those that were just started \
                 turn callers away until most of them are up"
                    .to_owned()
            }
            Error::Unreachable { source, .. } => source.hint.clone(),
            Error::UploadFailed { source, .. } => source.hint(),
            Error::OutcomeUnknown { .. } | Error::UploadInterrupted { .. } => {
                "run the same upload again: it finds out how this one ended and sends what is missing"
                    .to_owned()
            }
            Error::ChunkNotStored { source, .. } => source.hint.clone(),
            Error::ChunkNotReadable { .. } => {
                "look at `dbfs placement` and `dbfs status`: nodes may be down or being repaired".to_owned()
            }
            Error::WrongDigest { .. } => "report this: stored data and metadata disagree".to_owned(),
            Error::SourceChanged { .. } => "upload a copy or snapshot that nobody writes to".to_owned(),
            Error::Protocol(_) => "client and servers may be of versions too far apart".to_owned(),
            Error::NotResumable(_) => "upload it again from the beginning".to_owned(),
            Error::Panicked(_) => "report this: no input and no answer should make it panic".to_owned(),
            Error::Refused { .. }
            | Error::Local { .. }
            | Error::Interrupted
            | Error::Invalid(_)
            | Error::NotAFile(_)
            | Error::Tls(_) => String::new(),
        }
    }

    /// The request as the server logged it, where it said.
    pub fn request_id(&self) -> Option<&str> {
        let source = match self {
            Error::Call { source, .. }
            | Error::Unreachable { source, .. }
            | Error::ChunkNotStored { source, .. } => source,
            Error::UploadFailed { source, .. } | Error::OutcomeUnknown { source, .. } => {
                return source.request_id();
            }
            _ => return None,
        };
        Some(source.request_id.as_str()).filter(|id| !id.is_empty())
    }
}

/// Codes of refusals at publication carry no kind on the wire: a version is refused for what these codes name.
fn kind_of_refusal(code: &str) -> Kind {
    match code {
        "E_DENIED" => Kind::Denied,
        "E_QUOTA" | "E_NO_SPACE" => Kind::Full,
        "E_NOT_FOUND" | "E_UPLOAD_UNKNOWN" | "E_UPLOAD_FORGOTTEN" => Kind::NotFound,
        "E_TOO_LARGE" | "E_DIGEST" => Kind::Invalid,
        "E_SESSION_LOST" => Kind::Retry,
        _ => Kind::Conflict,
    }
}

fn kind_of_io(error: &io::Error) -> Kind {
    match error.kind() {
        io::ErrorKind::NotFound => Kind::NotFound,
        io::ErrorKind::PermissionDenied => Kind::Denied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Kind::Full,
        io::ErrorKind::AlreadyExists => Kind::Conflict,
        io::ErrorKind::Interrupted | io::ErrorKind::TimedOut => Kind::Retry,
        _ => Kind::Invalid,
    }
}
