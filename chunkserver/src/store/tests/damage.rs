//! What happens to records when bytes rot, files vanish and disks fail.

use common::disk::simulated::Faults;
use common::error::Kind;
use common::ids::{AttemptId, Epoch};

use super::super::Store;
use super::super::error::Error;
use super::super::schema::{PAGE, RECORD_TAG};
use super::lab::{Lab, append_all, assert_stored, attempt, begin, digest, read, write};

/// Where the records of a segment begin, by their tag alone.
fn records_in(content: &[u8]) -> Vec<u64> {
    let pages = content.chunks(PAGE as usize).enumerate();
    let tagged = pages.filter(|(_, page)| page.starts_with(&RECORD_TAG));
    tagged.map(|(at, _)| at as u64 * PAGE).collect()
}

fn segments(lab: &Lab) -> Vec<String> {
    let names = lab.disk().names();
    names
        .into_iter()
        .filter(|name| name.starts_with("segment-"))
        .collect()
}

fn suspects(store: &Store) -> Vec<AttemptId> {
    store.suspects(100).iter().map(|item| item.attempt).collect()
}

#[tokio::test]
async fn a_rotten_block_is_found_kept_aside_and_never_served_again() {
    for (length, offset, block) in [
        (3000, 600, 0),
        (300_000, PAGE + 70_000, 1),
        (3 << 20, PAGE + (2 << 20) + 5, 32),
    ] {
        let lab = Lab::simulated(3, 1);
        let (store, _) = lab.open().await;
        write(&store, 0, length).await.unwrap();
        write(&store, 1, length).await.unwrap();
        let name = segments(&lab)[0].clone();
        let start = records_in(&lab.disk().content(&name).unwrap())[0];
        assert!(lab.disk().flip(&name, start + offset, 0x40));
        let error = read(&store, 0).await.unwrap_err();
        assert!(
            matches!(error, Error::Corrupt { block: found, .. } if found == block),
            "{error}"
        );
        assert_eq!(error.kind(), Kind::Corrupt);
        let mut store = store;
        for round in 0..3 {
            assert_eq!(read(&store, 0).await.unwrap_err().kind(), Kind::Corrupt);
            assert_eq!(suspects(&store), [attempt(0)]);
            assert!(store.inventory(None, None, 9)[0].suspect);
            assert_stored(&store, 1, length).await;
            store = match round {
                0 => lab.after_kill().await.0,
                _ => lab.after_power_cut().await.0,
            };
        }
        assert_eq!(
            store.begin(super::lab::meta(0), 10).await.unwrap_err().kind(),
            Kind::Conflict
        );
        store.drop_attempts(Epoch::new(1), &[attempt(0)]).await.unwrap();
        assert!(suspects(&store).is_empty());
        assert!(matches!(read(&store, 0).await, Err(Error::Dropped { .. })));
    }
}

#[tokio::test]
async fn rotten_headers_and_trailers_are_found_by_the_scrubber() {
    for length in [3000_usize, 300_000] {
        let trailer = if length == 3000 {
            512 + 3000 + 20
        } else {
            PAGE + 300_000_u64.next_multiple_of(PAGE) + 20
        };
        for offset in [20, trailer] {
            let lab = Lab::simulated(4, 1);
            let (store, _) = lab.open().await;
            write(&store, 0, length).await.unwrap();
            let name = segments(&lab)[0].clone();
            let start = records_in(&lab.disk().content(&name).unwrap())[0];
            store.verify(attempt(0)).await.unwrap();
            assert!(lab.disk().flip(&name, start + offset, 1));
            assert_eq!(store.verify(attempt(0)).await.unwrap_err().kind(), Kind::Corrupt);
            assert_eq!(suspects(&store), [attempt(0)]);
        }
    }
}

#[tokio::test]
async fn damage_costs_its_own_record_alone_when_all_is_read_anew() {
    let length = 100_000;
    for offset in [20, PAGE + 5, PAGE + 90_000, PAGE + 102_400 + 20] {
        let lab = Lab::simulated(5, 1);
        let (store, _) = lab.open().await;
        for sequence in 0..4 {
            write(&store, sequence, length).await.unwrap();
        }
        drop(store);
        let name = segments(&lab)[0].clone();
        let starts = records_in(&lab.disk().content(&name).unwrap());
        assert_eq!(starts.len(), 4);
        assert!(lab.disk().flip(&name, starts[1] + offset, 1));
        lose_checkpoints(&lab);
        let (store, reports) = lab.after_kill().await;
        assert_eq!(
            (reports[0].records, reports[0].suspects),
            (3, 1),
            "offset {offset}"
        );
        assert_eq!(suspects(&store), [attempt(1)]);
        for sequence in [0, 2, 3] {
            assert_stored(&store, sequence, length).await;
        }
        store.drop_attempts(Epoch::new(1), &[attempt(1)]).await.unwrap();
        let (store, reports) = lab.after_power_cut().await;
        assert_eq!((reports[0].records, reports[0].suspects), (3, 0));
        assert_stored(&store, 3, length).await;
    }
}

fn lose_checkpoints(lab: &Lab) {
    for name in lab.disk().names() {
        if name.starts_with("checkpoint-") {
            lab.disk().lose(&name);
        }
    }
}

#[tokio::test]
async fn the_index_is_rebuilt_from_the_segments_alone() {
    let lab = Lab::simulated(6, 1);
    let (store, _) = lab.open().await;
    let lengths = [10, 70_000, 3000, 1_500_000, 64_000, 400_000];
    for (sequence, length) in (0..).zip(lengths) {
        write(&store, sequence, length).await.unwrap();
        let mut writer = begin(&store, sequence + 100, 2 << 20).await.unwrap();
        append_all(&mut writer, sequence + 100, 1_200_000, 16)
            .await
            .unwrap();
    }
    store.drop_attempts(Epoch::new(3), &[attempt(2)]).await.unwrap();
    let all = |store: &Store| store.inventory(None, None, 100);
    let before = all(&store);
    for damage in 0..3 {
        lab.disk().end_process();
        for name in lab
            .disk()
            .names()
            .into_iter()
            .filter(|name| name.starts_with("checkpoint-"))
        {
            match damage {
                0 => assert!(lab.disk().lose(&name)),
                1 => assert!(lab.disk().flip(&name, 30, 2)),
                _ => assert!(lab.disk().flip(&name, PAGE + 30, 2)),
            }
        }
        let (store, reports) = lab.open().await;
        assert_eq!(reports[0].lost, []);
        assert_eq!(all(&store), before, "damage {damage}");
        for (sequence, length) in (0..).zip(lengths).filter(|(sequence, _)| *sequence != 2) {
            assert_stored(&store, sequence, length).await;
        }
        assert!(matches!(
            read(&store, 2).await,
            Err(Error::NotFound { .. } | Error::Dropped { .. })
        ));
    }
}

#[tokio::test]
async fn one_rotten_checkpoint_costs_nothing() {
    let lab = Lab::simulated(7, 1);
    let (store, _) = lab.open().await;
    for sequence in 0..6 {
        write(&store, sequence, 200_000).await.unwrap();
        store.checkpoint().await.unwrap();
        store
            .drop_attempts(Epoch::new(1), &[attempt(sequence / 2 * 2)])
            .await
            .unwrap();
    }
    store.close().await.unwrap();
    let newest = lab
        .disk()
        .names()
        .into_iter()
        .rfind(|name| name.starts_with("checkpoint-"));
    assert!(lab.disk().flip(&newest.unwrap(), 40, 1));
    let (store, reports) = lab.after_power_cut().await;
    assert_eq!((reports[0].records, reports[0].lost.len()), (3, 0), "{reports:?}");
    for sequence in [1, 3, 5] {
        assert_stored(&store, sequence, 200_000).await;
    }
    for sequence in [0, 2, 4] {
        assert!(matches!(read(&store, sequence).await, Err(Error::Dropped { .. })));
    }
}

#[tokio::test]
async fn a_vanished_segment_is_reported() {
    let lab = Lab::simulated(8, 1);
    let (store, _) = lab.open().await;
    write(&store, 0, 600_000).await.unwrap();
    write(&store, 1, 600_000).await.unwrap();
    store.close().await.unwrap();
    assert!(lab.disk().lose(&segments(&lab)[0]));
    let (store, reports) = lab.after_kill().await;
    assert_eq!(reports[0].lost, [attempt(0)]);
    assert_eq!(store.inventory(None, None, 9).len(), 1);
    assert_stored(&store, 1, 600_000).await;
}

#[tokio::test]
async fn any_failed_step_of_a_write_stops_all_writing_and_acknowledges_nothing() {
    for length in [100, 100_000, 2_500_000] {
        let mut failures = 0;
        for step in 1.. {
            let lab = Lab::simulated(9, 1);
            let (store, _) = lab.open().await;
            write(&store, 0, length).await.unwrap();
            write(&store, 1, length).await.unwrap();
            let errors_at = vec![lab.disk().steps() + step];
            lab.disk().set_faults(Faults {
                errors_at,
                ..Faults::default()
            });
            if write(&store, 2, length).await.is_ok() {
                break;
            }
            failures += 1;
            assert!(store.stored(attempt(2)).await.is_err());
            let refused = write(&store, 3, length).await.unwrap_err();
            assert!(matches!(refused, Error::Unwritable { .. }), "{refused}");
            assert!(store.drop_attempts(Epoch::new(1), &[attempt(0)]).await.is_err());
            assert!(store.raise_epoch(Epoch::new(2)).await.is_err());
            assert!(store.usage()[0].refuses_because.is_some());
            assert_stored(&store, 0, length).await;
            let (store, reports) = lab.after_power_cut().await;
            assert_eq!(reports[0].suspects, 0);
            for sequence in [0, 1] {
                assert_stored(&store, sequence, length).await;
            }
            write(&store, 3, length).await.unwrap();
        }
        assert!(failures >= 2, "a write and a sync at least");
    }
}

#[tokio::test]
async fn a_failed_disk_leaves_the_others_at_work() {
    let lab = Lab::simulated(10, 2);
    let (store, _) = lab.open().await;
    let errors_at = (1..10_000).map(|step| lab.disk().steps() + step).collect();
    lab.disk().set_faults(Faults {
        errors_at,
        ..Faults::default()
    });
    let mut failed = 0;
    for sequence in 0..10 {
        failed += u32::from(write(&store, sequence, 100_000).await.is_err());
    }
    assert!(failed <= 1, "{failed} failed");
    let refusing = store
        .usage()
        .iter()
        .filter(|disk| disk.refuses_because.is_some())
        .count();
    assert_eq!(refusing, 1);
    store.raise_epoch(Epoch::new(4)).await.unwrap();
    let (store, _) = lab.after_power_cut().await;
    assert_eq!(store.epoch(), Epoch::new(4));
}

#[tokio::test]
async fn a_disk_that_is_full_to_the_brim_is_an_error_not_a_loss() {
    let lab = Lab::simulated(11, 1);
    let (store, _) = lab.open().await;
    write(&store, 0, 100_000).await.unwrap();
    write(&store, 1, 100).await.unwrap();
    for (sequence, length) in [(2, 100_000), (3, 100), (4, 2 << 20)] {
        for step in 1..4 {
            let full_at = vec![lab.disk().steps() + step];
            lab.disk().set_faults(Faults {
                full_at,
                ..Faults::default()
            });
            match write(&store, sequence * 10 + step, length).await {
                Ok(_) => assert_stored(&store, sequence * 10 + step, length).await,
                Err(error) => assert_eq!(error.kind(), Kind::Full, "{error}"),
            }
            lab.disk().set_faults(Faults::default());
            write(&store, sequence * 100 + step, length).await.unwrap();
        }
    }
    let kept: Vec<_> = store.inventory(None, None, 100);
    let (store, reports) = lab.after_power_cut().await;
    assert_eq!(store.inventory(None, None, 100), kept, "{reports:?}");
    for item in kept {
        store.verify(item.attempt).await.unwrap();
    }
}

#[tokio::test]
async fn a_misdirected_write_is_noticed() {
    for length in [100_000, 3000] {
        let lab = Lab::simulated(12, 1);
        let (store, _) = lab.open().await;
        for sequence in 0..3 {
            write(&store, sequence, length).await.unwrap();
        }
        let steps = lab.disk().steps();
        let misdirected_at = (1..4).map(|step| (steps + step, 4 * PAGE)).collect();
        lab.disk().set_faults(Faults {
            misdirected_at,
            ..Faults::default()
        });
        write(&store, 3, length).await.unwrap();
        lab.disk().set_faults(Faults::default());
        write(&store, 4, length).await.unwrap();
        assert_eq!(store.verify(attempt(3)).await.unwrap_err().kind(), Kind::Corrupt);
        for sequence in [0, 1, 2, 4] {
            match read(&store, sequence).await {
                Ok(_) => assert_stored(&store, sequence, length).await,
                Err(error) => assert_eq!(error.kind(), Kind::Corrupt),
            }
        }
        drop(store);
        lose_checkpoints(&lab);
        let (store, _) = lab.after_kill().await;
        for item in store
            .inventory(None, None, 9)
            .into_iter()
            .filter(|item| !item.suspect)
        {
            assert_stored(&store, item.attempt.sequence(), length).await;
        }
        assert_ne!(digest(0), digest(1));
    }
}

#[tokio::test]
async fn payload_that_looks_like_a_record_is_not_one() {
    let lab = Lab::simulated(13, 1);
    let (store, _) = lab.open().await;
    write(&store, 0, 100_000).await.unwrap();
    // A backup of the data directory itself, stored as a chunk, at a page boundary.
    let backup = lab.disk().content(&segments(&lab)[0]).unwrap();
    let buffer = common::disk::buffer::AlignedBuf::copied_from(&backup);
    let bytes = buffer.freeze();
    let length = bytes.len();
    let mut writer = begin(&store, 1, length).await.unwrap();
    let sums = super::lab::checksums(1, 0, &bytes);
    writer.append(bytes, &sums).await.unwrap();
    writer.finish(digest(1)).await.unwrap();
    store.drop_attempts(Epoch::new(1), &[attempt(0)]).await.unwrap();
    lose_checkpoints(&lab);
    let (store, reports) = lab.after_kill().await;
    assert_eq!(
        (reports[0].records, reports[0].suspects, reports[0].torn),
        (1, 0, 0)
    );
    assert_eq!(store.stored(attempt(1)).await.unwrap().length, length as u64);
    assert!(store.stored(attempt(0)).await.is_err());
}

#[tokio::test]
async fn strangers_files_are_refused() {
    let lab = Lab::simulated(14, 1);
    lab.disk().plant("thesis.tex", b"years of work");
    let error = lab.try_open(super::lab::IDENTITY).await.unwrap_err();
    assert!(error.to_string().contains("thesis.tex"), "{error}");
    assert_eq!(lab.disk().names(), ["thesis.tex"]);
}
