//! What goes in comes out, at both nodes, and the receipt says so.

use std::sync::Arc;

use common::ids::NodeId;
use common::units::BLOCK_BYTES;
use proto::bulk::blocks;
use proto::bulk::grant::DataPlaneKeys;
use proto::bulk::pipeline::SmallPut;
use proto::bulk::pool::{Limits, Pool};

use super::cluster;
use super::harness::{attempt_id, content, digest, get, put};

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_of_any_length_is_stored_twice() {
    let cluster = cluster(2).await;
    let keys = DataPlaneKeys::new(vec![cluster.key.clone()]);
    let mut connection = cluster.connect(0).await;
    let lengths = [
        1,
        4096,
        BLOCK_BYTES - 1,
        BLOCK_BYTES,
        BLOCK_BYTES + 1,
        256 << 10,
        (256 << 10) + 1,
        MIB,
        MIB + 1,
        5 * MIB + 123,
    ];
    let mut attempt = 0;
    for length in lengths {
        for hint in [None, Some(length as u64)] {
            attempt += 1;
            let sent = content(length, attempt);
            let receipt = put(&mut connection, &cluster.begin(attempt, hint), &sent)
                .await
                .unwrap();
            let nodes: Vec<NodeId> = receipt.copies.iter().map(|copy| copy.node).collect();
            assert_eq!(nodes, [NodeId::new(1), NodeId::new(2)]);
            for copy in &receipt.copies {
                assert!(copy.is_genuine(&receipt.statement, &keys));
            }
            assert_eq!(receipt.statement.length, length as u64);
            for node in [0, 1] {
                let request = cluster.get_request(node, attempt, 0, length as u64);
                let found = get(&mut cluster.connect(node).await, &request).await.unwrap();
                assert!(
                    found == sent,
                    "length {length}, hint {hint:?}, node {node}: other bytes"
                );
            }
        }
    }
    assert!(connection.is_reusable());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_range_can_be_read() {
    let cluster = cluster(2).await;
    let mut connection = cluster.connect(0).await;
    let sent = content(3 * MIB + 777, 1);
    put(&mut connection, &cluster.begin(1, None), &sent)
        .await
        .unwrap();
    let length = sent.len();
    let ranges = [
        (0, 1),
        (length - 1, 1),
        (BLOCK_BYTES, BLOCK_BYTES),
        (BLOCK_BYTES - 1, 2),
        (MIB - 5, MIB + 10),
        (777, length - 777),
    ];
    for (offset, count) in ranges {
        let request = cluster.get_request(0, 1, offset as u64, count as u64);
        let found = get(&mut connection, &request).await.unwrap();
        assert!(found == sent[offset..offset + count], "{count} at {offset}");
    }
    let beyond = cluster.get_request(0, 1, length as u64, 1);
    assert!(get(&mut connection, &beyond).await.is_err());
    assert!(connection.is_reusable());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_copy_where_one_was_asked_for() {
    let cluster = cluster(1).await;
    let sent = content(2 * MIB, 1);
    for (attempt, hint) in [(1, None), (2, Some(sent.len() as u64))] {
        let begin = cluster.begin_at(0, None, attempt, hint);
        let receipt = put(&mut cluster.connect(0).await, &begin, &sent).await.unwrap();
        assert_eq!(receipt.copies.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_travel_once_over_each_hop() {
    let cluster = cluster(2).await;
    let sent = content(4 * MIB + 5, 1);
    put(&mut cluster.connect(0).await, &cluster.begin(1, None), &sent)
        .await
        .unwrap();
    let request = cluster.get_request(1, 1, 0, sent.len() as u64);
    get(&mut cluster.connect(1).await, &request).await.unwrap();
    let (primary, delegate) = (cluster.nodes[0].counters(), cluster.nodes[1].counters());
    let length = sent.len() as u64;
    assert_eq!(primary.received_bytes.get(), length);
    assert_eq!(primary.forwarded_bytes.get(), length);
    assert_eq!(delegate.received_bytes.get(), length);
    assert_eq!(delegate.forwarded_bytes.get(), 0);
    assert_eq!((primary.sent_bytes.get(), delegate.sent_bytes.get()), (0, length));
    assert_eq!((primary.puts.get(), delegate.puts.get()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_puts_share_a_connection() {
    const PUTS: u64 = 1000;
    let cluster = Arc::new(cluster(2).await);
    let pool = Pool::new(cluster.dialer(), Limits::default());
    let target = cluster.nodes[0].target();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 1..=PUTS {
        let pipeline = pool.pipeline(&target).await.unwrap();
        let cluster = Arc::clone(&cluster);
        tasks.spawn(async move {
            let data = content(1 + (number as usize * 37) % 3000, number);
            let put = SmallPut {
                begin: cluster.begin(number, None),
                checksums: blocks::checksums(attempt_id(number), 0, &data),
                digest: digest(&data),
                data,
            };
            let receipt = pipeline.put(put).await.unwrap();
            assert_eq!(receipt.statement.attempt, attempt_id(number));
            assert_eq!(receipt.copies.len(), 2);
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(pool.connections(), 1);
    assert_eq!(cluster.nodes[1].counters().connections.get(), 1);
    assert_eq!(cluster.nodes[1].counters().puts.get(), PUTS);
    let sent = content(1 + (7 * 37) % 3000, 7);
    let request = cluster.get_request(1, 7, 0, sent.len() as u64);
    assert_eq!(get(&mut cluster.connect(1).await, &request).await.unwrap(), sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_puts_and_gets_at_once() {
    let cluster = Arc::new(cluster(2).await);
    let pool = Pool::new(cluster.dialer(), Limits::default());
    let mut tasks = tokio::task::JoinSet::new();
    for number in 1..=12 {
        let (cluster, pool) = (Arc::clone(&cluster), pool.clone());
        tasks.spawn(async move {
            // Both nodes are primaries and delegates of each other.
            let (primary, delegate) = ((number % 2) as usize, ((number + 1) % 2) as usize);
            let sent = content(6 * MIB, number);
            let target = cluster.nodes[primary].target();
            let begin = cluster.begin_at(primary, Some(delegate), number, None);
            let mut connection = pool.connection(&target).await.unwrap();
            put(&mut connection, &begin, &sent).await.unwrap();
            let request = cluster.get_request(primary, number, 0, sent.len() as u64);
            assert!(get(&mut connection, &request).await.unwrap() == sent);
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    for node in &cluster.nodes {
        assert_eq!(node.counters().puts.get(), 12);
        assert_eq!(node.counters().in_flight_bytes.get(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_that_is_repeated_gets_the_same_receipt() {
    let cluster = cluster(2).await;
    let mut connection = cluster.connect(0).await;
    for (attempt, length) in [(1, 1000), (2, 3 * MIB)] {
        let sent = content(length, attempt);
        let begin = cluster.begin(attempt, Some(length as u64));
        let first = put(&mut connection, &begin, &sent).await.unwrap();
        let again = put(&mut connection, &begin, &sent).await.unwrap();
        assert_eq!(first, again);
        let other = content(length, attempt + 100);
        let error = put(&mut connection, &begin, &other).await.unwrap_err();
        assert_eq!(error.kind(), common::error::Kind::Conflict, "{error}");
        let request = cluster.get_request(0, attempt, 0, length as u64);
        assert!(get(&mut connection, &request).await.unwrap() == sent);
    }
}
