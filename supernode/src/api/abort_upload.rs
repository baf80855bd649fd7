//! Commits that an open upload will never be published.

use common::ids::UploadId;
use common::lifecycle::SessionEvent;
use proto::error::RpcError;
use proto::names::v1 as wire;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;

use super::serve::Call;
use super::session::Session;
use super::show;
use crate::arrow::{after, before};
use crate::store::read::uploads::get;

pub(super) async fn handle(
    call: Call,
    request: wire::AbortUploadRequest,
) -> Result<wire::UploadStatus, RpcError> {
    let context = &call.context;
    let session = Session::of(&call).await?;
    let ours = context.leading()?;
    context.sessions.begin(context, ours).await?;
    let id = UploadId::new(show::number(request.upload_id)?);
    let unrecorded = context.sessions.find(ours, id);
    let command = log::AbortUpload {
        caller: Some(session.claim()),
        upload_id: request.upload_id,
        opening: unrecorded.map(|session| session.opening.clone()),
    };
    before(SessionEvent::Abort.arrow());
    context.propose(Command::AbortUpload(command), None).await?;
    after(SessionEvent::Abort.arrow());
    context.sessions.recorded(ours, [id]);
    let upload = context
        .read_local(move |tables| get(tables, session.holder(tables)?, id))
        .await?;
    Ok(show::upload(upload))
}
