//! Where the chunks of a version are, for people to look at.

use common::ids::{AttemptId, ClusterId, Digest, DiskId, NodeId};
use common::units::ByteCount;

use crate::names::{Entry, NodeCondition};

/// Where a version's chunks are.
#[derive(Clone, PartialEq, Debug)]
pub struct Placement {
    /// The version.
    pub entry: Entry,
    /// The cluster's id.
    pub cluster: ClusterId,
    /// The cluster's name.
    pub cluster_name: String,
    /// The length of every chunk but the last.
    pub chunk_size: ByteCount,
    /// In order.
    pub chunks: Vec<PlacedChunk>,
}

/// Where one chunk is.
#[derive(Clone, PartialEq, Debug)]
pub struct PlacedChunk {
    /// Its place in the file.
    pub index: u32,
    /// Its length.
    pub length: ByteCount,
    /// Its BLAKE3 chaining value.
    pub digest: Digest,
    /// The attempt that succeeded.
    pub attempt: AttemptId,
    /// Its copies.
    pub copies: Vec<PlacedCopy>,
}

/// One copy of a chunk.
#[derive(Clone, PartialEq, Debug)]
pub struct PlacedCopy {
    /// Who has it.
    pub node: NodeId,
    /// The node's name.
    pub node_name: String,
    /// The machine it runs on.
    pub host: String,
    /// Its failure domain.
    pub zone: String,
    /// `host:port` of its data plane.
    pub data: String,
    /// On which of its disks.
    pub disk: DiskId,
    /// The copy's state.
    pub state: ReplicaState,
    /// How the cluster sees the node.
    pub condition: NodeCondition,
}

/// The state of a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplicaState {
    /// Not told, or in a word that this build does not know.
    Unknown,
    /// Good.
    Stored,
    /// Its node is silent, or it failed a check.
    Suspect,
    /// On its way out.
    Leaving,
}
