//! The trash: the calls.

use std::sync::Arc;
use std::time::Duration;

use common::ids::VersionId;
use common::path::RemotePath;
use common::units::ByteCount;
use proto::names::v1::EntryKind;
use proto::trash::v1 as wire;

use super::pages::Fetch;
use super::{Entry, Pages};
use crate::error::Error;
use crate::routing::{Ask, Router, Try};

/// Something that was deleted or replaced and can be brought back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrashItem {
    /// Its number, by which it is restored.
    pub id: u64,
    /// Where it was.
    pub path: RemotePath,
    /// A file's version, or a directory with whatever was in it.
    pub is_file: bool,
    /// Files: the version.
    pub version: Option<VersionId>,
    /// Files: the length.
    pub size: Option<ByteCount>,
    /// How long ago it was put there.
    pub trashed_ago: Duration,
    /// When it is released, counted from now.
    pub due_in: Duration,
}

impl TryFrom<wire::Item> for TrashItem {
    type Error = Error;
    fn try_from(item: wire::Item) -> Result<Self, Error> {
        let path = item
            .path
            .parse()
            .map_err(|_| Error::protocol(format!("an item of the trash with the path {:?}", item.path)))?;
        let is_file = item.kind() == EntryKind::File;
        Ok(Self {
            id: item.trash_id,
            path,
            is_file,
            version: item.version.filter(|_| is_file).map(VersionId::new),
            size: item.size.filter(|_| is_file).map(ByteCount::new),
            trashed_ago: Duration::from_millis(item.trashed_ago_millis),
            due_in: Duration::from_millis(item.due_in_millis),
        })
    }
}

pub(crate) fn list(router: &Arc<Router>, path: &RemotePath) -> Pages<TrashItem> {
    let (router, path) = (Arc::clone(router), path.to_string());
    let fetch: Fetch<TrashItem> = Arc::new(move |page_token| {
        let router = Arc::clone(&router);
        let request = wire::ListRequest {
            path: path.clone(),
            page_token,
            ..wire::ListRequest::default()
        };
        Box::pin(async move {
            let send = |one: Try| {
                let request = one.request(request.clone());
                async move { one.trash().list(request).await }
            };
            let reply: wire::ListReply = router
                .ask(Ask::any("list trash", router.supernodes()), send)
                .await?;
            let items: Result<Vec<TrashItem>, Error> =
                reply.items.into_iter().map(TrashItem::try_from).collect();
            Ok((items?, reply.next_page_token))
        })
    });
    Pages::new(fetch)
}

pub(crate) async fn restore(router: &Router, id: u64, to: Option<&RemotePath>) -> Result<Entry, Error> {
    let request = wire::RestoreRequest {
        trash_id: id,
        to: to.map(RemotePath::to_string).unwrap_or_default(),
    };
    let once = router.once().await?;
    let send = |one: Try| {
        let request = one.request_once(request.clone(), once);
        async move { one.trash().restore(request).await }
    };
    router
        .ask(Ask::leader("restore from the trash", router.supernodes()), send)
        .await?
        .try_into()
}

pub(crate) async fn empty(router: &Router, path: &RemotePath) -> Result<u64, Error> {
    let request = wire::EmptyRequest {
        path: path.to_string(),
        trash_id: None,
    };
    // What is released is released: emptying again after a lost answer finds nothing more.
    let send = |one: Try| {
        let request = one.request(request.clone());
        async move { one.trash().empty(request).await }
    };
    let reply: wire::EmptyReply = router
        .ask(Ask::leader("empty the trash", router.supernodes()), send)
        .await?;
    Ok(reply.items)
}
