//! What a member knows about its group.

use std::sync::Arc;
use std::time::Duration;

use common::ids::{ClusterId, Epoch, LogIndex, NodeId};
use common::time::ClusterTime;

use crate::machine::FeatureLevel;

/// What a member does in its group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Takes proposals. Only [`GroupStatus::epoch`] says whether its leadership is in force.
    Leader,
    /// Votes and stores.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Stores, but does not vote (yet).
    Learner,
    /// Ended, by shutdown or by [`crate::Error::Fatal`].
    Stopped,
}

/// A member as its own process describes itself: the committed record.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemberRecord {
    /// Where its control server is reached (`host:port`).
    pub control: String,
    /// Where its bulk data server is reached (`host:port`); empty where it has none.
    pub data: String,
    /// Its name, for people.
    pub name: String,
    /// Its failure domain.
    pub zone: String,
    /// The machine it runs on.
    pub host: String,
    /// The highest feature level that its build knows; [`crate::Group::open`] fills it in.
    pub level: FeatureLevel,
}

/// A member of the group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its identity in the group.
    pub node_id: NodeId,
    /// Where its control server is reached (`host:port`).
    pub control: String,
    /// Where its bulk data server is reached (`host:port`); empty where it has none.
    pub data: String,
    /// Its name, for people.
    pub name: String,
    /// Its failure domain.
    pub zone: String,
    /// The machine it runs on.
    pub host: String,
    /// Whether it votes.
    pub voter: bool,
    /// Whether it takes part in replication: a member that was unreachable for long is set aside until it announces
    /// itself again.
    pub active: bool,
}

/// How the leader reaches a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reach {
    /// How long it has not answered. One that never answered has been silent since this leadership began.
    pub silent_for: Duration,
    /// How many entries of the log it lacks; `None` while that is not known.
    pub lag_entries: Option<u64>,
    /// What the two amount to.
    pub condition: Condition,
}

/// What the leader makes of a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// It answers and has nearly all of the log.
    UpToDate,
    /// It answers and receives what it lacks.
    CatchingUp,
    /// It has not answered for longer than an election takes.
    Silent,
    /// It takes no part until it announces itself again.
    SetAside,
}

impl From<Condition> for proto::names::v1::MemberState {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::UpToDate => Self::UpToDate,
            Condition::CatchingUp => Self::CatchingUp,
            Condition::Silent => Self::Silent,
            Condition::SetAside => Self::SetAside,
        }
    }
}

/// A member's view of its group; another member's may be ahead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupStatus {
    /// The group.
    pub cluster_id: ClusterId,
    /// Who we are in it.
    pub node_id: NodeId,
    /// What we do in it.
    pub role: Role,
    /// The Raft term.
    pub term: u64,
    /// Who leads, as far as we know.
    pub leader: Option<Member>,
    /// Our leadership: only while we lead, our `LeaderStarted` is applied here, and a quorum answered lately. Orders
    /// are given under it, and refused under any other.
    pub epoch: Option<Epoch>,
    /// Up to here the log is applied on this member.
    pub applied: LogIndex,
    /// The feature level in force.
    pub level: FeatureLevel,
    /// The length of the state machine's write-ahead log.
    pub wal_bytes: u64,
    /// How often queries waited so that it could begin anew.
    pub reads_held: u64,
    /// As [`crate::Group::now`].
    pub now: ClusterTime,
    /// All members, by id, set aside ones included.
    pub members: Arc<[Member]>,
    /// Why the member ended by itself, if it did.
    pub fatal: Option<String>,
}

impl GroupStatus {
    /// The member with this id.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.node_id == node)
    }
}
