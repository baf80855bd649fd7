//! The way from this node to the leader of its cluster, which may be this node itself.

use std::sync::Arc;
use std::time::Duration;

use common::error::Kind;
use common::net::Network;
use common::tls::Role;
use parking_lot::Mutex;
use proto::CONTROL_MESSAGE_BYTES_MAX;
use proto::error::RpcError;
use proto::nodes::v1 as wire;
use proto::nodes::v1::nodes_client::NodesClient;
use rustls::ClientConfig;
use tonic::transport::Channel;

use crate::cluster::Cluster;
use crate::cluster::api::{heartbeat, report_inventory};

/// How long a heartbeat may take: less than a node's silence may last.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a page of inventory may take to judge.
const INVENTORY_TIMEOUT: Duration = Duration::from_secs(30);

/// A handle; the connection to the leader is kept for as long as it leads and answers.
pub(crate) struct LeaderLink {
    cluster: Arc<Cluster>,
    network: Network,
    tls: Arc<ClientConfig>,
    /// Guards the connection to whoever led last.
    channel: Mutex<Option<(String, Channel)>>,
}

impl LeaderLink {
    pub(crate) fn new(cluster: Arc<Cluster>, network: Network, tls: Arc<ClientConfig>) -> Self {
        Self {
            cluster,
            network,
            tls,
            channel: Mutex::new(None),
        }
    }

    /// Says how this node is.
    pub(crate) async fn heartbeat(
        &self,
        request: wire::HeartbeatRequest,
    ) -> Result<wire::HeartbeatReply, RpcError> {
        let Some(mut client) = self.leader()? else {
            // A commit must not be cut off by a time limit here: it goes on in its own task.
            let work = heartbeat::heartbeat(Arc::clone(&self.cluster), request);
            return self.within(HEARTBEAT_TIMEOUT, spawned(work)).await;
        };
        let call = async move { client.heartbeat(request).await.map_err(RpcError::from) };
        let reply = self.within(HEARTBEAT_TIMEOUT, call).await;
        self.forget_if_broken(&reply);
        reply.map(tonic::Response::into_inner)
    }

    /// Lists what a disk holds.
    pub(crate) async fn report_inventory(
        &self,
        request: wire::InventoryRequest,
    ) -> Result<wire::InventoryReply, RpcError> {
        let Some(mut client) = self.leader()? else {
            let work = report_inventory::report_inventory(Arc::clone(&self.cluster), request);
            return self.within(INVENTORY_TIMEOUT, spawned(work)).await;
        };
        let call = async move { client.report_inventory(request).await.map_err(RpcError::from) };
        let reply = self.within(INVENTORY_TIMEOUT, call).await;
        self.forget_if_broken(&reply);
        reply.map(tonic::Response::into_inner)
    }

    /// A client of the leader; `None` if this node leads.
    fn leader(&self) -> Result<Option<NodesClient<Channel>>, RpcError> {
        let status = self.cluster.group.status();
        if status.epoch.is_some() {
            return Ok(None);
        }
        let leader = status.leader.ok_or_else(|| RpcError::not_leader(None))?;
        if leader.node_id == status.node_id {
            return Err(RpcError::not_leader(None));
        }
        let mut channel = self.channel.lock();
        let known = channel.as_ref().filter(|(address, _)| *address == leader.control);
        let found = match known {
            Some((_, found)) => found.clone(),
            None => {
                let role = Role::Chunkserver(self.cluster.config.cluster.clone());
                let tls = Arc::clone(&self.tls);
                let fresh = proto::control::connect(&self.network, &leader.control, &role, tls)
                    .map_err(|error| RpcError::new(Kind::Fatal, "E_TLS", error.to_string()))?;
                *channel = Some((leader.control, fresh.clone()));
                fresh
            }
        };
        Ok(Some(
            NodesClient::new(found)
                .max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX)
                .max_encoding_message_size(CONTROL_MESSAGE_BYTES_MAX),
        ))
    }

    async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, RpcError>>,
    ) -> Result<T, RpcError> {
        let late = || RpcError::new(Kind::Retry, "E_TIMEOUT", "the leader does not answer in time");
        self.cluster.clock.timeout(limit, work).await.ok_or_else(late)?
    }

    /// A fresh connection is tried at once; an old one would wait for its own backoff.
    fn forget_if_broken<T>(&self, reply: &Result<T, RpcError>) {
        if reply.as_ref().is_err_and(|error| error.kind == Kind::Retry) {
            *self.channel.lock() = None;
        }
    }
}

async fn spawned<T: Send + 'static>(
    work: impl Future<Output = Result<T, RpcError>> + Send + 'static,
) -> Result<T, RpcError> {
    tokio::spawn(work)
        .await
        .unwrap_or_else(|error| Err(RpcError::new(Kind::Fatal, "E_PANIC", error.to_string())))
}
