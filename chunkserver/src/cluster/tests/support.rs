//! One member of a cluster in this process, and a client that writes chunks as its nodes would.

use std::sync::Arc;
use std::time::Duration;

use common::digest::ChunkHasher;
use common::ids::{AttemptId, ClusterId, DiskId, KeyId, NodeId, UploadNumber, VersionId};
use common::net::Network;
use common::random::Random;
use common::shutdown::Shutdown;
use common::time::{Clock, ClusterTime};
use common::tls::{self, ALPN_CONTROL, Authority, Identity, Reloadable, Role};
use common::units::Span;
use consensus::{Group, MemberRecord, Settings};
use proto::bulk::grant::{DataPlaneKey, DataPlaneKeys, Grant};
use proto::bulk::receipt::{Copy, Receipt, Statement};
use proto::control::{Limits, Routes, serve};
use proto::files::v1 as wire;
use proto::files::v1::files_client::FilesClient;
use proto::files::v1::files_server::FilesServer;
use proto::nodes::v1 as nodes;
use proto::nodes::v1::nodes_client::NodesClient;
use proto::nodes::v1::nodes_server::NodesServer;
use tonic::transport::Channel;

use super::names::Names;
use crate::cluster::api::{FilesService, NodesService};
use crate::cluster::background::lead;
use crate::cluster::{Cluster, ClusterMachine, Parts, Supernodes};
use crate::config::{Config, Durability};
use crate::control::{Learned, NamesView, NodeContext};
use crate::metrics::Metrics;

pub(super) const CHUNK: usize = 4096;
pub(super) const DISK: DiskId = DiskId::new([1; 16]);

pub(super) struct Member {
    pub(super) cluster: Arc<Cluster>,
    pub(super) names: Names,
    pub(super) files: FilesClient<Channel>,
    nodes: NodesClient<Channel>,
    tls: Arc<rustls::ClientConfig>,
    shutdown: Shutdown,
    _directory: tempfile::TempDir,
}

/// Short periods, one copy.
fn config() -> Config {
    let mut config = Config {
        node: "a1".to_owned(),
        voters: 1,
        durability: Durability::Reduced,
        ..Config::default()
    };
    let timings = &mut config.timings;
    timings.heartbeat_period = Span::millis(100);
    timings.registry_period = Span::millis(50);
    timings.reclaim_period = Span::millis(50);
    timings.mark_undo_window = Span::millis(1);
    timings.drop_delay = Span::millis(1);
    config
}

/// A group of one elects itself at once.
fn timings() -> consensus::Timings {
    consensus::Timings {
        heartbeat: Duration::from_millis(50),
        election_min: Duration::from_millis(150),
        election_max: Duration::from_millis(300),
        found_wait: Duration::from_millis(1),
        ..consensus::Timings::default()
    }
}

impl Member {
    pub(super) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(super) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        tls::install_provider();
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(directory.path()).unwrap();
        let load = |role: Role, name: &str| {
            let own = directory.path().join(name);
            authority.issue(&role, &[], &own).unwrap();
            Identity::load(&own).unwrap()
        };
        let role = Role::Chunkserver("alpha".to_owned());
        let identity = load(role.clone(), "node");
        let shutdown = Shutdown::new();
        let (names, names_address) =
            Names::start(&load(Role::Supernode, "supernode"), shutdown.clone()).await;
        let mut config = config();
        change(&mut config);
        let clock = Clock::real();
        let network = Network::tcp(None);
        let client_tls = Arc::new(identity.client_config(ALPN_CONTROL).unwrap());
        let listener = network.bind("127.0.0.1:0").await.unwrap();
        let address = listener.address();
        let settings = Settings {
            directory: directory.path().join("group"),
            label: "cluster".to_owned(),
            role: role.clone(),
            tls: Arc::clone(&client_tls),
            record: MemberRecord {
                control: address.clone(),
                data: "127.0.0.1:1".to_owned(),
                name: "a1".to_owned(),
                zone: "z1".to_owned(),
                host: "h1".to_owned(),
                level: consensus::FeatureLevel::FIRST,
            },
            join: Vec::new(),
            found: true,
            voters: 1,
            timings: timings(),
            limits: consensus::Limits::default(),
            clock: clock.clone(),
            random: Random::system(),
            network: network.clone(),
            shutdown: shutdown.clone(),
            runtime: None,
        };
        let group = Group::open(settings, ClusterMachine).await.unwrap();
        let status = group.status();
        let cluster = Cluster::new(Parts {
            config: Arc::new(config),
            context: NodeContext::new(status.node_id, status.cluster_id, clock.clone()),
            names: NamesView::new(clock.clone()),
            supernodes: Supernodes::new(
                vec![names_address],
                network.clone(),
                Arc::clone(&client_tls),
                clock.clone(),
            ),
            metrics: Metrics::new(&prometheus::Registry::new()).unwrap(),
            clock: clock.clone(),
            random: Random::system(),
            group,
        });
        let routes = cluster
            .group
            .routes(Routes::new())
            .with(FilesServer::new(FilesService(Arc::clone(&cluster))))
            .with(NodesServer::new(NodesService(Arc::clone(&cluster))));
        let server_tls = Reloadable::new(identity.server_config(ALPN_CONTROL).unwrap());
        tokio::spawn(serve(
            listener,
            server_tls,
            routes,
            shutdown.clone(),
            clock,
            Limits::default(),
        ));
        tokio::spawn(lead::run(Arc::clone(&cluster), shutdown.clone()));
        let channel = proto::control::connect(&network, &address, &role, Arc::clone(&client_tls)).unwrap();
        let member = Self {
            cluster,
            names,
            files: FilesClient::new(channel.clone()),
            nodes: NodesClient::new(channel),
            tls: client_tls,
            shutdown,
            _directory: directory,
        };
        member.beat().await;
        let cluster = Arc::clone(&member.cluster);
        until("the names layer is heard", move || {
            !cluster.names.known().1.is_empty()
        })
        .await;
        member
    }

    /// The node's certificate and trust, for calls to its leader.
    pub(super) fn tls(&self) -> Arc<rustls::ClientConfig> {
        Arc::clone(&self.tls)
    }

    pub(super) fn cluster_id(&self) -> ClusterId {
        self.cluster.cluster_id()
    }

    /// Sends heartbeats until one is answered, and learns what it says as a node does.
    pub(super) async fn beat(&self) -> nodes::HeartbeatReply {
        self.beat_with(&[DISK], &[]).await
    }

    pub(super) async fn beat_with(&self, disks: &[DiskId], dropped: &[AttemptId]) -> nodes::HeartbeatReply {
        let request = nodes::HeartbeatRequest {
            cluster_id: self.cluster_id().bytes().to_vec().into(),
            node_id: self.cluster.node_id().get(),
            disks: disks
                .iter()
                .map(|disk| nodes::DiskReport {
                    disk_id: disk.bytes().to_vec().into(),
                    capacity_bytes: 1 << 40,
                    used_bytes: 0,
                    free_bytes: 1 << 40,
                    refuses_because: String::new(),
                    path: "/disks/1".to_owned(),
                })
                .collect(),
            dropped_attempts: dropped.iter().map(|one| one.to_bytes().to_vec().into()).collect(),
            ..nodes::HeartbeatRequest::default()
        };
        for _ in 0..200 {
            if let Ok(reply) = self.nodes.clone().heartbeat(request.clone()).await {
                let reply = reply.into_inner();
                self.cluster.context.learn(Learned {
                    time: ClusterTime::from_millis(reply.cluster_time_millis),
                    epoch: common::ids::Epoch::new(reply.epoch),
                    keys: keys(&reply),
                    peers: Default::default(),
                });
                return reply;
            }
            self.cluster.clock.sleep(Duration::from_millis(20)).await;
        }
        panic!("no heartbeat was answered");
    }

    pub(super) async fn plan(
        &self,
        upload: u64,
        chunks: u32,
    ) -> Result<wire::PlanChunksReply, tonic::Status> {
        let request = wire::PlanChunksRequest {
            ticket: self.names.upload_ticket(self.cluster_id(), upload, CHUNK as u64),
            upload_id: upload,
            chunks: (0..chunks)
                .map(|index| wire::ChunkRequest {
                    index,
                    ..wire::ChunkRequest::default()
                })
                .collect(),
        };
        self.files
            .clone()
            .plan_chunks(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// Plans `content` and signs for its chunks as the planned nodes would.
    pub(super) async fn store(&self, upload: u64, content: &[u8]) -> wire::SealRequest {
        let keys = keys(&self.beat().await);
        let plan = self
            .plan(upload, content.len().div_ceil(CHUNK) as u32)
            .await
            .unwrap();
        let receipts = plan.plans.iter().zip(content.chunks(CHUNK)).map(|(plan, bytes)| {
            let node = NodeId::new(plan.primary.as_ref().unwrap().node_id);
            let grant = Grant::open(&plan.grant, &keys, node, self.cluster.context.now()).unwrap();
            assert_eq!(grant.index, plan.index);
            let mut hasher = ChunkHasher::new(u64::from(plan.index) * CHUNK as u64);
            hasher.update(bytes);
            let statement = Statement {
                upload: grant.upload,
                version: grant.version,
                index: grant.index,
                attempt: grant.attempt,
                length: bytes.len() as u64,
                digest: hasher.finish(),
            };
            let copy = Copy::sign(&statement, node, DISK, keys.current().unwrap());
            wire::ChunkReceipt::from(&Receipt {
                statement,
                copies: vec![copy],
            })
        });
        wire::SealRequest {
            ticket: self.names.upload_ticket(self.cluster_id(), upload, CHUNK as u64),
            upload_id: upload,
            receipts: receipts.collect(),
            size: content.len() as u64,
            digest: blake3::hash(content).as_bytes().to_vec().into(),
            wait_millis: 10_000,
        }
    }

    pub(super) async fn seal(&self, request: wire::SealRequest) -> wire::seal_reply::Outcome {
        self.files
            .clone()
            .seal(request)
            .await
            .unwrap()
            .into_inner()
            .outcome
            .unwrap()
    }

    pub(super) async fn manifest(&self, version: u64) -> Result<wire::GetManifestReply, tonic::Status> {
        let request = wire::GetManifestRequest {
            ticket: self.names.read_ticket(self.cluster_id(), version),
            version,
            first_index: 0,
            limit: None,
        };
        self.files
            .clone()
            .get_manifest(request)
            .await
            .map(tonic::Response::into_inner)
    }

    pub(super) async fn inventory(
        &self,
        items: &[(AttemptId, UploadNumber, VersionId)],
    ) -> nodes::InventoryReply {
        let request = nodes::InventoryRequest {
            cluster_id: self.cluster_id().bytes().to_vec().into(),
            node_id: self.cluster.node_id().get(),
            disk_id: DISK.bytes().to_vec().into(),
            items: items
                .iter()
                .map(|(attempt, number, version)| nodes::InventoryItem {
                    attempt: attempt.to_bytes().to_vec().into(),
                    upload_number: number.get(),
                    version: version.get(),
                    ..nodes::InventoryItem::default()
                })
                .collect(),
        };
        self.nodes
            .clone()
            .report_inventory(request)
            .await
            .unwrap()
            .into_inner()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

pub(super) fn keys(reply: &nodes::HeartbeatReply) -> DataPlaneKeys {
    let keys = reply.keys.iter();
    DataPlaneKeys::new(
        keys.map(|key| DataPlaneKey::new(KeyId::new(key.key_id), &key.key))
            .collect(),
    )
}

/// Waits until `condition` holds.
pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    let clock = Clock::real();
    for _ in 0..1_000 {
        if condition() {
            return;
        }
        clock.sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}
