//! What a disk that refuses does to its node: what passes is refused and comes back, a failed fsync stays, other disks
//! go on.

use common::disk::simulated::{Call, Faults};
use common::error::Kind;
use common::ids::Epoch;

use super::super::Store;
use super::lab::{Lab, assert_stored, attempt, read, write};

fn reason(store: &Store) -> Option<String> {
    store.usage()[0].refuses_because.clone()
}

#[tokio::test]
async fn a_process_without_descriptors_refuses_says_so_and_recovers() {
    let lab = Lab::simulated(41, 1);
    let (store, _) = lab.open().await;
    write(&store, 0, 100_000).await.unwrap();
    write(&store, 1, 700).await.unwrap();
    lab.disk().set_faults(Faults {
        no_descriptors: true,
        ..Faults::default()
    });
    let mut refused = 0;
    // Idle segments take some; what needs a new file is refused.
    for sequence in 10..20 {
        match write(&store, sequence, 400_000).await {
            Ok(_) => assert!(store.stored(attempt(sequence)).await.is_ok() || reason(&store).is_some()),
            Err(error) => {
                refused += 1;
                assert_eq!(error.kind(), Kind::Retry, "{error}");
            }
        }
    }
    assert!(refused > 5, "{refused} refused");
    let _ = store.checkpoint().await;
    store.0.look_after_disks().await;
    assert!(
        reason(&store).unwrap().contains("Too many open files"),
        "{:?}",
        reason(&store)
    );
    assert!(store.suspects(9).is_empty());
    lab.disk().set_faults(Faults::default());
    store.0.look_after_disks().await;
    assert_eq!(reason(&store), None);
    write(&store, 30, 400_000).await.unwrap();
    assert_stored(&store, 0, 100_000).await;
    store.checkpoint().await.unwrap();
    let (store, reports) = lab.after_power_cut().await;
    assert!(reports[0].problems.is_empty(), "{reports:?}");
    assert_stored(&store, 0, 100_000).await;
    assert_stored(&store, 30, 400_000).await;
}

#[tokio::test]
async fn a_disk_comes_back_after_write_errors_and_not_after_a_failed_fsync() {
    for (call, comes_back) in [(Call::Write, true), (Call::Allocate, true), (Call::Sync, false)] {
        let lab = Lab::simulated(42, 1);
        let (store, _) = lab.open().await;
        write(&store, 0, 100_000).await.unwrap();
        let before = lab.disk().calls();
        write(&store, 1, 100_000).await.unwrap();
        let calls = lab.disk().calls_from(before + 1);
        let at = calls.iter().position(|one| *one == call).unwrap() as u64 + 1;
        let first = lab.disk().calls() + at;
        lab.disk().set_faults(Faults {
            calls_failing: vec![(first..first + 1, libc::EIO)],
            ..Faults::default()
        });
        assert_eq!(write(&store, 2, 100_000).await.unwrap_err().kind(), Kind::Retry);
        assert!(reason(&store).unwrap().contains("Input/output error"));
        assert_eq!(write(&store, 3, 100).await.unwrap_err().kind(), Kind::Retry);
        assert_stored(&store, 0, 100_000).await;
        store.0.look_after_disks().await;
        assert_eq!(
            reason(&store).is_none(),
            comes_back,
            "{call:?}: {:?}",
            reason(&store)
        );
        assert_eq!(write(&store, 4, 100).await.is_ok(), comes_back, "{call:?}");
        let (store, _) = lab.after_power_cut().await;
        assert_stored(&store, 1, 100_000).await;
        if comes_back {
            assert_stored(&store, 4, 100).await;
        }
    }
}

/// Want of memory or descriptors, and access that is denied, say nothing about a record.
#[tokio::test]
async fn only_what_the_medium_says_makes_a_record_suspect() {
    for code in [
        libc::EMFILE,
        libc::ENOMEM,
        libc::EACCES,
        libc::ESTALE,
        libc::EINTR,
    ] {
        for length in [700, 200_000] {
            for from in 1..8 {
                for count in 1..4 {
                    let lab = Lab::simulated(43, 1);
                    let (store, _) = lab.open().await;
                    write(&store, 0, length).await.unwrap();
                    let first = lab.disk().calls() + from;
                    lab.disk().set_faults(Faults {
                        calls_failing: vec![(first..first + count, code)],
                        ..Faults::default()
                    });
                    let verified = store.verify(attempt(0)).await;
                    assert!(verified.map_or_else(|error| error.kind() != Kind::Corrupt, |()| true));
                    if let Err(error) = read(&store, 0).await {
                        assert_eq!(error.kind(), Kind::Retry, "{error}");
                    }
                    lab.disk().set_faults(Faults::default());
                    assert!(store.suspects(1).is_empty(), "{code} {length} {from} {count}");
                    assert_stored(&store, 0, length).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_disk_that_refuses_keeps_nobody_elses_drops_waiting() {
    let lab = Lab::simulated(44, 2);
    let (store, _) = lab.open().await;
    for sequence in 0..12 {
        write(&store, sequence, 100_000).await.unwrap();
    }
    let ids: Vec<_> = store.usage().iter().map(|disk| disk.disk).collect();
    let on = |disk| -> Vec<_> {
        let items = store.inventory(Some(disk), None, 100);
        items.iter().map(|item| item.attempt).collect()
    };
    let (broken, healthy) = (on(ids[0]), on(ids[1]));
    assert!(broken.len() > 2 && healthy.len() > 2);
    lab.disks()[0].set_faults(Faults {
        calls_failing: vec![(0..u64::MAX, libc::EIO)],
        ..Faults::default()
    });
    let all: Vec<_> = (0..12).map(attempt).chain([attempt(99)]).collect();
    for _ in 0..2 {
        let dropped = store.drop_attempts(Epoch::new(1), &all).await.unwrap();
        let mut done = dropped.attempts.clone();
        done.sort_unstable();
        let mut expected = healthy.clone();
        expected.push(attempt(99));
        assert_eq!(done, expected);
        assert_eq!(dropped.left, broken.len());
        assert!(dropped.failure.is_some());
    }
    assert!(on(ids[1]).is_empty());
    assert_eq!(on(ids[0]), broken);
}

/// A disk that could not be recovered at a start is not taken for empty: what may lie there is not "not found".
#[tokio::test]
async fn what_may_lie_on_an_unrecovered_disk_is_not_called_absent() {
    let lab = Lab::simulated(45, 2);
    let (store, _) = lab.open().await;
    for sequence in 0..8 {
        write(&store, sequence, 100_000).await.unwrap();
    }
    drop(store);
    lab.disks()
        .iter()
        .for_each(common::disk::simulated::SimulatedDisk::end_process);
    let first = lab.disk().calls() + 4;
    lab.disk().set_faults(Faults {
        calls_failing: vec![(first..u64::MAX, libc::EMFILE)],
        ..Faults::default()
    });
    let (store, _) = lab.open().await;
    assert!(reason(&store).is_some());
    for sequence in 0..8 {
        match read(&store, sequence).await {
            Ok(content) => assert_eq!(content.len(), 100_000),
            Err(error) => assert_eq!(error.kind(), Kind::Retry, "{error}"),
        }
    }
    let dropped = store
        .drop_attempts(Epoch::new(1), &[attempt(0), attempt(1)])
        .await
        .unwrap();
    assert_eq!(dropped.attempts.len(), 2);
    write(&store, 20, 100_000).await.unwrap();
    lab.disk().set_faults(Faults::default());
    store.0.look_after_disks().await;
    assert_eq!(reason(&store), None);
    for sequence in 0..8 {
        match sequence {
            0 | 1 => assert_eq!(read(&store, sequence).await.unwrap_err().kind(), Kind::Conflict),
            _ => assert_stored(&store, sequence, 100_000).await,
        }
    }
    let (store, _) = lab.after_power_cut().await;
    assert!(read(&store, 0).await.is_err());
    assert_stored(&store, 7, 100_000).await;
    assert_stored(&store, 20, 100_000).await;
}
