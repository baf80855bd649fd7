//! The store's one loop.
//!
//! | what | when | what it may change |
//! |---|---|---|
//! | checkpoint | every `checkpoint_period` if much changed ([`CHANGES_SHARE`]), every tenth in any case, or after [`CHECKPOINT_AFTER_BYTES`] of records | checkpoint and journal files |
//! | disks that were refused something, or are not recovered | every tick, later and later | their standing; a probe's file |
//! | holes and empty segments that could not be given back at once | every tick | bytes of dropped records alone |
//! | free space of the file systems | every tick, with the disks | the counts that admit writers |

use std::time::Duration;

use common::shutdown::Shutdown;

use super::error::Error;
use super::{DiskHandle, Inner, checkpoint, reclaim};

/// After so many bytes of new records a checkpoint is due: a start reads no more than about this per disk.
const CHECKPOINT_AFTER_BYTES: u64 = 4 << 30;
const TICK: Duration = Duration::from_secs(1);

/// A checkpoint costs as much as there are records, so that it waits until one in so many of them has changed: each
/// change then costs a bounded part of a checkpoint.
const CHANGES_SHARE: u64 = 16;
/// After so many periods a checkpoint is due for any change.
const PERIODS_MAX: u32 = 10;

impl Inner {
    pub(super) async fn maintain(&self, shutdown: Shutdown) {
        let period = self.config.checkpoint_period.get();
        let mut last = self.clock.moment();
        let mut last_all = last;
        let mut last_bytes = self.entered_bytes();
        while shutdown.guard(self.clock.sleep(TICK.min(period))).await.is_some() {
            self.look_after_disks().await;
            for handle in &self.disks {
                reclaim::punch_dropped(&handle.disk).await;
            }
            let now = self.clock.moment();
            let bytes = self.entered_bytes();
            let many_bytes = bytes.saturating_sub(last_bytes) >= CHECKPOINT_AFTER_BYTES;
            if now.since(last) < period && !many_bytes {
                continue;
            }
            let all = many_bytes || now.since(last_all) >= period * PERIODS_MAX;
            last = now;
            if all {
                (last_all, last_bytes) = (now, bytes);
            }
            if let Err(error) = self
                .checkpoint_if(|handle| all || self.much_changed(handle))
                .await
            {
                tracing::warn!(%error, "cannot write a checkpoint; trying again");
            }
        }
    }

    /// A checkpoint of every disk that takes writes; the first error, after all were tried.
    pub(super) async fn checkpoint(&self) -> Result<(), Error> {
        self.checkpoint_if(|_| true).await
    }

    async fn checkpoint_if(&self, is_due: impl Fn(&DiskHandle) -> bool) -> Result<(), Error> {
        let mut outcome = Ok(());
        for handle in &self.disks {
            if handle.disk.refusal().is_none() && is_due(handle) {
                outcome = outcome.and(checkpoint::make(handle).await);
            }
        }
        outcome
    }

    /// Whether enough changed since the last checkpoint for another one to be worth its cost.
    fn much_changed(&self, handle: &DiskHandle) -> bool {
        let last = handle.kept.lock().changes.unwrap_or_default();
        self.index.read(|content| {
            let own = content.disks.get(&handle.disk.number);
            own.is_some_and(|own| own.changes.saturating_sub(last) * CHANGES_SHARE >= own.records())
        })
    }

    fn entered_bytes(&self) -> u64 {
        self.index
            .read(|content| content.disks.values().map(|disk| disk.entered_bytes).sum())
    }
}
