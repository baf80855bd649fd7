//! Receiving a chunk: from a client as its primary, or from the primary as its delegate.
//!
//! **Owns** the way of a put through this node: [`order`] (is it permitted, and does it fit), [`intake`] (blocks as they
//! arrive), then [`stream`] for large chunks or [`small`] for those that fit one frame: every block goes to the local
//! store and to the delegate at the same time, from the same memory. [`local`] is the copy at this node, [`vouch`] the
//! receipt.
//!
//! **Invariants.** A receipt leaves this node only when every copy it names is on stable storage (P1). Every block is
//! checked by the store of each node that keeps it, against the checksum made at its source (P3). An attempt whose put
//! failed is abandoned; what of it is durable already stays until the cluster orders it dropped, because a receipt for
//! the same attempt may exist: the put may have been repeated (P1, P6).
//!
//! **Never knows**: why this node was chosen, and what becomes of the receipt.

pub(crate) mod intake;
mod local;
mod order;
mod small;
mod stream;
mod vouch;

pub(crate) use intake::{Blocks, Intake};
pub(crate) use order::admit;

use common::ids::NodeId;
use proto::bulk::frame::RequestNumber;
use proto::bulk::message::Failure;
use proto::bulk::receipt::Receipt;

use crate::transfer::{Answers, DataPlane, failure};

/// A put ended without a receipt.
pub(crate) enum Ended {
    /// For a reason that the other side wants to know.
    Failed(Failure),
    /// The other side took it back or is gone.
    Abandoned,
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Ended::Failed(failure)
    }
}

/// Waits for one step of one copy. A disk that hangs ends the put, and is named.
async fn in_time<T>(
    plane: &DataPlane,
    keeper: NodeId,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let limit = plane.settings().finish_timeout.get();
    let done = plane.clock().timeout(limit, work).await;
    done.unwrap_or_else(|| {
        let message = format!("the chunk was not persisted within {limit:?}");
        Err(failure::too_slow(keeper, message))
    })
}

/// Tells the other side how its put ended.
async fn report(
    plane: &DataPlane,
    answers: &Answers,
    request: RequestNumber,
    outcome: Result<Receipt, Ended>,
) {
    match outcome {
        Ok(receipt) => {
            plane.counters().puts.inc();
            answers.stored(request, receipt).await;
        }
        Err(Ended::Failed(failure)) => {
            tracing::debug!(node = %failure.node, code = failure.code, "a put failed: {}", failure.message);
            plane.counters().count_failure(failure.kind);
            answers.failed(request, failure).await;
        }
        Err(Ended::Abandoned) => {}
    }
}
