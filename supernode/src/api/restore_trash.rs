//! Brings one item of the trash back.

use common::lifecycle::VersionEvent;
use proto::error::RpcError;
use proto::names::v1::Entry;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;
use proto::names_log::v1::reply::Body as Reply;
use proto::trash::v1 as wire;

use super::make_directory::entry_at;
use super::serve::Call;
use super::session::Session;
use super::show;
use crate::arrow::{after, before};
use crate::context::unexpected;

pub(super) async fn handle(call: Call, request: wire::RestoreRequest) -> Result<Entry, RpcError> {
    let context = &call.context;
    let session = Session::of(&call).await?;
    context.leading()?;
    let command = log::RestoreTrash {
        caller: Some(session.claim()),
        trash_id: request.trash_id,
        to: request.to,
        wall_millis: context.clock.wall().as_millis(),
    };
    let dedupe = call.dedupe(session.user_id());
    before(VersionEvent::Restore.arrow());
    let Reply::Restored(restored) = context.propose(Command::RestoreTrash(command), dedupe).await? else {
        return Err(unexpected());
    };
    after(VersionEvent::Restore.arrow());
    entry_at(&call, session, show::path(&restored.path)?).await
}
