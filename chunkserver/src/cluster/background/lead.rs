//! Begins and ends leadership at this member.

use std::sync::Arc;
use std::time::Duration;

use common::ids::Epoch;
use common::shutdown::Shutdown;
use consensus::GroupStatus;
use proto::error::RpcError;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{keys, openings, presence, publish, reclaim, registry, silence};
use crate::cluster::Cluster;
use crate::cluster::leadership::Leadership;
use crate::cluster::store;

/// Pause after a leadership that could not begin.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Runs until `shutdown` is given.
pub(crate) async fn run(cluster: Arc<Cluster>, shutdown: Shutdown) {
    let mut status = cluster.group.watch();
    let mut last = Epoch::default();
    while let Some(Some(epoch)) = shutdown.guard(next_epoch(&cluster, &mut status, last)).await {
        match begin(&cluster, epoch, &shutdown).await {
            Ok(leadership) => {
                shutdown.guard(hold(&cluster, &leadership, &mut status)).await;
                last = epoch;
                leadership.over.trigger();
                cluster.set_leadership(None);
                cluster.metrics.leads.set(0);
                tracing::info!(%epoch, "no longer leading the cluster");
            }
            Err(error) => {
                tracing::warn!(%epoch, %error, "cannot begin to lead");
                shutdown.guard(cluster.clock.sleep(RETRY_PAUSE)).await;
            }
        }
    }
}

/// The epoch above `last` that this member leads in, once it does; `None` when the group has ended.
///
/// What a leadership gives out is unique to its epoch, so there is no second one of the same. Where `last` is in force
/// still, or again because a quorum was only away for a while, it has to end and another to begin.
async fn next_epoch(
    cluster: &Cluster,
    status: &mut watch::Receiver<GroupStatus>,
    last: Epoch,
) -> Option<Epoch> {
    loop {
        let now = status.borrow_and_update().clone();
        cluster.metrics.group(&now);
        match now.epoch {
            Some(epoch) if epoch > last => return Some(epoch),
            Some(_) => cluster.group.begin_again(),
            None => {}
        }
        status.changed().await.ok()?;
    }
}

async fn begin(
    cluster: &Arc<Cluster>,
    epoch: Epoch,
    shutdown: &Shutdown,
) -> Result<Arc<Leadership>, RpcError> {
    let (rows, rows_up_to) = cluster
        .read_local(|connection| {
            Ok((
                store::keys::all(connection)?,
                store::uploads::highest(connection)?,
            ))
        })
        .await?;
    let usable = store::keys::usable(&rows);
    let since = cluster.clock.moment();
    let leadership = Leadership::new(epoch, since, shutdown.child(), usable, rows_up_to);
    let leadership = Arc::new(leadership);
    if rows.is_empty() {
        keys::rotate(cluster, &leadership).await?;
    }
    cluster.directory.changed();
    cluster.set_leadership(Some(Arc::clone(&leadership)));
    cluster.metrics.leads.set(1);
    tracing::info!(%epoch, "leading the cluster");
    Ok(leadership)
}

/// Runs the leader's loops for as long as the epoch lasts and none of them breaks.
async fn hold(
    cluster: &Arc<Cluster>,
    leadership: &Arc<Leadership>,
    status: &mut watch::Receiver<GroupStatus>,
) {
    let mut loops = JoinSet::new();
    let over = &leadership.over;
    let parts = || (Arc::clone(cluster), Arc::clone(leadership));
    start(&mut loops, over, parts(), publish::run);
    start(&mut loops, over, parts(), registry::run);
    start(&mut loops, over, parts(), presence::run);
    start(&mut loops, over, parts(), reclaim::run);
    start(&mut loops, over, parts(), silence::run);
    start(&mut loops, over, parts(), openings::run);
    start(&mut loops, over, parts(), keys::run);
    loop {
        let now = status.borrow_and_update().clone();
        cluster.metrics.group(&now);
        if now.epoch != Some(leadership.epoch) {
            return;
        }
        tokio::select! {
            changed = status.changed() => if changed.is_err() { return },
            ended = loops.join_next() => {
                // Loops end with the epoch; one that broke must not stay broken in silence.
                if let Some(Err(error)) = ended {
                    tracing::error!(%error, "a loop of the leader broke; this leadership ends here");
                    return;
                }
            }
        }
    }
}

/// Starts one loop, which ends when the leadership is over.
fn start<F: Future<Output = ()> + Send + 'static>(
    loops: &mut JoinSet<Option<()>>,
    over: &Shutdown,
    (cluster, leadership): (Arc<Cluster>, Arc<Leadership>),
    run: fn(Arc<Cluster>, Arc<Leadership>) -> F,
) {
    let (work, over) = (run(cluster, leadership), over.clone());
    loops.spawn(async move { over.guard(work).await });
}
