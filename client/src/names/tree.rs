//! Files and directories by name: the calls.
//!
//! Invariant (P4): every change carries a key of its own, so that sending it again after a lost answer neither applies
//! it twice nor hits what came after it.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use common::ids::VersionId;
use common::path::RemotePath;
use common::time::WallTime;
use common::units::ByteCount;
use proto::names::v1 as wire;

use super::pages::Fetch;
use super::{DeleteOptions, Deleted, Entry, ListOptions, Pages, SearchQuery};
use crate::error::Error;
use crate::routing::{Ask, Router, Try};

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
        .await?
        .try_into()
}

pub(crate) fn list(router: &Arc<Router>, path: &RemotePath, options: ListOptions) -> Pages {
    let (router, path) = (Arc::clone(router), path.to_string());
    let fetch: Fetch<Entry> = Arc::new(move |page_token| {
        let router = Arc::clone(&router);
        let request = wire::ListRequest {
            path: path.clone(),
            recursive: options.recursive,
            page_token,
            limit: options.page_entries_max.map(NonZeroU32::get),
            prefix: options.prefix.clone(),
            directories: options.directories,
        };
        Box::pin(async move {
            let send = |one: Try| {
                let request = one.request(request.clone());
                async move { one.names().list(request).await }
            };
            let reply: wire::ListReply = router.ask(Ask::any("list", router.supernodes()), send).await?;
            Ok((entries(reply.entries)?, reply.next_page_token))
        })
    });
    Pages::new(fetch)
}

pub(crate) fn search(router: &Arc<Router>, path: &RemotePath, query: SearchQuery) -> Pages {
    let (router, path) = (Arc::clone(router), path.to_string());
    let fetch: Fetch<Entry> = Arc::new(move |page_token| {
        let router = Arc::clone(&router);
        let request = wire::SearchRequest {
            path: path.clone(),
            pattern: query.pattern.clone(),
            page_token,
            limit: query.page_entries_max.map(NonZeroU32::get),
            size_min: query.size_min.map(ByteCount::get),
            size_max: query.size_max.map(ByteCount::get),
            newer_wall_millis: query.newer.map(WallTime::as_millis),
        };
        Box::pin(async move {
            let send = |one: Try| {
                let request = one.request(request.clone());
                async move { one.names().search(request).await }
            };
            let reply: wire::SearchReply = router.ask(Ask::any("search", router.supernodes()), send).await?;
            Ok((entries(reply.entries)?, reply.next_page_token))
        })
    });
    Pages::new(fetch)
}

fn entries(wire: Vec<wire::Entry>) -> Result<Vec<Entry>, Error> {
    wire.into_iter().map(Entry::try_from).collect()
}

pub(crate) async fn make_directory(
    router: &Router,
    path: &RemotePath,
    metadata: &BTreeMap<String, String>,
) -> Result<Entry, Error> {
    let request = wire::MakeDirectoryRequest {
        path: path.to_string(),
        metadata: metadata.clone().into_iter().collect(),
    };
    let once = router.once().await?;
    let send = |one: Try| {
        let request = one.request_once(request.clone(), once);
        async move { one.names().make_directory(request).await }
    };
    router
        .ask(Ask::leader("make directory", router.supernodes()), send)
        .await?
        .try_into()
}

pub(crate) async fn delete(
    router: &Router,
    path: &RemotePath,
    options: DeleteOptions,
) -> Result<Deleted, Error> {
    let request = wire::DeleteRequest {
        path: path.to_string(),
        recursive: options.recursive,
        permanent: options.permanent,
        if_version: options.if_version.map(VersionId::get),
    };
    let once = router.once().await?;
    let send = |one: Try| {
        let request = one.request_once(request.clone(), once);
        async move { one.names().delete(request).await }
    };
    let reply: wire::DeleteReply = router
        .ask(Ask::leader("delete", router.supernodes()), send)
        .await?;
    Ok(Deleted {
        files: reply.files,
        size: ByteCount::new(reply.bytes),
    })
}

pub(crate) async fn rename(
    router: &Router,
    from: &RemotePath,
    to: &RemotePath,
    replace: bool,
) -> Result<Entry, Error> {
    let request = wire::RenameRequest {
        from: from.to_string(),
        to: to.to_string(),
        replace,
    };
    let once = router.once().await?;
    let send = |one: Try| {
        let request = one.request_once(request.clone(), once);
        async move { one.names().rename(request).await }
    };
    router
        .ask(Ask::leader("rename", router.supernodes()), send)
        .await?
        .try_into()
}

pub(crate) async fn status(router: &Router) -> Result<super::Installation, Error> {
    let send = |one: Try| {
        let request = one.request(wire::StatusRequest {});
        async move { one.names().status(request).await }
    };
    router
        .ask(Ask::member("status", router.supernodes()), send)
        .await?
        .try_into()
}

pub(crate) async fn retire_cluster(router: &Router, name: &str) -> Result<(), Error> {
    let request = wire::RetireClusterRequest {
        name: name.to_owned(),
    };
    let once = router.once().await?;
    let send = |one: Try| {
        let request = one.request_once(request.clone(), once);
        async move { one.names().retire_cluster(request).await }
    };
    let _: wire::RetireClusterReply = router
        .ask(Ask::leader("retire cluster", router.supernodes()), send)
        .await?;
    Ok(())
}
