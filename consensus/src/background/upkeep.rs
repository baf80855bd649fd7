//! Keeps the log short, and the files tidy.
//!
//! Openraft lets go of log entries that a "snapshot" covers; ours is the state machine itself, made durable. So this
//! loop decides when that happens, by entries and by bytes.

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;

use crate::ledger::Ledger;
use crate::log::LogStore;
use crate::settings::Limits;
use crate::state::StateMachine;

const PERIOD: Duration = Duration::from_secs(1);
/// Periods between two looks at how many bytes of log are kept.
const SURPLUS_PERIODS: u32 = 10;
/// Periods between two quiet moments, at least.
const QUIET_PERIODS: u32 = 30;
/// Bytes of log in a period below which it is quiet.
const QUIET_BYTES_MAX: u64 = 64 << 10;

pub(crate) async fn run(ledger: Ledger, log: LogStore, state: StateMachine, limits: Limits) {
    let mut durable_bytes = log.appended_bytes();
    let mut last_bytes = durable_bytes;
    let mut periods = 0_u32;
    let mut tidied_at = 0_u64;
    loop {
        ledger.clock.sleep(PERIOD).await;
        periods = periods.wrapping_add(1);
        let bytes = log.appended_bytes();
        let applied = state.shared.position.borrow().index().get();
        let durable = state.shared.durable.load(std::sync::atomic::Ordering::SeqCst);
        let many = applied.saturating_sub(durable) >= limits.snapshot_entries;
        let large = bytes - durable_bytes >= limits.snapshot_bytes && applied > durable;
        if many || large {
            durable_bytes = bytes;
            if ledger.raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
        if periods.is_multiple_of(SURPLUS_PERIODS) {
            drop_surplus(&ledger, &log, limits.log_keep_bytes).await;
        }
        let quiet = bytes - last_bytes < QUIET_BYTES_MAX;
        last_bytes = bytes;
        if quiet && periods.is_multiple_of(QUIET_PERIODS) && applied != tidied_at {
            tidied_at = applied;
            log.quiet();
            state.quiet();
        }
    }
}

async fn drop_surplus(ledger: &Ledger, log: &LogStore, keep_bytes: u64) {
    let covered = ledger.raft.metrics().borrow_watched().snapshot;
    let Ok(Some(surplus)) = log.surplus(keep_bytes).await else {
        return;
    };
    if let Some(covered) = covered {
        // Refused or not, the next look finds what is left.
        let _ = ledger
            .raft
            .trigger()
            .purge_log(surplus.min(covered.index()))
            .await;
    }
}
