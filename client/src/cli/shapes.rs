//! The JSON that commands print. Scripts rely on it: fields are added, never renamed or removed. Sizes are bytes, times
//! are milliseconds since 1970 (UTC), digests and ids are hexadecimal text, versions and nodes are numbers.

pub mod changes;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::download::{DownloadReport, PlacedChunk, Placement, ReplicaState};
use crate::names::{
    ClusterState, DiskInfo, Durability, Entry, EntryKind, GroupState, Installation, Load, Member, NodeInfo,
    User,
};
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

/// The whole installation.
#[derive(Clone, Debug, Serialize)]
pub struct StatusShape {
    /// `healthy`, `degraded` or `unavailable`.
    pub health: &'static str,
    /// What is wrong, one sentence each; empty when healthy.
    pub problems: Vec<String>,
    /// The names group.
    pub names: GroupShape,
    /// Every cluster.
    pub clusters: Vec<ClusterShape>,
    /// Files in all.
    pub files: u64,
    /// What they hold, each counted once.
    pub logical_bytes: u64,
    /// Uploads under way.
    pub uploads_open: u64,
}

/// A replicated group.
#[derive(Clone, Debug, Serialize)]
pub struct GroupShape {
    /// `names`, or the cluster's name.
    pub name: String,
    /// The term its leader was elected in.
    pub term: u64,
    /// The leader's name; absent while there is none.
    pub leader: Option<String>,
    /// The leader's control address.
    pub leader_control: Option<String>,
    /// Its members.
    pub members: Vec<MemberShape>,
}

/// A member of a group.
#[derive(Clone, Debug, Serialize)]
pub struct MemberShape {
    /// Its id.
    pub node: u64,
    /// Its name.
    pub name: String,
    /// `host:port` of its gRPC services.
    pub control: String,
    /// `host:port` of its data plane; empty for supernodes.
    pub data: String,
    /// Its machine.
    pub host: String,
    /// Its failure domain.
    pub zone: String,
    /// Whether it votes.
    pub voter: bool,
}

/// A cluster.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterShape {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub site: String,
    /// The term its leader was elected in.
    pub term: u64,
    /// The leader's name; absent while there is none.
    pub leader: Option<String>,
    /// The leader's control address.
    pub leader_control: Option<String>,
    /// Its nodes.
    pub nodes: Vec<NodeShape>,
    /// All nodes together.
    pub load: LoadShape,
    /// What new uploads get.
    pub durability: DurabilityShape,
    /// How old this report is; null where none was heard.
    pub report_age_millis: Option<u64>,
    /// Chunks it holds.
    pub chunks: u64,
    /// Chunks with fewer copies than promised.
    pub under_replicated_chunks: u64,
    /// Uploads under way.
    pub uploads_open: u64,
    /// Whether new files are placed here.
    pub accepts_files: bool,
    /// Why not; empty if they are.
    pub refuses_because: String,
}

/// A node of a cluster.
#[derive(Clone, Debug, Serialize)]
pub struct NodeShape {
    /// Who.
    #[serde(flatten)]
    pub member: MemberShape,
    /// How its cluster sees it: `live`, `suspect`, `dead`, ...
    pub state: String,
    /// How long ago it last spoke; null where it was not heard.
    pub heartbeat_age_millis: Option<u64>,
    /// What it carries.
    pub load: LoadShape,
    /// Its disks.
    pub disks: Vec<DiskShape>,
}

/// A disk of a node.
#[derive(Clone, Debug, Serialize)]
pub struct DiskShape {
    /// Its directory on the node.
    pub path: String,
    /// Space in all.
    pub capacity_bytes: u64,
    /// Used by the store.
    pub used_bytes: u64,
    /// What it still takes.
    pub free_bytes: u64,
    /// Why it takes no writes; empty if it does.
    pub refuses_because: String,
}

/// What a node or cluster carries.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LoadShape {
    /// Busy CPU in thousandths.
    pub cpu_permille: u32,
    /// Used memory in thousandths.
    pub memory_permille: u32,
    /// Disk space in all.
    pub capacity_bytes: u64,
    /// Disk space used.
    pub used_bytes: u64,
    /// What new data may still take.
    pub free_bytes: u64,
    /// Being written.
    pub in_flight_bytes: u64,
}

impl From<&Member> for MemberShape {
    fn from(member: &Member) -> Self {
        Self {
            node: member.node.get(),
            name: member.name.clone(),
            control: member.control.clone(),
            data: member.data.clone(),
            host: member.host.clone(),
            zone: member.zone.clone(),
            voter: member.voter,
        }
    }
}

impl From<&Load> for LoadShape {
    fn from(load: &Load) -> Self {
        Self {
            cpu_permille: load.cpu_permille,
            memory_permille: load.memory_permille,
            capacity_bytes: load.capacity.get(),
            used_bytes: load.used.get(),
            free_bytes: load.free.get(),
            in_flight_bytes: load.in_flight.get(),
        }
    }
}

impl GroupShape {
    /// The names group.
    pub fn names(group: &GroupState) -> Self {
        let leader = group
            .members
            .iter()
            .find(|member| Some(member.node) == group.leader);
        Self {
            name: "names".to_owned(),
            term: group.term,
            leader: leader.map(|member| member.name.clone()),
            leader_control: leader.map(|member| member.control.clone()),
            members: group.members.iter().map(MemberShape::from).collect(),
        }
    }

    /// A cluster's group.
    pub fn cluster(cluster: &ClusterState) -> Self {
        let shape = ClusterShape::from(cluster);
        Self {
            name: shape.name,
            term: shape.term,
            leader: shape.leader,
            leader_control: shape.leader_control,
            members: shape.nodes.into_iter().map(|node| node.member).collect(),
        }
    }
}

impl From<&NodeInfo> for NodeShape {
    fn from(node: &NodeInfo) -> Self {
        Self {
            member: MemberShape::from(&node.member),
            state: word(&node.condition),
            heartbeat_age_millis: node.heartbeat_age.map(millis),
            load: LoadShape::from(&node.load),
            disks: node.disks.iter().map(DiskShape::from).collect(),
        }
    }
}

impl From<&DiskInfo> for DiskShape {
    fn from(disk: &DiskInfo) -> Self {
        Self {
            path: disk.path.clone(),
            capacity_bytes: disk.capacity.get(),
            used_bytes: disk.used.get(),
            free_bytes: disk.free.get(),
            refuses_because: disk.writable.clone().err().unwrap_or_default(),
        }
    }
}

/// In order of name, so that watching eyes find them again.
fn nodes(cluster: &ClusterState) -> Vec<NodeShape> {
    let mut nodes: Vec<NodeShape> = cluster.nodes.iter().map(NodeShape::from).collect();
    nodes.sort_by(|a, b| a.member.name.cmp(&b.member.name));
    nodes
}

impl From<&ClusterState> for ClusterShape {
    fn from(cluster: &ClusterState) -> Self {
        let mut members = cluster.nodes.iter().map(|node| &node.member);
        let leader = members.find(|member| Some(member.node) == cluster.leader);
        Self {
            id: cluster.id.to_string(),
            name: cluster.name.clone(),
            site: cluster.site.clone(),
            term: cluster.term,
            leader: leader.map(|member| member.name.clone()),
            leader_control: leader.map(|member| member.control.clone()),
            nodes: nodes(cluster),
            load: LoadShape::from(&cluster.load),
            durability: cluster.durability.into(),
            report_age_millis: cluster.report_age.map(millis),
            chunks: cluster.chunks,
            under_replicated_chunks: cluster.under_replicated_chunks,
            uploads_open: cluster.uploads_open,
            accepts_files: cluster.accepts_files.is_ok(),
            refuses_because: cluster.accepts_files.clone().err().unwrap_or_default(),
        }
    }
}

impl From<&Installation> for StatusShape {
    fn from(installation: &Installation) -> Self {
        let (health, problems) = super::health::judge(installation);
        Self {
            health: health.word(),
            problems,
            names: GroupShape::names(&installation.names),
            clusters: installation.clusters.iter().map(ClusterShape::from).collect(),
            files: installation.files,
            logical_bytes: installation.size.get(),
            uploads_open: installation.uploads_open,
        }
    }
}

fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
