//! How a member comes to be: founds, joins, or goes on.
//!
//! Invariants:
//! - a group is founded once: only on an empty directory, only when told to, and not where an address to join may belong
//!   to a group (`founding.rs`); the cluster id is durable before the first entry;
//! - a join is asked for under a nonce that is durable, so that a lost answer makes no second member;
//! - from [`Stage::Member`] on, missing files are a fault and never a reason to begin anew: a member that forgot its
//!   vote could elect two leaders;
//! - one identity lives once ([`rivals`]): a copied directory does not start while the original runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use common::ids::{ClusterId, JoinNonce, NodeId};
use futures::future::BoxFuture;
use openraft::{Config, EmptyNode, SnapshotPolicy};
use proto::error::RpcError;
use proto::raft::v1 as pb;
use tonic::{Code, Request};

use crate::cluster_time::Timekeeper;
use crate::directory::{Directory, refusal};
use crate::engine::Raft;
use crate::error::Error;
use crate::founding::{find_group, others};
use crate::health::Health;
use crate::log::LogStore;
use crate::machine::Machine;
use crate::rivals;
use crate::schema::{Identity, LOG_FORMAT, Owner, Stage};
use crate::settings::Settings;
use crate::space::SpaceBoard;
use crate::state::StateMachine;
use crate::transport::{self, Links, Peers, Seed, record_out};

const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
const ASK_AGAIN_FIRST: Duration = Duration::from_millis(100);
const ASK_AGAIN_LONGEST: Duration = Duration::from_millis(500);
/// Entries in one message between members.
const ENTRIES_PER_MESSAGE_MAX: u64 = 512;

/// A member whose Raft runs.
pub(crate) struct Started {
    pub(crate) directory: Directory,
    pub(crate) raft: Raft,
    pub(crate) log: LogStore,
    pub(crate) state: StateMachine,
    pub(crate) peers: Arc<Peers>,
    pub(crate) timekeeper: Arc<Timekeeper>,
    pub(crate) health: Health,
    /// The nonce under which this member joined or founded.
    pub(crate) nonce: Vec<u8>,
    pub(crate) space: Arc<SpaceBoard>,
}

pub(crate) async fn start<M: Machine>(settings: &Settings, machine: M) -> Result<Started, Error> {
    let (directory, seed, identity) = identify(settings).await?;
    let health = Health::new();
    let (state, log) = open_stores(settings, machine, &directory, &identity, &health)?;
    run(settings, directory, seed, identity, health, state, log).await
}

/// Locks the directory and returns who this member is in its group. Boxed, as [`run`] is.
fn identify(settings: &Settings) -> BoxFuture<'_, Result<(Directory, Seed, Identity), Error>> {
    Box::pin(async move {
        let directory = Directory::lock(&settings.directory)?;
        let seed = Seed::new(settings);
        let identity = match directory.identity(&settings.label)? {
            Some(identity) => identity,
            None => {
                let identity = begin(settings, &seed).await?;
                directory.save(&identity)?;
                identity
            }
        };
        if identity.stage() != Stage::Joining {
            return Ok((directory, seed, identity));
        }
        let joined = join(settings, &seed, &identity).await?;
        directory.save(&joined)?;
        Ok((directory, seed, joined))
    })
}

/// The first identity of an empty directory: a founder's, or a joiner's.
async fn begin(settings: &Settings, seed: &Seed) -> Result<Identity, Error> {
    let nonce = JoinNonce::new(settings.random.bytes());
    if settings.found {
        match find_group(settings, seed).await? {
            None => {
                let cluster = ClusterId::new(settings.random.bytes());
                tracing::info!(%cluster, group = %settings.label, "founding a group");
                let founder = Identity::new(&settings.label, Stage::Founding, nonce);
                return Ok(founder.with_ids(Stage::Founding, cluster, NodeId::new(1)));
            }
            Some(address) => {
                tracing::warn!(%address, "not founding: there is a group already; joining it instead");
            }
        }
    }
    Ok(Identity::new(&settings.label, Stage::Joining, nonce))
}

/// Asks around until a leader has made us a member.
async fn join(settings: &Settings, seed: &Seed, identity: &Identity) -> Result<Identity, Error> {
    if others(settings).next().is_none() {
        return Err(Error::Settings {
            reason: "there is nobody to join: give the address of a member, or found a group".to_owned(),
        });
    }
    let mut pause = ASK_AGAIN_FIRST;
    loop {
        for address in others(settings) {
            let asked = settings
                .shutdown
                .guard(ask_to_join(settings, seed, identity, address));
            match asked.await {
                None => return Err(Error::Closed),
                Some(Ok(joined)) => return Ok(joined),
                Some(Err(error @ (Error::Refused { .. } | Error::Settings { .. }))) => return Err(error),
                Some(Err(error)) => tracing::debug!(%address, %error, "cannot join yet"),
            }
        }
        let rest = settings.shutdown.guard(settings.clock.sleep(pause)).await;
        rest.ok_or(Error::Closed)?;
        pause = (pause * 2).min(ASK_AGAIN_LONGEST);
    }
}

async fn ask_to_join(
    settings: &Settings,
    seed: &Seed,
    identity: &Identity,
    address: &str,
) -> Result<Identity, Error> {
    let failed = |status: tonic::Status| {
        let refused = matches!(
            status.code(),
            Code::PermissionDenied | Code::FailedPrecondition | Code::InvalidArgument | Code::Unimplemented
        );
        let reason = format!("{address}: {}", RpcError::from(status).message);
        match refused {
            true => Error::Refused { reason },
            false => Error::retry(reason),
        }
    };
    let found = seed.describe(address).await.map_err(failed)?;
    let leader = found.leader.ok_or_else(|| Error::retry("there is no leader"))?;
    // The leader may have told a new address to nobody yet but the one that we asked.
    let leader_address = match leader.node == found.node {
        true => address.to_owned(),
        false => leader.control_address,
    };
    let mut client = seed.client(&leader_address)?;
    let mut request = Request::new(pb::JoinRequest {
        envelope: seed.envelope(),
        nonce: identity.nonce.clone().into(),
        member: Some(record_out(0, &settings.record)),
    });
    request.set_timeout(JOIN_TIMEOUT);
    let reply = client.join(request).await.map_err(failed)?.into_inner();
    let cluster = ClusterId::try_from(reply.cluster_id.as_ref()).map_err(Error::fatal)?;
    tracing::info!(%cluster, node = reply.node, "this process is a member now");
    Ok(identity
        .clone()
        .with_ids(Stage::Joined, cluster, NodeId::new(reply.node)))
}

/// Starts Raft on the open stores. Boxed, so that openraft is compiled once, in this crate, and not again in every crate
/// that opens a group.
fn run(
    settings: &Settings,
    directory: Directory,
    seed: Seed,
    identity: Identity,
    health: Health,
    state: StateMachine,
    log: LogStore,
) -> BoxFuture<'_, Result<Started, Error>> {
    Box::pin(async move {
        let cluster = cluster_of(&directory, &identity)?;
        let timekeeper = Arc::new(Timekeeper::new(
            settings.clock.clone(),
            state.shared.position.subscribe(),
            settings.timings.tick,
        ));
        let member = transport::Identity {
            label: settings.label.clone(),
            cluster,
            node: NodeId::new(identity.node),
            incarnation: settings.random.bytes(),
        };
        let peers = Arc::new(Peers::new(seed, member, state.shared.members.subscribe()));
        if identity.stage() == Stage::Member {
            let members = state.shared.members.borrow().clone();
            let known: Vec<String> = members
                .iter()
                .map(|member| member.record.control.clone())
                .collect();
            rivals::look(settings, &peers, &known).await?;
        }
        let space = Arc::new(SpaceBoard::default());
        let links = Links {
            space: Arc::clone(&space),
            state: Arc::clone(&state.shared),
            peers: Arc::clone(&peers),
            timekeeper: Arc::clone(&timekeeper),
            clock: settings.clock.clone(),
            snapshot_timeout: settings.timings.snapshot_timeout,
        };
        let config = Arc::new(config(settings, cluster)?);
        let raft = Raft::new(identity.node, config, links, log.clone(), state.clone())
            .await
            .map_err(|fatal| refusal(directory.path(), fatal))?;
        if identity.stage() == Stage::Founding && log.is_pristine() {
            let alone = BTreeMap::from([(identity.node, EmptyNode {})]);
            common::fail::point("raft.founded:before");
            raft.initialize(alone).await.map_err(Error::fatal)?;
            common::fail::point("raft.founded:after");
        }
        let mut member = identity.clone();
        member.stage = Stage::Member.into();
        if member != identity {
            directory.save(&member)?;
        }
        Ok(Started {
            directory,
            raft,
            log,
            state,
            peers,
            timekeeper,
            health,
            nonce: identity.nonce,
            space,
        })
    })
}

fn cluster_of(directory: &Directory, identity: &Identity) -> Result<ClusterId, Error> {
    ClusterId::try_from(identity.cluster.as_slice()).map_err(|error| refusal(directory.path(), error))
}

/// The state machine first: what it is durable up to decides what the log may let go of.
fn open_stores<M: Machine>(
    settings: &Settings,
    machine: M,
    directory: &Directory,
    identity: &Identity,
    health: &Health,
) -> Result<(StateMachine, LogStore), Error> {
    let refuse = |error: std::io::Error| refusal(directory.path(), error);
    let cluster = cluster_of(directory, identity)?;
    let create = identity.stage() != Stage::Member;
    let durable = Arc::new(AtomicU64::new(0));
    let state = StateMachine::open(
        directory.path(),
        cluster,
        machine,
        create,
        settings,
        Arc::clone(&durable),
        health.clone(),
    )
    .map_err(refuse)?;
    let owner = Owner {
        format: LOG_FORMAT,
        cluster: identity.cluster.clone(),
        node: identity.node,
    };
    let log = LogStore::open(
        &directory.log_path(),
        owner,
        create,
        settings.limits.log_cache_bytes,
        durable,
        health.clone(),
    )
    .map_err(refuse)?;
    Ok((state, log))
}

fn config(settings: &Settings, cluster: ClusterId) -> Result<Config, Error> {
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let timings = &settings.timings;
    // A follower stands for election after openraft's lease, which is its longest timeout, and a random timeout on
    // top: so both together are between ours.
    let lease = timings.election_max / 2;
    let election_min = timings
        .election_min
        .saturating_sub(lease)
        .max(timings.heartbeat * 2);
    Config {
        cluster_name: format!("{}-{cluster}", settings.label),
        heartbeat_interval: millis(timings.heartbeat),
        election_timeout_min: millis(election_min),
        election_timeout_max: millis(lease),
        install_snapshot_timeout: millis(timings.snapshot_timeout),
        max_payload_entries: ENTRIES_PER_MESSAGE_MAX,
        // `background/upkeep.rs` decides, by bytes as well.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        enable_pre_vote: Some(true),
        // A restarted leader has lost its lease and its clock.
        enable_leader_restore: Some(false),
        // A member that lost its log must not quietly become a voter again.
        allow_log_reversion: Some(false),
        ..Config::default()
    }
    .validate()
    .map_err(|error| Error::Settings {
        reason: error.to_string(),
    })
}
