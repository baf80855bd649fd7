//! Placement: seeded, so that a failure repeats.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{prop_assert, prop_assert_eq, prop_assert_ne, proptest};

use super::*;

const GIB: u64 = 1 << 30;

fn candidate(node: u64, zone: u64, host: u64) -> Candidate {
    Candidate {
        domain: Domain {
            node: NodeId::new(node),
            zone: format!("z{zone}"),
            host: format!("h{host}"),
        },
        cpu_permille: 100,
        memory_permille: 100,
        free_bytes: 100 * GIB,
        in_flight_bytes: 0,
    }
}

fn sets(candidates: &[Candidate]) -> CopySets {
    let domains: Vec<Domain> = candidates.iter().map(|one| one.domain.clone()).collect();
    CopySets::new(&domains)
}

fn primaries(candidates: &[Candidate], tries: usize) -> BTreeMap<u64, usize> {
    let (sets, random) = (sets(candidates), Random::seeded(5));
    let mut counts = BTreeMap::new();
    for _ in 0..tries {
        let place = place(candidates, &sets, Copies::Two, 1, &[], &random).unwrap();
        *counts.entry(place.primary.get()).or_default() += 1;
    }
    counts
}

proptest! {
    #[test]
    fn copies_are_apart_and_allowed(
        seed in 0..u64::MAX,
        shape in proptest::collection::vec((0..3_u64, 0..6_u64, 0..3_u64), 1..20),
        avoid in proptest::collection::vec(1..20_u64, 0..4),
    ) {
        let candidates: Vec<Candidate> = (1..).zip(&shape).map(|(node, (zone, host, room))| {
            let mut one = candidate(node, *zone, *zone * 10 + *host);
            one.free_bytes = room * GIB;
            one
        }).collect();
        let avoid: Vec<NodeId> = avoid.into_iter().map(NodeId::new).collect();
        let usable: Vec<&Candidate> = candidates.iter()
            .filter(|one| one.free_bytes >= GIB && !avoid.contains(&one.domain.node))
            .collect();
        match place(&candidates, &sets(&candidates), Copies::Two, GIB, &avoid, &Random::seeded(seed)) {
            Err(_) => prop_assert!(usable.len() < 2),
            Ok(found) => {
                let delegate = found.delegate.expect("two copies were asked for");
                prop_assert_ne!(found.primary, delegate);
                let of = |node| usable.iter().find(|one| one.domain.node == node).copied();
                let (primary, delegate) = (of(found.primary).expect("usable"), of(delegate).expect("usable"));
                let best = usable.iter()
                    .filter(|one| one.domain.node != found.primary)
                    .map(|one| closeness(&primary.domain, &one.domain))
                    .min();
                prop_assert_eq!(Some(closeness(&primary.domain, &delegate.domain)), best);
            }
        }
    }
}

#[test]
fn load_moves_chunks_elsewhere() {
    let mut candidates = vec![candidate(1, 1, 1), candidate(2, 2, 2), candidate(3, 3, 3)];
    let even = primaries(&candidates, 3_000);
    assert!(
        even.values().all(|count| (850..1_150).contains(count)),
        "{even:?}"
    );
    let spoil: [fn(&mut Candidate); 4] = [
        |one| one.cpu_permille = 900,
        |one| one.memory_permille = 950,
        |one| one.free_bytes = 10 * GIB,
        |one| one.in_flight_bytes = GIB,
    ];
    for change in spoil {
        let calm = candidates[0].clone();
        change(&mut candidates[0]);
        let counts = primaries(&candidates, 3_000);
        assert!(counts[&1] < 600, "{:?}: {counts:?}", candidates[0]);
        candidates[0] = calm;
    }
}

#[test]
fn pairs_stay_within_the_copy_sets() {
    let candidates: Vec<Candidate> = (1..=24).map(|node| candidate(node, node % 4, node)).collect();
    let (sets, random) = (sets(&candidates), Random::seeded(9));
    let mut pairs = BTreeSet::new();
    for _ in 0..5_000 {
        let found = place(&candidates, &sets, Copies::Two, 1, &[], &random).unwrap();
        let (one, other) = (found.primary, found.delegate.unwrap());
        pairs.insert((one.min(other), one.max(other)));
    }
    assert!(pairs.len() <= sets.pairs(), "{} pairs", pairs.len());
    assert!(sets.pairs() < 24 * 23 / 2);
}

#[test]
fn what_is_missing_is_named() {
    let mut candidates = vec![candidate(1, 1, 1), candidate(2, 1, 1)];
    let sets = sets(&candidates);
    let random = Random::seeded(1);
    let avoid = [NodeId::new(2)];
    let few = Refusal::NotEnoughNodes {
        available: 1,
        needed: 2,
    };
    assert_eq!(
        place(&candidates, &sets, Copies::Two, 1, &avoid, &random),
        Err(few)
    );
    let alone = place(&candidates, &sets, Copies::TwoOrOne, 1, &avoid, &random).unwrap();
    assert_eq!((alone.primary, alone.delegate), (NodeId::new(1), None));
    let both = place(&candidates, &sets, Copies::TwoOrOne, 1, &[], &random).unwrap();
    assert!(both.delegate.is_some());
    candidates[0].free_bytes = 0;
    let full = Refusal::NoSpace { needed: 2, bytes: 1 };
    assert_eq!(place(&candidates, &sets, Copies::Two, 1, &[], &random), Err(full));
    assert!(place(&[], &sets, Copies::TwoOrOne, 1, &[], &random).is_err());
}
