//! Grants: short-lived permits for one operation on one chunk at one node, authenticated with the cluster's
//! data-plane key (HMAC-SHA-256). Made by the leader for writes and by any member for reads; opaque to clients.
//!
//! Invariant (P7, P9): a node acts only on a grant that names it, that has not expired by cluster time, and whose
//! epoch is not below the highest it has made durable when the grant orders something destructive. Write and read
//! grants stay valid across a change of leader until they expire, so that transfers in flight continue.

use aws_lc_rs::hmac;
use bytes::{Buf, BufMut};
use common::error::Kind;
use common::ids::{AttemptId, Epoch, KeyId, NodeId, UploadNumber, UserId, VersionId};
use common::time::ClusterTime;

/// A key of one cluster's data plane.
#[derive(Clone)]
pub struct DataPlaneKey {
    id: KeyId,
    key: hmac::Key,
}

impl DataPlaneKey {
    /// The key `id` with 32 secret bytes.
    pub fn new(id: KeyId, secret: &[u8]) -> Self {
        Self {
            id,
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
        }
    }

    /// Which key it is.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// HMAC-SHA-256 of `context` and `message`.
    pub(super) fn mac(&self, context: &[u8], message: &[u8]) -> [u8; 32] {
        let mut signing = hmac::Context::with_key(&self.key);
        signing.update(context);
        signing.update(message);
        let mut out = [0; 32];
        out.copy_from_slice(signing.sign().as_ref());
        out
    }

    /// Compares in constant time.
    pub(super) fn verify(&self, context: &[u8], message: &[u8], mac: &[u8]) -> bool {
        let joined = [context, message].concat();
        hmac::verify(&self.key, &joined, mac).is_ok()
    }
}

impl std::fmt::Debug for DataPlaneKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DataPlaneKey({})", self.id)
    }
}

/// The keys a node accepts: the current one first, then previous ones.
#[derive(Clone, Debug, Default)]
pub struct DataPlaneKeys(Vec<DataPlaneKey>);

impl DataPlaneKeys {
    /// The current key first.
    pub fn new(keys: Vec<DataPlaneKey>) -> Self {
        Self(keys)
    }

    /// The key to make new grants and receipts with.
    pub fn current(&self) -> Option<&DataPlaneKey> {
        self.0.first()
    }

    /// The key `id`, current or previous.
    pub fn find(&self, id: KeyId) -> Option<&DataPlaneKey> {
        self.0.iter().find(|key| key.id == id)
    }
}

/// What a grant permits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Receive the attempt, store it, and forward it to the delegate if there is one.
    WritePrimary {
        /// Who keeps the second copy; `None` where one copy is all that was asked for.
        delegate: Option<NodeId>,
    },
    /// Receive the attempt from its primary and store it.
    WriteDelegate {
        /// Who sends it.
        primary: NodeId,
    },
    /// Read the attempt.
    Read,
    /// Send the attempt to another node of the cluster, or fetch it from one, for repair.
    Copy {
        /// The other node.
        peer: NodeId,
    },
}

/// A permit for one operation on one attempt at one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    /// What is permitted.
    pub operation: Operation,
    /// Who may do it.
    pub node: NodeId,
    /// On which attempt.
    pub attempt: AttemptId,
    /// The upload, as the cluster counts it; goes into the record's header.
    pub upload: UploadNumber,
    /// The version the chunk belongs to; goes into the record's header.
    pub version: VersionId,
    /// The chunk's place in the version; goes into the record's header.
    pub index: u32,
    /// The most bytes that may be written, or that there are to read.
    pub length_max: u64,
    /// The leadership that planned it.
    pub epoch: Epoch,
    /// When it ends, by cluster time.
    pub expires: ClusterTime,
    /// On whose behalf: nodes share their room between principals.
    pub principal: UserId,
}

/// A grant was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a grant, forged, or for another node or operation.
    #[error("the grant is not valid here")]
    Invalid,
    /// Its time is over.
    #[error("the grant has expired")]
    Expired,
    /// Made with a key that this node does not know (yet).
    #[error("the grant was made with a key that is not known here yet")]
    UnknownKey,
}

impl Error {
    /// What the caller can do: an expired grant is asked for anew, an unknown key arrives with the next heartbeat.
    pub const fn kind(self) -> Kind {
        match self {
            Error::Invalid => Kind::Denied,
            Error::Expired => Kind::Stale,
            Error::UnknownKey => Kind::Retry,
        }
    }

    /// The stable name of this refusal in a [`super::message::Failure`].
    pub const fn code(self) -> &'static str {
        match self {
            Error::Invalid => "E_GRANT_INVALID",
            Error::Expired => "E_GRANT_EXPIRED",
            Error::UnknownKey => "E_GRANT_KEY_UNKNOWN",
        }
    }
}

const FORMAT_VERSION: u8 = 2;
const CONTEXT: &[u8] = b"dbfs-grant-2:";
const BODY_BYTES: usize = 1 + 1 + 8 + 8 + 8 + 16 + 8 + 8 + 4 + 8 + 8 + 8 + 8;
const MAC_BYTES: usize = 32;

/// The length of an encoded grant.
pub const GRANT_BYTES: usize = BODY_BYTES + MAC_BYTES;

impl Grant {
    /// The grant as it travels: fixed-width big-endian fields, then the MAC.
    pub fn seal(&self, key: &DataPlaneKey) -> Vec<u8> {
        let (operation, peer) = match self.operation {
            Operation::WritePrimary { delegate } => (1, delegate.map_or(0, NodeId::get)),
            Operation::WriteDelegate { primary } => (2, primary.get()),
            Operation::Read => (3, 0),
            Operation::Copy { peer } => (4, peer.get()),
        };
        let mut out = Vec::with_capacity(GRANT_BYTES);
        out.put_u8(FORMAT_VERSION);
        out.put_u8(operation);
        out.put_u64(key.id.get());
        out.put_u64(self.node.get());
        out.put_u64(peer);
        out.put_slice(&self.attempt.to_bytes());
        out.put_u64(self.upload.get());
        out.put_u64(self.version.get());
        out.put_u32(self.index);
        out.put_u64(self.length_max);
        out.put_u64(self.epoch.get());
        out.put_u64(self.expires.as_millis());
        out.put_u64(self.principal.get());
        let mac = key.mac(CONTEXT, &out);
        out.put_slice(&mac);
        out
    }

    /// Checks a grant that was presented to the node `me` at cluster time `now`.
    ///
    /// # Errors
    /// Forged, not for `me`, expired, or made with an unknown key.
    pub fn open(sealed: &[u8], keys: &DataPlaneKeys, me: NodeId, now: ClusterTime) -> Result<Grant, Error> {
        let (mut body, mac) = sealed.split_at_checked(BODY_BYTES).ok_or(Error::Invalid)?;
        let whole = body;
        let version = body.get_u8();
        let operation = body.get_u8();
        let key_id = KeyId::new(body.get_u64());
        if version != FORMAT_VERSION || mac.len() != MAC_BYTES {
            return Err(Error::Invalid);
        }
        let key = keys.find(key_id).ok_or(Error::UnknownKey)?;
        if !key.verify(CONTEXT, whole, mac) {
            return Err(Error::Invalid);
        }
        let node = NodeId::new(body.get_u64());
        let peer = body.get_u64();
        let mut attempt = [0; 16];
        body.copy_to_slice(&mut attempt);
        let operation = match operation {
            1 => Operation::WritePrimary {
                delegate: (peer != 0).then(|| NodeId::new(peer)),
            },
            2 => Operation::WriteDelegate {
                primary: NodeId::new(peer),
            },
            3 => Operation::Read,
            4 => Operation::Copy {
                peer: NodeId::new(peer),
            },
            _ => return Err(Error::Invalid),
        };
        let grant = Grant {
            operation,
            node,
            attempt: AttemptId::from_bytes(attempt),
            upload: UploadNumber::new(body.get_u64()),
            version: VersionId::new(body.get_u64()),
            index: body.get_u32(),
            length_max: body.get_u64(),
            epoch: Epoch::new(body.get_u64()),
            expires: ClusterTime::from_millis(body.get_u64()),
            principal: UserId::new(body.get_u64()),
        };
        if grant.node != me {
            return Err(Error::Invalid);
        }
        if now >= grant.expires {
            Err(Error::Expired)
        } else {
            Ok(grant)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> DataPlaneKeys {
        DataPlaneKeys::new(vec![DataPlaneKey::new(KeyId::new(4), &[5; 32])])
    }

    fn grant(operation: Operation) -> Grant {
        Grant {
            operation,
            node: NodeId::new(2),
            attempt: AttemptId::new(Epoch::new(3), 9),
            upload: UploadNumber::new(11),
            version: VersionId::new(12),
            index: 13,
            length_max: 14,
            epoch: Epoch::new(3),
            expires: ClusterTime::from_millis(100),
            principal: UserId::new(21),
        }
    }

    #[test]
    fn every_operation_round_trips() {
        let keys = keys();
        for operation in [
            Operation::WritePrimary { delegate: None },
            Operation::WritePrimary {
                delegate: Some(NodeId::new(8)),
            },
            Operation::WriteDelegate {
                primary: NodeId::new(8),
            },
            Operation::Read,
            Operation::Copy { peer: NodeId::new(8) },
        ] {
            let sealed = grant(operation).seal(keys.current().unwrap());
            assert_eq!(sealed.len(), GRANT_BYTES);
            let opened = Grant::open(&sealed, &keys, NodeId::new(2), ClusterTime::from_millis(99));
            assert_eq!(opened, Ok(grant(operation)));
        }
    }

    #[test]
    fn what_is_not_permitted_is_refused() {
        let keys = keys();
        let sealed = grant(Operation::Read).seal(keys.current().unwrap());
        let open = |bytes: &[u8], node, now| {
            Grant::open(bytes, &keys, NodeId::new(node), ClusterTime::from_millis(now))
        };
        assert_eq!(open(&sealed, 3, 0), Err(Error::Invalid));
        assert_eq!(open(&sealed, 2, 100), Err(Error::Expired));
        assert_eq!(open(&sealed[..sealed.len() - 1], 2, 0), Err(Error::Invalid));
        assert_eq!(open(&[], 2, 0), Err(Error::Invalid));
        for at in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            assert!(open(&forged, 2, 0).is_err(), "byte {at}");
        }
        let other = DataPlaneKeys::default();
        let unknown = Grant::open(&sealed, &other, NodeId::new(2), ClusterTime::default());
        assert_eq!(unknown, Err(Error::UnknownKey));
    }
}
