//! Receipts: this node's word for what it stored, and the delegate's beside it.

use common::error::Kind;
use common::ids::NodeId;
use proto::bulk::grant::DataPlaneKeys;
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

/// Adds the delegate's word, if it is for the same statement and really the delegate's.
pub(super) fn joined(
    plane: &DataPlane,
    order: &Order,
    own: Receipt,
    delegate: Receipt,
) -> Result<Receipt, Failure> {
    let expected = order.delegate.as_ref().map(|target| target.node);
    match confirmed(&own.statement, &delegate, expected, &plane.context().keys()) {
        Some(copy) => {
            let copies = own.copies.iter().copied().chain([copy]).collect();
            Ok(Receipt { copies, ..own })
        }
        None => {
            let node = expected.unwrap_or(plane.me());
            let message = "the delegate's receipt is not for what it was sent";
            Err(Failure::new(node, Kind::Retry, "E_DELEGATE_RECEIPT", message))
        }
    }
}

/// The copy that `delegate` confirms of `statement`. One signed with a key that has not reached this node yet is passed
/// on: the leader judges it.
fn confirmed(
    statement: &Statement,
    delegate: &Receipt,
    expected: Option<NodeId>,
    keys: &DataPlaneKeys,
) -> Option<Copy> {
    match delegate.copies.as_slice() {
        [copy] if delegate.statement == *statement && Some(copy.node) == expected => {
            let genuine = keys.find(copy.key).is_none() || copy.is_genuine(statement, keys);
            genuine.then_some(*copy)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use common::ids::{AttemptId, Digest, DiskId, Epoch, KeyId, UploadNumber, VersionId};
    use proto::bulk::grant::DataPlaneKey;

    use super::*;

    #[test]
    fn only_the_delegates_own_word_for_the_same_chunk_confirms_a_copy() {
        let key = |id, secret| DataPlaneKey::new(KeyId::new(id), &[secret; 32]);
        let keys = DataPlaneKeys::new(vec![key(1, 7)]);
        let statement = Statement {
            upload: UploadNumber::new(1),
            version: VersionId::new(2),
            index: 3,
            attempt: AttemptId::new(Epoch::new(4), 5),
            length: 6,
            digest: Digest::new([7; 32]),
        };
        let disk = DiskId::new([9; 16]);
        let node = NodeId::new(8);
        let sign = |statement: &Statement, key: &DataPlaneKey| Receipt {
            statement: *statement,
            copies: vec![Copy::sign(statement, node, disk, key)],
        };
        let judge = |receipt: &Receipt| confirmed(&statement, receipt, Some(node), &keys).is_some();
        let good = sign(&statement, &key(1, 7));
        assert!(judge(&good));
        assert!(
            judge(&sign(&statement, &key(2, 9))),
            "a key that is not known here yet"
        );

        assert!(!judge(&sign(&statement, &key(1, 8))), "forged");
        let other = Statement {
            digest: Digest::new([8; 32]),
            ..statement
        };
        assert!(!judge(&sign(&other, &key(1, 7))), "another chunk");
        let mut moved = good.clone();
        moved.copies[0].disk = DiskId::new([1; 16]);
        assert!(!judge(&moved), "another disk");
        let twice = Receipt {
            copies: [good.copies.clone(), good.copies.clone()].concat(),
            ..good.clone()
        };
        assert!(!judge(&twice), "two copies at one node");
        let none = Receipt {
            copies: Vec::new(),
            ..good.clone()
        };
        assert!(!judge(&none));
        let elsewhere = confirmed(&statement, &good, Some(NodeId::new(3)), &keys);
        assert!(elsewhere.is_none(), "another node");
    }
}
