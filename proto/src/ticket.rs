//! Tickets: short-lived statements of the names layer, signed with Ed25519, so that whoever holds the public key can
//! check them without asking. A cluster can verify but never make one (P9).
//!
//! Expiry is in the names group's replicated time, never a wall clock (P7): a cluster knows that time from the
//! supernodes' heartbeat replies and counts on monotonically.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use common::error::Kind;
use common::ids::KeyId;
use common::time::ClusterTime;
use prost::Message;
use quick_cache::sync::Cache;

generated!(pub, "ticket");

pub use v1::Body;
pub use v1::body::Purpose;

/// The largest encoded ticket that is looked at.
pub const TICKET_BYTES_MAX: usize = 4096;

const CONTEXT: &[u8] = b"dbfs-ticket-1:";

/// A ticket was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a ticket, or a forged one.
    #[error("the ticket is not valid")]
    Forged,
    /// Its time is over.
    #[error("the ticket has expired")]
    Expired,
    /// Signed with a key that is not known here (yet).
    #[error("the ticket was signed with a key that is not known here yet")]
    UnknownKey,
}

impl Error {
    /// What the caller can do.
    pub const fn kind(self) -> Kind {
        match self {
            Error::Forged => Kind::Denied,
            Error::Expired => Kind::Denied,
            Error::UnknownKey => Kind::Retry,
        }
    }
}

/// A key that signs tickets.
pub struct SigningKey {
    id: KeyId,
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// The key with the secret `seed` of 32 random bytes; `None` if the seed is not one.
    pub fn from_seed(id: KeyId, seed: &[u8]) -> Option<Self> {
        Ed25519KeyPair::from_seed_unchecked(seed)
            .ok()
            .map(|pair| Self { id, pair })
    }

    /// The public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey {
            id: self.id,
            public: self.pair.public_key().as_ref().to_vec(),
        }
    }

    /// `body`, signed and encoded.
    pub fn sign(&self, body: &Body) -> Vec<u8> {
        let body = body.encode_to_vec();
        let signature = self.pair.sign(&signed_bytes(&body)).as_ref().to_vec();
        v1::Signed {
            key_id: self.id.get(),
            body: body.into(),
            signature: signature.into(),
        }
        .encode_to_vec()
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

/// The public half of a [`SigningKey`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKey {
    id: KeyId,
    public: Vec<u8>,
}

impl VerifyingKey {
    /// A key as it came over the wire: 32 bytes.
    pub fn new(id: KeyId, public: Vec<u8>) -> Self {
        Self { id, public }
    }

    /// Which key it is.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// 32 bytes.
    pub fn public(&self) -> &[u8] {
        &self.public
    }
}

/// Tickets that were found valid lately, so that the same one again costs no look at its signature. What a ticket says
/// of itself (its end) is looked at every time, and so is whether its key is still good.
pub struct Checker {
    valid: Cache<Vec<u8>, (VerifyingKey, Body)>,
}

impl Checker {
    /// Remembers about `tickets_max` tickets.
    pub fn new(tickets_max: usize) -> Self {
        Self {
            valid: Cache::new(tickets_max),
        }
    }

    /// Checks `ticket` against `keys` (current and previous) at names time `now`.
    ///
    /// # Errors
    /// Forged, expired, or signed with a key that is not among `keys`.
    pub fn verify(&self, keys: &[VerifyingKey], now: ClusterTime, ticket: &[u8]) -> Result<Body, Error> {
        if let Some((key, body)) = self.valid.get(ticket)
            && keys.contains(&key)
        {
            return in_time(body, now);
        }
        let (key, body) = check_signature(keys, ticket)?;
        let body = in_time(body, now)?;
        self.valid.insert(ticket.to_vec(), (key.clone(), body.clone()));
        Ok(body)
    }
}

impl std::fmt::Debug for Checker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Checker({} tickets)", self.valid.len())
    }
}

fn check_signature<'k>(keys: &'k [VerifyingKey], ticket: &[u8]) -> Result<(&'k VerifyingKey, Body), Error> {
    if ticket.len() > TICKET_BYTES_MAX {
        return Err(Error::Forged);
    }
    let signed = v1::Signed::decode(ticket).map_err(|_| Error::Forged)?;
    let key = keys
        .iter()
        .find(|key| key.id.get() == signed.key_id)
        .ok_or(Error::UnknownKey)?;
    UnparsedPublicKey::new(&ED25519, &key.public)
        .verify(&signed_bytes(&signed.body), &signed.signature)
        .map_err(|_| Error::Forged)?;
    let body = Body::decode(signed.body.as_ref()).map_err(|_| Error::Forged)?;
    Ok((key, body))
}

fn in_time(body: Body, now: ClusterTime) -> Result<Body, Error> {
    if now.as_millis() >= body.expires_millis {
        Err(Error::Expired)
    } else {
        Ok(body)
    }
}

fn signed_bytes(body: &[u8]) -> Vec<u8> {
    [CONTEXT, body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body() -> Body {
        Body {
            issued_millis: 10,
            expires_millis: 1_000,
            user_id: 7,
            purpose: Some(Purpose::Read(v1::Read {
                version: 3,
                cluster_id: vec![1; 16].into(),
            })),
        }
    }

    #[test]
    fn a_ticket_is_valid_until_it_expires_or_its_key_goes_also_where_it_is_remembered() {
        let key = SigningKey::from_seed(KeyId::new(1), &[9; 32]).unwrap();
        let other = SigningKey::from_seed(KeyId::new(1), &[8; 32]).unwrap();
        let ticket = key.sign(&body());
        let checker = Checker::new(10);
        for _ in 0..2 {
            let check = |keys: &[VerifyingKey], millis| {
                checker.verify(keys, ClusterTime::from_millis(millis), &ticket)
            };
            assert_eq!(check(&[], 0), Err(Error::UnknownKey));
            assert_eq!(check(&[key.verifying_key()], 999), Ok(body()));
            assert_eq!(check(&[key.verifying_key()], 1_000), Err(Error::Expired));
            assert_eq!(check(&[other.verifying_key()], 0), Err(Error::Forged));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let key = SigningKey::from_seed(KeyId::new(1), &[9; 32]).unwrap();
        let keys = [key.verifying_key()];
        let ticket = key.sign(&body());
        let checker = Checker::new(10);
        let check = |ticket: &[u8]| checker.verify(&keys, ClusterTime::from_millis(0), ticket);
        assert_eq!(check(&ticket), Ok(body()));
        for at in 0..ticket.len() {
            let mut forged = ticket.clone();
            forged[at] ^= 1;
            assert_ne!(check(&forged), Ok(body()), "byte {at}");
        }
    }
}
