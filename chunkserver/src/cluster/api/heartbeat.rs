//! `Heartbeat`: a node says how it is; the leader says what time it is, which keys are in force and what must go.
//!
//! Invariant: what a heartbeat changes in the log (a node's standing, tombstones, damaged copies) is committed before
//! the reply, so that a node which heard a reply needs not say it again (P4).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::error::Kind;
use common::ids::{DiskId, NodeId};
use common::lifecycle::Node;
use consensus::Member;
use proto::cluster_log::v1 as log;
use proto::cluster_log::v1::command::Command as C;
use proto::error::RpcError;
use proto::names::v1 as names;
use proto::nodes::v1 as wire;
use proto::registry::v1::VerifyingKey;

use crate::cluster::Cluster;
use crate::cluster::directory::Directory;
use crate::cluster::leadership::{DiskSaid, Heartbeat, Leadership, NodeLoad, Said};
use crate::cluster::store::reclaim::{self, Reclaimed};
use crate::cluster::store::{Reply, keys};

/// Drop orders in one reply; the others follow with the next.
const ORDERS_PER_REPLY_MAX: u32 = 4096;
/// Tombstones and damaged copies in one request.
pub(crate) const REPORTS_PER_REQUEST_MAX: usize = 8192;
/// The stable name of the refusal of a second process of one identity.
pub(crate) const E_RIVAL: &str = "E_SECOND_INCARNATION";
/// Disks of one node.
const DISKS_MAX: usize = 256;
/// Data-plane keys which a node is told: the current and the previous.
const KEYS_TOLD: usize = 2;

pub(crate) async fn heartbeat(
    cluster: Arc<Cluster>,
    request: wire::HeartbeatRequest,
) -> Result<wire::HeartbeatReply, RpcError> {
    let leadership = cluster.lead()?;
    let node = NodeId::new(request.node_id);
    let member = check(&cluster, node, &request)?;
    let said = read(&cluster, &request);
    let disk_ids: BTreeSet<DiskId> = said.disks.iter().map(|disk| disk.id).collect();
    let timings = &cluster.config.timings;
    let fence = timings.heartbeat_period.get().saturating_mul(3);
    match leadership.heard(node, said, fence.min(timings.suspect_after.get())) {
        Heartbeat::Usual => {}
        Heartbeat::Restarted => tracing::info!(%node, "node restarted"),
        Heartbeat::Rival => return Err(rival(node)),
    }
    let directory = cluster.directory().await?;
    if differs(&directory, &member, &disk_ids) {
        record(&cluster, &leadership, &member, &disk_ids).await?;
    }
    report(&cluster, &leadership, &request).await?;
    reply(&cluster, &leadership, node).await
}

fn rival(node: NodeId) -> RpcError {
    let message = format!(
        "another process that is node {node} is alive: one of the two runs on a copy of the other's data directory"
    );
    RpcError::new(Kind::Conflict, E_RIVAL, message)
        .hint("stop the copy; a further node starts with an empty data directory")
}

fn check(cluster: &Cluster, node: NodeId, request: &wire::HeartbeatRequest) -> Result<Member, RpcError> {
    let denied = |message: String| RpcError::new(Kind::Denied, "E_NOT_A_NODE", message);
    if request.cluster_id.as_ref() != cluster.cluster_id().bytes() {
        return Err(denied(format!("node {node} belongs to another cluster")));
    }
    let reports = request.dropped_attempts.len().max(request.suspect_attempts.len());
    if request.disks.len() > DISKS_MAX || reports > REPORTS_PER_REQUEST_MAX {
        return Err(RpcError::new(
            Kind::Invalid,
            "E_INVALID",
            "the heartbeat says too much at once",
        ));
    }
    let status = cluster.group.status();
    status
        .member(node)
        .cloned()
        .ok_or_else(|| denied(format!("node {node} is not a member of this cluster")))
}

/// What the node says, in our words; unreadable disks are left out.
fn read(cluster: &Cluster, request: &wire::HeartbeatRequest) -> Said {
    let load = request.load.unwrap_or_default();
    let disks = request.disks.iter().filter_map(|disk| {
        Some(DiskSaid {
            id: DiskId::try_from(disk.disk_id.as_ref()).ok()?,
            path: disk.path.clone(),
            capacity_bytes: disk.capacity_bytes,
            used_bytes: disk.used_bytes,
            free_bytes: disk.free_bytes,
            refuses_because: disk.refuses_because.clone(),
        })
    });
    let load = NodeLoad {
        cpu_permille: load.cpu_permille,
        memory_permille: load.memory_permille,
        capacity_bytes: load.capacity_bytes,
        used_bytes: load.used_bytes,
        free_bytes: load.free_bytes,
        in_flight_bytes: load.in_flight_bytes,
    };
    let incarnation = request.incarnation.to_vec();
    Said::new(cluster.clock.moment(), incarnation, load, disks.collect())
}

/// Whether the log knows the node otherwise than it is.
fn differs(directory: &Directory, member: &Member, disks: &BTreeSet<DiskId>) -> bool {
    let Some(row) = directory.nodes.get(&member.node_id) else {
        return true;
    };
    let back = match row.state {
        Node::Joining | Node::Suspect | Node::Dead => true,
        Node::Live | Node::Draining | Node::Gone => false,
    };
    let present: BTreeSet<DiskId> = directory
        .disks
        .values()
        .filter(|disk| disk.node == member.node_id && disk.present)
        .map(|disk| disk.id)
        .collect();
    let named = |row: &crate::cluster::store::nodes::NodeRow| {
        row.name == member.name
            && row.control == member.control
            && row.data == member.data
            && row.zone == member.zone
            && row.host == member.host
    };
    row.state != Node::Gone && (back || !named(row) || present != *disks)
}

async fn record(
    cluster: &Cluster,
    leadership: &Leadership,
    member: &Member,
    disks: &BTreeSet<DiskId>,
) -> Result<(), RpcError> {
    let command = log::NodeSeen {
        node_id: member.node_id.get(),
        name: member.name.clone(),
        control: member.control.clone(),
        data: member.data.clone(),
        zone: member.zone.clone(),
        host: member.host.clone(),
        disk_ids: disks.iter().map(|id| id.bytes().to_vec().into()).collect(),
    };
    let reply = cluster.commit(leadership.epoch, C::NodeSeen(command)).await;
    cluster.directory.changed();
    tracing::info!(node = %member.node_id, name = %member.name, disks = disks.len(), standing = ?reply, "node heard");
    reply.map(drop)
}

/// Commits what the node has carried out and found.
async fn report(
    cluster: &Cluster,
    leadership: &Leadership,
    request: &wire::HeartbeatRequest,
) -> Result<(), RpcError> {
    if !request.dropped_attempts.is_empty() {
        let command = log::ChunksDropped {
            node_id: request.node_id,
            attempts: request.dropped_attempts.clone(),
        };
        if let Reply::Reclaimed(done) = cluster
            .commit(leadership.epoch, C::ChunksDropped(command))
            .await?
        {
            cluster.count_reclaimed(done);
        }
    }
    if !request.suspect_attempts.is_empty() {
        let command = log::SuspectReplicas {
            node_id: request.node_id,
            attempts: request.suspect_attempts.clone(),
        };
        let reply = cluster
            .commit(leadership.epoch, C::SuspectReplicas(command))
            .await?;
        if reply != Reply::Rows(0) {
            tracing::warn!(
                node = request.node_id,
                copies = request.suspect_attempts.len(),
                "damaged copies reported"
            );
        }
    }
    Ok(())
}

impl Cluster {
    pub(crate) fn count_reclaimed(&self, done: Reclaimed) {
        for (step, count) in [
            ("marked", done.marked),
            ("spared", done.spared),
            ("doomed", done.doomed),
            ("dropped", done.dropped),
            ("versions_gone", done.versions_gone),
        ] {
            self.metrics
                .reclaimed
                .with_label_values(&[step])
                .inc_by(count.into());
        }
    }
}

async fn reply(
    cluster: &Cluster,
    leadership: &Leadership,
    node: NodeId,
) -> Result<wire::HeartbeatReply, RpcError> {
    let directory = cluster.directory().await?;
    let now = cluster.group.now();
    let (keys, orders) = cluster
        .read_local(move |connection| {
            let orders = reclaim::orders(connection, node, now, ORDERS_PER_REPLY_MAX)?;
            Ok((keys::all(connection)?, orders))
        })
        .await?;
    let (names_time, names_keys) = cluster.names.known();
    Ok(wire::HeartbeatReply {
        cluster_time_millis: cluster.group.now().as_millis(),
        epoch: leadership.epoch.get(),
        keys: keys
            .iter()
            .take(KEYS_TOLD)
            .map(|row| wire::DataPlaneKey {
                key_id: row.id.get(),
                key: row.secret.to_vec().into(),
            })
            .collect(),
        drop_attempts: orders
            .iter()
            .map(|attempt| attempt.to_bytes().to_vec().into())
            .collect(),
        nodes: endpoints(cluster, &directory),
        rival_heard: leadership.rival_heard(node),
        next_in_millis: cluster.config.timings.heartbeat_period.as_millis(),
        names_time_millis: (!names_keys.is_empty()).then(|| names_time.as_millis()),
        names_keys: names_keys
            .iter()
            .map(|key| VerifyingKey {
                key_id: key.id().get(),
                key: key.public().to_vec().into(),
            })
            .collect(),
    })
}

/// Where the nodes are reached: as committed, and members that were not heard yet as they joined.
fn endpoints(cluster: &Cluster, directory: &Directory) -> Vec<names::Endpoint> {
    let status = cluster.group.status();
    let mut all: BTreeMap<NodeId, names::Endpoint> = BTreeMap::new();
    for member in status.members.iter() {
        let endpoint = names::Endpoint {
            node_id: member.node_id.get(),
            control: member.control.clone(),
            data: member.data.clone(),
            leader: member.node_id == cluster.node_id(),
        };
        all.insert(member.node_id, endpoint);
    }
    all.retain(|node, _| {
        directory
            .nodes
            .get(node)
            .is_none_or(|row| row.state != Node::Gone)
    });
    all.into_values().collect()
}
