//! The store's one loop.
//!
//! | what | when | what it may change |
//! |---|---|---|
//! | checkpoint | every `checkpoint_period`, or after [`CHECKPOINT_AFTER_BYTES`] of records on a disk | checkpoint and journal files |
//! | holes and empty segments that could not be given back at once | every tick | bytes of dropped records alone |
//! | free space of the file systems | every tick | the counts that admit writers |

use std::time::Duration;

use common::shutdown::Shutdown;

use super::error::Error;
use super::{Inner, checkpoint, reclaim};

/// After so many bytes of new records a checkpoint is due: a start reads no more than about this per disk.
const CHECKPOINT_AFTER_BYTES: u64 = 4 << 30;
const TICK: Duration = Duration::from_secs(1);

impl Inner {
    pub(super) async fn maintain(&self, shutdown: Shutdown) {
        let period = self.config.checkpoint_period.get();
        let mut last = self.clock.moment();
        let mut last_bytes = self.entered_bytes();
        while shutdown.guard(self.clock.sleep(TICK.min(period))).await.is_some() {
            for handle in &self.disks {
                handle.disk.measure().await;
                reclaim::punch_dropped(&handle.disk).await;
            }
            let now = self.clock.moment();
            let bytes = self.entered_bytes();
            if now.since(last) < period && bytes.saturating_sub(last_bytes) < CHECKPOINT_AFTER_BYTES {
                continue;
            }
            (last, last_bytes) = (now, bytes);
            if let Err(error) = self.checkpoint().await {
                tracing::warn!(%error, "cannot write a checkpoint; trying again");
            }
        }
    }

    /// A checkpoint of every disk that takes writes; the first error, after all were tried.
    pub(super) async fn checkpoint(&self) -> Result<(), Error> {
        let mut outcome = Ok(());
        for handle in &self.disks {
            if handle.disk.disk.poisoned().is_none() {
                outcome = outcome.and(checkpoint::make(handle).await);
            }
        }
        outcome
    }

    fn entered_bytes(&self) -> u64 {
        self.index
            .read(|content| content.disks.values().map(|disk| disk.entered_bytes).sum())
    }
}
