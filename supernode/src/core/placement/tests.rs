use super::*;

const POLICY: Policy = Policy {
    silence_max: Duration::from_secs(5),
    high_water_permille: 900,
};
const GIB: u64 = 1 << 30;

fn idle(id: usize) -> Candidate<usize> {
    Candidate {
        id,
        silent_for: Some(Duration::from_secs(1)),
        accepts_files: true,
        cpu_permille: 0,
        memory_permille: 0,
        capacity_bytes: 1000 * GIB,
        free_bytes: 800 * GIB,
        on_the_way_bytes: 0,
        booked_bytes: 0,
    }
}

/// Opens `count` uploads of `size` bytes as a leader between two heartbeats does: each assignment is on its way.
fn assign(clusters: &mut [Candidate<usize>], count: usize, size: u64, seed: u64) -> Vec<usize> {
    let random = Random::seeded(seed);
    let mut counts = vec![0; clusters.len()];
    for _ in 0..count {
        let chosen = choose(clusters, Some(size), POLICY, &random).unwrap();
        counts[chosen] += 1;
        clusters[chosen].on_the_way_bytes += counted(Some(size));
        clusters[chosen].booked_bytes += size;
    }
    counts
}

#[test]
fn ten_at_once_spread_over_equals() {
    for seed in 0..200 {
        let mut clusters = [idle(0), idle(1)];
        assert_eq!(assign(&mut clusters, 10, 200 << 20, seed), [5, 5], "seed {seed}");
        let mut three = [idle(0), idle(1), idle(2)];
        let counts = assign(&mut three, 12, 200 << 20, seed);
        assert!(
            counts.iter().all(|count| (2..=6).contains(count)),
            "seed {seed}: {counts:?}"
        );
    }
}

#[test]
fn files_arrive_in_proportion_to_strength() {
    let mut clusters = [idle(0), idle(1)];
    clusters[1].cpu_permille = 750;
    let counts = assign(&mut clusters, 1000, GIB / 64, 7);
    // Four to one.
    assert!((780..=820).contains(&counts[0]), "{counts:?}");
    let mut half_full = [idle(0), idle(1)];
    half_full[1].free_bytes /= 2;
    let counts = assign(&mut half_full, 900, GIB / 64, 8);
    assert!((580..=620).contains(&counts[0]), "{counts:?}");
}

#[test]
fn who_is_not_well_or_full_is_left_out() {
    let random = Random::seeded(1);
    let mut all = [idle(0), idle(1), idle(2), idle(3), idle(4)];
    all[0].silent_for = Some(Duration::from_secs(6));
    all[1].silent_for = None;
    all[2].accepts_files = false;
    all[3].free_bytes = 100 * GIB;
    for _ in 0..100 {
        assert_eq!(choose(&all, Some(GIB), POLICY, &random), Ok(4));
    }
    // 800 GiB free, 100 kept back by the high-water mark, two copies.
    assert_eq!(choose(&all, Some(349 * GIB), POLICY, &random), Ok(4));
    let too_large = choose(&all, Some(351 * GIB), POLICY, &random).unwrap_err();
    assert_eq!((too_large.kind(), too_large.code()), (Kind::Full, "E_NO_SPACE"));
    let none_well = choose(&all[..3], Some(1), POLICY, &random).unwrap_err();
    assert_eq!(
        (none_well.kind(), none_well.code()),
        (Kind::Retry, "E_NO_CLUSTER")
    );
    assert!(choose::<usize>(&[], Some(1), POLICY, &random).is_err());
}

#[test]
fn a_single_cluster_is_chosen() {
    assert_eq!(choose(&[idle(0)], None, POLICY, &Random::seeded(3)), Ok(0));
}

#[test]
fn the_reason_is_given() {
    let mut cluster = idle(0);
    assert_eq!(why_not(&cluster, POLICY), None);
    cluster.free_bytes = 100 * GIB;
    assert!(why_not(&cluster, POLICY).is_some_and(|reason| reason.contains("100 GiB of")));
    cluster.accepts_files = false;
    assert!(why_not(&cluster, POLICY).is_some_and(|reason| reason.contains("takes no new files")));
}
