//! [`Cluster`]: what every handler and loop of the file layer works with.

use std::sync::Arc;

use common::error::Kind;
use common::ids::{ClusterId, NodeId};
use common::random::Random;
use common::time::Clock;
use consensus::Group;
use parking_lot::RwLock;
use proto::error::RpcError;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::api::manifest_cache::ManifestCache;
use super::commit::group_error;
use super::directory::DirectoryCache;
use super::leadership::Leadership;
use super::machine::ClusterMachine;
use super::outcomes::Outcomes;
use super::supernodes::Supernodes;
use crate::config::Config;
use crate::control::{NamesView, NodeContext};
use crate::metrics::Metrics;

/// What a cluster's member is made of.
pub struct Parts {
    /// The replicated state machine.
    pub group: Group<ClusterMachine>,
    /// The configuration, validated.
    pub config: Arc<Config>,
    /// What this node knows of its cluster.
    pub context: NodeContext,
    /// What it knows of the names layer.
    pub names: NamesView,
    /// The way to the names layer.
    pub supernodes: Supernodes,
    /// What is counted.
    pub metrics: Metrics,
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
}

/// This process's part in the file layer of its cluster. Shared as `Arc<Cluster>`.
pub struct Cluster {
    pub(crate) group: Group<ClusterMachine>,
    pub(crate) config: Arc<Config>,
    pub(crate) context: NodeContext,
    pub(crate) names: NamesView,
    pub(crate) supernodes: Supernodes,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) directory: DirectoryCache,
    pub(crate) outcomes: Outcomes,
    pub(crate) manifests: ManifestCache,
    /// Calls under way (P10).
    pub(crate) requests: Arc<Semaphore>,
    /// Calls that wait for an outcome (P10).
    pub(crate) waiting: Arc<Semaphore>,
    /// Guards which leadership is in force here; made and ended by `background::lead` alone.
    leadership: RwLock<Option<Arc<Leadership>>>,
}

impl Cluster {
    /// Puts the parts together; nothing runs yet.
    pub fn new(parts: Parts) -> Arc<Self> {
        let limits = &parts.config.limits;
        Arc::new(Self {
            directory: DirectoryCache::default(),
            outcomes: Outcomes::default(),
            manifests: ManifestCache::new(limits.manifest_cache_bytes_max),
            requests: Arc::new(Semaphore::new(limits.requests_in_flight_max as usize)),
            waiting: Arc::new(Semaphore::new(limits.seals_waiting_max as usize)),
            leadership: RwLock::new(None),
            group: parts.group,
            config: parts.config,
            context: parts.context,
            names: parts.names,
            supernodes: parts.supernodes,
            metrics: parts.metrics,
            clock: parts.clock,
            random: parts.random,
        })
    }

    pub(crate) fn cluster_id(&self) -> ClusterId {
        self.context.cluster_id()
    }

    pub(crate) fn node_id(&self) -> NodeId {
        self.context.node_id()
    }

    /// The leadership in force at this member.
    ///
    /// # Errors
    /// NotLeader, with the address of who leads where it is known.
    pub(crate) fn lead(&self) -> Result<Arc<Leadership>, RpcError> {
        let current = self.leadership.read().clone();
        match (current, self.group.epoch()) {
            (Some(leadership), Some(epoch)) if leadership.epoch == epoch => Ok(leadership),
            // Elected a moment ago: the loops are not running yet.
            (_, Some(_)) => Err(RpcError::not_leader(None)),
            (_, None) => {
                let other = self.group.other_leader();
                Err(RpcError::not_leader(other.map(|leader| leader.control)))
            }
        }
    }

    pub(super) fn set_leadership(&self, leadership: Option<Arc<Leadership>>) {
        *self.leadership.write() = leadership;
    }

    /// Runs `query` on what is applied here.
    pub(crate) async fn read_local<T, F>(&self, query: F) -> Result<T, RpcError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.group
            .read_local(query)
            .await
            .map_err(|error| group_error(&error))
    }

    /// As [`Cluster::read_local`], for a query that looks at many rows: it keeps no query of few rows waiting.
    pub(crate) async fn scan_local<T, F>(&self, query: F) -> Result<T, RpcError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.group
            .scan_local(query)
            .await
            .map_err(|error| group_error(&error))
    }

    /// Runs `query` on everything that was acknowledged anywhere before this call.
    pub(crate) async fn read<T, F>(&self, query: F) -> Result<T, RpcError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.group.read(query).await.map_err(|error| group_error(&error))
    }

    /// Runs heavy computation away from the threads that carry heartbeats.
    pub(crate) async fn compute<T, F>(&self, work: F) -> Result<T, RpcError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| RpcError::new(Kind::Fatal, "E_PANIC", error.to_string()))
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cluster({}, node {})", self.cluster_id(), self.node_id())
    }
}
