//! What every request of the data plane works with.

use std::sync::Arc;

use common::disk::buffer::BufferSize;
use common::error::Kind;
use common::ids::{NodeId, UserId};
use common::net::Network;
use common::time::Clock;
use common::tls::{self, Role};
use common::units::ByteCount;
use proto::bulk::dial::{Deadlines, Dialer, Target};
use proto::bulk::message::Failure;
use proto::bulk::pipeline::PIPELINED_BYTES_MAX;
use proto::bulk::pool::{Limits, Pool};
use rustls::ClientConfig;

use super::admission::{Lane, Window};
use super::counters::DataPlaneCounters;
use super::motion::Motion;
use super::settings::DataPlaneSettings;
use super::turns::{Turn, Turns};
use crate::control::NodeContext;
use crate::store::Store;

/// What a data plane is made of.
pub struct Parts {
    /// Where chunks are kept.
    pub store: Store,
    /// What this node knows of its cluster.
    pub context: NodeContext,
    /// The name of the cluster, as it stands in certificates.
    pub cluster: String,
    /// Connections to delegates.
    pub network: Network,
    /// This node's certificate and trust, for connections to delegates ([`tls::ALPN_BULK`]).
    pub client_tls: Arc<ClientConfig>,
    /// Time.
    pub clock: Clock,
    /// Bounds and deadlines, validated.
    pub settings: DataPlaneSettings,
    /// What is counted.
    pub counters: DataPlaneCounters,
}

/// A cloneable handle to the data plane of this node.
#[derive(Clone)]
pub struct DataPlane(Arc<Inner>);

struct Inner {
    store: Store,
    context: NodeContext,
    role: Role,
    dialer: Dialer,
    peers: Pool,
    clock: Clock,
    settings: DataPlaneSettings,
    counters: DataPlaneCounters,
    from_clients: Lane,
    from_nodes: Lane,
    gets: Turns,
}

impl DataPlane {
    /// Puts the parts together; nothing is served yet.
    ///
    /// # Errors
    /// The cluster's name cannot stand in a certificate.
    pub fn new(parts: Parts) -> Result<Self, tls::Error> {
        let Parts {
            store,
            context,
            cluster,
            network,
            client_tls,
            clock,
            settings,
            counters,
        } = parts;
        let dialer = Dialer::new(
            network,
            client_tls,
            &cluster,
            context.cluster_id(),
            Some(context.node_id()),
            clock.clone(),
        )?
        .with_deadlines(Deadlines {
            connect: settings.handshake_timeout.get(),
            frame: settings.progress_timeout.get(),
            ..Deadlines::default()
        });
        let limits = Limits {
            connections_max: settings.delegate_connections_max as usize,
            idle_for_max: settings.idle_timeout.get() / 2,
            ..Limits::default()
        };
        let half = ByteCount::new(settings.write_in_flight_bytes_max.get() / 2);
        let share = ByteCount::new(settings.share_of(half.get()));
        let gets = u64::from(settings.gets_in_flight_max);
        Ok(Self(Arc::new(Inner {
            peers: Pool::new(dialer.clone(), limits),
            dialer,
            role: Role::Chunkserver(cluster),
            from_clients: Lane::new(half, share, counters.in_flight_bytes.clone()),
            from_nodes: Lane::new(half, share, counters.in_flight_bytes.clone()),
            gets: Turns::new(gets, settings.share_of(gets)),
            store,
            context,
            clock,
            settings,
            counters,
        })))
    }

    /// What is counted, for the heartbeat and for `/metrics`.
    pub fn counters(&self) -> &DataPlaneCounters {
        &self.0.counters
    }

    /// Replaces certificate and trust for connections to delegates to come.
    pub fn replace_client_tls(&self, tls: Arc<ClientConfig>) {
        self.0.dialer.replace_tls(tls);
    }

    pub(crate) fn me(&self) -> NodeId {
        self.0.context.node_id()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn context(&self) -> &NodeContext {
        &self.0.context
    }

    pub(crate) fn peers(&self) -> &Pool {
        &self.0.peers
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(crate) fn settings(&self) -> &DataPlaneSettings {
        &self.0.settings
    }

    /// What a certificate of this cluster's nodes says.
    pub(super) fn role(&self) -> &Role {
        &self.0.role
    }

    /// Where `node` serves the data plane.
    pub(crate) fn target(&self, node: NodeId) -> Result<Target, Failure> {
        let address = self.0.context.peer_address(node).ok_or_else(|| {
            let message = format!(
                "the address of node {node} is not known at node {} yet",
                self.me()
            );
            Failure::new(node, Kind::Retry, "E_DELEGATE_UNKNOWN", message)
        })?;
        Ok(Target { node, address })
    }

    /// Promises memory to a put, of a node or of a client, when it is the principal's turn. A small put gets one buffer,
    /// others a window of them.
    pub(crate) async fn admit_put(
        &self,
        principal: UserId,
        from_node: bool,
        length_hint: Option<u64>,
        motion: &Motion,
    ) -> Result<Window, Failure> {
        let lane = if from_node {
            &self.0.from_nodes
        } else {
            &self.0.from_clients
        };
        let small = length_hint
            .and_then(|length| usize::try_from(length).ok())
            .filter(|length| *length <= PIPELINED_BYTES_MAX)
            .and_then(BufferSize::fitting);
        let (count, size) = match small {
            Some(size) => (1, size),
            None => (self.0.settings.put_buffers_max, BufferSize::Bulk),
        };
        let wait_max = self.0.settings.admission_wait_max.get();
        let _queued = motion.queue();
        let window = lane.admit(principal, count, size, &self.0.clock, wait_max).await;
        window.ok_or_else(|| self.busy("E_WRITES_BUSY", "too many bytes are being written here"))
    }

    /// A place for one get, when it is the principal's turn.
    pub(crate) async fn admit_get(&self, principal: UserId, motion: &Motion) -> Result<Turn, Failure> {
        let wait_max = self.0.settings.admission_wait_max.get();
        let _queued = motion.queue();
        let turn = self
            .0
            .clock
            .timeout(wait_max, self.0.gets.take(principal, 1))
            .await;
        turn.flatten()
            .ok_or_else(|| self.busy("E_READS_BUSY", "too many reads are under way here"))
    }

    pub(crate) fn busy(&self, code: &str, message: &str) -> Failure {
        Failure {
            retry_after: self.0.settings.busy_retry_after.get(),
            ..Failure::new(self.me(), Kind::Busy, code, message)
        }
    }
}

impl std::fmt::Debug for DataPlane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DataPlane(node {})", self.me())
    }
}
