//! Slow is not stuck: links that carry little are waited for, links that carry nothing are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::net::Connection as Stream;
use common::time::Clock;
use common::units::Span;
use dbfs_chunkserver::transfer::settings::DataPlaneSettings;
use proto::bulk::dial::{Connection, Deadlines, Target};
use proto::bulk::error::Error;
use proto::bulk::pipeline::{Pipeline, SmallPut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::cluster_with;
use super::harness::{Cluster, content, digest, eventually, get, put};

/// No wait on anything that moves may be longer; a whole transfer over the narrow link takes many times as long.
const STALL: Duration = Duration::from_millis(400);
const LENGTH: usize = 120_000;

fn impatient() -> DataPlaneSettings {
    DataPlaneSettings {
        progress_timeout: Span::millis(400),
        progress_period: Span::millis(40),
        ..DataPlaneSettings::default()
    }
}

/// What one direction of a narrow link still carries, in bytes.
type Budget = Arc<AtomicUsize>;

const ENDLESS: usize = usize::MAX / 2;

/// A link to a node that carries 60 KB/s in each direction, until its budget is spent: then it carries nothing more, and
/// stays open.
struct NarrowLink {
    address: String,
    up: Budget,
    down: Budget,
}

impl NarrowLink {
    async fn to(cluster: &Cluster, node: usize) -> Self {
        let network = cluster.network.clone();
        let mut listener = network.bind("127.0.0.1:0").await.unwrap();
        let link = Self {
            address: listener.address(),
            up: Arc::new(AtomicUsize::new(ENDLESS)),
            down: Arc::new(AtomicUsize::new(ENDLESS)),
        };
        let target = cluster.nodes[node].address.clone();
        let (up, down) = (link.up.clone(), link.down.clone());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far: Stream = network.connect(&target).await.unwrap();
                let (near_read, near_write) = tokio::io::split(near);
                let (far_read, far_write) = tokio::io::split(far);
                tokio::spawn(carry(near_read, far_write, up.clone()));
                tokio::spawn(carry(far_read, near_write, down.clone()));
            }
        });
        link
    }

    async fn connect(&self, cluster: &Cluster, node: usize) -> Connection {
        let deadlines = Deadlines {
            frame: STALL,
            answer: STALL,
            ..Deadlines::default()
        };
        let target = Target {
            node: cluster.nodes[node].id,
            address: self.address.clone(),
        };
        let dialer = cluster.dialer().with_deadlines(deadlines);
        dialer.connect(&target).await.unwrap()
    }
}

async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, budget: Budget) {
    let clock = Clock::real();
    let mut buffer = [0; 1200];
    while let Ok(count) = from.read(&mut buffer).await {
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            // The end travels too.
            let _ = to.shutdown().await;
            return;
        }
        let left = budget.load(Ordering::SeqCst);
        if left < count {
            return std::future::pending().await;
        }
        budget.fetch_sub(count, Ordering::SeqCst);
        clock.sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_link_is_waited_for_in_both_directions() {
    let cluster = cluster_with(2, impatient()).await;
    let link = NarrowLink::to(&cluster, 0).await;
    let sent = content(LENGTH, 1);
    let begun = cluster.clock.moment();
    let mut connection = link.connect(&cluster, 0).await;
    put(&mut connection, &cluster.begin(1, None), &sent)
        .await
        .unwrap();
    assert!(
        cluster.clock.moment().since(begun) > STALL * 2,
        "the link is not slow"
    );
    let request = cluster.get_request(0, 1, 0, LENGTH as u64);
    assert_eq!(get(&mut connection, &request).await.unwrap(), sent);

    // Small chunks that share a connection wait for each other, and none of them fails.
    let pipeline = Pipeline::start(link.connect(&cluster, 0).await);
    let puts = (2..8).map(|attempt| {
        let data = content(20_000, attempt);
        let begin = cluster.begin(attempt, Some(20_000));
        let small = SmallPut {
            checksums: proto::bulk::blocks::checksums(begin.attempt, 0, &data),
            digest: digest(&data),
            begin,
            data,
        };
        pipeline.put(small)
    });
    for outcome in futures::future::join_all(puts).await {
        outcome.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_delegate_is_waited_for() {
    let cluster = cluster_with(2, impatient()).await;
    let link = NarrowLink::to(&cluster, 1).await;
    let direct = NarrowLink {
        address: cluster.nodes[0].address.clone(),
        up: Budget::default(),
        down: Budget::default(),
    };
    let mut addresses = cluster.addresses();
    addresses.insert(cluster.nodes[1].id, link.address.clone());
    cluster.tell(&addresses);
    let mut connection = direct.connect(&cluster, 0).await;
    for (attempt, hint) in [(1, None), (2, Some(LENGTH as u64))] {
        let receipt = put(
            &mut connection,
            &cluster.begin(attempt, hint),
            &content(LENGTH, attempt),
        )
        .await
        .unwrap();
        assert_eq!(receipt.copies.len(), 2);
    }
    // It stops half-way: the client hears nothing, and does not wait for ever.
    link.up.store(LENGTH / 2, Ordering::SeqCst);
    let begin = cluster.begin(3, None);
    let error = put(&mut connection, &begin, &content(LENGTH, 3))
        .await
        .unwrap_err();
    assert!(error.kind().is_passing(), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_carries_nothing_one_way_is_noticed() {
    let cluster = cluster_with(2, impatient()).await;
    let sent = content(LENGTH, 1);
    put(&mut cluster.connect(0).await, &cluster.begin(1, None), &sent)
        .await
        .unwrap();
    let idle = || {
        let mut nodes = cluster.nodes.iter();
        nodes.all(|node| node.counters().in_flight_bytes.get() == 0)
    };
    for (attempt, direction) in [(2, "up"), (3, "down")] {
        let link = NarrowLink::to(&cluster, 0).await;
        let mut connection = link.connect(&cluster, 0).await;
        match direction {
            "up" => link.up.store(LENGTH / 2, Ordering::SeqCst),
            _ => link.down.store(0, Ordering::SeqCst),
        }
        let error = put(&mut connection, &cluster.begin(attempt, None), &sent)
            .await
            .unwrap_err();
        let noticed = matches!(error, Error::Timeout { .. } | Error::Refused { .. });
        assert!(noticed, "{direction}: {error}");
        eventually("the nodes have noticed too", idle).await;
    }
    let link = NarrowLink::to(&cluster, 0).await;
    let mut connection = link.connect(&cluster, 0).await;
    link.down.store(LENGTH / 2, Ordering::SeqCst);
    let request = cluster.get_request(0, 1, 0, LENGTH as u64);
    let error = get(&mut connection, &request).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
}
