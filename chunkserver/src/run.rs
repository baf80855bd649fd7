//! The process: opens what it keeps, serves, runs the loops, ends in order.
//!
//! Invariant: Raft, heartbeats and control run on threads of their own, the data plane on others, so that a saturated
//! data plane misses no heartbeat. Order of start: listeners (so that addresses are known), the Raft group (so that
//! this node has an identity), control, then the disks, the data plane and the node's own loops: a node whose disks
//! take long to recover is a member meanwhile, but is given no data. Order of end: the reverse; the lead is handed on.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use common::error::Kind;
use common::net::{Listen, Network, turn_away_during};
use common::random::Random;
use common::reload::Reload;
use common::shutdown::Shutdown;
use common::standing::Standing;
use common::time::Clock;
use common::tls::{self, Role};
use consensus::{Group, MemberRecord, Settings};
use proto::CONTROL_MESSAGE_BYTES_MAX;
use proto::control::Routes;
use proto::files::v1::files_server::FilesServer;
use proto::nodes::v1::nodes_server::NodesServer;
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinSet;

use crate::cluster::api::{FilesService, NodesService};
use crate::cluster::background::lead;
use crate::cluster::{Cluster, ClusterMachine, Parts, Supernodes};
use crate::config::Config;
use crate::control::{LeaderLink, NamesView, NodeContext, heartbeat, inventory, load, orders};
use crate::credentials::{self, Credentials};
use crate::metrics::Metrics;
use crate::reserve;
use crate::store::Store;
use crate::store::disk_identity::Identity as DiskOwner;
use crate::store::recovery::Recovered;
use crate::transfer::{DataPlane, counters::DataPlaneCounters};

/// How long tasks of the runtimes may go on at the very end.
const END_GRACE: Duration = Duration::from_secs(10);
/// The largest command of the log: a seal of the largest version fits.
const COMMAND_BYTES_MAX: usize = CONTROL_MESSAGE_BYTES_MAX / 2;

/// Where time, randomness and connections come from, and when to end.
#[derive(Clone, Debug)]
pub struct Seams {
    /// Time.
    pub clock: Clock,
    /// Random numbers.
    pub random: Random,
    /// Connections.
    pub network: Network,
    /// Ends the process in order.
    pub shutdown: Shutdown,
    /// Counters are registered here ([`crate::metrics`]); serving them is the binary's business.
    pub metrics: prometheus::Registry,
    /// Where the process says how it stands, for probes.
    pub standing: Standing,
    /// Requests to read the certificates anew.
    pub reload: Reload,
}

/// A chunkserver could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] crate::config::Error),
    /// The identity (certificate, key, authority) cannot be used.
    #[error("cannot use the identity in chunkserver.identity_dir")]
    Tls(#[from] tls::Error),
    /// An address cannot be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The Raft group cannot be opened or has ended.
    #[error("the cluster's group")]
    Group(#[source] consensus::Error),
    /// The disks cannot be opened.
    #[error("the chunk store")]
    Store(#[from] crate::store::error::Error),
    /// The control server broke down.
    #[error("the control server broke down")]
    Server(#[from] tonic::transport::Error),
    /// Threads cannot be made.
    #[error("cannot make threads")]
    Threads(#[source] io::Error),
    /// Metrics cannot be registered.
    #[error("cannot register metrics")]
    Metrics(#[from] prometheus::Error),
    /// A part of the process ended without being asked to.
    #[error("{part} ended: {reason}")]
    Ended {
        /// Which.
        part: &'static str,
        /// Why.
        reason: String,
    },
}

impl Error {
    /// What can be done about it: nothing but to start again, mostly after a change.
    pub const fn kind(&self) -> Kind {
        match self {
            Error::Config(_) | Error::Tls(_) | Error::Listen { .. } => Kind::Invalid,
            Error::Group(_)
            | Error::Store(_)
            | Error::Server(_)
            | Error::Threads(_)
            | Error::Metrics(_)
            | Error::Ended { .. } => Kind::Fatal,
        }
    }
}

/// Runs a chunkserver until `seams.shutdown` is given.
///
/// # Errors
/// What keeps it from starting, or what ended it.
pub async fn run(config: Config, seams: Seams) -> Result<(), Error> {
    config.validate()?;
    let threads = Threads::start(&config)?;
    let asked = seams.shutdown.clone();
    let seams = Seams {
        shutdown: seams.shutdown.child(),
        ..seams
    };
    let all = seams.shutdown.clone();
    let member = Member {
        config: Arc::new(config),
        seams,
        data: threads.data.clone(),
        control: threads.control.clone(),
    };
    let outcome = threads.control.spawn(member.run()).await;
    all.trigger();
    threads.end().await?;
    match outcome.map_err(broke)? {
        // It was told to end before it had begun.
        Err(Error::Group(consensus::Error::Closed)) if asked.is_triggered() => Ok(()),
        outcome => outcome,
    }
}

fn broke(error: tokio::task::JoinError) -> Error {
    Error::Ended {
        part: "the process",
        reason: error.to_string(),
    }
}

/// The two sets of threads. Dropping them, as when `run` is cancelled, ends their tasks without waiting: tokio refuses to
/// drop a runtime where tasks run.
struct Threads {
    control: Handle,
    data: Handle,
    /// In the order in which they end.
    runtimes: Vec<Runtime>,
}

impl Threads {
    fn start(config: &Config) -> Result<Self, Error> {
        let control = threads("dbfs-control", config.limits.control_threads)?;
        let mut all = Self {
            control: control.handle().clone(),
            data: control.handle().clone(),
            runtimes: vec![control],
        };
        let data = threads("dbfs-data", config.limits.data_threads)?;
        all.data = data.handle().clone();
        all.runtimes.insert(0, data);
        Ok(all)
    }

    /// Waits for their tasks, for a while.
    async fn end(mut self) -> Result<(), Error> {
        let runtimes = std::mem::take(&mut self.runtimes);
        let ending = tokio::task::spawn_blocking(move || {
            for runtime in runtimes {
                runtime.shutdown_timeout(END_GRACE);
            }
        });
        ending.await.map_err(broke)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for runtime in self.runtimes.drain(..) {
            runtime.shutdown_background();
        }
    }
}

fn threads(name: &str, count: u32) -> Result<Runtime, Error> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(count as usize)
        .thread_name(name)
        .enable_all()
        .build()
        .map_err(Error::Threads)
}

struct Member {
    config: Arc<Config>,
    seams: Seams,
    data: Handle,
    control: Handle,
}

impl Member {
    async fn run(self) -> Result<(), Error> {
        let credentials = Credentials::load(&self.config)?;
        let mut control_listener = self.listen(&self.control, &self.config.listen.control).await?;
        let data_listener = self.listen(&self.data, &self.config.listen.data).await?;
        let record = self.record(&control_listener.address(), &data_listener.address())?;
        tracing::info!(control = %record.control, data = %record.data, "listening");
        let settings = self.group_settings(record, &credentials);
        let greeting = settings.greeting();
        let opening = Box::pin(Group::open(settings, ClusterMachine));
        let group = turn_away_during(control_listener.as_mut(), greeting, opening)
            .await
            .map_err(Error::Group)?;
        let standing = self.seams.standing.clone();
        let asked = group.clone();
        standing.set_quorum(move || asked.sees_quorum());
        let metrics = Metrics::new(&self.seams.metrics)?;
        let cluster = self.cluster(&group, &credentials, metrics.clone());
        tracing::info!(cluster = %cluster.cluster_id(), node = %cluster.node_id(), "member of the cluster");

        let mut parts: JoinSet<Result<&'static str, Error>> = JoinSet::new();
        parts.spawn(self.serve_control(&cluster, control_listener, &credentials));
        let shutdown = self.seams.shutdown.clone();
        parts.spawn(named(
            "the leader's loops",
            lead::run(Arc::clone(&cluster), shutdown),
        ));
        let opened = self.open_store(&cluster).await;

        match opened {
            Ok((store, recovered)) => {
                let started = self.start_data(
                    &mut parts,
                    &cluster,
                    &credentials,
                    data_listener,
                    &store,
                    &recovered,
                    &metrics,
                );
                let outcome = match started {
                    Ok(()) => {
                        standing.set_ready(true);
                        self.watch(&mut parts, &group).await
                    }
                    Err(error) => Err(error),
                };
                standing.set_ready(false);
                self.end(&mut parts, &group, Some(&store)).await;
                outcome
            }
            Err(error) => {
                self.end(&mut parts, &group, None).await;
                Err(error)
            }
        }
    }

    async fn listen(&self, runtime: &Handle, address: &str) -> Result<Box<dyn Listen>, Error> {
        let (network, wanted) = (self.seams.network.clone(), address.to_owned());
        // A socket belongs to the threads on which it was made.
        let bound = runtime.spawn(async move { network.bind(&wanted).await }).await;
        let failed = |source| Error::Listen {
            address: address.to_owned(),
            source,
        };
        bound
            .map_err(|error| failed(io::Error::other(error)))?
            .map_err(failed)
    }

    fn record(&self, control: &str, data: &str) -> Result<MemberRecord, Error> {
        let config = &self.config;
        let announced = config.announced(control, data)?;
        Ok(MemberRecord {
            control: announced.control,
            data: announced.data,
            name: config.node.clone(),
            zone: config.zone_name().to_owned(),
            host: config.host_name().to_owned(),
            level: consensus::FeatureLevel::FIRST,
        })
    }

    fn group_settings(&self, record: MemberRecord, credentials: &Credentials) -> Settings {
        let (config, seams) = (&self.config, &self.seams);
        Settings {
            directory: config.data_dir.join("group"),
            // A data directory and a member belong to one cluster for good.
            label: format!("cluster-{}", self.config.cluster),
            role: Role::Chunkserver(config.cluster.clone()),
            tls: Arc::clone(&credentials.control_client),
            record,
            join: config.join.clone(),
            found: config.found,
            voters: config.voters as usize,
            timings: consensus::Timings {
                heartbeat: config.timings.raft_heartbeat.get(),
                election_min: config.timings.election_min.get(),
                election_max: config.timings.election_max.get(),
                ..consensus::Timings::default()
            },
            limits: consensus::Limits {
                command_bytes_max: COMMAND_BYTES_MAX,
                disk_reserve_bytes: config.limits.disk_reserve_bytes.get(),
                ..consensus::Limits::default()
            },
            clock: seams.clock.clone(),
            random: seams.random.clone(),
            network: seams.network.clone(),
            shutdown: seams.shutdown.clone(),
            runtime: Some(self.control.clone()),
        }
    }

    fn cluster(
        &self,
        group: &Group<ClusterMachine>,
        credentials: &Credentials,
        metrics: Metrics,
    ) -> Arc<Cluster> {
        let status = group.status();
        let clock = &self.seams.clock;
        let tls = Arc::clone(&credentials.control_client);
        let network = self.seams.network.clone();
        Cluster::new(Parts {
            group: group.clone(),
            config: Arc::clone(&self.config),
            context: NodeContext::new(status.node_id, status.cluster_id, clock.clone()),
            names: NamesView::new(clock.clone()),
            supernodes: Supernodes::new(self.config.supernodes.clone(), network, tls, clock.clone()),
            metrics,
            clock: clock.clone(),
            random: self.seams.random.clone(),
        })
    }

    fn serve_control(
        &self,
        cluster: &Arc<Cluster>,
        listener: Box<dyn Listen>,
        credentials: &Credentials,
    ) -> impl Future<Output = Result<&'static str, Error>> + Send + 'static {
        let files = FilesServer::new(FilesService(Arc::clone(cluster)))
            .max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(CONTROL_MESSAGE_BYTES_MAX);
        let nodes = NodesServer::new(NodesService(Arc::clone(cluster)))
            .max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(CONTROL_MESSAGE_BYTES_MAX);
        let routes = cluster.group.routes(Routes::new()).with(files).with(nodes);
        let serving = proto::control::serve(
            listener,
            credentials.control_server.clone(),
            routes,
            self.seams.shutdown.clone(),
            self.seams.clock.clone(),
            proto::control::Limits::default(),
        );
        async move { Ok(serving.await.map(|()| "the control server")?) }
    }

    async fn open_store(&self, cluster: &Cluster) -> Result<(Store, Vec<Recovered>), Error> {
        let owner = DiskOwner {
            cluster: cluster.cluster_id(),
            node: cluster.node_id(),
        };
        let mut config = self.config.store.clone();
        let reserve = self.config.limits.disk_reserve_bytes;
        let directories = config.directories.iter();
        config.beside_bytes = directories
            .map(|entry| reserve::beside(&self.config.data_dir, &entry.path, reserve))
            .collect();
        let (clock, random) = (self.seams.clock.clone(), self.seams.random.clone());
        let opening = self
            .data
            .spawn(async move { Store::open(&config, owner, clock, random).await });
        let opened = self.seams.shutdown.guard(opening).await;
        let (store, recovered) = match opened {
            Some(Ok(opened)) => opened?,
            Some(Err(error)) => {
                return Err(Error::Ended {
                    part: "the recovery of the disks",
                    reason: error.to_string(),
                });
            }
            None => return Err(Error::Group(consensus::Error::Closed)),
        };
        for report in &recovered {
            tracing::info!(disk = %report.disk, path = %report.path.display(), records = report.records,
                torn = report.torn, suspects = report.suspects, lost = report.lost.len(), "disk recovered");
            for problem in &report.problems {
                tracing::warn!(disk = %report.disk, "{problem}");
            }
        }
        Ok((store, recovered))
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "the parts of the process, put together once"
    )]
    fn start_data(
        &self,
        parts: &mut JoinSet<Result<&'static str, Error>>,
        cluster: &Arc<Cluster>,
        credentials: &Credentials,
        listener: Box<dyn Listen>,
        store: &Store,
        recovered: &[Recovered],
        metrics: &Metrics,
    ) -> Result<(), Error> {
        let (seams, config) = (&self.seams, &self.config);
        let counters = DataPlaneCounters::new()?;
        counters.register(metrics.registry())?;
        let in_flight_bytes = counters.in_flight_bytes.clone();
        let plane = DataPlane::new(crate::transfer::Parts {
            store: store.clone(),
            context: cluster.context.clone(),
            cluster: config.cluster.clone(),
            network: seams.network.clone(),
            client_tls: Arc::clone(&credentials.data_client),
            clock: seams.clock.clone(),
            settings: config.data_plane.clone(),
            counters,
        })?;
        let following = credentials::follow(
            Arc::clone(config),
            seams.clone(),
            credentials.clone(),
            plane.clone(),
        );
        parts.spawn(named("the certificates", following));
        let serving = crate::transfer::serve(
            listener,
            credentials.data_server.clone(),
            plane,
            seams.shutdown.clone(),
        );
        parts.spawn_on(named("the data plane", serving), &self.data);
        let (kept, shutdown) = (store.clone(), seams.shutdown.clone());
        let upkeep = async move { kept.maintain(shutdown).await };
        parts.spawn_on(named("the upkeep of the disks", upkeep), &self.data);

        let tls = Arc::clone(&credentials.control_client);
        let link = Arc::new(LeaderLink::new(Arc::clone(cluster), seams.network.clone(), tls));
        let view = load::LoadView::default();
        let sampling = load::run(view.clone(), seams.clock.clone(), seams.shutdown.clone());
        parts.spawn(named("the sampling of load", sampling));
        let beat = heartbeat::Beat {
            cluster: Arc::clone(cluster),
            link: Arc::clone(&link),
            store: store.clone(),
            orders: orders::Orders::new(store.clone()),
            load: view,
            in_flight_bytes,
            lost: recovered
                .iter()
                .flat_map(|report| report.lost.iter().copied())
                .collect(),
        };
        parts.spawn(named(
            "the heartbeat",
            heartbeat::run(beat, seams.shutdown.clone()),
        ));
        let reporter = inventory::Reporter {
            cluster: Arc::clone(cluster),
            link,
            store: store.clone(),
        };
        parts.spawn(named(
            "the inventory",
            inventory::run(reporter, seams.shutdown.clone()),
        ));
        Ok(())
    }

    /// Waits until the process is told to end, or until a part ends by itself.
    async fn watch(
        &self,
        parts: &mut JoinSet<Result<&'static str, Error>>,
        group: &Group<ClusterMachine>,
    ) -> Result<(), Error> {
        let mut status = group.watch();
        let broken = status.wait_for(|status| status.fatal.is_some());
        tokio::select! {
            // First, since the parts end by themselves once they are told to.
            biased;
            () = self.seams.shutdown.triggered() => Ok(()),
            broken = broken => {
                let reason = broken.ok().and_then(|status| status.fatal.clone()).unwrap_or_default();
                Err(Error::Group(consensus::Error::Fatal { reason }))
            }
            ended = parts.join_next() => match ended {
                Some(Ok(Err(error))) => Err(error),
                Some(Ok(Ok(_))) if self.seams.shutdown.is_triggered() => Ok(()),
                Some(Ok(Ok(part))) => Err(Error::Ended { part, reason: "nobody asked it to".to_owned() }),
                Some(Err(error)) => Err(Error::Ended { part: "a part", reason: error.to_string() }),
                None => Err(Error::Ended { part: "everything", reason: String::new() }),
            },
        }
    }

    async fn end(
        &self,
        parts: &mut JoinSet<Result<&'static str, Error>>,
        group: &Group<ClusterMachine>,
        store: Option<&Store>,
    ) {
        // Another leads before this one is gone.
        group.shutdown().await;
        self.seams.shutdown.trigger();
        while let Some(ended) = parts.join_next().await {
            match ended {
                Ok(Ok(part)) => tracing::debug!(part, "ended"),
                Ok(Err(error)) => tracing::warn!(error = %common::error::chain(&error), "ended badly"),
                Err(error) => tracing::error!(%error, "a part of the process broke"),
            }
        }
        if let Some(store) = store
            && let Err(error) = store.close().await
        {
            tracing::warn!(%error, "the last checkpoint could not be written; the next start reads more");
        }
    }
}

async fn named(
    part: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
) -> Result<&'static str, Error> {
    work.await;
    Ok(part)
}
