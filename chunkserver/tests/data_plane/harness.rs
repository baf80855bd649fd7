//! A few nodes in one process that speak over loopback and TLS, and a client for them.

#![allow(dead_code, reason = "the tests and the example use different parts of it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::digest::ChunkHasher;
use common::disk::simulated::SimulatedDisk;
use common::ids::{AttemptId, ClusterId, Digest, Epoch, KeyId, NodeId, UploadNumber, UserId, VersionId};
use common::net::Network;
use common::random::Random;
use common::shutdown::Shutdown;
use common::time::{Clock, ClusterTime};
use common::tls::{self, ALPN_BULK, Authority, Identity, Reloadable, Role};
use common::units::CHUNK_BYTES_MAX;
use dbfs_chunkserver::control::{Learned, NodeContext};
use dbfs_chunkserver::store::config::{DirectoryConfig, StoreConfig};
use dbfs_chunkserver::store::{self, Store};
use dbfs_chunkserver::transfer::counters::DataPlaneCounters;
use dbfs_chunkserver::transfer::settings::DataPlaneSettings;
use dbfs_chunkserver::transfer::{DataPlane, Parts, serve};
use proto::bulk::blocks;
use proto::bulk::dial::{Connection, Dialer, Target};
use proto::bulk::error::Error;
use proto::bulk::frame::DATA_BYTES_MAX;
use proto::bulk::grant::{DataPlaneKey, DataPlaneKeys, Grant, Operation};
use proto::bulk::message::{GetRequest, PutBegin};
use proto::bulk::receipt::Receipt;

pub(crate) const CLUSTER: &str = "alpha";
pub(crate) const CLUSTER_ID: ClusterId = ClusterId::new([0xc1; 16]);

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) key: DataPlaneKey,
    pub(crate) clock: Clock,
    pub(crate) network: Network,
    pub(crate) directory: tempfile::TempDir,
    ca_pem: String,
}

pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) address: String,
    pub(crate) context: NodeContext,
    pub(crate) store: Store,
    pub(crate) plane: DataPlane,
    pub(crate) shutdown: Shutdown,
    pub(crate) serving: tokio::task::JoinHandle<()>,
}

impl Node {
    pub(crate) fn target(&self) -> Target {
        Target {
            node: self.id,
            address: self.address.clone(),
        }
    }

    pub(crate) fn counters(&self) -> &DataPlaneCounters {
        self.plane.counters()
    }
}

impl Cluster {
    /// `count` nodes, numbered from 1, each with an empty store in `sink`, or else in a temporary folder.
    pub(crate) async fn start(
        count: u64,
        settings: DataPlaneSettings,
        network: Network,
        sink: Option<&Path>,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::real();
        let mut stores = Vec::new();
        for number in 1..=count {
            let own = directory.path().join(format!("n{number}"));
            let path = sink.unwrap_or(&own).join(format!("chunks-{number}"));
            stores.push(open_store(&path, NodeId::new(number), &clock).await);
        }
        Self::of_stores(directory, stores, settings, network).await
    }

    /// A node for each of `disks`.
    pub(crate) async fn start_on(disks: &[SimulatedDisk], settings: DataPlaneSettings) -> Self {
        let mut stores = Vec::new();
        for (number, disk) in (1..).zip(disks) {
            let config = StoreConfig {
                reserve_bytes: common::units::ByteCount::mib(2),
                segment_bytes: common::units::ByteCount::mib(64),
                ..StoreConfig::default()
            };
            let owner = store::disk_identity::Identity {
                cluster: CLUSTER_ID,
                node: NodeId::new(number),
            };
            let disks = vec![(disk.disk(), None)];
            let opened = Store::open_on(&config, owner, Clock::real(), Random::seeded(number), disks);
            stores.push(opened.await.unwrap().0);
        }
        let directory = tempfile::tempdir().unwrap();
        Self::of_stores(directory, stores, settings, Network::tcp(None)).await
    }

    async fn of_stores(
        directory: tempfile::TempDir,
        stores: Vec<Store>,
        settings: DataPlaneSettings,
        network: Network,
    ) -> Self {
        tls::install_provider();
        let authority = Authority::open_or_create(directory.path()).unwrap();
        let clock = Clock::real();
        let key = DataPlaneKey::new(KeyId::new(1), &[7; 32]);
        let mut nodes = Vec::new();
        for (number, store) in (1..).zip(stores) {
            let id = NodeId::new(number);
            let own = directory.path().join(format!("n{number}"));
            let role = Role::Chunkserver(CLUSTER.to_owned());
            authority.issue(&role, &["127.0.0.1".to_owned()], &own).unwrap();
            let identity = Identity::load(&own).unwrap();
            let context = NodeContext::new(id, CLUSTER_ID, clock.clone());
            let plane = DataPlane::new(Parts {
                store: store.clone(),
                context: context.clone(),
                cluster: CLUSTER.to_owned(),
                network: network.clone(),
                client_tls: Arc::new(identity.client_config(ALPN_BULK).unwrap()),
                clock: clock.clone(),
                settings: settings.clone(),
                counters: DataPlaneCounters::new().unwrap(),
            })
            .unwrap();
            let listener = network.bind("127.0.0.1:0").await.unwrap();
            let address = listener.address();
            let shutdown = Shutdown::new();
            let tls = Reloadable::new(identity.server_config(ALPN_BULK).unwrap());
            let serving = tokio::spawn(serve(listener, tls, plane.clone(), shutdown.clone()));
            nodes.push(Node {
                id,
                address,
                context,
                store,
                plane,
                shutdown,
                serving,
            });
        }
        let cluster = Self {
            nodes,
            key,
            clock,
            network,
            ca_pem: authority.certificate_pem().to_owned(),
            directory,
        };
        cluster.tell(&cluster.addresses());
        cluster
    }

    pub(crate) fn addresses(&self) -> BTreeMap<NodeId, String> {
        self.nodes
            .iter()
            .map(|node| (node.id, node.address.clone()))
            .collect()
    }

    /// Every node hears where the nodes are, as if by a heartbeat.
    pub(crate) fn tell(&self, addresses: &BTreeMap<NodeId, String>) {
        for node in &self.nodes {
            node.context.learn(Learned {
                time: ClusterTime::from_millis(1_000_000),
                epoch: Epoch::new(5),
                keys: DataPlaneKeys::new(vec![self.key.clone()]),
                peers: addresses.clone(),
            });
        }
    }

    pub(crate) fn dialer(&self) -> Dialer {
        let tls = Arc::new(tls::client_config(&self.ca_pem, ALPN_BULK).unwrap());
        Dialer::new(
            self.network.clone(),
            tls,
            CLUSTER,
            CLUSTER_ID,
            None,
            self.clock.clone(),
        )
        .unwrap()
    }

    pub(crate) async fn connect(&self, node: usize) -> Connection {
        self.dialer().connect(&self.nodes[node].target()).await.unwrap()
    }

    pub(crate) fn grant(&self, node: usize, attempt: u64, operation: Operation) -> Grant {
        Grant {
            operation,
            node: self.nodes[node].id,
            attempt: attempt_id(attempt),
            upload: UploadNumber::new(3),
            version: VersionId::new(4),
            index: 0,
            length_max: CHUNK_BYTES_MAX,
            epoch: Epoch::new(5),
            expires: self.nodes[node].context.now() + Duration::from_secs(120),
            principal: UserId::new(1),
        }
    }

    /// Permits for node 0 as primary and node 1 as delegate.
    pub(crate) fn begin(&self, attempt: u64, length_hint: Option<u64>) -> PutBegin {
        self.begin_at(0, Some(1), attempt, length_hint)
    }

    pub(crate) fn begin_at(
        &self,
        primary: usize,
        delegate: Option<usize>,
        attempt: u64,
        length_hint: Option<u64>,
    ) -> PutBegin {
        let id = |node: usize| self.nodes[node].id;
        let operation = Operation::WritePrimary {
            delegate: delegate.map(id),
        };
        let delegate_grant = delegate.map(|node| {
            let operation = Operation::WriteDelegate { primary: id(primary) };
            self.grant(node, attempt, operation).seal(&self.key)
        });
        PutBegin {
            grant: self.grant(primary, attempt, operation).seal(&self.key),
            delegate_grant: delegate_grant.unwrap_or_default(),
            attempt: attempt_id(attempt),
            length_hint,
            path_hint: "/tests/file".to_owned(),
        }
    }

    pub(crate) fn get_request(&self, node: usize, attempt: u64, offset: u64, length: u64) -> GetRequest {
        GetRequest {
            grant: self.grant(node, attempt, Operation::Read).seal(&self.key),
            attempt: attempt_id(attempt),
            offset,
            length,
        }
    }
}

pub(crate) fn attempt_id(number: u64) -> AttemptId {
    AttemptId::new(Epoch::new(5), number)
}

pub(crate) fn content(length: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

pub(crate) fn digest(content: &[u8]) -> Digest {
    let mut hasher = ChunkHasher::new(0);
    hasher.update(content);
    hasher.finish()
}

/// Puts `content` as a client does: frame by frame, each with its checksums.
pub(crate) async fn put(
    connection: &mut Connection,
    begin: &PutBegin,
    content: &[u8],
) -> Result<Receipt, Error> {
    let mut put = connection.put(begin)?;
    let mut first_block = 0;
    for data in content.chunks(DATA_BYTES_MAX) {
        let sums = blocks::checksums(begin.attempt, first_block, data);
        first_block += sums.len() as u32;
        put.send(data, &sums).await?;
    }
    put.finish(digest(content)).await
}

/// Gets a range, trimmed to what was asked for.
pub(crate) async fn get(connection: &mut Connection, request: &GetRequest) -> Result<Vec<u8>, Error> {
    let mut get = connection.get(request).await?;
    let mut buffer = vec![0; DATA_BYTES_MAX];
    let mut found = Vec::new();
    let mut begins = None;
    while let Some(received) = get.next(&mut buffer).await? {
        begins.get_or_insert(received.offset);
        found.extend_from_slice(&buffer[..received.length]);
    }
    let skip = (request.offset - begins.unwrap_or_default()) as usize;
    Ok(found[skip..skip + request.length as usize].to_vec())
}

/// Waits until `condition` holds; panics with `what` after ten seconds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let clock = Clock::real();
    let begun = clock.moment();
    while !condition() {
        let waited = clock.moment().since(begun);
        assert!(waited < Duration::from_secs(10), "not in time: {what}");
        clock.sleep(Duration::from_millis(5)).await;
    }
}

async fn open_store(path: &Path, node: NodeId, clock: &Clock) -> Store {
    let directory = DirectoryConfig {
        path: path.to_owned(),
        capacity_bytes: None,
    };
    let config = StoreConfig {
        directories: vec![directory],
        ..StoreConfig::default()
    };
    let owner = store::disk_identity::Identity {
        cluster: CLUSTER_ID,
        node,
    };
    let opened = Store::open(&config, owner, clock.clone(), Random::system()).await;
    opened.unwrap().0
}
