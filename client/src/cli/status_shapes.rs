//! The fields of `dbfs status` and `dbfs leader` with `--json`: the installation, its groups, members and nodes.
//!
//! They are a contract with scripts as those of `shapes.rs` are: fields are added, never renamed or given another
//! meaning. What is not known is null, never a number that stands for nothing.

use std::time::Duration;

use serde::Serialize;

use super::shapes::{DurabilityShape, word};
use crate::names::{
    ClusterState, DiskInfo, GroupState, Installation, Load, Member, MemberCondition, NodeInfo,
};

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
    /// What the group's leader makes of it: `up_to_date`, `catching_up`, `silent`, `set_aside` or `unknown`.
    pub replication: &'static str,
    /// How long it has not answered the leader; null where there is no leader.
    pub silent_millis: Option<u64>,
    /// Entries of the log that it lacks; null where that is not known.
    pub lag_entries: Option<u64>,
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
    /// How old this report is; null where the supernode that answered has not heard the cluster yet.
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
    /// How long ago it last spoke; null where its leader has not heard it yet.
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

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
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
            replication: match member.condition {
                MemberCondition::Unknown => "unknown",
                MemberCondition::UpToDate => "up_to_date",
                MemberCondition::CatchingUp => "catching_up",
                MemberCondition::Silent => "silent",
                MemberCondition::SetAside => "set_aside",
            },
            silent_millis: member.silent_for.map(millis),
            lag_entries: member.lag_entries,
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
