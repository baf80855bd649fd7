//! Who waits for the outcome of which version.

use std::collections::BTreeMap;

use common::ids::VersionId;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Waiters by version. Guards the list alone; the outcome itself is read from the log's tables.
#[derive(Default)]
pub(crate) struct Outcomes(Mutex<BTreeMap<VersionId, Vec<oneshot::Sender<()>>>>);

impl Outcomes {
    /// Resolves when the outcome of `version` was committed here. Ask the tables after registering, not before.
    pub(crate) fn wait(&self, version: VersionId) -> oneshot::Receiver<()> {
        let (wake, woken) = oneshot::channel();
        let mut waiting = self.0.lock();
        let list = waiting.entry(version).or_default();
        list.retain(|sender| !sender.is_closed());
        list.push(wake);
        woken
    }

    /// Wakes all who wait for `version`.
    pub(crate) fn decided(&self, version: VersionId) {
        let list = self.0.lock().remove(&version);
        for waiter in list.into_iter().flatten() {
            // A waiter that gave up needs no waking.
            let _ = waiter.send(());
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
        let version = VersionId::new(1);
        let (one, other) = (outcomes.wait(version), outcomes.wait(version));
        drop(outcomes.wait(VersionId::new(2)));
        outcomes.decided(version);
        assert!(one.await.is_ok() && other.await.is_ok());
        outcomes.sweep();
        assert!(outcomes.0.lock().is_empty());
    }
}
