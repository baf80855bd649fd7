//! The requests of a supernode: one file per call, named as in the `.proto`. The services here only dispatch.
//!
//! Every call goes the same way ([`serve::serve`]): a place, a request id, a time limit, counters. Generated types stop
//! in this folder.
//!
//! Read `serve.rs` first, then `open_upload.rs` and `publish.rs`: the two ends of an upload.

use std::sync::Arc;

use proto::names::v1 as wire;
use proto::names::v1::names_server::Names;
use proto::registry::v1 as registry;
use proto::registry::v1::registry_server::Registry;
use proto::trash::v1 as trash;
use proto::trash::v1::trash_server::Trash;
use tonic::{Request, Response, Status};

use crate::context::Context;

mod serve;
mod session;
mod show;

mod hello;
mod login;
mod who_am_i;

mod create_user;
mod list_users;
mod set_password;
mod set_user_enabled;

mod abort_upload;
mod get_upload;
mod open_upload;

mod list;
mod resolve;
mod search;
mod stat;

mod delete;
mod make_directory;
mod rename;

mod empty_trash;
mod list_trash;
mod restore_trash;

mod retire_cluster;
mod status;

mod heartbeat;
mod publish;

use serve::serve;

type Answer<T> = Result<Response<T>, Status>;

/// Client -> supernode.
#[derive(Clone, Debug)]
pub(crate) struct NamesService(pub(crate) Arc<Context>);

/// Client -> supernode, about what was deleted.
#[derive(Clone, Debug)]
pub(crate) struct TrashService(pub(crate) Arc<Context>);

/// Cluster -> supernode.
#[derive(Clone, Debug)]
pub(crate) struct RegistryService(pub(crate) Arc<Context>);

#[tonic::async_trait]
impl Names for NamesService {
    async fn hello(&self, request: Request<wire::HelloRequest>) -> Answer<wire::HelloReply> {
        serve(&self.0, &self.0.clients, "Hello", request, hello::handle).await
    }

    async fn login(&self, request: Request<wire::LoginRequest>) -> Answer<wire::LoginReply> {
        serve(&self.0, &self.0.clients, "Login", request, login::handle).await
    }

    async fn who_am_i(&self, request: Request<wire::WhoAmIRequest>) -> Answer<wire::User> {
        serve(&self.0, &self.0.clients, "WhoAmI", request, who_am_i::handle).await
    }

    async fn create_user(&self, request: Request<wire::CreateUserRequest>) -> Answer<wire::User> {
        serve(
            &self.0,
            &self.0.clients,
            "CreateUser",
            request,
            create_user::handle,
        )
        .await
    }

    async fn list_users(&self, request: Request<wire::ListUsersRequest>) -> Answer<wire::ListUsersReply> {
        serve(&self.0, &self.0.clients, "ListUsers", request, list_users::handle).await
    }

    async fn set_password(&self, request: Request<wire::SetPasswordRequest>) -> Answer<wire::User> {
        serve(
            &self.0,
            &self.0.clients,
            "SetPassword",
            request,
            set_password::handle,
        )
        .await
    }

    async fn set_user_enabled(&self, request: Request<wire::SetUserEnabledRequest>) -> Answer<wire::User> {
        serve(
            &self.0,
            &self.0.clients,
            "SetUserEnabled",
            request,
            set_user_enabled::handle,
        )
        .await
    }

    async fn retire_cluster(
        &self,
        request: Request<wire::RetireClusterRequest>,
    ) -> Answer<wire::RetireClusterReply> {
        serve(
            &self.0,
            &self.0.clients,
            "RetireCluster",
            request,
            retire_cluster::handle,
        )
        .await
    }

    async fn open_upload(&self, request: Request<wire::OpenUploadRequest>) -> Answer<wire::UploadSession> {
        serve(
            &self.0,
            &self.0.clients,
            "OpenUpload",
            request,
            open_upload::handle,
        )
        .await
    }

    async fn get_upload(&self, request: Request<wire::GetUploadRequest>) -> Answer<wire::UploadStatus> {
        serve(&self.0, &self.0.clients, "GetUpload", request, get_upload::handle).await
    }

    async fn abort_upload(&self, request: Request<wire::AbortUploadRequest>) -> Answer<wire::UploadStatus> {
        serve(
            &self.0,
            &self.0.clients,
            "AbortUpload",
            request,
            abort_upload::handle,
        )
        .await
    }

    async fn resolve(&self, request: Request<wire::ResolveRequest>) -> Answer<wire::ResolveReply> {
        serve(&self.0, &self.0.clients, "Resolve", request, resolve::handle).await
    }

    async fn stat(&self, request: Request<wire::StatRequest>) -> Answer<wire::Entry> {
        serve(&self.0, &self.0.clients, "Stat", request, stat::handle).await
    }

    async fn list(&self, request: Request<wire::ListRequest>) -> Answer<wire::ListReply> {
        serve(&self.0, &self.0.clients, "List", request, list::handle).await
    }

    async fn search(&self, request: Request<wire::SearchRequest>) -> Answer<wire::SearchReply> {
        serve(&self.0, &self.0.clients, "Search", request, search::handle).await
    }

    async fn make_directory(&self, request: Request<wire::MakeDirectoryRequest>) -> Answer<wire::Entry> {
        serve(
            &self.0,
            &self.0.clients,
            "MakeDirectory",
            request,
            make_directory::handle,
        )
        .await
    }

    async fn rename(&self, request: Request<wire::RenameRequest>) -> Answer<wire::Entry> {
        serve(&self.0, &self.0.clients, "Rename", request, rename::handle).await
    }

    async fn delete(&self, request: Request<wire::DeleteRequest>) -> Answer<wire::DeleteReply> {
        serve(&self.0, &self.0.clients, "Delete", request, delete::handle).await
    }

    async fn status(&self, request: Request<wire::StatusRequest>) -> Answer<wire::StatusReply> {
        serve(&self.0, &self.0.clients, "Status", request, status::handle).await
    }
}

#[tonic::async_trait]
impl Trash for TrashService {
    async fn list(&self, request: Request<trash::ListRequest>) -> Answer<trash::ListReply> {
        serve(&self.0, &self.0.clients, "ListTrash", request, list_trash::handle).await
    }

    async fn restore(&self, request: Request<trash::RestoreRequest>) -> Answer<wire::Entry> {
        serve(
            &self.0,
            &self.0.clients,
            "RestoreTrash",
            request,
            restore_trash::handle,
        )
        .await
    }

    async fn empty(&self, request: Request<trash::EmptyRequest>) -> Answer<trash::EmptyReply> {
        serve(
            &self.0,
            &self.0.clients,
            "EmptyTrash",
            request,
            empty_trash::handle,
        )
        .await
    }
}

#[tonic::async_trait]
impl Registry for RegistryService {
    async fn heartbeat(
        &self,
        request: Request<registry::HeartbeatRequest>,
    ) -> Answer<registry::HeartbeatReply> {
        serve(&self.0, &self.0.clusters, "Heartbeat", request, heartbeat::handle).await
    }

    async fn publish(&self, request: Request<registry::PublishRequest>) -> Answer<registry::PublishReply> {
        serve(&self.0, &self.0.clusters, "Publish", request, publish::handle).await
    }
}
