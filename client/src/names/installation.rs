//! The state of the whole installation: groups, leaders, nodes, space, durability in force.

use std::time::Duration;

use common::ids::{ClusterId, Generation, NodeId};
use common::units::ByteCount;
use proto::names::v1 as wire;

use crate::error::Error;

/// The whole installation.
#[derive(Clone, PartialEq, Debug)]
pub struct Installation {
    /// The names group.
    pub names: GroupState,
    /// Every cluster.
    pub clusters: Vec<ClusterState>,
    /// Files in all.
    pub files: u64,
    /// What they hold, each counted once.
    pub size: ByteCount,
    /// Uploads under way.
    pub uploads_open: u64,
}

/// A replicated group.
#[derive(Clone, PartialEq, Debug)]
pub struct GroupState {
    /// The term its leader was elected in.
    pub term: u64,
    /// `None` while there is no leader.
    pub leader: Option<NodeId>,
    /// Its members.
    pub members: Vec<Member>,
    /// How many are to vote; 0 where it is not known.
    pub voters_wanted: u32,
}

/// A member of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its id in the group.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// `host:port` of its gRPC services.
    pub control: String,
    /// `host:port` of its data plane; empty for supernodes.
    pub data: String,
    /// Its failure domain.
    pub zone: String,
    /// The machine it runs on.
    pub host: String,
    /// Whether it votes.
    pub voter: bool,
    /// What the group's leader makes of it.
    pub condition: MemberCondition,
    /// How long it has not answered the leader; `None` where there is no leader.
    pub silent_for: Option<Duration>,
    /// Entries of the log that it lacks; `None` where that is not known.
    pub lag_entries: Option<u64>,
}

/// What the leader of a group makes of a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberCondition {
    /// There is no leader, or it said it in a word that this build does not know.
    Unknown,
    /// It answers and has nearly all of the log.
    UpToDate,
    /// It answers and receives what it lacks.
    CatchingUp,
    /// It does not answer.
    Silent,
    /// It takes no part until it announces itself again.
    SetAside,
}

/// A cluster, as it last reported.
#[derive(Clone, PartialEq, Debug)]
pub struct ClusterState {
    /// Its id.
    pub id: ClusterId,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub site: String,
    /// How often it was founded or rebuilt.
    pub generation: Generation,
    /// The term its leader was elected in.
    pub term: u64,
    /// `None` while there is no leader.
    pub leader: Option<NodeId>,
    /// Its nodes.
    pub nodes: Vec<NodeInfo>,
    /// All nodes together.
    pub load: Load,
    /// What new uploads get.
    pub durability: Durability,
    /// How old this report is; `None` where the supernode that answered has not heard the cluster yet.
    pub report_age: Option<Duration>,
    /// Chunks it holds.
    pub chunks: u64,
    /// Chunks with fewer copies than promised.
    pub under_replicated_chunks: u64,
    /// Uploads under way.
    pub uploads_open: u64,
    /// `Ok` where new files are placed here, otherwise why not.
    pub accepts_files: Result<(), String>,
    /// How many nodes are to vote; 0 where it is not known.
    pub voters_wanted: u32,
}

/// A node and how it does.
#[derive(Clone, PartialEq, Debug)]
pub struct NodeInfo {
    /// Who.
    pub member: Member,
    /// How its cluster sees it.
    pub condition: NodeCondition,
    /// What it carries.
    pub load: Load,
    /// How long ago it last spoke; `None` where its leader has not heard it yet.
    pub heartbeat_age: Option<Duration>,
    /// Its disks, as it last said.
    pub disks: Vec<DiskInfo>,
}

/// A disk of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiskInfo {
    /// Its directory on the node.
    pub path: String,
    /// Space in all.
    pub capacity: ByteCount,
    /// Used by the store.
    pub used: ByteCount,
    /// What it still takes.
    pub free: ByteCount,
    /// `Ok` where it takes writes, otherwise why not.
    pub writable: Result<(), String>,
}

/// How a cluster sees a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeCondition {
    /// Not told, or told in a word that this build does not know.
    Unknown,
    /// Known, but not used yet.
    Joining,
    /// In use.
    Live,
    /// Silent for a while.
    Suspect,
    /// Silent for so long that its chunks are copied elsewhere.
    Dead,
    /// Being emptied.
    Draining,
    /// Emptied and left.
    Gone,
}

/// What a node or cluster carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    /// Busy CPU in thousandths.
    pub cpu_permille: u32,
    /// Used memory in thousandths.
    pub memory_permille: u32,
    /// Disk space in all.
    pub capacity: ByteCount,
    /// Disk space used.
    pub used: ByteCount,
    /// What new data may still take.
    pub free: ByteCount,
    /// Being written.
    pub in_flight: ByteCount,
}

/// How durably something is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Durability {
    /// Copies of every chunk, on different nodes.
    pub copies: u32,
    /// Whether the operator allowed less than what is promised.
    pub reduced: bool,
    /// Different hosts which the copies are on.
    pub hosts: u32,
    /// Different zones which the copies are on.
    pub zones: u32,
}

impl TryFrom<wire::StatusReply> for Installation {
    type Error = Error;
    fn try_from(wire: wire::StatusReply) -> Result<Self, Error> {
        Ok(Self {
            names: wire.names.unwrap_or_default().into(),
            clusters: wire
                .clusters
                .into_iter()
                .map(ClusterState::try_from)
                .collect::<Result<_, _>>()?,
            files: wire.files,
            size: ByteCount::new(wire.logical_bytes),
            uploads_open: wire.uploads_open,
        })
    }
}

impl From<wire::GroupStatus> for GroupState {
    fn from(wire: wire::GroupStatus) -> Self {
        Self {
            term: wire.term,
            leader: wire.leader_node_id.map(NodeId::new),
            members: wire.members.into_iter().map(Member::from).collect(),
            voters_wanted: wire.voters_wanted,
        }
    }
}

impl From<wire::GroupMember> for Member {
    fn from(wire: wire::GroupMember) -> Self {
        let condition = wire.state().into();
        Self {
            node: NodeId::new(wire.node_id),
            name: wire.name,
            control: wire.control,
            data: wire.data,
            zone: wire.zone,
            host: wire.host,
            voter: wire.voter,
            condition,
            silent_for: wire.silent_millis.map(Duration::from_millis),
            lag_entries: wire.lag_entries,
        }
    }
}

impl From<wire::MemberState> for MemberCondition {
    fn from(wire: wire::MemberState) -> Self {
        match wire {
            wire::MemberState::Unspecified => MemberCondition::Unknown,
            wire::MemberState::UpToDate => MemberCondition::UpToDate,
            wire::MemberState::CatchingUp => MemberCondition::CatchingUp,
            wire::MemberState::Silent => MemberCondition::Silent,
            wire::MemberState::SetAside => MemberCondition::SetAside,
        }
    }
}

impl TryFrom<wire::ClusterStatus> for ClusterState {
    type Error = Error;
    fn try_from(wire: wire::ClusterStatus) -> Result<Self, Error> {
        Ok(Self {
            id: ClusterId::try_from(wire.cluster_id.as_ref())
                .map_err(|_| Error::protocol(format!("cluster {} without an id", wire.name)))?,
            name: wire.name,
            site: wire.site,
            generation: Generation::new(wire.generation),
            term: wire.term,
            leader: wire.leader_node_id.map(NodeId::new),
            nodes: wire.nodes.into_iter().map(NodeInfo::from).collect(),
            load: wire.load.unwrap_or_default().into(),
            durability: wire.durability.unwrap_or_default().into(),
            report_age: wire.report_age_millis.map(Duration::from_millis),
            chunks: wire.chunks,
            under_replicated_chunks: wire.under_replicated_chunks,
            uploads_open: wire.uploads_open,
            accepts_files: if wire.accepts_files {
                Ok(())
            } else {
                Err(wire.refuses_because)
            },
            voters_wanted: wire.voters_wanted,
        })
    }
}

impl From<wire::NodeStatus> for NodeInfo {
    fn from(wire: wire::NodeStatus) -> Self {
        let condition = wire.state().into();
        Self {
            member: wire.member.unwrap_or_default().into(),
            condition,
            load: wire.load.unwrap_or_default().into(),
            heartbeat_age: wire.heartbeat_age_millis.map(Duration::from_millis),
            disks: wire.disks.into_iter().map(DiskInfo::from).collect(),
        }
    }
}

impl From<wire::DiskStatus> for DiskInfo {
    fn from(wire: wire::DiskStatus) -> Self {
        Self {
            path: wire.path,
            capacity: ByteCount::new(wire.capacity_bytes),
            used: ByteCount::new(wire.used_bytes),
            free: ByteCount::new(wire.free_bytes),
            writable: if wire.refuses_because.is_empty() {
                Ok(())
            } else {
                Err(wire.refuses_because)
            },
        }
    }
}

impl From<wire::NodeState> for NodeCondition {
    fn from(wire: wire::NodeState) -> Self {
        match wire {
            wire::NodeState::Unspecified => NodeCondition::Unknown,
            wire::NodeState::Joining => NodeCondition::Joining,
            wire::NodeState::Live => NodeCondition::Live,
            wire::NodeState::Suspect => NodeCondition::Suspect,
            wire::NodeState::Dead => NodeCondition::Dead,
            wire::NodeState::Draining => NodeCondition::Draining,
            wire::NodeState::Gone => NodeCondition::Gone,
        }
    }
}

impl From<wire::Load> for Load {
    fn from(wire: wire::Load) -> Self {
        Self {
            cpu_permille: wire.cpu_permille,
            memory_permille: wire.memory_permille,
            capacity: ByteCount::new(wire.capacity_bytes),
            used: ByteCount::new(wire.used_bytes),
            free: ByteCount::new(wire.free_bytes),
            in_flight: ByteCount::new(wire.in_flight_bytes),
        }
    }
}

impl From<wire::Durability> for Durability {
    fn from(wire: wire::Durability) -> Self {
        Self {
            copies: wire.copies,
            reduced: wire.reduced,
            hosts: wire.hosts,
            zones: wire.zones,
        }
    }
}
