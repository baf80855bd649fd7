//! Publishes sealed versions: asks the names layer in batches, and commits what it decided.
//!
//! Invariants: a version is asked about until its outcome is committed here; no answer is ever taken for a refusal
//! (P2, P4), and no version is in two questions at a time. One of which the names layer can say nothing is asked about
//! again later and keeps none of the others back. Whoever waits for an outcome is told when the names layer has
//! answered, which has committed it; that it is committed here as well spares the next leader the question and can wait
//! a moment for others to share the commit.

use std::sync::Arc;
use std::time::Duration;

use common::error::Kind;
use common::ids::{UploadId, VersionId};
use common::retry::Schedule;
use common::time::Moment;
use futures::stream::{FuturesUnordered, StreamExt};
use proto::cluster_log::v1 as log;
use proto::error::RpcError;
use proto::registry::v1 as wire;
use tokio::sync::mpsc;

use crate::cluster::Cluster;
use crate::cluster::leadership::Leadership;
use crate::cluster::store::Reply;
use crate::cluster::store::versions;
use crate::cluster::unpublished::Sealed;

/// Versions in one question.
const BATCH_MAX: usize = 1000;
/// Questions on their way at a time: what is sealed while one is must not wait for its answer.
const QUESTIONS_MAX: usize = 4;
/// Versions, and outcomes, that one look at the tables brings.
const FOUND_MAX: u32 = 1000;
/// Answered questions whose outcomes are not committed here yet.
const UNRECORDED_MAX: usize = 16;
/// How long answers are gathered for one commit.
const GATHER: Duration = Duration::from_millis(20);
/// How often the tables are looked at for what this leadership does not know of.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// The state's generation: founded once, never rebuilt.
pub(crate) const GENERATION: u64 = 1;

/// Between questions that failed: no budget, since an outcome must be known in the end.
const RETRY: Schedule = Schedule {
    first: Duration::from_millis(20),
    longest: Duration::from_secs(1),
    tries_max: u32::MAX,
};

/// What one question brought.
#[derive(Default)]
struct Answered {
    outcomes: Vec<wire::PublishOutcome>,
    /// Outcomes recorded earlier, of which the names layer knows now.
    acknowledged: Vec<VersionId>,
}

pub(super) async fn run(cluster: Arc<Cluster>, leadership: Arc<Leadership>) {
    let (answered, unrecorded) = mpsc::channel(UNRECORDED_MAX);
    tokio::join!(
        ask_all(&cluster, &leadership, answered),
        record_all(&cluster, &leadership, unrecorded),
    );
}

async fn ask_all(cluster: &Arc<Cluster>, leadership: &Leadership, answered: mpsc::Sender<Answered>) {
    let mut backoff = RETRY.start();
    let mut looked: Option<Moment> = None;
    let mut questions = FuturesUnordered::new();
    loop {
        let now = cluster.clock.moment();
        // An earlier leader's versions, and whatever else this one does not know of.
        let look = looked.is_none_or(|looked| now.since(looked) >= LOOK_PERIOD);
        if look {
            looked = Some(now);
            cluster.outcomes.sweep();
            if let Err(error) = find_forgotten(cluster, leadership).await {
                tracing::debug!(%error, "cannot look for what is to be published");
            }
        }
        if questions.len() < QUESTIONS_MAX
            && let Some(question) = next_question(leadership, look)
        {
            questions.push(question.ask(cluster, leadership, &answered));
            continue;
        }
        let outcome = tokio::select! {
            Some(outcome) = questions.next() => outcome,
            _ = super::wait(&cluster.clock, LOOK_PERIOD, &leadership.unpublished.added) => continue,
        };
        match outcome {
            Ok(()) => backoff.reset(),
            Err(error) => {
                tracing::debug!(%error, "cannot publish now");
                let wait = backoff.next(&cluster.random, error.retry_after);
                cluster.clock.sleep(wait.unwrap_or(LOOK_PERIOD)).await;
            }
        }
    }
}

/// Finds in the tables what nobody has in hand.
async fn find_forgotten(cluster: &Cluster, leadership: &Leadership) -> Result<(), RpcError> {
    let (undecided, unreported) = cluster
        .read_local(|connection| {
            Ok((
                versions::undecided(connection, VersionId::default(), FOUND_MAX)?,
                versions::outcomes_unreported(connection, FOUND_MAX)?,
            ))
        })
        .await?;
    for row in undecided {
        leadership.unpublished.add(row.into());
    }
    leadership.unpublished.recorded(unreported);
    Ok(())
}

/// What is sealed and not yet asked about. What is recorded is told along with it, and otherwise if it is `time`.
fn next_question(leadership: &Leadership, time: bool) -> Option<Question> {
    let list = &leadership.unpublished;
    let batch = list.take(BATCH_MAX);
    let acknowledged = match batch.is_empty() && !time {
        true => Vec::new(),
        false => list.take_recorded(BATCH_MAX),
    };
    let empty = batch.is_empty() && acknowledged.is_empty();
    (!empty).then_some(Question { batch, acknowledged })
}

/// Versions to ask about, and recorded outcomes to tell of.
struct Question {
    batch: Vec<Sealed>,
    acknowledged: Vec<VersionId>,
}

impl Question {
    async fn ask(
        self,
        cluster: &Arc<Cluster>,
        leadership: &Leadership,
        answered: &mpsc::Sender<Answered>,
    ) -> Result<(), RpcError> {
        // Waiting here, not after the answer, keeps the number of unrecorded answers bounded.
        let Ok(place) = answered.reserve().await else {
            return Ok(());
        };
        match ask(cluster, leadership, &self.batch, &self.acknowledged).await {
            Ok(outcomes) => {
                let (undecided, outcomes): (Vec<_>, Vec<_>) =
                    outcomes.into_iter().partition(|outcome| outcome.undecided);
                if let Some(first) = undecided.first() {
                    tracing::error!(
                        versions = undecided.len(),
                        upload = first.upload_id,
                        code = first.refused_code,
                        reason = first.refused_message,
                        "the names layer cannot say what becomes of sealed versions: they are asked about again"
                    );
                    // The next look at the tables finds them; until then they keep nobody waiting.
                    leadership.unpublished.settled(undecided.iter().map(version_of));
                }
                for outcome in &outcomes {
                    cluster.outcomes.decided(outcome);
                }
                place.send(Answered {
                    outcomes,
                    acknowledged: self.acknowledged,
                });
                Ok(())
            }
            Err(error) => {
                leadership.unpublished.recorded(self.acknowledged);
                leadership.unpublished.put_back(self.batch);
                Err(error)
            }
        }
    }
}

async fn record_all(cluster: &Cluster, leadership: &Leadership, mut unrecorded: mpsc::Receiver<Answered>) {
    while let Some(mut answered) = unrecorded.recv().await {
        cluster.clock.sleep(GATHER).await;
        while let Ok(more) = unrecorded.try_recv() {
            answered.outcomes.extend(more.outcomes);
            answered.acknowledged.extend(more.acknowledged);
        }
        let outcomes = answered.outcomes.clone();
        let versions: Vec<VersionId> = outcomes.iter().map(version_of).collect();
        match record(cluster, leadership, answered).await {
            Ok(()) => {
                leadership.unpublished.recorded(versions.iter().copied());
                // Again, for those who came between the answer and the commit.
                outcomes
                    .iter()
                    .for_each(|outcome| cluster.outcomes.decided(outcome));
            }
            Err(error) => tracing::warn!(%error, "outcomes are known but not recorded yet"),
        }
        leadership.unpublished.settled(versions);
    }
}

/// The version that an outcome is about.
pub(crate) fn version_of(outcome: &wire::PublishOutcome) -> VersionId {
    UploadId::new(outcome.upload_id).version()
}

async fn ask(
    cluster: &Cluster,
    leadership: &Leadership,
    batch: &[Sealed],
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
