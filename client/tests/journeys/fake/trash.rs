//! The trash service of a fake supernode.

use std::sync::Arc;

use common::error::Kind;
use proto::error::RpcError;
use proto::names::v1::{Entry, EntryKind};
use proto::trash::v1::trash_server::Trash as Service;
use proto::trash::v1::{EmptyReply, EmptyRequest, Item, ListReply, ListRequest, RestoreRequest};
use tonic::{Request, Response, Status};

use super::world::{State, World, not_found};

type Answer<T> = Result<Response<T>, Status>;

pub(crate) struct Trash(pub(crate) Arc<World>);

fn is_below(path: &str, above: &str) -> bool {
    path == above || path.starts_with(&format!("{}/", above.trim_end_matches('/')))
}

#[tonic::async_trait]
impl Service for Trash {
    async fn list(&self, request: Request<ListRequest>) -> Answer<ListReply> {
        let asked = request.into_inner();
        let list = |state: &mut State| {
            let found = state
                .trash
                .iter()
                .rev()
                .filter(|(_, path, _)| is_below(path, &asked.path));
            let items = found.map(|(id, path, version)| Item {
                trash_id: *id,
                path: path.clone(),
                kind: EntryKind::File.into(),
                version: Some(version.version),
                size: Some(version.size),
                trashed_ago_millis: 2_000,
                due_in_millis: 60_000,
            });
            Ok(ListReply {
                items: items.collect(),
                next_page_token: String::new(),
            })
        };
        self.0.answer("list trash", list).await
    }

    async fn restore(&self, request: Request<RestoreRequest>) -> Answer<Entry> {
        let asked = request.into_inner();
        let restore = |state: &mut State| {
            let at = state.trash.iter().position(|(id, ..)| *id == asked.trash_id);
            let at = at.ok_or_else(|| not_found("the item"))?;
            let to = if asked.to.is_empty() {
                state.trash[at].1.clone()
            } else {
                asked.to.clone()
            };
            if state.files.contains_key(&to) {
                return Err(RpcError::new(
                    Kind::Conflict,
                    "E_EXISTS",
                    format!("{to} exists already"),
                ));
            }
            let (_, _, version) = state.trash.remove(at);
            state.files.insert(to.clone(), version);
            state.entry(&to)
        };
        self.0.answer("restore", restore).await
    }

    async fn empty(&self, request: Request<EmptyRequest>) -> Answer<EmptyReply> {
        let asked = request.into_inner();
        let empty = |state: &mut State| {
            let before = state.trash.len();
            state.trash.retain(|(_, path, _)| !is_below(path, &asked.path));
            let items = (before - state.trash.len()) as u64;
            Ok(EmptyReply { items })
        };
        self.0.answer("empty trash", empty).await
    }
}
