//! Any order of commands, with retries and hostile reports: what a version in force names is there, whole (P6).

use common::lifecycle::{Chunk, Replica};
use common::time::ClusterTime;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, proptest};

use super::log::{Log, abandon, chunk, open, seal};
use crate::cluster::store::counters::Counter;
use crate::cluster::store::uploads::{self, Opened};
use crate::cluster::store::{Reply, manifests, nodes, reclaim, replicas};

/// Uploads and attempts come from small ranges, so that they collide.
const UPLOADS: u64 = 6;
const ATTEMPTS: u64 = 8;

#[derive(Clone, Debug)]
enum Step {
    Open(u64),
    Seal(u64, Vec<u64>),
    Outcome(u64, bool),
    Release(u64),
    Abandon(u64),
    Mark(u64),
    Doom(Vec<u64>),
    DoomDue,
    Dropped(u64, Vec<u64>),
    CarryOut(u64),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let upload = || 1..=UPLOADS;
    let attempts = || proptest::collection::vec(1..=ATTEMPTS, 0..4);
    prop_oneof![
        upload().prop_map(Step::Open),
        (upload(), attempts()).prop_map(|(upload, attempts)| Step::Seal(upload, attempts)),
        (upload(), any::<bool>()).prop_map(|(upload, published)| Step::Outcome(upload, published)),
        upload().prop_map(Step::Release),
        upload().prop_map(Step::Abandon),
        upload().prop_map(Step::Mark),
        attempts().prop_map(Step::Doom),
        Just(Step::DoomDue),
        (1..=2_u64, attempts()).prop_map(|(node, attempts)| Step::Dropped(node, attempts)),
        (1..=2_u64).prop_map(Step::CarryOut),
        (1..200_u64).prop_map(Step::Wait),
    ]
}

fn carry_out(log: &mut Log, released: &mut u64, step: Step) {
    match step {
        Step::Open(upload) => {
            log.apply(open(upload, 100));
        }
        Step::Seal(upload, attempts) => {
            if let Reply::Opened(Opened::Open(row)) = log.apply(open(upload, 100)) {
                let chunks = attempts
                    .iter()
                    .map(|sequence| chunk(*sequence, &[1, 2]))
                    .collect();
                log.apply(seal(upload, row.number, chunks));
            }
        }
        Step::Outcome(upload, published) => {
            log.outcome(upload, published);
        }
        Step::Release(version) => {
            *released += 1;
            log.release(&[(*released, version)]);
        }
        Step::Abandon(upload) => {
            log.apply(abandon(&[upload], None));
        }
        Step::Mark(version) => {
            log.mark(version, 2);
        }
        Step::Doom(attempts) => {
            log.doom(&attempts);
        }
        Step::DoomDue => {
            let now = ClusterTime::from_millis(log.now);
            let due = reclaim::to_judge(&log.connection, now, 10).unwrap();
            log.doom(&due.iter().map(|attempt| attempt.sequence()).collect::<Vec<_>>());
        }
        Step::Dropped(node, attempts) => {
            log.dropped(node, &attempts);
        }
        Step::CarryOut(node) => {
            let orders = log.orders(node);
            log.dropped(
                node,
                &orders
                    .iter()
                    .map(|attempt| attempt.sequence())
                    .collect::<Vec<_>>(),
            );
        }
        Step::Wait(millis) => log.now += millis,
    }
}

/// Versions in force, straight from the table.
fn in_force(log: &Log) -> Vec<(u32, u32)> {
    let mut query = log
        .connection
        .prepare("SELECT version, chunk_count FROM versions WHERE state IN (1, 2, 4) ORDER BY version")
        .unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

/// One command marks many versions, up to its budget, and goes on where it stopped.
#[test]
fn versions_are_marked_together() {
    let mut log = Log::with_nodes(2);
    for upload in 1..=6 {
        let Reply::Opened(Opened::Open(row)) = log.apply(open(upload, 100)) else {
            panic!("not opened")
        };
        let chunks = (0..2).map(|at| chunk(upload * 10 + at, &[1, 2])).collect();
        log.apply(seal(upload, row.number, chunks));
        log.outcome(upload, false);
    }
    let all: Vec<u64> = reclaim::to_mark(&log.connection, 100)
        .unwrap()
        .iter()
        .map(|version| version.get())
        .collect();
    assert_eq!(all.len(), 6);
    assert_eq!(log.mark_all(&all, 5).marked, 5);
    assert!(reclaim::to_mark(&log.connection, 100).unwrap().len() < 6);
    assert_eq!(log.mark_all(&all, 100).marked, 7);
    assert!(reclaim::to_mark(&log.connection, 100).unwrap().is_empty());
    assert_eq!(log.mark_all(&all, 100).marked, 0);
}

/// A disk that drops nothing keeps no other disk of its node waiting.
#[test]
fn every_disk_of_a_node_gets_its_share_of_orders() {
    let mut log = Log::with_nodes(2);
    log.seen(1, &[1, 9]);
    let Reply::Opened(Opened::Open(row)) = log.apply(open(1, 100)) else {
        panic!("not opened")
    };
    let chunks = (1..=8).map(|sequence| {
        let mut chunk = chunk(sequence, &[1, 2]);
        if sequence > 6 {
            chunk.copies[0].disk_id = vec![9; 16].into();
        }
        chunk
    });
    let chunks = chunks.collect();
    log.apply(seal(1, row.number, chunks));
    log.outcome(1, false);
    log.mark(1, 100);
    log.now += 1000;
    log.doom(&[1, 2, 3, 4, 5, 6, 7, 8]);
    log.now += 1000;
    let now = ClusterTime::from_millis(log.now);
    let node = common::ids::NodeId::new(1);
    let orders = reclaim::orders(&log.connection, node, now, 4).unwrap();
    let orders: Vec<u64> = orders.iter().map(|attempt| attempt.sequence()).collect();
    assert_eq!(orders, [1, 2, 7, 8]);
}

#[test]
fn attempts_are_found_whether_they_lie_together_or_apart() {
    let mut log = Log::with_nodes(2);
    let Reply::Opened(Opened::Open(row)) = log.apply(open(1, 100)) else {
        panic!("not opened")
    };
    let chunks = (0..60).map(|at| chunk(at * 3 + 1, &[1, 2])).collect();
    log.apply(seal(1, row.number, chunks));
    let id = |sequence| super::log::attempt(sequence);
    for wanted in [
        vec![1, 2, 4, 178],
        vec![1, 178, 500],
        vec![0, 177],
        (0..200).collect(),
    ] {
        let wanted = wanted.into_iter().map(id).collect();
        let found = manifests::versions_of(&log.connection, &wanted).unwrap();
        for attempt in &wanted {
            let expected = manifests::find_chunk(&log.connection, *attempt).unwrap();
            assert_eq!(found.get(attempt).copied(), expected.map(|chunk| chunk.version));
        }
    }
}

proptest! {
    #[test]
    fn what_is_in_force_is_whole(steps in proptest::collection::vec(step(), 1..120)) {
        let mut log = Log::with_nodes(2);
        let mut released = 0;
        for step in steps {
            carry_out(&mut log, &mut released, step);
            for (version, count) in in_force(&log) {
                let placed = manifests::placed(&log.connection, common::ids::VersionId::new(version.into()), 0, 100).unwrap();
                prop_assert_eq!(placed.len() as u32, count, "version {} has a hole", version);
                for one in placed {
                    prop_assert!(matches!(one.chunk.state, Chunk::Live | Chunk::Marked));
                    prop_assert_eq!(one.replicas.len(), 2);
                    prop_assert!(one.replicas.iter().all(|row| row.state == Replica::Stored));
                }
            }
        }
    }

    #[test]
    fn what_is_not_in_force_goes_in_the_end(steps in proptest::collection::vec(step(), 1..80)) {
        let mut log = Log::with_nodes(2);
        let mut released = 0;
        for step in steps {
            carry_out(&mut log, &mut released, step);
        }
        for upload in 1..=UPLOADS {
            log.outcome(upload, false);
            released += 1;
            log.release(&[(released, upload)]);
            log.apply(abandon(&[upload], None));
        }
        for _ in 0..8 {
            for version in 1..=UPLOADS {
                log.mark(version, 2);
                log.mark(version, 2);
            }
            log.now += 1_000;
            carry_out(&mut log, &mut released, Step::DoomDue);
            log.now += 1_000;
            carry_out(&mut log, &mut released, Step::CarryOut(1));
            carry_out(&mut log, &mut released, Step::CarryOut(2));
        }
        prop_assert_eq!(in_force(&log), Vec::new());
        for table in ["chunks", "replicas", "manifest", "drops"] {
            let left: u32 = log.connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
            prop_assert_eq!(left, 0, "rows left in {}", table);
        }
        for counter in [Counter::Chunks, Counter::ChunkBytes, Counter::UploadsOpen, Counter::SingleCopyChunks] {
            prop_assert_eq!(log.counter(counter), 0, "{:?}", counter);
        }
        prop_assert!(nodes::disks(&log.connection).unwrap().iter().all(|disk| disk.replicas == 0));
        prop_assert!(uploads::silent(&log.connection, ClusterTime::from_millis(u64::MAX >> 1), 10).unwrap().is_empty());
        prop_assert!(replicas::of(&log.connection, common::ids::AttemptId::default()).unwrap().is_empty());
    }
}
