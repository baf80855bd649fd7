//! Keeps the log short, the files tidy, and an eye on the space that is left.
//!
//! Openraft lets go of log entries that a "snapshot" covers; ours is the state machine itself, made durable. So this
//! loop decides when that happens, by entries and by bytes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;

use crate::engine::LogId;
use crate::ledger::Ledger;
use crate::log::{LogStore, blocking};
use crate::settings::Limits;
use crate::space::{Space, SpaceBoard};
use crate::state::StateMachine;

const PERIOD: Duration = Duration::from_secs(1);
/// Periods between two looks at how many bytes of log are kept.
const SURPLUS_PERIODS: u32 = 10;
/// How many times `log_keep_bytes` of log are kept at most behind a state on its way to a member.
const HOLD_FACTOR: u64 = 4;
/// Periods between two quiet moments, at least.
const QUIET_PERIODS: u32 = 30;
/// Bytes of log in a period below which it is quiet.
const QUIET_BYTES_MAX: u64 = 64 << 10;

pub(crate) struct Upkeep {
    pub(crate) ledger: Ledger,
    pub(crate) log: LogStore,
    pub(crate) state: StateMachine,
    pub(crate) limits: Limits,
    pub(crate) space: Arc<SpaceBoard>,
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
            self.state.shared.transfers.expire(self.ledger.clock.moment());
            self.purge(periods.is_multiple_of(SURPLUS_PERIODS)).await;
            let quiet = bytes - last_bytes < QUIET_BYTES_MAX;
            last_bytes = bytes;
            if quiet && periods.is_multiple_of(QUIET_PERIODS) && applied != tidied_at {
                tidied_at = applied;
                self.log.quiet();
                self.state.quiet();
            }
        }
    }

    /// Lets go of what the state machine covers, but for some entries for members that lag, and of more than that where
    /// it is too many bytes. What follows a state on its way to a member stays, within bounds.
    async fn purge(&self, by_bytes: bool) {
        let (covered, purged) = {
            let metrics = self.ledger.raft.metrics();
            let metrics = metrics.borrow_watched();
            let index = |id: Option<LogId>| id.map_or(0, |id| id.index());
            (index(metrics.snapshot), index(metrics.purged))
        };
        let mut upto = covered.saturating_sub(self.limits.log_keep_entries);
        if by_bytes && let Ok(Some(surplus)) = self.log.surplus(self.limits.log_keep_bytes).await {
            upto = upto.max(surplus.min(covered));
        }
        let transfers = &self.state.shared.transfers;
        if let Some(held) = transfers.held()
            && held < upto
        {
            let bytes_max = self.limits.log_keep_bytes.saturating_mul(HOLD_FACTOR);
            let too_many = by_bytes && matches!(self.log.surplus(bytes_max).await, Ok(Some(at)) if at > held);
            if too_many || self.space.here().is_some_and(Space::is_short) {
                tracing::warn!(
                    held,
                    "a member is sent the state for too long: the log behind it goes"
                );
                transfers.give_up();
            } else {
                upto = held;
            }
        }
        if upto > purged {
            // Refused or not, the next look finds what is left.
            let _ = self.ledger.raft.trigger().purge_log(upto).await;
        }
    }

    async fn look_at_space(&self) {
        let directory = self.state.shared.files.directory().to_owned();
        let Ok(space) = blocking(move || common::disk::space_at(&directory)).await else {
            return;
        };
        let here = Space {
            free_bytes: space.available.get(),
            reserve_bytes: self.limits.disk_reserve_bytes,
        };
        let node = self.ledger.roster.identity.node;
        self.space.measured(node.get(), here, self.ledger.clock.moment());
    }
}
