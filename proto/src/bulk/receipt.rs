//! Receipts: what nodes say they stored. Every copy authenticates the same statement together with its own node and
//! disk, so that the leader believes only what a node of its cluster said (P1).

use bytes::BufMut;
use common::ids::{AttemptId, Digest, DiskId, KeyId, NodeId, UploadNumber, VersionId};

use super::grant::{DataPlaneKey, DataPlaneKeys};
use crate::files::v1 as wire;

const CONTEXT: &[u8] = b"dbfs-receipt-1:";

/// What was stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Statement {
    /// The upload, as the cluster counts it.
    pub upload: UploadNumber,
    /// The version the chunk belongs to.
    pub version: VersionId,
    /// The chunk's place in the version.
    pub index: u32,
    /// The attempt that succeeded.
    pub attempt: AttemptId,
    /// Bytes of payload.
    pub length: u64,
    /// BLAKE3 chaining value of the chunk at its place in the file.
    pub digest: Digest,
}

/// One node's word that it holds the statement's chunk on stable storage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Copy {
    /// Who.
    pub node: NodeId,
    /// On which of its disks.
    pub disk: DiskId,
    /// The key that `mac` was made with.
    pub key: KeyId,
    /// HMAC-SHA-256 over statement, node and disk.
    pub mac: [u8; 32],
}

impl Copy {
    /// `node`'s word for `statement`.
    pub fn sign(statement: &Statement, node: NodeId, disk: DiskId, key: &DataPlaneKey) -> Self {
        let mac = key.mac(CONTEXT, &statement.bytes(node, disk));
        Self {
            node,
            disk,
            key: key.id(),
            mac,
        }
    }

    /// Whether the node really said so.
    pub fn is_genuine(&self, statement: &Statement, keys: &DataPlaneKeys) -> bool {
        let message = statement.bytes(self.node, self.disk);
        keys.find(self.key)
            .is_some_and(|key| key.verify(CONTEXT, &message, &self.mac))
    }
}

/// A statement and everyone who vouches for it, the primary first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// What was stored.
    pub statement: Statement,
    /// By whom.
    pub copies: Vec<Copy>,
}

/// A receipt from the wire has a field of the wrong form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the receipt for chunk {index} is malformed: {field}")]
pub struct Malformed {
    index: u32,
    field: &'static str,
}

impl Statement {
    fn bytes(&self, node: NodeId, disk: DiskId) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + 8 + 4 + 16 + 8 + 32 + 8 + 16);
        out.put_u64(self.upload.get());
        out.put_u64(self.version.get());
        out.put_u32(self.index);
        out.put_slice(&self.attempt.to_bytes());
        out.put_u64(self.length);
        out.put_slice(self.digest.bytes());
        out.put_u64(node.get());
        out.put_slice(disk.bytes());
        out
    }
}

impl From<&Receipt> for wire::ChunkReceipt {
    fn from(receipt: &Receipt) -> Self {
        let statement = &receipt.statement;
        Self {
            upload_number: statement.upload.get(),
            version: statement.version.get(),
            index: statement.index,
            attempt: statement.attempt.to_bytes().to_vec().into(),
            length: statement.length,
            digest: statement.digest.bytes().to_vec().into(),
            copies: receipt.copies.iter().map(wire::ReceiptCopy::from).collect(),
        }
    }
}

impl From<&Copy> for wire::ReceiptCopy {
    fn from(copy: &Copy) -> Self {
        Self {
            node_id: copy.node.get(),
            disk_id: copy.disk.bytes().to_vec().into(),
            key_id: copy.key.get(),
            mac: copy.mac.to_vec().into(),
        }
    }
}

impl TryFrom<&wire::ChunkReceipt> for Receipt {
    type Error = Malformed;
    fn try_from(wire: &wire::ChunkReceipt) -> Result<Self, Malformed> {
        let bad = |field| Malformed {
            index: wire.index,
            field,
        };
        let statement = Statement {
            upload: UploadNumber::new(wire.upload_number),
            version: VersionId::new(wire.version),
            index: wire.index,
            attempt: AttemptId::try_from(wire.attempt.as_ref()).map_err(|_| bad("attempt"))?,
            length: wire.length,
            digest: Digest::try_from(wire.digest.as_ref()).map_err(|_| bad("digest"))?,
        };
        let copies = wire
            .copies
            .iter()
            .map(|copy| {
                Ok(Copy {
                    node: NodeId::new(copy.node_id),
                    disk: DiskId::try_from(copy.disk_id.as_ref()).map_err(|_| bad("disk"))?,
                    key: KeyId::new(copy.key_id),
                    mac: copy.mac.as_ref().try_into().map_err(|_| bad("mac"))?,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { statement, copies })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::Epoch;

    #[test]
    fn a_copy_vouches_for_exactly_one_statement() {
        let key = DataPlaneKey::new(KeyId::new(1), &[3; 32]);
        let keys = DataPlaneKeys::new(vec![key.clone()]);
        let statement = Statement {
            upload: UploadNumber::new(1),
            version: VersionId::new(2),
            index: 3,
            attempt: AttemptId::new(Epoch::new(4), 5),
            length: 6,
            digest: Digest::new([7; 32]),
        };
        let copy = Copy::sign(&statement, NodeId::new(8), DiskId::new([9; 16]), &key);
        assert!(copy.is_genuine(&statement, &keys));
        assert!(!copy.is_genuine(
            &Statement {
                length: 7,
                ..statement
            },
            &keys
        ));
        assert!(
            !Copy {
                node: NodeId::new(9),
                ..copy
            }
            .is_genuine(&statement, &keys)
        );
        let receipt = Receipt {
            statement,
            copies: vec![copy],
        };
        assert_eq!(
            Receipt::try_from(&wire::ChunkReceipt::from(&receipt)),
            Ok(receipt)
        );
    }
}
