//! `Abandon`: an open upload will never be sealed.

use std::sync::Arc;

use common::error::Kind;
use common::ids::UploadId;
use common::lifecycle::Upload;
use proto::cluster_log::v1 as log;
use proto::error::RpcError;
use proto::files::v1 as wire;

use crate::cluster::Cluster;
use crate::cluster::store::Reply;

pub(super) async fn abandon(
    cluster: Arc<Cluster>,
    request: wire::AbandonRequest,
) -> Result<wire::AbandonReply, RpcError> {
    cluster.upload_ticket(&request.ticket, request.upload_id)?;
    let leadership = cluster.lead()?;
    let upload = UploadId::new(request.upload_id);
    let command = log::AbandonUploads {
        upload_ids: vec![upload.get()],
        silent_since_millis: None,
    };
    let command = log::command::Command::AbandonUploads(command);
    let reply = cluster.commit(leadership.epoch, command).await?;
    leadership.uploads.ended(upload);
    match reply {
        Reply::Abandoned(states) if states.iter().all(|(_, state)| *state == Upload::Abandoned) => {
            cluster.metrics.abandoned.inc();
            Ok(wire::AbandonReply {})
        }
        _ => {
            let message = format!("upload {upload} is sealed; its outcome is the names layer's to decide");
            Err(RpcError::new(Kind::Conflict, "E_UPLOAD_SEALED", message).hint("ask for its outcome"))
        }
    }
}
