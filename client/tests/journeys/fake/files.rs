//! The files service of one fake cluster member.

use std::sync::Arc;

use common::error::Kind;
use common::ids::Digest;
use proto::bulk::receipt::Receipt;
use proto::error::RpcError;
use proto::files::v1::files_server::Files;
use proto::files::v1::seal_reply::Outcome;
use proto::files::v1::{
    AbandonReply, AbandonRequest, ChunkLocation, ChunkPlan, CopyPlace, GetManifestReply, GetManifestRequest,
    GetOutcomeRequest, NeedChunks, NodeAddress, Pending, PlanChunksReply, PlanChunksRequest, Published,
    Refused, ReplicaLocation, ReplicaState, SealReply, SealRequest,
};
use proto::names::v1::{Durability, NodeState, UploadState};
use tonic::{Request, Response, Status};

use super::world::{CLUSTER, State, Version, World, not_found};

type Answer<T> = Result<Response<T>, Status>;

pub(crate) struct Member {
    pub(crate) world: Arc<World>,
    pub(crate) me: usize,
}

impl Member {
    async fn leader<R, T>(
        &self,
        call: &'static str,
        request: Request<R>,
        work: impl FnOnce(&mut State, R) -> Result<T, RpcError>,
    ) -> Answer<T> {
        assert!(
            request.metadata().get("authorization").is_none(),
            "tokens stay with the supernodes"
        );
        let leader = {
            let state = self.world.state();
            (state.cluster_leader != self.me).then(|| state.members.get(state.cluster_leader).cloned())
        };
        if let Some(leader) = leader {
            return Err(RpcError::not_leader(leader).into());
        }
        let request = request.into_inner();
        self.world.answer(call, |state| work(state, request)).await
    }
}

fn plan(state: &mut State, asked: &PlanChunksRequest) -> Result<PlanChunksReply, RpcError> {
    state.plan_requests.push(asked.clone());
    let upload = state
        .uploads
        .get(&asked.upload_id)
        .ok_or_else(|| not_found("the upload"))?;
    if upload.state != UploadState::Open {
        return Err(RpcError::new(Kind::Conflict, "E_ABANDONED", "the upload is over"));
    }
    let mut plans = Vec::new();
    for chunk in &asked.chunks {
        let nodes: Vec<u64> = (1..=state.members.len() as u64).collect();
        let mut wanted: Vec<u64> = nodes
            .iter()
            .copied()
            .filter(|node| !chunk.avoid_nodes.contains(node))
            .collect();
        if wanted.len() < state.copies {
            // As the real leader: what cannot be planned ends the list, and is an error only if nothing could be.
            if plans.is_empty() {
                let message = "too few nodes can take a chunk";
                return Err(RpcError::new(Kind::Retry, "E_NOT_ENOUGH_NODES", message));
            }
            break;
        }
        let turn = chunk.index as usize % wanted.len();
        wanted.rotate_left(turn);
        let address = |node: u64| NodeAddress {
            node_id: node,
            data: state.data[node as usize - 1].clone(),
        };
        let primary = Some(address(wanted[0]));
        let delegate = (state.copies > 1).then(|| address(wanted[1]));
        let attempt = state.new_attempt();
        state
            .delegates
            .extend(wanted.get(1).map(|delegate| (attempt, *delegate)));
        plans.push(ChunkPlan {
            index: chunk.index,
            attempt: attempt.to_bytes().to_vec().into(),
            primary,
            delegate,
            grant: grant(state, asked.upload_id, chunk.index).into(),
            delegate_grant: b"d".to_vec().into(),
            expires_in_millis: state.grant_life.as_millis() as u64,
        });
    }
    Ok(PlanChunksReply {
        upload_number: asked.upload_id,
        cluster_id: CLUSTER.bytes().to_vec().into(),
        plans,
    })
}

/// The fake's permits say what the node must know: number, upload, index.
fn grant(state: &mut State, upload: u64, index: u32) -> Vec<u8> {
    let mut grant = state.new_grant();
    grant.extend(upload.to_be_bytes());
    grant.extend(index.to_be_bytes());
    grant
}

fn seal(world: &World, state: &mut State, asked: &SealRequest) -> Result<SealReply, RpcError> {
    let receipts: Vec<Receipt> = asked
        .receipts
        .iter()
        .map(|wire| Receipt::try_from(wire).unwrap())
        .collect();
    let upload = state
        .uploads
        .get_mut(&asked.upload_id)
        .ok_or_else(|| not_found("the upload"))?;
    if upload.state == UploadState::Aborted {
        return Ok(outcome_of(state, asked.upload_id));
    }
    if upload.version.is_none() {
        let nodes = world.nodes.get().unwrap();
        if std::mem::take(&mut state.wipe_before_seal) {
            nodes[0].wipe();
        }
        let lost = |receipt: &&Receipt| {
            let attempt = receipt.statement.attempt;
            !receipt
                .copies
                .iter()
                .all(|copy| nodes[copy.node.get() as usize - 1].has(attempt))
        };
        let need: Vec<u32> = receipts
            .iter()
            .filter(lost)
            .map(|receipt| receipt.statement.index)
            .collect();
        if !need.is_empty() {
            return Ok(reply(Outcome::Need(NeedChunks { indices: need })));
        }
        assert!(
            receipts
                .iter()
                .enumerate()
                .all(|(at, receipt)| receipt.statement.index as usize == at)
        );
        assert_eq!(
            receipts
                .iter()
                .map(|receipt| receipt.statement.length)
                .sum::<u64>(),
            asked.size
        );
        upload.version = Some(Version {
            version: asked.upload_id,
            size: asked.size,
            digest: Digest::try_from(asked.digest.as_ref()).unwrap(),
            receipts,
        });
    }
    if state.publish_after_asked == 0 {
        state.publish(asked.upload_id);
    }
    Ok(outcome_of(state, asked.upload_id))
}

fn outcome_of(state: &State, id: u64) -> SealReply {
    let Some(upload) = state.uploads.get(&id) else {
        return reply(Outcome::Pending(Pending {}));
    };
    reply(match upload.state {
        UploadState::Published => Outcome::Published(Published {
            version: id,
            modified_wall_millis: 1_000,
            durability: Some(Durability {
                copies: 2,
                ..Durability::default()
            }),
            places: vec![CopyPlace {
                node_id: 1,
                node: "n1".to_owned(),
                host: "h1".to_owned(),
                zone: "z1".to_owned(),
                chunks: 1,
            }],
        }),
        UploadState::Refused => Outcome::Refused(Refused {
            code: upload.refused.0.clone(),
            message: upload.refused.1.clone(),
        }),
        UploadState::Aborted => Outcome::Abandoned(Default::default()),
        _ => Outcome::Pending(Pending {}),
    })
}

fn reply(outcome: Outcome) -> SealReply {
    SealReply {
        outcome: Some(outcome),
    }
}

fn manifest(
    world: &World,
    state: &mut State,
    asked: &GetManifestRequest,
) -> Result<GetManifestReply, RpcError> {
    let found = state
        .files
        .values()
        .find(|version| version.version == asked.version)
        .cloned();
    let version = found.ok_or_else(|| not_found("the version"))?;
    let mut chunks = Vec::new();
    // Small pages, so that tests cross their borders.
    let limit = asked.limit.unwrap_or(3).clamp(1, 3) as usize;
    for receipt in version
        .receipts
        .iter()
        .skip(asked.first_index as usize)
        .take(limit)
    {
        let statement = &receipt.statement;
        let replicas = receipt.copies.iter().map(|copy| {
            let node = &world.nodes.get().unwrap()[copy.node.get() as usize - 1];
            ReplicaLocation {
                node_id: copy.node.get(),
                disk_id: copy.disk.bytes().to_vec().into(),
                data: node.address.clone(),
                node: format!("n{}", copy.node),
                host: "h".to_owned(),
                zone: "z".to_owned(),
                state: ReplicaState::Stored.into(),
                node_state: NodeState::Live.into(),
                grant: grant(state, version.version, statement.index).into(),
            }
        });
        chunks.push(ChunkLocation {
            index: statement.index,
            length: statement.length,
            digest: statement.digest.bytes().to_vec().into(),
            attempt: statement.attempt.to_bytes().to_vec().into(),
            replicas: replicas.collect(),
        });
    }
    Ok(GetManifestReply {
        version: version.version,
        size: version.size,
        digest: version.digest.bytes().to_vec().into(),
        chunk_bytes: state.chunk_bytes,
        chunk_count: version.receipts.len() as u32,
        chunks,
        grants_expire_in_millis: 60_000,
        cluster_id: CLUSTER.bytes().to_vec().into(),
    })
}

#[tonic::async_trait]
impl Files for Member {
    async fn plan_chunks(&self, request: Request<PlanChunksRequest>) -> Answer<PlanChunksReply> {
        self.leader("plan chunks", request, |state, asked| plan(state, &asked))
            .await
    }

    async fn seal(&self, request: Request<SealRequest>) -> Answer<SealReply> {
        let world = Arc::clone(&self.world);
        self.leader("seal", request, |state, asked| seal(&world, state, &asked))
            .await
    }

    async fn get_outcome(&self, request: Request<GetOutcomeRequest>) -> Answer<SealReply> {
        let outcome = |state: &mut State, asked: GetOutcomeRequest| {
            state.publish_after_asked = state.publish_after_asked.saturating_sub(1);
            if state.publish_after_asked == 0 {
                state.publish(asked.upload_id);
            }
            Ok(outcome_of(state, asked.upload_id))
        };
        self.leader("get outcome", request, outcome).await
    }

    async fn abandon(&self, request: Request<AbandonRequest>) -> Answer<AbandonReply> {
        self.leader("abandon", request, |_, _| Ok(AbandonReply {})).await
    }

    async fn get_manifest(&self, request: Request<GetManifestRequest>) -> Answer<GetManifestReply> {
        let (world, asked) = (Arc::clone(&self.world), request.into_inner());
        self.world
            .answer("get manifest", |state| manifest(&world, state, &asked))
            .await
    }
}
