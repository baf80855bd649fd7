//! The cluster's heartbeat to the names layer: presence and load there, releases and keys back.
//!
//! Invariant: a release is committed here before it is acknowledged there, and what this cluster abandoned is repeated
//! until the names layer says that it has recorded it (P8).

use std::sync::Arc;

use common::ids::UploadId;
use common::lifecycle::Upload;
use common::time::ClusterTime;
use proto::cluster_log::v1 as log;
use proto::cluster_log::v1::command::Command as C;
use proto::error::RpcError;
use proto::registry::v1 as wire;
use proto::ticket::VerifyingKey;

use crate::cluster::Cluster;
use crate::cluster::api::status;
use crate::cluster::leadership::Leadership;
use crate::cluster::store::counters::Counter;
use crate::cluster::store::{Reply, uploads};

/// Uploads and releases in one message and one command.
const BATCH_MAX: usize = 1000;

pub(super) async fn run(cluster: Arc<Cluster>, leadership: Arc<Leadership>) {
    if cluster.supernodes.is_empty() {
        tracing::warn!("no supernode is configured: nothing can be published (chunkserver.supernodes)");
        return;
    }
    let period = cluster.config.timings.registry_period.get();
    let mut failing = false;
    loop {
        match round(&cluster, &leadership).await {
            Ok(more) => {
                if failing {
                    tracing::info!("the names layer is reached again");
                }
                failing = false;
                if !more {
                    cluster.clock.sleep(period).await;
                }
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "the names layer cannot be reached");
                }
                failing = true;
                cluster.clock.sleep(period).await;
            }
        }
    }
}

/// One heartbeat; returns whether the next should follow at once.
async fn round(cluster: &Cluster, leadership: &Leadership) -> Result<bool, RpcError> {
    let (releases_recorded, abandoned) = cluster
        .read_local(|connection| {
            Ok((
                Counter::ReleasesRecorded.get(connection)?,
                uploads::abandons_unreported(connection, BATCH_MAX as u32)?,
            ))
        })
        .await?;
    let request = wire::HeartbeatRequest {
        cluster_id: cluster.cluster_id().bytes().to_vec().into(),
        epoch: leadership.epoch.get(),
        status: Some(status::of(cluster, leadership).await?),
        releases_recorded,
        abandoned_uploads: abandoned.iter().map(|upload| upload.get()).collect(),
    };
    let reply = cluster.supernodes.heartbeat(&request).await?;
    let keys = reply
        .keys
        .iter()
        .map(|key| VerifyingKey::new(common::ids::KeyId::new(key.key_id), key.key.to_vec()))
        .collect();
    cluster
        .names
        .learn(ClusterTime::from_millis(reply.names_time_millis), keys);
    let released = !reply.releases.is_empty();
    release(cluster, leadership, reply.releases).await?;
    if !reply.abandoned_recorded.is_empty() {
        let command = log::AbandonsReported {
            upload_ids: reply.abandoned_recorded,
        };
        cluster
            .commit(leadership.epoch, C::AbandonsReported(command))
            .await?;
    }
    abort(cluster, leadership, reply.aborted_uploads).await?;
    Ok(released)
}

async fn release(
    cluster: &Cluster,
    leadership: &Leadership,
    mut releases: Vec<wire::Release>,
) -> Result<(), RpcError> {
    releases.sort_by_key(|release| release.sequence);
    for batch in releases.chunks(BATCH_MAX) {
        let releases = batch.iter().map(|release| log::Release {
            sequence: release.sequence,
            version: release.version,
        });
        let command = log::ReleaseVersions {
            releases: releases.collect(),
        };
        let reply = cluster
            .commit(leadership.epoch, C::ReleaseVersions(command))
            .await?;
        if let Reply::Released(done) = reply {
            tracing::debug!(
                recorded = done.recorded,
                unknown = done.unknown,
                "releases recorded"
            );
            if done.contradictions > 0 {
                tracing::error!(
                    contradictions = done.contradictions,
                    "the names layer released versions that it had refused: nothing is reclaimed of them"
                );
            }
        }
        leadership.reclaimable.notify_one();
    }
    Ok(())
}

/// Abandons what the names layer aborted. Sealed uploads are left alone: their publication will be refused.
async fn abort(cluster: &Cluster, leadership: &Leadership, aborted: Vec<u64>) -> Result<(), RpcError> {
    if aborted.is_empty() {
        return Ok(());
    }
    let uploads: Vec<UploadId> = aborted.into_iter().take(BATCH_MAX).map(UploadId::new).collect();
    let asked = uploads.clone();
    let sealed = cluster
        .read_local(move |connection| {
            let mut sealed = Vec::new();
            for upload in asked {
                let row = uploads::find(connection, upload)?;
                if row.is_some_and(|row| row.state == Upload::Sealed) {
                    sealed.push(upload);
                }
            }
            Ok(sealed)
        })
        .await?;
    let open: Vec<UploadId> = uploads
        .into_iter()
        .filter(|upload| !sealed.contains(upload))
        .collect();
    if open.is_empty() {
        return Ok(());
    }
    let command = log::AbandonUploads {
        upload_ids: open.iter().map(|upload| upload.get()).collect(),
        silent_since_millis: None,
    };
    cluster
        .commit(leadership.epoch, C::AbandonUploads(command))
        .await?;
    for upload in open {
        leadership.uploads.ended(upload);
        cluster.metrics.abandoned.inc();
    }
    Ok(())
}
