//! The process: opens what it keeps, serves, runs the loops, ends in order.
//!
//! Order at the start: identity, listener, names group, services, loops. The listener is bound before the group is
//! opened, because the address that others are told is the one that is bound. Order at the end: the lead is handed over
//! and the member ends while its services still answer the others, then the services end.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::address;
use common::error::Kind;
use common::net::{Listen, Network, turn_away_during};
use common::random::Random;
use common::reload::Reload;
use common::shutdown::Shutdown;
use common::standing::Standing;
use common::time::Clock;
use common::tls::{ALPN_CONTROL, Identity, Reloadable, Role};
use consensus::{Group, MemberRecord, Settings};
use proto::CONTROL_MESSAGE_BYTES_MAX;
use proto::control::{Limits as ControlLimits, Routes, serve};
use proto::names::v1::names_server::NamesServer;
use proto::registry::v1::registry_server::RegistryServer;
use proto::trash::v1::trash_server::TrashServer;

use crate::admission::Admission;
use crate::api::{NamesService, RegistryService, TrashService};
use crate::background;
use crate::board::Board;
use crate::config::Config;
use crate::context::Context;
use crate::keyring::Keyring;
use crate::metrics::Metrics;
use crate::open_sessions::OpenSessions;
use crate::passwords::Passwords;
use crate::store::NamesMachine;

/// How long handing over the lead may take.
const HAND_OVER_TIME_MAX: Duration = Duration::from_secs(5);
/// The largest request of a cluster: a full batch of publications, or a report of a cluster with many nodes.
const CLUSTER_REQUEST_BYTES_MAX: usize = 8 << 20;

/// Where time, randomness and connections come from, when to end, and where counters go.
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

/// A supernode could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] crate::config::Error),
    /// The identity cannot be used.
    #[error("cannot use the identity in identity_dir")]
    Identity(#[from] common::tls::Error),
    /// The address cannot be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// As configured.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The data directory cannot be created.
    #[error("cannot create the data directory {path}")]
    Directory {
        /// As configured.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The names group could not be opened, or its member ended by itself.
    #[error("the names group's member cannot go on")]
    Group(#[source] consensus::Error),
    /// Counters of the same name are registered already.
    #[error("cannot register counters")]
    Metrics(#[from] prometheus::Error),
    /// The server broke down.
    #[error("the control server broke down")]
    Serve(#[source] tonic::transport::Error),
}

impl Error {
    /// What can be done about it.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Config(_) | Error::Identity(_) | Error::Metrics(_) => Kind::Invalid,
            Error::Listen { .. } | Error::Directory { .. } => Kind::Retry,
            Error::Group(error) => error.kind(),
            Error::Serve(_) => Kind::Fatal,
        }
    }
}

/// Runs a supernode until `seams.shutdown` is given.
///
/// # Errors
/// It cannot start, or its member of the names group had to end.
pub async fn run(config: Config, seams: Seams) -> Result<(), Error> {
    config.validate()?;
    let identity = Identity::load(&config.identity_dir)?;
    let metrics = Metrics::new(&seams.metrics)?;
    make_private(&config.data_dir)?;
    let listening = seams.network.bind(&config.listen).await;
    let mut listener = listening.map_err(|source| Error::Listen {
        address: config.listen.clone(),
        source,
    })?;
    let tls = Reloadable::new(identity.server_config(ALPN_CONTROL)?);
    let settings = settings(&config, &seams, &identity, listener.as_ref())?;
    let greeting = settings.greeting();
    let opening = seams.shutdown.guard(Group::open(settings, NamesMachine));
    let group = match turn_away_during(listener.as_mut(), greeting, Box::pin(opening)).await {
        None => return Ok(()),
        Some(opened) => opened.map_err(Error::Group)?,
    };
    let status = group.status();
    tracing::info!(
        group = %status.cluster_id, node = %status.node_id, listen = listener.address(), "supernode started"
    );
    let context = Arc::new(context(config, &seams, tls, group, metrics));
    serve_until_told(context, listener, &seams).await
}

/// Creates the data directory for this user alone: password hashes and signing keys are in it.
fn make_private(directory: &Path) -> Result<(), Error> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    made.map_err(|source| Error::Directory {
        path: directory.to_owned(),
        source,
    })
}

fn settings(
    config: &Config,
    seams: &Seams,
    identity: &Identity,
    listener: &dyn Listen,
) -> Result<Settings, Error> {
    let or = |text: &str, fallback: &str| if text.is_empty() { fallback } else { text }.to_owned();
    let control = address::announced(&config.advertise, &listener.address(), &config.join);
    let control = control.map_err(|error| crate::config::Error {
        key: "advertise",
        reason: error.advice(),
    })?;
    let name = or(&config.name, &control);
    let host = or(&config.host, &name);
    Ok(Settings {
        directory: config.data_dir.clone(),
        label: "names".to_owned(),
        role: Role::Supernode,
        tls: Arc::new(identity.client_config(ALPN_CONTROL)?),
        record: MemberRecord {
            control,
            data: String::new(),
            zone: or(&config.zone, &host),
            host,
            name,
            level: consensus::FeatureLevel::FIRST,
        },
        join: config.join.clone(),
        found: config.found,
        voters: config.voters as usize,
        timings: consensus::Timings::default(),
        limits: consensus::Limits {
            disk_reserve_bytes: config.limits.disk_reserve_bytes.get(),
            ..consensus::Limits::default()
        },
        clock: seams.clock.clone(),
        random: seams.random.clone(),
        network: seams.network.clone(),
        // The member ends when the lead is handed over, not at once.
        shutdown: Shutdown::new(),
        runtime: None,
    })
}

fn context(
    config: Config,
    seams: &Seams,
    tls: Reloadable,
    group: Group<NamesMachine>,
    metrics: Metrics,
) -> Context {
    let (clock, limits) = (&seams.clock, &config.limits);
    let wait_max = limits.queue_wait_max.get();
    let queued = limits.requests_queued_max;
    Context {
        keyring: Keyring::default(),
        board: Board::new(clock.clone()),
        sessions: OpenSessions::default(),
        passwords: Passwords::new(
            limits.password_checks_max,
            limits.password_checks_queued_max,
            clock.clone(),
            seams.random.clone(),
        ),
        clients: Admission::new(limits.requests_in_flight_max, queued, wait_max, clock.clone()),
        clusters: Admission::new(
            limits.cluster_requests_in_flight_max,
            queued,
            wait_max,
            clock.clone(),
        ),
        waits: Admission::new(limits.upload_waits_max, 0, wait_max, clock.clone()),
        trash_due: Arc::default(),
        tls,
        clock: clock.clone(),
        random: seams.random.clone(),
        metrics,
        group,
        config,
        reload: seams.reload.clone(),
    }
}

async fn serve_until_told(
    context: Arc<Context>,
    listener: Box<dyn Listen>,
    seams: &Seams,
) -> Result<(), Error> {
    let serving = Shutdown::new();
    let server = tokio::spawn(serve(
        listener,
        context.tls.clone(),
        routes(&context),
        serving.clone(),
        seams.clock.clone(),
        ControlLimits::default(),
    ));
    let loops = background::start(&context, &serving);
    let group = context.group.clone();
    seams.standing.set_quorum(move || group.sees_quorum());
    seams.standing.set_ready(true);
    let ended = tokio::select! {
        () = seams.shutdown.triggered() => None,
        reason = member_ended(&context.group) => Some(reason),
    };
    seams.standing.set_ready(false);
    if ended.is_none() {
        tracing::info!("supernode ends");
    }
    let handing_over = context.group.shutdown();
    if context
        .clock
        .timeout(HAND_OVER_TIME_MAX, handing_over)
        .await
        .is_none()
    {
        tracing::warn!("the lead could not be handed over in time");
    }
    serving.trigger();
    loops.join_all().await;
    match server.await {
        Ok(outcome) => outcome.map_err(Error::Serve)?,
        Err(error) => tracing::warn!(%error, "the control server ended oddly"),
    }
    match ended {
        None => Ok(()),
        Some(reason) => Err(Error::Group(consensus::Error::Fatal { reason })),
    }
}

fn routes(context: &Arc<Context>) -> Routes {
    let request_bytes_max =
        usize::try_from(context.config.limits.request_bytes_max.get()).unwrap_or(usize::MAX);
    let names = NamesServer::new(NamesService(Arc::clone(context)))
        .max_decoding_message_size(request_bytes_max)
        .max_encoding_message_size(CONTROL_MESSAGE_BYTES_MAX);
    let registry = RegistryServer::new(RegistryService(Arc::clone(context)))
        .max_decoding_message_size(CLUSTER_REQUEST_BYTES_MAX)
        .max_encoding_message_size(CONTROL_MESSAGE_BYTES_MAX);
    let trash = TrashServer::new(TrashService(Arc::clone(context)))
        .max_decoding_message_size(request_bytes_max)
        .max_encoding_message_size(CONTROL_MESSAGE_BYTES_MAX);
    context
        .group
        .routes(Routes::new().with(names).with(trash).with(registry))
}

/// Resolves when the member has ended by itself, with the reason.
async fn member_ended(group: &Group<NamesMachine>) -> String {
    let mut status = group.watch();
    let ended = status.wait_for(|status| status.fatal.is_some()).await;
    match ended {
        Ok(status) => status.fatal.clone().unwrap_or_default(),
        Err(_) => "the member's status is gone".to_owned(),
    }
}
