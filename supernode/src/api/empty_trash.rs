//! Ends the time of everything in the trash at or below a path, or of one item there.

use common::path::RemotePath;
use proto::error::RpcError;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;
use proto::names_log::v1::reply::Body as Reply;
use proto::trash::v1 as wire;
use rusqlite::Connection;

use super::serve::Call;
use super::session::Session;
use super::show;
use crate::context::{refused, unexpected};
use crate::core::permission::Caller;
use crate::core::refusal::Refusal;
use crate::store::apply::Stop;
use crate::store::number::NUMBER_MAX;
use crate::store::{bucket, trash};

/// Items that are looked at for one command.
const ITEMS_PER_STEP: u32 = 500;

pub(super) async fn handle(call: Call, request: wire::EmptyRequest) -> Result<wire::EmptyReply, RpcError> {
    let context = &call.context;
    let session = Session::of(&call).await?;
    context.leading()?;
    let path = show::path(&request.path)?;
    if let Some(id) = request.trash_id {
        return one(&call, session, &path, show::number(id)?).await;
    }
    let mut items = 0_u64;
    // What comes into the trash from here on has higher numbers, and is not meant.
    let mut next = Some(NUMBER_MAX);
    while let Some(before) = next {
        let asked = path.clone();
        let found: Found = context
            .scan(move |tables| look(tables, session.user(tables)?.caller(), &asked, before))
            .await?;
        next = found.next;
        if found.ids.is_empty() {
            continue;
        }
        let command = log::EmptyTrash {
            caller: Some(session.claim()),
            path: path.as_str().to_owned(),
            trash_ids: found.ids,
        };
        let Reply::Worked(worked) = context.propose(Command::EmptyTrash(command), None).await? else {
            return Err(unexpected());
        };
        items = items.saturating_add(worked.count);
        context.trash_due.notify_one();
    }
    Ok(wire::EmptyReply { items })
}

/// Ends the time of one item.
async fn one(
    call: &Call,
    session: Session,
    path: &RemotePath,
    trash_id: u64,
) -> Result<wire::EmptyReply, RpcError> {
    let command = log::EmptyTrash {
        caller: Some(session.claim()),
        path: path.as_str().to_owned(),
        trash_ids: vec![trash_id],
    };
    match call.context.propose(Command::EmptyTrash(command), None).await? {
        Reply::Worked(worked) if worked.count > 0 => {
            call.context.trash_due.notify_one();
            Ok(wire::EmptyReply { items: worked.count })
        }
        Reply::Worked(_) => Err(refused(Refusal::no_trash(trash_id))),
        _ => Err(unexpected()),
    }
}

/// Items that were at or below the path, and where to look on.
struct Found {
    ids: Vec<u64>,
    next: Option<u64>,
}

fn look(tables: &Connection, caller: Caller, path: &RemotePath, before: u64) -> Result<Found, Stop> {
    let bucket = bucket::of_path(tables, caller, path)?;
    let items = trash::items(tables, bucket.id, before, ITEMS_PER_STEP)?;
    let full = items.len() >= ITEMS_PER_STEP as usize;
    let mut ids = Vec::new();
    for item in &items {
        if item.was_within(path)? {
            ids.push(item.id);
        }
    }
    Ok(Found {
        next: items.last().map(|item| item.id).filter(|_| full),
        ids,
    })
}
