//! Single decisions, and a walk over every interruption of every change.

use super::*;

const WANTED: Wanted = Wanted {
    voters: 3,
    alive_within: Duration::from_secs(2),
    away_after: Duration::from_secs(300),
    forget_after: Duration::from_secs(3600),
    aside_max: 4,
};
const AWAY: Duration = Duration::from_secs(301);

fn view(voters: &[u64], learners: &[u64]) -> View {
    let all = voters.iter().chain(learners);
    View {
        us: 1,
        configs: vec![voters.iter().copied().collect()],
        learners: learners.iter().copied().collect(),
        active: all.clone().map(|node| (*node, true)).collect(),
        aside: BTreeMap::new(),
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
    now.silent.insert(3, AWAY);
    assert_eq!(next_step(&now, &WANTED), Some(Step::Replace { old: 3, new: 7 }));
    let mut now = view(&[1, 2, 7], &[3]);
    now.silent.insert(3, AWAY);
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
fn a_change_under_way_comes_first_and_ends_at_its_target() {
    let mut now = view(&[1, 2, 3], &[7]);
    now.configs.push(BTreeSet::from([1, 2, 7]));
    assert_eq!(next_step(&now, &WANTED), Some(Step::Settle));
    assert_eq!(now.voters(), BTreeSet::from([1, 2, 7]), "not the union");
}

#[test]
fn surplus_voters_lose_their_vote_the_silent_one_first() {
    let mut now = view(&[1, 2, 3, 7], &[]);
    assert_eq!(next_step(&now, &WANTED), Some(Step::Demote(7)));
    now.silent.insert(3, Duration::from_secs(10));
    assert_eq!(next_step(&now, &WANTED), None, "the others are needed meanwhile");
    now.silent.insert(3, AWAY);
    assert_eq!(next_step(&now, &WANTED), Some(Step::Demote(3)));
    now.silent.insert(3, Duration::ZERO);
    now.us = 7;
    assert_eq!(next_step(&now, &WANTED), Some(Step::Demote(3)), "never itself");
}

#[test]
fn members_set_aside_are_forgotten_after_a_while_or_when_they_are_many() {
    let mut now = view(&[1, 2, 3], &[]);
    for node in 10..14 {
        now.active.insert(node, false);
        now.aside.insert(node, Duration::from_secs(3600 - node));
    }
    assert_eq!(next_step(&now, &WANTED), None);
    now.active.insert(14, false);
    now.aside.insert(14, Duration::ZERO);
    assert_eq!(next_step(&now, &WANTED), Some(Step::Forget(10)));
    now.aside.remove(&10);
    assert_eq!(next_step(&now, &WANTED), None);
    now.aside.insert(12, Duration::from_secs(3601));
    assert_eq!(next_step(&now, &WANTED), Some(Step::Forget(12)));
    now.learners.insert(12);
    assert_eq!(next_step(&now, &WANTED), Some(Step::RemoveLearner(12)), "first");
}

/// What the log of a group says about its members.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Group {
    configs: Vec<BTreeSet<u64>>,
    nodes: BTreeSet<u64>,
    active: BTreeMap<u64, bool>,
}

impl Group {
    fn has_quorum(&self, alive: &BTreeSet<u64>) -> bool {
        let majority = |config: &BTreeSet<u64>| config.intersection(alive).count() * 2 > config.len();
        self.configs.iter().all(majority)
    }

    fn voting(&self) -> BTreeSet<u64> {
        self.configs.iter().flatten().copied().collect()
    }

    fn view(&self, us: u64, alive: &BTreeSet<u64>) -> View {
        let voting = self.voting();
        let silence = |node: &u64| {
            if alive.contains(node) {
                Duration::ZERO
            } else {
                AWAY
            }
        };
        View {
            us,
            configs: self.configs.clone(),
            learners: self.nodes.difference(&voting).copied().collect(),
            active: self.active.clone(),
            aside: BTreeMap::new(),
            silent: self.nodes.iter().map(|node| (*node, silence(node))).collect(),
            caught_up: self.nodes.intersection(alive).copied().collect(),
        }
    }

    /// What may stand in the log after `step`, wherever its leader was interrupted.
    fn outcomes(&self, step: Step) -> Vec<Self> {
        let target = self.configs.last().cloned().unwrap();
        let mut next = self.clone();
        match step {
            // As it is carried out: at what the view names.
            Step::Settle => return self.towards(self.view(0, &BTreeSet::new()).voters()),
            Step::AddLearner(node) => drop(next.nodes.insert(node)),
            Step::RemoveLearner(node) => drop(next.nodes.remove(&node)),
            Step::SetAside(node) => drop(next.active.insert(node, false)),
            Step::Promote(new) => return self.towards(&target | &BTreeSet::from([new])),
            Step::Demote(old) => return self.towards(&target - &BTreeSet::from([old])),
            Step::Replace { old, new } => {
                let without = &target - &BTreeSet::from([old]);
                return self.towards(&without | &BTreeSet::from([new]));
            }
            Step::Forget(_) => unreachable!("nobody is set aside for long here"),
        }
        vec![next]
    }

    /// As openraft changes voters: to the target if that is the last configuration already, otherwise through both.
    fn towards(&self, target: BTreeSet<u64>) -> Vec<Self> {
        let ended = Self {
            configs: vec![target.clone()],
            ..self.clone()
        };
        let last = self.configs.last().cloned().unwrap();
        if last == target {
            return vec![ended];
        }
        let joint = Self {
            configs: vec![last, target],
            ..self.clone()
        };
        vec![joint, ended]
    }

    fn settled(&self, alive: &BTreeSet<u64>) -> Result<(), &'static str> {
        let voters = self.configs.last().cloned().unwrap_or_default();
        let spare = self.nodes.difference(&voters).any(|node| alive.contains(node));
        let dead = voters.difference(alive).count();
        let check = |holds: bool, what| if holds { Ok(()) } else { Err(what) };
        check(self.configs.len() == 1, "a change is not ended")?;
        check(voters.len() <= WANTED.voters, "there are surplus voters")?;
        check(!spare || voters.len() == WANTED.voters, "a learner could vote")?;
        check(!spare || dead == 0, "a voter that is away was not replaced")?;
        let learning = self.nodes.difference(&voters);
        check(
            learning.clone().all(|node| alive.contains(node)),
            "a learner that is away is not set aside",
        )
    }
}

/// Follows every step from `group` under every leader and every interruption. Fails on a step that loses the quorum, on
/// a state without a next step that is not settled, and on a way that leads back to itself.
fn walk(
    group: &Group,
    alive: &BTreeSet<u64>,
    path: &mut Vec<Group>,
    done: &mut BTreeSet<Group>,
) -> Result<(), String> {
    if done.contains(group) {
        return Ok(());
    }
    if path.contains(group) {
        return Err(format!(
            "{group:?} leads back to itself, alive {alive:?}: {path:?}"
        ));
    }
    path.push(group.clone());
    for us in group.voting().intersection(alive) {
        let Some(step) = next_step(&group.view(*us, alive), &WANTED) else {
            let settled = group.settled(alive);
            settled.map_err(|what| format!("{what}: {group:?}, alive {alive:?}, leader {us}"))?;
            continue;
        };
        for next in group.outcomes(step) {
            if !next.has_quorum(alive) {
                return Err(format!("{step:?} of {group:?} loses the quorum, alive {alive:?}"));
            }
            walk(&next, alive, path, done)?;
        }
    }
    path.pop();
    done.insert(group.clone());
    Ok(())
}

/// The subsets of `nodes`, smallest first.
fn subsets(nodes: &[u64]) -> Vec<BTreeSet<u64>> {
    let count = 1_u32 << nodes.len();
    let chosen = |bits: u32| {
        let all = nodes.iter().enumerate();
        all.filter(|(at, _)| bits & (1 << at) != 0)
            .map(|(_, node)| *node)
            .collect()
    };
    (0..count).map(chosen).collect()
}

#[test]
fn every_interruption_settles() {
    let all = [1, 2, 3, 4, 5];
    let mut walked = 0;
    for alive in subsets(&all) {
        let mut done = BTreeSet::new();
        for voters in subsets(&all).into_iter().filter(|set| !set.is_empty()) {
            for target in subsets(&all).into_iter().filter(|set| !set.is_empty()) {
                let configs = match target == voters {
                    true => vec![target],
                    false => vec![voters.clone(), target],
                };
                let group = Group {
                    configs,
                    nodes: all.into(),
                    active: all.iter().map(|node| (*node, true)).collect(),
                };
                if group.has_quorum(&alive) {
                    let outcome = walk(&group, &alive, &mut Vec::new(), &mut done);
                    outcome.unwrap_or_else(|wrong| panic!("{wrong}"));
                }
            }
        }
        walked += done.len();
    }
    assert!(walked > 5_000, "{walked}");
}
