//! Moves a file or directory within one bucket.

use common::lifecycle::VersionEvent;
use proto::error::RpcError;
use proto::names::v1 as wire;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;

use super::make_directory::entry_at;
use super::serve::Call;
use super::session::Session;
use super::show;
use crate::arrow::{after, before};

pub(super) async fn handle(call: Call, request: wire::RenameRequest) -> Result<wire::Entry, RpcError> {
    let context = &call.context;
    let session = Session::of(&call).await?;
    context.leading()?;
    let (from, to) = (show::path(&request.from)?, show::path(&request.to)?);
    let command = log::Rename {
        caller: Some(session.claim()),
        from: from.as_str().to_owned(),
        to: to.as_str().to_owned(),
        replace: request.replace,
        trash_keep_millis: context.config.timings.trash_keep.as_millis(),
        wall_millis: context.clock.wall().as_millis(),
    };
    let dedupe = call.dedupe(session.user_id());
    let arrow = VersionEvent::Trash.arrow();
    if request.replace {
        before(arrow);
    }
    context.propose(Command::Rename(command), dedupe).await?;
    if request.replace {
        after(arrow);
    }
    entry_at(&call, session, to).await
}
