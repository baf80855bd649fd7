//! Publishes the member's status to its watchers.

use std::sync::Arc;
use std::time::Duration;

use common::time::Clock;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;

use crate::roster::Roster;
use crate::status::GroupStatus;

const PERIOD: Duration = Duration::from_millis(100);

pub(crate) async fn run(roster: Arc<Roster>, status: watch::Sender<GroupStatus>, clock: Clock) {
    let mut metrics = roster.raft.server_metrics();
    let mut members = roster.state.members.subscribe();
    let mut leading = roster.timekeeper.watch();
    let mut fatal_told = false;
    loop {
        let now = roster.status();
        status.send_if_modified(|current| {
            let changed = *current != now;
            if changed {
                *current = now;
            }
            changed
        });
        tokio::select! {
            changed = metrics.changed() => {
                if changed.is_err() {
                    status.send_replace(roster.status());
                    return;
                }
            }
            // The senders live as long as the roster.
            _ = members.changed() => {}
            _ = leading.changed() => {}
            () = roster.health.failed(), if !fatal_told => fatal_told = true,
            () = clock.sleep(PERIOD) => {}
        }
    }
}
