//! Three nodes and a client.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::digest::ChunkHasher;
use common::error::Kind;
use common::ids::{AttemptId, ClusterId, NodeId};
use common::net::Network;
use common::random::Random;
use common::shutdown::Shutdown;
use common::time::Clock;
use common::tls::{self, ALPN_BULK, ALPN_CONTROL, Authority, Identity, Role};
use common::units::Span;
use dbfs_chunkserver::config::{Addresses, Config, Timings};
use dbfs_chunkserver::store::config::{DirectoryConfig, StoreConfig};
use dbfs_chunkserver::{Error, Seams, run};
use dbfs_tests::own_ports;
use dbfs_tests::partition::Cuts;
use proto::bulk::blocks;
use proto::bulk::dial::{Dialer, Target};
use proto::bulk::frame::DATA_BYTES_MAX;
use proto::bulk::message::{GetRequest, PutBegin};
use proto::error::RpcError;
use proto::files::v1 as wire;
use proto::files::v1::files_client::FilesClient;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use wire::seal_reply::Outcome;

use super::hush::Hush;
use super::names::Names;

pub(crate) const CHUNK: usize = 64 << 10;

pub(crate) struct Installation {
    pub(crate) names: Names,
    pub(crate) nodes: Vec<Node>,
    pub(crate) clock: Clock,
    /// Between the control servers of nodes.
    pub(crate) cuts: Cuts,
    network: Network,
    client_tls: Arc<rustls::ClientConfig>,
    bulk_tls: Arc<rustls::ClientConfig>,
    shutdown: Shutdown,
    _directory: tempfile::TempDir,
}

pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) hush: Hush,
    pub(crate) running: Option<Running>,
}

pub(crate) struct Running {
    shutdown: Shutdown,
    metrics: prometheus::Registry,
    task: JoinHandle<Result<(), Error>>,
}

fn timings() -> Timings {
    Timings {
        raft_heartbeat: Span::millis(50),
        election_min: Span::millis(300),
        election_max: Span::millis(600),
        heartbeat_period: Span::millis(100),
        registry_period: Span::millis(100),
        suspect_after: Span::millis(600),
        grant_lifetime: Span::seconds(2),
        drop_delay: Span::seconds(2),
        mark_undo_window: Span::millis(10),
        reclaim_period: Span::millis(50),
        ..Timings::default()
    }
}

impl Installation {
    pub(crate) async fn start() -> Self {
        tls::install_provider();
        if std::env::var("DBFS_LOG").is_ok() {
            let _ = common::telemetry::start("info");
        }
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(directory.path()).unwrap();
        let issue = |role: Role, name: &str| -> PathBuf {
            let own = directory.path().join(name);
            authority.issue(&role, &[], &own).unwrap();
            own
        };
        let shutdown = Shutdown::new();
        let supernode = Identity::load(&issue(Role::Supernode, "supernode")).unwrap();
        let (names, names_address) = Names::start(&supernode, shutdown.clone()).await;
        let network = Network::tcp(None);
        let mut nodes: Vec<Node> = Vec::new();
        let first = own_address();
        for number in 1..=3 {
            let control = if number == 1 { first.clone() } else { own_address() };
            let config = Config {
                node: format!("n{number}"),
                data_dir: directory.path().join(format!("meta{number}")),
                identity_dir: issue(Role::Chunkserver("alpha".to_owned()), &format!("id{number}")),
                listen: Addresses {
                    control,
                    data: own_address(),
                },
                found: number == 1,
                join: if number == 1 {
                    Vec::new()
                } else {
                    vec![first.clone()]
                },
                supernodes: vec![names_address.clone()],
                timings: timings(),
                store: StoreConfig {
                    directories: vec![DirectoryConfig {
                        path: directory.path().join(format!("chunks{number}")),
                        capacity_bytes: None,
                    }],
                    segment_bytes: common::units::ByteCount::mib(64),
                    ..StoreConfig::default()
                },
                ..Config::default()
            };
            nodes.push(Node {
                config,
                hush: Hush::default(),
                running: None,
            });
        }
        let ca = authority.certificate_pem();
        let installation = Self {
            names,
            clock: Clock::real(),
            cuts: Cuts::default(),
            network,
            client_tls: Arc::new(tls::client_config(ca, ALPN_CONTROL).unwrap()),
            bulk_tls: Arc::new(tls::client_config(ca, ALPN_BULK).unwrap()),
            shutdown,
            _directory: directory,
            nodes,
        };
        installation.start_all().await
    }

    async fn start_all(mut self) -> Self {
        for node in 0..self.nodes.len() {
            self.start_node(node);
        }
        self.live_nodes(3).await;
        self
    }

    pub(crate) fn start_node(&mut self, node: usize) {
        let shutdown = self.shutdown.child();
        let network = self.cuts.network(&self.nodes[node].config.listen.control);
        let metrics = prometheus::Registry::new();
        let seams = Seams {
            clock: self.clock.clone(),
            random: Random::system(),
            network: self.nodes[node].hush.network(network),
            shutdown: shutdown.clone(),
            metrics: metrics.clone(),
            standing: common::standing::Standing::default(),
            reload: common::reload::Reload::default(),
        };
        let task = tokio::spawn(run(self.nodes[node].config.clone(), seams));
        self.nodes[node].running = Some(Running {
            shutdown,
            metrics,
            task,
        });
    }

    pub(crate) async fn stop_node(&mut self, node: usize) {
        if let Some(running) = self.nodes[node].running.take() {
            running.shutdown.trigger();
            running.task.await.unwrap().unwrap();
        }
    }

    /// Waits until the names layer hears that so many nodes are live and files are accepted.
    pub(crate) async fn live_nodes(&self, count: usize) {
        let live = || {
            self.names.said(|said| {
                let status = said.status.as_ref()?;
                let live = status
                    .nodes
                    .iter()
                    .filter(|node| node.state() == proto::names::v1::NodeState::Live);
                Some(status.accepts_files && live.count() == count)
            })
        };
        self.eventually(&format!("{count} live nodes"), || live() == Some(true))
            .await;
    }

    pub(crate) async fn eventually(&self, what: &str, condition: impl Fn() -> bool) {
        let begun = self.clock.moment();
        while !condition() {
            let waited = self.clock.moment().since(begun);
            assert!(waited < Duration::from_secs(30), "not in time: {what}");
            for node in &self.nodes {
                let ended = node
                    .running
                    .as_ref()
                    .is_some_and(|running| running.task.is_finished());
                assert!(!ended, "a node ended by itself while waiting: {what}");
            }
            self.clock.sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn cluster_id(&self) -> ClusterId {
        let id = self
            .names
            .said(|said| said.status.as_ref().unwrap().cluster_id.clone());
        ClusterId::try_from(id.as_ref()).unwrap()
    }

    /// The node that leads, as the names layer heard it.
    pub(crate) fn leader(&self) -> usize {
        let control = self.names.said(|said| {
            let status = said.status.as_ref().unwrap();
            let leads = |node: &&proto::names::v1::NodeStatus| {
                Some(node.member.as_ref().unwrap().node_id) == status.leader_node_id
            };
            let leader = status.nodes.iter().find(leads).unwrap();
            leader.member.as_ref().unwrap().control.clone()
        });
        self.nodes
            .iter()
            .position(|node| node.config.listen.control == control)
            .unwrap()
    }

    /// Whether `node` takes itself for the leader.
    pub(crate) fn leads(&self, node: usize) -> bool {
        let Some(running) = &self.nodes[node].running else {
            return false;
        };
        let gauges = running.metrics.gather();
        let leads = gauges.iter().find(|gauge| gauge.name() == "dbfs_cluster_leads");
        leads.unwrap().get_metric()[0].get_gauge().get_value() > 0.0
    }

    /// Asks one node after the other until one answers, for at most half a minute.
    async fn ask<T, F>(&self, call: impl Fn(FilesClient<Channel>) -> F) -> Result<T, RpcError>
    where
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let begun = self.clock.moment();
        loop {
            let mut last = RpcError::not_leader(None);
            for node in self.nodes.iter().filter(|node| node.running.is_some()) {
                let role = Role::Chunkserver("alpha".to_owned());
                let tls = Arc::clone(&self.client_tls);
                let address = &node.config.listen.control;
                let channel = proto::control::connect(&self.network, address, &role, tls).unwrap();
                match call(FilesClient::new(channel)).await {
                    Ok(reply) => return Ok(reply.into_inner()),
                    Err(status) => last = RpcError::from(status),
                }
                if !matches!(last.kind, Kind::NotLeader | Kind::Retry) {
                    return Err(last);
                }
            }
            if self.clock.moment().since(begun) > Duration::from_secs(30) {
                return Err(last);
            }
            self.clock.sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn plan(&self, upload: u64, index: u32, avoid: &[u64]) -> wire::ChunkPlan {
        let request = wire::PlanChunksRequest {
            ticket: self.names.upload_ticket(self.cluster_id(), upload, CHUNK as u64),
            upload_id: upload,
            chunks: vec![wire::ChunkRequest {
                index,
                length_hint: None,
                avoid_nodes: avoid.to_vec(),
            }],
        };
        let reply = self.ask(|mut files| {
            let request = request.clone();
            async move { files.plan_chunks(request).await }
        });
        reply.await.unwrap().plans.remove(0)
    }

    fn dialer(&self) -> Dialer {
        Dialer::new(
            self.network.clone(),
            Arc::clone(&self.bulk_tls),
            "alpha",
            self.cluster_id(),
            None,
            self.clock.clone(),
        )
        .unwrap()
    }

    /// Sends one chunk as planned.
    pub(crate) async fn put(
        &self,
        plan: &wire::ChunkPlan,
        content: &[u8],
    ) -> Result<wire::ChunkReceipt, proto::bulk::error::Error> {
        let primary = plan.primary.clone().unwrap();
        let target = Target {
            node: NodeId::new(primary.node_id),
            address: primary.data,
        };
        let mut connection = self.dialer().connect(&target).await?;
        let begin = PutBegin {
            grant: plan.grant.to_vec(),
            delegate_grant: plan.delegate_grant.to_vec(),
            attempt: AttemptId::try_from(plan.attempt.as_ref()).unwrap(),
            length_hint: None,
            path_hint: "/a/b".to_owned(),
        };
        let mut put = connection.put(&begin)?;
        let mut first_block = 0;
        for data in content.chunks(DATA_BYTES_MAX) {
            let sums = blocks::checksums(begin.attempt, first_block, data);
            first_block += sums.len() as u32;
            put.send(data, &sums).await?;
        }
        let mut hasher = ChunkHasher::new(u64::from(plan.index) * CHUNK as u64);
        hasher.update(content);
        let receipt = put.finish(hasher.finish()).await?;
        Ok(wire::ChunkReceipt::from(&receipt))
    }

    /// Plans and sends every chunk; a chunk that fails gets a new plan without the nodes that failed.
    pub(crate) async fn send(&self, upload: u64, content: &[u8]) -> wire::SealRequest {
        let mut receipts = Vec::new();
        for (index, bytes) in (0..).zip(content.chunks(CHUNK)) {
            receipts.push(self.send_chunk(upload, index, bytes).await);
        }
        wire::SealRequest {
            ticket: self.names.upload_ticket(self.cluster_id(), upload, CHUNK as u64),
            upload_id: upload,
            receipts,
            size: content.len() as u64,
            digest: blake3::hash(content).as_bytes().to_vec().into(),
            wait_millis: 10_000,
        }
    }

    pub(crate) async fn send_chunk(&self, upload: u64, index: u32, bytes: &[u8]) -> wire::ChunkReceipt {
        let mut avoid = Vec::new();
        for _ in 0..100 {
            let plan = self.plan(upload, index, &avoid).await;
            match self.put(&plan, bytes).await {
                Ok(receipt) => return receipt,
                Err(error) => avoid = vec![error.node().get()],
            }
        }
        panic!("chunk {index} of upload {upload} was never stored");
    }

    pub(crate) async fn seal(&self, request: &wire::SealRequest) -> Outcome {
        let reply = self.ask(|mut files| {
            let request = request.clone();
            async move { files.seal(request).await }
        });
        reply.await.unwrap().outcome.unwrap()
    }

    pub(crate) async fn outcome(&self, upload: u64) -> Outcome {
        let request = wire::GetOutcomeRequest {
            ticket: self.names.upload_ticket(self.cluster_id(), upload, CHUNK as u64),
            upload_id: upload,
            wait_millis: 10_000,
        };
        let reply = self.ask(|mut files| {
            let request = request.clone();
            async move { files.get_outcome(request).await }
        });
        reply.await.unwrap().outcome.unwrap()
    }

    /// The manifest as `node` gives it, once it does.
    pub(crate) async fn manifest(
        &self,
        node: usize,
        version: u64,
    ) -> Result<wire::GetManifestReply, RpcError> {
        let request = wire::GetManifestRequest {
            ticket: self.names.read_ticket(self.cluster_id(), version),
            version,
            first_index: 0,
            limit: None,
        };
        let role = Role::Chunkserver("alpha".to_owned());
        let address = &self.nodes[node].config.listen.control;
        let begun = self.clock.moment();
        loop {
            let tls = Arc::clone(&self.client_tls);
            let channel = proto::control::connect(&self.network, address, &role, tls).unwrap();
            match FilesClient::new(channel).get_manifest(request.clone()).await {
                Ok(reply) => return Ok(reply.into_inner()),
                Err(status) => {
                    let error = RpcError::from(status);
                    let late = self.clock.moment().since(begun) > Duration::from_secs(30);
                    if late || !error.kind.is_passing() {
                        return Err(error);
                    }
                }
            }
            self.clock.sleep(Duration::from_millis(50)).await;
        }
    }

    /// Reads one chunk from one of its copies.
    pub(crate) async fn get(
        &self,
        chunk: &wire::ChunkLocation,
        replica: &wire::ReplicaLocation,
    ) -> Result<Vec<u8>, proto::bulk::error::Error> {
        let target = Target {
            node: NodeId::new(replica.node_id),
            address: replica.data.clone(),
        };
        let mut connection = self.dialer().connect(&target).await?;
        let request = GetRequest {
            grant: replica.grant.to_vec(),
            attempt: AttemptId::try_from(chunk.attempt.as_ref()).unwrap(),
            offset: 0,
            length: chunk.length,
        };
        let mut get = connection.get(&request).await?;
        let mut buffer = vec![0; DATA_BYTES_MAX];
        let mut found = Vec::new();
        while let Some(received) = get.next(&mut buffer).await? {
            found.extend_from_slice(&buffer[..received.length]);
        }
        Ok(found)
    }

    /// Reads a version from the first copy of each chunk, asking `node` where they are, and again while no copy can
    /// be read: a node may not know yet whose grants are good.
    pub(crate) async fn read(&self, node: usize, version: u64) -> Vec<u8> {
        let begun = self.clock.moment();
        loop {
            let manifest = self.manifest(node, version).await.unwrap();
            match self.content(&manifest).await {
                Ok(content) => return content,
                Err(error) => {
                    let late = self.clock.moment().since(begun) > Duration::from_secs(30);
                    assert!(
                        !late && error.kind().is_passing(),
                        "a copy can be read: {error:?}"
                    );
                }
            }
            self.clock.sleep(Duration::from_millis(20)).await;
        }
    }

    async fn content(&self, manifest: &wire::GetManifestReply) -> Result<Vec<u8>, proto::bulk::error::Error> {
        let mut content = Vec::new();
        for chunk in &manifest.chunks {
            let mut found = Ok(Vec::new());
            for replica in &chunk.replicas {
                found = self.get(chunk, replica).await;
                if found.is_ok() {
                    break;
                }
            }
            content.extend(found?);
        }
        Ok(content)
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

fn own_address() -> String {
    format!("127.0.0.1:{}", own_ports(1))
}

/// Bytes that differ from upload to upload.
pub(crate) fn content(upload: u64, length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| ((at as u64 * 31 + upload * 17) % 251) as u8)
        .collect()
}
