//! Keeps the log short, the files tidy, and an eye on the space that is left.
//!
//! Openraft lets go of log entries that a "snapshot" covers; ours is the state machine itself, made durable. So this
//! loop decides when that happens, by entries and by bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;

use crate::ledger::Ledger;
use crate::log::{LogStore, blocking};
use crate::settings::Limits;
use crate::state::StateMachine;

const PERIOD: Duration = Duration::from_secs(1);
/// Periods between two looks at how many bytes of log are kept.
const SURPLUS_PERIODS: u32 = 10;
/// Periods between two quiet moments, at least.
const QUIET_PERIODS: u32 = 30;
/// Bytes of log in a period below which it is quiet.
const QUIET_BYTES_MAX: u64 = 64 << 10;

pub(crate) struct Upkeep {
    pub(crate) ledger: Ledger,
    pub(crate) log: LogStore,
    pub(crate) state: StateMachine,
    pub(crate) limits: Limits,
    /// Whether the disk has less than the reserve left.
    pub(crate) nearly_full: Arc<AtomicBool>,
}

impl Upkeep {
    pub(crate) async fn run(self) {
        let mut durable_bytes = self.log.appended_bytes();
        let mut last_bytes = durable_bytes;
        let mut periods = 0_u32;
        let mut tidied_at = 0_u64;
        loop {
            self.look_at_space().await;
            self.ledger.clock.sleep(PERIOD).await;
            periods = periods.wrapping_add(1);
            let bytes = self.log.appended_bytes();
            let applied = self.state.shared.position.borrow().index().get();
            let durable = self.state.shared.durable.load(Ordering::SeqCst);
            let many = applied.saturating_sub(durable) >= self.limits.snapshot_entries;
            let large = bytes - durable_bytes >= self.limits.snapshot_bytes && applied > durable;
            if many || large {
                durable_bytes = bytes;
                if self.ledger.raft.trigger().snapshot().await.is_err() {
                    return;
                }
            }
            if periods.is_multiple_of(SURPLUS_PERIODS) {
                self.drop_surplus().await;
            }
            let quiet = bytes - last_bytes < QUIET_BYTES_MAX;
            last_bytes = bytes;
            if quiet && periods.is_multiple_of(QUIET_PERIODS) && applied != tidied_at {
                tidied_at = applied;
                self.log.quiet();
                self.state.quiet();
            }
        }
    }

    async fn drop_surplus(&self) {
        let covered = self.ledger.raft.metrics().borrow_watched().snapshot;
        let Ok(Some(surplus)) = self.log.surplus(self.limits.log_keep_bytes).await else {
            return;
        };
        if let Some(covered) = covered {
            let upto = surplus.min(covered.index());
            // Refused or not, the next look finds what is left.
            let _ = self.ledger.raft.trigger().purge_log(upto).await;
        }
    }

    async fn look_at_space(&self) {
        let directory = self.state.shared.files.directory().to_owned();
        let Ok(space) = blocking(move || common::disk::space_at(&directory)).await else {
            return;
        };
        let nearly_full = space.available.get() < self.limits.disk_reserve_bytes;
        if self.nearly_full.swap(nearly_full, Ordering::Relaxed) != nearly_full {
            if nearly_full {
                tracing::error!(free = %space.available, "the disk of the group is nearly full: only what frees space is taken");
            } else {
                tracing::info!(free = %space.available, "the disk of the group has space again");
            }
        }
    }
}
