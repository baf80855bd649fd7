//! Begins each leadership with an epoch, and lets time go on while nothing else is committed.

use std::time::Duration;

use common::ids::Epoch;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{ReadPolicy, ServerState};

use crate::error::Error;
use crate::ledger::Ledger;
use crate::schema::{Kind, LeaderStarted, Tick};

/// Pause after a leadership that could not begin.
const BEGIN_AGAIN: Duration = Duration::from_millis(50);

/// Follows elections: our leadership is in force once its `LeaderStarted` is applied here.
pub(crate) async fn run(ledger: Ledger) {
    let mut metrics = ledger.raft.server_metrics();
    loop {
        let (state, vote) = {
            let now = metrics.borrow_watched();
            (now.state, now.vote)
        };
        let timekeeper = &ledger.roster.timekeeper;
        let term = vote.leader_id.term;
        let begun = timekeeper.leading().is_some_and(|leading| leading.term == term);
        if state != ServerState::Leader {
            timekeeper.end();
        } else if !begun {
            timekeeper.end();
            if let Err(error) = begin(&ledger, term).await {
                tracing::debug!(term, %error, "a leadership could not begin");
                ledger.clock.sleep(BEGIN_AGAIN).await;
                if ledger.roster.health.reason().is_some() || matches!(error, Error::Closed) {
                    return;
                }
                continue;
            }
        }
        let ended = tokio::select! {
            changed = metrics.changed() => changed.is_err(),
            () = ledger.roster.renewed.notified() => false,
        };
        if ended {
            timekeeper.end();
            return;
        }
    }
}

async fn begin(ledger: &Ledger, term: u64) -> Result<(), Error> {
    // Everything committed before must be applied here: the first stamp is above all of it.
    let barrier = ledger.raft.ensure_linearizable(ReadPolicy::ReadIndex);
    match ledger.clock.timeout(ledger.timeout, barrier).await {
        Some(Ok(_)) => {}
        Some(Err(error)) => return Err(Error::retry(error.to_string())),
        None => return Err(Error::retry("no quorum answers")),
    }
    let node = ledger.roster.identity.node.get();
    let stamp = ledger.roster.timekeeper.first_stamp();
    let started = Kind::LeaderStarted(LeaderStarted { node, term });
    ledger.commit_at(term, stamp, started).await?;
    let leadership = ledger.roster.state.position.borrow().leadership;
    match leadership {
        Some(found) if found.term == term && found.node == node => {
            ledger.roster.timekeeper.begin(term, Epoch::new(found.epoch));
            tracing::info!(term, epoch = found.epoch, "this member leads");
            Ok(())
        }
        _ => Err(Error::retry("another leadership has begun")),
    }
}

/// Commits a tick when nothing was committed for `tick`.
pub(crate) async fn tick(ledger: Ledger, tick: Duration) {
    loop {
        ledger.clock.sleep(tick / 4).await;
        let timekeeper = &ledger.roster.timekeeper;
        let Some(leading) = timekeeper.leading() else {
            continue;
        };
        if timekeeper.idle(leading) >= tick {
            // Without a quorum it fails, and time stands still.
            let _ = ledger.commit(Kind::Tick(Tick {})).await;
        }
    }
}
