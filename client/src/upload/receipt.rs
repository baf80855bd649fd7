//! What a finished upload returns.

use common::ids::{Digest, NodeId, UploadId, VersionId};
use common::path::RemotePath;
use common::time::WallTime;
use common::units::ByteCount;

use crate::names::Durability;

/// Proof of an upload: what was stored, where, how durably.
#[derive(Clone, PartialEq, Debug)]
pub struct UploadReceipt {
    /// Where it is.
    pub path: RemotePath,
    /// The version it became.
    pub version: VersionId,
    /// The upload that made it.
    pub upload: UploadId,
    /// Its length.
    pub size: ByteCount,
    /// BLAKE3 of its content, as `b3sum` prints it.
    pub digest: Digest,
    /// When it was sealed, by the wall clock of the leader; `None` where a retry found it published already and
    /// its cluster could not be asked.
    pub modified: Option<WallTime>,
    /// What is in force for it; `None` as above.
    pub durability: Option<Durability>,
    /// Where its copies are; empty as above.
    pub places: Vec<CopyPlace>,
    /// The cluster that holds it.
    pub cluster: String,
    /// Its chunks.
    pub chunks: u32,
    /// Chunks that this call sent; fewer than all when it resumed.
    pub chunks_sent: u32,
    /// Bytes that this call sent, repetitions not counted.
    pub sent: ByteCount,
    /// Whether an earlier call with the same key had published it already.
    pub already_published: bool,
}

/// A node that keeps copies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyPlace {
    /// Which.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// The machine it runs on.
    pub host: String,
    /// Its failure domain.
    pub zone: String,
    /// How many chunks of the version it keeps.
    pub chunks: u32,
}
