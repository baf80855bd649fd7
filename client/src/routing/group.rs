//! The members of one Raft group as far as known, who led it last, and whom to ask next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::ids::ClusterId;
use common::time::Moment;
use common::tls::Role;
use parking_lot::Mutex;

/// Members remembered at most: more than any group has.
const MEMBERS_MAX: usize = 64;
/// Clusters remembered at most.
const CLUSTERS_MAX: usize = 256;

/// A call that begins so soon after one that was given up is part of the same command.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(2);

/// One Raft group.
pub(crate) struct Group {
    /// `supernodes`, or `members of cluster alpha`.
    pub(crate) whom: String,
    /// What every member proves to be.
    pub(crate) role: Role,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Never empty once one was known. Seeds stay at the end, in case that every other address has changed.
    members: Vec<String>,
    seeds: Vec<String>,
    /// Who led last.
    leader: Option<String>,
    /// Who answered last.
    good: Option<String>,
    /// The last call that was given up.
    given_up: Option<GivenUp>,
}

/// A call that got no answer.
#[derive(Clone, Copy)]
struct GivenUp {
    /// Since when the group has given no answer.
    unanswered_since: Moment,
    /// When the call ended.
    at: Moment,
}

impl Group {
    pub(super) fn new(whom: &str, role: Role, seeds: Vec<String>) -> Self {
        Self {
            whom: whom.to_owned(),
            role,
            state: Mutex::new(State {
                seeds,
                ..State::default()
            }),
        }
    }

    /// Replaces the members by what a server said of the group, if it said anything.
    pub(crate) fn learn(&self, members: impl Iterator<Item = String>, leader: Option<String>) {
        let mut state = self.state.lock();
        let members: Vec<String> = members
            .filter(|member| !member.is_empty())
            .take(MEMBERS_MAX)
            .collect();
        if !members.is_empty() {
            state.members = members;
        }
        // A leader found by asking is newer than one that was told along with something else.
        if state.leader.is_none() {
            state.leader = leader;
        }
    }

    /// Everyone to ask, in order: the leader first where `leader_first`, else whoever answered last; then the
    /// others, then the seeds.
    pub(crate) fn order(&self, leader_first: bool) -> Vec<String> {
        let state = self.state.lock();
        let mut order: Vec<String> = Vec::new();
        let first = if leader_first {
            [&state.leader, &state.good]
        } else {
            [&state.good, &state.leader]
        };
        let all = first
            .into_iter()
            .flatten()
            .chain(&state.members)
            .chain(&state.seeds);
        for address in all {
            if !order.contains(address) {
                order.push(address.clone());
            }
        }
        order
    }

    /// Since when the group has given no answer, for a call that begins at `now`: since that moment, or where the call
    /// follows one that was given up, since that one's.
    pub(super) fn unanswered_since(&self, now: Moment) -> Moment {
        let given_up = self.state.lock().given_up;
        given_up
            .filter(|last| now.since(last.at) <= FOLLOWS_WITHIN)
            .map_or(now, |last| last.unanswered_since)
    }

    /// A call to which the group had given no answer since `unanswered_since` was given up at `at`.
    pub(super) fn given_up(&self, unanswered_since: Moment, at: Moment) {
        self.state.lock().given_up = Some(GivenUp { unanswered_since, at });
    }

    /// The group, and not only one member of it, gave an answer.
    pub(super) fn works(&self) {
        self.state.lock().given_up = None;
    }

    /// `address` answered; it led where `led`.
    pub(super) fn answered(&self, address: &str, led: bool) {
        let mut state = self.state.lock();
        state.good = Some(address.to_owned());
        if led {
            state.leader = Some(address.to_owned());
        }
    }

    /// `address` did not answer, or does not lead; `leader` does, where known.
    pub(super) fn disappointed(&self, address: &str, leader: Option<&str>) {
        let mut state = self.state.lock();
        if state.leader.as_deref() == Some(address) {
            state.leader = None;
        }
        if state.good.as_deref() == Some(address) && leader.is_none() {
            state.good = None;
        }
        if let Some(leader) = leader {
            state.leader = Some(leader.to_owned());
        }
    }
}

/// Groups by id, the number of them bounded.
#[derive(Default)]
pub(super) struct GroupTable(BTreeMap<ClusterId, Arc<Group>>);

impl GroupTable {
    pub(super) fn get_or_insert(&mut self, id: ClusterId, make: impl FnOnce() -> Group) -> Arc<Group> {
        if !self.0.contains_key(&id) && self.0.len() >= CLUSTERS_MAX {
            self.0.pop_first();
        }
        Arc::clone(self.0.entry(id).or_insert_with(|| Arc::new(make())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> Group {
        Group::new("supernodes", Role::Supernode, vec!["seed:1".to_owned()])
    }

    #[test]
    fn the_leader_comes_first_and_the_seeds_last() {
        let group = group();
        assert_eq!(group.order(true), ["seed:1"]);
        group.learn(
            ["a:1", "b:1", "c:1"].map(str::to_owned).into_iter(),
            Some("b:1".to_owned()),
        );
        assert_eq!(group.order(true), ["b:1", "a:1", "c:1", "seed:1"]);
        group.answered("c:1", false);
        assert_eq!(group.order(false), ["c:1", "b:1", "a:1", "seed:1"]);
        group.disappointed("b:1", Some("a:1"));
        assert_eq!(group.order(true), ["a:1", "c:1", "b:1", "seed:1"]);
        group.disappointed("a:1", None);
        group.disappointed("c:1", None);
        assert_eq!(group.order(true), ["a:1", "b:1", "c:1", "seed:1"]);
    }

    #[test]
    fn calls_that_follow_one_that_was_given_up_share_its_time() {
        let group = group();
        let at = |seconds| Moment::default() + Duration::from_secs(seconds);
        assert_eq!(group.unanswered_since(at(10)), at(10));
        group.given_up(at(10), at(17));
        assert_eq!(group.unanswered_since(at(18)), at(10));
        // Much later it is another matter, and an answer ends it.
        assert_eq!(group.unanswered_since(at(60)), at(60));
        group.works();
        assert_eq!(group.unanswered_since(at(18)), at(18));
    }

    #[test]
    fn nothing_learned_keeps_what_is_known() {
        let group = group();
        group.learn(["a:1".to_owned()].into_iter(), None);
        group.learn(std::iter::empty(), None);
        assert_eq!(group.order(true), ["a:1", "seed:1"]);
    }
}
