//! What must hold in every state, and what must be possible at all.

use common::lifecycle::{Chunk, Replica, Session, Upload, Version};
use stateright::Property;

use crate::protocol::{Protocol, Writes};
use crate::state::{CLIENT_KEY, ChunkId, Disk, Manifest, Number, SessionRow, State, Told, UploadRow};

pub(crate) const READERS_FIND_CHUNKS: &str = "who follows a name finds every chunk on every node";
pub(crate) const HELD_IS_NOT_DOOMED: &str = "no manifest in force names a chunk that is doomed or dropped";
pub(crate) const SEALED_OR_ABANDONED: &str = "sealed and abandoned exclude each other";
pub(crate) const ONE_OUTCOME: &str = "no version is both published and refused";
pub(crate) const ONE_VERSION_PER_KEY: &str = "a key never leads to two versions";
pub(crate) const DROPPED_AFTER_DOOM: &str =
    "nothing is dropped before it is doomed, or counted dropped before it is";
pub(crate) const RECLAIMED_ON_ORDERS: &str = "a sealed version goes only on a committed release or refusal";
pub(crate) const TOLD_THE_TRUTH: &str = "success and failure are reported only once they are committed";
pub(crate) const SETTLES: &str = "once faults stop, everything comes to rest";

/// Everything that is asked of a scenario.
pub(crate) fn all(scenario: &Protocol) -> Vec<Property<Protocol>> {
    let mut all = always();
    all.extend(sometimes());
    if scenario.crashes_max > 0 {
        all.extend(of_crashes());
    }
    if scenario.writes == Writes::Update {
        all.extend(of_updates());
    }
    all
}

fn always() -> Vec<Property<Protocol>> {
    vec![
        Property::always(READERS_FIND_CHUNKS, |_, state| readers_find_chunks(state)),
        Property::always(HELD_IS_NOT_DOOMED, |_, state| held_is_not_doomed(state)),
        Property::always(SEALED_OR_ABANDONED, |_, state| sealed_or_abandoned(state)),
        Property::always(ONE_OUTCOME, |_, state| one_outcome(state)),
        Property::always(ONE_VERSION_PER_KEY, |_, state| one_version_per_key(state)),
        Property::always(DROPPED_AFTER_DOOM, |_, state| dropped_after_doom(state)),
        Property::always(RECLAIMED_ON_ORDERS, |_, state| reclaimed_on_orders(state)),
        Property::always(TOLD_THE_TRUTH, |_, state| told_the_truth(state)),
        Property::always(SETTLES, |protocol: &Protocol, state| protocol.settles(state)),
    ]
}

fn sometimes() -> Vec<Property<Protocol>> {
    vec![
        Property::sometimes("success is reported", |_, state| told(state, Told::Success)),
        Property::sometimes("failure is reported", |_, state| told(state, Told::Failure)),
        Property::sometimes("refused, and gone for good", |_, state: &State| {
            newest(state).is_some_and(|(_, row)| row.session == Session::Refused) && newest_is_dropped(state)
        }),
        Property::sometimes("aborted while sealed", |_, state: &State| {
            newest(state).is_some_and(|(number, row)| {
                row.session == Session::Aborted && state.cluster.version(number) == Some(Version::Sealed)
            })
        }),
        Property::sometimes("abandoned, and its chunk dropped", |_, state: &State| {
            newest_row(state).is_some_and(|row| row.upload == Upload::Abandoned) && newest_is_dropped(state)
        }),
        Property::sometimes("released, and gone for good", |_, state: &State| {
            newest(state).is_some_and(|(_, row)| row.version == Some(Version::Released))
                && newest_is_dropped(state)
        }),
        Property::sometimes(
            "a release overtakes the news of the publication",
            |_, state: &State| {
                newest(state).is_some_and(|(number, row)| {
                    row.version == Some(Version::Released)
                        && state.cluster.version(number) == Some(Version::Sealed)
                })
            },
        ),
    ]
}

/// The chunk of the version that updates start from.
const BASE: ChunkId = ChunkId { upload: 0, slot: 0 };

/// What only a scenario with crashes can lead to.
fn of_crashes() -> Vec<Property<Protocol>> {
    vec![Property::sometimes(
        "visible, though the leader died",
        |_, state: &State| {
            state.leader.epoch > 0
                && newest(state).is_some_and(|(number, _)| state.names.path == Some(number))
        },
    )]
}

/// What only an update can lead to.
fn of_updates() -> Vec<Property<Protocol>> {
    vec![
        Property::sometimes(
            "the update shares a chunk of a version that is gone",
            |_, state: &State| {
                state.cluster.version(0) == Some(Version::Gone)
                    && newest_row(state).is_some_and(|row| row.version == Some(Version::Published))
                    && state.cluster.chunks.get(&BASE) == Some(&Chunk::Live)
            },
        ),
        Property::sometimes(
            "the update sent a doomed chunk again and was published",
            |_, state: &State| {
                state
                    .cluster
                    .chunks
                    .get(&BASE)
                    .is_some_and(|chunk| !chunk.may_be_named())
                    && newest_row(state).is_some_and(|row| row.version == Some(Version::Published))
            },
        ),
        Property::sometimes(
            "a marked chunk is named by a seal before it is doomed",
            |_, state: &State| {
                state.cluster.chunks.get(&BASE) == Some(&Chunk::Marked) && state.cluster.is_held(BASE)
            },
        ),
    ]
}

/// The session of the client, and its number.
fn newest(state: &State) -> Option<(Number, &SessionRow)> {
    state
        .names
        .sessions
        .iter()
        .enumerate()
        .next_back()
        .filter(|(_, row)| row.key == CLIENT_KEY)
}

/// The same in the cluster log.
fn newest_row(state: &State) -> Option<&UploadRow> {
    newest(state).and_then(|(number, _)| state.cluster.uploads.get(&number))
}

/// Its own chunk has gone: dropped by the log's order or, where no log ever knew it, from the disks.
fn newest_is_dropped(state: &State) -> bool {
    newest(state).is_some_and(|(upload, _)| {
        let own = |chunk: &ChunkId| chunk.upload == upload && chunk.slot != 1;
        let dropped = |(chunk, life): (&ChunkId, &Chunk)| own(chunk) && *life == Chunk::Dropped;
        let on_disks = |disk: &Disk| {
            let mut held = disk.iter().filter(|(chunk, _)| own(chunk));
            held.any(|(chunk, replica)| chunk.numbered_by().is_some() && *replica == Replica::Tombstoned)
        };
        state.cluster.chunks.iter().any(dropped) || state.disks.iter().all(on_disks)
    })
}

fn told(state: &State, told: Told) -> bool {
    state.clients.iter().any(|client| client.told == Some(told))
}

/// What can be read by a name, or taken out of the trash to be read, is there in full.
fn readers_find_chunks(state: &State) -> bool {
    let readable = |row: &SessionRow| matches!(row.version, Some(Version::Published | Version::Trashed));
    let is_stored = |chunk: &ChunkId| {
        state
            .disks
            .iter()
            .all(|disk| disk.get(chunk).copied().is_some_and(Replica::may_be_read))
    };
    state
        .names
        .sessions
        .iter()
        .enumerate()
        .filter(|(_, row)| readable(row))
        .all(|(number, _)| {
            state.cluster.uploads.get(&number).is_some_and(|row| {
                row.version.is_some_and(Version::holds_chunks)
                    && row.manifest != Manifest::default()
                    && row.manifest.iter().flatten().all(is_stored)
            })
        })
}

fn held_is_not_doomed(state: &State) -> bool {
    state
        .cluster
        .chunks
        .iter()
        .all(|(id, chunk)| chunk.may_be_named() || !state.cluster.is_held(*id))
}

fn sealed_or_abandoned(state: &State) -> bool {
    let agrees = |row: &UploadRow| (row.upload == Upload::Sealed) == row.version.is_some();
    state.cluster.uploads.values().all(agrees)
}

/// The names log decides; the cluster log says the same, or nothing yet.
fn one_outcome(state: &State) -> bool {
    state.names.sessions.iter().enumerate().all(|(number, row)| {
        let published = row.session == Session::Published;
        let agrees = match state.cluster.version(number) {
            Some(Version::Published | Version::Trashed | Version::Released) => published,
            Some(Version::Refused) => row.session.may_be_reported_failed(),
            Some(Version::Sealed | Version::Gone) | None => true,
        };
        agrees && published == row.version.is_some()
    })
}

fn one_version_per_key(state: &State) -> bool {
    let of_the_client = |row: &&SessionRow| row.key == CLIENT_KEY && row.version.is_some();
    state.names.sessions.iter().filter(of_the_client).count() <= 1
}

/// The three steps in order: doomed in the log, tombstoned on every node, dropped in the log.
fn dropped_after_doom(state: &State) -> bool {
    state.cluster.chunks.iter().all(|(id, chunk)| {
        let dropped = |disk: &Disk| disk.get(id) == Some(&Replica::Tombstoned);
        match chunk {
            Chunk::Live | Chunk::Marked => !state.disks.iter().any(dropped),
            Chunk::Doomed => true,
            Chunk::Dropped => state.disks.iter().all(dropped),
        }
    })
}

fn reclaimed_on_orders(state: &State) -> bool {
    state.cluster.uploads.iter().all(|(number, row)| {
        let ordered = state.names.sessions.get(*number).is_some_and(|session| {
            session.session.may_be_reported_failed() || session.version == Some(Version::Released)
        });
        row.version
            .is_none_or(|version| version.holds_chunks() || ordered)
    })
}

fn told_the_truth(state: &State) -> bool {
    state.clients.iter().all(|client| {
        let session = client.upload.and_then(|number| state.names.sessions.get(number));
        match (client.told, session) {
            (None, _) => true,
            (Some(Told::Success), row) => row.is_some_and(|row| row.session == Session::Published),
            (Some(Told::Failure), row) => {
                // Whichever session it was that the client knew of.
                let published = |row: &SessionRow| row.key == client.key && row.version.is_some();
                row.is_some_and(|row| row.session.may_be_reported_failed())
                    && !state.names.sessions.iter().any(published)
            }
        }
    })
}
