//! Orders beside disks that hang.

use std::time::Duration;

use bytes::Bytes;
use common::checksum::block_checksum;
use common::disk::simulated::{Faults, SimulatedDisk};
use common::ids::{ClusterId, Digest, NodeId, UploadNumber, VersionId};
use common::random::Random;
use common::time::{Clock, ManualTime};
use common::units::ByteCount;

use super::*;
use crate::store::config::StoreConfig;
use crate::store::disk_identity::Identity;
use crate::store::record::RecordMeta;
use crate::store::writer::Begun;

const EPOCH: Epoch = Epoch::new(1);

/// A store on disks whose answers wait while `hang` says so.
struct Lab {
    store: Store,
    disks: Vec<SimulatedDisk>,
    time: ManualTime,
}

impl Lab {
    async fn open(count: usize) -> Self {
        let time = ManualTime::default();
        let random = Random::seeded(7);
        let disk = |at| {
            SimulatedDisk::new(
                &format!("disk {at}"),
                ByteCount::mib(64),
                time.clock(),
                random.clone(),
            )
        };
        let disks: Vec<SimulatedDisk> = (0..count).map(disk).collect();
        let config = StoreConfig {
            reserve_bytes: ByteCount::mib(2),
            segment_bytes: ByteCount::new(512 << 10),
            ..StoreConfig::default()
        };
        let owner = Identity {
            cluster: ClusterId::new([7; 16]),
            node: NodeId::new(3),
        };
        let opened = disks.iter().map(|disk| (disk.disk(), None)).collect();
        let (store, _) = Store::open_on(&config, owner, Clock::real(), random, opened)
            .await
            .unwrap();
        Self { store, disks, time }
    }

    fn hang(&self, disk: usize) {
        self.disks[disk].set_faults(Faults {
            delay_max: Duration::from_secs(3600),
            ..Faults::default()
        });
    }

    fn go_on(&self) {
        for disk in &self.disks {
            disk.set_faults(Faults::default());
        }
        self.time.advance(Duration::from_secs(3600));
    }

    /// Writes records until every disk holds one; the attempts.
    async fn fill(&self) -> Vec<AttemptId> {
        let mut attempts = Vec::new();
        for sequence in 1..100 {
            let attempt = AttemptId::new(EPOCH, sequence);
            let meta = RecordMeta {
                attempt,
                upload: UploadNumber::new(1),
                version: VersionId::new(1),
                index: 0,
                path_hint: String::new(),
            };
            let bytes = Bytes::from_static(&[9; 100_000]);
            let Begun::Writing(mut writer) = self.store.begin(meta, 100_000).await.unwrap() else {
                panic!("written twice");
            };
            let (first, second) = bytes.split_at(common::units::BLOCK_BYTES);
            let sums = [
                block_checksum(attempt, 0, first),
                block_checksum(attempt, 1, second),
            ];
            writer.append(bytes, &sums).await.unwrap();
            writer.finish(Digest::new([1; 32])).await.unwrap();
            attempts.push(attempt);
            if self.store.split_drops(&attempts).by_disk.len() == self.disks.len() {
                return attempts;
            }
        }
        panic!("one disk takes everything");
    }
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if condition() {
            return;
        }
        Clock::real().sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn a_disk_that_hangs_delays_neither_the_caller_nor_another_disk() {
    let lab = Lab::open(2).await;
    let attempts = lab.fill().await;
    let parts = lab.store.split_drops(&attempts).by_disk;
    let orders = Orders::new(lab.store.clone());
    orders.obeys(EPOCH);
    eventually("the epoch is durable", || orders.obeys(EPOCH)).await;
    lab.hang(0);
    let hung = lab.store.usage()[0].disk;
    let expected: Vec<AttemptId> = parts
        .iter()
        .filter(|(disk, _)| **disk != hung)
        .flat_map(|(_, attempts)| attempts.clone())
        .collect();
    // Repeated as a leader repeats it: one task per disk carries it out, and none waits.
    for _ in 0..50 {
        orders.drop_attempts(EPOCH, &attempts);
    }
    orders.progress().await;
    eventually("the healthy disk is done", || orders.dropped(100) == expected).await;
    assert!(orders.0.state.lock().busy.contains(&hung));
    assert!(!orders.reported(&expected));
    lab.go_on();
    eventually("the other disk is done", || {
        orders.dropped(100).len() == attempts.len() - expected.len()
    })
    .await;
}

#[tokio::test]
async fn an_epoch_is_obeyed_once_one_disk_has_it() {
    let lab = Lab::open(2).await;
    let orders = Orders::new(lab.store.clone());
    lab.hang(1);
    assert!(!orders.obeys(Epoch::new(4)), "not durable yet");
    eventually("one disk has it", || orders.obeys(Epoch::new(4))).await;
    assert!(!orders.obeys(Epoch::new(3)), "a deposed leader is not obeyed");
    lab.hang(0);
    assert!(!orders.obeys(Epoch::new(5)));
    Clock::real().sleep(Duration::from_millis(20)).await;
    assert!(!orders.obeys(Epoch::new(5)), "no disk has it");
    lab.go_on();
    eventually("the disks have it", || orders.obeys(Epoch::new(5))).await;
}
