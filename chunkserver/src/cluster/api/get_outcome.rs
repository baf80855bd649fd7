//! `GetOutcome`: what became of an upload that was sealed here.

use std::sync::Arc;

use common::error::Kind;
use common::ids::UploadId;
use common::lifecycle::Upload;
use proto::error::RpcError;
use proto::files::v1 as wire;

use super::outcome;
use crate::cluster::Cluster;
use crate::cluster::store::uploads;

/// An outcome never changes, so any member that knows it may say it; to know that there is none yet takes the leader.
pub(super) async fn get_outcome(
    cluster: Arc<Cluster>,
    request: wire::GetOutcomeRequest,
) -> Result<wire::SealReply, RpcError> {
    cluster.upload_ticket(&request.ticket, request.upload_id)?;
    let upload = UploadId::new(request.upload_id);
    if let Some(reply) = outcome::find(&cluster, upload.version()).await? {
        return Ok(reply);
    }
    let leadership = cluster.lead()?;
    let row = cluster
        .read_local(move |connection| uploads::find(connection, upload))
        .await?;
    let open_here = || leadership.uploads.find(upload).map(|_| Upload::Open);
    match row.map(|row| row.state).or_else(open_here) {
        Some(Upload::Sealed) => {
            let decided = cluster.outcomes.wait(upload.version());
            outcome::wait(&cluster, decided, upload.version(), None, request.wait_millis).await
        }
        Some(Upload::Abandoned) => Ok(wire::SealReply {
            outcome: Some(wire::seal_reply::Outcome::Abandoned(wire::Abandoned {})),
        }),
        Some(Upload::Open) => {
            let message = format!("upload {upload} is not sealed yet");
            Err(RpcError::new(Kind::Conflict, "E_NOT_SEALED", message).hint("seal it"))
        }
        None => {
            let message = format!("upload {upload} is not known at this cluster");
            Err(RpcError::new(Kind::NotFound, "E_UPLOAD_UNKNOWN", message))
        }
    }
}
