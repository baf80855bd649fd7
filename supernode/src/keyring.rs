//! The keys that sign tickets, as this supernode knows them: read from the tables, kept in memory.
//!
//! Every supernode signs and checks by itself. A key that is not known here (a leader has just made it) is looked up
//! once before the caller is told to try again.

use std::sync::Arc;
use std::time::Duration;

use common::error::Kind;
use common::ids::UserId;
use common::time::ClusterTime;
use parking_lot::RwLock;
use proto::error::RpcError;
use proto::ticket::{self, Body, Checker, Purpose, SigningKey, VerifyingKey};

use crate::store::key::Seed;

/// Tickets whose signature is not looked at again: the tokens of the users at work.
const TICKETS_REMEMBERED: usize = 4096;

/// A cloneable view of the keys.
#[derive(Clone)]
pub(crate) struct Keyring {
    /// Guards the keys of one reading together; the current one first.
    keys: Arc<RwLock<Keys>>,
    checker: Arc<Checker>,
}

impl Default for Keyring {
    fn default() -> Self {
        Self {
            keys: Arc::default(),
            checker: Arc::new(Checker::new(TICKETS_REMEMBERED)),
        }
    }
}

#[derive(Default)]
struct Keys {
    current: Option<(Arc<SigningKey>, ClusterTime)>,
    verifying: Vec<VerifyingKey>,
}

impl Keyring {
    /// Takes in what the tables say, the current key first.
    pub(crate) fn learn(&self, seeds: &[Seed]) {
        let keys: Vec<(SigningKey, ClusterTime)> = seeds
            .iter()
            .filter_map(|seed| Some((SigningKey::from_seed(seed.id, &seed.bytes)?, seed.made)))
            .collect();
        let verifying = keys.iter().map(|(key, _)| key.verifying_key()).collect();
        let current = keys.into_iter().next().map(|(key, made)| (Arc::new(key), made));
        *self.keys.write() = Keys { current, verifying };
    }

    /// The public halves, the current one first.
    pub(crate) fn verifying(&self) -> Vec<VerifyingKey> {
        self.keys.read().verifying.clone()
    }

    /// The current key's number and when it was made; `None` before the first.
    pub(crate) fn current(&self) -> Option<(u64, ClusterTime)> {
        let keys = self.keys.read();
        let (key, made) = keys.current.as_ref()?;
        Some((key.verifying_key().id().get(), *made))
    }

    /// A ticket for `user`, good from `now` for `lifetime`.
    ///
    /// # Errors
    /// `Retry` before the first leader has made a key.
    pub(crate) fn sign(
        &self,
        now: ClusterTime,
        lifetime: Duration,
        user: UserId,
        purpose: Purpose,
    ) -> Result<Vec<u8>, RpcError> {
        let current = self.keys.read().current.as_ref().map(|(key, _)| Arc::clone(key));
        let key = current.ok_or_else(|| {
            RpcError::new(Kind::Retry, "E_NO_KEY", "the names group has no signing key yet")
                .retry_after(Duration::from_millis(500))
        })?;
        Ok(key.sign(&Body {
            issued_millis: now.as_millis(),
            expires_millis: (now + lifetime).as_millis(),
            user_id: user.get(),
            purpose: Some(purpose),
        }))
    }

    /// Checks a ticket at `now`.
    ///
    /// # Errors
    /// Forged, expired, or signed with a key that is not known here.
    pub(crate) fn verify(&self, now: ClusterTime, ticket: &[u8]) -> Result<Body, ticket::Error> {
        self.checker.verify(&self.keys.read().verifying, now, ticket)
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyring({} keys)", self.keys.read().verifying.len())
    }
}

#[cfg(test)]
mod tests {
    use common::ids::KeyId;
    use zeroize::Zeroizing;

    use super::*;

    fn seed(id: u64) -> Seed {
        Seed {
            id: KeyId::new(id),
            bytes: Zeroizing::new(vec![id as u8; 32]),
            made: ClusterTime::from_millis(id),
        }
    }

    #[test]
    fn the_previous_key_is_good_until_it_is_forgotten() {
        let ring = Keyring::default();
        let at = ClusterTime::from_millis(100);
        let sign = || {
            let purpose = Purpose::Read(ticket::v1::Read::default());
            ring.sign(at, Duration::from_secs(1), UserId::new(7), purpose)
        };
        assert_eq!(sign().unwrap_err().code, "E_NO_KEY");
        ring.learn(&[seed(1)]);
        let old = sign().unwrap();
        ring.learn(&[seed(2), seed(1)]);
        assert_eq!(ring.current(), Some((2, ClusterTime::from_millis(2))));
        assert_eq!(ring.verify(at, &old).unwrap().user_id, 7);
        assert!(ring.verify(at, &sign().unwrap()).is_ok());
        let late = ClusterTime::from_millis(1_100);
        assert_eq!(ring.verify(late, &old), Err(ticket::Error::Expired));
        ring.learn(&[seed(3), seed(2)]);
        assert_eq!(ring.verify(at, &old), Err(ticket::Error::UnknownKey));
    }
}
