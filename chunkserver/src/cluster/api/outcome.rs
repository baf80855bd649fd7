//! What became of a sealed version, and waiting until it is known.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::ids::VersionId;
use common::lifecycle::Version;
use common::time::WallTime;
use proto::error::RpcError;
use proto::files::v1 as wire;
use proto::names::v1 as names;
use proto::registry::v1::PublishOutcome;

use super::dispatch::busy;
use crate::cluster::Cluster;
use crate::cluster::background::publish;
use crate::cluster::core::durability::{self, Spread};
use crate::cluster::outcomes::Decision;
use crate::cluster::store::manifests;
use crate::cluster::store::versions::{self, VersionRow};
use crate::cluster::unpublished::Sealed;
use crate::config::SEAL_WAIT_MAX;

/// A version that was sealed by the request which asks for its outcome.
pub(super) struct Content {
    pub(super) sealed: Sealed,
    pub(super) spread: Spread,
}

/// Waits at most `wait_millis` for the outcome of the sealed version `version`, of which `decided` may tell. With
/// `content` it was sealed after `decided` was registered, and no query is needed.
pub(super) async fn wait(
    cluster: &Arc<Cluster>,
    decided: Decision,
    version: VersionId,
    content: Option<Content>,
    wait_millis: u32,
) -> Result<wire::SealReply, RpcError> {
    if content.is_none()
        && let Some(reply) = find(cluster, version).await?
    {
        return Ok(reply);
    }
    match wait_decided(cluster, decided, wait_millis).await? {
        Some(decided) => told(cluster, version, &decided, content).await,
        None => Ok(find(cluster, version).await?.unwrap_or_else(pending)),
    }
}

async fn wait_decided(
    cluster: &Cluster,
    decided: Decision,
    wait_millis: u32,
) -> Result<Option<PublishOutcome>, RpcError> {
    let wait = Duration::from_millis(wait_millis.into()).min(SEAL_WAIT_MAX);
    if wait.is_zero() {
        return Ok(None);
    }
    let place = cluster.waiting.try_acquire();
    let _place = place.map_err(|_| busy("too many seals wait for their outcome at this node"))?;
    Ok(cluster.clock.timeout(wait, decided).await.and_then(Result::ok))
}

fn pending() -> wire::SealReply {
    wire::SealReply {
        outcome: Some(wire::seal_reply::Outcome::Pending(wire::Pending {})),
    }
}

/// The reply where the names layer has decided and the log here may not say so yet.
async fn told(
    cluster: &Cluster,
    version: VersionId,
    decided: &PublishOutcome,
    content: Option<Content>,
) -> Result<wire::SealReply, RpcError> {
    if !decided.published {
        return Ok(refused(
            publish::refusal_code(decided),
            decided.refused_message.clone(),
        ));
    }
    if let Some(content) = content {
        return publication(cluster, version, content.sealed.modified, &content.spread).await;
    }
    match load(cluster, version, true).await? {
        Some((row, spread)) => publication(cluster, version, row.modified, &spread).await,
        // Only a member that does not lead any more can be without the row.
        None => Err(RpcError::not_leader(None)),
    }
}

/// The outcome of `version` as applied here; `None` while there is none.
pub(super) async fn find(cluster: &Cluster, version: VersionId) -> Result<Option<wire::SealReply>, RpcError> {
    match load(cluster, version, false).await? {
        Some((row, _)) if !row.state.has_outcome() => Ok(None),
        Some((row, spread)) if row.refused_code.is_empty() => {
            publication(cluster, version, row.modified, &spread)
                .await
                .map(Some)
        }
        Some((row, _)) => Ok(Some(refused(row.refused_code, row.refused_message))),
        None => Ok(None),
    }
}

fn refused(code: String, message: String) -> wire::SealReply {
    wire::SealReply {
        outcome: Some(wire::seal_reply::Outcome::Refused(wire::Refused {
            code,
            message,
        })),
    }
}

async fn load(
    cluster: &Cluster,
    version: VersionId,
    sealed_too: bool,
) -> Result<Option<(VersionRow, Spread)>, RpcError> {
    let found = cluster
        .read_local(move |connection| {
            let Some(row) = versions::find(connection, version)? else {
                return Ok(None);
            };
            let spread = match row.state {
                Version::Sealed if sealed_too => manifests::spread(connection, version)?,
                Version::Published => manifests::spread(connection, version)?,
                Version::Sealed | Version::Refused | Version::Trashed | Version::Released | Version::Gone => {
                    BTreeMap::new()
                }
            };
            Ok(Some((row, spread)))
        })
        .await?;
    let Some((row, by_disk)) = found else {
        return Ok(None);
    };
    let directory = cluster.directory().await?;
    let mut spread = Spread::new();
    for (disks, chunks) in by_disk {
        let nodes = disks
            .iter()
            .filter_map(|disk| directory.disks.get(disk))
            .map(|disk| disk.node);
        *spread.entry(nodes.collect()).or_default() += chunks;
    }
    Ok(Some((row, spread)))
}

async fn publication(
    cluster: &Cluster,
    version: VersionId,
    modified: WallTime,
    spread: &Spread,
) -> Result<wire::SealReply, RpcError> {
    let holders = cluster.directory().await?.holders();
    Ok(wire::SealReply {
        outcome: Some(published(cluster, version, modified, spread, &holders)),
    })
}

fn published(
    cluster: &Cluster,
    version: VersionId,
    modified: WallTime,
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
        version: version.get(),
        modified_wall_millis: modified.as_millis(),
        durability: Some(names::Durability {
            copies: least.copies,
            reduced: cluster.is_reduced(),
            hosts: least.hosts,
            zones: least.zones,
        }),
        places: places.collect(),
    })
}
