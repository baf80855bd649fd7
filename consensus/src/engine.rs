//! openraft's types as this crate instantiates them, and their conversion to and from [`crate::schema`].

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;

use common::ids::NodeId;
use openraft::impls::leader_id_std;
use openraft::vote::RaftLeaderId;
use openraft::{EmptyNode, EntryPayload};
use prost::Message;
use prost::bytes::Bytes;

use crate::schema;
use crate::state::StateMachine;

openraft::declare_raft_types!(
    /// Terms have at most one leader; entries are opaque bytes; addresses are none of Raft's business.
    pub(crate) Types:
        D = Payload,
        R = Answer,
        NodeId = u64,
        Node = EmptyNode,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
);

pub(crate) type Raft = openraft::Raft<Types, StateMachine>;
pub(crate) type LogId = openraft::alias::LogIdOf<Types>;
pub(crate) type Vote = openraft::alias::VoteOf<Types>;
pub(crate) type Entry = openraft::alias::EntryOf<Types>;
pub(crate) type Membership = openraft::Membership<u64, EmptyNode>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
pub(crate) type Leader = openraft::alias::CommittedLeaderIdOf<Types>;
pub(crate) type WriteError = openraft::errors::ClientWriteError<Types>;
pub(crate) type RaftError<E> = openraft::errors::RaftError<Types, E>;
pub(crate) type Fatal = openraft::errors::Fatal<Types>;

/// A [`schema::Entry`] behind its tag.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Payload(pub(crate) Bytes);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What applying an entry gives to whoever proposed it.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Nothing more than that it is applied.
    Applied,
    /// One outcome per command: `Vec<Outcome<M::Reply>>`.
    Commands(Box<dyn Any + Send + Sync>),
    /// The member's id, or why there is none.
    Joined(Result<NodeId, String>),
}

/// What became of one command.
pub(crate) enum Outcome<R> {
    /// It was applied.
    Applied(R),
    /// Its epoch was not in force.
    Stale,
}

pub(crate) fn leader(term: u64) -> Leader {
    leader_id_std::LeaderId::new(term, 0_u64).to_committed()
}

pub(crate) fn log_id(id: schema::LogId) -> LogId {
    LogId::new(leader(id.term), id.index)
}

pub(crate) fn log_id_out(id: &LogId) -> schema::LogId {
    schema::LogId {
        term: id.committed_leader_id().term,
        index: id.index(),
    }
}

pub(crate) fn vote(vote: schema::Vote) -> Vote {
    if vote.committed {
        Vote::new_committed(vote.term, vote.node)
    } else {
        Vote::new(vote.term, vote.node)
    }
}

pub(crate) fn vote_out(vote: &Vote) -> schema::Vote {
    schema::Vote {
        term: vote.leader_id.term,
        node: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

pub(crate) fn membership_out(log_id: Option<&LogId>, membership: &Membership) -> schema::Membership {
    schema::Membership {
        log_id: log_id.map(log_id_out),
        configs: membership
            .get_joint_config()
            .iter()
            .map(|voters| schema::Voters {
                nodes: voters.iter().copied().collect(),
            })
            .collect(),
        nodes: membership.nodes().map(|(node, _)| *node).collect(),
    }
}

pub(crate) fn membership(stored: &schema::Membership) -> io::Result<Membership> {
    let configs: Vec<BTreeSet<u64>> = stored
        .configs
        .iter()
        .map(|voters| voters.nodes.iter().copied().collect())
        .collect();
    let nodes: BTreeMap<u64, EmptyNode> = stored.nodes.iter().map(|node| (*node, EmptyNode {})).collect();
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(schema::invalid)
}

pub(crate) fn stored_membership(stored: &schema::Membership) -> io::Result<StoredMembership> {
    Ok(StoredMembership::new(
        stored.log_id.map(log_id),
        membership(stored)?,
    ))
}

/// The bytes of an entry as they stand in the log.
pub(crate) fn payload_out(payload: &EntryPayload<Payload, u64, EmptyNode>) -> Bytes {
    match payload {
        EntryPayload::Blank => Bytes::from_static(&[schema::TAG_BLANK]),
        EntryPayload::Normal(payload) => payload.0.clone(),
        EntryPayload::Membership(membership) => {
            schema::tagged(schema::TAG_MEMBERSHIP, &membership_out(None, membership))
        }
    }
}

/// The inverse of [`payload_out`].
pub(crate) fn payload(bytes: Bytes) -> io::Result<EntryPayload<Payload, u64, EmptyNode>> {
    match bytes.first() {
        Some(&schema::TAG_BLANK) => Ok(EntryPayload::Blank),
        Some(&schema::TAG_ENTRY) => Ok(EntryPayload::Normal(Payload(bytes))),
        Some(&schema::TAG_MEMBERSHIP) => {
            let stored = schema::Membership::decode(bytes.slice(1..)).map_err(schema::invalid)?;
            Ok(EntryPayload::Membership(membership(&stored)?))
        }
        _ => Err(schema::invalid("a log entry has an unknown tag")),
    }
}
