//! [`NamesView`]: the names layer's time and verifying keys, so that tickets can be checked without asking.

use std::sync::Arc;

use common::time::{Clock, ClusterTime, Moment};
use parking_lot::RwLock;
use proto::ticket::{self, Body, Checker, VerifyingKey};

/// Tickets whose signature is not looked at again: those of the uploads under way.
const TICKETS_REMEMBERED: usize = 4096;

/// A cloneable view of the names layer. The leader fills it from its heartbeats to the supernodes, the other members
/// from their heartbeats to the leader.
#[derive(Clone)]
pub struct NamesView {
    clock: Clock,
    /// Guards time and keys of one reply together.
    view: Arc<RwLock<View>>,
    checker: Arc<Checker>,
}

#[derive(Default)]
struct View {
    time: ClusterTime,
    as_of: Moment,
    keys: Vec<VerifyingKey>,
}

impl NamesView {
    /// A view that knows no key yet: every ticket is answered with Retry.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            view: Arc::default(),
            checker: Arc::new(Checker::new(TICKETS_REMEMBERED)),
        }
    }

    /// Takes in what the names layer said. Its time never goes back below what it once said.
    pub fn learn(&self, time: ClusterTime, keys: Vec<VerifyingKey>) {
        if keys.is_empty() {
            return;
        }
        let as_of = self.clock.moment();
        let mut view = self.view.write();
        *view = View {
            time: time.max(view.time),
            as_of,
            keys,
        };
    }

    /// The names layer's time, counted on by our monotonic clock. While the names layer has no leader it runs ahead, so
    /// that tickets end early rather than late (P7).
    pub fn now(&self) -> ClusterTime {
        let view = self.view.read();
        view.time + self.clock.moment().since(view.as_of)
    }

    /// What to tell the other members: time and keys; no keys until the names layer was heard.
    pub fn known(&self) -> (ClusterTime, Vec<VerifyingKey>) {
        (self.now(), self.view.read().keys.clone())
    }

    /// Checks a ticket.
    ///
    /// # Errors
    /// Forged, expired, or signed with a key that is not known here (yet).
    pub fn verify(&self, ticket: &[u8]) -> Result<Body, ticket::Error> {
        let now = self.now();
        self.checker.verify(&self.view.read().keys, now, ticket)
    }
}

impl std::fmt::Debug for NamesView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NamesView({:?})", self.now())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use common::ids::KeyId;
    use common::time::ManualTime;
    use proto::ticket::SigningKey;

    use super::*;

    #[test]
    fn tickets_are_checked_at_the_names_layers_time() {
        let time = ManualTime::default();
        let view = NamesView::new(time.clock());
        let key = SigningKey::from_seed(KeyId::new(1), &[4; 32]).unwrap();
        let ticket = key.sign(&Body {
            expires_millis: 5_000,
            ..Body::default()
        });
        assert_eq!(view.verify(&ticket), Err(ticket::Error::UnknownKey));
        view.learn(ClusterTime::from_millis(4_000), vec![key.verifying_key()]);
        assert!(view.verify(&ticket).is_ok());
        time.advance(Duration::from_millis(1_000));
        assert_eq!(view.verify(&ticket), Err(ticket::Error::Expired));
        view.learn(ClusterTime::from_millis(4_500), vec![key.verifying_key()]);
        assert!(
            view.verify(&ticket).is_ok(),
            "the names layer says that less time has passed"
        );
        view.learn(ClusterTime::from_millis(1), vec![key.verifying_key()]);
        assert!(view.now() >= ClusterTime::from_millis(4_500));
    }
}
