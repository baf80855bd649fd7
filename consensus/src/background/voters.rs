//! Carries out what [`crate::membership`] decides, one step at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{ChangeMembers, EmptyNode, Instant as _};

use crate::engine::{RaftError, WriteError};
use crate::ledger::Ledger;
use crate::membership::{self, Step, View, Wanted};
use crate::schema::{Forget, Kind, SetAside};

const PERIOD: Duration = Duration::from_millis(500);
/// After a step that was carried out: the next is often due already.
const PAUSE: Duration = Duration::from_millis(50);
/// A learner that lacks fewer entries has caught up.
pub(crate) const LAG_ENTRIES_MAX: u64 = 1000;

pub(crate) async fn run(ledger: Ledger, wanted: Wanted) {
    let mut leading_since = None;
    let mut pause = PERIOD;
    loop {
        ledger.clock.sleep(std::mem::replace(&mut pause, PERIOD)).await;
        let Some(leading) = ledger.roster.timekeeper.leading() else {
            leading_since = None;
            continue;
        };
        let now = ledger.clock.moment();
        let since = match leading_since {
            Some((term, since)) if term == leading.term => since,
            _ => now,
        };
        leading_since = Some((leading.term, since));
        let view = look(&ledger, now.since(since));
        let Some(step) = membership::next_step(&view, &wanted) else {
            continue;
        };
        match carry_out(&ledger, step, &view).await {
            Ok(()) => {
                tracing::info!(?step, "the group's members changed");
                pause = PAUSE;
            }
            Err(error) => tracing::debug!(?step, %error, "a step of the membership must wait"),
        }
    }
}

/// What is known now. Who never answered under this leadership has been silent since it began.
fn look(ledger: &Ledger, leading_for: Duration) -> View {
    let metrics = ledger.raft.metrics();
    let metrics = metrics.borrow_watched();
    let membership = metrics.membership_config.membership();
    let heartbeats = metrics.heartbeat.clone().unwrap_or_default();
    let replication = metrics.replication.clone().unwrap_or_default();
    let last = metrics.last_log_index.unwrap_or(0);
    let nodes: BTreeSet<u64> = membership.nodes().map(|(node, _)| *node).collect();
    let silent: BTreeMap<u64, Duration> = nodes
        .iter()
        .map(|node| {
            let answered = heartbeats.get(node).copied().flatten();
            (*node, answered.map_or(leading_for, |at| at.elapsed()))
        })
        .collect();
    let caught_up = replication
        .iter()
        .filter(|(_, matching)| matching.is_some_and(|id| id.index() + LAG_ENTRIES_MAX >= last))
        .map(|(node, _)| *node);
    let now = ledger.roster.timekeeper.now();
    let rows = ledger.roster.state.members.borrow().clone();
    let aside = rows.iter().filter(|row| !row.active);
    let aside = aside.map(|row| (row.node, now.since(row.aside_since)));
    View {
        us: metrics.id,
        configs: membership.get_joint_config().clone(),
        learners: membership.learner_ids().collect(),
        active: rows.iter().map(|row| (row.node, row.active)).collect(),
        aside: aside.collect(),
        silent,
        caught_up: caught_up.collect(),
    }
}

async fn carry_out(ledger: &Ledger, step: Step, view: &View) -> Result<(), String> {
    let raft = &ledger.raft;
    let changed = match step {
        Step::Settle => raft.change_membership(view.voters(), true).await,
        Step::AddLearner(node) => raft.add_learner(node, EmptyNode {}, false).await,
        Step::Promote(node) => {
            let change = ChangeMembers::AddVoterIds(BTreeSet::from([node]));
            raft.change_membership(change, true).await
        }
        Step::Replace { old, new } => {
            let mut voters = view.voters();
            voters.remove(&old);
            voters.insert(new);
            raft.change_membership(voters, true).await
        }
        Step::Demote(node) => {
            let mut voters = view.voters();
            voters.remove(&node);
            raft.change_membership(voters, true).await
        }
        Step::RemoveLearner(node) => {
            let change = ChangeMembers::RemoveNodes(BTreeSet::from([node]));
            raft.change_membership(change, true).await
        }
        Step::SetAside(node) => {
            return commit(ledger, Kind::SetAside(SetAside { node })).await;
        }
        Step::Forget(node) => return commit(ledger, Kind::Forget(Forget { node })).await,
    };
    changed
        .map(drop)
        .map_err(|error: RaftError<WriteError>| error.to_string())
}

async fn commit(ledger: &Ledger, kind: Kind) -> Result<(), String> {
    let committed = ledger.commit(kind).await;
    committed.map(drop).map_err(|error| error.to_string())
}

/// Who should lead when we end: the voter that answered last and has most of the log.
pub(crate) fn next_leader(ledger: &Ledger) -> Option<u64> {
    let view = look(ledger, Duration::MAX);
    let voters = view.voters();
    let others = voters.into_iter().filter(|node| *node != view.us);
    others
        .filter(|node| view.caught_up.contains(node))
        .min_by_key(|node| view.silent.get(node).copied().unwrap_or(Duration::MAX))
}
