//! Memory, connections and patience have limits (P10).

use std::time::Duration;

use common::error::Kind;
use common::tls::{ALPN_BULK, Identity, Role};
use common::units::{ByteCount, Span};
use dbfs_chunkserver::transfer::settings::DataPlaneSettings;
use proto::bulk::blocks;
use proto::bulk::error::Error;
use proto::bulk::frame::{DATA_BYTES_MAX, HEADER_BYTES};
use proto::bulk::handshake;
use proto::bulk::message::{Goodbye, Hello};
use proto::bulk::transport::{FrameReader, FrameWriter};
use tokio::io::AsyncWriteExt;

use super::harness::{CLUSTER, CLUSTER_ID, Cluster, attempt_id, content, eventually, get, put};
use super::{cluster, cluster_with};

fn impatient() -> DataPlaneSettings {
    DataPlaneSettings {
        idle_timeout: Span::millis(300),
        progress_timeout: Span::millis(300),
        handshake_timeout: Span::millis(300),
        ..DataPlaneSettings::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_beyond_the_memory_are_told_to_come_back() {
    let settings = DataPlaneSettings {
        write_in_flight_bytes_max: ByteCount::mib(16),
        put_buffers_max: 3,
        admission_wait_max: Span::millis(50),
        principal_share_percent: 100,
        ..DataPlaneSettings::default()
    };
    let cluster = cluster_with(2, settings).await;
    let (mut connections, mut refused) = (Vec::new(), 0);
    for attempt in 1..=6 {
        let mut connection = cluster.connect(0).await;
        let begin = cluster.begin(attempt, None);
        let mut sending = connection.put(&begin).unwrap();
        let data = content(DATA_BYTES_MAX, attempt);
        let sums = blocks::checksums(begin.attempt, 0, &data);
        let mut outcome = sending.send(&data, &sums).await;
        for number in 1..4_u32 {
            if outcome.is_ok() {
                cluster.clock.sleep(Duration::from_millis(50)).await;
                let sums = blocks::checksums(begin.attempt, number * 16, &data);
                outcome = sending.send(&data, &sums).await;
            }
        }
        match outcome {
            Ok(()) => connections.push(connection),
            Err(error) => {
                assert_eq!(error.kind(), Kind::Busy, "{error}");
                assert!(error.retry_after() > Duration::ZERO);
                assert!(connection.is_reusable());
                refused += 1;
            }
        }
    }
    // Half of 16 MiB is for clients; a put may hold three buffers of 1 MiB and a little.
    assert_eq!((connections.len(), refused), (2, 4));
    for node in &cluster.nodes {
        assert!(node.counters().in_flight_bytes.get() <= 8 << 20);
    }
    drop(connections);
    eventually("all memory is back", || {
        let nodes = &cluster.nodes;
        nodes
            .iter()
            .all(|node| node.counters().in_flight_bytes.get() == 0)
    })
    .await;
    put(
        &mut cluster.connect(0).await,
        &cluster.begin(9, None),
        &content(100, 1),
    )
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_client_is_cut() {
    let cluster = cluster_with(2, impatient()).await;
    let counters = cluster.nodes[0].counters();
    // Idle.
    let mut connection = cluster.connect(0).await;
    eventually("the idle connection is ended", || !connection.is_reusable()).await;
    let request = cluster.get_request(0, 1, 0, 1);
    assert!(get(&mut connection, &request).await.is_err());
    // Within a put.
    let mut connection = cluster.connect(0).await;
    let begin = cluster.begin(1, None);
    let mut sending = connection.put(&begin).unwrap();
    let data = content(DATA_BYTES_MAX, 1);
    let sums = blocks::checksums(begin.attempt, 0, &data);
    sending.send(&data, &sums).await.unwrap();
    eventually("the put is taken back", || counters.in_flight_bytes.get() > 0).await;
    eventually("the put is taken back", || counters.in_flight_bytes.get() == 0).await;
    let sums = blocks::checksums(begin.attempt, 16, &data);
    let error = loop {
        if let Err(error) = sending.send(&data, &sums).await {
            break error;
        }
    };
    assert!(
        matches!(error, Error::Refused { .. } | Error::Broken { .. }),
        "{error}"
    );
    // Before TLS.
    let silent = cluster.network.connect(&cluster.nodes[0].address).await.unwrap();
    let mut reader = FrameReader::new(silent);
    assert!(reader.preface().await.is_err());
    eventually("all connections are gone", || counters.connections.get() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_takes_nothing_is_cut() {
    let cluster = cluster_with(1, impatient()).await;
    let sent = content(32 << 20, 1);
    let begin = cluster.begin_at(0, None, 1, None);
    put(&mut cluster.connect(0).await, &begin, &sent).await.unwrap();
    let mut connection = cluster.connect(0).await;
    let request = cluster.get_request(0, 1, 0, sent.len() as u64);
    let reading = connection.get(&request).await.unwrap();
    let counters = cluster.nodes[0].counters();
    eventually("the connection is gone", || counters.connections.get() == 0).await;
    drop(reading);
    assert!(counters.sent_bytes.get() < sent.len() as u64);
}

/// A connection for what no client of ours would send.
pub(crate) async fn raw(
    cluster: &Cluster,
) -> (
    FrameReader<tokio::io::ReadHalf<Box<dyn common::net::Duplex>>>,
    tokio::io::WriteHalf<Box<dyn common::net::Duplex>>,
) {
    let identity = Identity::load(&cluster.directory.path().join("n1")).unwrap();
    let tls = std::sync::Arc::new(identity.client_config(ALPN_BULK).unwrap());
    let stream = cluster.network.connect(&cluster.nodes[0].address).await.unwrap();
    let name = common::tls::expected_name(&Role::Chunkserver(CLUSTER.to_owned())).unwrap();
    let stream = tokio_rustls::TlsConnector::from(tls)
        .connect(name, stream)
        .await
        .unwrap();
    let stream: Box<dyn common::net::Duplex> = Box::new(stream);
    let (reading, writing) = tokio::io::split(stream);
    let (mut reader, mut writer) = (FrameReader::new(reading), FrameWriter::new(writing));
    handshake::ask(&mut reader, &mut writer, &Hello::of(CLUSTER_ID, None))
        .await
        .unwrap();
    (reader, writer.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_frame_ends_the_connection() {
    let cluster = cluster(1).await;
    let garbage = [0x55; HEADER_BYTES];
    let (mut reader, mut stream) = raw(&cluster).await;
    stream.write_all(&garbage).await.unwrap();
    stream.flush().await.unwrap();
    let frame = reader.next().await.unwrap().unwrap();
    let goodbye: Goodbye = frame.decode().unwrap();
    assert_eq!(
        (goodbye.kind, goodbye.code.as_str()),
        (Kind::Invalid, "E_MALFORMED")
    );
    assert!(reader.next().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trickle_of_small_frames_is_refused() {
    let cluster = cluster(1).await;
    let (mut reader, stream) = raw(&cluster).await;
    let mut writer = FrameWriter::new(stream);
    let request = proto::bulk::frame::RequestNumber::new(1);
    writer.control(request, &cluster.begin_at(0, None, 1, None));
    let data = content(65_536, 1);
    for block in 0..64 {
        let sums = blocks::checksums(attempt_id(1), block, &data);
        writer.data(request, block, &sums, &data).await.unwrap();
    }
    writer.flush().await.unwrap();
    let frame = reader.next().await.unwrap().unwrap();
    let failure: proto::bulk::message::Failure = frame.decode().unwrap();
    assert_eq!(failure.kind, Kind::Invalid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_limit_hear_why() {
    let settings = DataPlaneSettings {
        client_connections_max: 1,
        ..DataPlaneSettings::default()
    };
    let cluster = cluster_with(2, settings).await;
    let mut held = cluster.connect(0).await;
    let mut second = cluster.connect(0).await;
    eventually("the second is told", || !second.is_reusable()).await;
    // Nodes are counted apart: the first client's put still reaches the delegate.
    put(&mut held, &cluster.begin(1, None), &content(100_000, 1))
        .await
        .unwrap();
}
