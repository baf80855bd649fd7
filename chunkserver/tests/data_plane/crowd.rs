//! Many clients at a node with little room: everybody is served, nobody keeps the others out (P10).

use std::sync::Arc;
use std::time::Duration;

use common::error::Kind;
use common::ids::UserId;
use common::units::{ByteCount, Span};
use dbfs_chunkserver::transfer::settings::DataPlaneSettings;
use proto::bulk::blocks;
use proto::bulk::dial::Deadlines;
use proto::bulk::frame::{DATA_BYTES_MAX, RequestNumber};
use proto::bulk::grant::Operation;
use proto::bulk::message::{Failure, GetRequest};
use proto::bulk::transport::FrameWriter;

use super::cluster_with;
use super::harness::{Cluster, attempt_id, content, eventually, get, put};
use super::limits::raw;

fn cramped() -> DataPlaneSettings {
    DataPlaneSettings {
        // Two windows for clients.
        write_in_flight_bytes_max: ByteCount::mib(16),
        principal_share_percent: 100,
        progress_period: Span::millis(40),
        gets_in_flight_max: 4,
        ..DataPlaneSettings::default()
    }
}

/// Sixteen clients with two places: every one keeps its place in the queue, hears that it waits, and is served, although
/// each of them would give a node up that says nothing for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_share_few_places_and_all_succeed() {
    let cluster = Arc::new(cluster_with(2, cramped()).await);
    let quick = Deadlines {
        frame: Duration::from_millis(800),
        answer: Duration::from_millis(1600),
        ..Deadlines::default()
    };
    let held = hold_all(&cluster).await;
    let clients = (100..116).map(|attempt| {
        let cluster = Arc::clone(&cluster);
        tokio::spawn(async move {
            let target = cluster.nodes[0].target();
            let dialer = cluster.dialer().with_deadlines(quick);
            let mut connection = dialer.connect(&target).await.unwrap();
            let sent = content(2 * DATA_BYTES_MAX + 5, attempt);
            put(&mut connection, &cluster.begin(attempt, None), &sent).await
        })
    });
    let clients: Vec<_> = clients.collect();
    // Longer than any of them waits for a node that is silent.
    cluster.clock.sleep(Duration::from_millis(1200)).await;
    drop(held);
    for client in clients {
        client.await.unwrap().unwrap();
    }
}

/// Puts that hold all memory for clients and send no more.
async fn hold_all(cluster: &Cluster) -> Vec<proto::bulk::dial::Connection> {
    let mut held = Vec::new();
    for attempt in 1..=2 {
        let mut connection = cluster.connect(0).await;
        let begin = cluster.begin(attempt, None);
        let data = content(DATA_BYTES_MAX, attempt);
        let sums = blocks::checksums(attempt_id(attempt), 0, &data);
        let mut sending = connection.put(&begin).unwrap();
        sending.send(&data, &sums).await.unwrap();
        held.push(connection);
    }
    eventually("both are at it", || {
        cluster.nodes[0].counters().received_bytes.get() >= 2 * DATA_BYTES_MAX as u64
    })
    .await;
    held
}

fn get_of(cluster: &Cluster, principal: u64, length: u64) -> GetRequest {
    let mut grant = cluster.grant(0, 1, Operation::Read);
    grant.principal = UserId::new(principal);
    GetRequest {
        grant: grant.seal(&cluster.key),
        ..cluster.get_request(0, 1, 0, length)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_user_does_not_take_all_places_for_reads() {
    let settings = DataPlaneSettings {
        principal_share_percent: 75,
        admission_wait_max: Span::millis(100),
        ..cramped()
    };
    let cluster = cluster_with(1, settings).await;
    let sent = content(32 << 20, 1);
    let begin = cluster.begin_at(0, None, 1, None);
    put(&mut cluster.connect(0).await, &begin, &sent).await.unwrap();
    // Readers that take nothing.
    let mut stuck = Vec::new();
    for _ in 0..3 {
        let mut connection = cluster.connect(0).await;
        let request = get_of(&cluster, 7, sent.len() as u64);
        drop(connection.get(&request).await.unwrap());
        stuck.push(connection);
    }
    let counters = cluster.nodes[0].counters();
    eventually("they are served", || counters.sent_bytes.get() > 3 << 20).await;
    let mut connection = cluster.connect(0).await;
    let error = get(&mut connection, &get_of(&cluster, 7, 10)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Busy, "{error}");
    assert!(error.retry_after() > Duration::ZERO);
    let other = get(&mut connection, &get_of(&cluster, 8, 10)).await.unwrap();
    assert_eq!(other, sent[..10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_that_trickles_loses_its_place() {
    let settings = DataPlaneSettings {
        transfer_grace: Span::millis(300),
        bytes_per_second_min: ByteCount::mib(64),
        ..cramped()
    };
    let cluster = cluster_with(1, settings).await;
    let sent = content(32 << 20, 1);
    let begin = cluster.begin_at(0, None, 1, None);
    // Frames come, each of them soon enough to be no stall, all of them too slowly.
    let mut connection = cluster.connect(0).await;
    let mut sending = connection.put(&begin).unwrap();
    let mut block = 0;
    let error = loop {
        let data = sent.slice(..DATA_BYTES_MAX);
        let sums = blocks::checksums(begin.attempt, block, &data);
        block += sums.len() as u32;
        if let Err(error) = sending.send(&data, &sums).await {
            break error;
        }
        cluster.clock.sleep(Duration::from_millis(100)).await;
    };
    assert!(error.to_string().contains("slow"), "{error}");
    // A small one whose data never comes, on a connection that is not silent.
    let (mut reader, stream) = raw(&cluster).await;
    let mut writer = FrameWriter::new(stream);
    writer.control(RequestNumber::new(1), &cluster.begin_at(0, None, 2, Some(1000)));
    let chatting = async {
        loop {
            writer.cancel(RequestNumber::new(99));
            writer.flush().await.unwrap();
            cluster.clock.sleep(Duration::from_millis(50)).await;
        }
    };
    let frame = tokio::select! {
        frame = reader.next() => frame.unwrap().unwrap(),
        () = chatting => unreachable!(),
    };
    let failure: Failure = frame.decode().unwrap();
    assert_eq!((failure.kind, failure.code.as_str()), (Kind::Retry, "E_TOO_SLOW"));
    eventually("all memory is back", || {
        cluster.nodes[0].counters().in_flight_bytes.get() == 0
    })
    .await;
}
