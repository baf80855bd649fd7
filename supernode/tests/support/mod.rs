//! Supernodes in one process, as callers meet them: real TLS, real files, loopback. Clusters are played by the tests.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::result_large_err,
    reason = "each test file uses a part of it"
)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "tests wait by the machine's clock")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::net::{Listen, Network, Pending, Transport};
use common::random::Random;
use common::shutdown::Shutdown;
use common::time::Clock;
use common::tls::{self, ALPN_CONTROL, Authority, Identity, Role};
use common::units::Span;
use dbfs_supernode::{Config, Seams};
use proto::error::RpcError;
use proto::names::v1 as names;
use proto::names::v1::names_client::NamesClient;
use proto::registry::v1 as registry;
use proto::registry::v1::registry_client::RegistryClient;
use proto::trash::v1 as trash;
use proto::trash::v1::trash_client::TrashClient;
use tokio::sync::oneshot;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

pub const ROOT_PASSWORD: &str = "correct horse";
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `probe` gives something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut probe: impl FnMut() -> F) -> T {
    let begun = std::time::Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Certificates and directories of one installation.
pub struct Installation {
    pub root: tempfile::TempDir,
    authority: Authority,
}

impl Installation {
    pub fn new() -> Arc<Self> {
        tls::install_provider();
        if std::env::var("DBFS_LOG").is_ok() {
            let _ = common::telemetry::start("info");
        }
        let root = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(root.path()).unwrap();
        authority
            .issue(&Role::Supernode, &[], &root.path().join("tls"))
            .unwrap();
        std::fs::write(root.path().join("password"), format!("{ROOT_PASSWORD}\n")).unwrap();
        Arc::new(Self { root, authority })
    }

    pub fn config(&self, name: &str) -> Config {
        let mut config = Config {
            name: name.to_owned(),
            data_dir: self.root.path().join(name),
            identity_dir: self.root.path().join("tls"),
            listen: "127.0.0.1:0".to_owned(),
            found: true,
            voters: 1,
            ..Config::default()
        };
        config.admin.user = "root".to_owned();
        config.admin.password_file = self.root.path().join("password");
        config.timings.tidy_period = Span::millis(100);
        config
    }

    /// A channel to a supernode as a client without a certificate has it.
    pub fn channel(&self, address: &str) -> Channel {
        let config = tls::client_config(self.authority.certificate_pem(), ALPN_CONTROL).unwrap();
        let network = Network::tcp(None);
        proto::control::connect(&network, address, &Role::Supernode, Arc::new(config)).unwrap()
    }

    /// A channel to a supernode as a node of the cluster `name` has it.
    pub fn cluster_channel(&self, address: &str, name: &str) -> Channel {
        let directory: PathBuf = self.root.path().join(format!("tls-{name}"));
        if !directory.exists() {
            let role = Role::Chunkserver(name.to_owned());
            self.authority.issue(&role, &[], &directory).unwrap();
        }
        let identity = Identity::load(&directory).unwrap();
        let config = identity.client_config(ALPN_CONTROL).unwrap();
        let network = Network::tcp(None);
        proto::control::connect(&network, address, &Role::Supernode, Arc::new(config)).unwrap()
    }
}

/// TCP that tells where it is bound.
struct Telling {
    tcp: Network,
    told: parking_lot::Mutex<Option<oneshot::Sender<String>>>,
}

impl Transport for Telling {
    fn bind<'a>(&'a self, address: &'a str) -> Pending<'a, std::io::Result<Box<dyn Listen>>> {
        Box::pin(async move {
            let listener = self.tcp.bind(address).await?;
            if let Some(told) = self.told.lock().take() {
                let _ = told.send(listener.address());
            }
            Ok(listener)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> Pending<'a, std::io::Result<common::net::Connection>> {
        Box::pin(async move { self.tcp.connect(address).await })
    }
}

/// A supernode at work.
pub struct Supernode {
    pub address: String,
    pub shutdown: Shutdown,
    pub metrics: prometheus::Registry,
    work: tokio::task::JoinHandle<Result<(), dbfs_supernode::Error>>,
}

impl Supernode {
    pub async fn start(config: Config) -> Self {
        Self::start_on(Network::tcp(None), config).await
    }

    pub async fn start_on(network: Network, config: Config) -> Self {
        let (told, bound) = oneshot::channel();
        let shutdown = Shutdown::new();
        let metrics = prometheus::Registry::new();
        let seams = Seams {
            clock: Clock::real(),
            random: Random::system(),
            network: Network::from_transport(Arc::new(Telling {
                tcp: network,
                told: parking_lot::Mutex::new(Some(told)),
            })),
            shutdown: shutdown.clone(),
            metrics: metrics.clone(),
            standing: common::standing::Standing::default(),
            reload: common::reload::Reload::default(),
        };
        let work = tokio::spawn(dbfs_supernode::run(config, seams));
        let Ok(address) = bound.await else {
            panic!("the supernode does not start: {:?}", work.await);
        };
        Self {
            address,
            shutdown,
            metrics,
            work,
        }
    }

    pub async fn stop(self) {
        self.shutdown.trigger();
        self.work.await.unwrap().unwrap();
    }

    /// Ends it without a farewell, as far as that is possible inside a process.
    pub async fn crash(self) {
        self.work.abort();
        let _ = self.work.await;
    }
}

/// A client of one supernode, logged in or not.
#[derive(Clone)]
pub struct Client {
    pub names: NamesClient<Channel>,
    pub trash: TrashClient<Channel>,
    pub token: String,
    random: Random,
}

pub type Outcome<T> = Result<T, RpcError>;

fn opened<T>(answer: Result<Response<T>, Status>) -> Outcome<T> {
    answer.map(Response::into_inner).map_err(RpcError::from)
}

macro_rules! calls {
    ($($name:ident: $request:ident -> $reply:ident,)+) => {
        impl Client {
            $(pub async fn $name(&self, request: names::$request) -> Outcome<names::$reply> {
                opened(self.names.clone().$name(self.request(request)).await)
            })+
        }
    };
}

calls! {
    hello: HelloRequest -> HelloReply,
    who_am_i: WhoAmIRequest -> User,
    create_user: CreateUserRequest -> User,
    list_users: ListUsersRequest -> ListUsersReply,
    set_password: SetPasswordRequest -> User,
    set_user_enabled: SetUserEnabledRequest -> User,
    retire_cluster: RetireClusterRequest -> RetireClusterReply,
    open_upload: OpenUploadRequest -> UploadSession,
    get_upload: GetUploadRequest -> UploadStatus,
    abort_upload: AbortUploadRequest -> UploadStatus,
    resolve: ResolveRequest -> ResolveReply,
    stat: StatRequest -> Entry,
    list: ListRequest -> ListReply,
    search: SearchRequest -> SearchReply,
    make_directory: MakeDirectoryRequest -> Entry,
    rename: RenameRequest -> Entry,
    delete: DeleteRequest -> DeleteReply,
    status: StatusRequest -> StatusReply,
}

impl Client {
    pub fn new(installation: &Installation, address: &str) -> Self {
        let channel = installation.channel(address);
        Self {
            names: NamesClient::new(channel.clone()).max_decoding_message_size(32 << 20),
            trash: TrashClient::new(channel),
            token: String::new(),
            random: Random::system(),
        }
    }

    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if !self.token.is_empty() {
            let value = format!("Bearer {}", self.token).parse().unwrap();
            request.metadata_mut().insert(proto::AUTHORIZATION_HEADER, value);
        }
        request
    }

    pub async fn try_login(&self, user: &str, password: &str) -> Outcome<Self> {
        let request = names::LoginRequest {
            user: user.to_owned(),
            password: password.to_owned(),
        };
        let reply = opened(self.names.clone().login(request).await)?;
        Ok(Self {
            token: reply.token,
            ..self.clone()
        })
    }

    /// Logs in, waiting for the installation to be ready.
    pub async fn login(&self, user: &str, password: &str) -> Self {
        eventually("login", || async { self.try_login(user, password).await.ok() }).await
    }

    /// Makes a user, as administrator, and logs in as that user.
    pub async fn with_user(&self, name: &str) -> Self {
        let request = names::CreateUserRequest {
            name: name.to_owned(),
            password: format!("password of {name}"),
            role: names::UserRole::User.into(),
            quota_bytes: None,
        };
        self.create_user(request).await.unwrap();
        self.login(name, &format!("password of {name}")).await
    }

    pub async fn opening(&self, path: &str) -> names::OpenUploadRequest {
        let hello = self.hello(hello()).await.unwrap();
        names::OpenUploadRequest {
            idempotency_key: self.random.bytes::<16>().to_vec().into(),
            key_born_millis: hello.names_time_millis,
            path: path.to_owned(),
            size_hint: Some(100),
            ..names::OpenUploadRequest::default()
        }
    }

    pub async fn list_paths(&self, path: &str, recursive: bool) -> Vec<String> {
        let mut all = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = names::ListRequest {
                path: path.to_owned(),
                recursive,
                page_token,
                limit: Some(2),
                directories: false,
                prefix: String::new(),
            };
            let page = self.list(request).await.unwrap();
            all.extend(page.entries.into_iter().map(|entry| entry.path));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return all;
            }
        }
    }

    pub async fn stat_path(&self, path: &str) -> Outcome<names::Entry> {
        let request = names::StatRequest {
            path: path.to_owned(),
        };
        self.stat(request).await
    }

    pub async fn trash(&self, path: &str) -> Outcome<Vec<trash::Item>> {
        let message = trash::ListRequest {
            path: path.to_owned(),
            ..trash::ListRequest::default()
        };
        let reply = opened(self.trash.clone().list(self.request(message)).await)?;
        Ok(reply.items)
    }

    pub async fn restore(&self, trash_id: u64) -> Outcome<names::Entry> {
        let message = trash::RestoreRequest {
            trash_id,
            to: String::new(),
        };
        opened(self.trash.clone().restore(self.request(message)).await)
    }

    pub async fn empty_trash(&self, path: &str) -> Outcome<u64> {
        let message = trash::EmptyRequest {
            path: path.to_owned(),
            trash_id: None,
        };
        let reply = opened(self.trash.clone().empty(self.request(message)).await)?;
        Ok(reply.items)
    }

    pub async fn delete_path(
        &self,
        path: &str,
        recursive: bool,
        permanent: bool,
    ) -> Outcome<names::DeleteReply> {
        let request = names::DeleteRequest {
            path: path.to_owned(),
            recursive,
            permanent,
            if_version: None,
        };
        self.delete(request).await
    }
}

pub fn hello() -> names::HelloRequest {
    names::HelloRequest {
        protocol_version_min: proto::PROTOCOL_VERSION_MIN,
        protocol_version_max: proto::PROTOCOL_VERSION,
        agent: "test".to_owned(),
    }
}

/// A cluster's leader, as the registry sees one.
pub struct Cluster {
    registry: RegistryClient<Channel>,
    pub id: [u8; 16],
    pub name: String,
    pub epoch: u64,
    pub status: names::ClusterStatus,
}

impl Cluster {
    pub fn new(installation: &Installation, address: &str, name: &str, number: u8) -> Self {
        let node = |node_id: u64| names::NodeStatus {
            member: Some(names::GroupMember {
                node_id,
                control: format!("{name}-{node_id}:1"),
                data: format!("{name}-{node_id}:2"),
                ..names::GroupMember::default()
            }),
            ..names::NodeStatus::default()
        };
        Self {
            registry: RegistryClient::new(installation.cluster_channel(address, name)),
            id: [number; 16],
            name: name.to_owned(),
            epoch: 1,
            status: names::ClusterStatus {
                cluster_id: vec![number; 16].into(),
                name: name.to_owned(),
                generation: 1,
                leader_node_id: Some(2),
                nodes: vec![node(1), node(2), node(3)],
                load: Some(names::Load {
                    capacity_bytes: 1 << 40,
                    free_bytes: 1 << 39,
                    ..names::Load::default()
                }),
                accepts_files: true,
                chunks: 5,
                ..names::ClusterStatus::default()
            },
        }
    }

    pub fn report(&self) -> registry::HeartbeatRequest {
        registry::HeartbeatRequest {
            cluster_id: self.id.to_vec().into(),
            epoch: self.epoch,
            status: Some(self.status.clone()),
            releases_recorded: 0,
            abandoned_uploads: Vec::new(),
        }
    }

    pub async fn send(&self, report: registry::HeartbeatRequest) -> Outcome<registry::HeartbeatReply> {
        opened(self.registry.clone().heartbeat(report).await)
    }

    pub async fn beat(&self) -> registry::HeartbeatReply {
        eventually("heartbeat", || async { self.send(self.report()).await.ok() }).await
    }

    pub fn publishing(&self, uploads: &[u64]) -> registry::PublishRequest {
        let item = |upload: &u64| registry::PublishItem {
            upload_id: *upload,
            size: 100,
            digest: vec![*upload as u8; 32].into(),
            modified_wall_millis: 1_000,
        };
        registry::PublishRequest {
            cluster_id: self.id.to_vec().into(),
            generation: self.status.generation,
            epoch: self.epoch,
            items: uploads.iter().map(item).collect(),
            outcomes_recorded: Vec::new(),
        }
    }

    pub async fn publish(&self, request: registry::PublishRequest) -> Outcome<registry::PublishReply> {
        opened(self.registry.clone().publish(request).await)
    }

    /// Opens and publishes a file of 100 bytes; its version.
    pub async fn put(&self, client: &Client, path: &str) -> u64 {
        let opening = client.opening(path).await;
        let session = client.open_upload(opening).await.unwrap();
        let reply = self.publish(self.publishing(&[session.upload_id])).await.unwrap();
        assert!(reply.outcomes[0].published, "{reply:?}");
        session.upload_id
    }
}

/// One supernode with the cluster `alpha`, and `root` logged in.
pub async fn small() -> (Arc<Installation>, Supernode, Client, Cluster) {
    let installation = Installation::new();
    let config = installation.config("s1");
    small_with(&installation, config).await
}

pub async fn small_with(
    installation: &Arc<Installation>,
    config: Config,
) -> (Arc<Installation>, Supernode, Client, Cluster) {
    let supernode = Supernode::start(config).await;
    let root = Client::new(installation, &supernode.address)
        .login("root", ROOT_PASSWORD)
        .await;
    let cluster = Cluster::new(installation, &supernode.address, "alpha", 1);
    cluster.beat().await;
    (Arc::clone(installation), supernode, root, cluster)
}
