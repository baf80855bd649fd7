//! Sends chunks, several at a time, each until it is stored or the budget of tries is spent.
//!
//! Invariant: what failed once is never sent to the same node again for the same chunk while the cluster has others; a
//! node that failed is avoided for further chunks for a while. A node that is busy has not failed: it is asked again, or
//! another is, until [`Patience`] ends. Receipts are kept by index; nothing is sealed here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::error::Kind;
use common::ids::NodeId;
use common::retry::Schedule;
use proto::bulk::error::Error as DataError;
use proto::bulk::receipt::Receipt;
use proto::error::RpcError;
use tokio::task::JoinSet;

use super::book::Plan;
use super::feed::ChunkEnd;
use super::plans::Plans;
use super::put::{PutError, put};
use super::resume::Checkpoint;
use super::session::Session;
use super::work::{Work, Works};
use crate::error::Error;
use crate::pace::Pace;
use crate::patience::Patience;
use crate::progress::Progress;

/// Waits between tries at one chunk. The number of tries is [`crate::Limits::chunk_tries_max`].
const CHUNK_RETRY: Schedule = Schedule {
    first: Duration::from_millis(50),
    longest: Duration::from_secs(2),
    tries_max: u32::MAX,
};

/// A chunk that is stored.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) receipt: Receipt,
    pub(super) end: ChunkEnd,
}

/// What sending needs; shared by the tasks of one upload.
#[derive(Clone)]
pub(super) struct Sending {
    pub(super) session: Arc<Session>,
    pub(super) plans: Plans,
    pub(super) progress: Progress,
    pub(super) checkpoint: Checkpoint,
    /// Receipts of an earlier process, by index: not sent again where the content is still the same.
    pub(super) known: Arc<BTreeMap<u32, Receipt>>,
}

/// What has been stored so far.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) stored: BTreeMap<u32, Stored>,
    /// Chunks and bytes that this call sent, repetitions not counted.
    pub(super) chunks_sent: u32,
    pub(super) bytes_sent: u64,
}

impl Sending {
    /// Sends everything in `works`, adding to `tally`. The first error ends it; tasks under way end with it.
    pub(super) async fn send_all(&self, mut works: Works, tally: &mut Tally) -> Result<(), Error> {
        let settings = &self.session.router.settings;
        let mut pace = Pace::new(settings.limits.upload_chunks_in_flight_max);
        let mut under_way = JoinSet::new();
        let mut more = true;
        while more || !under_way.is_empty() {
            tokio::select! {
                work = works.next(), if more && under_way.len() < pace.at_once() => match work {
                    Some(work) => {
                        let (sending, work) = (self.clone(), work?);
                        let clock = settings.seams.clock.clone();
                        under_way.spawn(async move {
                            let begun = clock.moment();
                            let stored = sending.store(work).await;
                            (stored, clock.moment().since(begun))
                        });
                    }
                    None => more = false,
                },
                Some(done) = under_way.join_next() => {
                    let (stored, took) = done.map_err(Error::of_task)?;
                    let (index, stored, sent) = stored?;
                    if sent {
                        pace.took(stored.end.length, took, under_way.len() + 1);
                    }
                    self.checkpoint.add(index, &stored.receipt);
                    self.progress.chunk_done();
                    if sent {
                        tally.chunks_sent += 1;
                        tally.bytes_sent += stored.end.length;
                    }
                    tally.stored.insert(index, stored);
                }
            }
        }
        Ok(())
    }

    async fn store(&self, work: Work) -> Result<(u32, Stored, bool), Error> {
        if let Some(receipt) = self.known.get(&work.index) {
            let end = work.source.examine().await?;
            let statement = &receipt.statement;
            if statement.digest == end.digest && statement.length == end.length {
                self.progress.found(end.length);
                let receipt = receipt.clone();
                return Ok((work.index, Stored { receipt, end }, false));
            }
        }
        let stored = self.send(&work).await?;
        Ok((work.index, stored, true))
    }

    /// Sends one chunk until it is stored.
    async fn send(&self, work: &Work) -> Result<Stored, Error> {
        let settings = &self.session.router.settings;
        let mut backoff = CHUNK_RETRY.start();
        let mut patience = Patience::new();
        let mut avoid: Vec<NodeId> = Vec::new();
        // Asked for a moment just now: another is asked first, where there is one.
        let mut busy: Option<NodeId> = None;
        let mut tries = 0;
        loop {
            let unwanted = avoid.iter().copied().chain(busy.take()).collect();
            let plan = self.plans.plan(work.index, unwanted).await?;
            let error = match put(&self.session, &plan, &work.source, &self.progress).await {
                Ok((receipt, end)) => return Ok(Stored { receipt, end }),
                Err(PutError::Source(error)) => return Err(error),
                Err(PutError::SourceStalled) => {
                    work.source.examine().await?;
                    continue;
                }
                Err(error) => error,
            };
            if let Some(data) = error.busy() {
                let node = data.node();
                tracing::debug!(chunk = work.index, %node, "asked for a moment");
                let Some(wait) = patience.next(settings, data.retry_after()) else {
                    return Err(Error::ChunkNotStored {
                        index: work.index,
                        tries: tries + 1,
                        source: Box::new(Blame::of(&error, &plan).error),
                    });
                };
                busy = Some(node).filter(|node| !avoid.contains(node));
                settings.seams.clock.sleep(wait).await;
                continue;
            }
            patience.progress();
            tries += 1;
            let blame = Blame::of(&error, &plan);
            tracing::debug!(chunk = work.index, attempt = %plan.attempt, error = %blame.error, "attempt failed");
            if tries >= settings.limits.chunk_tries_max {
                return Err(Error::ChunkNotStored {
                    index: work.index,
                    tries,
                    source: Box::new(blame.error),
                });
            }
            for node in blame.nodes {
                avoid.retain(|known| *known != node);
                avoid.push(node);
                if blame.for_all_chunks {
                    self.plans.failed(node).await;
                }
            }
            let wait = backoff.next(&settings.seams.random, blame.error.retry_after);
            settings
                .seams
                .clock
                .sleep(wait.unwrap_or(CHUNK_RETRY.longest))
                .await;
        }
    }
}

/// What a failed attempt says about nodes.
struct Blame {
    /// Who is avoided for this chunk.
    nodes: Vec<NodeId>,
    /// Whether plans for other chunks avoid them too.
    for_all_chunks: bool,
    error: RpcError,
}

impl Blame {
    fn of(error: &PutError, plan: &Plan) -> Self {
        match error {
            PutError::Data(error) => Self::of_data(error, plan),
            PutError::Receipt(node, what) => Self {
                nodes: vec![*node],
                for_all_chunks: true,
                error: RpcError::new(Kind::Corrupt, "E_BAD_RECEIPT", format!("node {node} sent {what}")),
            },
            PutError::Source(_) | PutError::SourceStalled => Self {
                nodes: Vec::new(),
                for_all_chunks: false,
                error: RpcError::new(Kind::Retry, "E_SOURCE", "the source failed"),
            },
        }
    }

    fn of_data(error: &DataError, plan: &Plan) -> Self {
        let code = match error {
            DataError::Failed(failure) => failure.code.clone(),
            DataError::Refused { goodbye, .. } => goodbye.code.clone(),
            _ => "E_DATA_PLANE".to_owned(),
        };
        let (nodes, for_all_chunks) = match error {
            // A primary that does not go on may be waiting for its delegate: nobody here can tell which of the two is
            // stuck, so this chunk avoids both and no other chunk avoids either.
            DataError::Timeout { node, .. } => match plan.delegate {
                Some(delegate) => (vec![delegate, *node], false),
                None => (vec![*node], true),
            },
            // The address was reused (plans of now have the right one), nobody is there, or not one of ours.
            DataError::WrongNode { node, .. }
            | DataError::Connect { node, .. }
            | DataError::Protocol { node, .. } => (vec![*node], true),
            // A connection that was kept for reuse may have been dead for long: no reason to avoid a node in general.
            DataError::Broken { node, .. } | DataError::Corrupt { node, .. } => (vec![*node], false),
            // Ours, not the node's.
            DataError::NoneFree { .. } | DataError::Misuse { .. } => (Vec::new(), false),
            DataError::Failed(_) | DataError::Refused { .. } => match error.kind() {
                // The plan is too old or the grant not good: a new plan is what helps.
                Kind::Stale | Kind::Denied => (Vec::new(), false),
                Kind::Busy | Kind::Retry | Kind::NotLeader | Kind::NotFound | Kind::Corrupt => {
                    (vec![error.node()], false)
                }
                Kind::Full | Kind::Fatal | Kind::Conflict | Kind::Invalid => (vec![error.node()], true),
            },
        };
        Self {
            nodes,
            for_all_chunks,
            error: RpcError::new(error.kind(), &code, common::error::chain(error))
                .retry_after(error.retry_after()),
        }
    }
}
