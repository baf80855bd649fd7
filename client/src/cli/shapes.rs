//! The JSON that commands print. Scripts rely on it: fields are added, never renamed or removed. Sizes are bytes, times
//! are milliseconds since 1970 (UTC), digests and ids are hexadecimal text, versions and nodes are numbers.

pub mod changes;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::download::{DownloadReport, PlacedChunk, Placement, ReplicaState};
use crate::names::{Durability, Entry, EntryKind, User};
use crate::upload::UploadReceipt;

/// A file, directory or bucket.
#[derive(Clone, Debug, Serialize)]
pub struct EntryShape {
    /// `file`, `directory` or `bucket`.
    pub kind: &'static str,
    /// Where.
    pub path: String,
    /// Whose.
    pub owner: String,
    /// When it last changed.
    pub modified_millis: u64,
    /// Files: the version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Files: the length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Files: BLAKE3 of the content, as `b3sum` prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Files: what was given with `--meta`; files and directories: what the system keeps itself (`dbfs.`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Files: the clusters that hold it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
}

impl From<&Entry> for EntryShape {
    fn from(entry: &Entry) -> Self {
        let mut shape = Self {
            kind: "bucket",
            path: entry.path.to_string(),
            owner: entry.owner.clone(),
            modified_millis: entry.modified.as_millis(),
            version: None,
            size: None,
            digest: None,
            metadata: entry.metadata.clone(),
            clusters: Vec::new(),
        };
        match &entry.kind {
            EntryKind::Bucket => {}
            EntryKind::Directory => shape.kind = "directory",
            EntryKind::File {
                version,
                size,
                digest,
                clusters,
            } => {
                shape.kind = "file";
                shape.version = Some(version.get());
                shape.size = Some(size.get());
                shape.digest = Some(digest.to_string());
                shape.clusters.clone_from(clusters);
            }
        }
        shape
    }
}

/// What is behind an acknowledgement.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DurabilityShape {
    /// Copies of every chunk, on different nodes.
    pub copies: u32,
    /// Different hosts.
    pub hosts: u32,
    /// Different zones.
    pub zones: u32,
    /// Whether the operator allowed less than what is promised.
    pub reduced: bool,
}

impl From<Durability> for DurabilityShape {
    fn from(durability: Durability) -> Self {
        Self {
            copies: durability.copies,
            hosts: durability.hosts,
            zones: durability.zones,
            reduced: durability.reduced,
        }
    }
}

/// A finished upload.
#[derive(Clone, Debug, Serialize)]
pub struct ReceiptShape {
    /// The local file, or `-`.
    pub source: String,
    /// Where it is.
    pub path: String,
    /// The version it became.
    pub version: u64,
    /// Its length.
    pub size: u64,
    /// BLAKE3 of its content.
    pub digest: String,
    /// The cluster that holds it.
    pub cluster: String,
    /// Its chunks.
    pub chunks: u32,
    /// Chunks that were sent.
    pub chunks_sent: u32,
    /// Bytes that were sent.
    pub sent_bytes: u64,
    /// What is in force for it; absent where a retry found it stored and could not ask.
    pub durability: Option<DurabilityShape>,
    /// Where its copies are.
    pub places: Vec<PlaceShape>,
}

/// A node with copies.
#[derive(Clone, Debug, Serialize)]
pub struct PlaceShape {
    /// Its id.
    pub node: u64,
    /// Its name.
    pub name: String,
    /// Its machine.
    pub host: String,
    /// Its failure domain.
    pub zone: String,
    /// How many chunks of the file it keeps.
    pub chunks: u32,
}

impl ReceiptShape {
    /// Of an upload from `source`.
    pub fn new(source: &str, receipt: &UploadReceipt) -> Self {
        let places = receipt.places.iter().map(|place| PlaceShape {
            node: place.node.get(),
            name: place.name.clone(),
            host: place.host.clone(),
            zone: place.zone.clone(),
            chunks: place.chunks,
        });
        Self {
            source: source.to_owned(),
            path: receipt.path.to_string(),
            version: receipt.version.get(),
            size: receipt.size.get(),
            digest: receipt.digest.to_string(),
            cluster: receipt.cluster.clone(),
            chunks: receipt.chunks,
            chunks_sent: receipt.chunks_sent,
            sent_bytes: receipt.sent.get(),
            durability: receipt.durability.map(DurabilityShape::from),
            places: places.collect(),
        }
    }
}

/// A finished download.
#[derive(Clone, Debug, Serialize)]
pub struct DownloadShape {
    /// The remote file.
    pub path: String,
    /// The local file, or `-`.
    pub destination: String,
    /// The version that was read.
    pub version: Option<u64>,
    /// Bytes delivered.
    pub size: u64,
    /// Of these, bytes that an earlier attempt had left.
    pub resumed_bytes: u64,
    /// BLAKE3 of the whole version.
    pub digest: Option<String>,
    /// Whether the whole was read and has that digest. A range is verified block by block.
    pub digest_verified: bool,
    /// Copies that were bad or out of reach; another copy served instead.
    pub bad_copies: Vec<BadCopyShape>,
}

/// A copy that could not be used.
#[derive(Clone, Debug, Serialize)]
pub struct BadCopyShape {
    /// The chunk.
    pub chunk: u32,
    /// The node.
    pub node: u64,
    /// Its name.
    pub name: String,
    /// Whether its bytes failed their checksum.
    pub corrupt: bool,
    /// One sentence.
    pub reason: String,
}

impl DownloadShape {
    /// Of a download to `destination`.
    pub fn new(destination: &str, report: &DownloadReport) -> Self {
        let entry = EntryShape::from(&report.entry);
        let bad = report.bad.iter().map(|bad| BadCopyShape {
            chunk: bad.index,
            node: bad.node.get(),
            name: bad.node_name.clone(),
            corrupt: bad.kind == common::error::Kind::Corrupt,
            reason: bad.reason.clone(),
        });
        Self {
            path: entry.path,
            destination: destination.to_owned(),
            version: entry.version,
            size: report.delivered.get(),
            resumed_bytes: report.resumed.get(),
            digest: entry.digest,
            digest_verified: report.digest_verified,
            bad_copies: bad.collect(),
        }
    }
}

/// Where a file's chunks are.
#[derive(Clone, Debug, Serialize)]
pub struct PlacementShape {
    /// The file.
    pub path: String,
    /// The version.
    pub version: Option<u64>,
    /// Its length.
    pub size: u64,
    /// The cluster's id.
    pub cluster_id: String,
    /// The cluster's name.
    pub cluster: String,
    /// The length of every chunk but the last.
    pub chunk_bytes: u64,
    /// In order.
    pub chunks: Vec<ChunkShape>,
}

/// Where one chunk is.
#[derive(Clone, Debug, Serialize)]
pub struct ChunkShape {
    /// Its place in the file.
    pub index: u32,
    /// Its length.
    pub size: u64,
    /// Its BLAKE3 chaining value.
    pub digest: String,
    /// The attempt that succeeded.
    pub attempt: String,
    /// Its copies.
    pub copies: Vec<CopyShape>,
}

/// One copy of a chunk.
#[derive(Clone, Debug, Serialize)]
pub struct CopyShape {
    /// The node.
    pub node: u64,
    /// Its name.
    pub name: String,
    /// Its machine.
    pub host: String,
    /// Its failure domain.
    pub zone: String,
    /// `stored`, `suspect`, `leaving` or `unknown`.
    pub state: &'static str,
    /// How the cluster sees the node: `live`, `suspect`, `dead`, ...
    pub node_state: String,
}

impl From<&Placement> for PlacementShape {
    fn from(placement: &Placement) -> Self {
        Self {
            path: placement.entry.path.to_string(),
            version: placement.entry.version().map(common::ids::VersionId::get),
            size: placement.entry.size().get(),
            cluster_id: placement.cluster.to_string(),
            cluster: placement.cluster_name.clone(),
            chunk_bytes: placement.chunk_size.get(),
            chunks: placement.chunks.iter().map(ChunkShape::from).collect(),
        }
    }
}

impl From<&PlacedChunk> for ChunkShape {
    fn from(chunk: &PlacedChunk) -> Self {
        let copies = chunk.copies.iter().map(|copy| CopyShape {
            node: copy.node.get(),
            name: copy.node_name.clone(),
            host: copy.host.clone(),
            zone: copy.zone.clone(),
            state: replica_state(copy.state),
            node_state: word(&copy.condition),
        });
        Self {
            index: chunk.index,
            size: chunk.length.get(),
            digest: chunk.digest.to_string(),
            attempt: chunk.attempt.to_string(),
            copies: copies.collect(),
        }
    }
}

const fn replica_state(state: ReplicaState) -> &'static str {
    match state {
        ReplicaState::Unknown => "unknown",
        ReplicaState::Stored => "stored",
        ReplicaState::Suspect => "suspect",
        ReplicaState::Leaving => "leaving",
    }
}

/// The lower-case word of an enum without fields.
pub fn word(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").to_ascii_lowercase()
}

/// A user.
#[derive(Clone, Debug, Serialize)]
pub struct UserShape {
    /// The id.
    pub id: u64,
    /// The login name.
    pub name: String,
    /// `user` or `admin`.
    pub role: String,
    /// Whether they may log in.
    pub enabled: bool,
    /// The most they may store; absent for no limit.
    pub quota_bytes: Option<u64>,
    /// What they store.
    pub used_bytes: u64,
    /// When they were created.
    pub created_millis: u64,
}

impl From<&User> for UserShape {
    fn from(user: &User) -> Self {
        Self {
            id: user.id.get(),
            name: user.name.clone(),
            role: word(&user.role),
            enabled: user.enabled,
            quota_bytes: user.quota.map(common::units::ByteCount::get),
            used_bytes: user.used.get(),
            created_millis: user.created.as_millis(),
        }
    }
}
