//! One chunk, one attempt: its frames to the primary, its receipt back.

use std::time::Duration;

use common::ids::NodeId;
use proto::bulk::blocks;
use proto::bulk::error::Error as DataError;
use proto::bulk::message::PutBegin;
use proto::bulk::pipeline::{PIPELINED_BYTES_MAX, SmallPut};
use proto::bulk::put::Put;
use proto::bulk::receipt::Receipt;

use super::book::Plan;
use super::feed::{ChunkEnd, ChunkSource, Feed};
use super::session::Session;
use crate::error::Error;
use crate::patience::is_busy;
use crate::progress::Progress;

/// A source that gives nothing for so long loses its connection: nodes do not wait for ever. The chunk is sent again,
/// from memory, once it is complete.
const SOURCE_STALL_MAX: Duration = Duration::from_secs(5);

/// An attempt did not come to its receipt.
pub(super) enum PutError {
    /// The source failed; no other attempt would help.
    Source(Error),
    /// The source was too slow for a connection to be kept waiting.
    SourceStalled,
    /// A node failed.
    Data(DataError),
    /// The receipt does not say what was asked for.
    Receipt(NodeId, &'static str),
}

impl PutError {
    /// The error of a node that asks for a moment.
    pub(super) fn busy(&self) -> Option<&DataError> {
        match self {
            PutError::Data(error) => Some(error).filter(|error| is_busy(error)),
            PutError::Source(_) | PutError::SourceStalled | PutError::Receipt(..) => None,
        }
    }
}

impl From<DataError> for PutError {
    fn from(error: DataError) -> Self {
        PutError::Data(error)
    }
}

/// Sends the chunk `source` as `plan` says. Counts in `progress` what was sent, and takes it back on failure.
pub(super) async fn put(
    session: &Session,
    plan: &Plan,
    source: &ChunkSource,
    progress: &Progress,
) -> Result<(Receipt, ChunkEnd), PutError> {
    let length_hint = source.length_hint();
    if length_hint.is_some_and(|length| length <= PIPELINED_BYTES_MAX as u64) {
        return put_small(session, plan, source, progress).await;
    }
    let feed = &mut source.open();
    let mut counted = Counted { progress, bytes: 0 };
    let mut connection = session.pool.connection(&plan.primary).await?;
    let mut put = connection.put(&begin(session, plan, length_hint))?;
    if let Err(error) = send_all(session, plan, &mut put, feed, &mut counted).await {
        if !matches!(error, PutError::Data(_)) {
            // In good order, so that the nodes forget it and the connection lives. An error here changes nothing.
            let _ = put.abort().await;
        }
        return Err(error);
    }
    let end = feed.end().map_err(PutError::Source)?;
    let receipt = put.finish(end.digest).await?;
    check(plan, &receipt).map_err(|what| PutError::Receipt(plan.primary.node, what))?;
    counted.bytes = 0;
    Ok((receipt, end))
}

/// A chunk of one frame, over the connection that all small chunks for that node share.
async fn put_small(
    session: &Session,
    plan: &Plan,
    source: &ChunkSource,
    progress: &Progress,
) -> Result<(Receipt, ChunkEnd), PutError> {
    let (frame, end) = source.read_small().await.map_err(PutError::Source)?;
    let small = SmallPut {
        begin: begin(session, plan, Some(end.length)),
        checksums: blocks::checksums(plan.attempt, 0, &frame),
        data: frame,
        digest: end.digest,
    };
    session.router.throttle.pass(end.length).await;
    let pipeline = session.pool.pipeline(&plan.primary).await?;
    let receipt = pipeline.put(small).await?;
    check(plan, &receipt).map_err(|what| PutError::Receipt(plan.primary.node, what))?;
    progress.moved(end.length);
    Ok((receipt, end))
}

fn begin(session: &Session, plan: &Plan, length_hint: Option<u64>) -> PutBegin {
    PutBegin {
        grant: plan.grant.to_vec(),
        delegate_grant: plan.delegate_grant.to_vec(),
        attempt: plan.attempt,
        length_hint,
        path_hint: session.path.to_string(),
    }
}

async fn send_all(
    session: &Session,
    plan: &Plan,
    put: &mut Put<'_>,
    feed: &mut Feed,
    counted: &mut Counted<'_>,
) -> Result<(), PutError> {
    let clock = &session.router.settings.seams.clock;
    let mut block = 0;
    loop {
        let next = clock.timeout(SOURCE_STALL_MAX, feed.next()).await;
        let Some(frame) = next.ok_or(PutError::SourceStalled)?.map_err(PutError::Source)? else {
            return Ok(());
        };
        let sums = blocks::checksums(plan.attempt, block, &frame);
        session.router.throttle.pass(frame.len() as u64).await;
        put.send(&frame, &sums).await?;
        block += u32::try_from(sums.len()).unwrap_or(u32::MAX);
        counted.add(frame.len() as u64);
    }
}

/// Whether the receipt is for this plan: for this attempt at this place, from everyone who was to have a copy.
fn check(plan: &Plan, receipt: &Receipt) -> Result<(), &'static str> {
    let has = |node: NodeId| receipt.copies.iter().any(|copy| copy.node == node);
    if receipt.statement.attempt != plan.attempt || receipt.statement.index != plan.index {
        Err("a receipt for another chunk")
    } else if !has(plan.primary.node) || !plan.delegate.is_none_or(has) {
        Err("a receipt without every copy that was planned")
    } else {
        Ok(())
    }
}

/// Bytes of an attempt that count as done while it lasts; taken back unless it succeeds.
struct Counted<'p> {
    progress: &'p Progress,
    bytes: u64,
}

impl Counted<'_> {
    fn add(&mut self, bytes: u64) {
        self.progress.moved(bytes);
        self.bytes += bytes;
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.progress.undone(self.bytes);
        }
    }
}
