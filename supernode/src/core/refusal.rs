//! Why a request is not carried out: the one vocabulary of the names layer, from the decision to the wire.

use common::error::Kind;
use common::ids::{Generation, UploadId};
use common::path::RemotePath;
use common::units::ByteCount;

/// A decision against a request. The state is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    kind: Kind,
    code: String,
    message: String,
    hint: String,
}

impl Refusal {
    /// A refusal of `kind` with a stable `code` (`E_...`) and one sentence.
    pub(crate) fn new(kind: Kind, code: &str, message: impl Into<String>) -> Self {
        Self {
            kind,
            code: code.to_owned(),
            message: message.into(),
            hint: String::new(),
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// What the caller can do.
    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// Stable name, for example `E_NOT_FOUND`.
    pub(crate) fn code(&self) -> &str {
        &self.code
    }

    /// One sentence.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it; may be empty.
    pub(crate) fn hint_text(&self) -> &str {
        &self.hint
    }

    /// There is nothing at `path`, or the caller may not know that there is: deliberately one answer (P9).
    pub(crate) fn no_path(path: &RemotePath) -> Self {
        Self::new(
            Kind::NotFound,
            "E_NOT_FOUND",
            format!("there is nothing at {path}"),
        )
    }

    /// The key was used for something else (P4).
    pub(crate) fn key_reused() -> Self {
        Self::new(
            Kind::Conflict,
            "E_KEY_REUSED",
            "the idempotency key belongs to an upload of another path",
        )
        .hint("choose a new key for every upload")
    }

    /// There is no such upload, or it is somebody else's (P9).
    pub(crate) fn no_upload(id: UploadId) -> Self {
        Self::new(
            Kind::NotFound,
            "E_UPLOAD_NOT_FOUND",
            format!("there is no upload {id}"),
        )
    }

    /// There is no such item in the trash, or it is somebody else's, or its time is over (P9).
    pub(crate) fn no_trash(id: u64) -> Self {
        Self::new(
            Kind::NotFound,
            "E_NOT_FOUND",
            format!("there is no item {id} in the trash"),
        )
    }

    /// There is no such user.
    pub(crate) fn no_user(name: &str) -> Self {
        Self::new(
            Kind::NotFound,
            "E_USER_NOT_FOUND",
            format!("there is no user '{name}'"),
        )
    }

    /// Something other than a directory is where `path` needs one.
    pub(crate) fn not_a_directory(path: &str) -> Self {
        Self::new(
            Kind::Conflict,
            "E_NOT_A_DIRECTORY",
            format!("{path} is a file, not a directory"),
        )
    }

    /// A directory is where a file is asked for.
    pub(crate) fn is_a_directory(path: &str) -> Self {
        Self::new(
            Kind::Conflict,
            "E_IS_A_DIRECTORY",
            format!("{path} is a directory"),
        )
    }

    /// No version can be so long.
    pub(crate) fn too_large(bytes: u64) -> Self {
        Self::new(
            Kind::Invalid,
            "E_TOO_LARGE",
            format!(
                "a file of {} is larger than any can be ({})",
                ByteCount::new(bytes),
                ByteCount::new(super::quota::VERSION_BYTES_MAX)
            ),
        )
    }

    /// The cluster has not registered.
    pub(crate) fn unknown_cluster() -> Self {
        Self::new(
            Kind::Retry,
            "E_CLUSTER_UNKNOWN",
            "the cluster is not registered: its heartbeat does that",
        )
    }

    /// The cluster was set aside for good.
    pub(crate) fn retired(name: &str) -> Self {
        Self::new(
            Kind::Stale,
            "E_CLUSTER_RETIRED",
            format!("cluster {name} was retired: nothing of it is taken in any more"),
        )
        .hint("found it anew, under another name")
    }

    /// There is no such cluster.
    pub(crate) fn no_cluster(name: &str) -> Self {
        Self::new(
            Kind::NotFound,
            "E_CLUSTER_NOT_FOUND",
            format!("there is no cluster '{name}'"),
        )
    }

    /// The cluster `name` is at generation `current`, and `given` is another.
    pub(crate) fn stale_generation(name: &str, current: Generation, given: u64) -> Self {
        Self::new(
            Kind::Stale,
            "E_GENERATION",
            format!("cluster {name} is of generation {current}, not {given}"),
        )
    }

    /// Something below `path` cannot be shown, because no request can name it.
    pub(crate) fn unnameable(path: &str) -> Self {
        Self::new(
            Kind::Conflict,
            "E_PATH",
            format!("something below {path}... has a path that is too long to be named: it cannot be shown"),
        )
        .hint("move a directory above it nearer to the bucket")
    }

    /// A number is larger than any that there can be.
    pub(crate) fn number(given: u64) -> Self {
        Self::new(
            Kind::Invalid,
            "E_NUMBER",
            format!("{given} is larger than any number that is kept here"),
        )
    }

    /// The request cannot succeed as it is.
    pub(crate) fn invalid(code: &str, message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, code, message)
    }
}
