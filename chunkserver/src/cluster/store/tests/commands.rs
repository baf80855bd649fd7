//! Every command against the tables, alone and in the orders that crashes and retries make.

use common::ids::{DiskId, NodeId, UploadId, UploadNumber, VersionId};
use common::lifecycle::{Chunk, Node, Replica, Upload, Version};
use common::time::ClusterTime;
use proto::cluster_log::v1 as wire;
use wire::command::Command as C;

use super::log::{Log, abandon, attempt, attempt_bytes, chunk, open, seal};
use crate::cluster::store::counters::{Counter, reclaim_stopped};
use crate::cluster::store::reclaim::Reclaimed;
use crate::cluster::store::seal::Sealed;
use crate::cluster::store::uploads::Opened;
use crate::cluster::store::{
    Moment, Reply, apply, keys, manifests, nodes, reclaim, replicas, uploads, versions,
};

#[test]
fn opening_twice_gives_the_same_number() {
    let mut log = Log::new();
    let first = log.open(7);
    log.now = 2_000;
    assert_eq!(log.open(7), first);
    assert_eq!(log.open(8).get(), first.get() + 1);
    assert_eq!(log.counter(Counter::UploadsOpen), 2);
    assert_eq!(log.apply(open(9, 2)), Reply::Opened(Opened::TooMany));
    let row = uploads::find(&log.connection, UploadId::new(7)).unwrap().unwrap();
    assert_eq!(row.heard, ClusterTime::from_millis(1_000));
    assert_eq!(uploads::find_number(&log.connection, first).unwrap(), Some(row));
}

#[test]
fn sealed_and_abandoned_exclude_each_other() {
    let mut log = Log::with_nodes(2);
    assert_eq!(log.sealed(1, &[1]), Reply::Sealed(Sealed::Now));
    let expected = vec![(UploadId::new(1), Upload::Sealed)];
    assert_eq!(log.apply(abandon(&[1], None)), Reply::Abandoned(expected));
    assert_eq!(log.version_state(1), Some(Version::Sealed));

    let number = log.open(2);
    let expected = vec![(UploadId::new(2), Upload::Abandoned)];
    assert_eq!(log.apply(abandon(&[2], None)), Reply::Abandoned(expected.clone()));
    assert_eq!(log.apply(abandon(&[2], None)), Reply::Abandoned(expected));
    let late = log.apply(seal(2, number, vec![chunk(5, &[1, 2])]));
    assert_eq!(late, Reply::Sealed(Sealed::Abandoned));
    assert_eq!(log.version_state(2), None);
    assert!(matches!(log.apply(open(2, 10)), Reply::Opened(Opened::Ended(_))));
    assert_eq!(log.counter(Counter::UploadsOpen), 0);
}

#[test]
fn an_upload_unknown_here_is_abandoned_all_the_same() {
    let mut log = Log::new();
    log.apply(abandon(&[5], None));
    assert!(matches!(log.apply(open(5, 10)), Reply::Opened(Opened::Ended(_))));
    let unreported = uploads::abandons_unreported(&log.connection, 10).unwrap();
    assert_eq!(unreported, [UploadId::new(5)]);
    log.apply(C::AbandonsReported(wire::AbandonsReported {
        upload_ids: vec![5],
    }));
    assert!(
        uploads::abandons_unreported(&log.connection, 10)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn silence_is_judged_when_the_command_is_applied() {
    let mut log = Log::new();
    log.open(1);
    log.open(2);
    log.now = 5_000;
    log.apply(C::TouchUploads(wire::TouchUploads { upload_ids: vec![2] }));
    let silent = uploads::silent(&log.connection, ClusterTime::from_millis(4_000), 10).unwrap();
    assert_eq!(silent, [UploadId::new(1)]);
    // Upload 1 is heard between the plan and its application.
    log.apply(C::TouchUploads(wire::TouchUploads { upload_ids: vec![1] }));
    let expected = vec![(UploadId::new(1), Upload::Open), (UploadId::new(2), Upload::Open)];
    assert_eq!(
        log.apply(abandon(&[1, 2], Some(4_000))),
        Reply::Abandoned(expected)
    );
}

#[test]
fn a_seal_repeats_and_knows_its_own_upload() {
    let mut log = Log::with_nodes(2);
    let number = log.open(1);
    let command = seal(1, number, vec![chunk(1, &[1, 2]), chunk(2, &[2, 1])]);
    assert_eq!(log.apply(command.clone()), Reply::Sealed(Sealed::Now));
    assert_eq!(log.apply(command), Reply::Sealed(Sealed::Before));
    let renumbered = seal(
        1,
        UploadNumber::new(99),
        vec![chunk(1, &[1, 2]), chunk(2, &[2, 1])],
    );
    assert_eq!(log.apply(renumbered), Reply::Sealed(Sealed::Before));
    let otherwise = seal(1, number, vec![chunk(1, &[1, 2])]);
    assert_eq!(log.apply(otherwise), Reply::Sealed(Sealed::Otherwise));
    log.open(2);
    let foreign = seal(2, UploadNumber::new(99), Vec::new());
    assert_eq!(log.apply(foreign), Reply::Sealed(Sealed::Unknown));

    let row = versions::find(&log.connection, VersionId::new(1))
        .unwrap()
        .unwrap();
    assert_eq!((row.size, row.chunk_count, row.chunk_bytes), (20, 2, 4096));
    let placed = manifests::placed(&log.connection, VersionId::new(1), 0, 10).unwrap();
    assert_eq!(placed.len(), 2);
    assert!(placed.iter().all(|one| one.replicas.len() == 2));
    assert_eq!(
        manifests::chunks(&log.connection, VersionId::new(1), 1, 10)
            .unwrap()
            .len(),
        1
    );
    assert_eq!(log.counter(Counter::Chunks), 2);
    assert_eq!(log.counter(Counter::ChunkBytes), 20);
    let disks = nodes::disks(&log.connection).unwrap();
    assert!(disks.iter().all(|disk| disk.replicas == 2));
}

#[test]
fn a_seal_records_an_upload_that_only_its_leader_knew() {
    let mut log = Log::with_nodes(2);
    let reserved = log.apply(C::ReserveNumbers(wire::ReserveNumbers { count: 10 }));
    assert_eq!(reserved, Reply::Numbers { first: 1, last: 10 });
    let new = |upload, number, sequence| {
        let C::Seal(seal) = seal(upload, UploadNumber::new(number), vec![chunk(sequence, &[1, 2])]) else {
            unreachable!("a seal");
        };
        C::Seal(wire::Seal {
            chunk_bytes: Some(8192),
            ..seal
        })
    };
    assert_eq!(log.apply(new(7, 3, 1)), Reply::Sealed(Sealed::Now));
    assert_eq!(log.apply(new(7, 3, 1)), Reply::Sealed(Sealed::Before));
    let row = uploads::find(&log.connection, UploadId::new(7)).unwrap().unwrap();
    assert_eq!(
        (row.state, row.number.get(), row.chunk_bytes),
        (Upload::Sealed, 3, 8192)
    );
    assert_eq!(uploads::ended(&log.connection, row.number).unwrap(), None);
    assert_eq!(log.counter(Counter::UploadsOpen), 0);
    // A number that belongs to another upload, or was never reserved; and one that must have a row.
    assert_eq!(log.apply(new(8, 3, 2)), Reply::Sealed(Sealed::Unknown));
    assert_eq!(log.apply(new(8, 11, 2)), Reply::Sealed(Sealed::Unknown));
    let plain = seal(8, UploadNumber::new(4), vec![chunk(2, &[1, 2])]);
    assert_eq!(log.apply(plain), Reply::Sealed(Sealed::Unknown));
    // Abandoned meanwhile, under a number of its own.
    log.apply(abandon(&[9], None));
    assert_eq!(log.apply(new(9, 5, 3)), Reply::Sealed(Sealed::Abandoned));
    assert_eq!(log.open(10).get(), 12);
    assert_eq!(uploads::highest(&log.connection).unwrap(), UploadId::new(10));
}

#[test]
fn an_upload_that_lasts_keeps_its_number() {
    let mut log = Log::with_nodes(2);
    log.apply(C::ReserveNumbers(wire::ReserveNumbers { count: 10 }));
    let lasting = |upload, number| {
        C::OpenUpload(wire::OpenUpload {
            upload_id: upload,
            chunk_bytes: 4096,
            open_max: 100,
            upload_number: Some(number),
        })
    };
    let mut number_of = |upload, number| match log.apply(lasting(upload, number)) {
        Reply::Opened(Opened::Open(row)) => row.number.get(),
        other => panic!("{other:?}"),
    };
    assert_eq!(number_of(1, 4), 4);
    assert_eq!(number_of(1, 5), 4);
    // What belongs to another, or was never reserved, is not taken.
    assert_eq!(number_of(2, 4), 11);
    assert_eq!(number_of(3, 99), 12);
}

#[test]
fn copies_on_unknown_or_absent_disks_are_asked_for_again() {
    let mut log = Log::with_nodes(3);
    log.seen(3, &[9]);
    let number = log.open(1);
    let chunks = vec![chunk(1, &[1, 2]), chunk(2, &[1, 3]), chunk(3, &[1, 8])];
    let need = Reply::Sealed(Sealed::NeedChunks(vec![1, 2]));
    assert_eq!(log.apply(seal(1, number, chunks)), need);
    assert_eq!(log.version_state(1), None);
    let bad = wire::SealedChunk {
        digest: vec![1; 3].into(),
        ..chunk(1, &[1, 2])
    };
    let malformed = Reply::Sealed(Sealed::Malformed);
    assert_eq!(log.apply(seal(1, number, vec![bad])), malformed);
    let twice = vec![chunk(1, &[1, 2]), chunk(1, &[1, 2])];
    assert_eq!(log.apply(seal(1, number, twice)), malformed);
    assert_eq!(log.apply(seal(1, number, Vec::new())), Reply::Sealed(Sealed::Now));
}

#[test]
fn outcomes_are_recorded_once_and_contradictions_counted() {
    let mut log = Log::with_nodes(2);
    log.sealed(1, &[1]);
    log.sealed(2, &[2]);
    let undecided = versions::undecided(&log.connection, VersionId::default(), 10).unwrap();
    assert_eq!(undecided.len(), 2);
    assert_eq!(log.outcome(1, true), Reply::Outcomes(0));
    assert_eq!(log.outcome(1, true), Reply::Outcomes(0));
    assert_eq!(log.outcome(2, false), Reply::Outcomes(0));
    assert_eq!(log.outcome(1, false), Reply::Outcomes(1));
    assert_eq!(log.version_state(1), Some(Version::Published));
    let refused = versions::find(&log.connection, VersionId::new(2))
        .unwrap()
        .unwrap();
    assert_eq!(refused.state, Version::Refused);
    assert_eq!(refused.refused_code, "E_CONFLICT");
    assert_eq!(log.counter(Counter::Contradictions), 1);
    assert!(
        versions::undecided(&log.connection, VersionId::default(), 10)
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        versions::outcomes_unreported(&log.connection, 10).unwrap().len(),
        2
    );
    log.apply(C::PublishOutcomes(wire::PublishOutcomes {
        outcomes: Vec::new(),
        acknowledged: vec![1, 2],
    }));
    assert!(
        versions::outcomes_unreported(&log.connection, 10)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn releases_are_recorded_without_gaps() {
    let mut log = Log::with_nodes(2);
    log.sealed(1, &[1]);
    log.sealed(2, &[2]);
    log.outcome(1, true);
    log.outcome(2, true);
    let recorded = |reply: Reply| match reply {
        Reply::Released(released) => released.recorded,
        other => panic!("{other:?}"),
    };
    assert_eq!(recorded(log.release(&[(2, 2)])), 0);
    assert_eq!(log.version_state(2), Some(Version::Published));
    assert_eq!(recorded(log.release(&[(1, 1), (3, 2)])), 1);
    assert_eq!(recorded(log.release(&[(1, 1), (2, 2), (3, 99)])), 3);
    assert_eq!(log.version_state(2), Some(Version::Released));
}

#[test]
fn a_released_version_goes_step_by_step() {
    let mut log = Log::with_nodes(2);
    log.sealed(1, &[1, 2, 3]);
    log.outcome(1, true);
    log.release(&[(1, 1)]);
    assert_eq!(
        reclaim::to_mark(&log.connection, 10).unwrap(),
        [VersionId::new(1)]
    );
    assert_eq!(log.mark(1, 2).marked, 2);
    assert_eq!(log.mark(1, 2).marked, 1);
    assert_eq!(log.mark(1, 2).marked, 0);
    assert!(reclaim::to_mark(&log.connection, 10).unwrap().is_empty());
    assert_eq!(log.doom(&[1, 2, 3]).doomed, 0, "the undo window is open");
    log.now += 100;
    let now = ClusterTime::from_millis(log.now);
    assert_eq!(reclaim::to_judge(&log.connection, now, 10).unwrap().len(), 3);
    assert_eq!(log.doom(&[1, 2, 3]).doomed, 3);
    assert_eq!(log.doom(&[1, 2, 3]).doomed, 0);
    assert!(log.orders(1).is_empty(), "reads may still run");
    log.now += 50;
    assert_eq!(log.orders(1).len(), 3);
    assert_eq!(log.dropped(1, &[1, 2, 3]).dropped, 0);
    assert!(log.orders(1).is_empty());
    assert_eq!(log.dropped(2, &[1, 2]).dropped, 2);
    assert_eq!(log.version_state(1), Some(Version::Released));
    let last = log.dropped(2, &[3, 3]);
    assert_eq!((last.dropped, last.versions_gone), (1, 1));
    assert_eq!(log.version_state(1), Some(Version::Gone));
    assert_eq!(log.chunk_state(1), None);
    assert_eq!(log.counter(Counter::Chunks), 0);
    assert_eq!(log.counter(Counter::ChunkBytes), 0);
    assert!(
        nodes::disks(&log.connection)
            .unwrap()
            .iter()
            .all(|disk| disk.replicas == 0)
    );
}

#[test]
fn a_live_chunk_is_never_dropped_whatever_a_node_says() {
    let mut log = Log::with_nodes(2);
    log.sealed(1, &[1]);
    log.outcome(1, true);
    assert_eq!(log.dropped(1, &[1]), Reclaimed::default());
    assert_eq!(log.doom(&[1]), Reclaimed::default());
    assert_eq!(replicas::of(&log.connection, attempt(1)).unwrap().len(), 2);
}

#[test]
fn a_shared_chunk_outlives_the_version_that_made_it() {
    let mut log = Log::with_nodes(2);
    log.sealed(1, &[1, 2]);
    log.outcome(1, true);
    log.sealed(2, &[1, 3]);
    log.outcome(2, true);
    assert_eq!(log.counter(Counter::Chunks), 3);
    log.release(&[(1, 1)]);
    assert_eq!(log.mark(1, 10).marked, 1);
    assert_eq!(log.chunk_state(1), Some(Chunk::Live));
    log.now += 100;
    assert_eq!(log.doom(&[1, 2]).doomed, 1);
    log.now += 50;
    log.dropped(1, &[2]);
    assert_eq!(log.dropped(2, &[2]).versions_gone, 1);
    let shared = manifests::placed(&log.connection, VersionId::new(2), 0, 10).unwrap();
    assert_eq!(shared.len(), 2);
    log.release(&[(2, 2)]);
    assert_eq!(log.mark(2, 10).marked, 2);
}

#[test]
fn a_seal_that_names_a_marked_chunk_spares_it() {
    let mut log = Log::with_nodes(2);
    log.sealed(1, &[1]);
    log.outcome(1, false);
    log.mark(1, 10);
    assert_eq!(log.chunk_state(1), Some(Chunk::Marked));
    assert_eq!(log.sealed(2, &[1]), Reply::Sealed(Sealed::Now));
    log.now += 100;
    let done = log.doom(&[1]);
    assert_eq!((done.spared, done.doomed, done.versions_gone), (1, 0, 1));
    assert_eq!(log.chunk_state(1), Some(Chunk::Live));
    assert_eq!(log.version_state(1), Some(Version::Gone));
}

#[test]
fn a_seal_that_names_a_doomed_chunk_is_refused() {
    let mut log = Log::with_nodes(2);
    log.sealed(1, &[1]);
    log.outcome(1, false);
    log.mark(1, 10);
    log.now += 100;
    log.doom(&[1]);
    assert_eq!(log.sealed(2, &[1]), Reply::Sealed(Sealed::NeedChunks(vec![0])));
}

#[test]
fn stopped_reclaim_moves_nothing() {
    let mut log = Log::with_nodes(2);
    log.sealed(1, &[1]);
    log.outcome(1, false);
    log.mark(1, 10);
    log.now += 100;
    let set = |stopped| {
        C::SetReclaim(wire::SetReclaim {
            stopped,
            reason: "upload numbers were lost".to_owned(),
        })
    };
    log.apply(set(true));
    assert!(reclaim_stopped(&log.connection).unwrap().is_some());
    assert_eq!(log.doom(&[1]), Reclaimed::default());
    log.apply(set(false));
    assert_eq!(log.doom(&[1]).doomed, 1);
    log.now += 50;
    log.apply(set(true));
    assert!(log.orders(1).is_empty());
}

#[test]
fn nodes_come_and_go_by_the_table() {
    let mut log = Log::with_nodes(1);
    assert_eq!(log.move_node(1, wire::NodeMove::Die), Some(Node::Live));
    assert_eq!(log.move_node(1, wire::NodeMove::Suspect), Some(Node::Suspect));
    assert_eq!(log.move_node(1, wire::NodeMove::Die), Some(Node::Dead));
    assert_eq!(log.move_node(9, wire::NodeMove::Die), None);
    let back = Reply::Nodes(vec![(NodeId::new(1), Some(Node::Live))]);
    assert_eq!(log.seen(1, &[1, 2]), back);
    let present = |log: &Log, disk| {
        nodes::present_disk(&log.connection, NodeId::new(1), DiskId::new([disk; 16]))
            .unwrap()
            .is_some()
    };
    assert!(present(&log, 1) && present(&log, 2));
    log.seen(1, &[2]);
    assert!(!present(&log, 1) && present(&log, 2));
    assert_eq!(log.move_node(1, wire::NodeMove::Drain), Some(Node::Draining));
    log.seen(1, &[2]);
    assert_eq!(log.move_node(1, wire::NodeMove::Leave), Some(Node::Gone));
    let gone = Reply::Nodes(vec![(NodeId::new(1), Some(Node::Gone))]);
    assert_eq!(log.seen(1, &[2]), gone);
}

#[test]
fn what_a_gone_node_was_to_drop_is_forgotten() {
    let mut log = Log::with_nodes(2);
    log.sealed(1, &[1]);
    log.outcome(1, false);
    log.mark(1, 10);
    log.now += 100;
    log.doom(&[1]);
    log.dropped(1, &[1]);
    log.move_node(2, wire::NodeMove::Drain);
    log.move_node(2, wire::NodeMove::Leave);
    let (node, attempts) = reclaim::left_behind(&log.connection, 10).unwrap().unwrap();
    assert_eq!(
        (node, attempts.as_slice()),
        (NodeId::new(2), [attempt(1)].as_slice())
    );
    log.dropped(2, &[1]);
    assert_eq!(reclaim::left_behind(&log.connection, 10).unwrap(), None);
    assert_eq!(log.chunk_state(1), None);
    assert_eq!(log.version_state(1), Some(Version::Gone));
}

#[test]
fn damaged_copies_do_not_count_any_more() {
    let mut log = Log::with_nodes(2);
    log.sealed(1, &[1]);
    let command = C::SuspectReplicas(wire::SuspectReplicas {
        node_id: 2,
        attempts: vec![attempt_bytes(1), attempt_bytes(7)],
    });
    assert_eq!(log.apply(command.clone()), Reply::Rows(1));
    assert_eq!(log.apply(command), Reply::Rows(0));
    let states: Vec<_> = replicas::of(&log.connection, attempt(1))
        .unwrap()
        .iter()
        .map(|row| row.state)
        .collect();
    assert_eq!(states, [Replica::Stored, Replica::Suspect]);
    assert_eq!(log.counter(Counter::SuspectReplicas), 1);
}

#[test]
fn keys_rotate_and_the_oldest_go() {
    let mut log = Log::new();
    for secret in 1..=4_u8 {
        log.apply(C::RotateKeys(wire::RotateKeys {
            secret: vec![secret; 32].into(),
            kept_max: 2,
        }));
    }
    let rows = keys::all(&log.connection).unwrap();
    let ids: Vec<u64> = rows.iter().map(|row| row.id.get()).collect();
    assert_eq!(ids, [4, 3]);
    assert_eq!(keys::usable(&rows).current().map(|key| key.id().get()), Some(4));
    let short = C::RotateKeys(wire::RotateKeys {
        secret: vec![1; 5].into(),
        kept_max: 2,
    });
    assert_eq!(log.apply(short), Reply::Key(None));
}

#[test]
fn the_past_is_forgotten_once_the_names_layer_knows() {
    let mut log = Log::with_nodes(2);
    log.open(1);
    log.apply(abandon(&[1], None));
    log.sealed(2, &[]);
    log.outcome(2, false);
    assert_eq!(log.mark(2, 10).versions_gone, 1);
    let forget = C::ForgetUploads(wire::ForgetUploads {
        ended_before_millis: 10_000,
        upload_ids: vec![1, 2, 3],
    });
    assert_eq!(log.apply(forget.clone()), Reply::Rows(0));
    log.apply(C::AbandonsReported(wire::AbandonsReported {
        upload_ids: vec![1],
    }));
    log.apply(C::PublishOutcomes(wire::PublishOutcomes {
        outcomes: Vec::new(),
        acknowledged: vec![2],
    }));
    log.sealed(4, &[7]);
    assert_eq!(log.apply(forget), Reply::Rows(2));
    assert_eq!(log.version_state(2), None);
    assert_eq!(log.counter(Counter::UploadNumber), 3);
}

#[test]
fn a_forgotten_upload_is_never_begun_again() {
    let mut log = Log::with_nodes(2);
    log.apply(C::ReserveNumbers(wire::ReserveNumbers { count: 10 }));
    let late_seal = |upload, number| {
        C::Seal(wire::Seal {
            chunk_bytes: Some(8192),
            ..match seal(upload, UploadNumber::new(number), vec![chunk(upload, &[1, 2])]) {
                C::Seal(seal) => seal,
                other => panic!("{other:?}"),
            }
        })
    };
    assert_eq!(log.apply(late_seal(5, 1)), Reply::Sealed(Sealed::Now));
    log.outcome(5, false);
    assert_eq!(log.mark(5, 10).marked, 1);
    log.apply(abandon(&[6], None));
    log.apply(C::AbandonsReported(wire::AbandonsReported {
        upload_ids: vec![6],
    }));
    log.now += 1_000;
    let open_before = log.open(3);
    // Whatever leader proposes it, with whatever memory.
    log.apply(C::ForgetUploads(wire::ForgetUploads {
        ended_before_millis: log.now,
        upload_ids: vec![3, 6],
    }));
    assert_eq!(uploads::find(&log.connection, UploadId::new(6)).unwrap(), None);
    assert_eq!(log.apply(open(6, 100)), Reply::Opened(Opened::Forgotten));
    assert_eq!(log.apply(late_seal(6, 2)), Reply::Sealed(Sealed::Unknown));
    assert_eq!(log.apply(open(4, 100)), Reply::Opened(Opened::Forgotten));
    assert_eq!(uploads::highest(&log.connection).unwrap(), UploadId::new(6));
    // What has a row, and what is younger, goes on.
    assert_eq!(log.open(3), open_before);
    assert_eq!(log.apply(late_seal(7, 3)), Reply::Sealed(Sealed::Now));
}

#[test]
fn an_unknown_command_ends_the_member() {
    let mut log = Log::new();
    let transaction = log.connection.transaction().unwrap();
    let reply = apply(&transaction, Moment::default(), &wire::Command { command: None });
    assert!(reply.unwrap_err().to_string().contains("upgrade this member"));
}
