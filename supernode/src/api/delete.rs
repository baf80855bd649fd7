//! Moves a file, or a directory's content, to the trash; with `permanent` it is released as soon as the background work
//! gets to it.

use common::error::Kind;
use common::lifecycle::VersionEvent;
use proto::error::RpcError;
use proto::names::v1 as wire;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;

use super::serve::Call;
use super::session::Session;
use super::show;
use crate::arrow::{after, before};
use crate::store::read::totals::{Total, below};

pub(super) async fn handle(call: Call, request: wire::DeleteRequest) -> Result<wire::DeleteReply, RpcError> {
    let context = &call.context;
    let session = Session::of(&call).await?;
    context.leading()?;
    let path = show::path(&request.path)?;
    let counted = path.clone();
    let total = context
        .read_local(move |tables| below(tables, session.user(tables)?.caller(), &counted))
        .await;
    let total = match total {
        Ok(total) => total,
        // Perhaps a repetition of what is done: the log knows.
        Err(error) if error.kind == Kind::NotFound => Total::default(),
        Err(error) => return Err(error),
    };
    let keep = context.config.timings.trash_keep.as_millis();
    let command = log::Delete {
        caller: Some(session.claim()),
        path: path.as_str().to_owned(),
        recursive: request.recursive,
        if_version: request.if_version,
        trash_keep_millis: if request.permanent { 0 } else { keep },
    };
    let dedupe = call.dedupe(session.user_id());
    before(VersionEvent::Trash.arrow());
    context.propose(Command::Delete(command), dedupe).await?;
    after(VersionEvent::Trash.arrow());
    if request.permanent {
        context.trash_due.notify_one();
    }
    Ok(wire::DeleteReply {
        files: total.files,
        bytes: total.bytes,
    })
}
