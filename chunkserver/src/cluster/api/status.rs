//! The cluster's state as the names layer and `dbfs status` see it.

use std::collections::BTreeMap;
use std::time::Duration;

use common::ids::NodeId;
use common::lifecycle::Node;
use common::units::CHUNK_BYTES_MAX;
use proto::error::RpcError;
use proto::names::v1 as wire;

use super::get_manifest::node_state;
use crate::cluster::Cluster;
use crate::cluster::background::publish::GENERATION;
use crate::cluster::core::durability;
use crate::cluster::directory::Directory;
use crate::cluster::leadership::{DiskSaid, Leadership, NodeLoad, Said};
use crate::cluster::store::counters::{Counter, reclaim_stopped};
use crate::config::Durability;

struct Counted {
    chunks: u64,
    uploads_open: u64,
    single: u64,
    suspect: u64,
    reclaim_stopped: Option<String>,
}

/// The state of the cluster as its leader knows it.
pub(crate) async fn of(cluster: &Cluster, leadership: &Leadership) -> Result<wire::ClusterStatus, RpcError> {
    let directory = cluster.directory().await?;
    let said = leadership.said();
    let counted = cluster
        .read_local(|connection| {
            Ok(Counted {
                chunks: Counter::Chunks.get(connection)?,
                uploads_open: Counter::UploadsOpen.get(connection)?,
                single: Counter::SingleCopyChunks.get(connection)?,
                suspect: Counter::SuspectReplicas.get(connection)?,
                reclaim_stopped: reclaim_stopped(connection)?,
            })
        })
        .await?;
    let group = cluster.group.status();
    let refuses_because = refusal(cluster, leadership, &directory);
    let under_replicated_chunks = counted.single + counted.suspect + lost_replicas(&directory);
    if let Some(reason) = &counted.reclaim_stopped {
        tracing::debug!(%reason, "reclaim is stopped");
    }
    Ok(wire::ClusterStatus {
        cluster_id: cluster.cluster_id().bytes().to_vec().into(),
        name: cluster.config.cluster.clone(),
        generation: GENERATION,
        term: group.term,
        leader_node_id: Some(cluster.node_id().get()),
        nodes: nodes(cluster, &directory, &said),
        load: Some(total(&directory, &said)),
        durability: Some(durability_of_new(cluster, &directory)),
        report_age_millis: Some(0),
        chunks: counted.chunks,
        under_replicated_chunks,
        uploads_open: counted.uploads_open,
        accepts_files: refuses_because.is_empty(),
        refuses_because,
        site: cluster.config.site.clone(),
        voters_wanted: cluster.config.voters,
    })
}

/// Why no new files should be placed here; empty if they may be.
fn refusal(cluster: &Cluster, leadership: &Leadership, directory: &Directory) -> String {
    if let Err(error) = cluster.check_formed() {
        return error.message;
    }
    let needed = match cluster.config.durability {
        Durability::Full => 2,
        Durability::Reduced => 1,
    };
    let candidates = leadership.candidates(directory);
    if candidates.len() < needed {
        return format!(
            "{} of the {needed} nodes that a chunk needs can take one",
            candidates.len()
        );
    }
    let roomy = candidates
        .iter()
        .filter(|one| one.free_bytes >= CHUNK_BYTES_MAX)
        .count();
    if roomy < needed {
        return "the disks are full".to_owned();
    }
    String::new()
}

/// Copies on disks that are gone, or on nodes that are given up. A chunk that lost both counts twice.
fn lost_replicas(directory: &Directory) -> u64 {
    let lost = directory.disks.values().filter(|disk| {
        let up = directory
            .nodes
            .get(&disk.node)
            .is_some_and(|row| match row.state {
                Node::Joining | Node::Live | Node::Suspect | Node::Draining => true,
                Node::Dead | Node::Gone => false,
            });
        !disk.present || !up
    });
    lost.map(|disk| disk.replicas).sum()
}

/// Every node that stays, and every member of the group that is no node yet.
fn nodes(cluster: &Cluster, directory: &Directory, said: &BTreeMap<NodeId, Said>) -> Vec<wire::NodeStatus> {
    let (group, reach) = (cluster.group.status(), cluster.group.reach());
    let now = cluster.clock.moment();
    let replication = |node: NodeId, shown: wire::GroupMember| {
        let reach = reach.get(&node);
        wire::GroupMember {
            node_id: node.get(),
            voter: group.member(node).is_some_and(|member| member.voter),
            state: reach
                .map_or(wire::MemberState::Unspecified, |reach| reach.condition.into())
                .into(),
            silent_millis: reach.map(|reach| millis(reach.silent_for)),
            lag_entries: reach.and_then(|reach| reach.lag_entries),
            ..shown
        }
    };
    let present = directory.nodes.values().filter(|row| row.state != Node::Gone);
    let nodes = present.map(|row| {
        let shown = wire::GroupMember {
            name: row.name.clone(),
            control: row.control.clone(),
            data: row.data.clone(),
            zone: row.zone.clone(),
            host: row.host.clone(),
            ..wire::GroupMember::default()
        };
        wire::NodeStatus {
            member: Some(replication(row.node, shown)),
            state: node_state(row.state).into(),
            load: said.get(&row.node).map(|said| load(said.load)),
            heartbeat_age_millis: said.get(&row.node).map(|said| millis(now.since(said.at))),
            disks: said
                .get(&row.node)
                .map_or_else(Vec::new, |said| said.disks.iter().map(disk).collect()),
        }
    });
    let unknown = group
        .members
        .iter()
        .filter(|member| !directory.nodes.contains_key(&member.node_id));
    let joining = unknown.map(|member| {
        let shown = wire::GroupMember {
            name: member.name.clone(),
            control: member.control.clone(),
            data: member.data.clone(),
            zone: member.zone.clone(),
            host: member.host.clone(),
            ..wire::GroupMember::default()
        };
        wire::NodeStatus {
            member: Some(replication(member.node_id, shown)),
            state: node_state(Node::Joining).into(),
            ..wire::NodeStatus::default()
        }
    });
    nodes.chain(joining).collect()
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn disk(disk: &DiskSaid) -> wire::DiskStatus {
    wire::DiskStatus {
        disk_id: disk.id.bytes().to_vec().into(),
        path: disk.path.clone(),
        capacity_bytes: disk.capacity_bytes,
        used_bytes: disk.used_bytes,
        free_bytes: disk.free_bytes,
        refuses_because: disk.refuses_because.clone(),
    }
}

const fn load(load: NodeLoad) -> wire::Load {
    wire::Load {
        cpu_permille: load.cpu_permille,
        memory_permille: load.memory_permille,
        capacity_bytes: load.capacity_bytes,
        used_bytes: load.used_bytes,
        free_bytes: load.free_bytes,
        in_flight_bytes: load.in_flight_bytes,
    }
}

/// Sums of space and flight, means of CPU and memory, over the nodes that take new data.
fn total(directory: &Directory, said: &BTreeMap<NodeId, Said>) -> wire::Load {
    let chosen = directory.nodes.values().filter(|row| row.state.may_be_chosen());
    let loads: Vec<NodeLoad> = chosen
        .filter_map(|row| said.get(&row.node))
        .map(|said| said.load)
        .collect();
    let count = u32::try_from(loads.len()).unwrap_or(u32::MAX).max(1);
    let sum = |field: fn(&NodeLoad) -> u64| loads.iter().map(field).fold(0, u64::saturating_add);
    let mean = |field: fn(&NodeLoad) -> u32| loads.iter().map(field).fold(0, u32::saturating_add) / count;
    wire::Load {
        cpu_permille: mean(|load| load.cpu_permille),
        memory_permille: mean(|load| load.memory_permille),
        capacity_bytes: sum(|load| load.capacity_bytes),
        used_bytes: sum(|load| load.used_bytes),
        free_bytes: sum(|load| load.free_bytes),
        in_flight_bytes: sum(|load| load.in_flight_bytes),
    }
}

/// What an upload would get now.
fn durability_of_new(cluster: &Cluster, directory: &Directory) -> wire::Durability {
    let holders = directory.holders();
    let live = holders.values().filter(|holder| {
        directory
            .nodes
            .get(&holder.node)
            .is_some_and(|row| row.state.may_be_chosen())
    });
    let most = durability::of_nodes(live);
    wire::Durability {
        copies: most.copies.min(2),
        reduced: cluster.is_reduced(),
        hosts: most.hosts.min(2),
        zones: most.zones.min(2),
    }
}
