//! Receipts: this node's word for what it stored, and the delegate's beside it.

use common::error::Kind;
use proto::bulk::message::{Failure, PutEnd};
use proto::bulk::receipt::{Copy, Receipt, Statement};

use super::order::Order;
use crate::store::record::Stored;
use crate::transfer::DataPlane;

/// This node's word that `stored` is on stable storage.
pub(super) fn own(
    plane: &DataPlane,
    order: &Order,
    end: PutEnd,
    stored: &Stored,
) -> Result<Receipt, Failure> {
    let statement = Statement {
        upload: order.grant.upload,
        version: order.grant.version,
        index: order.grant.index,
        attempt: order.grant.attempt,
        length: end.length,
        digest: end.digest,
    };
    let keys = plane.context().keys();
    let key = keys.current().ok_or_else(|| {
        // A grant was opened a moment ago, so there were keys then.
        let message = "this node has no data-plane key to sign with";
        Failure::new(plane.me(), Kind::Retry, "E_NO_KEY", message)
    })?;
    let copies = vec![Copy::sign(&statement, plane.me(), stored.disk, key)];
    Ok(Receipt { statement, copies })
}

/// Adds the delegate's word, if it is for the same statement and really the delegate's. A copy signed with a key that
/// has not reached this node yet is passed on: the leader judges it.
pub(super) fn joined(
    plane: &DataPlane,
    order: &Order,
    own: Receipt,
    delegate: Receipt,
) -> Result<Receipt, Failure> {
    let keys = plane.context().keys();
    let expected = order.delegate.as_ref().map(|target| target.node);
    let genuine = |copy: &Copy| {
        Some(copy.node) == expected
            && (keys.find(copy.key).is_none() || copy.is_genuine(&own.statement, &keys))
    };
    match delegate.copies.as_slice() {
        [copy] if delegate.statement == own.statement && genuine(copy) => {
            let copies = own.copies.iter().chain([copy]).copied().collect();
            Ok(Receipt { copies, ..own })
        }
        _ => {
            let node = expected.unwrap_or(plane.me());
            let message = "the delegate's receipt is not for what it was sent";
            Err(Failure::new(node, Kind::Retry, "E_DELEGATE_RECEIPT", message))
        }
    }
}
