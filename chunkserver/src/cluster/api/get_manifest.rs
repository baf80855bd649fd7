//! `GetManifest`: a version's chunks and where each can be read. Any member answers that has applied the version.
//!
//! Invariant (P3, P9): a page is given only for the version that the ticket names; grants are made with the key in
//! force and end by cluster time. A member that lags can only name copies that are gone, which the reader notices.

use std::sync::Arc;

use common::error::Kind;
use common::ids::{UserId, VersionId};
use common::lifecycle::{Node, Replica, Version};
use proto::bulk::grant::{DataPlaneKey, Grant, Operation};
use proto::error::RpcError;
use proto::files::v1 as wire;
use proto::names::v1 as names;

use super::manifest_cache::{PAGE_CHUNKS, Page};
use crate::cluster::Cluster;
use crate::cluster::directory::Directory;
use crate::cluster::store::manifests::{self, Placed};
use crate::cluster::store::replicas::{self, ReplicaRow};
use crate::cluster::store::versions;

pub(super) async fn get_manifest(
    cluster: Arc<Cluster>,
    request: wire::GetManifestRequest,
) -> Result<wire::GetManifestReply, RpcError> {
    let (version, reader) = cluster.read_ticket(&request.ticket, request.version)?;
    let keys = cluster.context.keys();
    let key = keys.current().ok_or_else(|| {
        RpcError::new(
            Kind::Retry,
            "E_STARTING",
            "this node has not heard its leader yet",
        )
    })?;
    let limit = match request.limit {
        None => PAGE_CHUNKS,
        Some(0) => {
            let message = "a page of a manifest has at least one chunk";
            return Err(RpcError::new(Kind::Invalid, "E_LIMIT", message));
        }
        Some(limit) => limit.min(PAGE_CHUNKS),
    };
    let directory = cluster.directory().await?;
    let mut at = request.first_index;
    let mut page = page_of(&cluster, version, at / PAGE_CHUNKS).await?;
    let end = at.saturating_add(limit).min(page.version.chunk_count);
    let mut chunks = Vec::with_capacity(end.saturating_sub(at) as usize);
    while at < end {
        if at.is_multiple_of(PAGE_CHUNKS) && !chunks.is_empty() {
            page = page_of(&cluster, version, at / PAGE_CHUNKS).await?;
        }
        let Some(placed) = page.chunks.get((at % PAGE_CHUNKS) as usize) else {
            let message = format!("the manifest of version {version} has no chunk {at}");
            return Err(RpcError::new(Kind::Corrupt, "E_MANIFEST_HOLE", message));
        };
        chunks.push(locate(&cluster, &directory, key, &page, at, placed, reader));
        at += 1;
    }
    let row = &page.version;
    let lifetime = cluster.config.timings.grant_lifetime;
    Ok(wire::GetManifestReply {
        version: version.get(),
        size: row.size,
        digest: row.digest.bytes().to_vec().into(),
        chunk_bytes: row.chunk_bytes,
        chunk_count: row.chunk_count,
        chunks,
        grants_expire_in_millis: lifetime.as_millis(),
        cluster_id: cluster.cluster_id().bytes().to_vec().into(),
    })
}

/// Page `number` of the manifest: from memory, from what is applied here, or, where this member does not know the
/// version, from what is applied once it has caught up.
async fn page_of(cluster: &Cluster, version: VersionId, number: u32) -> Result<Arc<Page>, RpcError> {
    let now = cluster.clock.moment();
    if let Some(page) = cluster.manifests.fresh(version, number, now) {
        return Ok(page);
    }
    let known = cluster
        .manifests
        .any(version, number)
        .map(|page| page.chunks.clone());
    let load = move |connection: &rusqlite::Connection| {
        let Some(version) = versions::find(connection, version)? else {
            return Ok(None);
        };
        let chunks = match known {
            Some(mut chunks) => {
                for placed in &mut chunks {
                    placed.replicas = replicas::of(connection, placed.chunk.attempt)?;
                }
                chunks
            }
            None => {
                let first = number.saturating_mul(PAGE_CHUNKS);
                manifests::placed(connection, version.version, first, PAGE_CHUNKS)?
            }
        };
        Ok(Some((version, chunks)))
    };
    let found = match cluster.read_local(load.clone()).await? {
        Some(found) => Some(found),
        None => cluster.read(load).await?,
    };
    let readable = found.filter(|(row, _)| match row.state {
        // A ticket to read says that the names layer has published it; the news may not have come here yet.
        Version::Sealed | Version::Published | Version::Trashed => true,
        Version::Refused | Version::Released | Version::Gone => false,
    });
    let Some((row, chunks)) = readable else {
        cluster.manifests.forget(version, number);
        let message = format!("version {version} is not at this cluster (any more)");
        return Err(
            RpcError::new(Kind::NotFound, "E_VERSION_UNKNOWN", message).hint("resolve the path again")
        );
    };
    let page = Arc::new(Page {
        version: row,
        chunks,
        as_of: now,
    });
    cluster.manifests.keep(version, number, Arc::clone(&page));
    Ok(page)
}

fn locate(
    cluster: &Cluster,
    directory: &Directory,
    key: &DataPlaneKey,
    page: &Page,
    index: u32,
    placed: &Placed,
    reader: UserId,
) -> wire::ChunkLocation {
    let chunk = &placed.chunk;
    let mut replicas: Vec<(u8, u64, wire::ReplicaLocation)> = placed
        .replicas
        .iter()
        .filter(|replica| replica.state.may_be_read())
        .filter_map(|replica| {
            let mut location = location(directory, *replica)?;
            let grant = Grant {
                operation: Operation::Read,
                node: common::ids::NodeId::new(location.node_id),
                attempt: chunk.attempt,
                upload: page.version.number,
                version: chunk.version,
                index: chunk.index,
                length_max: chunk.length,
                epoch: cluster.context.epoch(),
                expires: cluster.context.now() + cluster.config.timings.grant_lifetime.get(),
                principal: reader,
            };
            location.grant = grant.seal(key).into();
            Some((doubt(&location), cluster.random.number(), location))
        })
        .collect();
    // The surest first; among equals chance spreads the readers.
    replicas.sort_by_key(|(doubt, chance, _)| (*doubt, *chance));
    wire::ChunkLocation {
        index,
        length: chunk.length,
        digest: chunk.digest.bytes().to_vec().into(),
        attempt: chunk.attempt.to_bytes().to_vec().into(),
        replicas: replicas.into_iter().map(|(_, _, location)| location).collect(),
    }
}

/// How unsure it is that the copy can be read.
fn doubt(location: &wire::ReplicaLocation) -> u8 {
    let node = match location.node_state() {
        names::NodeState::Live => 0,
        names::NodeState::Draining => 1,
        _ => 2,
    };
    match location.state() {
        wire::ReplicaState::Stored => node,
        _ => node + 4,
    }
}

/// Where a copy is; `None` if it cannot be read there.
fn location(directory: &Directory, replica: ReplicaRow) -> Option<wire::ReplicaLocation> {
    let disk = directory.disks.get(&replica.disk).filter(|disk| disk.present)?;
    let node = directory
        .nodes
        .get(&disk.node)
        .filter(|node| node.state.may_be_read())?;
    let state = match replica.state {
        Replica::Stored => wire::ReplicaState::Stored,
        Replica::Suspect => wire::ReplicaState::Suspect,
        Replica::Leaving => wire::ReplicaState::Leaving,
        Replica::Writing | Replica::Tombstoned => wire::ReplicaState::Unspecified,
    };
    Some(wire::ReplicaLocation {
        node_id: node.node.get(),
        disk_id: disk.id.bytes().to_vec().into(),
        data: node.data.clone(),
        node: node.name.clone(),
        host: node.host.clone(),
        zone: node.zone.clone(),
        state: state.into(),
        node_state: node_state(node.state).into(),
        grant: prost::bytes::Bytes::new(),
    })
}

/// A node's state as it travels.
pub(crate) const fn node_state(state: Node) -> names::NodeState {
    match state {
        Node::Joining => names::NodeState::Joining,
        Node::Live => names::NodeState::Live,
        Node::Suspect => names::NodeState::Suspect,
        Node::Dead => names::NodeState::Dead,
        Node::Draining => names::NodeState::Draining,
        Node::Gone => names::NodeState::Gone,
    }
}
