//! Who waits for the outcome of which version.

use std::collections::BTreeMap;

use common::ids::VersionId;
use parking_lot::Mutex;
use proto::registry::v1::PublishOutcome;
use tokio::sync::oneshot;

use super::background::publish::version_of;

/// Resolves to an outcome; to an error when nobody will tell.
pub(crate) type Decision = oneshot::Receiver<PublishOutcome>;

/// Waiters by version. Guards the list alone; outcomes that were decided before are in the log's tables.
#[derive(Default)]
pub(crate) struct Outcomes(Mutex<BTreeMap<VersionId, Vec<oneshot::Sender<PublishOutcome>>>>);

impl Outcomes {
    /// Resolves to the outcome of `version` once the names layer has committed it. Ask the tables after registering,
    /// not before, or register before it is sealed.
    pub(crate) fn wait(&self, version: VersionId) -> Decision {
        let (wake, woken) = oneshot::channel();
        let mut waiting = self.0.lock();
        let list = waiting.entry(version).or_default();
        list.retain(|sender| !sender.is_closed());
        list.push(wake);
        woken
    }

    /// Tells all who wait for it.
    pub(crate) fn decided(&self, outcome: &PublishOutcome) {
        let list = self.0.lock().remove(&version_of(outcome));
        for waiter in list.into_iter().flatten() {
            // A waiter that gave up needs no telling.
            let _ = waiter.send(outcome.clone());
        }
    }

    /// Forgets waiters that gave up.
    pub(crate) fn sweep(&self) {
        self.0.lock().retain(|_, list| {
            list.retain(|sender| !sender.is_closed());
            !list.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiters_are_woken_once() {
        let outcomes = Outcomes::default();
        let outcome = PublishOutcome {
            upload_id: 1,
            published: true,
            ..PublishOutcome::default()
        };
        let version = version_of(&outcome);
        let (one, other) = (outcomes.wait(version), outcomes.wait(version));
        drop(outcomes.wait(VersionId::new(2)));
        outcomes.decided(&outcome);
        assert_eq!(
            (one.await.unwrap(), other.await.unwrap()),
            (outcome.clone(), outcome)
        );
        outcomes.sweep();
        assert!(outcomes.0.lock().is_empty());
    }
}
