//! Records which uploads were heard, abandons those that were silent for too long, forgets those that ended long ago.

use std::sync::Arc;
use std::time::Duration;

use common::ids::UploadId;
use common::lifecycle::Upload;
use common::time::ClusterTime;
use proto::cluster_log::v1::{AbandonUploads, ForgetUploads, TouchUploads, command::Command as C};
use proto::error::RpcError;

use crate::cluster::Cluster;
use crate::cluster::leadership::Leadership;
use crate::cluster::store::{Reply, uploads};

/// Uploads in one command.
const UPLOADS_PER_COMMAND_MAX: usize = 1000;
const PERIOD_MIN: Duration = Duration::from_millis(50);
const PERIOD_MAX: Duration = Duration::from_secs(30);

pub(super) async fn run(cluster: Arc<Cluster>, leadership: Arc<Leadership>) {
    let timings = &cluster.config.timings;
    let period = (timings.upload_silence_max.get() / 20).clamp(PERIOD_MIN, PERIOD_MAX);
    loop {
        cluster.clock.sleep(period).await;
        let round = async {
            touch(&cluster, &leadership).await?;
            abandon(&cluster, &leadership).await?;
            forget(&cluster, &leadership).await
        };
        if let Err(error) = round.await {
            tracing::warn!(%error, "cannot record which uploads are silent");
        }
    }
}

/// Commits who was heard. What a leader that dies had not committed is at most one period, a twentieth of the limit.
async fn touch(cluster: &Cluster, leadership: &Leadership) -> Result<(), RpcError> {
    loop {
        let heard = leadership.uploads.take_touched(UPLOADS_PER_COMMAND_MAX);
        if heard.is_empty() {
            return Ok(());
        }
        let command = TouchUploads {
            upload_ids: heard.iter().map(|upload| upload.get()).collect(),
        };
        cluster.commit(leadership.epoch, C::TouchUploads(command)).await?;
    }
}

async fn abandon(cluster: &Cluster, leadership: &Leadership) -> Result<(), RpcError> {
    let silence = cluster.config.timings.upload_silence_max.as_millis();
    let since = cluster.group.now().as_millis().saturating_sub(silence);
    if since == 0 {
        return Ok(());
    }
    let before = ClusterTime::from_millis(since);
    let mut silent: Vec<UploadId> = cluster
        .scan_local(move |connection| uploads::silent(connection, before, UPLOADS_PER_COMMAND_MAX as u32))
        .await?;
    silent.retain(|upload| !leadership.uploads.is_touched(*upload));
    if silent.is_empty() {
        return Ok(());
    }
    let command = AbandonUploads {
        upload_ids: silent.iter().map(|upload| upload.get()).collect(),
        silent_since_millis: Some(since),
    };
    let reply = cluster
        .commit(leadership.epoch, C::AbandonUploads(command))
        .await?;
    if let Reply::Abandoned(states) = reply {
        for (upload, _) in states.iter().filter(|(_, state)| *state == Upload::Abandoned) {
            tracing::info!(%upload, "upload abandoned: its client was silent for too long");
            leadership.uploads.ended(*upload);
            cluster.metrics.abandoned.inc();
        }
    }
    Ok(())
}

async fn forget(cluster: &Cluster, leadership: &Leadership) -> Result<(), RpcError> {
    let memory = cluster.config.timings.upload_memory.as_millis();
    let before = cluster.group.now().as_millis().saturating_sub(memory);
    let time = ClusterTime::from_millis(before);
    let due = cluster
        .scan_local(move |connection| uploads::ended_before(connection, time, UPLOADS_PER_COMMAND_MAX as u32))
        .await?;
    if due.is_empty() {
        return Ok(());
    }
    let command = ForgetUploads {
        ended_before_millis: before,
        upload_ids: due.iter().map(|upload| upload.get()).collect(),
    };
    cluster
        .commit(leadership.epoch, C::ForgetUploads(command))
        .await?;
    let forgotten = cluster.read_local(uploads::forgotten).await?;
    leadership.uploads.forgotten(forgotten);
    Ok(())
}
