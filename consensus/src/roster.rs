//! What a member says about its group: status and members, put together from Raft and the committed records.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use common::ids::{Epoch, NodeId};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Instant as _, ServerState};

use crate::background::voters::LAG_ENTRIES_MAX;
use crate::cluster_time::Timekeeper;
use crate::engine::Raft;
use crate::error::Error;
use crate::health::Health;
use crate::settings::Timings;
use crate::state::{MemberRow, Shared};
use crate::status::{Condition, GroupStatus, Member, Reach, Role};
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

    /// Whether the group works as far as this member can tell: it leads with a quorum, or a leader's time goes on.
    pub(crate) fn sees_quorum(&self) -> bool {
        let is_recent = |age: Duration| age <= self.silence_max();
        self.health.check().is_ok()
            && (self.epoch().is_some()
                || (self.timekeeper.leading().is_none()
                    && self.timekeeper.standing_still().is_some_and(is_recent)))
    }

    /// Whether the group is known not to work: this member leads without a quorum, or no leader's time has gone on for
    /// longer than elections take. One that has just started knows neither.
    pub(crate) fn lost_quorum(&self) -> bool {
        match self.timekeeper.leading() {
            Some(_) => self.epoch().is_none(),
            None => self
                .timekeeper
                .standing_still()
                .is_some_and(|age| age > self.silence_max()),
        }
    }

    /// After so long without a word an election is over or does not succeed.
    fn silence_max(&self) -> Duration {
        self.timings.election_max * 2
    }

    /// How this member, which leads, reaches each of the others and itself; nothing while it does not lead.
    pub(crate) fn reach(&self) -> BTreeMap<NodeId, Reach> {
        let Some(leading_for) = self.timekeeper.leading_for() else {
            return BTreeMap::new();
        };
        let (heartbeats, replication, last) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let last = metrics.last_log_index.unwrap_or(0);
            (metrics.heartbeat.clone(), metrics.replication.clone(), last)
        };
        let (heartbeats, replication) = (heartbeats.unwrap_or_default(), replication.unwrap_or_default());
        let of = |row: &MemberRow| {
            let is_us = row.node == self.identity.node.get();
            let answered = heartbeats.get(&row.node).copied().flatten();
            let silent_for = match answered {
                _ if is_us => Duration::ZERO,
                Some(at) => at.elapsed(),
                None => leading_for,
            };
            let matching = replication.get(&row.node).copied().flatten();
            let lag_entries = match matching {
                _ if is_us => Some(0),
                matching => matching.map(|id| last.saturating_sub(id.index())),
            };
            let condition = match () {
                () if !row.active => Condition::SetAside,
                () if silent_for > self.silence_max() => Condition::Silent,
                () if lag_entries.is_some_and(|lag| lag > LAG_ENTRIES_MAX) => Condition::CatchingUp,
                () => Condition::UpToDate,
            };
            let reach = Reach {
                silent_for,
                lag_entries,
                condition,
            };
            (NodeId::new(row.node), reach)
        };
        self.state.members.borrow().iter().map(of).collect()
    }

    /// How many members vote.
    pub(crate) fn voters(&self) -> usize {
        self.voter_ids().len()
    }

    /// Who votes; while a change of voters is under way, also who did before.
    pub(crate) fn voter_ids(&self) -> BTreeSet<u64> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.voter_ids().collect()
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
            wal_bytes: self.state.wal_bytes.load(std::sync::atomic::Ordering::Relaxed),
            reads_held: self.state.readers.holds(),
            now: self.timekeeper.now(),
            members,
            fatal,
        }
    }
}
