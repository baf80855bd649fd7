//! Sending a chunk, or a range of it, to whoever has a grant.
//!
//! **Invariants.** Only blocks that match their checksums leave this node (P3); the store checks them and keeps aside
//! what does not. Nothing is sent once the grant has expired: a drop waits for the longest grant, so that the bytes of
//! a read under way are never taken from below it (P7). Memory is bounded by the store's pool of read buffers and by
//! the few answers that wait on a connection; reading ahead is what fills them. A reader that is slower than any may be
//! does not keep its place (P10).

use common::ids::{AttemptId, NodeId};
use proto::bulk::frame::RequestNumber;
use proto::bulk::grant::{self, Grant, Operation};
use proto::bulk::message::{Failure, GetEnd, GetRequest};

use crate::transfer::{Answers, DataPlane, Peer, failure};

/// A get that was let in.
pub(crate) struct Order {
    grant: Grant,
    offset: u64,
    end: u64,
}

/// Checks the grant.
pub(crate) fn admit(plane: &DataPlane, peer: Peer, get: &GetRequest) -> Result<Order, Failure> {
    let me = plane.me();
    let keys = plane.context().keys();
    let grant = Grant::open(&get.grant, &keys, me, plane.context().now())
        .map_err(|error| failure::of_grant(me, error))?;
    let permitted = grant.attempt == get.attempt && may_read(grant.operation, peer);
    if !permitted {
        return Err(failure::not_permitted(me));
    }
    let end = get.offset.saturating_add(get.length);
    if end > grant.length_max {
        return Err(failure::shape(me, "a range beyond the end of the chunk"));
    }
    Ok(Order {
        grant,
        offset: get.offset,
        end,
    })
}

fn may_read(operation: Operation, peer: Peer) -> bool {
    match operation {
        Operation::Read => true,
        Operation::Copy { peer: fetching } => peer == Peer::Node(fetching),
        Operation::WritePrimary { .. } | Operation::WriteDelegate { .. } => false,
    }
}

impl Order {
    /// Sends the blocks and says how it ended. May be dropped at any point.
    pub(crate) async fn run(self, plane: &DataPlane, request: RequestNumber, answers: &Answers) {
        match self.send(plane, request, answers).await {
            Ok(None) => {}
            Ok(Some(end)) => {
                plane.counters().gets.inc();
                answers.get_end(request, end).await;
            }
            Err(failure) => {
                let (attempt, code) = (self.attempt(), &failure.code);
                tracing::debug!(%attempt, code, "a get failed: {}", failure.message);
                plane.counters().count_failure(failure.kind);
                answers.failed(request, failure).await;
            }
        }
    }

    /// `None` when the reader is gone.
    async fn send(
        &self,
        plane: &DataPlane,
        request: RequestNumber,
        answers: &Answers,
    ) -> Result<Option<GetEnd>, Failure> {
        let me: NodeId = plane.me();
        let failed = |error: crate::store::error::Error| failure::of_store(me, &error);
        let _turn = plane.admit_get(self.grant.principal, answers.motion()).await?;
        let begun = plane.clock().moment();
        let opening = plane.store().open_read(self.attempt(), self.offset..self.end);
        let mut reader = opening.await.map_err(failed)?;
        let mut sent = 0;
        while let Some(part) = reader.next().await.map_err(failed)? {
            if plane.context().now() >= self.grant.expires {
                return Err(failure::of_grant(me, grant::Error::Expired));
            }
            // What waits to be written was taken by nobody yet.
            sent += part.bytes.len() as u64;
            let allowed = plane.settings().allowance(sent);
            let left = allowed.saturating_sub(plane.clock().moment().since(begun));
            let heard = answers.blocks(request, part.first_block, part.checksums, part.bytes);
            match plane.clock().timeout(left, heard).await {
                Some(true) => {}
                Some(false) => return Ok(None),
                None => return Err(failure::too_slow(me, "the chunk is taken too slowly")),
            }
        }
        Ok(Some(GetEnd {
            chunk_length: reader.stored().length,
        }))
    }

    const fn attempt(&self) -> AttemptId {
        self.grant.attempt
    }
}
