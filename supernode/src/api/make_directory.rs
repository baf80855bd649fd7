//! Creates a directory and its missing parents.

use common::path::RemotePath;
use proto::error::RpcError;
use proto::names::v1 as wire;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;

use super::serve::Call;
use super::session::Session;
use super::show;
use crate::context::refused;
use crate::core::metadata::Metadata;
use crate::store::read::entry;

pub(super) async fn handle(call: Call, request: wire::MakeDirectoryRequest) -> Result<wire::Entry, RpcError> {
    let context = &call.context;
    let session = Session::of(&call).await?;
    context.leading()?;
    let path = show::path(&request.path)?;
    let metadata = Metadata::new(request.metadata).map_err(refused)?;
    let command = log::MakeDirectory {
        caller: Some(session.claim()),
        path: path.as_str().to_owned(),
        wall_millis: context.clock.wall().as_millis(),
        metadata: metadata.into_log(),
    };
    let dedupe = call.dedupe(session.user_id());
    context.propose(Command::MakeDirectory(command), dedupe).await?;
    entry_at(&call, session, path).await
}

/// What is at `path` on the leader now.
pub(super) async fn entry_at(
    call: &Call,
    session: Session,
    path: RemotePath,
) -> Result<wire::Entry, RpcError> {
    let found = call
        .context
        .read_local(move |tables| entry::stat(tables, session.user(tables)?.caller(), &path))
        .await?;
    Ok(show::entry(found))
}
