//! What a group survives: purged logs, power cuts, partitions, lost answers.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test"
)]
#![allow(clippy::disallowed_methods, reason = "a test waits by the machine's clock")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dbfs_consensus::{Error, Settings};
use dbfs_tests::partition::Cuts;
use proto::raft::v1 as pb;
use proto::raft::v1::raft_client::RaftClient;
use support::{Node, Set, cluster, eventually, leader, propose_somewhere, running, set, times};

fn short_log(settings: &mut Settings) {
    settings.limits.snapshot_entries = 50;
    settings.limits.log_keep_entries = 10;
    settings.limits.log_cache_bytes = 4096;
}

/// The first entry in a member's log file.
fn first_entry(directory: &Path) -> u64 {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let log = rusqlite::Connection::open_with_flags(directory.join("log.db"), flags).unwrap();
    let first: Option<i64> = log
        .query_row("SELECT min(idx) FROM log", [], |row| row.get(0))
        .unwrap();
    first.unwrap_or(0).cast_unsigned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_far_behind_are_sent_the_whole_state() {
    let (installation, mut nodes) = cluster(3, short_log).await;
    let at = leader(&nodes).await;
    let behind = (at + 1) % 3;
    nodes[at].group().propose(set("early")).await.unwrap();
    nodes[behind].cut_off().await;
    for _ in 0..300 {
        nodes[at].group().propose(set("k")).await.unwrap();
    }
    eventually("the log is purged", || first_entry(&nodes[at].directory()) > 100).await;
    nodes[behind].start().await;
    assert_eq!(times(nodes[behind].group(), "k").await, 300);
    assert_eq!(times(nodes[behind].group(), "early").await, 1);
    assert!(nodes[behind].directory().join("state-2.db").exists());
    // It is read from before the old one goes.
    let old = nodes[behind].directory().join("state-1.db");
    eventually("the old state is gone", || !old.exists()).await;
    // It goes on from there, also after a restart.
    nodes[at].group().propose(set("k")).await.unwrap();
    nodes[behind].cut_off().await;
    nodes[behind].start().await;
    assert_eq!(times(nodes[behind].group(), "k").await, 301);
    let mut fourth = Node::new(&installation, "n4").await;
    fourth.settings.join = vec![nodes[at].address.clone()];
    short_log(&mut fourth.settings);
    fourth.start().await;
    assert_eq!(times(fourth.group(), "k").await, 301);
    assert_eq!(fourth.group().status().members.len(), 4);
    // Whoever received a copy answers before the sender lets go of it.
    eventually("the copies that were sent are gone", || {
        let files = std::fs::read_dir(nodes[at].directory()).unwrap();
        let mut names = files.map(|entry| entry.unwrap().file_name());
        !names.any(|name| name.to_string_lossy().starts_with("outgoing"))
    })
    .await;
}

/// A transfer that breaks off goes on where it stopped, though the group goes on and its logs are short.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_transfer_goes_on_where_it_stopped() {
    const VALUES: usize = 40;
    const VALUE_BYTES: usize = 200 << 10;
    let cuts = Cuts::default();
    let tune = |settings: &mut Settings| {
        short_log(settings);
        settings.limits.log_keep_bytes = 1 << 30;
        settings.network = cuts.network(&settings.record.control);
    };
    let (installation, nodes) = cluster(1, tune).await;
    let group = nodes[0].group().clone();
    for number in 0..VALUES {
        let value = vec![number as u8; VALUE_BYTES];
        let key = format!("large-{number}");
        group.propose(Set { key, value }).await.unwrap();
    }
    let over = Arc::new(AtomicBool::new(false));
    let (proposing, ending) = (group.clone(), Arc::clone(&over));
    let proposing = tokio::spawn(async move {
        while !ending.load(Ordering::SeqCst) {
            proposing.propose(set("k")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    eventually("the log is purged", || first_entry(&nodes[0].directory()) > 100).await;
    let mut joiner = Node::new(&installation, "n2").await;
    joiner.settings.join = vec![nodes[0].address.clone()];
    tune(&mut joiner.settings);
    let whole = (VALUES * VALUE_BYTES) as u64;
    cuts.break_after(&nodes[0].address, &joiner.address, whole * 3 / 4);
    joiner.start().await;
    let applied = group.status().applied;
    eventually("it has caught up", || joiner.group().status().applied >= applied).await;
    assert_eq!(times(joiner.group(), "large-0").await, 1);
    let sent = cuts.sent(&nodes[0].address, &joiner.address);
    assert!(
        sent > whole && sent < whole * 3 / 2,
        "{sent} bytes sent of {whole}"
    );
    over.store(true, Ordering::SeqCst);
    proposing.await.unwrap();
    eventually("it votes", || group.voters() == 2).await;
}

/// Copies the files of one store as a power cut would leave them: the database, then its write-ahead log. Nothing
/// checkpoints in these tests while a store is open, so that the database does not change under the copy.
fn copy_store(from: &Path, to: &Path, name: &str) {
    std::fs::create_dir_all(to).unwrap();
    for suffix in ["", "-wal"] {
        let file = format!("{name}{suffix}");
        match std::fs::copy(from.join(&file), to.join(&file)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // What a closed store does not have the copy must not have from before.
                let _ = std::fs::remove_file(to.join(&file));
            }
            copied => drop(copied.unwrap()),
        }
    }
}

/// Copies a member's state machine whenever its log was purged, until told to stop: what is in the copy is what a power
/// cut would leave if nothing but the purge had been waited for. Ends with the first entry of the log at that time.
async fn copy_at_each_purge(from: PathBuf, to: PathBuf, stop: Arc<AtomicBool>) -> u64 {
    let mut purged = 0;
    while !stop.load(Ordering::SeqCst) {
        let first = first_entry(&from);
        if first > purged {
            copy_store(&from, &to, "state-1.db");
            purged = first;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    purged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_of_all_after_a_purge_loses_nothing_acknowledged() {
    let (installation, mut nodes) = cluster(3, short_log).await;
    let at = leader(&nodes).await;
    let acknowledged: Vec<Arc<AtomicU64>> = (0..4).map(|_| Arc::default()).collect();
    let mut tasks = Vec::new();
    for (task, count) in acknowledged.iter().enumerate() {
        let (group, count) = (nodes[at].group().clone(), Arc::clone(count));
        tasks.push(tokio::spawn(async move {
            while group.propose(set(format!("key-{task}"))).await.is_ok() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    let image = |node: &Node| installation.root.path().join(format!("image-{}", node.name));
    let stop = Arc::new(AtomicBool::new(false));
    let copying: Vec<_> = nodes
        .iter()
        .map(|node| {
            let copying = copy_at_each_purge(node.directory(), image(node), Arc::clone(&stop));
            tokio::spawn(copying)
        })
        .collect();
    eventually("each log was purged twice", || {
        nodes.iter().all(|node| first_entry(&node.directory()) > 150)
    })
    .await;
    stop.store(true, Ordering::SeqCst);
    let mut purged = Vec::new();
    for copying in copying {
        purged.push(copying.await.unwrap());
    }
    futures::future::join_all(nodes.iter_mut().map(Node::cut_off)).await;
    for task in tasks {
        task.await.unwrap();
    }
    // Logs are durable up to the end; a state machine is as old as its log allows.
    let mut old = 0;
    for (node, purged) in nodes.iter_mut().zip(purged) {
        let (from, image) = (node.directory(), image(node));
        copy_store(&from, &image, "log.db");
        if first_entry(&image) == purged {
            old += 1;
        } else {
            copy_store(&from, &image, "state-1.db");
        }
        for file in ["identity", "state.current"] {
            std::fs::copy(from.join(file), image.join(file)).unwrap();
        }
        node.settings.directory = image;
    }
    assert!(old > 0, "every log was purged again before the power was cut");
    for node in &mut nodes {
        node.start().await;
    }
    leader(&nodes).await;
    let must: Vec<u64> = acknowledged
        .iter()
        .map(|count| count.load(Ordering::SeqCst))
        .collect();
    for node in &nodes {
        for (task, must) in must.iter().enumerate() {
            let found = times(node.group(), &format!("key-{task}")).await;
            // Of each task one command may have been under way.
            let fits = *must <= found && found <= must + 1;
            assert!(fits, "{} key-{task}: {found}, acknowledged {must}", node.name);
        }
    }
    assert!(must.iter().sum::<u64>() > 100, "{must:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_cut_off_does_no_harm() {
    let cuts = Cuts::default();
    let (_installation, nodes) = cluster(3, |settings| {
        settings.network = cuts.network(&settings.record.control);
        settings.timings.propose_timeout = Duration::from_secs(3);
        settings.timings.read_timeout = Duration::from_secs(2);
    })
    .await;
    let at = leader(&nodes).await;
    let addresses: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    nodes[at].group().propose(set("k")).await.unwrap();
    let old = nodes[at].group().status().epoch.unwrap();
    cuts.isolate(
        &addresses[at],
        addresses.iter().filter(|address| **address != addresses[at]),
    );
    // What it takes in the first moment may or may not be applied; never acknowledged and lost.
    let doubtful = nodes[at].group().propose(set("doubtful")).await;
    assert!(doubtful.is_err(), "{doubtful:?}");
    eventually("it knows that its leadership is not in force", || {
        nodes[at].group().status().epoch.is_none()
    })
    .await;
    let read = nodes[at].group().barrier().await;
    assert!(matches!(read, Err(Error::Retry { .. })), "{read:?}");
    let others: Vec<_> = nodes
        .iter()
        .filter(|node| node.address != addresses[at])
        .collect();
    eventually("another leads", || {
        others.iter().any(|node| node.group().status().epoch.is_some())
    })
    .await;
    let groups: Vec<_> = others.iter().map(|node| node.group()).collect();
    let stamped = propose_somewhere(&groups, set("k")).await.now;
    assert!(
        nodes[at].group().now().as_millis() <= stamped,
        "its clock runs ahead of nobody"
    );
    cuts.heal();
    assert_eq!(times(nodes[at].group(), "k").await, 2);
    let lost = times(nodes[at].group(), "doubtful").await;
    assert!(lost <= 1);
    for group in groups {
        assert_eq!(times(group, "doubtful").await, lost);
    }
    let again = leader(&nodes).await;
    assert!(nodes[again].group().status().epoch.unwrap() > old);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_cut_off_and_back_disturbs_nobody() {
    let cuts = Cuts::default();
    let (_installation, nodes) = cluster(3, |settings| {
        settings.network = cuts.network(&settings.record.control);
    })
    .await;
    let at = leader(&nodes).await;
    let epoch = nodes[at].group().status().epoch;
    let addresses: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    let away = (at + 1) % 3;
    cuts.isolate(
        &addresses[away],
        addresses.iter().filter(|address| **address != addresses[away]),
    );
    // Long enough for it to stand for election several times, if it could.
    tokio::time::sleep(Duration::from_secs(5)).await;
    nodes[at].group().propose(set("k")).await.unwrap();
    let refused = cuts.refused();
    assert!(refused < 500, "{refused} attempts to reach who is away");
    cuts.heal();
    assert_eq!(times(nodes[away].group(), "k").await, 1);
    assert_eq!(
        nodes[at].group().status().epoch,
        epoch,
        "pre-vote keeps the leader in place"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_whose_answer_was_lost_makes_no_second_member() {
    let (_installation, nodes) = cluster(3, |_| {}).await;
    let at = leader(&nodes).await;
    let settings = &nodes[at].settings;
    let channel = proto::control::connect(
        &settings.network,
        &nodes[at].address,
        &settings.role,
        Arc::clone(&settings.tls),
    );
    let mut client = RaftClient::new(channel.unwrap());
    let envelope = pb::Envelope {
        protocol_version: proto::PROTOCOL_VERSION,
        group: "names".to_owned(),
        ..pb::Envelope::default()
    };
    let join = pb::JoinRequest {
        envelope: Some(envelope.clone()),
        nonce: vec![7; 16].into(),
        member: Some(pb::Member {
            control_address: "127.0.0.1:1".to_owned(),
            level: 1,
            ..pb::Member::default()
        }),
    };
    let first = client.join(join.clone()).await.unwrap().into_inner();
    let second = client.join(join.clone()).await.unwrap().into_inner();
    assert_eq!(first.node, second.node);
    assert_eq!(second.members.len(), 4);
    let mut other = join.clone();
    other.nonce = vec![8; 16].into();
    assert_ne!(client.join(other).await.unwrap().into_inner().node, first.node);
    let mut foreign = join;
    foreign.envelope = Some(pb::Envelope {
        group: "cluster".to_owned(),
        ..envelope
    });
    let refused = client.join(foreign).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert_eq!(running(&nodes).len(), 3);
}

/// A process on a copied directory, at another address.
async fn clone_of(node: &Node, installation: &Arc<support::Installation>, name: &str) -> Node {
    let mut clone = Node::new(installation, name).await;
    support::copy_directory(&node.directory(), &clone.directory());
    clone.settings.join = node.settings.join.clone();
    clone
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_identity_lives_once() {
    let (installation, mut nodes) = cluster(3, |_| {}).await;
    let at = leader(&nodes).await;
    nodes[at].group().propose(set("k")).await.unwrap();
    let original = (at + 1) % 3;
    let id = nodes[original].group().status().node_id;

    // The original lives: the copy does not start, and the members know the original's address.
    let mut copy = clone_of(&nodes[original], &installation, "copy").await;
    let error = copy.try_start().await.unwrap_err();
    assert!(
        matches!(&error, Error::Refused { reason } if reason.contains(&nodes[original].address)),
        "{error}"
    );
    let known = |nodes: &[Node], at: usize| {
        let status = nodes[at].group().status();
        status.member(id).unwrap().control.clone()
    };
    assert_eq!(known(&nodes, at), nodes[original].address);

    // The original is gone: the copy is the member now, wherever it is.
    nodes[original].stop().await;
    copy.start().await;
    eventually("the member has moved", || known(&nodes, at) == copy.address).await;
    nodes[at].group().propose(set("k")).await.unwrap();
    assert_eq!(times(copy.group(), "k").await, 2);

    // The original comes back, with an old log that knows nothing of that, and is refused.
    let outcome = nodes[original].try_start().await;
    assert!(matches!(outcome, Err(Error::Refused { .. })), "{outcome:?}");
    assert_eq!(known(&nodes, at), copy.address);
    // A restart of what is the member is let in at once.
    copy.stop().await;
    copy.move_elsewhere().await;
    copy.start().await;
    eventually("the member has moved again", || known(&nodes, at) == copy.address).await;
}
