//! Who votes: one pure decision at a time, from what the leader sees.
//!
//! Every member is a learner first. A learner that has caught up votes while there are fewer voters than wanted, or in
//! the place of a voter that stays away. A learner that stays away is set aside; it comes back by announcing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What the leader sees.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) us: u64,
    pub(crate) voters: BTreeSet<u64>,
    pub(crate) learners: BTreeSet<u64>,
    /// A change of voters was begun and not ended, perhaps by an earlier leader.
    pub(crate) changing: bool,
    /// Committed members, and whether they take part.
    pub(crate) active: BTreeMap<u64, bool>,
    /// How long each has not answered.
    pub(crate) silent: BTreeMap<u64, Duration>,
    /// Those that have (nearly) the whole log.
    pub(crate) caught_up: BTreeSet<u64>,
}

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) voters: usize,
    /// Silent for less than this is alive.
    pub(crate) alive_within: Duration,
    /// Silent for longer than this is replaced or set aside.
    pub(crate) away_after: Duration,
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
    /// Commit that a learner takes no part.
    SetAside(u64),
    /// Send no more log to a member that was set aside.
    RemoveLearner(u64),
}

/// The next step towards what is wanted, if there is one.
pub(crate) fn next_step(view: &View, wanted: &Wanted) -> Option<Step> {
    if view.changing {
        return Some(Step::Settle);
    }
    let taking_part = |node: &u64| view.voters.contains(node) || view.learners.contains(node);
    let mut active = view
        .active
        .iter()
        .filter(|(_, active)| **active)
        .map(|(node, _)| *node);
    if let Some(node) = active.find(|node| !taking_part(node)) {
        return Some(Step::AddLearner(node));
    }
    let silence = |node: &u64| view.silent.get(node).copied().unwrap_or_default();
    let away = |node: &u64| *node != view.us && silence(node) > wanted.away_after;
    let is_active = |node: &u64| view.active.get(node).copied().unwrap_or(false);
    let ready =
        view.learners.iter().copied().find(|node| {
            is_active(node) && view.caught_up.contains(node) && silence(node) < wanted.alive_within
        });
    if let Some(new) = ready {
        if view.voters.len() < wanted.voters {
            return Some(Step::Promote(new));
        }
        if let Some(old) = view.voters.iter().copied().find(away) {
            return Some(Step::Replace { old, new });
        }
    }
    for node in &view.learners {
        if !is_active(node) {
            return Some(Step::RemoveLearner(*node));
        }
        if away(node) {
            return Some(Step::SetAside(*node));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted {
        voters: 3,
        alive_within: Duration::from_secs(2),
        away_after: Duration::from_secs(300),
    };

    fn view(voters: &[u64], learners: &[u64]) -> View {
        let all = voters.iter().chain(learners);
        View {
            us: 1,
            voters: voters.iter().copied().collect(),
            learners: learners.iter().copied().collect(),
            changing: false,
            active: all.clone().map(|node| (*node, true)).collect(),
            silent: all.clone().map(|node| (*node, Duration::ZERO)).collect(),
            caught_up: all.copied().collect(),
        }
    }

    #[test]
    fn joiners_become_learners_and_then_voters() {
        let mut now = view(&[1], &[]);
        now.active.insert(7, true);
        assert_eq!(next_step(&now, &WANTED), Some(Step::AddLearner(7)));
        let mut now = view(&[1], &[7]);
        now.caught_up.remove(&7);
        assert_eq!(next_step(&now, &WANTED), None);
        now.caught_up.insert(7);
        assert_eq!(next_step(&now, &WANTED), Some(Step::Promote(7)));
        now.silent.insert(7, Duration::from_secs(5));
        assert_eq!(next_step(&now, &WANTED), None);
        assert_eq!(next_step(&view(&[1, 2, 3], &[7]), &WANTED), None);
    }

    #[test]
    fn a_voter_that_stays_away_is_replaced_and_then_set_aside() {
        let mut now = view(&[1, 2, 3], &[7]);
        now.silent.insert(3, Duration::from_secs(299));
        assert_eq!(next_step(&now, &WANTED), None);
        now.silent.insert(3, Duration::from_secs(301));
        assert_eq!(next_step(&now, &WANTED), Some(Step::Replace { old: 3, new: 7 }));
        let mut now = view(&[1, 2, 7], &[3]);
        now.silent.insert(3, Duration::from_secs(301));
        assert_eq!(next_step(&now, &WANTED), Some(Step::SetAside(3)));
        now.active.insert(3, false);
        assert_eq!(next_step(&now, &WANTED), Some(Step::RemoveLearner(3)));
        now.learners.remove(&3);
        assert_eq!(next_step(&now, &WANTED), None);
    }

    #[test]
    fn without_a_substitute_a_voter_stays() {
        let mut now = view(&[1, 2, 3], &[]);
        now.silent.insert(3, Duration::from_secs(3000));
        assert_eq!(next_step(&now, &WANTED), None);
        // A learner that lags is no substitute, and the leader never replaces itself.
        now.learners.insert(7);
        now.active.insert(7, true);
        assert_eq!(next_step(&now, &WANTED), None);
        let mut now = view(&[1, 2, 3], &[7]);
        now.silent.insert(1, Duration::from_secs(3000));
        assert_eq!(next_step(&now, &WANTED), None);
    }

    #[test]
    fn a_change_under_way_comes_first() {
        let mut now = view(&[1, 2, 3], &[7]);
        now.changing = true;
        assert_eq!(next_step(&now, &WANTED), Some(Step::Settle));
    }
}
