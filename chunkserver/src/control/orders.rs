//! Orders that heartbeats bring, carried out apart from the heartbeat: an fsync or a hole that hangs delays no report.
//!
//! Invariants: one task per disk at most, so that what waits is bounded (P10) and a disk that hangs delays no other. The
//! leader repeats an order until it is reported as carried out, so that an order which finds its disk busy is not kept. A
//! leader's epoch is durable before anything it says is acted on (P7).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::ids::{AttemptId, DiskId, Epoch};
use common::time::Clock;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::store::Store;

/// How long an answer of a new leader waits for its epoch to become durable; with the next heartbeat it comes again.
const EPOCH_WAIT: Duration = Duration::from_millis(100);

/// A cloneable handle.
#[derive(Clone)]
pub(crate) struct Orders(Arc<Inner>);

struct Inner {
    store: Store,
    /// Guards what is under way and what is to be reported.
    state: Mutex<State>,
    /// Something is to be reported, or an epoch has become durable.
    progress: Notify,
}

#[derive(Default)]
struct State {
    /// Carried out and not reported yet.
    dropped: BTreeSet<AttemptId>,
    busy: BTreeSet<DiskId>,
    raising: Option<Epoch>,
}

impl Orders {
    pub(crate) fn new(store: Store) -> Self {
        Self(Arc::new(Inner {
            store,
            state: Mutex::default(),
            progress: Notify::new(),
        }))
    }

    /// Whether `epoch` is the highest that this node has made durable. A higher one is made durable in the background;
    /// [`Orders::progress`] tells when.
    pub(crate) fn obeys(&self, epoch: Epoch) -> bool {
        let durable = self.0.store.epoch();
        if epoch <= durable {
            return epoch == durable;
        }
        let mut state = self.0.state.lock();
        if state.raising.is_none() {
            state.raising = Some(epoch);
            tokio::spawn(Arc::clone(&self.0).raise(epoch));
        }
        false
    }

    /// As [`Orders::obeys`], waiting a little for an epoch that is new.
    pub(crate) async fn obeys_soon(&self, epoch: Epoch, clock: &Clock) -> bool {
        let durable = async {
            while !self.obeys(epoch) && epoch > self.0.store.epoch() {
                self.progress().await;
            }
        };
        // Most disks are quick, and what the leader says is worth more while it is fresh.
        let _ = clock.timeout(EPOCH_WAIT, durable).await;
        self.obeys(epoch)
    }

    /// Begins to carry out an order to drop. Parts whose disk is busy with an earlier order are left out.
    pub(crate) fn drop_attempts(&self, epoch: Epoch, attempts: &[AttemptId]) {
        let drops = self.0.store.split_drops(attempts);
        let mut state = self.0.state.lock();
        if !drops.done.is_empty() {
            state.dropped.extend(drops.done);
            self.0.progress.notify_one();
        }
        for (disk, attempts) in drops.by_disk {
            if state.busy.insert(disk) {
                tokio::spawn(Arc::clone(&self.0).carry_out(disk, epoch, attempts));
            }
        }
    }

    /// Attempts whose tombstones are durable and not reported yet, at most `limit`.
    pub(crate) fn dropped(&self, limit: usize) -> Vec<AttemptId> {
        self.0.state.lock().dropped.iter().take(limit).copied().collect()
    }

    /// The leader has committed that `attempts` are dropped; returns whether there are more to report.
    pub(crate) fn reported(&self, attempts: &[AttemptId]) -> bool {
        let mut state = self.0.state.lock();
        for attempt in attempts {
            state.dropped.remove(attempt);
        }
        !state.dropped.is_empty()
    }

    /// Returns when there is something new to report, or when an epoch has become durable.
    pub(crate) async fn progress(&self) {
        self.0.progress.notified().await;
    }
}

impl Inner {
    async fn raise(self: Arc<Self>, epoch: Epoch) {
        let outcome = self.store.raise_epoch(epoch).await;
        self.state.lock().raising = None;
        match outcome {
            Ok(()) => self.progress.notify_one(),
            Err(error) => {
                tracing::warn!(%epoch, %error, "the leader is not obeyed: its epoch cannot be made durable");
            }
        }
    }

    async fn carry_out(self: Arc<Self>, disk: DiskId, epoch: Epoch, attempts: Vec<AttemptId>) {
        match self.store.drop_on(disk, epoch, &attempts).await {
            Ok(()) => {
                tracing::info!(attempts = attempts.len(), %disk, %epoch, "dropped by order");
                self.state.lock().dropped.extend(attempts);
                self.progress.notify_one();
                self.store.punch_dropped(disk).await;
            }
            Err(error) => {
                // The store has said so, once.
                tracing::debug!(%disk, %epoch, %error, "an order to drop could not be carried out");
            }
        }
        self.state.lock().busy.remove(&disk);
    }
}

#[cfg(test)]
mod tests;
