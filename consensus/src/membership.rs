//! Who votes: one pure decision at a time, from what the leader sees.
//!
//! Every member is a learner first. A learner that has caught up votes while there are fewer voters than wanted, or in
//! the place of a voter that stays away. A learner that stays away is set aside; it comes back by announcing itself, and
//! its record is forgotten after a while.
//!
//! Invariant: whatever interrupts a change of voters, the next leader ends it at the configuration that it was for
//! (`voter_ids()` of openraft names the union of both). Voters beyond the number wanted lose their vote, those that stay
//! away first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What the leader sees.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) us: u64,
    /// The configurations in force: one, or two while a change of voters is under way, its target last.
    pub(crate) configs: Vec<BTreeSet<u64>>,
    pub(crate) learners: BTreeSet<u64>,
    /// Committed members, and whether they take part.
    pub(crate) active: BTreeMap<u64, bool>,
    /// How long each member that takes no part has been set aside.
    pub(crate) aside: BTreeMap<u64, Duration>,
    /// How long each has not answered.
    pub(crate) silent: BTreeMap<u64, Duration>,
    /// Those that have (nearly) the whole log.
    pub(crate) caught_up: BTreeSet<u64>,
}

impl View {
    /// Who votes once the change under way has ended.
    pub(crate) fn voters(&self) -> BTreeSet<u64> {
        self.configs.last().cloned().unwrap_or_default()
    }
}

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) voters: usize,
    /// Silent for less than this is alive.
    pub(crate) alive_within: Duration,
    /// Silent for longer than this is replaced or set aside.
    pub(crate) away_after: Duration,
    /// Set aside for longer than this is forgotten.
    pub(crate) forget_after: Duration,
    /// Beyond so many members set aside, the one that has been so the longest is forgotten at once.
    pub(crate) aside_max: usize,
}

/// The next thing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// End a change of voters that was begun.
    Settle,
    /// Let a member receive the log.
    AddLearner(u64),
    /// Let a learner vote.
    Promote(u64),
    /// Let `new` vote in the place of `old`, which becomes a learner.
    Replace { old: u64, new: u64 },
    /// Make a voter that is one too many a learner.
    Demote(u64),
    /// Commit that a learner takes no part.
    SetAside(u64),
    /// Send no more log to a member that was set aside.
    RemoveLearner(u64),
    /// Commit that the record of a member that was set aside goes.
    Forget(u64),
}

/// The next step towards what is wanted, if there is one.
pub(crate) fn next_step(view: &View, wanted: &Wanted) -> Option<Step> {
    if view.configs.len() > 1 {
        return Some(Step::Settle);
    }
    let voters = view.voters();
    let taking_part = |node: &u64| voters.contains(node) || view.learners.contains(node);
    let mut active = view
        .active
        .iter()
        .filter(|(_, active)| **active)
        .map(|(node, _)| *node);
    if let Some(node) = active.find(|node| !taking_part(node)) {
        return Some(Step::AddLearner(node));
    }
    change_of_voters(view, wanted, &voters)
        .or_else(|| change_of_learners(view, wanted))
        .or_else(|| forgettable(view, wanted, &voters).map(Step::Forget))
}

fn change_of_voters(view: &View, wanted: &Wanted, voters: &BTreeSet<u64>) -> Option<Step> {
    let silence = |node: &u64| view.silent.get(node).copied().unwrap_or_default();
    let away = voters.iter().copied().find(|node| is_away(view, wanted, *node));
    if voters.len() > wanted.voters {
        // While one is silent for a short time only, all that answer are needed.
        let alive = |node: &u64| *node == view.us || silence(node) < wanted.alive_within;
        let surplus = || voters.iter().copied().rev().find(|node| *node != view.us);
        let demoted = away.or_else(|| voters.iter().all(alive).then(surplus).flatten());
        return demoted.map(Step::Demote);
    }
    let is_active = |node: &u64| view.active.get(node).copied().unwrap_or(false);
    let new = view.learners.iter().copied().find(|node| {
        is_active(node) && view.caught_up.contains(node) && silence(node) < wanted.alive_within
    })?;
    if voters.len() < wanted.voters {
        return Some(Step::Promote(new));
    }
    away.map(|old| Step::Replace { old, new })
}

fn change_of_learners(view: &View, wanted: &Wanted) -> Option<Step> {
    for node in &view.learners {
        if !view.active.get(node).copied().unwrap_or(false) {
            return Some(Step::RemoveLearner(*node));
        }
        if is_away(view, wanted, *node) {
            return Some(Step::SetAside(*node));
        }
    }
    None
}

/// A member whose record may go: set aside, and sent no log any more.
fn forgettable(view: &View, wanted: &Wanted, voters: &BTreeSet<u64>) -> Option<u64> {
    let (node, since) = view
        .aside
        .iter()
        .filter(|(node, _)| !voters.contains(node) && !view.learners.contains(node))
        .max_by_key(|(_, since)| **since)?;
    let forgotten = *since > wanted.forget_after || view.aside.len() > wanted.aside_max;
    forgotten.then_some(*node)
}

fn is_away(view: &View, wanted: &Wanted, node: u64) -> bool {
    let silence = view.silent.get(&node).copied().unwrap_or_default();
    node != view.us && silence > wanted.away_after
}

#[cfg(test)]
mod tests;
