//! The gRPC services: admission, a task per call, counting.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use common::error::Kind;
use common::tls::Role;
use prost::Message;
use proto::control::Peer;
use proto::error::RpcError;
use proto::files::v1 as files;
use proto::files::v1::files_server::Files;
use proto::nodes::v1 as nodes;
use proto::nodes::v1::nodes_server::Nodes;
use tonic::{Request, Response, Status};

use super::{abandon, get_manifest, get_outcome, heartbeat, plan_chunks, report_inventory, seal};
use crate::cluster::Cluster;

/// What a caller waits who came when too much was under way.
const BUSY_RETRY_AFTER: Duration = Duration::from_millis(100);

/// For clients.
#[derive(Clone, Debug)]
pub struct FilesService(pub Arc<Cluster>);

/// For the nodes of the cluster.
#[derive(Clone, Debug)]
pub struct NodesService(pub Arc<Cluster>);

impl Cluster {
    /// Runs `handler` in a task of its own, if there is room.
    async fn serve<Q, R, F>(
        self: &Arc<Self>,
        method: &'static str,
        request: Q,
        handler: impl FnOnce(Arc<Self>, Q) -> F,
    ) -> Result<Response<R>, Status>
    where
        Q: Message,
        R: Message + Send + 'static,
        F: Future<Output = Result<R, RpcError>> + Send + 'static,
    {
        let begun = self.clock.moment();
        let received_bytes = request.encoded_len();
        let outcome = match Arc::clone(&self.requests).try_acquire_owned() {
            Err(_) => Err(busy("too many requests are under way at this node")),
            Ok(place) => {
                let work = handler(Arc::clone(self), request);
                let task = tokio::spawn(async move {
                    let outcome = work.await;
                    drop(place);
                    outcome
                });
                task.await.unwrap_or_else(|error| {
                    Err(RpcError::new(
                        Kind::Fatal,
                        "E_PANIC",
                        format!("{method} broke: {error}"),
                    ))
                })
            }
        };
        let counted = outcome
            .as_ref()
            .map(Message::encoded_len)
            .map_err(|error| error.kind);
        let took = self.clock.moment().since(begun);
        self.metrics.request(method, received_bytes, counted, took);
        match outcome {
            Ok(reply) => Ok(Response::new(reply)),
            Err(error) => {
                if error.kind == Kind::Fatal {
                    tracing::error!(method, code = %error.code, %error, "request failed");
                } else {
                    tracing::debug!(method, code = %error.code, %error, "request refused");
                }
                Err(error.into())
            }
        }
    }

    /// Refuses whoever is not a node of this cluster.
    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    fn check_node<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let role = Role::Chunkserver(self.config.cluster.clone());
        if Peer::of(request).is_some_and(|peer| peer.has_role(&role)) {
            return Ok(());
        }
        let message = format!("only nodes of cluster '{}' may call this", self.config.cluster);
        Err(RpcError::new(Kind::Denied, "E_NOT_A_NODE", message).into())
    }
}

pub(super) fn busy(message: &str) -> RpcError {
    RpcError::new(Kind::Busy, "E_BUSY", message).retry_after(BUSY_RETRY_AFTER)
}

#[tonic::async_trait]
impl Files for FilesService {
    async fn plan_chunks(
        &self,
        request: Request<files::PlanChunksRequest>,
    ) -> Result<Response<files::PlanChunksReply>, Status> {
        let request = request.into_inner();
        self.0
            .serve("PlanChunks", request, plan_chunks::plan_chunks)
            .await
    }

    async fn seal(&self, request: Request<files::SealRequest>) -> Result<Response<files::SealReply>, Status> {
        self.0.serve("Seal", request.into_inner(), seal::seal).await
    }

    async fn get_outcome(
        &self,
        request: Request<files::GetOutcomeRequest>,
    ) -> Result<Response<files::SealReply>, Status> {
        let request = request.into_inner();
        self.0
            .serve("GetOutcome", request, get_outcome::get_outcome)
            .await
    }

    async fn abandon(
        &self,
        request: Request<files::AbandonRequest>,
    ) -> Result<Response<files::AbandonReply>, Status> {
        self.0
            .serve("Abandon", request.into_inner(), abandon::abandon)
            .await
    }

    async fn get_manifest(
        &self,
        request: Request<files::GetManifestRequest>,
    ) -> Result<Response<files::GetManifestReply>, Status> {
        let request = request.into_inner();
        self.0
            .serve("GetManifest", request, get_manifest::get_manifest)
            .await
    }
}

#[tonic::async_trait]
impl Nodes for NodesService {
    async fn heartbeat(
        &self,
        request: Request<nodes::HeartbeatRequest>,
    ) -> Result<Response<nodes::HeartbeatReply>, Status> {
        self.0.check_node(&request)?;
        self.0
            .serve("Heartbeat", request.into_inner(), heartbeat::heartbeat)
            .await
    }

    async fn report_inventory(
        &self,
        request: Request<nodes::InventoryRequest>,
    ) -> Result<Response<nodes::InventoryReply>, Status> {
        self.0.check_node(&request)?;
        let request = request.into_inner();
        self.0
            .serve("ReportInventory", request, report_inventory::report_inventory)
            .await
    }
}
