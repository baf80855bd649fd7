//! This node's heartbeat: says how it is and what it has carried out, learns what its leader says, and passes orders on.
//!
//! Invariants: a heartbeat waits for no disk; [`super::orders`] carries out what it brings. The leader's epoch is durable
//! on the disks before anything it says is acted on, and an answer of a lower epoch is ignored (P7). What was carried out
//! is reported until a leader has committed it, so that a lost answer costs only a repetition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use common::ids::{AttemptId, Epoch, KeyId, NodeId};
use common::shutdown::Shutdown;
use common::time::ClusterTime;
use prometheus::IntGauge;
use proto::bulk::grant::{DataPlaneKey, DataPlaneKeys};
use proto::error::RpcError;
use proto::names::v1::Load;
use proto::nodes::v1 as wire;
use proto::ticket::VerifyingKey;

use super::load::LoadView;
use super::orders::Orders;
use super::{LeaderLink, Learned};
use crate::cluster::Cluster;
use crate::cluster::api::heartbeat::{E_RIVAL, REPORTS_PER_REQUEST_MAX};
use crate::store::Store;

/// Pause before a heartbeat that could not be delivered is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// So many refusals in a row as a second process of one identity mean that the other is alive.
const REFUSALS_BEFORE_ERROR: u32 = 50;
/// Damaged records looked at for one heartbeat.
const SUSPECTS_MAX: usize = 4096;

/// What the heartbeat of a node needs.
pub(crate) struct Beat {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) link: Arc<LeaderLink>,
    pub(crate) store: Store,
    pub(crate) orders: Orders,
    pub(crate) load: LoadView,
    /// Memory promised to chunks that are being received.
    pub(crate) in_flight_bytes: IntGauge,
    /// Attempts which recovery found missing.
    pub(crate) lost: Vec<AttemptId>,
}

struct Unreported {
    incarnation: [u8; 16],
    suspect: BTreeSet<AttemptId>,
    /// Reported as suspect before, so that they are said once per leadership.
    said: BTreeSet<AttemptId>,
    said_to: Epoch,
}

/// Runs until `shutdown` is given.
pub(crate) async fn run(beat: Beat, shutdown: Shutdown) {
    let mut unreported = Unreported {
        incarnation: beat.cluster.random.bytes(),
        suspect: beat.lost.iter().copied().collect(),
        said: BTreeSet::new(),
        said_to: Epoch::default(),
    };
    let period = beat.cluster.config.timings.heartbeat_period.get();
    let mut status = beat.cluster.group.watch();
    let (mut failing, mut refused) = (false, 0_u32);
    while !shutdown.is_triggered() {
        let leader = status
            .borrow_and_update()
            .leader
            .as_ref()
            .map(|leader| leader.node_id);
        let pause = match one(&beat, &mut unreported).await {
            Ok(true) => Duration::ZERO,
            Ok(false) => period,
            Err(error) => {
                if error.code == E_RIVAL {
                    // A restart is refused for a moment, until the process before counts as silent.
                    if refused == REFUSALS_BEFORE_ERROR {
                        tracing::error!(node = %beat.cluster.node_id(), "{}; this process stores and serves nothing until the \
                            other is stopped: stop the copy, and start a further node with an empty data directory", error.message);
                    }
                    refused += 1;
                } else if !failing {
                    tracing::info!(%error, "no heartbeat is heard");
                }
                failing = true;
                let wait = beat.cluster.clock.sleep(RETRY_PAUSE.min(period));
                shutdown.guard(wait).await;
                continue;
            }
        };
        (failing, refused) = (false, 0);
        let new_leader = async {
            while status.changed().await.is_ok() {
                let now = status
                    .borrow_and_update()
                    .leader
                    .as_ref()
                    .map(|leader| leader.node_id);
                if now.is_some() && now != leader {
                    return;
                }
            }
            std::future::pending().await
        };
        let news = async {
            tokio::select! {
                () = new_leader => {}
                () = beat.orders.progress() => {}
            }
        };
        let wait = beat.cluster.clock.timeout(pause, news);
        shutdown.guard(wait).await;
    }
}

/// One heartbeat; returns whether the next should follow at once.
async fn one(beat: &Beat, unreported: &mut Unreported) -> Result<bool, RpcError> {
    collect_suspects(beat, unreported);
    let request = request(beat, unreported);
    let dropped: Vec<AttemptId> = read_attempts(&request.dropped_attempts);
    let suspect: Vec<AttemptId> = read_attempts(&request.suspect_attempts);
    let reply = beat.link.heartbeat(request).await?;
    let more = beat.orders.reported(&dropped);
    for attempt in suspect {
        unreported.suspect.remove(&attempt);
        unreported.said.insert(attempt);
    }
    if reply.rival_heard {
        tracing::error!(node = %beat.cluster.node_id(),
            "another process says that it is this node and is refused: stop it, it runs on a copy of this data directory");
    }
    let epoch = Epoch::new(reply.epoch);
    if !beat.orders.obeys_soon(epoch, &beat.cluster.clock).await {
        return Ok(false);
    }
    if epoch != unreported.said_to {
        unreported.said_to = epoch;
        unreported.said.clear();
    }
    learn(beat, epoch, &reply);
    let drops = read_attempts(&reply.drop_attempts);
    if !drops.is_empty() {
        beat.orders.drop_attempts(epoch, &drops);
    }
    Ok(more)
}

fn collect_suspects(beat: &Beat, unreported: &mut Unreported) {
    let found = beat
        .store
        .suspects(SUSPECTS_MAX)
        .into_iter()
        .map(|item| item.attempt);
    let fresh: Vec<AttemptId> = found
        .filter(|attempt| !unreported.said.contains(attempt))
        .collect();
    unreported.suspect.extend(fresh);
    unreported.suspect.extend(beat.store.take_lost());
}

fn request(beat: &Beat, unreported: &Unreported) -> wire::HeartbeatRequest {
    let usage = beat.store.usage();
    let disks: Vec<wire::DiskReport> = usage
        .iter()
        .map(|disk| wire::DiskReport {
            disk_id: disk.disk.bytes().to_vec().into(),
            capacity_bytes: disk.capacity.get(),
            used_bytes: disk.used.get(),
            free_bytes: disk.free.get(),
            refuses_because: disk.refuses_because.clone().unwrap_or_default(),
            path: disk.path.clone(),
        })
        .collect();
    let sum = |field: fn(&wire::DiskReport) -> u64| disks.iter().map(field).fold(0, u64::saturating_add);
    let bytes = |attempts: &BTreeSet<AttemptId>| {
        let first = attempts.iter().take(REPORTS_PER_REQUEST_MAX);
        first.map(|attempt| attempt.to_bytes().to_vec().into()).collect()
    };
    wire::HeartbeatRequest {
        cluster_id: beat.cluster.cluster_id().bytes().to_vec().into(),
        node_id: beat.cluster.node_id().get(),
        incarnation: unreported.incarnation.to_vec().into(),
        load: Some(Load {
            cpu_permille: beat.load.cpu_permille(),
            memory_permille: beat.load.memory_permille(),
            capacity_bytes: sum(|disk| disk.capacity_bytes),
            used_bytes: sum(|disk| disk.used_bytes),
            free_bytes: sum(|disk| {
                if disk.refuses_because.is_empty() {
                    disk.free_bytes
                } else {
                    0
                }
            }),
            in_flight_bytes: u64::try_from(beat.in_flight_bytes.get()).unwrap_or(0),
        }),
        disks,
        epoch_seen: beat.store.epoch().get(),
        dropped_attempts: beat
            .orders
            .dropped(REPORTS_PER_REQUEST_MAX)
            .iter()
            .map(|attempt| attempt.to_bytes().to_vec().into())
            .collect(),
        suspect_attempts: bytes(&unreported.suspect),
    }
}

fn learn(beat: &Beat, epoch: Epoch, reply: &wire::HeartbeatReply) {
    let keys = reply
        .keys
        .iter()
        .map(|key| DataPlaneKey::new(KeyId::new(key.key_id), &key.key))
        .collect();
    let peers = reply
        .nodes
        .iter()
        .map(|node| (NodeId::new(node.node_id), node.data.clone()))
        .collect::<BTreeMap<_, _>>();
    beat.cluster.context.learn(Learned {
        time: ClusterTime::from_millis(reply.cluster_time_millis),
        epoch,
        keys: DataPlaneKeys::new(keys),
        peers,
    });
    // The leader itself hears the names layer at first hand.
    if beat.cluster.group.epoch().is_none()
        && let Some(names_time) = reply.names_time_millis
    {
        let keys = reply
            .names_keys
            .iter()
            .map(|key| VerifyingKey::new(KeyId::new(key.key_id), key.key.to_vec()))
            .collect();
        beat.cluster
            .names
            .learn(ClusterTime::from_millis(names_time), keys);
    }
}

/// Attempt ids from the wire; what is not one is left out.
pub(super) fn read_attempts(wire: &[prost::bytes::Bytes]) -> Vec<AttemptId> {
    wire.iter()
        .filter_map(|bytes| AttemptId::try_from(bytes.as_ref()).ok())
        .collect()
}
