//! Where the chunks of a version are, for people to look at.

use std::sync::Arc;

use common::ids::{AttemptId, ClusterId, Digest, DiskId, NodeId, VersionId};
use common::path::RemotePath;
use common::units::ByteCount;

use super::manifest::{self, PAGE_CHUNKS_MAX, Page};
use crate::error::Error;
use crate::names::{Entry, NodeCondition};
use crate::routing::Router;

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

/// Asks for the whole manifest of a file.
pub(crate) async fn placement(
    router: &Arc<Router>,
    path: &RemotePath,
    version: Option<VersionId>,
) -> Result<Placement, Error> {
    let version = manifest::find(router, path, version).await?;
    let first = version.page(0, PAGE_CHUNKS_MAX).await?;
    let mut placement = Placement {
        entry: version.entry.clone(),
        cluster: first.cluster,
        cluster_name: first.cluster_name.clone(),
        chunk_size: ByteCount::new(first.chunk_bytes),
        chunks: Vec::new(),
    };
    let count = first.chunk_count;
    placement.extend(first);
    while let Some(next) = u32::try_from(placement.chunks.len())
        .ok()
        .filter(|next| *next < count)
    {
        placement.extend(version.page(next, PAGE_CHUNKS_MAX).await?);
    }
    Ok(placement)
}

impl Placement {
    fn extend(&mut self, page: Page) {
        self.chunks
            .extend(page.chunks.into_iter().map(|chunk| PlacedChunk {
                index: chunk.index,
                length: ByteCount::new(chunk.length),
                digest: chunk.digest,
                attempt: chunk.attempt,
                copies: chunk.copies.iter().cloned().map(PlacedCopy::from).collect(),
            }));
    }
}

impl From<manifest::Copy> for PlacedCopy {
    fn from(copy: manifest::Copy) -> Self {
        Self {
            node: copy.target.node,
            data: copy.target.address,
            node_name: copy.node_name,
            host: copy.host,
            zone: copy.zone,
            disk: copy.disk,
            state: copy.state,
            condition: copy.condition,
        }
    }
}
