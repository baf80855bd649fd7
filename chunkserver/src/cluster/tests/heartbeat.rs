//! A node's heartbeat beside disks that hang.

use std::sync::Arc;
use std::time::Duration;

use common::disk::simulated::{Faults, SimulatedDisk};
use common::net::Network;
use common::random::Random;
use common::shutdown::Shutdown;
use common::time::{Clock, ManualTime};
use common::units::ByteCount;
use proto::files::v1::seal_reply::Outcome;

use super::support::{Member, until};
use crate::control::heartbeat::{self, Beat};
use crate::control::orders::Orders;
use crate::control::{LeaderLink, load::LoadView};
use crate::store::Store;
use crate::store::config::StoreConfig;
use crate::store::disk_identity::Identity;

/// The heartbeat goes on, and what was ordered meanwhile is reported once the disk answers again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_disk_hangs_stays_live() {
    let member = Member::start().await;
    let cluster = Arc::clone(&member.cluster);
    let time = ManualTime::default();
    let random = Random::seeded(5);
    let disk = SimulatedDisk::new("disk", ByteCount::mib(64), time.clock(), random.clone());
    let owner = Identity {
        cluster: cluster.cluster_id(),
        node: cluster.node_id(),
    };
    let config = StoreConfig {
        reserve_bytes: ByteCount::mib(2),
        ..StoreConfig::default()
    };
    let disks = vec![(disk.disk(), None)];
    let (store, _) = Store::open_on(&config, owner, Clock::real(), random, disks)
        .await
        .unwrap();
    let link = LeaderLink::new(Arc::clone(&cluster), Network::tcp(None), member.tls());
    let beat = Beat {
        cluster: Arc::clone(&cluster),
        link: Arc::new(link),
        store: store.clone(),
        orders: Orders::new(store.clone()),
        load: LoadView::default(),
        in_flight_bytes: prometheus::IntGauge::new("in_flight", "test").unwrap(),
        lost: Vec::new(),
    };
    let request = member.store(3, &[7; 100]).await;
    let Outcome::Published(_) = member.seal(request).await else {
        panic!("not published");
    };
    let shutdown = Shutdown::new();
    let beating = tokio::spawn(heartbeat::run(beat, shutdown.clone()));
    until("the epoch is durable", || {
        store.epoch() == cluster.lead().unwrap().epoch
    })
    .await;

    disk.set_faults(Faults {
        delay_max: Duration::from_secs(3600),
        ..Faults::default()
    });
    member.names.release(3);
    let node = cluster.node_id();
    let steps = disk.steps();
    until("the order has reached the disk", || disk.steps() > steps).await;
    for _ in 0..3 {
        let heard = || cluster.lead().unwrap().said()[&node].at;
        let before = heard();
        until("the node is heard while its disk hangs", || heard() > before).await;
    }
    let dropped = || {
        let reclaimed = cluster.metrics.reclaimed.with_label_values(&["dropped"]);
        reclaimed.get()
    };
    assert_eq!(dropped(), 0);
    disk.set_faults(Faults::default());
    until("the drop is reported", || {
        time.advance(Duration::from_secs(3600));
        dropped() > 0
    })
    .await;
    shutdown.trigger();
    beating.await.unwrap();
}
