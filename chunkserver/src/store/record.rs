//! What a record says about itself.

use common::ids::{AttemptId, Digest, DiskId, UploadNumber, VersionId};

/// What is known of a chunk before its first byte; goes into the record's header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordMeta {
    /// The try.
    pub attempt: AttemptId,
    /// The upload, as the cluster counts it.
    pub upload: UploadNumber,
    /// The version the chunk belongs to.
    pub version: VersionId,
    /// The chunk's place in the version.
    pub index: u32,
    /// For the operator who has lost everything else; cut at a character boundary where it is too long.
    pub path_hint: String,
}

/// A record that is on stable storage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    /// The try.
    pub attempt: AttemptId,
    /// The upload, as the cluster counts it.
    pub upload: UploadNumber,
    /// The version the chunk belongs to.
    pub version: VersionId,
    /// The chunk's place in the version.
    pub index: u32,
    /// Where it is.
    pub disk: DiskId,
    /// Bytes of payload.
    pub length: u64,
    /// The chunk's digest as its writer stated it. Not computed here: blocks are checked by their checksums, the
    /// digest is checked end to end by the client.
    pub digest: Digest,
}

/// One line of the inventory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InventoryItem {
    /// The try.
    pub attempt: AttemptId,
    /// The upload, as the cluster counts it.
    pub upload: UploadNumber,
    /// The version the chunk belongs to.
    pub version: VersionId,
    /// The chunk's place in the version.
    pub index: u32,
    /// Where it is.
    pub disk: DiskId,
    /// Bytes of payload.
    pub length: u64,
    /// Found damaged: kept aside, not served, to be replaced from another copy and then dropped.
    pub suspect: bool,
}
