//! Files whose name or path matches, by pages.

use common::glob::Pattern;
use proto::error::RpcError;
use proto::names::v1 as wire;

use super::list::page_limit;
use super::serve::Call;
use super::session::Session;
use super::show;
use crate::context::refused;
use crate::core::page;
use crate::core::refusal::Refusal;
use crate::store::read::search::{Query, search};
use crate::store::read::walk::Budget;

pub(super) async fn handle(call: Call, request: wire::SearchRequest) -> Result<wire::SearchReply, RpcError> {
    let context = &call.context;
    let session = Session::of(&call).await?;
    let path = show::path(&request.path)?;
    let pattern = Pattern::parse(&request.pattern)
        .map_err(|error| refused(Refusal::invalid("E_PATTERN", error.to_string())))?;
    let position = page::position(&request.page_token).map_err(refused)?;
    let limit = page_limit(context, request.limit)?;
    let (rows_max, clock) = (context.config.limits.page_rows_max, context.clock.clone());
    let page = context
        .scan(move |tables| {
            let caller = session.user(tables)?.caller();
            let query = Query {
                path: &path,
                pattern: &pattern,
                size_min: request.size_min,
                size_max: request.size_max,
                newer_wall_millis: request.newer_wall_millis,
                position: position.as_deref(),
                limit,
                budget: Budget::from_now(rows_max, &clock),
            };
            search(tables, caller, &query)
        })
        .await?;
    Ok(wire::SearchReply {
        entries: page.entries.into_iter().map(show::entry).collect(),
        next_page_token: page.token,
    })
}
