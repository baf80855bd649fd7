//! What openraft sends: votes, log streams, snapshots.

use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::time::Clock;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, Stream, StreamExt};
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::base::{BoxFuture as RaftFuture, BoxStream as RaftStream};
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout as RpcTimeout, Unreachable,
};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{EmptyNode, OptionalSend, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use prost::Message;
use proto::raft::v1 as pb;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tonic::{Code, Status};

use crate::cluster_time::Timekeeper;
use crate::engine::Types;
use crate::space::SpaceBoard;
use crate::state::{self, SnapshotFile};
use crate::transport::SNAPSHOT_PART_BYTES;
use crate::transport::peers::{Client, Lane, Peers};
use crate::transport::wire;

/// Snapshot parts read ahead of the network.
const SNAPSHOT_PARTS_AHEAD: usize = 2;
/// How long the news of a commit may wait for entries to go along with.
const COMMIT_DELAY: Duration = Duration::from_millis(3);
/// The shortest time limit of a call: a new connection needs a TLS handshake.
const CALL_TIMEOUT_MIN: Duration = Duration::from_secs(1);

type RpcResult<T> = Result<T, RPCError<Types>>;
type ReplyStream = BoxStream<'static, RpcResult<StreamAppendResult<Types>>>;

/// Makes links to members.
#[derive(Clone)]
pub(crate) struct Links {
    pub(crate) peers: Arc<Peers>,
    pub(crate) timekeeper: Arc<Timekeeper>,
    pub(crate) space: Arc<SpaceBoard>,
    pub(crate) state: Arc<state::Shared>,
    pub(crate) clock: Clock,
    pub(crate) snapshot_timeout: Duration,
}

/// The way to one member.
pub(crate) struct Link {
    links: Links,
    target: u64,
}

impl RaftNetworkFactory<Types> for Links {
    type Network = Link;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Link {
        Link {
            links: self.clone(),
            target,
        }
    }
}

impl Link {
    fn client(&self, lane: Lane) -> RpcResult<Client> {
        self.links
            .peers
            .client(self.target, lane)
            .ok_or_else(|| unreachable(format!("nobody knows where node {} is", self.target)))
    }

    async fn limited<T>(
        &self,
        action: RPCTypes,
        option: &RPCOption,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> RpcResult<T> {
        let limit = option.soft_ttl().max(CALL_TIMEOUT_MIN);
        let peers = &self.links.peers;
        match self.links.clock.timeout(limit, call).await {
            Some(Ok(reply)) => {
                peers.heard(self.target, None);
                Ok(reply.into_inner())
            }
            Some(Err(status)) => {
                peers.heard(self.target, Some(status.message()));
                Err(failed(&status))
            }
            None => {
                peers.heard(self.target, Some("it does not answer in time"));
                Err(RPCError::Timeout(RpcTimeout {
                    action,
                    id: peers.identity.node.get(),
                    target: self.target,
                    timeout: limit,
                }))
            }
        }
    }

    async fn ask_vote(
        &self,
        request: &VoteRequest<Types>,
        option: &RPCOption,
        rehearsal: bool,
    ) -> RpcResult<VoteResponse<Types>> {
        let mut client = self.client(Lane::Log)?;
        let request = wire::vote_request_out(&self.links.peers.identity, self.target, request, rehearsal);
        let reply = self.limited(RPCTypes::Vote, option, client.vote(request)).await?;
        wire::vote_reply(&reply).map_err(|status| failed(&status))
    }

    /// Takes the first request before it does anything else: after a failure openraft has whoever takes one wait, and
    /// opening streams to somebody who is gone would not.
    ///
    /// Its future is boxed and owns all it needs: the compiler does not see through openraft's and tonic's generics
    /// otherwise.
    fn open_stream(
        &self,
        input: BoxStream<'static, AppendEntriesRequest<Types>>,
        option: &RPCOption,
    ) -> BoxFuture<'static, RpcResult<ReplyStream>> {
        let link = Link {
            links: self.links.clone(),
            target: self.target,
        };
        let option = option.clone();
        Box::pin(async move {
            let (first, rest) = input.into_future().await;
            let Some(first) = first else {
                return Ok(futures::stream::empty().boxed());
            };
            let input = futures::stream::iter([first]).chain(rest).boxed();
            let mut client = link.client(Lane::Log)?;
            let (links, target) = (link.links.clone(), link.target);
            let replied = links.clone();
            let requests = hold_commits(input, links.clock.clone()).map(move |request| {
                let time = links.timekeeper.now().as_millis();
                wire::append_out(&links.peers.identity, target, time, request)
            });
            let requests: BoxStream<'static, pb::AppendRequest> = Box::pin(requests);
            let calling: BoxFuture<'_, _> = Box::pin(client.append(requests));
            let replies = link.limited(RPCTypes::AppendEntries, &option, calling).await?;
            let results = replies.map(move |reply| {
                let reply = reply.map_err(|status| failed(&status))?;
                if let Some(space) = wire::space(&reply) {
                    replied.space.told(target, space, replied.clock.moment());
                }
                wire::append_reply(&reply).map_err(|status| failed(&status))
            });
            let results: ReplyStream = Box::pin(results);
            Ok(results)
        })
    }

    async fn send_snapshot(
        &self,
        vote: &VoteOf<Types>,
        snapshot: SnapshotOf<Types, SnapshotFile>,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let SnapshotFile::Outgoing(outgoing) = snapshot.snapshot else {
            return Err(broken(&io::Error::other("this snapshot is not to be sent")));
        };
        let copy = outgoing.copy().await.map_err(|error| broken(&error))?;
        // For another member, and for this one if the transfer breaks off.
        let transfers = &self.links.state.transfers;
        transfers.keep(Arc::clone(&outgoing), self.links.clock.moment());
        let mut client = self.client(Lane::Snapshot)?;
        let envelope = self.links.peers.identity.envelope(self.target);
        let asked = client.snapshot_held(pb::SnapshotHeldRequest {
            envelope: envelope.clone(),
            length: copy.length,
            digest: copy.digest.bytes().to_vec().into(),
        });
        let held = asked.await.map_err(|status| failed(&status))?.into_inner().bytes;
        let header = pb::SnapshotHeader {
            envelope,
            vote: Some(wire::vote_out(vote)),
            meta: state::meta_out(&snapshot.meta).encode_to_vec().into(),
            length: copy.length,
            digest: copy.digest.bytes().to_vec().into(),
            offset: held,
        };
        tracing::info!(
            target_node = self.target,
            bytes = copy.length,
            held,
            "sending a snapshot"
        );
        let opening = open_at(copy.file.path(), held).await;
        let file = opening.map_err(|error| broken(&error))?;
        let first = pb::SnapshotPart {
            part: Some(pb::snapshot_part::Part::Header(header)),
        };
        let (parts, receiver) = tokio::sync::mpsc::channel(SNAPSHOT_PARTS_AHEAD);
        let feeding = feed(file, first, parts);
        let parts = futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|part| (part, receiver))
        });
        let (fed, reply) = tokio::join!(feeding, client.install_snapshot(parts));
        let reply = reply.map_err(|status| failed(&status))?.into_inner();
        fed.map_err(|error| broken(&error))?;
        let vote = wire::vote(reply.vote.as_ref()).map_err(|status| failed(&status))?;
        Ok(SnapshotResponse::new(vote))
    }
}

async fn open_at(path: &Path, offset: u64) -> io::Result<tokio::fs::File> {
    let mut file = tokio::fs::File::open(path).await?;
    file.seek(io::SeekFrom::Start(offset)).await?;
    Ok(file)
}

/// Reads the file into `parts`; ends early when nobody takes them any more.
async fn feed(
    mut file: tokio::fs::File,
    first: pb::SnapshotPart,
    parts: tokio::sync::mpsc::Sender<pb::SnapshotPart>,
) -> io::Result<()> {
    if parts.send(first).await.is_err() {
        return Ok(());
    }
    loop {
        let mut buffer = prost::bytes::BytesMut::with_capacity(SNAPSHOT_PART_BYTES);
        while buffer.len() < SNAPSHOT_PART_BYTES {
            let room = SNAPSHOT_PART_BYTES - buffer.len();
            if (&mut file).take(room as u64).read_buf(&mut buffer).await? == 0 {
                break;
            }
        }
        if buffer.is_empty() {
            return Ok(());
        }
        let part = pb::SnapshotPart {
            part: Some(pb::snapshot_part::Part::Bytes(buffer.freeze())),
        };
        if parts.send(part).await.is_err() {
            return Ok(());
        }
    }
}

/// Holds requests back that only tell how far is committed: the next entries say it as well, and openraft sends one
/// for each step. One that is followed by another request within [`COMMIT_DELAY`] is left out, as if it were lost: the
/// reply to a later request covers it.
fn hold_commits(
    input: BoxStream<'static, AppendEntriesRequest<Types>>,
    clock: Clock,
) -> BoxStream<'static, AppendEntriesRequest<Types>> {
    let begin = (input.fuse(), false, clock);
    let requests = futures::stream::unfold(begin, move |(mut input, had_entries, clock)| async move {
        let mut request = input.next().await?;
        // The first request of a stream asks where the logs agree.
        if had_entries {
            while request.entries.is_empty() {
                match clock.timeout(COMMIT_DELAY, input.next()).await {
                    Some(Some(next)) => request = next,
                    Some(None) | None => break,
                }
            }
        }
        let had_entries = had_entries || !request.entries.is_empty();
        Some((request, (input, had_entries, clock)))
    });
    Box::pin(requests)
}

impl RaftNetworkV2<Types> for Link {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<Types>> {
        let once = futures::stream::once(async { request }).boxed();
        let mut replies = self.open_stream(once, &option).await?;
        match replies.next().await {
            Some(Ok(Ok(stored))) => Ok(AppendEntriesResponse::PartialSuccess(stored)),
            Some(Ok(Err(StreamAppendError::Conflict(_)))) => Ok(AppendEntriesResponse::Conflict),
            Some(Ok(Err(StreamAppendError::HigherVote(vote)))) => Ok(AppendEntriesResponse::HigherVote(vote)),
            Some(Err(error)) => Err(error),
            None => Err(unreachable("the stream ended without a reply")),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> RaftFuture<'s, RpcResult<RaftStream<'s, RpcResult<StreamAppendResult<Types>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let opening = self.open_stream(Box::pin(input), &option);
        Box::pin(async move {
            let replies: RaftStream<'s, _> = opening.await?;
            Ok(replies)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<Types>> {
        self.ask_vote(&request, &option, false).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<Types>> {
        self.ask_vote(&request, &option, true).await
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<Types>,
        snapshot: SnapshotOf<Types, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let limit = self.links.snapshot_timeout;
        tokio::select! {
            sent = self.links.clock.timeout(limit, self.send_snapshot(&vote, snapshot)) => {
                sent.unwrap_or_else(|| Err(unreachable("the snapshot took too long").into()))
            }
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<TransferLeaderResponse<Types>> {
        let mut client = self.client(Lane::Log)?;
        let message = wire::transfer_out(&self.links.peers.identity, self.target, &request);
        let reply = self
            .limited(RPCTypes::TransferLeader, &option, client.transfer_lead(message))
            .await?;
        match reply.accepted {
            true => Ok(Ok(())),
            false => Err(unreachable("the member does not take the lead")),
        }
    }
}

fn unreachable(reason: impl ToString) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::from_string(reason))
}

/// What openraft should do after a failed call: back off unless it was a moment's trouble.
fn failed(status: &Status) -> RPCError<Types> {
    let text = format!("{}: {}", status.code(), status.message());
    match status.code() {
        Code::Cancelled | Code::Aborted => RPCError::Network(NetworkError::from_string(text)),
        _ => unreachable(text),
    }
}

fn broken(error: &io::Error) -> StreamingError<Types> {
    tracing::warn!(%error, "a snapshot could not be prepared");
    unreachable(error).into()
}

#[cfg(test)]
mod tests {
    use common::time::ClusterTime;
    use openraft::Entry;
    use openraft::entry::RaftEntry;

    use super::*;
    use crate::engine::{LogId, Payload, Vote, leader};
    use crate::schema::{Kind, Tick, encode_entry};

    fn request(commit: u64, entry: Option<u64>) -> AppendEntriesRequest<Types> {
        let id = |index| LogId::new(leader(1), index);
        let tick = |index| {
            let payload = encode_entry(ClusterTime::from_millis(index), Kind::Tick(Tick {}));
            Entry::new_normal(id(index), Payload(payload))
        };
        AppendEntriesRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: Some(id(commit)),
            leader_commit: Some(id(commit)),
            entries: entry.into_iter().map(tick).collect(),
        }
    }

    async fn held(requests: Vec<AppendEntriesRequest<Types>>) -> Vec<u64> {
        let input = futures::stream::iter(requests).boxed();
        let out: Vec<_> = hold_commits(input, Clock::real()).collect().await;
        let commits = out.iter().filter_map(|request| request.leader_commit);
        commits.map(|id| id.index()).collect()
    }

    #[tokio::test]
    async fn news_of_commits_goes_along_with_entries() {
        // The first asks, the last has nothing to go along with.
        let requests = vec![
            request(1, None),
            request(2, Some(3)),
            request(3, None),
            request(4, None),
            request(5, Some(6)),
            request(6, None),
        ];
        assert_eq!(held(requests).await, [1, 2, 5, 6]);
        assert!(held(Vec::new()).await.is_empty());
    }
}
