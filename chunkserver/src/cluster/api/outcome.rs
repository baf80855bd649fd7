//! What became of a sealed version, and waiting until it is known.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::ids::VersionId;
use common::lifecycle::Version;
use proto::error::RpcError;
use proto::files::v1 as wire;
use proto::names::v1 as names;

use super::dispatch::busy;
use crate::cluster::Cluster;
use crate::cluster::core::durability::{self, Spread};
use crate::cluster::store::manifests;
use crate::cluster::store::versions::{self, VersionRow};
use crate::config::SEAL_WAIT_MAX;

/// Waits at most `wait_millis` for the outcome of the sealed version `version`.
pub(super) async fn wait(
    cluster: &Arc<Cluster>,
    version: VersionId,
    wait_millis: u32,
) -> Result<wire::SealReply, RpcError> {
    let decided = cluster.outcomes.wait(version);
    if let Some(reply) = find(cluster, version).await? {
        return Ok(reply);
    }
    let wait = Duration::from_millis(wait_millis.into()).min(SEAL_WAIT_MAX);
    if !wait.is_zero() {
        let place = cluster.waiting.try_acquire();
        let _place = place.map_err(|_| busy("too many seals wait for their outcome at this node"))?;
        // Whether woken or not, the table says how it stands.
        let _ = cluster.clock.timeout(wait, decided).await;
        if let Some(reply) = find(cluster, version).await? {
            return Ok(reply);
        }
    }
    Ok(wire::SealReply {
        outcome: Some(wire::seal_reply::Outcome::Pending(wire::Pending {})),
    })
}

/// The outcome of `version` as applied here; `None` while there is none.
pub(super) async fn find(cluster: &Cluster, version: VersionId) -> Result<Option<wire::SealReply>, RpcError> {
    let found = cluster
        .read_local(move |connection| {
            let row = versions::find(connection, version)?.filter(|row| row.state.has_outcome());
            let Some(row) = row else {
                return Ok(None);
            };
            let spread = match row.state {
                Version::Published => manifests::spread(connection, version)?,
                Version::Sealed | Version::Refused | Version::Trashed | Version::Released | Version::Gone => {
                    BTreeMap::new()
                }
            };
            Ok(Some((row, spread)))
        })
        .await?;
    let Some((row, spread)) = found else {
        return Ok(None);
    };
    let outcome = if row.refused_code.is_empty() {
        let directory = cluster.directory().await?;
        let mut by_node = Spread::new();
        for (disks, chunks) in spread {
            let nodes = disks
                .iter()
                .filter_map(|disk| directory.disks.get(disk))
                .map(|disk| disk.node);
            *by_node.entry(nodes.collect()).or_default() += chunks;
        }
        published(cluster, &row, &by_node, &directory.holders())
    } else {
        wire::seal_reply::Outcome::Refused(wire::Refused {
            code: row.refused_code,
            message: row.refused_message,
        })
    };
    Ok(Some(wire::SealReply {
        outcome: Some(outcome),
    }))
}

fn published(
    cluster: &Cluster,
    row: &VersionRow,
    spread: &Spread,
    holders: &BTreeMap<common::ids::NodeId, durability::Holder>,
) -> wire::seal_reply::Outcome {
    let (least, places) = durability::of_chunks(spread, holders, 2);
    let places = places.into_iter().filter_map(|(node, chunks)| {
        let holder = holders.get(&node)?;
        Some(wire::CopyPlace {
            node_id: node.get(),
            node: holder.name.clone(),
            host: holder.host.clone(),
            zone: holder.zone.clone(),
            chunks,
        })
    });
    wire::seal_reply::Outcome::Published(wire::Published {
        version: row.version.get(),
        modified_wall_millis: row.modified.as_millis(),
        durability: Some(names::Durability {
            copies: least.copies,
            reduced: cluster.is_reduced(),
            hosts: least.hosts,
            zones: least.zones,
        }),
        places: places.collect(),
    })
}
