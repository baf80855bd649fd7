//! One group of three: founding, joining, proposing, reading, losing leaders, restarting.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test"
)]
#![allow(clippy::disallowed_methods, reason = "a test waits by the machine's clock")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::ids::{Epoch, NodeId};
use common::net::{Greeting, Listen, Network, turn_away_during};
use dbfs_consensus::{Error, Group, Role};
use support::{
    Counters, Installation, Node, cluster, epoch, eventually, leader, propose_somewhere, running, set, times,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_proposers_and_readers_agree() {
    let (_installation, nodes) = cluster(3, |_| {}).await;
    let at = leader(&nodes).await;
    let mut tasks = Vec::new();
    for task in 0..32 {
        let group = nodes[at].group().clone();
        tasks.push(tokio::spawn(async move {
            let mut last = 0;
            for round in 1..=20 {
                let done = group.propose(set(format!("key-{task}"))).await.unwrap();
                assert_eq!(done.times, round);
                assert!(done.sequence > last, "sequences are unique and grow");
                last = done.sequence;
            }
        }));
    }
    let refused = nodes[at].group().propose(set("")).await.unwrap();
    assert_eq!(refused.times, 0);
    for task in tasks {
        task.await.unwrap();
    }
    for node in &nodes {
        for task in 0..32 {
            assert_eq!(
                times(node.group(), &format!("key-{task}")).await,
                20,
                "on {}",
                node.name
            );
        }
    }
    let follower = (at + 1) % 3;
    match nodes[follower].group().propose(set("x")).await {
        Err(Error::NotLeader { leader: Some(leader) }) => assert_eq!(leader.control, nodes[at].address),
        other => panic!("a follower took a proposal: {other:?}"),
    }
    assert_eq!(nodes[follower].group().status().role, Role::Follower);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_anywhere_sees_what_was_acknowledged() {
    let (_installation, nodes) = cluster(3, |_| {}).await;
    let at = leader(&nodes).await;
    for round in 1..=50_u64 {
        nodes[at].group().propose(set("k")).await.unwrap();
        let reader = &nodes[round as usize % 3];
        assert_eq!(times(reader.group(), "k").await, round, "read on {}", reader.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_leads_when_the_leader_is_lost_and_the_old_epoch_is_refused() {
    let (_installation, mut nodes) = cluster(3, |_| {}).await;
    let at = leader(&nodes).await;
    let old = epoch(&nodes[at].group().status());
    let done = nodes[at].group().propose_in(old, set("k")).await.unwrap();
    assert_eq!(done.epoch, old.get());
    let before = done.now;
    nodes[at].cut_off().await;
    let next = leader(&nodes).await;
    assert_ne!(next, at);
    let new = epoch(&nodes[next].group().status());
    assert!(new > old);
    let refused = nodes[next].group().propose_in(old, set("k")).await;
    assert!(
        matches!(refused, Err(Error::Stale { asked }) if asked == old),
        "{refused:?}"
    );
    let future = Epoch::new(new.get() + 1000);
    assert!(nodes[next].group().propose_in(future, set("k")).await.is_err());
    let done = nodes[next].group().propose_in(new, set("k")).await.unwrap();
    assert_eq!((done.times, done.epoch), (2, new.get()));
    assert!(done.now >= before, "cluster time goes on");
    nodes[at].start().await;
    assert_eq!(times(nodes[at].group(), "k").await, 2);
    assert_eq!(nodes[at].group().status().role, Role::Follower);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_ends_in_order_hands_over_at_once() {
    let (_installation, mut nodes) = cluster(3, |settings| {
        // Without a hand-over nobody would stand for election during this test.
        settings.timings.election_min = Duration::from_secs(20);
        settings.timings.election_max = Duration::from_secs(40);
    })
    .await;
    let at = leader(&nodes).await;
    nodes[at].stop().await;
    let next = leader(&nodes).await;
    assert_ne!(next, at);
    let done = nodes[next].group().propose(set("k")).await.unwrap();
    assert_eq!(done.times, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_restart_and_nothing_is_lost() {
    let (_installation, mut nodes) = cluster(3, |_| {}).await;
    let at = leader(&nodes).await;
    for _ in 0..10 {
        nodes[at].group().propose(set("k")).await.unwrap();
    }
    let now = nodes[at].group().now();
    for node in &mut nodes {
        node.cut_off().await;
    }
    for node in nodes.iter_mut().rev() {
        // A restart ignores it.
        node.settings.found = true;
        node.start().await;
    }
    let at = leader(&nodes).await;
    assert_eq!(times(nodes[at].group(), "k").await, 10);
    let done = nodes[at].group().propose(set("k")).await.unwrap();
    assert_eq!(done.times, 11);
    assert!(done.now >= now.as_millis(), "time never goes back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_goes_on_while_nothing_is_proposed() {
    let (_installation, nodes) =
        cluster(3, |settings| settings.timings.tick = Duration::from_millis(400)).await;
    let at = leader(&nodes).await;
    let (applied, now) = (nodes[at].group().status().applied, nodes[at].group().now());
    eventually("ticks are committed everywhere", || {
        nodes.iter().all(|node| {
            let status = node.group().status();
            status.applied > applied && status.now.since(now) > Duration::from_millis(900)
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_disk_joins_as_a_new_member_and_ends_as_voter() {
    let (_installation, mut nodes) = cluster(3, |settings| {
        settings.timings.voter_replace_after = Duration::from_secs(3);
    })
    .await;
    let at = leader(&nodes).await;
    nodes[at].group().propose(set("k")).await.unwrap();
    let lost = (at + 1) % 3;
    let old = nodes[lost].group().status().node_id;
    nodes[lost].cut_off().await;
    std::fs::remove_dir_all(nodes[lost].directory()).unwrap();
    nodes[lost].settings.join = nodes.iter().map(|node| node.address.clone()).collect();
    nodes[lost].start().await;
    let new = nodes[lost].group().status().node_id;
    assert_ne!(old, new);
    eventually("the new member votes in the place of the old", || {
        let status = nodes[lost].group().status();
        let voter = |node| status.member(node).is_some_and(|member| member.voter);
        voter(new) && !voter(old)
    })
    .await;
    eventually("the old member is set aside", || {
        let status = nodes[at].group().status();
        status.member(old).is_some_and(|member| !member.active)
    })
    .await;
    assert_eq!(times(nodes[lost].group(), "k").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_founds_where_a_group_is() {
    let (installation, mut nodes) = cluster(1, |_| {}).await;
    let mut second = Node::new(&installation, "second").await;
    second.settings.found = true;
    second.settings.join = vec![nodes[0].address.clone(), second.address.clone()];
    second.start().await;
    let (first_id, second_id) = (
        nodes[0].group().status().cluster_id,
        second.group().status().cluster_id,
    );
    assert_eq!(first_id, second_id, "it joined instead");
    nodes.push(second);
    eventually("both vote", || {
        let status = nodes[0].group().status();
        status.members.iter().filter(|member| member.voter).count() == 2
    })
    .await;
    let groups = running(&nodes);
    assert_eq!(propose_somewhere(&groups, set("k")).await.times, 1);
}

/// A process at `address` that starts and does not serve yet.
fn starting(mut listener: Box<dyn Listen>, greeting: Greeting) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move { turn_away_during(listener.as_mut(), greeting, std::future::pending()).await })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_waits_for_who_may_have_a_group_and_not_for_who_has_none() {
    let installation = Installation::new();
    let mut founder = Node::new(&installation, "founder").await;
    let listener = Network::tcp(None).bind("127.0.0.1:0").await.unwrap();
    founder.settings.found = true;
    founder.settings.join = vec![listener.address(), founder.address.clone()];
    founder.settings.timings.found_wait = Duration::from_millis(1);
    // A member that recovers, or one that hangs.
    let address = listener.address();
    let seed = starting(listener, Greeting::Starting);
    let waiting = tokio::time::timeout(Duration::from_secs(2), founder.try_start());
    assert!(
        waiting.await.is_err(),
        "it founded beside a process that may have a group"
    );
    seed.abort();
    let _ = seed.await;
    let silent = Network::tcp(None).bind(&address).await.unwrap();
    // Longer than it takes to ask it.
    let waiting = tokio::time::timeout(Duration::from_secs(4), founder.try_start());
    assert!(
        waiting.await.is_err(),
        "it founded beside a process that says nothing"
    );
    // All start at once for the first time.
    let seed = starting(silent, Greeting::WithoutGroup);
    founder.settings.timings.found_wait = Duration::from_secs(3600);
    founder.start().await;
    seed.abort();
    eventually("it founded", || founder.group().status().members.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_was_founded_beside_another_ends() {
    let (_installation, mut nodes) = cluster(3, |_| {}).await;
    let addresses: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    for node in &mut nodes {
        node.cut_off().await;
    }
    std::fs::remove_dir_all(nodes[0].directory()).unwrap();
    nodes[0].settings.join = addresses;
    nodes[0].start().await;
    eventually("it founds: nobody was there to ask", || {
        nodes[0].group().status().members.len() == 1
    })
    .await;
    for node in &mut nodes[1..] {
        node.start().await;
    }
    eventually("the younger group ends", || {
        let fatal = nodes[0].group().status().fatal;
        fatal.is_some_and(|reason| reason.contains("second group"))
    })
    .await;
    assert_eq!(
        nodes[leader(&nodes[1..]).await + 1]
            .group()
            .status()
            .members
            .len(),
        3
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_has_one_process_and_one_group() {
    let (installation, mut nodes) = cluster(1, |_| {}).await;
    let mut twin = Node::new(&installation, "twin").await;
    twin.settings.directory = nodes[0].directory();
    twin.settings.found = true;
    let refused = twin.try_start().await.unwrap_err();
    assert!(refused.to_string().contains("another process"), "{refused}");
    nodes[0].stop().await;
    twin.settings.label = "cluster".to_owned();
    let refused = twin.try_start().await.unwrap_err();
    assert!(refused.to_string().contains("the group 'names'"), "{refused}");
    twin.settings.label = "names".to_owned();
    let log = nodes[0].directory().join("log.db");
    std::fs::rename(&log, log.with_extension("gone")).unwrap();
    let refused = twin.try_start().await.unwrap_err();
    assert!(refused.to_string().contains("log.db is missing"), "{refused}");
    std::fs::rename(log.with_extension("gone"), &log).unwrap();
    twin.start().await;
    let mut foreign = Node::new(&installation, "foreign").await;
    std::fs::create_dir_all(foreign.directory()).unwrap();
    std::fs::write(foreign.directory().join("notes.txt"), "not yours").unwrap();
    foreign.settings.found = true;
    let refused = foreign.try_start().await.unwrap_err();
    assert!(refused.to_string().contains("notes.txt"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_find_each_other_after_all_have_moved() {
    let (_installation, mut nodes) = cluster(3, |_| {}).await;
    let at = leader(&nodes).await;
    nodes[at].group().propose(set("k")).await.unwrap();
    for node in &mut nodes {
        node.cut_off().await;
        node.move_elsewhere().await;
    }
    let addresses: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    for node in &mut nodes {
        node.settings.join = addresses.clone();
        node.start().await;
    }
    let groups = running(&nodes);
    assert_eq!(propose_somewhere(&groups, set("k")).await.times, 2);
    eventually("the new addresses are committed", || {
        let status = nodes[0].group().status();
        addresses
            .iter()
            .all(|address| status.members.iter().any(|member| member.control == *address))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_state_machine_ends_the_member() {
    let (_installation, nodes) = cluster(1, |_| {}).await;
    let group = nodes[0].group();
    group.propose(set("k")).await.unwrap();
    let broken = group.propose(set("break")).await;
    assert!(
        matches!(broken, Err(Error::Fatal { .. } | Error::OutcomeUnknown)),
        "{broken:?}"
    );
    eventually("the status says so", || {
        let status = group.status();
        status.role == Role::Stopped && status.fatal.is_some() && status.epoch.is_none()
    })
    .await;
    assert!(matches!(group.propose(set("k")).await, Err(Error::Fatal { .. })));
    assert!(matches!(group.barrier().await, Err(Error::Fatal { .. })));
}

/// Statuses are asked for on every thread while others apply: nobody may wait for a lock that is held further up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_and_applying_never_wait_for_each_other() {
    let (_installation, nodes) = cluster(1, |_| {}).await;
    let group = nodes[0].group().clone();
    let over = Arc::new(AtomicBool::new(false));
    for _ in 0..3 {
        let (group, over) = (group.clone(), Arc::clone(&over));
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(group.status().members.len(), 1);
            }
        });
    }
    let proposing = async {
        for round in 0..1500 {
            group.propose(set(format!("key-{round}"))).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), proposing)
        .await
        .unwrap();
    over.store(true, Ordering::Relaxed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leadership_begins_again_under_another_epoch() {
    let (_installation, nodes) = cluster(3, |_| {}).await;
    let group = nodes[leader(&nodes).await].group();
    let old = group.epoch().unwrap();
    group.propose_in(old, set("k")).await.unwrap();
    group.begin_again();
    eventually("it leads again", || {
        group.epoch().is_some_and(|epoch| epoch > old)
    })
    .await;
    let stale = group.propose_in(old, set("k")).await.unwrap_err();
    assert!(matches!(stale, Error::Stale { .. }), "{stale:?}");
    group.propose_in(group.epoch().unwrap(), set("k")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_with_a_full_disk_stops_what_adds_and_nothing_else() {
    let (_installation, mut nodes) = cluster(3, |settings| {
        // More than any disk has; half of it as well.
        settings.limits.disk_reserve_bytes = if settings.found { 0 } else { u64::MAX };
    })
    .await;
    assert_eq!(leader(&nodes).await, 0, "the founder leads");
    let group = nodes[0].group().clone();
    eventually("the leader hears of it", || group.check_space().is_err()).await;
    let short = nodes[1].group().status().node_id;
    for refused in [
        group.propose(set("k")).await,
        group.propose_in(group.epoch().unwrap(), set("k")).await,
        group.propose_concluding(None, set("k")).await,
    ] {
        assert!(
            matches!(&refused, Err(Error::Full { node, name }) if *node == short && name == "n2"),
            "{refused:?}"
        );
    }
    assert_eq!(group.propose_freeing(None, set("k")).await.unwrap().times, 1);
    // Who does not lead says so first.
    let elsewhere = nodes[1].group().propose(set("k")).await;
    assert!(matches!(elsewhere, Err(Error::NotLeader { .. })), "{elsewhere:?}");
    for node in &mut nodes[1..] {
        node.stop().await;
        node.settings.limits.disk_reserve_bytes = 0;
        node.start().await;
    }
    eventually("there is space again", || group.check_space().is_ok()).await;
    assert_eq!(propose_somewhere(&running(&nodes), set("k")).await.times, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_stay_away_make_room_are_forgotten_and_may_come_back() {
    let (_installation, mut nodes) = cluster(4, |settings| {
        settings.timings.voter_replace_after = Duration::from_secs(1);
        settings.timings.member_forget_after = Duration::from_millis(1500);
        settings.timings.tick = Duration::from_millis(200);
        settings.limits.members_max = 4;
    })
    .await;
    let group = nodes[leader(&nodes).await].group().clone();
    let aside =
        |node: NodeId| move |group: &Group<Counters>| group.status().member(node).map(|member| member.active);
    let last = nodes[3].group().status().node_id;
    let look = aside(last);
    nodes[3].cut_off().await;
    eventually("it is set aside", || look(&group) == Some(false)).await;
    // Its place is free, though the group remembers it.
    let kept = nodes[3].directory().with_extension("kept");
    std::fs::rename(nodes[3].directory(), &kept).unwrap();
    nodes[3].start().await;
    let replacement = nodes[3].group().status().node_id;
    assert_ne!(replacement, last);
    eventually("it is forgotten", || look(&group).is_none()).await;
    nodes[3].cut_off().await;
    std::fs::remove_dir_all(nodes[3].directory()).unwrap();
    std::fs::rename(&kept, nodes[3].directory()).unwrap();
    nodes[3].start().await;
    eventually("it is back under its old id", || look(&group) == Some(true)).await;
    propose_somewhere(&running(&nodes), set("k")).await;
    eventually("it takes part", || {
        let status = nodes[3].group().status();
        status.node_id == last && status.applied >= group.status().applied
    })
    .await;
    assert_eq!(times(nodes[3].group(), "k").await, 1);
}
