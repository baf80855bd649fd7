//! Ends the time of everything in the trash at or below a path.

use proto::error::RpcError;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;
use proto::names_log::v1::reply::Body as Reply;
use proto::trash::v1 as wire;

use super::serve::Call;
use super::session::Session;
use super::show;
use crate::context::unexpected;

/// Items that one command touches.
const ITEMS_PER_STEP: u32 = 500;

pub(super) async fn handle(call: Call, request: wire::EmptyRequest) -> Result<wire::EmptyReply, RpcError> {
    let context = &call.context;
    let session = Session::of(&call).await?;
    context.leading()?;
    let path = show::path(&request.path)?;
    let mut items = 0_u64;
    loop {
        let command = log::EmptyTrash {
            caller: Some(session.claim()),
            path: path.as_str().to_owned(),
            limit: ITEMS_PER_STEP,
        };
        let Reply::Worked(worked) = context.propose(Command::EmptyTrash(command), None).await? else {
            return Err(unexpected());
        };
        items = items.saturating_add(worked.count);
        context.trash_due.notify_one();
        if !worked.more {
            return Ok(wire::EmptyReply { items });
        }
    }
}
