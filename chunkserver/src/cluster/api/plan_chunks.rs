//! `PlanChunks`: where the next chunks of an upload go.
//!
//! Invariant: an upload has a number from a committed counter before anything is planned for it; planning a chunk needs
//! no commit, and neither does opening an upload ([`crate::cluster::open_uploads`]). What is planned here is harmless if
//! this leader is deposed meanwhile: attempt ids carry the epoch, and a seal is judged by whoever leads then (P7).

use std::sync::Arc;

use common::error::Kind;
use common::ids::{NodeId, UploadId, UploadNumber, UserId};
use proto::bulk::grant::{DataPlaneKey, Grant, Operation};
use proto::error::RpcError;
use proto::files::v1 as wire;
use proto::{CHUNKS_PER_VERSION_MAX, cluster_log};

use crate::cluster::Cluster;
use crate::cluster::commit::group_error;
use crate::cluster::core::placement::{self, Candidate, Copies, Place, Refusal};
use crate::cluster::directory::Directory;
use crate::cluster::leadership::Leadership;
use crate::cluster::open_uploads::OpenUpload;
use crate::cluster::store::{Reply, uploads};
use crate::config::Durability;

/// Upload numbers reserved at once. What is left of them when the leader dies is never used; and state that was lost is
/// noticed only by numbers beyond the block, so that it must not be large.
const NUMBERS_RESERVED: u32 = 128;
/// Chunks in one request.
const CHUNKS_PER_PLAN_MAX: usize = 64;
/// Nodes to avoid for one chunk.
const AVOID_NODES_MAX: usize = 64;

pub(super) async fn plan_chunks(
    cluster: Arc<Cluster>,
    request: wire::PlanChunksRequest,
) -> Result<wire::PlanChunksReply, RpcError> {
    let (ticket, user) = cluster.upload_ticket(&request.ticket, request.upload_id)?;
    let leadership = cluster.lead()?;
    check(&request)?;
    cluster.check_formed()?;
    let upload = UploadId::new(request.upload_id);
    let open = cluster
        .open_upload(&leadership, upload, ticket.chunk_bytes)
        .await?;
    let plans = if request.chunks.is_empty() {
        Vec::new()
    } else {
        let directory = cluster.directory().await?;
        Planner::new(&cluster, &leadership, &directory, upload, user, open)?.plan_all(&request.chunks)?
    };
    Ok(wire::PlanChunksReply {
        upload_number: open.number.get(),
        cluster_id: cluster.cluster_id().bytes().to_vec().into(),
        plans,
    })
}

fn check(request: &wire::PlanChunksRequest) -> Result<(), RpcError> {
    let invalid = |message: String| Err(RpcError::new(Kind::Invalid, "E_INVALID", message));
    if request.chunks.len() > CHUNKS_PER_PLAN_MAX {
        return invalid(format!(
            "at most {CHUNKS_PER_PLAN_MAX} chunks can be planned at once"
        ));
    }
    for chunk in &request.chunks {
        if chunk.index >= CHUNKS_PER_VERSION_MAX {
            return invalid(format!(
                "chunk {} is beyond the {CHUNKS_PER_VERSION_MAX} that a version may have",
                chunk.index
            ));
        }
        if chunk.avoid_nodes.len() > AVOID_NODES_MAX {
            return invalid(format!("at most {AVOID_NODES_MAX} nodes can be avoided"));
        }
        if chunk.length_hint == Some(0) {
            return invalid(format!("chunk {} would be empty; no chunk is", chunk.index));
        }
    }
    Ok(())
}

impl Cluster {
    /// The open upload `upload`, opened now if it is not known.
    pub(super) async fn open_upload(
        &self,
        leadership: &Leadership,
        upload: UploadId,
        chunk_bytes: u64,
    ) -> Result<OpenUpload, RpcError> {
        if let Some(open) = leadership.uploads.find(upload) {
            return check_chunk_bytes(open, upload, chunk_bytes);
        }
        if leadership.uploads.may_have_row(upload) {
            let (row, forgotten) = self
                .read_local(move |connection| {
                    Ok((
                        uploads::find(connection, upload)?,
                        uploads::forgotten(connection)?,
                    ))
                })
                .await?;
            if row.is_none() && upload <= forgotten {
                let message = format!("upload {upload} ended long ago, or was never begun here");
                let error = RpcError::new(Kind::Conflict, "E_UPLOAD_ENDED", message);
                return Err(error.hint("begin the upload anew"));
            }
            if let Some(row) = row {
                if !row.state.may_be_written() {
                    let message = format!("upload {upload} has ended: it is {}", row.state);
                    let error = RpcError::new(Kind::Conflict, "E_UPLOAD_ENDED", message);
                    return Err(error.hint("ask for its outcome"));
                }
                let now = self.clock.moment();
                let open = leadership
                    .uploads
                    .recorded(upload, row.number, row.chunk_bytes, now);
                return check_chunk_bytes(open, upload, chunk_bytes);
            }
        }
        self.group.check_space().map_err(|error| group_error(&error))?;
        if leadership.uploads.count() as u64 >= self.config.limits.uploads_open_max {
            return Err(super::dispatch::busy("too many uploads are open in this cluster"));
        }
        let number = self.next_number(leadership).await?;
        let now = self.clock.moment();
        let open = leadership.uploads.begin(upload, number, chunk_bytes, now);
        check_chunk_bytes(open, upload, chunk_bytes)
    }

    /// An upload number that was never given out, from a block that is reserved by a commit.
    async fn next_number(&self, leadership: &Leadership) -> Result<UploadNumber, RpcError> {
        let mut numbers = leadership.numbers.lock().await;
        if let Some(number) = numbers.next() {
            return Ok(UploadNumber::new(number));
        }
        let command = cluster_log::v1::ReserveNumbers {
            count: NUMBERS_RESERVED,
        };
        let command = cluster_log::v1::command::Command::ReserveNumbers(command);
        let Reply::Numbers { first, last } = self.commit(leadership.epoch, command).await? else {
            return Err(RpcError::new(
                Kind::Fatal,
                "E_COMMAND_UNKNOWN",
                "the log gave no upload numbers",
            ));
        };
        *numbers = first + 1..last + 1;
        Ok(UploadNumber::new(first))
    }
}

fn check_chunk_bytes(open: OpenUpload, upload: UploadId, chunk_bytes: u64) -> Result<OpenUpload, RpcError> {
    if open.chunk_bytes == chunk_bytes {
        return Ok(open);
    }
    let message = format!("upload {upload} was begun with another chunk length");
    Err(RpcError::new(Kind::Invalid, "E_CHUNK_LENGTH", message))
}

struct Planner<'a> {
    cluster: &'a Cluster,
    leadership: &'a Leadership,
    directory: &'a Directory,
    candidates: Vec<Candidate>,
    upload: UploadId,
    user: UserId,
    open: OpenUpload,
    key: DataPlaneKey,
}

impl<'a> Planner<'a> {
    fn new(
        cluster: &'a Cluster,
        leadership: &'a Leadership,
        directory: &'a Directory,
        upload: UploadId,
        user: UserId,
        open: OpenUpload,
    ) -> Result<Self, RpcError> {
        let key = leadership.keys().current().cloned().ok_or_else(|| {
            RpcError::new(Kind::Retry, "E_STARTING", "the cluster has no data-plane key yet")
        })?;
        Ok(Self {
            cluster,
            leadership,
            directory,
            candidates: leadership.candidates(directory),
            upload,
            user,
            open,
            key,
        })
    }

    /// Plans in order; what cannot be planned ends the list, and is an error only if nothing could be.
    fn plan_all(mut self, chunks: &[wire::ChunkRequest]) -> Result<Vec<wire::ChunkPlan>, RpcError> {
        let mut plans = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            match self.plan(chunk) {
                Ok(plan) => plans.push(plan),
                Err(refusal) if plans.is_empty() => return Err(self.explain(refusal)),
                Err(_) => break,
            }
        }
        self.cluster.metrics.planned.inc_by(plans.len() as u64);
        Ok(plans)
    }

    fn plan(&mut self, chunk: &wire::ChunkRequest) -> Result<wire::ChunkPlan, Refusal> {
        let copies = match self.cluster.config.durability {
            Durability::Full => Copies::Two,
            Durability::Reduced => Copies::TwoOrOne,
        };
        let length = match chunk.length_hint {
            None => self.open.chunk_bytes,
            Some(hint) => hint.min(self.open.chunk_bytes),
        };
        let avoid: Vec<NodeId> = chunk.avoid_nodes.iter().copied().map(NodeId::new).collect();
        let random = &self.cluster.random;
        let place = placement::place(
            &self.candidates,
            self.directory.copy_sets(),
            copies,
            length,
            &avoid,
            random,
        )?;
        for node in [Some(place.primary), place.delegate].into_iter().flatten() {
            self.reserve(node, length);
        }
        Ok(self.permit(chunk.index, place))
    }

    /// What is planned counts at once, for this request and for those that follow.
    fn reserve(&mut self, node: NodeId, length: u64) {
        self.leadership.planned(node, length);
        let chosen = self.candidates.iter_mut().find(|one| one.domain.node == node);
        if let Some(chosen) = chosen {
            chosen.free_bytes = chosen.free_bytes.saturating_sub(length);
            chosen.in_flight_bytes = chosen.in_flight_bytes.saturating_add(length);
        }
    }

    fn permit(&self, index: u32, place: Place) -> wire::ChunkPlan {
        let lifetime = self.cluster.config.timings.grant_lifetime.get();
        let attempt = self.leadership.next_attempt();
        let grant = |operation, node| Grant {
            operation,
            node,
            attempt,
            upload: self.open.number,
            version: self.upload.version(),
            index,
            length_max: self.open.chunk_bytes,
            epoch: self.leadership.epoch,
            expires: self.cluster.group.now() + lifetime,
            principal: self.user,
        };
        let to_primary = Operation::WritePrimary {
            delegate: place.delegate,
        };
        let delegate_grant = place.delegate.map(|node| {
            let to_delegate = Operation::WriteDelegate {
                primary: place.primary,
            };
            grant(to_delegate, node).seal(&self.key)
        });
        wire::ChunkPlan {
            index,
            attempt: attempt.to_bytes().to_vec().into(),
            primary: Some(self.address(place.primary)),
            delegate: place.delegate.map(|node| self.address(node)),
            grant: grant(to_primary, place.primary).seal(&self.key).into(),
            delegate_grant: delegate_grant.unwrap_or_default().into(),
            expires_in_millis: u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn address(&self, node: NodeId) -> wire::NodeAddress {
        let row = self.directory.nodes.get(&node);
        wire::NodeAddress {
            node_id: node.get(),
            data: row.map(|row| row.data.clone()).unwrap_or_default(),
        }
    }

    fn explain(&self, refusal: Refusal) -> RpcError {
        let message = refusal.to_string();
        match refusal {
            Refusal::NotEnoughNodes { .. } => {
                RpcError::new(Kind::Retry, "E_NOT_ENOUGH_NODES", message).hint(
                    "start more chunkservers, or allow one copy with `durability: reduced`; `dbfs status` shows the nodes",
                )
            }
            Refusal::NoSpace { .. } => RpcError::new(Kind::Full, "E_NO_SPACE", message)
                .hint("add disks or nodes, or delete files and empty the trash"),
        }
    }
}
