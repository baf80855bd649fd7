//! What may be asked of an upload.

use std::collections::BTreeMap;

use common::ids::{IdempotencyKey, VersionId};
use common::shutdown::Shutdown;
use common::time::ClusterTime;

use super::Checkpoint;
use crate::progress::Progress;

/// What must hold when the version is published, judged at that moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub enum Condition {
    /// Nothing: replace what is there, or create.
    #[default]
    Any,
    /// The path has no file.
    Absent,
    /// The path has a file.
    Present,
    /// The path's current version is this one.
    Version(VersionId),
}

/// The key of an upload: whoever uploads with the same key gets the same version, never a second one (P4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct UploadKey {
    /// Chosen at random.
    pub key: IdempotencyKey,
    /// When it was chosen, in the names group's time; keys older than the dedupe window are refused.
    pub born: ClusterTime,
}

/// What happens to the upload when [`UploadOptions::shutdown`] is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnInterrupt {
    /// It is aborted at the supernodes: [`crate::Error::UploadFailed`] with [`crate::Error::Interrupted`] inside.
    #[default]
    Abort,
    /// It is left open, to be resumed: [`crate::Error::UploadInterrupted`].
    Keep,
}

/// What may be asked of an upload. The default asks for nothing special.
#[derive(Clone, Debug, Default)]
pub struct UploadOptions {
    /// What must hold when the version is published.
    pub condition: Condition,
    /// Kept with the version.
    pub metadata: BTreeMap<String, String>,
    /// From [`crate::Client::upload_key`], to retry an earlier upload; `None` for a new one.
    pub key: Option<UploadKey>,
    /// Where to count.
    pub progress: Progress,
    /// Where to keep what resuming needs.
    pub checkpoint: Checkpoint,
    /// Stops the upload when given.
    pub shutdown: Shutdown,
    /// What becomes of it then.
    pub on_interrupt: OnInterrupt,
}
