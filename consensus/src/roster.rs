//! What a member says about its group: status and members, put together from Raft and the committed records.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::ids::{Epoch, NodeId};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Instant as _, ServerState};

use crate::cluster_time::Timekeeper;
use crate::engine::Raft;
use crate::error::Error;
use crate::health::Health;
use crate::settings::Timings;
use crate::state::Shared;
use crate::status::{GroupStatus, Member, Role};
use crate::transport::Identity;

pub(crate) struct Roster {
    pub(crate) raft: Raft,
    pub(crate) state: Arc<Shared>,
    pub(crate) timekeeper: Arc<Timekeeper>,
    pub(crate) identity: Identity,
    pub(crate) health: Health,
    pub(crate) timings: Timings,
    /// Our leadership has to begin again.
    pub(crate) renewed: tokio::sync::Notify,
}

impl Roster {
    /// All members, by id. Who is about to vote, or about to vote no more, does not count as a voter: the group may
    /// still need those who voted before.
    pub(crate) fn members(&self) -> Arc<[Member]> {
        let voters: BTreeSet<u64> = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            let committed = metrics.committed_membership_config.membership();
            let mut configs = committed.get_joint_config().iter();
            let first = configs.next().cloned().unwrap_or_default();
            configs.fold(first, |in_all, config| &in_all & config)
        };
        let rows = self.state.members.borrow().clone();
        rows.iter()
            .map(|row| Member {
                node_id: NodeId::new(row.node),
                control: row.record.control.clone(),
                data: row.record.data.clone(),
                name: row.record.name.clone(),
                zone: row.record.zone.clone(),
                host: row.record.host.clone(),
                voter: voters.contains(&row.node),
                active: row.active,
            })
            .collect()
    }

    pub(crate) fn leader_id(&self) -> Option<u64> {
        self.raft.server_metrics().borrow_watched().current_leader
    }

    /// Who leads, as far as we know.
    pub(crate) fn leader(&self) -> Option<Member> {
        let leader = self.leader_id()?;
        let members = self.members();
        members
            .iter()
            .find(|member| member.node_id.get() == leader)
            .cloned()
    }

    /// The answer to whoever takes us for the leader.
    pub(crate) fn not_leader(&self) -> Error {
        let us = self.identity.node;
        let leader = self.leader().filter(|leader| leader.node_id != us);
        Error::NotLeader {
            leader: leader.map(Box::new),
        }
    }

    /// Whether a quorum answered us lately.
    fn has_quorum(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let alone = metrics.membership_config.voter_ids().eq([metrics.id]);
        let limit = self.timings.election_max + self.timings.heartbeat;
        alone
            || metrics
                .last_quorum_acked
                .is_some_and(|at| at.elapsed() < limit.max(Duration::from_millis(1)))
    }

    /// Our leadership, if it is in force and a quorum is with us.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        let leading = self.timekeeper.leading()?;
        let in_force = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            metrics.state == ServerState::Leader && metrics.vote.leader_id.term == leading.term
        };
        (in_force && self.health.check().is_ok() && self.has_quorum()).then_some(leading.epoch)
    }

    /// How many members vote.
    pub(crate) fn voters(&self) -> usize {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.voter_ids().count()
    }

    pub(crate) fn status(&self) -> GroupStatus {
        let fatal = self.health.reason();
        let (state, term, current_leader) = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            (metrics.state, metrics.vote.leader_id.term, metrics.current_leader)
        };
        let role = match state {
            _ if fatal.is_some() => Role::Stopped,
            ServerState::Leader => Role::Leader,
            ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Learner => Role::Learner,
            ServerState::Shutdown => Role::Stopped,
        };
        let members = self.members();
        let leader = members
            .iter()
            .find(|member| Some(member.node_id.get()) == current_leader)
            .cloned();
        // Never two looks at the position at a time: the second would wait for a writer that waits for the first.
        let (applied, level) = {
            let position = self.state.position.borrow();
            (position.index(), position.level)
        };
        GroupStatus {
            cluster_id: self.identity.cluster,
            node_id: self.identity.node,
            role,
            term,
            leader,
            epoch: self.epoch(),
            applied,
            level,
            now: self.timekeeper.now(),
            members,
            fatal,
        }
    }
}
