//! Marks and judges chunks that refused and released versions leave behind. Nodes are told to drop by heartbeats.

use std::sync::Arc;

use proto::cluster_log::v1::{ChunksDropped, DoomChunks, MarkVersions, command::Command as C};
use proto::error::RpcError;

use crate::cluster::Cluster;
use crate::cluster::leadership::Leadership;
use crate::cluster::store::Reply;
use crate::cluster::store::reclaim::{self, Reclaimed};

/// Versions in one command.
const VERSIONS_PER_COMMAND_MAX: u32 = 1000;
/// Chunks in one command.
const CHUNKS_PER_COMMAND_MAX: u32 = 1000;

pub(super) async fn run(cluster: Arc<Cluster>, leadership: Arc<Leadership>) {
    let period = cluster.config.timings.reclaim_period.get();
    loop {
        match round(&cluster, &leadership).await {
            Ok(true) => {}
            Ok(false) => {
                super::wait(&cluster.clock, period, &leadership.reclaimable).await;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot reclaim now");
                cluster.clock.sleep(period).await;
            }
        }
    }
}

/// One step of each kind; returns whether there is more to do at once.
async fn round(cluster: &Cluster, leadership: &Leadership) -> Result<bool, RpcError> {
    let now = cluster.group.now();
    let (stopped, to_mark, to_judge, left_behind) = cluster
        .scan_local(move |connection| {
            Ok((
                crate::cluster::store::counters::reclaim_stopped(connection)?,
                reclaim::to_mark(connection, VERSIONS_PER_COMMAND_MAX)?,
                reclaim::to_judge(connection, now, CHUNKS_PER_COMMAND_MAX)?,
                reclaim::left_behind(connection, CHUNKS_PER_COMMAND_MAX)?,
            ))
        })
        .await?;
    if stopped.is_some() {
        return Ok(false);
    }
    // What is not finished now is found by the next look.
    let more = !to_mark.is_empty() || to_judge.len() == CHUNKS_PER_COMMAND_MAX as usize;
    if !to_mark.is_empty() {
        let command = MarkVersions {
            versions: to_mark.iter().map(|version| version.get()).collect(),
            chunks_max: CHUNKS_PER_COMMAND_MAX,
            undo_window_millis: cluster.config.timings.mark_undo_window.as_millis(),
        };
        step(cluster, leadership, C::MarkVersions(command)).await?;
    }
    if !to_judge.is_empty() {
        let command = DoomChunks {
            attempts: to_judge
                .iter()
                .map(|attempt| attempt.to_bytes().to_vec().into())
                .collect(),
            drop_delay_millis: cluster.config.timings.drop_delay.as_millis(),
        };
        let done = step(cluster, leadership, C::DoomChunks(command)).await?;
        tracing::info!(doomed = done.doomed, spared = done.spared, "chunks judged");
    }
    if let Some((node, attempts)) = left_behind {
        let command = ChunksDropped {
            node_id: node.get(),
            attempts: attempts
                .iter()
                .map(|attempt| attempt.to_bytes().to_vec().into())
                .collect(),
        };
        let done = step(cluster, leadership, C::ChunksDropped(command)).await?;
        tracing::info!(%node, copies = attempts.len(), dropped = done.dropped, "forgot copies on a node that is gone");
    }
    Ok(more)
}

async fn step(cluster: &Cluster, leadership: &Leadership, command: C) -> Result<Reclaimed, RpcError> {
    let done = match cluster.commit(leadership.epoch, command).await? {
        Reply::Reclaimed(done) => done,
        _ => Reclaimed::default(),
    };
    cluster.count_reclaimed(done);
    Ok(done)
}
