//! Conversions between `raft.proto` and openraft's messages, validated.

use common::ids::{ClusterId, NodeId};
use openraft::alias::LogIdOf;
use openraft::entry::RaftEntry;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest, VoteRequest,
    VoteResponse,
};
use proto::raft::v1 as pb;
use tonic::Status;

use crate::engine::{self, Entry, LogId, Types, Vote};
use crate::machine::FeatureLevel;
use crate::space::Space;
use crate::status::{Member, MemberRecord};

/// Who speaks, and of which group.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) label: String,
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    /// Of this process: chosen at its start.
    pub(crate) incarnation: [u8; 16],
}

impl Identity {
    /// The envelope of a message to `node` (0: whoever answers).
    pub(crate) fn envelope(&self, node: u64) -> Option<pb::Envelope> {
        Some(pb::Envelope {
            protocol_version: proto::PROTOCOL_VERSION,
            group: self.label.clone(),
            cluster_id: self.cluster.bytes().to_vec().into(),
            to_node: node,
            from_node: self.node.get(),
        })
    }

    /// Whether a message is for us.
    pub(crate) fn check(&self, envelope: Option<&pb::Envelope>) -> Result<(), Status> {
        let envelope = check_kind(&self.label, envelope)?;
        if envelope.cluster_id.as_ref() != self.cluster.bytes() {
            return Err(Status::failed_precondition(format!(
                "this is a member of group {}, not of the one asked for",
                self.cluster
            )));
        }
        if envelope.to_node != 0 && envelope.to_node != self.node.get() {
            return Err(Status::failed_precondition(format!(
                "this is node {}, not node {}",
                self.node, envelope.to_node
            )));
        }
        Ok(())
    }
}

/// Whether a message speaks our version and is about our kind of group.
pub(crate) fn check_kind<'a>(
    label: &str,
    envelope: Option<&'a pb::Envelope>,
) -> Result<&'a pb::Envelope, Status> {
    let envelope = envelope.ok_or_else(|| Status::invalid_argument("the message has no envelope"))?;
    if envelope.protocol_version < proto::PROTOCOL_VERSION_MIN {
        return Err(Status::failed_precondition(format!(
            "protocol version {} is too old: {} or later is spoken here",
            envelope.protocol_version,
            proto::PROTOCOL_VERSION_MIN
        )));
    }
    if envelope.group != label {
        return Err(Status::failed_precondition(format!(
            "the group '{label}' is served here, not '{}'",
            envelope.group
        )));
    }
    Ok(envelope)
}

fn log_id_out(id: &LogIdOf<Types>) -> pb::LogId {
    let id = engine::log_id_out(id);
    pb::LogId {
        term: id.term,
        index: id.index,
    }
}

fn log_id(id: &pb::LogId) -> LogId {
    LogId::new(engine::leader(id.term), id.index)
}

pub(crate) fn vote_out(vote: &Vote) -> pb::Vote {
    let vote = engine::vote_out(vote);
    pb::Vote {
        term: vote.term,
        node: vote.node,
        committed: vote.committed,
    }
}

pub(crate) fn vote(vote: Option<&pb::Vote>) -> Result<Vote, Status> {
    let vote = vote.ok_or_else(|| Status::invalid_argument("the message has no vote"))?;
    Ok(engine::vote(crate::schema::Vote {
        term: vote.term,
        node: vote.node,
        committed: vote.committed,
    }))
}

pub(crate) fn vote_request_out(
    identity: &Identity,
    target: u64,
    request: &VoteRequest<Types>,
    rehearsal: bool,
) -> pb::VoteRequest {
    pb::VoteRequest {
        envelope: identity.envelope(target),
        vote: Some(vote_out(&request.vote)),
        last_log: request.last_log_id.as_ref().map(log_id_out),
        rehearsal,
        lead_transferred: request.leadership_transfer,
    }
}

pub(crate) fn vote_request(request: &pb::VoteRequest) -> Result<VoteRequest<Types>, Status> {
    let last_log = request.last_log.as_ref().map(log_id);
    let mut out = VoteRequest::new(vote(request.vote.as_ref())?, last_log);
    out.leadership_transfer = request.lead_transferred;
    Ok(out)
}

pub(crate) fn vote_reply_out(reply: &VoteResponse<Types>) -> pb::VoteReply {
    pb::VoteReply {
        vote: Some(vote_out(&reply.vote)),
        granted: reply.vote_granted,
        last_log: reply.last_log_id.as_ref().map(log_id_out),
    }
}

pub(crate) fn vote_reply(reply: &pb::VoteReply) -> Result<VoteResponse<Types>, Status> {
    let last_log = reply.last_log.as_ref().map(log_id);
    Ok(VoteResponse::new(
        vote(reply.vote.as_ref())?,
        last_log,
        reply.granted,
    ))
}

pub(crate) fn transfer_out(
    identity: &Identity,
    target: u64,
    request: &TransferLeaderRequest<Types>,
) -> pb::TransferLeadRequest {
    pb::TransferLeadRequest {
        envelope: identity.envelope(target),
        from_leader: Some(vote_out(request.from_leader())),
        to_node: *request.to_node_id(),
        last_log: request.last_log_id().map(log_id_out),
    }
}

pub(crate) fn transfer(request: &pb::TransferLeadRequest) -> Result<TransferLeaderRequest<Types>, Status> {
    Ok(TransferLeaderRequest::new(
        vote(request.from_leader.as_ref())?,
        request.to_node,
        request.last_log.as_ref().map(log_id),
    ))
}

pub(crate) fn append_out(
    identity: &Identity,
    target: u64,
    cluster_time: u64,
    request: AppendEntriesRequest<Types>,
) -> pb::AppendRequest {
    let entries = request.entries.iter().map(|entry| pb::Entry {
        log_id: Some(log_id_out(&entry.log_id())),
        payload: engine::payload_out(&entry.payload),
    });
    pb::AppendRequest {
        envelope: identity.envelope(target),
        vote: Some(vote_out(&request.vote)),
        previous: request.prev_log_id.as_ref().map(log_id_out),
        entries: entries.collect(),
        committed: request.leader_commit.as_ref().map(log_id_out),
        cluster_time,
    }
}

pub(crate) fn append(request: pb::AppendRequest) -> Result<AppendEntriesRequest<Types>, Status> {
    let previous = request.previous.as_ref().map(log_id);
    let first = previous.map_or(0, |previous| previous.index() + 1);
    let mut entries = Vec::with_capacity(request.entries.len());
    for (next, entry) in (first..).zip(request.entries) {
        let id = entry.log_id.as_ref().map(log_id);
        let id = id.ok_or_else(|| Status::invalid_argument("an entry has no id"))?;
        if id.index() != next {
            return Err(Status::invalid_argument("the entries have a hole"));
        }
        let payload = engine::payload(entry.payload)
            .map_err(|error| Status::invalid_argument(format!("an entry cannot be read: {error}")))?;
        entries.push(Entry::new(id, payload));
    }
    Ok(AppendEntriesRequest {
        vote: vote(request.vote.as_ref())?,
        prev_log_id: previous,
        entries,
        leader_commit: request.committed.as_ref().map(log_id),
    })
}

pub(crate) fn append_reply_out(result: &StreamAppendResult<Types>, space: Option<Space>) -> pb::AppendReply {
    use pb::append_reply::Outcome;
    let outcome = match result {
        Ok(stored) => Outcome::Stored(pb::Stored {
            up_to: stored.as_ref().map(log_id_out),
        }),
        Err(StreamAppendError::Conflict(at)) => Outcome::Conflict(log_id_out(at)),
        Err(StreamAppendError::HigherVote(higher)) => Outcome::HigherVote(vote_out(higher)),
    };
    pb::AppendReply {
        outcome: Some(outcome),
        space: space.map(|space| pb::Space {
            free_bytes: space.free_bytes,
            reserve_bytes: space.reserve_bytes,
        }),
    }
}

/// What the member that replies says about its disk.
pub(crate) fn space(reply: &pb::AppendReply) -> Option<Space> {
    reply.space.as_ref().map(|space| Space {
        free_bytes: space.free_bytes,
        reserve_bytes: space.reserve_bytes,
    })
}

pub(crate) fn append_reply(reply: &pb::AppendReply) -> Result<StreamAppendResult<Types>, Status> {
    use pb::append_reply::Outcome;
    match &reply.outcome {
        Some(Outcome::Stored(stored)) => Ok(Ok(stored.up_to.as_ref().map(log_id))),
        Some(Outcome::Conflict(at)) => Ok(Err(StreamAppendError::Conflict(log_id(at)))),
        Some(Outcome::HigherVote(higher)) => Ok(Err(StreamAppendError::HigherVote(vote(Some(higher))?))),
        None => Err(Status::invalid_argument("the reply has no outcome")),
    }
}

pub(crate) fn member_out(member: &Member) -> pb::Member {
    pb::Member {
        node: member.node_id.get(),
        control_address: member.control.clone(),
        data_address: member.data.clone(),
        name: member.name.clone(),
        zone: member.zone.clone(),
        host: member.host.clone(),
        voter: member.voter,
        active: member.active,
        level: 0,
    }
}

pub(crate) fn record_out(node: u64, record: &MemberRecord) -> pb::Member {
    pb::Member {
        node,
        control_address: record.control.clone(),
        data_address: record.data.clone(),
        name: record.name.clone(),
        zone: record.zone.clone(),
        host: record.host.clone(),
        voter: false,
        active: true,
        level: record.level.get(),
    }
}

/// Longest text of a member's record.
const RECORD_TEXT_BYTES_MAX: usize = 1024;

pub(crate) fn record(member: Option<pb::Member>) -> Result<MemberRecord, Status> {
    let member = member.ok_or_else(|| Status::invalid_argument("the message has no member"))?;
    let record = MemberRecord {
        control: member.control_address,
        data: member.data_address,
        name: member.name,
        zone: member.zone,
        host: member.host,
        level: FeatureLevel::new(member.level),
    };
    let texts = [
        &record.control,
        &record.data,
        &record.name,
        &record.zone,
        &record.host,
    ];
    if record.control.is_empty() || texts.iter().any(|text| text.len() > RECORD_TEXT_BYTES_MAX) {
        return Err(Status::invalid_argument(
            "a member's record needs a control address and texts of at most 1024 bytes",
        ));
    }
    Ok(record)
}
