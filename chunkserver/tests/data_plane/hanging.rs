//! A copy whose disk hangs or fails is no copy (P1).

use std::time::Duration;

use common::disk::simulated::{Faults, SimulatedDisk};
use common::error::Kind;
use common::ids::NodeId;
use common::random::Random;
use common::time::ManualTime;
use common::units::{ByteCount, Span};
use dbfs_chunkserver::transfer::settings::DataPlaneSettings;
use proto::bulk::error::Error;

use super::harness::{Cluster, content, get, put};

/// Two nodes on disks in memory.
async fn on_simulated_disks(time: &ManualTime) -> (Cluster, Vec<SimulatedDisk>) {
    let settings = DataPlaneSettings {
        finish_timeout: Span::millis(400),
        ..DataPlaneSettings::default()
    };
    let random = Random::seeded(11);
    let disk = |number: u64| {
        SimulatedDisk::new(
            &format!("disk {number}"),
            ByteCount::mib(256),
            time.clock(),
            random.clone(),
        )
    };
    let disks: Vec<SimulatedDisk> = (1..=2).map(disk).collect();
    let cluster = Cluster::start_on(&disks, settings).await;
    (cluster, disks)
}

/// Whatever the primary does, a put is acknowledged only when both copies are persisted; the one that was not is named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_is_not_acknowledged_while_one_copy_is_not_persisted() {
    let time = ManualTime::default();
    let (cluster, disks) = on_simulated_disks(&time).await;
    let mut attempt = 0;
    for (hanging, node) in [(1, 2), (0, 1)] {
        for hint in [None, Some(100_000)] {
            attempt += 1;
            disks[hanging].set_faults(Faults {
                delay_max: Duration::from_secs(3600),
                ..Faults::default()
            });
            let begin = cluster.begin(attempt, hint);
            let mut connection = cluster.connect(0).await;
            let outcome = put(&mut connection, &begin, &content(100_000, attempt)).await;
            let error = outcome.unwrap_err();
            assert_eq!(error.node(), NodeId::new(node), "{error}");
            assert!(matches!(error, Error::Failed(_)), "{error}");
            disks[hanging].set_faults(Faults::default());
            time.advance(Duration::from_secs(3600));
        }
    }
    // Disks that answer again serve again.
    let begin = cluster.begin(90, None);
    let mut connection = cluster.connect(0).await;
    put(&mut connection, &begin, &content(1000, 1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_fails_when_one_copy_cannot_be_synced() {
    let time = ManualTime::default();
    let (cluster, disks) = on_simulated_disks(&time).await;
    put(
        &mut cluster.connect(0).await,
        &cluster.begin(1, None),
        &content(1000, 1),
    )
    .await
    .unwrap();
    let now = disks[1].steps();
    disks[1].set_faults(Faults {
        errors_at: (now + 1..now + 200).collect(),
        ..Faults::default()
    });
    for (attempt, hint) in [(2, None), (3, Some(1000))] {
        let begin = cluster.begin(attempt, hint);
        let mut connection = cluster.connect(0).await;
        let error = put(&mut connection, &begin, &content(1000, 1)).await.unwrap_err();
        assert_eq!(error.node(), NodeId::new(2), "{error}");
        let request = cluster.get_request(1, attempt, 0, 10);
        let error = get(&mut cluster.connect(1).await, &request).await.unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
    }
}
