//! Tells the leader from time to time all that this node's disks hold, and drops what it says is known to be dead.

use std::sync::Arc;
use std::time::Duration;

use common::error::Kind;
use common::ids::{AttemptId, Epoch};
use common::retry::Schedule;
use common::shutdown::Shutdown;
use proto::error::RpcError;
use proto::nodes::v1 as wire;

use super::LeaderLink;
use super::heartbeat::read_attempts;
use crate::cluster::Cluster;
use crate::cluster::api::report_inventory::ITEMS_PER_REQUEST_MAX;
use crate::store::Store;

/// Between two pages, so that a full disk does not keep the leader busy.
const PAGE_PAUSE: Duration = Duration::from_millis(50);

/// How long disks may take to carry out the drops of one page.
const DROP_TIMEOUT: Duration = Duration::from_secs(30);

/// What the inventory of a node needs.
pub(crate) struct Reporter {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) link: Arc<LeaderLink>,
    pub(crate) store: Store,
}

/// Runs until `shutdown` is given.
pub(crate) async fn run(reporter: Reporter, shutdown: Shutdown) {
    let timings = &reporter.cluster.config.timings;
    let (delay, period) = (timings.inventory_delay.get(), timings.inventory_period.get());
    let clock = &reporter.cluster.clock;
    shutdown.guard(clock.sleep(delay)).await;
    while !shutdown.is_triggered() {
        match shutdown.guard(Box::pin(report_all(&reporter))).await {
            Some(Ok(items)) => tracing::debug!(items, "inventory reported"),
            Some(Err(error)) => tracing::warn!(%error, "the inventory could not be reported"),
            None => return,
        }
        // A random part keeps the nodes from reporting together.
        let pause = period.mul_f64(0.75 + reporter.cluster.random.unit() / 2.0);
        shutdown.guard(clock.sleep(pause)).await;
    }
}

async fn report_all(reporter: &Reporter) -> Result<usize, RpcError> {
    let mut reported = 0;
    for disk in reporter.store.usage() {
        let mut after: Option<AttemptId> = None;
        loop {
            let page = reporter
                .store
                .inventory(Some(disk.disk), after, ITEMS_PER_REQUEST_MAX);
            let Some(last) = page.last() else {
                break;
            };
            after = Some(last.attempt);
            let is_last = page.len() < ITEMS_PER_REQUEST_MAX;
            reported += page.len();
            let request = wire::InventoryRequest {
                cluster_id: reporter.cluster.cluster_id().bytes().to_vec().into(),
                node_id: reporter.cluster.node_id().get(),
                disk_id: disk.disk.bytes().to_vec().into(),
                items: page
                    .iter()
                    .map(|item| wire::InventoryItem {
                        attempt: item.attempt.to_bytes().to_vec().into(),
                        upload_number: item.upload.get(),
                        version: item.version.get(),
                        index: item.index,
                        length: item.length,
                    })
                    .collect(),
            };
            obey(reporter, &send(reporter, request).await?).await?;
            if is_last {
                break;
            }
            reporter.cluster.clock.sleep(PAGE_PAUSE).await;
        }
    }
    Ok(reported)
}

/// Sends one page, again if there is no leader for a while.
async fn send(
    reporter: &Reporter,
    request: wire::InventoryRequest,
) -> Result<wire::InventoryReply, RpcError> {
    let mut backoff = Schedule::CONTROL.start();
    loop {
        let error = match reporter.link.report_inventory(request.clone()).await {
            Ok(reply) => return Ok(reply),
            Err(error) => error,
        };
        match backoff.next(&reporter.cluster.random, error.retry_after) {
            Some(wait) if error.kind.is_passing() => reporter.cluster.clock.sleep(wait).await,
            _ => return Err(error),
        }
    }
}

async fn obey(reporter: &Reporter, reply: &wire::InventoryReply) -> Result<(), RpcError> {
    if !reply.beyond_high_water.is_empty() {
        tracing::error!(
            attempts = reply.beyond_high_water.len(),
            "this node stores chunks which its cluster never planned: the cluster's state was lost, or this disk is not its own"
        );
    }
    let orders = read_attempts(&reply.drop_attempts);
    if orders.is_empty() {
        return Ok(());
    }
    let epoch = Epoch::new(reply.epoch);
    let refused = |error: crate::store::error::Error| {
        RpcError::new(Kind::Retry, "E_STORE", format!("cannot drop: {error}"))
    };
    let dropping = reporter.store.drop_attempts(epoch, &orders);
    let late = || RpcError::new(Kind::Retry, "E_STORE", "a disk does not carry out drops in time");
    let dropped = reporter.cluster.clock.timeout(DROP_TIMEOUT, dropping).await;
    let dropped = dropped.ok_or_else(late)?.map_err(refused)?;
    // What is left is found again by the next inventory.
    tracing::info!(attempts = dropped.attempts.len(), left = dropped.left, %epoch, "known dead, dropped");
    Ok(())
}
