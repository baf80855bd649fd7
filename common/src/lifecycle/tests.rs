//! The tables, checked as wholes: codes, fail points, and moves that agree with their targets.

use std::collections::BTreeSet;

use super::*;

/// Checks what every thing has in common.
macro_rules! check {
    ($states:ident, $events:ident, codes $codes:expr, moves $moves:expr) => {{
        let codes: Vec<(u8, &str)> = $states::ALL.iter().map(|s| (s.code(), s.word())).collect();
        assert_eq!(codes, $codes, "codes on disk never change their meaning");
        for state in $states::ALL {
            assert_eq!($states::from_code(state.code()), Ok(*state));
            assert_eq!(state.to_string(), state.word());
        }
        for code in [0, 7, 255] {
            assert_eq!(
                $states::from_code(code),
                Err(UnknownCode {
                    thing: $states::THING,
                    code
                })
            );
        }
        let mut moves = 0;
        for event in $events::ALL {
            let mut sources = 0;
            for state in $states::ALL {
                match state.next(*event) {
                    Ok(next) => {
                        assert_eq!(next, event.target(), "{state} on {event}");
                        assert_ne!(next, *state, "{state} on {event} is no move");
                        sources += 1;
                    }
                    Err(refused) => {
                        assert_eq!(refused.repeated, event.target() == *state, "{state} on {event}");
                    }
                }
            }
            assert!(sources > 0, "{event} applies to no state");
            moves += sources;
        }
        assert_eq!(moves, $moves, "the number of arrows of a {}", $states::THING);
        $events::ALL.iter().map(|event| event.arrow()).collect::<Vec<_>>()
    }};
}

#[test]
fn tables_are_whole_and_arrows_name_them_all() {
    let arrows = [
        check!(Session, SessionEvent, codes [(1, "open"), (2, "published"), (3, "refused"), (4, "aborted")], moves 3),
        check!(Upload, UploadEvent, codes [(1, "open"), (2, "sealed"), (3, "abandoned")], moves 2),
        check!(
            Version, VersionEvent,
            codes [(1, "sealed"), (2, "published"), (3, "refused"), (4, "trashed"), (5, "released"), (6, "gone")],
            moves 7
        ),
        check!(Chunk, ChunkEvent, codes [(1, "live"), (2, "marked"), (3, "doomed"), (4, "dropped")], moves 4),
        check!(
            Replica, ReplicaEvent,
            codes [(1, "writing"), (2, "stored"), (3, "suspect"), (4, "leaving"), (5, "tombstoned")],
            moves 7
        ),
        check!(
            Node, NodeEvent,
            codes [(1, "joining"), (2, "live"), (3, "suspect"), (4, "dead"), (5, "draining"), (6, "gone")],
            moves 11
        ),
    ]
    .concat();
    assert_eq!(arrows, ARROWS);
    assert_eq!(
        arrows.iter().collect::<BTreeSet<_>>().len(),
        arrows.len(),
        "one name per arrow"
    );
}

#[test]
fn sealed_and_abandoned_exclude_each_other() {
    let refused = Upload::Sealed.next(UploadEvent::Abandon).unwrap_err();
    assert!(!refused.repeated);
    assert_eq!(
        refused.to_string(),
        "upload.abandoned does not apply: the upload is sealed"
    );
    assert!(Upload::Abandoned.next(UploadEvent::Seal).is_err());
    assert!(Upload::Sealed.next(UploadEvent::Seal).unwrap_err().repeated);
}

/// The cluster's row may skip states it is not told of, but it never takes a way that the whole life does not have.
#[test]
fn what_the_cluster_hears_is_a_short_cut_through_the_whole_life() {
    let reaches = |from: Version, to: Version| {
        let mut seen = BTreeSet::from([from]);
        let mut work = vec![from];
        while let Some(state) = work.pop() {
            let next = VersionEvent::ALL
                .iter()
                .filter_map(|event| state.next(*event).ok());
            work.extend(next.filter(|state| seen.insert(*state)));
        }
        seen.contains(&to)
    };
    for state in Version::ALL {
        for event in VersionEvent::ALL {
            match state.heard(*event) {
                Ok(Heard::Moves(next)) => {
                    assert_eq!(next, event.target());
                    assert!(reaches(*state, next), "{state} on {event}");
                }
                Ok(Heard::OldNews) => assert!(reaches(event.target(), *state) || *state == Version::Gone),
                Err(_) => {}
            }
        }
    }
    assert_eq!(
        Version::Sealed.heard(VersionEvent::Release),
        Ok(Heard::Moves(Version::Released))
    );
    assert!(
        Version::Sealed.heard(VersionEvent::Reclaim).is_err(),
        "unknown is never refused"
    );
    assert!(Version::Published.heard(VersionEvent::Refuse).is_err());
    assert!(Version::Refused.heard(VersionEvent::Publish).is_err());
}

#[test]
fn a_generation_that_leaves_never_counts_again() {
    for event in ReplicaEvent::ALL {
        for state in [Replica::Leaving, Replica::Tombstoned] {
            assert!(
                !state.next(*event).is_ok_and(Replica::counts),
                "{state} on {event}"
            );
        }
    }
}
