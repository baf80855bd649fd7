//! Every call that the store makes of a disk fails, each by itself, with each kind of error: in a start, and in
//! ordinary operation. What was acknowledged is there afterwards, whatever failed.

use std::collections::BTreeSet;

use common::disk::health::Standing;
use common::disk::simulated::{Call, Faults};
use common::error::Kind;
use common::ids::Epoch;

use super::super::Store;
use super::super::error::Error;
use super::crash::{Model, Step, in_runtime};
use super::lab::{IDENTITY, Lab, append_all, assert_stored, attempt, begin, payload, read, write};

/// One of each kind: the medium, what passes, no space, what is denied, a medium that cannot be changed.
const CODES: [i32; 5] = [libc::EIO, libc::EMFILE, libc::ENOSPC, libc::EACCES, libc::EROFS];

/// Acknowledged and not dropped, with their lengths.
const STORED: [(u64, usize); 8] = [
    (0, 300),
    (2, 70_000),
    (3, 66_000),
    (5, 20),
    (6, 140_000),
    (8, 67_000),
    (10, 68_000),
    (11, 700),
];
const DROPPED: [u64; 3] = [1, 4, 7];
const ROTTEN: u64 = 9;

/// A disk after a crash: with a checkpoint, journals, segments beyond them, records dropped and damaged, remains.
async fn crashed(seed: u64) -> Lab {
    let mut lab = Lab::simulated(seed, 1);
    lab.config_mut().segment_bytes = common::units::ByteCount::new(128 << 10);
    let (store, _) = lab.open().await;
    for (sequence, length) in [
        (0, 300),
        (1, 4000),
        (2, 70_000),
        (3, 66_000),
        (4, 150_000),
        (5, 20),
    ] {
        write(&store, sequence, length).await.unwrap();
    }
    store.checkpoint().await.unwrap();
    store
        .drop_attempts(Epoch::new(2), &[attempt(1), attempt(4)])
        .await
        .unwrap();
    for (sequence, length) in [(6, 140_000), (7, 500), (8, 67_000), (9, 80_000), (10, 68_000)] {
        write(&store, sequence, length).await.unwrap();
    }
    rot(&lab, ROTTEN);
    assert_eq!(read(&store, ROTTEN).await.unwrap_err().kind(), Kind::Corrupt);
    store.drop_attempts(Epoch::new(3), &[attempt(7)]).await.unwrap();
    write(&store, 11, 700).await.unwrap();
    let mut writer = begin(&store, 12, 2 << 20).await.unwrap();
    append_all(&mut writer, 12, 1_200_000, 16).await.unwrap();
    lab.disk().end_process();
    drop(writer);
    if seed.is_multiple_of(2) {
        lab.disk().restart();
    }
    lab
}

/// Damages a byte of the payload of `sequence`, wherever it lies.
fn rot(lab: &Lab, sequence: u64) {
    let content = payload(sequence, 4096);
    let wanted = &content[..64];
    for name in lab.disk().names() {
        let bytes = lab.disk().content(&name).unwrap();
        let pages = bytes.chunks(4096).position(|page| page.starts_with(wanted));
        if let Some(page) = pages {
            assert!(lab.disk().flip(&name, page as u64 * 4096 + 70, 1));
            return;
        }
    }
    panic!("the record {sequence} is nowhere");
}

fn failing(lab: &Lab, from: u64, count: u64, code: i32) {
    let first = lab.disk().calls() + from;
    lab.disk().set_faults(Faults {
        calls_failing: vec![(first..first.saturating_add(count), code)],
        ..Faults::default()
    });
}

/// Everything acknowledged is there and readable; what was dropped or damaged is not served.
async fn assert_all_there(store: &Store, context: &str) {
    for (sequence, length) in STORED {
        match read(store, sequence).await {
            Ok(content) => assert!(content == payload(sequence, length), "{context}: {sequence}"),
            Err(error) => panic!("{context}: {sequence}: {error}"),
        }
        assert_stored(store, sequence, length).await;
    }
    for sequence in DROPPED {
        let gone = read(store, sequence).await.unwrap_err();
        assert!(
            matches!(gone, Error::Dropped { .. }),
            "{context}: {sequence}: {gone}"
        );
    }
    // The last one was never acknowledged: what is left of it may be suspect where a start could not read it.
    let suspects = store.suspects(9).into_iter().map(|item| item.attempt);
    let suspects: Vec<_> = suspects.filter(|found| *found != attempt(12)).collect();
    assert_eq!(suspects, [attempt(ROTTEN)], "{context}");
    assert_eq!(store.epoch(), Epoch::new(3), "{context}");
}

/// What is answered of a disk that is not recovered is right, or an error that passes.
async fn assert_nothing_wrong(store: &Store, context: &str) {
    for (sequence, length) in STORED {
        match read(store, sequence).await {
            Ok(content) => assert!(content == payload(sequence, length), "{context}: {sequence}"),
            Err(error) => assert_eq!(error.kind(), Kind::Retry, "{context}: {sequence}: {error}"),
        }
    }
    for sequence in DROPPED.into_iter().chain([ROTTEN, 12]) {
        assert!(
            read(store, sequence).await.is_err(),
            "{context}: {sequence} came back"
        );
    }
}

/// Recovers with `count` calls failing from the call `from` on; false once the recovery ends before that call.
async fn fail_one_start(lab: Lab, from: u64, count: u64, code: i32, met: &mut BTreeSet<Call>) -> bool {
    let context = format!("{count} calls from {from} fail with {code}");
    let first = lab.disk().calls() + 1;
    failing(&lab, from, count, code);
    let opened = lab.try_open(IDENTITY).await;
    let calls = lab.disk().calls_from(first);
    let reached = calls.len() as u64 >= from;
    met.extend(calls);
    lab.disk().set_faults(Faults::default());
    // Of a page that could not be read twice a record is suspect, until the next start reads it.
    let is_bad_page = code == libc::EIO && count == 2;
    match opened {
        Ok(_) if is_bad_page => {}
        Ok((store, _)) => {
            assert_nothing_wrong(&store, &context).await;
            let handle = &store.0.disks[0];
            let poisoned = matches!(handle.disk.disk.standing(), Standing::Poisoned(_));
            store.0.look_after_disks().await;
            if poisoned {
                assert_nothing_wrong(&store, &context).await;
                assert!(store.usage()[0].refuses_because.is_some(), "{context}");
                assert!(write(&store, 20, 100).await.is_err(), "{context}");
            } else {
                assert_all_there(&store, &context).await;
                assert_eq!(store.usage()[0].refuses_because, None, "{context}");
                write(&store, 20, 100).await.unwrap();
            }
        }
        Err(error) => assert!(matches!(error, Error::Disk(_)), "{context}: {error}"),
    }
    for store in [lab.after_kill().await.0, lab.after_power_cut().await.0] {
        drop(store);
    }
    let (store, reports) = lab.after_power_cut().await;
    assert_eq!(reports[0].lost, [], "{context}");
    assert_all_there(&store, &context).await;
    reached
}

#[test]
fn whatever_fails_in_a_start_costs_nothing() {
    let mut met = BTreeSet::new();
    let walk = async {
        let labs = [crashed(0).await, crashed(1).await];
        for (count, stride) in [(1, 1), (2, 3), (u64::MAX, 3)] {
            for code in CODES {
                let mut from = 1;
                let lab = |from: u64| labs[from as usize % labs.len()].fork(from);
                while fail_one_start(lab(from), from, count, code, &mut met).await {
                    from += stride;
                }
            }
        }
    };
    in_runtime(walk);
    let all = [
        Call::Open,
        Call::Create,
        Call::Update,
        Call::List,
        Call::Remove,
        Call::Rename,
        Call::SyncDirectory,
        Call::Space,
        Call::Read,
        Call::Write,
        Call::Sync,
        Call::Allocate,
        Call::Punch,
        Call::Cut,
        Call::Length,
    ];
    assert_eq!(met, BTreeSet::from(all), "a start makes every kind of call");
}

/// Records that lie behind pages which the medium does not give are neither cut off nor sealed away.
#[tokio::test]
async fn records_that_cannot_be_read_for_a_while_come_back() {
    let lengths = [100_000, 3000, 150_000];
    for page in 0..70 {
        let lab = Lab::simulated(31, 1);
        let (store, _) = lab.open().await;
        for (sequence, length) in (0..).zip(lengths) {
            write(&store, sequence, length).await.unwrap();
        }
        drop(store);
        lab.disk().end_process();
        let segments: Vec<String> = lab.disk().names();
        let segments = segments.into_iter().filter(|name| name.starts_with("segment-"));
        let unreadable = segments.map(|name| (name, page * 4096)).collect();
        lab.disk().set_faults(Faults {
            unreadable,
            ..Faults::default()
        });
        let (store, _) = lab.open().await;
        for (sequence, length) in (0..).zip(lengths) {
            if let Ok(content) = read(&store, sequence).await {
                assert!(content == payload(sequence, length));
            }
        }
        write(&store, 10, 5000).await.unwrap();
        store.checkpoint().await.unwrap();
        for round in 0..2 {
            let store = lab.after_power_cut().await.0;
            for (sequence, length) in (0..).zip(lengths).chain([(10, 5000)]) {
                match read(&store, sequence).await {
                    Ok(content) => assert!(content == payload(sequence, length)),
                    Err(error) => panic!("page {page}, round {round}: {sequence}: {error}"),
                }
            }
        }
    }
}

/// One life in which `count` calls from the call `from` on fail; false once the life ends before.
async fn fail_one_life(from: u64, count: u64, code: i32, met: &mut BTreeSet<Call>) -> bool {
    let context = format!("{count} calls from {from} fail with {code}");
    let lab = Lab::simulated(from, 1);
    let store = lab.open().await.0;
    let mut model = Model::default();
    model.run(&store, &Step::Write(vec![300, 70_000, 20])).await;
    let first = lab.disk().calls() + 1;
    failing(&lab, from, count, code);
    let life = [
        Step::Raise,
        Step::Write(vec![1_060_000, 500]),
        Step::Drop(3),
        Step::Write(vec![540_000]),
        Step::Checkpoint,
        Step::Drop(4),
        Step::Checkpoint,
        Step::Abandon(100_000),
        Step::Write(vec![90_000, 4000]),
        Step::Checkpoint,
        Step::Drop(2),
        Step::Checkpoint,
    ];
    for step in &life {
        model.run(&store, step).await;
    }
    let calls = lab.disk().calls_from(first);
    let reached = calls.len() as u64 >= from;
    met.extend(calls);
    lab.disk().set_faults(Faults::default());
    model.check(&store, &context).await;
    let poisoned = matches!(store.0.disks[0].disk.disk.standing(), Standing::Poisoned(_));
    store.0.look_after_disks().await;
    assert_eq!(store.usage()[0].refuses_because.is_some(), poisoned, "{context}");
    let more = [
        Step::Write(vec![50, 70_000]),
        Step::Checkpoint,
        Step::Drop(5),
        Step::Checkpoint,
    ];
    for step in &more {
        model.run(&store, step).await;
    }
    if !poisoned {
        let last = read(&store, model.last()).await.unwrap();
        assert_eq!(last.len(), 70_000, "{context}");
    }
    drop(store);
    let restarted = if from.is_multiple_of(2) {
        lab.after_kill().await.0
    } else {
        lab.after_power_cut().await.0
    };
    model.check(&restarted, &context).await;
    reached
}

#[test]
fn whatever_fails_in_operation_costs_nothing() {
    let mut met = BTreeSet::new();
    for (code, count, stride) in [
        (libc::EIO, 1, 1),
        (libc::EMFILE, 1, 2),
        (libc::ENOSPC, 9, 3),
        (libc::EROFS, 5, 3),
    ] {
        let walk = async {
            let mut from = 1;
            while fail_one_life(from, count, code, &mut met).await {
                from += stride;
            }
        };
        in_runtime(walk);
    }
    for call in [
        Call::Create,
        Call::Update,
        Call::List,
        Call::Remove,
        Call::Rename,
        Call::SyncDirectory,
        Call::Write,
        Call::Sync,
        Call::Allocate,
        Call::Punch,
        Call::Cut,
    ] {
        assert!(met.contains(&call), "{call:?}");
    }
}
