//! Entries of a directory, or all files below it, by pages.

use proto::error::RpcError;
use proto::names::v1 as wire;

use super::serve::Call;
use super::session::Session;
use super::show;
use crate::context::{Context, refused};
use crate::core::page;
use crate::core::refusal::Refusal;
use crate::store::read::list::{Listing, flat, recursive};
use crate::store::read::walk::Budget;

pub(super) async fn handle(call: Call, request: wire::ListRequest) -> Result<wire::ListReply, RpcError> {
    let context = &call.context;
    let session = Session::of(&call).await?;
    let path = show::path(&request.path)?;
    let position = page::position(&request.page_token).map_err(refused)?;
    let limit = page_limit(context, request.limit)?;
    let (rows_max, clock) = (context.config.limits.page_rows_max, context.clock.clone());
    let page = context
        .scan(move |tables| {
            let caller = session.user(tables)?.caller();
            let asked = Listing {
                path: &path,
                prefix: &request.prefix,
                position: position.as_deref(),
                limit,
                budget: Budget::from_now(rows_max, &clock),
                directories: request.directories,
            };
            if request.recursive {
                recursive(tables, caller, &asked)
            } else {
                flat(tables, caller, &asked)
            }
        })
        .await?;
    Ok(wire::ListReply {
        entries: page.entries.into_iter().map(show::entry).collect(),
        next_page_token: page.token,
    })
}

/// How many entries a page has: as many as asked for, within the bound.
///
/// # Errors
/// `Invalid`: a page of no entries would lead nowhere.
pub(super) fn page_limit(context: &Context, asked: Option<u32>) -> Result<usize, RpcError> {
    let most = context.config.limits.page_entries_max;
    match asked {
        Some(0) => Err(refused(Refusal::invalid(
            "E_LIMIT",
            "a page has at least one entry",
        ))),
        Some(asked) => Ok(asked.min(most) as usize),
        None => Ok(most as usize),
    }
}
