//! What an interrupted upload needs to go on: its key, and which chunks were acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::path::RemotePath;
use parking_lot::Mutex;

use super::{Condition, UploadKey};

/// Everything that resuming needs beside the source. Serialisable (JSON): whoever wants to resume across processes
/// stores it, as a secret of the user's, and drops it once the upload is done.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct ResumeState {
    /// Grows when the format changes; others are refused.
    pub format: u32,
    /// The upload's key.
    pub key: UploadKey,
    /// Where it goes.
    pub path: String,
    /// What must hold when it is published.
    pub condition: Condition,
    /// Kept with the version.
    pub metadata: BTreeMap<String, String>,
    /// The length of chunks, in bytes.
    pub chunk_bytes: u64,
    /// What was acknowledged, by chunk index: receipts as on the wire, hexadecimal.
    pub receipts: BTreeMap<u32, String>,
}

/// A cloneable handle to the latest [`ResumeState`] of one upload, which the upload keeps up to date.
#[derive(Clone, Default)]
pub struct Checkpoint(Arc<Mutex<Option<ResumeState>>>);

impl Checkpoint {
    /// Empty, until the upload has begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// What resuming would need now; `None` before the upload was opened.
    pub fn current(&self) -> Option<ResumeState> {
        self.0.lock().clone()
    }
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let receipts = self.0.lock().as_ref().map(|state| state.receipts.len());
        write!(f, "Checkpoint({receipts:?} receipts)")
    }
}

impl ResumeState {
    /// Where the upload goes.
    ///
    /// # Errors
    /// The text is not a path: the state was damaged.
    pub fn remote_path(&self) -> Result<RemotePath, common::path::Error> {
        self.path.parse()
    }
}
