//! Whether a put is permitted here, and room for it.
//!
//! Write grants are not fenced by the epoch: they stay valid across a change of leader until they expire, so that
//! uploads in flight go on. What they made is no part of any version until a seal, which is fenced, names it.

use common::ids::NodeId;
use proto::bulk::dial::Target;
use proto::bulk::grant::{Grant, Operation};
use proto::bulk::message::{Failure, PutBegin};
use proto::bulk::pipeline::PIPELINED_BYTES_MAX;
use tokio::sync::OwnedSemaphorePermit;

use crate::transfer::{DataPlane, Motion, Peer, Window, failure};

/// A put that was let in.
pub(crate) struct Order {
    pub(super) grant: Grant,
    pub(super) begin: PutBegin,
    /// Who keeps the second copy, if this node is to forward.
    pub(super) delegate: Option<Target>,
    pub(super) side: Side,
    /// The memory promised to it.
    pub(super) window: Window,
    /// Its place among the requests of its connection, until it is over.
    _place: OwnedSemaphorePermit,
}

/// Which copy this node keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Primary,
    Delegate,
}

impl Side {
    /// The fail point behind the first blocks.
    pub(super) const fn middle(self) -> &'static str {
        match self {
            Side::Primary => "put.primary.mid",
            Side::Delegate => "put.delegate.mid",
        }
    }
}

/// Checks the grant and waits, for a bounded time, until there is memory.
pub(crate) async fn admit(
    plane: &DataPlane,
    peer: Peer,
    begin: PutBegin,
    place: OwnedSemaphorePermit,
    motion: &Motion,
) -> Result<Order, Failure> {
    let me = plane.me();
    let now = plane.context().now();
    let grant = Grant::open(&begin.grant, &plane.context().keys(), me, now)
        .map_err(|error| failure::of_grant(me, error))?;
    if grant.attempt != begin.attempt {
        return Err(failure::not_permitted(me));
    }
    let (delegate, side) = match (grant.operation, peer) {
        (Operation::WritePrimary { delegate }, _) => (delegate, Side::Primary),
        (Operation::WriteDelegate { primary }, Peer::Node(node)) if node == primary => (None, Side::Delegate),
        (Operation::WriteDelegate { .. } | Operation::Read | Operation::Copy { .. }, _) => {
            return Err(failure::not_permitted(me));
        }
    };
    if begin.length_hint.is_some_and(|length| length > grant.length_max) {
        return Err(failure::shape(me, "more bytes than the grant permits"));
    }
    let delegate = delegate.map(|node| plane.target(node)).transpose()?;
    let from_node = side == Side::Delegate;
    let window = plane
        .admit_put(grant.principal, from_node, begin.length_hint, motion)
        .await?;
    Ok(Order {
        grant,
        begin,
        delegate,
        side,
        window,
        _place: place,
    })
}

impl Order {
    /// How long the whole put may take.
    pub(super) fn allowance(&self, plane: &DataPlane) -> std::time::Duration {
        let length = self.begin.length_hint.unwrap_or(self.grant.length_max);
        plane.settings().allowance(length)
    }

    /// The length, where it is small enough for the chunk to arrive in one frame.
    pub(super) fn small(&self) -> Option<usize> {
        let length = usize::try_from(self.begin.length_hint?).ok()?;
        (length <= PIPELINED_BYTES_MAX).then_some(length)
    }

    /// Who keeps the second copy; this node where there is none.
    pub(super) fn keeper(&self, plane: &DataPlane) -> NodeId {
        self.delegate.as_ref().map_or(plane.me(), |target| target.node)
    }

    /// What the delegate is told: the same with its own grant.
    pub(super) fn for_delegate(&self) -> PutBegin {
        PutBegin {
            grant: self.begin.delegate_grant.clone(),
            delegate_grant: Vec::new(),
            ..self.begin.clone()
        }
    }
}
