//! What fails is named, and nothing half-done stays.

use std::time::Duration;

use common::error::Kind;
use common::ids::NodeId;
use common::tls::{ALPN_BULK, Identity};
use proto::bulk::blocks;
use proto::bulk::dial::{Deadlines, Dialer};
use proto::bulk::error::Error;
use proto::bulk::frame::DATA_BYTES_MAX;
use proto::bulk::message::PutBegin;

use super::cluster;
use super::harness::{CLUSTER, CLUSTER_ID, Cluster, attempt_id, content, digest, eventually, get, put};

async fn is_stored(cluster: &Cluster, node: usize, attempt: u64) -> bool {
    let request = cluster.get_request(node, attempt, 0, 1);
    match get(&mut cluster.connect(node).await, &request).await {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), Kind::NotFound, "{error}");
            false
        }
    }
}

fn idle(cluster: &Cluster) -> bool {
    let nodes = &cluster.nodes;
    nodes
        .iter()
        .all(|node| node.counters().in_flight_bytes.get() == 0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_was_changed_under_way_is_refused() {
    let cluster = cluster(2).await;
    for (attempt, hint) in [(1, None), (2, Some(200_000))] {
        let sent = content(200_000, attempt);
        let sums = blocks::checksums(attempt_id(attempt), 0, &sent);
        let mut changed = sent.to_vec();
        changed[70_000] ^= 1;
        let mut connection = cluster.connect(0).await;
        let mut sending = connection.put(&cluster.begin(attempt, hint)).unwrap();
        let outcome = match sending.send(&changed, &sums).await {
            Ok(()) => sending.finish(digest(&sent)).await.map(drop),
            Err(error) => Err(error),
        };
        let error = outcome.unwrap_err();
        let Error::Failed(failure) = &error else {
            panic!("{error}");
        };
        assert_eq!((failure.kind, failure.block), (Kind::Corrupt, Some(1)));
        assert!(connection.is_reusable());
        for node in [0, 1] {
            assert!(!is_stored(&cluster, node, attempt).await, "node {node}");
        }
    }
}

/// The delegate checks for itself, also what a node of its cluster sends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delegate_refuses_a_block_that_was_changed_behind_the_primary() {
    let cluster = cluster(2).await;
    let identity = Identity::load(&cluster.directory.path().join("n1")).unwrap();
    let dialer = Dialer::new(
        cluster.network.clone(),
        std::sync::Arc::new(identity.client_config(ALPN_BULK).unwrap()),
        CLUSTER,
        CLUSTER_ID,
        Some(NodeId::new(1)),
        cluster.clock.clone(),
    );
    let mut connection = dialer.unwrap().connect(&cluster.nodes[1].target()).await.unwrap();
    for (attempt, hint) in [(1, None), (2, Some(200_000))] {
        let sent = content(200_000, attempt);
        let sums = blocks::checksums(attempt_id(attempt), 0, &sent);
        let mut changed = sent.to_vec();
        changed[150_000] ^= 4;
        let good = cluster.begin(attempt, hint);
        let begin = PutBegin {
            grant: good.delegate_grant,
            delegate_grant: Vec::new(),
            ..good
        };
        let mut sending = connection.put(&begin).unwrap();
        let outcome = match sending.send(&changed, &sums).await {
            Ok(()) => sending.finish(digest(&changed)).await.map(drop),
            Err(error) => Err(error),
        };
        let Error::Failed(failure) = outcome.unwrap_err() else {
            panic!("the delegate says why");
        };
        assert_eq!((failure.kind, failure.block), (Kind::Corrupt, Some(2)));
        assert_eq!(failure.node, NodeId::new(2));
        assert!(!is_stored(&cluster, 1, attempt).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_of_another_attempt_are_refused() {
    let cluster = cluster(2).await;
    let sent = content(1000, 1);
    let begin = cluster.begin(1, None);
    let mut connection = cluster.connect(0).await;
    let mut sending = connection.put(&begin).unwrap();
    let sums = blocks::checksums(attempt_id(2), 0, &sent);
    sending.send(&sent, &sums).await.unwrap();
    let error = sending.finish(digest(&sent)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
}

/// Sends `megabytes` of attempt 1 and leaves the put open.
async fn send_some<'c>(
    connection: &'c mut proto::bulk::dial::Connection,
    begin: &PutBegin,
    megabytes: u32,
) -> proto::bulk::put::Put<'c> {
    let mut sending = connection.put(begin).unwrap();
    for number in 0..megabytes {
        let data = content(DATA_BYTES_MAX, u64::from(number));
        let sums = blocks::checksums(begin.attempt, number * 16, &data);
        sending.send(&data, &sums).await.unwrap();
    }
    sending
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delegate_that_dies_is_named() {
    let cluster = cluster(2).await;
    let mut connection = cluster.connect(0).await;
    let begin = cluster.begin(1, None);
    let mut sending = send_some(&mut connection, &begin, 2).await;
    eventually("the delegate has received something", || {
        cluster.nodes[1].counters().received_bytes.get() > 0
    })
    .await;
    cluster.nodes[1].serving.abort();
    cluster.nodes[1].shutdown.trigger();
    let mut block = 32;
    let error = loop {
        let data = content(DATA_BYTES_MAX, 9);
        let sums = blocks::checksums(begin.attempt, block, &data);
        block += 16;
        if let Err(error) = sending.send(&data, &sums).await {
            break error;
        }
        assert!(block < 16 * 64, "the failure is noticed while sending");
    };
    assert_eq!(error.node(), NodeId::new(2), "{error}");
    assert!(error.kind().is_passing(), "{error}");
    assert!(connection.is_reusable(), "the primary is well");
    assert!(!is_stored(&cluster, 0, 1).await);
    eventually("all memory is back", || idle(&cluster)).await;

    // The next put names it too, though nobody listens there any more.
    for (attempt, hint) in [(2, None), (3, Some(1000))] {
        let error = put(&mut connection, &cluster.begin(attempt, hint), &content(1000, 1))
            .await
            .unwrap_err();
        assert_eq!(error.node(), NodeId::new(2), "{error}");
        assert_eq!(error.kind(), Kind::Retry, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_frees_everything() {
    let cluster = cluster(2).await;
    for attempt in [1, 2] {
        let mut connection = cluster.connect(0).await;
        let begin = cluster.begin(attempt, None);
        let sending = send_some(&mut connection, &begin, 3).await;
        eventually("both nodes are at it", || {
            cluster
                .nodes
                .iter()
                .all(|node| node.counters().in_flight_bytes.get() > 0)
        })
        .await;
        if attempt == 1 {
            drop(sending);
            drop(connection);
        } else {
            sending.abort().await.unwrap();
            assert!(connection.is_reusable());
        }
        eventually("all memory is back", || idle(&cluster)).await;
        for node in [0, 1] {
            assert!(!is_stored(&cluster, node, attempt).await);
        }
    }
    // The same attempt can be sent again, once the nodes have forgotten the first try.
    let sent = content(100_000, 1);
    loop {
        match put(&mut cluster.connect(0).await, &cluster.begin(1, None), &sent).await {
            Ok(_) => break,
            Err(error) => assert_eq!(error.kind(), Kind::Conflict, "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_goes_away_stops_the_node() {
    let cluster = cluster(1).await;
    let sent = content(32 << 20, 1);
    put(
        &mut cluster.connect(0).await,
        &cluster.begin_at(0, None, 1, None),
        &sent,
    )
    .await
    .unwrap();
    let mut connection = cluster.connect(0).await;
    let request = cluster.get_request(0, 1, 0, sent.len() as u64);
    let mut reading = connection.get(&request).await.unwrap();
    let mut buffer = vec![0; DATA_BYTES_MAX];
    reading.next(&mut buffer).await.unwrap();
    drop(connection);
    let counters = cluster.nodes[0].counters();
    eventually("the connection is gone", || counters.connections.get() == 0).await;
    assert!(counters.sent_bytes.get() < sent.len() as u64);
    assert_eq!(counters.gets.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_is_said() {
    let cluster = cluster(1).await;
    let mut connection = cluster.connect(0).await;
    cluster.nodes[0].shutdown.trigger();
    eventually("the connection is not handed out again", || {
        !connection.is_reusable()
    })
    .await;
    eventually("serving ends", || cluster.nodes[0].serving.is_finished()).await;
    let quick = Deadlines {
        connect: Duration::from_secs(1),
        ..Deadlines::default()
    };
    let dialer = cluster.dialer().with_deadlines(quick);
    let error = dialer.connect(&cluster.nodes[0].target()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Retry);
}
