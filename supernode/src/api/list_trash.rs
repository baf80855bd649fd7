//! What is in the trash and can still be brought back, by pages.

use common::time::ClusterTime;
use proto::error::RpcError;
use proto::names::v1::EntryKind;
use proto::trash::v1 as wire;

use super::list::page_limit;
use super::serve::Call;
use super::session::Session;
use super::show;
use crate::context::refused;
use crate::core::page;
use crate::store::number::NUMBER_MAX;
use crate::store::read::trash::{Asked, Shown, list};
use crate::store::trash::Kept;

pub(super) async fn handle(call: Call, request: wire::ListRequest) -> Result<wire::ListReply, RpcError> {
    let context = &call.context;
    let session = Session::of(&call).await?;
    let path = show::path(&request.path)?;
    let position = page::position(&request.page_token).map_err(refused)?;
    let before = match position {
        None => NUMBER_MAX,
        Some(text) => text
            .parse::<u64>()
            .ok()
            .filter(|number| *number <= NUMBER_MAX)
            .ok_or_else(|| refused(page::not_a_token()))?,
    };
    let limit = page_limit(context, request.limit)?;
    let rows_max = context.config.limits.page_rows_max;
    let now = context.now();
    let page = context
        .scan(move |tables| {
            let asked = Asked {
                path: &path,
                before,
                limit,
                rows_max,
            };
            list(tables, session.user(tables)?.caller(), &asked, now)
        })
        .await?;
    Ok(wire::ListReply {
        items: page.items.into_iter().map(|shown| item(shown, now)).collect(),
        next_page_token: page
            .next
            .map_or_else(String::new, |next| page::token(&next.to_string())),
    })
}

fn item(shown: Shown, now: ClusterTime) -> wire::Item {
    let (kind, version) = match shown.item.kept {
        Kept::Version(version) => (EntryKind::File, Some(version.get())),
        Kept::Directory(_) => (EntryKind::Directory, None),
    };
    let millis =
        |later: ClusterTime, earlier: ClusterTime| later.as_millis().saturating_sub(earlier.as_millis());
    wire::Item {
        trash_id: shown.item.id,
        kind: kind.into(),
        version,
        size: shown.size_bytes,
        trashed_ago_millis: millis(now, shown.item.trashed),
        due_in_millis: millis(shown.item.due, now),
        path: shown.item.path,
    }
}
