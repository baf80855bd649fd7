//! What a member answers to other processes.

use std::sync::Arc;

use common::ids::{Digest, JoinNonce};
use common::tls::Role;
use futures::stream::{self, BoxStream, StreamExt};
use openraft::Snapshot;
use parking_lot::Mutex;
use prost::Message;
use proto::control::Peer;
use proto::error::RpcError;
use proto::raft::v1 as pb;
use proto::raft::v1::raft_server::Raft as RaftRpc;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use crate::cluster_time::Timekeeper;
use crate::engine::Raft;
use crate::error::Error;
use crate::rivals;
use crate::schema;
use crate::space::SpaceBoard;
use crate::state::{self, SnapshotFile};
use crate::status::{Member, MemberRecord};
use crate::transport::peers::Peers;
use crate::transport::receiving;
use crate::transport::wire;

type Reply<T> = Result<Response<T>, Status>;

/// What the service asks of the rest of the member.
#[tonic::async_trait]
pub(crate) trait Desk: Send + Sync + 'static {
    /// The position of a linearizable read; leader only.
    async fn read_index(&self) -> Result<u64, Error>;
    /// Commits a join; leader only.
    async fn join(&self, nonce: JoinNonce, record: MemberRecord) -> Result<u64, Error>;
    /// Commits a member's own record, where it is new; leader only.
    async fn announce(&self, node: u64, nonce: Vec<u8>, record: MemberRecord) -> Result<(), Error>;
    /// Who leads, and all members.
    fn describe(&self) -> (Option<Member>, Arc<[Member]>);
}

/// `raft.proto`, served.
pub(crate) struct RaftService {
    pub(crate) role: Role,
    pub(crate) raft: Raft,
    pub(crate) state: Arc<state::Shared>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) timekeeper: Arc<Timekeeper>,
    pub(crate) space: Arc<SpaceBoard>,
    pub(crate) desk: Arc<dyn Desk>,
    /// One snapshot is received at a time.
    pub(crate) receiving: Arc<Semaphore>,
}

impl RaftService {
    /// Says so where another process claims this member's identity.
    fn note_rival(&self, request: &pb::DescribeRequest) {
        let own = &self.peers.identity;
        let claims = request.envelope.as_ref().is_some_and(|envelope| {
            envelope.from_node == own.node.get() && envelope.cluster_id.as_ref() == own.cluster.bytes()
        });
        if claims && !request.incarnation.is_empty() && request.incarnation.as_ref() != own.incarnation {
            tracing::error!(node = %own.node, rival = request.control_address,
                "another process was started from a copy of this node's data directory and is refused; stop one of the two");
        }
    }

    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        match Peer::of(request) {
            Some(peer) if peer.has_role(&self.role) => Ok(()),
            _ => Err(Status::permission_denied(format!(
                "only members of the group ({}) may ask this",
                self.role.server_name()
            ))),
        }
    }
}

fn fatal(error: impl std::fmt::Display) -> Status {
    Status::unavailable(error.to_string())
}

fn status(error: Error) -> Status {
    if let Error::NotLeader { leader } = error {
        return RpcError::not_leader(leader.map(|leader| leader.control)).into();
    }
    RpcError::new(error.kind(), "E_GROUP", error.to_string()).into()
}

#[tonic::async_trait]
impl RaftRpc for RaftService {
    async fn vote(&self, request: Request<pb::VoteRequest>) -> Reply<pb::VoteReply> {
        self.admit(&request)?;
        let request = request.into_inner();
        self.peers.identity.check(request.envelope.as_ref())?;
        let asked = wire::vote_request(&request)?;
        let reply = if request.rehearsal {
            self.raft.pre_vote(asked).await
        } else {
            self.raft.vote(asked).await
        };
        Ok(Response::new(wire::vote_reply_out(&reply.map_err(fatal)?)))
    }

    async fn transfer_lead(&self, request: Request<pb::TransferLeadRequest>) -> Reply<pb::TransferLeadReply> {
        self.admit(&request)?;
        let request = request.into_inner();
        self.peers.identity.check(request.envelope.as_ref())?;
        let asked = wire::transfer(&request)?;
        let outcome = self.raft.handle_transfer_leader(asked).await.map_err(fatal)?;
        Ok(Response::new(pb::TransferLeadReply {
            accepted: outcome.is_ok(),
        }))
    }

    type AppendStream = BoxStream<'static, Result<pb::AppendReply, Status>>;

    async fn append(&self, request: Request<Streaming<pb::AppendRequest>>) -> Reply<Self::AppendStream> {
        self.admit(&request)?;
        let (peers, timekeeper) = (Arc::clone(&self.peers), Arc::clone(&self.timekeeper));
        // Why the requests ended, if they ended badly: told after the replies to the good ones.
        let refusal = Arc::new(Mutex::new(None));
        let refused = Arc::clone(&refusal);
        let requests = stream::unfold(request.into_inner(), |mut incoming| async move {
            match incoming.message().await {
                Ok(None) => None,
                Ok(Some(request)) => Some((Ok(request), incoming)),
                Err(status) => Some((Err(status), incoming)),
            }
        });
        let requests = requests
            .map(move |request| {
                let request = request?;
                peers.identity.check(request.envelope.as_ref())?;
                timekeeper.heard(request.cluster_time);
                wire::append(request)
            })
            .scan((), move |(), request| {
                let next = request.map_err(|status| *refused.lock() = Some(status)).ok();
                async move { next }
            });
        let space = Arc::clone(&self.space);
        let replies = self.raft.stream_append(requests).map(move |result| {
            let result = result.map_err(fatal)?;
            Ok(wire::append_reply_out(&result, space.here()))
        });
        let last = stream::once(async move { refusal.lock().take() });
        let last = last.filter_map(|status| async move { status.map(Err) });
        Ok(Response::new(replies.chain(last).boxed()))
    }

    async fn snapshot_held(&self, request: Request<pb::SnapshotHeldRequest>) -> Reply<pb::SnapshotHeldReply> {
        self.admit(&request)?;
        let request = request.into_inner();
        self.peers.identity.check(request.envelope.as_ref())?;
        let digest = Digest::try_from(request.digest.as_ref())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let bytes = receiving::held(self.state.files.directory(), digest, request.length);
        Ok(Response::new(pb::SnapshotHeldReply { bytes }))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotPart>>,
    ) -> Reply<pb::SnapshotReply> {
        self.admit(&request)?;
        let mut parts = request.into_inner();
        let first = parts.message().await?.and_then(|part| part.part);
        let Some(pb::snapshot_part::Part::Header(header)) = first else {
            return Err(Status::invalid_argument("a snapshot begins with its header"));
        };
        self.peers.identity.check(header.envelope.as_ref())?;
        let vote = wire::vote(header.vote.as_ref())?;
        let stored = schema::SnapshotMeta::decode(header.meta.clone());
        let stored = stored.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let meta = state::meta(&stored).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let Ok(_receiving) = self.receiving.try_acquire() else {
            return Err(Status::unavailable("another snapshot is being received"));
        };
        let (directory, reserve_bytes) = (self.state.files.directory(), self.state.reserve_bytes);
        let received = receiving::receive(directory, reserve_bytes, &header, parts).await;
        let received = received.map_err(|error| {
            tracing::warn!(%error, "a snapshot could not be received");
            Status::unavailable(error.to_string())
        })?;
        let snapshot = Snapshot {
            meta,
            snapshot: SnapshotFile::Received(received),
        };
        // A task of its own: a caller that goes away must not cancel what it has begun.
        let raft = self.raft.clone();
        let installing = tokio::spawn(async move { raft.install_full_snapshot(vote, snapshot).await });
        let installed = installing.await.map_err(fatal)?.map_err(fatal)?;
        Ok(Response::new(pb::SnapshotReply {
            vote: Some(wire::vote_out(&installed.vote)),
        }))
    }

    async fn read_index(&self, request: Request<pb::ReadIndexRequest>) -> Reply<pb::ReadIndexReply> {
        self.admit(&request)?;
        self.peers
            .identity
            .check(request.into_inner().envelope.as_ref())?;
        let index = self.desk.read_index().await.map_err(status)?;
        Ok(Response::new(pb::ReadIndexReply { index }))
    }

    async fn describe(&self, request: Request<pb::DescribeRequest>) -> Reply<pb::DescribeReply> {
        self.admit(&request)?;
        let request = request.into_inner();
        wire::check_kind(&self.peers.identity.label, request.envelope.as_ref())?;
        self.note_rival(&request);
        let (leader, members) = self.desk.describe();
        Ok(Response::new(pb::DescribeReply {
            protocol_version: proto::PROTOCOL_VERSION,
            group: self.peers.identity.label.clone(),
            cluster_id: self.peers.identity.cluster.bytes().to_vec().into(),
            node: self.peers.identity.node.get(),
            incarnation: self.peers.identity.incarnation.to_vec().into(),
            leader: leader.as_ref().map(wire::member_out),
            members: members.iter().map(wire::member_out).collect(),
        }))
    }

    async fn join(&self, request: Request<pb::JoinRequest>) -> Reply<pb::JoinReply> {
        self.admit(&request)?;
        let request = request.into_inner();
        let envelope = wire::check_kind(&self.peers.identity.label, request.envelope.as_ref())?;
        let asked = &envelope.cluster_id;
        if !asked.is_empty() && asked.as_ref() != self.peers.identity.cluster.bytes() {
            return Err(Status::failed_precondition("this is another group"));
        }
        let nonce = JoinNonce::try_from(request.nonce.as_ref())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let node = self.desk.join(nonce, wire::record(request.member)?).await;
        let node = node.map_err(status)?;
        let (_, members) = self.desk.describe();
        Ok(Response::new(pb::JoinReply {
            cluster_id: self.peers.identity.cluster.bytes().to_vec().into(),
            node,
            members: members.iter().map(wire::member_out).collect(),
        }))
    }

    async fn announce(&self, request: Request<pb::AnnounceRequest>) -> Reply<pb::AnnounceReply> {
        self.admit(&request)?;
        let request = request.into_inner();
        self.peers.identity.check(request.envelope.as_ref())?;
        let node = request.envelope.as_ref().map_or(0, |envelope| envelope.from_node);
        let record = wire::record(request.member)?;
        rivals::check_move(&self.peers, node, &request.incarnation, &record.control).await?;
        let nonce = request.nonce.to_vec();
        self.desk.announce(node, nonce, record).await.map_err(status)?;
        Ok(Response::new(pb::AnnounceReply {}))
    }
}
