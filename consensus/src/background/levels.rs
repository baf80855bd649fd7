//! Raises the group's feature level once every member's build knows a higher one.

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;

use crate::ledger::Ledger;
use crate::machine::FeatureLevel;
use crate::schema::{Kind, RaiseLevel};
use crate::state::all_know;

const PERIOD: Duration = Duration::from_secs(1);

/// `known` is the highest level of this build.
pub(crate) async fn run(ledger: Ledger, known: FeatureLevel) {
    loop {
        ledger.clock.sleep(PERIOD).await;
        let level = ledger.roster.state.position.borrow().level;
        if ledger.roster.timekeeper.leading().is_none() || level >= known {
            continue;
        }
        let Some(level) = due(&ledger, level, known) else {
            continue;
        };
        let raise = Kind::RaiseLevel(RaiseLevel { level: level.get() });
        if let Err(error) = ledger.commit(raise).await {
            tracing::debug!(%level, %error, "the feature level cannot be raised now");
        }
    }
}

/// The highest level above `current` that all members know.
fn due(ledger: &Ledger, current: FeatureLevel, known: FeatureLevel) -> Option<FeatureLevel> {
    let members = ledger.roster.state.members.borrow().clone();
    let nodes: Vec<u64> = {
        let metrics = ledger.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.nodes().map(|(node, _)| *node).collect()
    };
    (current.get() + 1..=known.get())
        .rev()
        .map(FeatureLevel::new)
        .find(|level| all_know(*level, nodes.iter().copied(), &members))
}
