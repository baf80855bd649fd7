//! What every store does, on every driver: the simulated one, a real directory around the page cache, and through it.

use common::error::Kind;
use common::ids::{ClusterId, Epoch, NodeId};
use common::units::{BLOCK_BYTES, ByteCount};

use super::super::disk_identity::Identity;
use super::super::error::Error;
use super::super::record::RecordMeta;
use super::super::writer::Begun;
use super::lab::{
    IDENTITY, Lab, append_all, assert_stored, attempt, begin, checksums, digest, meta, payload, read,
    read_range, write,
};

const LENGTHS: [usize; 12] = [
    1,
    511,
    4096,
    4097,
    65_535,
    65_536,
    65_537,
    200_000,
    1 << 20,
    (1 << 20) + 1,
    (3 << 20) + 4096,
    (5 << 20) + 77,
];

async fn on_every_driver(test: impl AsyncFn(Lab)) {
    test(Lab::simulated(1, 1)).await;
    test(Lab::simulated(2, 3)).await;
    test(Lab::real(std::env::temp_dir(), true)).await;
    test(Lab::real(std::env::temp_dir(), false)).await;
    if std::path::Path::new("/dev/shm").is_dir() {
        test(Lab::real("/dev/shm".into(), true)).await;
    }
}

#[tokio::test]
async fn records_are_read_back_now_and_after_a_restart() {
    on_every_driver(async |lab: Lab| {
        let (store, reports) = lab.open().await;
        assert!(reports.iter().all(|report| report.is_new));
        for (sequence, length) in (0..).zip(LENGTHS) {
            let stored = write(&store, sequence, length).await.unwrap();
            assert_eq!(stored, store.stored(attempt(sequence)).await.unwrap());
            assert_stored(&store, sequence, length).await;
        }
        drop(store);
        let (store, reports) = lab.open().await;
        let replayed: u64 = reports.iter().map(|report| report.replayed).sum();
        assert_eq!(replayed, LENGTHS.len() as u64);
        for (sequence, length) in (0..).zip(LENGTHS) {
            assert_stored(&store, sequence, length).await;
        }
        store.close().await.unwrap();
        assert!(matches!(store.stored(attempt(1)).await, Err(Error::Closed)));
        drop(store);
        let (store, reports) = lab.open().await;
        assert!(
            reports
                .iter()
                .all(|report| report.replayed == 0 && report.problems.is_empty())
        );
        for (sequence, length) in (0..).zip(LENGTHS) {
            assert_stored(&store, sequence, length).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_record_may_be_shorter_than_announced() {
    on_every_driver(async |lab: Lab| {
        let (store, _) = lab.open().await;
        for (sequence, (length, most)) in
            (0..).zip([(10, 60_000), (10, 100_000), (70_000, 5 << 20), (2 << 20, 5 << 20)])
        {
            let mut writer = begin(&store, sequence, most).await.unwrap();
            append_all(&mut writer, sequence, length, 1).await.unwrap();
            assert_eq!(writer.length(), length as u64);
            writer.finish(digest(sequence)).await.unwrap();
        }
        drop(store);
        let (store, _) = lab.open().await;
        for (sequence, length) in (0..).zip([10, 10, 70_000, 2 << 20]) {
            assert_stored(&store, sequence, length).await;
        }
    })
    .await;
}

#[tokio::test]
async fn ranges_are_covered_by_whole_blocks() {
    on_every_driver(async |lab: Lab| {
        let (store, _) = lab.open().await;
        let length = 3 * (1 << 20) + 5;
        write(&store, 0, length).await.unwrap();
        let content = payload(0, length);
        let block = BLOCK_BYTES as u64;
        for range in [
            0..1,
            1..2,
            block - 1..block + 1,
            20 * block..48 * block + 5,
            48 * block..48 * block + 5,
        ] {
            let start = (range.start / block * block) as usize;
            let end = (range.end.next_multiple_of(block) as usize).min(length);
            assert!(read_range(&store, 0, range).await.unwrap() == content[start..end]);
        }
        for range in [0..0, 5..5, 0..length as u64 + 1] {
            let refused = store.open_read(attempt(0), range).await.unwrap_err();
            assert_eq!(refused.kind(), Kind::Invalid);
        }
    })
    .await;
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_leaves_nothing() {
    on_every_driver(async |lab: Lab| {
        let (store, _) = lab.open().await;
        let used =
            |store: &super::super::Store| store.usage().iter().map(|disk| disk.used.get()).sum::<u64>();
        let before = used(&store);
        for length_max in [100, 200_000] {
            let mut writer = begin(&store, 0, length_max).await.unwrap();
            let bytes = payload(0, 100);
            let wrong = writer.append(bytes.clone(), &[1]).await.unwrap_err();
            assert!(matches!(wrong, Error::Corrupt { block: 0, .. }));
            let after = writer
                .append(bytes.clone(), &checksums(0, 0, &bytes))
                .await
                .unwrap_err();
            assert_eq!(after.kind(), Kind::Invalid);
            assert_eq!(writer.finish(digest(0)).await.unwrap_err().kind(), Kind::Invalid);
        }
        let mut writer = begin(&store, 0, 100).await.unwrap();
        append_all(&mut writer, 0, 50, 1).await.unwrap();
        let behind_short = writer
            .append(payload(0, 10), &checksums(0, 1, &payload(0, 10)))
            .await
            .unwrap_err();
        assert_eq!(behind_short.kind(), Kind::Invalid);
        drop(writer);
        wait_until_abandoned(&store, 0).await;
        let mut writer = begin(&store, 0, 100).await.unwrap();
        assert_eq!(
            append_all(&mut writer, 0, 101, 1).await.unwrap_err().kind(),
            Kind::Invalid
        );
        drop(writer);
        wait_until_abandoned(&store, 0).await;
        let empty = begin(&store, 0, 100).await.unwrap();
        assert_eq!(empty.finish(digest(0)).await.unwrap_err().kind(), Kind::Invalid);
        for length in [0, (64 << 20) + 1] {
            assert_eq!(
                store.begin(meta(0), length).await.unwrap_err().kind(),
                Kind::Invalid
            );
        }
        assert_eq!(store.stored(attempt(0)).await.unwrap_err().kind(), Kind::NotFound);
        let page = 4096;
        assert!(
            used(&store) - before <= 4 * page,
            "an idle segment's head at most"
        );
        assert!(
            store
                .usage()
                .iter()
                .all(|disk| disk.in_flight == ByteCount::new(0))
        );
        write(&store, 0, 100).await.unwrap();
        assert_stored(&store, 0, 100).await;
    })
    .await;
}

/// A dropped writer cleans up in a task of its own.
async fn wait_until_abandoned(store: &super::super::Store, sequence: u64) {
    loop {
        match store.begin(meta(sequence), 10).await {
            Ok(Begun::Writing(writer)) => {
                let _ = writer.finish(digest(sequence)).await;
                return;
            }
            Ok(Begun::Stored(_)) => return,
            Err(error) if error.kind() == Kind::Conflict => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn an_attempt_is_stored_once() {
    on_every_driver(async |lab: Lab| {
        let (store, _) = lab.open().await;
        let first = begin(&store, 0, 100).await.unwrap();
        let second = store.begin(meta(0), 100).await.unwrap_err();
        assert_eq!(second.kind(), Kind::Conflict);
        drop(first);
        wait_until_abandoned(&store, 0).await;
        let stored = write(&store, 0, 100_000).await.unwrap();
        for _ in 0..2 {
            match store.begin(meta(0), 100_000).await.unwrap() {
                Begun::Stored(again) => assert_eq!(again, stored),
                Begun::Writing(_) => panic!("stored twice"),
            }
            let other = RecordMeta { index: 99, ..meta(0) };
            assert_eq!(store.begin(other, 100).await.unwrap_err().kind(), Kind::Conflict);
        }
    })
    .await;
}

#[tokio::test]
async fn an_abandoned_record_gives_its_space_to_the_next() {
    on_every_driver(async |lab: Lab| {
        let (store, _) = lab.open().await;
        for sequence in 0..20 {
            let mut writer = begin(&store, sequence, 3 << 20).await.unwrap();
            append_all(&mut writer, sequence, 2 << 20, 16).await.unwrap();
            drop(writer);
            wait_until_abandoned(&store, sequence).await;
            write(&store, sequence + 100, 5000).await.unwrap();
            write(&store, sequence + 200, 70_000).await.unwrap();
        }
        drop(store);
        let (store, reports) = lab.open().await;
        assert!(
            reports
                .iter()
                .all(|report| report.suspects == 0 && report.problems.is_empty())
        );
        for sequence in 0..20 {
            assert_eq!(
                store.stored(attempt(sequence)).await.unwrap_err().kind(),
                Kind::NotFound
            );
            assert_stored(&store, sequence + 100, 5000).await;
            assert_stored(&store, sequence + 200, 70_000).await;
        }
        let used: u64 = store.usage().iter().map(|disk| disk.used.get()).sum();
        assert!(used < 20 << 20, "{used} bytes used");
    })
    .await;
}

#[tokio::test]
async fn what_is_dropped_stays_away_and_gives_its_space_back() {
    on_every_driver(async |lab: Lab| {
        let (store, _) = lab.open().await;
        for sequence in 0..10 {
            write(&store, sequence, 300_000).await.unwrap();
            write(&store, sequence + 10, 300).await.unwrap();
        }
        let used =
            |store: &super::super::Store| store.usage().iter().map(|disk| disk.used.get()).sum::<u64>();
        let before = used(&store);
        let dropped: Vec<_> = (0..10).map(|at| attempt(at * 2)).collect();
        store.drop_attempts(Epoch::new(5), &dropped).await.unwrap();
        store.drop_attempts(Epoch::new(5), &dropped).await.unwrap();
        assert!(used(&store) < before - 5 * 300_000 + (2 << 20));
        // One that is not stored yet.
        store.drop_attempts(Epoch::new(5), &[attempt(50)]).await.unwrap();
        let mut late = begin(&store, 60, 100_000).await.unwrap();
        append_all(&mut late, 60, 100_000, 1).await.unwrap();
        store.drop_attempts(Epoch::new(5), &[attempt(60)]).await.unwrap();
        assert!(matches!(
            late.finish(digest(60)).await,
            Err(Error::Dropped { .. })
        ));
        let mut store = store;
        for _ in 0..3 {
            for sequence in (0..10).map(|at| at * 2).chain([50, 60]) {
                assert!(
                    matches!(read(&store, sequence).await, Err(Error::Dropped { .. })),
                    "{sequence}"
                );
                assert!(matches!(
                    store.begin(meta(sequence), 10).await,
                    Err(Error::Dropped { .. })
                ));
            }
            for at in 0..10 {
                let sequence = at * 2 + 1;
                assert_stored(&store, sequence, if sequence < 10 { 300_000 } else { 300 }).await;
            }
            assert_eq!(store.inventory(None, None, 100).len(), 10);
            drop(store);
            store = lab.open().await.0;
        }
        let rest: Vec<_> = store
            .inventory(None, None, 100)
            .iter()
            .map(|item| item.attempt)
            .collect();
        store.drop_attempts(Epoch::new(5), &rest).await.unwrap();
        assert!(store.inventory(None, None, 100).is_empty());
        assert!(used(&store) < 6 * (3 << 20), "journals and checkpoints at most");
    })
    .await;
}

#[tokio::test]
async fn orders_of_a_lower_epoch_are_refused_for_good() {
    on_every_driver(async |lab: Lab| {
        let (store, _) = lab.open().await;
        write(&store, 0, 100).await.unwrap();
        store.raise_epoch(Epoch::new(7)).await.unwrap();
        store.raise_epoch(Epoch::new(7)).await.unwrap();
        for _ in 0..2 {
            assert_eq!(
                store.raise_epoch(Epoch::new(6)).await.unwrap_err().kind(),
                Kind::Stale
            );
            let stale = store
                .drop_attempts(Epoch::new(6), &[attempt(0)])
                .await
                .unwrap_err();
            assert_eq!(stale.kind(), Kind::Stale);
            store.checkpoint().await.unwrap();
        }
        drop(store);
        let (store, _) = lab.open().await;
        assert_eq!(store.epoch(), Epoch::new(7));
        assert_stored(&store, 0, 100).await;
        store.drop_attempts(Epoch::new(9), &[attempt(0)]).await.unwrap();
        assert_eq!(store.epoch(), Epoch::new(9));
    })
    .await;
}

#[tokio::test]
async fn the_inventory_comes_in_pages() {
    on_every_driver(async |lab: Lab| {
        let (store, _) = lab.open().await;
        for sequence in 0..25 {
            write(&store, sequence, 100 + sequence as usize).await.unwrap();
        }
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = store.inventory(None, after, 7);
            after = page.last().map(|item| item.attempt);
            seen.extend(page.iter().map(|item| (item.attempt, item.length)));
            if page.len() < 7 {
                break;
            }
        }
        let all: Vec<_> = (0..25)
            .map(|sequence| (attempt(sequence), 100 + sequence))
            .collect();
        assert_eq!(seen, all);
        let by_disk: usize = store
            .usage()
            .iter()
            .map(|disk| store.inventory(Some(disk.disk), None, 100).len())
            .sum();
        assert_eq!(by_disk, 25);
    })
    .await;
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_still_deletes() {
    on_every_driver(async |mut lab: Lab| {
        lab.config_mut().reserve_bytes = ByteCount::mib(8);
        let (store, _) = lab.open().await;
        let length = 4 << 20;
        let mut written = 0;
        let full = loop {
            match write(&store, written, length).await {
                Ok(_) => written += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), Kind::Full, "{full}");
        assert!(written >= 8, "{written} written");
        for disk in store.usage() {
            assert!(
                disk.used.get() + disk.free.get() <= disk.capacity.get(),
                "{disk:?}"
            );
        }
        let dropped: Vec<_> = (0..written / 2).map(attempt).collect();
        store.drop_attempts(Epoch::new(1), &dropped).await.unwrap();
        store.checkpoint().await.unwrap();
        write(&store, 1000, length).await.unwrap();
        assert_stored(&store, 1000, length).await;
        assert_stored(&store, written - 1, length).await;
    })
    .await;
}

#[tokio::test]
async fn writers_are_limited_and_never_wait_for_each_other() {
    on_every_driver(async |mut lab: Lab| {
        lab.config_mut().writers_per_disk_max = 2;
        let (store, _) = lab.open().await;
        let disks = store.usage().len() as u64;
        let mut writers = Vec::new();
        for sequence in 0..2 * disks {
            writers.push(begin(&store, sequence, 100_000).await.unwrap());
        }
        let busy = begin(&store, 100, 100_000).await.unwrap_err();
        assert_eq!(busy.kind(), Kind::Busy);
        write(&store, 200, 100).await.unwrap();
        drop(writers);
        wait_until_abandoned(&store, 0).await;
        for sequence in 300..340 {
            write(&store, sequence, 100_000).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn many_write_at_once() {
    on_every_driver(async |lab: Lab| {
        let (store, _) = lab.open().await;
        let lengths = [700, 70_000, 20, 1_200_000];
        let writes = (0..64).map(|sequence| {
            let store = store.clone();
            tokio::spawn(async move {
                loop {
                    match write(&store, sequence, lengths[sequence as usize % 4]).await {
                        Err(error) if error.kind() == Kind::Busy => tokio::task::yield_now().await,
                        outcome => return outcome.unwrap(),
                    }
                }
            })
        });
        for write in writes.collect::<Vec<_>>() {
            write.await.unwrap();
        }
        drop(store);
        let (store, _) = lab.open().await;
        for sequence in 0..64 {
            assert_stored(&store, sequence, lengths[sequence as usize % 4]).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_strangers_directory_is_refused_and_not_touched() {
    on_every_driver(async |lab: Lab| {
        let (store, _) = lab.open().await;
        write(&store, 0, 100).await.unwrap();
        drop(store);
        let before: Vec<_> = lab
            .disks()
            .iter()
            .map(|disk| (disk.names(), disk.steps()))
            .collect();
        let others = [
            Identity {
                cluster: ClusterId::new([8; 16]),
                ..IDENTITY
            },
            Identity {
                node: NodeId::new(4),
                ..IDENTITY
            },
        ];
        for other in others {
            let refused = lab.try_open(other).await.unwrap_err();
            assert!(
                matches!(&refused, Error::Directory { reason, .. } if reason.contains("it belongs to")),
                "{refused}"
            );
        }
        let after: Vec<_> = lab
            .disks()
            .iter()
            .map(|disk| (disk.names(), disk.steps()))
            .collect();
        assert_eq!(before, after);
        let (store, _) = lab.open().await;
        assert_stored(&store, 0, 100).await;
    })
    .await;
}

#[tokio::test]
async fn a_directory_in_use_is_refused() {
    let lab = Lab::real(std::env::temp_dir(), true);
    let (store, _) = lab.open().await;
    let Lab::Real { config, .. } = &lab else {
        panic!("a real one")
    };
    let clock = common::time::Clock::real();
    let second = super::super::Store::open(config, IDENTITY, clock, common::random::Random::system()).await;
    assert!(second.unwrap_err().to_string().contains("another process"));
    write(&store, 0, 100).await.unwrap();
}

#[tokio::test]
async fn a_closed_store_gives_its_directory_up() {
    let lab = Lab::real(std::env::temp_dir(), true);
    let Lab::Real { config, .. } = &lab else {
        panic!("a real one")
    };
    let open = || {
        let clock = common::time::Clock::real();
        super::super::Store::open(config, IDENTITY, clock, common::random::Random::system())
    };
    let mut held = Vec::new();
    for sequence in 0..4 {
        let (store, _) = open().await.unwrap();
        write(&store, sequence, 100).await.unwrap();
        write(&store, sequence + 10, 100_000).await.unwrap();
        store.raise_epoch(Epoch::new(sequence + 1)).await.unwrap();
        read(&store, sequence / 2).await.unwrap();
        store.close().await.unwrap();
        assert!(matches!(write(&store, 50, 100).await, Err(Error::Closed)));
        held.push(store);
    }
}

#[tokio::test]
async fn bulk_goes_to_the_disk_without_a_copy() {
    let lab = Lab::real(std::env::temp_dir(), true);
    let (store, _) = lab.open().await;
    let before = common::disk::directory::copied_parts();
    let mut writer = begin(&store, 0, (8 << 20) + 5).await.unwrap();
    append_all(&mut writer, 0, (8 << 20) + 5, 16).await.unwrap();
    writer.finish(digest(0)).await.unwrap();
    assert_eq!(common::disk::directory::copied_parts(), before);
}
