//! Records uploads that last, so that they survive their leader.

use std::sync::Arc;
use std::time::Duration;

use common::ids::UploadId;
use futures::stream::{self, StreamExt};
use proto::cluster_log::v1::{OpenUpload, command::Command as C};
use proto::error::RpcError;

use crate::cluster::Cluster;
use crate::cluster::leadership::Leadership;
use crate::cluster::open_uploads;
use crate::cluster::store::Reply;
use crate::cluster::store::uploads::Opened;

/// How long an upload may be known to its leader alone: what was sent by then is sent again if the leader dies.
const LASTING: Duration = Duration::from_millis(500);
const PERIOD: Duration = Duration::from_millis(250);
/// Uploads in one round, and at a time.
const UPLOADS_MAX: usize = 1000;
const AT_ONCE: usize = 64;

pub(super) async fn run(cluster: Arc<Cluster>, leadership: Arc<Leadership>) {
    loop {
        cluster.clock.sleep(PERIOD).await;
        let now = cluster.clock.moment();
        let lasting = leadership.uploads.lasting(now, LASTING, UPLOADS_MAX);
        let recording = stream::iter(lasting).map(|(upload, open)| {
            let (cluster, leadership) = (&cluster, &leadership);
            async move {
                if let Err(error) = record(cluster, leadership, upload, open).await {
                    tracing::debug!(%upload, %error, "cannot record an upload yet");
                }
            }
        });
        recording.buffer_unordered(AT_ONCE).collect::<()>().await;
    }
}

async fn record(
    cluster: &Cluster,
    leadership: &Leadership,
    upload: UploadId,
    open: open_uploads::OpenUpload,
) -> Result<(), RpcError> {
    let command = C::OpenUpload(OpenUpload {
        upload_id: upload.get(),
        chunk_bytes: open.chunk_bytes,
        open_max: cluster.config.limits.uploads_open_max,
        upload_number: Some(open.number.get()),
    });
    match cluster.commit(leadership.epoch, command).await? {
        Reply::Opened(Opened::Open(row)) => {
            leadership.uploads.confirm(upload, row.number);
        }
        Reply::Opened(Opened::Ended(_) | Opened::Forgotten) => leadership.uploads.ended(upload),
        // Too many: its seal can still record it.
        _ => {}
    }
    Ok(())
}
