//! Publishes sealed versions: asks the names layer in batches, and commits what it decided.
//!
//! Invariants: a version is asked about until its outcome is committed here; no answer is ever taken for a refusal
//! (P2, P4). One question is on its way at a time, and what is sealed meanwhile goes with the next. Whoever waits for
//! an outcome is told when the names layer has answered, which has committed it; that it is committed here as well
//! spares the next leader the question and can wait a moment for others to share the commit.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::error::Kind;
use common::ids::{UploadId, VersionId};
use common::retry::Schedule;
use parking_lot::Mutex;
use proto::cluster_log::v1 as log;
use proto::error::RpcError;
use proto::registry::v1 as wire;
use tokio::sync::mpsc;

use crate::cluster::Cluster;
use crate::cluster::leadership::Leadership;
use crate::cluster::store::Reply;
use crate::cluster::store::versions::{self, VersionRow};

/// Versions in one question.
const BATCH_MAX: u32 = 1000;
/// Answered questions whose outcomes are not committed here yet.
const UNRECORDED_MAX: usize = 16;
/// How long answers are gathered for one commit.
const GATHER: Duration = Duration::from_millis(20);
/// How often to look when nothing was sealed.
const IDLE_PERIOD: Duration = Duration::from_secs(1);
/// The state's generation: founded once, never rebuilt.
pub(crate) const GENERATION: u64 = 1;

/// Between questions that failed: no budget, since an outcome must be known in the end.
const RETRY: Schedule = Schedule {
    first: Duration::from_millis(20),
    longest: Duration::from_secs(1),
    tries_max: u32::MAX,
};

/// Versions that are being decided. Guards against asking twice at once.
type UnderWay = Mutex<BTreeSet<VersionId>>;

/// What one question brought.
#[derive(Default)]
struct Answered {
    outcomes: Vec<wire::PublishOutcome>,
    /// Outcomes recorded earlier, of which the names layer knows now.
    acknowledged: Vec<VersionId>,
}

pub(super) async fn run(cluster: Arc<Cluster>, leadership: Arc<Leadership>) {
    let under_way = UnderWay::default();
    let (answered, unrecorded) = mpsc::channel(UNRECORDED_MAX);
    tokio::join!(
        ask_all(&cluster, &leadership, &under_way, answered),
        record_all(&cluster, &leadership, &under_way, unrecorded),
    );
}

async fn ask_all(
    cluster: &Arc<Cluster>,
    leadership: &Leadership,
    under_way: &UnderWay,
    answered: mpsc::Sender<Answered>,
) {
    let mut backoff = RETRY.start();
    let mut idle = false;
    loop {
        match round(cluster, leadership, under_way, &answered, idle).await {
            Ok(0) => {
                backoff.reset();
                idle = super::wait(&cluster.clock, IDLE_PERIOD, &leadership.sealed).await;
                cluster.outcomes.sweep();
            }
            Ok(_) => {
                backoff.reset();
                idle = false;
            }
            Err(error) => {
                tracing::debug!(%error, "cannot publish now");
                let wait = backoff.next(&cluster.random, error.retry_after);
                cluster.clock.sleep(wait.unwrap_or(IDLE_PERIOD)).await;
            }
        }
    }
}

/// Asks about what is sealed and not yet asked about; returns how many that were.
async fn round(
    cluster: &Arc<Cluster>,
    leadership: &Leadership,
    under_way: &UnderWay,
    answered: &mpsc::Sender<Answered>,
    idle: bool,
) -> Result<usize, RpcError> {
    let batch = next_batch(cluster, under_way).await?;
    let acknowledged = if batch.is_empty() && !idle {
        Vec::new()
    } else {
        cluster
            .read_local(|connection| versions::outcomes_unreported(connection, BATCH_MAX))
            .await?
    };
    if batch.is_empty() && acknowledged.is_empty() {
        return Ok(0);
    }
    // Waiting here, not after the answer, keeps the number of unrecorded answers bounded.
    let Ok(place) = answered.reserve().await else {
        return Ok(0);
    };
    let asked: Vec<VersionId> = batch.iter().map(|row| row.version).collect();
    under_way.lock().extend(&asked);
    match ask(cluster, leadership, &batch, &acknowledged).await {
        Ok(outcomes) => {
            for outcome in &outcomes {
                cluster.outcomes.decided(outcome);
            }
            place.send(Answered {
                outcomes,
                acknowledged,
            });
            Ok(asked.len())
        }
        Err(error) => {
            release(under_way, &asked);
            Err(error)
        }
    }
}

async fn record_all(
    cluster: &Cluster,
    leadership: &Leadership,
    under_way: &UnderWay,
    mut unrecorded: mpsc::Receiver<Answered>,
) {
    while let Some(mut answered) = unrecorded.recv().await {
        cluster.clock.sleep(GATHER).await;
        while let Ok(more) = unrecorded.try_recv() {
            answered.outcomes.extend(more.outcomes);
            answered.acknowledged.extend(more.acknowledged);
        }
        let outcomes = answered.outcomes.clone();
        match record(cluster, leadership, answered).await {
            // Again, for those who came between the answer and the commit.
            Ok(()) => outcomes
                .iter()
                .for_each(|outcome| cluster.outcomes.decided(outcome)),
            Err(error) => tracing::warn!(%error, "outcomes are known but not recorded yet"),
        }
        let versions: Vec<VersionId> = outcomes.iter().map(version_of).collect();
        release(under_way, &versions);
        leadership.sealed.notify_one();
    }
}

/// The version that an outcome is about.
pub(crate) fn version_of(outcome: &wire::PublishOutcome) -> VersionId {
    UploadId::new(outcome.upload_id).version()
}

fn release(under_way: &UnderWay, versions: &[VersionId]) {
    let mut set = under_way.lock();
    for version in versions {
        set.remove(version);
    }
}

async fn next_batch(cluster: &Cluster, under_way: &UnderWay) -> Result<Vec<VersionRow>, RpcError> {
    let busy = under_way.lock().clone();
    let limit = BATCH_MAX + u32::try_from(busy.len()).unwrap_or(u32::MAX - BATCH_MAX);
    let mut rows = cluster
        .read_local(move |connection| versions::undecided(connection, VersionId::default(), limit))
        .await?;
    rows.retain(|row| !busy.contains(&row.version));
    rows.truncate(BATCH_MAX as usize);
    Ok(rows)
}

async fn ask(
    cluster: &Cluster,
    leadership: &Leadership,
    batch: &[VersionRow],
    acknowledged: &[VersionId],
) -> Result<Vec<wire::PublishOutcome>, RpcError> {
    let begun = cluster.clock.moment();
    let items = batch.iter().map(|row| wire::PublishItem {
        upload_id: row.version.upload().get(),
        size: row.size,
        digest: row.digest.bytes().to_vec().into(),
        modified_wall_millis: row.modified.as_millis(),
    });
    let request = wire::PublishRequest {
        cluster_id: cluster.cluster_id().bytes().to_vec().into(),
        generation: GENERATION,
        epoch: leadership.epoch.get(),
        items: items.collect(),
        outcomes_recorded: acknowledged
            .iter()
            .map(|version| version.upload().get())
            .collect(),
    };
    let reply = cluster.supernodes.publish(&request).await?;
    let in_order = reply.outcomes.len() == request.items.len()
        && reply
            .outcomes
            .iter()
            .zip(&request.items)
            .all(|(outcome, item)| outcome.upload_id == item.upload_id);
    if !in_order {
        let message = "the names layer answered other questions than were asked";
        return Err(RpcError::new(Kind::Retry, "E_PUBLISH", message));
    }
    let took = cluster.clock.moment().since(begun);
    cluster.metrics.publish_seconds.observe(took.as_secs_f64());
    cluster.metrics.publish_batch.observe(batch.len() as f64);
    Ok(reply.outcomes)
}

async fn record(cluster: &Cluster, leadership: &Leadership, answered: Answered) -> Result<(), RpcError> {
    let Answered {
        outcomes,
        acknowledged,
    } = answered;
    let refused = outcomes.iter().filter(|outcome| !outcome.published).count();
    let published = outcomes.len() - refused;
    let command = log::PublishOutcomes {
        outcomes: outcomes.into_iter().map(to_log).collect(),
        acknowledged: acknowledged.iter().map(|version| version.get()).collect(),
    };
    let command = log::command::Command::PublishOutcomes(command);
    if let Reply::Outcomes(contradictions @ 1..) = cluster.commit(leadership.epoch, command).await? {
        tracing::error!(
            contradictions,
            "the names layer contradicts what this cluster has recorded"
        );
    }
    if refused > 0 {
        leadership.reclaimable.notify_one();
    }
    let count = |outcome: &str, count: usize| {
        cluster
            .metrics
            .outcomes
            .with_label_values(&[outcome])
            .inc_by(count as u64);
    };
    count("published", published);
    count("refused", refused);
    Ok(())
}

fn to_log(outcome: wire::PublishOutcome) -> log::Outcome {
    log::Outcome {
        upload_id: outcome.upload_id,
        published: outcome.published,
        refused_code: refusal_code(&outcome),
        refused_message: outcome.refused_message,
    }
}

/// A refusal is told from a publication by its code, so it must have one.
pub(crate) fn refusal_code(outcome: &wire::PublishOutcome) -> String {
    if !outcome.published && outcome.refused_code.is_empty() {
        return "E_REFUSED".to_owned();
    }
    outcome.refused_code.clone()
}
