//! Publishes the member's status to its watchers.

use std::sync::Arc;
use std::time::Duration;

use common::shutdown::Shutdown;
use common::time::Clock;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;

use crate::roster::Roster;
use crate::status::GroupStatus;

const PERIOD: Duration = Duration::from_millis(100);

pub(crate) async fn run(
    roster: Arc<Roster>,
    status: watch::Sender<GroupStatus>,
    clock: Clock,
    ending: Shutdown,
) {
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
                    if !ending.is_triggered() {
                        roster.health.fail(why_ended(&roster));
                    }
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

/// Raft ends by itself only when it must.
fn why_ended(roster: &Roster) -> String {
    match &roster.raft.metrics().borrow_watched().running_state {
        Err(fatal) => format!("consensus ended: {fatal}"),
        Ok(()) => "consensus ended without saying why".to_owned(),
    }
}
