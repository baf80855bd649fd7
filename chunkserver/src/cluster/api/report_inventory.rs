//! `ReportInventory`: a node lists what a disk holds; the leader says which of it is known to be dead.
//!
//! Invariant (P6): judged on everything that was acknowledged before the question (a linearizable read), never on what
//! this leader happens to have applied. Left out is what may be in flight: uploads that this leader alone knows, and
//! attempts that a later one planned. A number that was never given out stops all reclaim until an operator looks.

use std::collections::BTreeSet;
use std::sync::Arc;

use common::error::Kind;
use common::ids::{AttemptId, Epoch, NodeId, UploadNumber, VersionId};
use common::time::ClusterTime;
use proto::cluster_log::v1 as log;
use proto::error::RpcError;
use proto::nodes::v1 as wire;
use rusqlite::Connection;

use crate::cluster::Cluster;
use crate::cluster::core::orphans::{self, Fate, Item, Known};
use crate::cluster::store::counters::{self, Counter};
use crate::cluster::store::{manifests, uploads};

/// Items in one request.
pub(crate) const ITEMS_PER_REQUEST_MAX: usize = 10_000;

struct Judged {
    dead: Vec<AttemptId>,
    beyond: Vec<AttemptId>,
    stopped: bool,
}

pub(crate) async fn report_inventory(
    cluster: Arc<Cluster>,
    request: wire::InventoryRequest,
) -> Result<wire::InventoryReply, RpcError> {
    let leadership = cluster.lead()?;
    let invalid = |message: String| RpcError::new(Kind::Invalid, "E_INVALID", message);
    if request.cluster_id.as_ref() != cluster.cluster_id().bytes() {
        return Err(RpcError::new(
            Kind::Denied,
            "E_NOT_A_NODE",
            "the node belongs to another cluster",
        ));
    }
    if request.items.len() > ITEMS_PER_REQUEST_MAX {
        return Err(invalid(format!(
            "at most {ITEMS_PER_REQUEST_MAX} items can be reported at once"
        )));
    }
    let items = readable(&request);
    let undo = cluster.config.timings.mark_undo_window.as_millis();
    let now = cluster.group.now().as_millis();
    let before = ClusterTime::from_millis(now.saturating_sub(undo));
    // Before the read: what gets its row meanwhile is found there.
    let unrecorded = leadership.uploads.unrecorded_numbers();
    let epoch = leadership.epoch;
    let in_flight =
        move |attempt: &AttemptId, item: &Item| attempt.epoch() > epoch || unrecorded.contains(&item.number);
    let items: Vec<(AttemptId, Item)> = items
        .into_iter()
        .filter(|(attempt, item)| !in_flight(attempt, item))
        .collect();
    let judged = cluster
        .read(move |connection| judge(connection, &items, before))
        .await?;
    let node = NodeId::new(request.node_id);
    if !judged.beyond.is_empty() && !judged.stopped {
        stop_reclaim(&cluster, leadership.epoch, node, &judged.beyond).await?;
    }
    if !judged.dead.is_empty() {
        tracing::info!(%node, attempts = judged.dead.len(), "inventory: known dead");
        cluster.metrics.orphans.inc_by(judged.dead.len() as u64);
    }
    let bytes = |list: &[AttemptId]| list.iter().map(|one| one.to_bytes().to_vec().into()).collect();
    Ok(wire::InventoryReply {
        epoch: leadership.epoch.get(),
        drop_attempts: bytes(&judged.dead),
        beyond_high_water: bytes(&judged.beyond),
    })
}

/// The items that can be read; of one that cannot nothing is concluded.
fn readable(request: &wire::InventoryRequest) -> Vec<(AttemptId, Item)> {
    let items: Vec<_> = request
        .items
        .iter()
        .filter_map(|item| {
            let attempt = AttemptId::try_from(item.attempt.as_ref()).ok()?;
            // No number given out is larger than what the tables keep.
            if item.upload_number.max(item.version) > i64::MAX.unsigned_abs() {
                return None;
            }
            let number = UploadNumber::new(item.upload_number);
            let version = VersionId::new(item.version);
            Some((attempt, Item { number, version }))
        })
        .collect();
    let left_out = request.items.len() - items.len();
    if left_out > 0 {
        tracing::warn!(
            node = request.node_id,
            left_out,
            "inventory: items that cannot be read are left out"
        );
    }
    items
}

fn judge(
    connection: &Connection,
    items: &[(AttemptId, Item)],
    abandoned_before: ClusterTime,
) -> rusqlite::Result<Judged> {
    let high_water = UploadNumber::new(Counter::UploadNumber.get(connection)?);
    let mut judged = Judged {
        dead: Vec::new(),
        beyond: Vec::new(),
        stopped: counters::reclaim_stopped(connection)?.is_some(),
    };
    let attempts: BTreeSet<AttemptId> = items.iter().map(|(attempt, _)| *attempt).collect();
    let chunks = manifests::versions_of(connection, &attempts)?;
    for (attempt, item) in items {
        let chunk = chunks.get(attempt);
        let has_chunk = chunk.is_some();
        // The chunk itself says for which version it was written: its upload need not be looked up.
        let row = if chunk == Some(&item.version) {
            None
        } else {
            uploads::find_number(connection, item.number)?
        };
        let known = match row {
            None => None,
            Some(row) => Some(Known {
                version: row.upload.version(),
                state: row.state,
                since: uploads::ended(connection, item.number)?.unwrap_or(row.heard),
            }),
        };
        match orphans::judge(*item, has_chunk, known, high_water, abandoned_before) {
            Fate::Keep => {}
            Fate::Dead => judged.dead.push(*attempt),
            Fate::BeyondKnowledge => judged.beyond.push(*attempt),
        }
    }
    if judged.stopped || !judged.beyond.is_empty() {
        judged.dead.clear();
    }
    Ok(judged)
}

async fn stop_reclaim(
    cluster: &Cluster,
    epoch: Epoch,
    node: NodeId,
    beyond: &[AttemptId],
) -> Result<(), RpcError> {
    let sample = beyond.first().map(ToString::to_string).unwrap_or_default();
    let reason = format!(
        "node {node} stores {} attempts (such as {sample}) of uploads that this cluster never opened: state was lost",
        beyond.len()
    );
    tracing::error!(%reason, "all reclaim stops until an operator has looked");
    let command = log::SetReclaim {
        stopped: true,
        reason,
    };
    cluster
        .commit(epoch, log::command::Command::SetReclaim(command))
        .await
        .map(drop)
}
