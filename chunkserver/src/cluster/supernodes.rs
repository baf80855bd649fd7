//! The way to the leader of the names group.
//!
//! Invariant: any one supernode that answers is enough. Where to call next is learned from redirects and from what
//! heartbeats list, on top of the configured addresses, which are never forgotten. Every call has a deadline (P10).

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use common::error::Kind;
use common::net::Network;
use common::time::Clock;
use common::tls::Role;
use parking_lot::Mutex;
use proto::CONTROL_MESSAGE_BYTES_MAX;
use proto::error::RpcError;
use proto::registry::v1 as wire;
use proto::registry::v1::registry_client::RegistryClient;
use rustls::ClientConfig;
use tonic::transport::Channel;

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses learned on top of the configured ones.
const LEARNED_ADDRESSES_MAX: usize = 16;
/// Redirects and failures within one call before it is given up.
const HOPS_MAX: usize = 6;

/// A call on its way.
type Answer<T> = Pin<Box<dyn Future<Output = Result<tonic::Response<T>, tonic::Status>> + Send>>;

/// A cloneable handle; connections are shared.
#[derive(Clone)]
pub struct Supernodes(Arc<Inner>);

struct Inner {
    network: Network,
    tls: Arc<ClientConfig>,
    clock: Clock,
    configured: Vec<String>,
    /// Guards which addresses and channels there are, and who is called first.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    learned: BTreeSet<String>,
    leader: Option<String>,
    channels: BTreeMap<String, Channel>,
    turn: usize,
}

impl Supernodes {
    /// For a cluster that was configured with these control addresses.
    pub fn new(configured: Vec<String>, network: Network, tls: Arc<ClientConfig>, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            network,
            tls,
            clock,
            configured,
            known: Mutex::default(),
        }))
    }

    /// Whether there is anyone to call.
    pub fn is_empty(&self) -> bool {
        self.0.configured.is_empty()
    }

    /// Reports presence and load; returns releases, keys, the names layer's time.
    ///
    /// # Errors
    /// No supernode that leads could be reached, or it refused.
    pub async fn heartbeat(
        &self,
        request: &wire::HeartbeatRequest,
    ) -> Result<wire::HeartbeatReply, RpcError> {
        let reply = self
            .call(|mut client| {
                let request = request.clone();
                Box::pin(async move { client.heartbeat(request).await })
            })
            .await?;
        self.learn(&reply.supernodes);
        Ok(reply)
    }

    /// Asks for the outcome of sealed versions.
    ///
    /// # Errors
    /// As [`Supernodes::heartbeat`].
    pub async fn publish(&self, request: &wire::PublishRequest) -> Result<wire::PublishReply, RpcError> {
        self.call(|mut client| {
            let request = request.clone();
            Box::pin(async move { client.publish(request).await })
        })
        .await
    }

    async fn call<T>(&self, send: impl Fn(RegistryClient<Channel>) -> Answer<T>) -> Result<T, RpcError> {
        let mut last = RpcError::new(
            Kind::Retry,
            "E_NO_SUPERNODE",
            "no supernode is configured; name one under chunkserver.supernodes",
        );
        for _ in 0..HOPS_MAX {
            let Some((address, channel)) = self.next()? else {
                return Err(last);
            };
            let client = RegistryClient::new(channel)
                .max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX)
                .max_encoding_message_size(CONTROL_MESSAGE_BYTES_MAX);
            let answer = self.0.clock.timeout(CALL_TIMEOUT, send(client)).await;
            let error = match answer {
                Some(Ok(reply)) => {
                    self.0.known.lock().leader = Some(address);
                    return Ok(reply.into_inner());
                }
                Some(Err(status)) => RpcError::from(status),
                None => RpcError::new(Kind::Retry, "E_TIMEOUT", format!("{address} does not answer")),
            };
            match error.kind {
                Kind::NotLeader => self.redirect(&address, error.leader.clone()),
                Kind::Retry => self.redirect(&address, None),
                _ => return Err(error),
            }
            last = error;
        }
        Err(last)
    }

    /// Whom to call now: the leader as far as known, otherwise everyone in turn.
    fn next(&self) -> Result<Option<(String, Channel)>, RpcError> {
        let mut known = self.0.known.lock();
        let address = match &known.leader {
            Some(leader) => leader.clone(),
            None => {
                let all: BTreeSet<&String> = self.0.configured.iter().chain(&known.learned).collect();
                let Some(address) = all.iter().cycle().nth(known.turn % all.len().max(1)) else {
                    return Ok(None);
                };
                (*address).clone()
            }
        };
        if let Some(channel) = known.channels.get(&address) {
            return Ok(Some((address, channel.clone())));
        }
        let tls = Arc::clone(&self.0.tls);
        let channel = proto::control::connect(&self.0.network, &address, &Role::Supernode, tls)
            .map_err(|error| RpcError::new(Kind::Fatal, "E_TLS", error.to_string()))?;
        known.channels.insert(address.clone(), channel.clone());
        Ok(Some((address, channel)))
    }

    /// `address` does not lead or does not answer; `leader` does, as far as it knows.
    fn redirect(&self, address: &str, leader: Option<String>) {
        let mut known = self.0.known.lock();
        known.leader = leader.filter(|leader| leader != address);
        if known.leader.is_none() {
            known.turn = known.turn.wrapping_add(1);
            // A fresh channel connects at once instead of after the old one's backoff.
            known.channels.remove(address);
        }
        if known.channels.len() > 2 * LEARNED_ADDRESSES_MAX {
            known.channels.clear();
        }
    }

    fn learn(&self, supernodes: &[proto::names::v1::Endpoint]) {
        let addresses = supernodes.iter().map(|endpoint| endpoint.control.clone());
        let learned: BTreeSet<String> = addresses
            .filter(|address| !address.is_empty())
            .take(LEARNED_ADDRESSES_MAX)
            .collect();
        if !learned.is_empty() {
            self.0.known.lock().learned = learned;
        }
    }
}

impl std::fmt::Debug for Supernodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Supernodes({:?})", self.0.configured)
    }
}
