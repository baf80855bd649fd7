//! Uploads and downloads through whole nodes, while nodes come and go.

use std::time::Duration;

use common::error::Kind;
use proto::files::v1::seal_reply::Outcome;

use super::installation::{CHUNK, Installation, content};

fn published(outcome: Outcome) -> proto::files::v1::Published {
    match outcome {
        Outcome::Published(published) => published,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_on_two_nodes_and_every_member_knows_where() {
    let installation = Installation::start().await;
    let sent = content(1, 5 * CHUNK + 99);
    let request = installation.send(1, &sent).await;
    let published = published(installation.seal(&request).await);
    let durability = published.durability.unwrap();
    assert_eq!((durability.copies, durability.hosts, durability.zones), (2, 2, 2));
    assert!(!durability.reduced);
    assert_eq!(published.places.iter().map(|place| place.chunks).sum::<u32>(), 12);
    for node in 0..3 {
        assert!(installation.read(node, 1).await == sent, "node {node}");
        let manifest = installation.manifest(node, 1).await.unwrap();
        for chunk in &manifest.chunks {
            assert_eq!(chunk.replicas.len(), 2);
            for replica in &chunk.replicas {
                let found = installation.get(chunk, replica).await.unwrap();
                assert_eq!(found.len() as u64, chunk.length);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_leads_and_goes_on_with_uploads() {
    let mut installation = Installation::start().await;
    let done = content(1, 100);
    let request = installation.send(1, &done).await;
    published(installation.seal(&request).await);
    // Under way while the leader goes.
    let under_way = content(2, 4 * CHUNK);
    let mut begun = installation.send(2, &under_way).await;
    let leader = installation.leader();
    installation.stop_node(leader).await;
    loop {
        match installation.seal(&begun).await {
            Outcome::Need(need) => {
                for index in need.indices {
                    let bytes = under_way.chunks(CHUNK).nth(index as usize).unwrap();
                    begun.receipts[index as usize] = installation.send_chunk(2, index, bytes).await;
                }
            }
            outcome => {
                published(outcome);
                break;
            }
        }
    }
    published(installation.outcome(1).await);
    let reader = (leader + 1) % 3;
    assert!(installation.read(reader, 2).await == under_way);
    let fresh = content(3, 2 * CHUNK);
    let request = installation.send(3, &fresh).await;
    published(installation.seal(&request).await);

    installation.start_node(leader);
    installation.live_nodes(3).await;
    assert!(installation.read(leader, 3).await == fresh);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_not_answered_for_a_while_leads_again() {
    let installation = Installation::start().await;
    let done = content(1, 2 * CHUNK);
    let request = installation.send(1, &done).await;
    published(installation.seal(&request).await);
    let leader = installation.leader();
    // The others hear its heartbeats, so nobody wants to be elected in its place.
    let others = || (0..3).filter(|node| *node != leader);
    others().for_each(|node| installation.nodes[node].hush.hold());
    installation
        .eventually("the leader to notice", || !installation.leads(leader))
        .await;
    others().for_each(|node| installation.nodes[node].hush.let_go());
    installation
        .eventually("somebody to lead", || (0..3).any(|node| installation.leads(node)))
        .await;
    let sent = content(2, 3 * CHUNK);
    let request = installation.send(2, &sent).await;
    published(installation.seal(&request).await);
    assert!(installation.read(leader, 2).await == sent);
}

/// Cut off from the others, which have elected another: it does not say of a version that it is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposed_leader_knows_nothing_for_certain() {
    let installation = Installation::start().await;
    let old = installation.leader();
    let control = |node: usize| &installation.nodes[node].config.listen.control;
    let others = || (0..3).filter(|node| *node != old);
    installation.cuts.isolate(control(old), others().map(control));
    installation
        .eventually("another to lead", || {
            !installation.leads(old) && others().any(|node| installation.leads(node))
        })
        .await;
    let sent = content(1, 2 * CHUNK);
    let request = installation.send(1, &sent).await;
    published(installation.seal(&request).await);
    // It is asked again and again as long as it asks for a moment.
    let asking = installation.manifest(old, 1);
    let asked = installation.clock.timeout(Duration::from_secs(1), asking).await;
    assert!(asked.is_none(), "{asked:?}");
    for node in others() {
        assert!(installation.manifest(node, 1).await.is_ok());
    }
    installation.cuts.heal();
    assert!(installation.read(old, 1).await == sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_on_a_lost_node_are_sent_again_before_they_count() {
    let mut installation = Installation::start().await;
    let sent = content(1, 6 * CHUNK);
    let mut request = installation.send(1, &sent).await;
    let lost = (installation.leader() + 1) % 3;
    installation.stop_node(lost).await;
    installation.live_nodes(2).await;
    let lost_name = &installation.nodes[lost].config.node;
    let published = loop {
        match installation.seal(&request).await {
            Outcome::Need(need) => {
                for index in need.indices {
                    let bytes = sent.chunks(CHUNK).nth(index as usize).unwrap();
                    request.receipts[index as usize] = installation.send_chunk(1, index, bytes).await;
                }
            }
            outcome => break published(outcome),
        }
    };
    assert!(published.places.iter().all(|place| &place.node != lost_name));
    assert!(installation.read(installation.leader(), 1).await == sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_there_after_all_nodes_were_down() {
    let mut installation = Installation::start().await;
    let sent = content(1, 3 * CHUNK + 1);
    let request = installation.send(1, &sent).await;
    published(installation.seal(&request).await);
    for node in 0..3 {
        installation.stop_node(node).await;
    }
    for node in [2, 0, 1] {
        installation.start_node(node);
    }
    installation.live_nodes(3).await;
    for node in 0..3 {
        assert!(installation.read(node, 1).await == sent, "node {node}");
    }
    published(installation.seal(&request).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_released_goes_from_the_disks_and_nothing_else_does() {
    let installation = Installation::start().await;
    let (gone, kept) = (content(1, 2 * CHUNK), content(2, 2 * CHUNK));
    for (upload, bytes) in [(1, &gone), (2, &kept)] {
        let request = installation.send(upload, bytes).await;
        published(installation.seal(&request).await);
    }
    let before = installation.manifest(0, 1).await.unwrap();
    installation.names.release(1);
    let mut left: Vec<_> = before
        .chunks
        .iter()
        .flat_map(|chunk| chunk.replicas.iter().map(move |replica| (chunk, replica)))
        .collect();
    assert_eq!(left.len(), 4);
    let begun = installation.clock.moment();
    while !left.is_empty() {
        let mut still = Vec::new();
        for (chunk, replica) in left {
            if installation.get(chunk, replica).await.is_ok() {
                still.push((chunk, replica));
            }
        }
        left = still;
        let waited = installation.clock.moment().since(begun);
        assert!(waited < std::time::Duration::from_secs(30), "not reclaimed");
    }
    let chunks = || {
        installation
            .names
            .said(|said| said.status.as_ref().map(|status| status.chunks))
    };
    installation
        .eventually("two chunks are left", || chunks() == Some(2))
        .await;
    let refused = installation.manifest(0, 1).await.unwrap_err();
    assert_eq!(refused.kind, Kind::NotFound);
    assert!(installation.read(1, 2).await == kept);
}
