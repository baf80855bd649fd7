//! A part of one chunk from whichever copy gives it.
//!
//! Invariant (P3): only blocks that match the checksums made where the chunk was written are handed on, in order and
//! without a gap. When a copy fails in the middle, another goes on from there. What was bad is reported, once per copy
//! and chunk.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::error::Kind;
use common::ids::NodeId;
use common::random::Random;
use common::retry::Schedule;
use parking_lot::Mutex;
use proto::bulk::error::Error as DataError;
use proto::bulk::message::GetRequest;
use tokio::sync::mpsc;

use super::manifest::{Chunk, Copy, Version};
use super::placement::ReplicaState;
use super::range::{Extent, trim};
use crate::error::{BadCopy, Error};
use crate::names::NodeCondition;
use crate::patience::{Patience, is_busy};
use crate::progress::Progress;

/// Frames that are fetched ahead of whoever takes them.
const FRAMES_AHEAD_MAX: usize = 2;
/// Bad copies reported at most.
const BAD_COPIES_MAX: usize = 1000;
/// How often every copy of a chunk is tried before the chunk is called unreadable. In between, the manifest is asked
/// for again, because repair moves copies. A node that asks for a moment has [`Patience`]; progress begins the rounds anew.
const ROUNDS: Schedule = Schedule {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(1),
    tries_max: 4,
};
/// How often expired grants are renewed without progress.
const RENEWALS_MAX: u32 = 8;

/// Whether the node will serve in a moment: it is busy, restarts, or has not heard the newest leader's keys yet. No
/// reason to doubt the copy.
fn is_soon_over(error: &DataError) -> bool {
    let restarts = matches!(error, DataError::Refused { goodbye, .. } if goodbye.kind == Kind::Retry);
    restarts || is_busy(error)
}

/// What all fetches of one download share.
#[derive(Clone)]
pub(super) struct Fetcher {
    pub(super) version: Arc<Version>,
    pub(super) progress: Progress,
    findings: Arc<Mutex<Findings>>,
}

#[derive(Default)]
struct Findings {
    bad: Vec<BadCopy>,
    /// Nodes that were out of reach: asked last from then on.
    unreachable: BTreeSet<NodeId>,
}

/// Verified bytes and where in the chunk they begin.
pub(super) struct Frame {
    pub(super) offset: u64,
    pub(super) bytes: Bytes,
}

/// How a copy failed.
enum Trouble {
    Data(DataError),
    /// Nobody takes the bytes any more.
    Unwanted,
}

impl From<DataError> for Trouble {
    fn from(error: DataError) -> Self {
        Trouble::Data(error)
    }
}

impl Fetcher {
    pub(super) fn new(version: Arc<Version>, progress: Progress) -> Self {
        Self {
            version,
            progress,
            findings: Arc::default(),
        }
    }

    /// Every copy that was bad or out of reach.
    pub(super) fn bad_copies(&self) -> Vec<BadCopy> {
        self.findings.lock().bad.clone()
    }

    /// Frames of `wanted` (relative to the chunk), and the work that sends them there. Nodes in `distrusted` are not
    /// asked. The work ends with the nodes that served.
    pub(super) fn fetch(
        &self,
        chunk: Arc<Chunk>,
        wanted: Extent,
        distrusted: Vec<NodeId>,
    ) -> (
        mpsc::Receiver<Frame>,
        impl Future<Output = Result<Vec<NodeId>, Error>> + Send + use<>,
    ) {
        let (out, frames) = mpsc::channel(FRAMES_AHEAD_MAX);
        let fetcher = self.clone();
        let work = async move { fetcher.serve(chunk, wanted, &distrusted, &out).await };
        (frames, work)
    }

    async fn serve(
        &self,
        chunk: Arc<Chunk>,
        wanted: Extent,
        distrusted: &[NodeId],
        out: &mpsc::Sender<Frame>,
    ) -> Result<Vec<NodeId>, Error> {
        let settings = &self.version.router.settings;
        let seams = &settings.seams;
        let index = chunk.index;
        let mut chunk = chunk;
        let mut left = wanted;
        let mut served = Vec::new();
        let mut bad: Vec<BadCopy> = Vec::new();
        let mut rounds = ROUNDS.start();
        let mut patience = Patience::new();
        let mut renewals = 0;
        loop {
            let mut stale = false;
            let mut asked_to_wait = None;
            for copy in self.order(&chunk, distrusted, &seams.random) {
                let before = left.start;
                let outcome = self.read(&chunk, &copy, &mut left, out).await;
                if left.start > before {
                    rounds.reset();
                    patience.progress();
                    renewals = 0;
                    if !served.contains(&copy.target.node) {
                        served.push(copy.target.node);
                    }
                }
                match outcome {
                    Ok(()) => return Ok(served),
                    // Everything had arrived before it failed.
                    Err(_) if left.length() == 0 => return Ok(served),
                    Err(Trouble::Unwanted) => return Err(Error::Interrupted),
                    Err(Trouble::Data(error)) if error.kind() == Kind::Stale && renewals < RENEWALS_MAX => {
                        stale = true;
                        renewals += 1;
                        break;
                    }
                    Err(Trouble::Data(error)) => {
                        self.progress.retried();
                        if is_soon_over(&error) {
                            asked_to_wait = asked_to_wait.max(Some(error.retry_after()));
                        }
                        let found = self.report(index, &copy, &error);
                        bad.retain(|known| known.node != found.node);
                        bad.push(found);
                    }
                }
            }
            if !stale {
                let wait = match asked_to_wait {
                    Some(floor) => patience.next(settings, floor),
                    None => rounds.next(&seams.random, Duration::ZERO),
                };
                let Some(wait) = wait else {
                    let path = self.version.path.clone();
                    return Err(Error::ChunkNotReadable { path, index, bad });
                };
                seams.clock.sleep(wait).await;
            }
            chunk = self.ask_again(&chunk).await?;
        }
    }

    /// The chunk with the copies and grants of now. Where nobody answers, what is known is tried again.
    async fn ask_again(&self, chunk: &Arc<Chunk>) -> Result<Arc<Chunk>, Error> {
        match self.version.page(chunk.index, 1).await {
            Ok(page) => match page.chunks.into_iter().next() {
                Some(fresh) if fresh.digest == chunk.digest => Ok(fresh),
                _ => Err(Error::protocol("another manifest for the same version")),
            },
            Err(error) if error.kind().is_passing() => Ok(Arc::clone(chunk)),
            Err(error) => Err(error),
        }
    }

    /// Copies in the order in which they are tried: good before doubtful, reachable before not, otherwise by chance.
    fn order(&self, chunk: &Chunk, distrusted: &[NodeId], random: &Random) -> Vec<Copy> {
        let findings = self.findings.lock();
        let mut ranked: Vec<(u8, u64, &Copy)> = chunk
            .copies
            .iter()
            .filter(|copy| !distrusted.contains(&copy.target.node))
            .map(|copy| {
                let doubtful = copy.state != ReplicaState::Stored;
                let silent = matches!(
                    copy.condition,
                    NodeCondition::Suspect | NodeCondition::Dead | NodeCondition::Gone
                );
                let failed = findings.unreachable.contains(&copy.target.node);
                (
                    u8::from(doubtful) + 2 * u8::from(silent) + 4 * u8::from(failed),
                    random.number(),
                    copy,
                )
            })
            .collect();
        ranked.sort_by_key(|(rank, chance, _)| (*rank, *chance));
        ranked.into_iter().map(|(_, _, copy)| copy.clone()).collect()
    }

    /// Reads what is `left` from one copy; `left` shrinks with every frame that was handed on.
    async fn read(
        &self,
        chunk: &Chunk,
        copy: &Copy,
        left: &mut Extent,
        out: &mpsc::Sender<Frame>,
    ) -> Result<(), Trouble> {
        let mut connection = chunk.pool.connection(&copy.target).await?;
        let request = GetRequest {
            grant: copy.grant.to_vec(),
            attempt: chunk.attempt,
            offset: left.start,
            length: left.length(),
        };
        let mut get = connection.get(&request).await?;
        loop {
            let mut buffer = self.version.router.buffers.lease();
            let Some(received) = get.next(buffer.space()).await? else {
                break;
            };
            let Some((offset, range)) = trim(received.offset, received.length, *left) else {
                continue;
            };
            let bytes = buffer.freeze(received.length).slice(range);
            let length = bytes.len() as u64;
            self.version.router.throttle.pass(length).await;
            out.send(Frame { offset, bytes })
                .await
                .map_err(|_| Trouble::Unwanted)?;
            self.progress.moved(length);
            left.start += length;
        }
        if left.length() == 0 && get.chunk_length() == Some(chunk.length) {
            Ok(())
        } else {
            // The copy ends before the chunk does: as bad as other bytes.
            Err(Trouble::Data(DataError::Corrupt {
                node: copy.target.node,
                attempt: chunk.attempt,
                block: u32::try_from(left.start / common::units::BLOCK_BYTES as u64).unwrap_or(u32::MAX),
            }))
        }
    }

    fn report(&self, index: u32, copy: &Copy, error: &DataError) -> BadCopy {
        let bad = BadCopy {
            index,
            node: copy.target.node,
            node_name: copy.node_name.clone(),
            kind: error.kind(),
            reason: common::error::chain(error),
        };
        tracing::warn!(chunk = index, node = %bad.node, reason = %bad.reason, "a copy could not be read");
        let out_of_reach = matches!(
            error,
            DataError::Connect { .. } | DataError::Timeout { .. } | DataError::WrongNode { .. }
        );
        if out_of_reach {
            self.findings.lock().unreachable.insert(bad.node);
        }
        if !is_soon_over(error) {
            self.note(bad.clone());
        }
        bad
    }

    /// Nodes gave whole blocks that are not the chunk: reported, and not to be asked for it again.
    pub(super) fn report_digest(&self, chunk: &Chunk, served: &[NodeId]) {
        for copy in chunk
            .copies
            .iter()
            .filter(|copy| served.contains(&copy.target.node))
        {
            self.note(BadCopy {
                index: chunk.index,
                node: copy.target.node,
                node_name: copy.node_name.clone(),
                kind: Kind::Corrupt,
                reason: "the chunk does not have the digest that the manifest states".to_owned(),
            });
        }
    }

    fn note(&self, bad: BadCopy) {
        let mut findings = self.findings.lock();
        let known = findings
            .bad
            .iter()
            .any(|known| known.index == bad.index && known.node == bad.node);
        if !known && findings.bad.len() < BAD_COPIES_MAX {
            findings.bad.push(bad);
        }
    }
}
