//! Files and directories by name: the calls.
//!
//! Invariant (P4): a change whose answer was lost is tried again in a form that cannot hit anything but what the
//! first try meant. `delete` and `rename` of a file therefore name the version they saw; a refusal that only says
//! "it is done already" is told apart from a real one.

use std::sync::Arc;

use common::error::Kind;
use common::ids::VersionId;
use common::path::RemotePath;
use common::units::ByteCount;
use proto::names::v1 as wire;

use super::pages::Fetch;
use super::{DeleteOptions, Deleted, Entry, ListOptions, Pages, SearchQuery};
use crate::error::Error;
use crate::routing::{Ask, Asked, Router, Try};

/// How often a delete without a condition looks again because somebody changed the file in between.
const DELETE_LOOKS_MAX: u32 = 4;

pub(crate) async fn stat(router: &Router, path: &RemotePath) -> Result<Entry, Error> {
    let request = wire::StatRequest {
        path: path.to_string(),
    };
    let send = |one: Try| {
        let request = one.request(request.clone());
        async move { one.names().stat(request).await }
    };
    router
        .ask(Ask::any("stat", router.supernodes()), send)
        .await
        .result?
        .try_into()
}

pub(crate) fn list(router: &Arc<Router>, path: &RemotePath, options: ListOptions) -> Pages {
    let (router, path) = (Arc::clone(router), path.to_string());
    let fetch: Fetch = Arc::new(move |page_token| {
        let router = Arc::clone(&router);
        let request = wire::ListRequest {
            path: path.clone(),
            recursive: options.recursive,
            page_token,
            limit: options.page_entries_max,
            prefix: options.prefix.clone(),
        };
        Box::pin(async move {
            let send = |one: Try| {
                let request = one.request(request.clone());
                async move { one.names().list(request).await }
            };
            let reply: wire::ListReply = router
                .ask(Ask::any("list", router.supernodes()), send)
                .await
                .result?;
            Ok((entries(reply.entries)?, reply.next_page_token))
        })
    });
    Pages::new(fetch)
}

pub(crate) fn search(router: &Arc<Router>, path: &RemotePath, query: SearchQuery) -> Pages {
    let (router, path) = (Arc::clone(router), path.to_string());
    let fetch: Fetch = Arc::new(move |page_token| {
        let router = Arc::clone(&router);
        let request = wire::SearchRequest {
            path: path.clone(),
            pattern: query.pattern.clone(),
            page_token,
            limit: query.page_entries_max,
            size_min: query.size_min.map_or(0, ByteCount::get),
            size_max: query.size_max.map_or(0, ByteCount::get),
            newer_wall_millis: query.newer.map_or(0, |newer| newer.as_millis()),
        };
        Box::pin(async move {
            let send = |one: Try| {
                let request = one.request(request.clone());
                async move { one.names().search(request).await }
            };
            let reply: wire::SearchReply = router
                .ask(Ask::any("search", router.supernodes()), send)
                .await
                .result?;
            Ok((entries(reply.entries)?, reply.next_page_token))
        })
    });
    Pages::new(fetch)
}

fn entries(wire: Vec<wire::Entry>) -> Result<Vec<Entry>, Error> {
    wire.into_iter().map(Entry::try_from).collect()
}

pub(crate) async fn make_directory(router: &Router, path: &RemotePath) -> Result<Entry, Error> {
    let request = wire::MakeDirectoryRequest {
        path: path.to_string(),
    };
    let send = |one: Try| {
        let request = one.request(request.clone());
        async move { one.names().make_directory(request).await }
    };
    router
        .ask(Ask::leader("make directory", router.supernodes()), send)
        .await
        .result?
        .try_into()
}

pub(crate) async fn delete(
    router: &Router,
    path: &RemotePath,
    options: DeleteOptions,
) -> Result<Deleted, Error> {
    let mut looks = 0;
    loop {
        let seen = stat(router, path).await?;
        let pinned = options.if_version.or(seen.version());
        let asked = send_delete(router, path, options, pinned).await;
        looks += 1;
        match asked.result {
            Ok(deleted) => return Ok(deleted),
            Err(error) if error.kind() == Kind::NotFound && asked.earlier_try_lost => {
                // It was there when it was looked at, and its version was named: the lost try has deleted it.
                let files = u64::from(seen.is_file());
                return Ok(Deleted {
                    files,
                    size: seen.size(),
                });
            }
            Err(error) if error.kind() == Kind::Conflict => {
                // Only the version that was named without having been asked for may be looked up again.
                let named_by_us = options.if_version.is_none() && pinned.is_some();
                if !named_by_us || asked.earlier_try_lost || looks >= DELETE_LOOKS_MAX {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

async fn send_delete(
    router: &Router,
    path: &RemotePath,
    options: DeleteOptions,
    version: Option<VersionId>,
) -> Asked<Deleted> {
    let request = wire::DeleteRequest {
        path: path.to_string(),
        recursive: options.recursive,
        permanent: options.permanent,
        if_version: version.map_or(0, VersionId::get),
    };
    let send = |one: Try| {
        let request = one.request(request.clone());
        async move { one.names().delete(request).await }
    };
    let asked = router.ask(Ask::leader("delete", router.supernodes()), send).await;
    Asked {
        result: asked.result.map(|reply: wire::DeleteReply| Deleted {
            files: reply.files,
            size: ByteCount::new(reply.bytes),
        }),
        earlier_try_lost: asked.earlier_try_lost,
    }
}

pub(crate) async fn rename(
    router: &Router,
    from: &RemotePath,
    to: &RemotePath,
    replace: bool,
) -> Result<Entry, Error> {
    let seen = stat(router, from).await?;
    let request = wire::RenameRequest {
        from: from.to_string(),
        to: to.to_string(),
        replace,
    };
    let send = |one: Try| {
        let request = one.request(request.clone());
        async move { one.names().rename(request).await }
    };
    let asked = router.ask(Ask::leader("rename", router.supernodes()), send).await;
    let error = match asked.result {
        Ok(entry) => return entry.try_into(),
        Err(error) => error,
    };
    let may_be_done = asked.earlier_try_lost && matches!(error.kind(), Kind::NotFound | Kind::Conflict);
    if may_be_done && let Ok(there) = stat(router, to).await {
        let gone = stat(router, from)
            .await
            .is_err_and(|error| error.kind() == Kind::NotFound);
        if gone && there.version() == seen.version() {
            return Ok(there);
        }
    }
    Err(error)
}

pub(crate) async fn status(router: &Router) -> Result<super::Installation, Error> {
    let send = |one: Try| {
        let request = one.request(wire::StatusRequest {});
        async move { one.names().status(request).await }
    };
    router
        .ask(Ask::any("status", router.supernodes()), send)
        .await
        .result?
        .try_into()
}
