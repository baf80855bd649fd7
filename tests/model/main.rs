//! A model of how an upload becomes a version and how a version is reclaimed: the specification with which the
//! protocol code is compared.
//!
//! Every state that the protocol can reach in a small installation is visited, under crashes of the leader and
//! lost, late, reordered and doubled messages, and the properties of `properties.rs` are checked in each. The
//! transitions are those of `common::lifecycle`, which the product's logs apply too.
//!
//! Read `state.rs` for what there is, `names.rs` and `cluster.rs` for what each committed entry does,
//! `protocol.rs`, `roles.rs` and `arrivals.rs` for who tries what when, `properties.rs` and `repair.rs` for what
//! is asked, `rules.rs` for what is broken on purpose.
//!
//! # What is modelled
//!
//! * **Names log** (supernodes): `OpenUpload` by key, `AbortUpload`, `Publish` with conditions that may fail,
//!   delete into the trash, restore, expiry with an outbox row, outcomes kept until acknowledged, sessions
//!   forgotten. A session may be known to its leader alone at first; the next leader records it as lost, and the client
//!   opens its upload again. A leader may see a key's session late, and begin a second one.
//! * **Cluster log**: `Open` (also of a small file, which its leader alone may know until its seal records it), `Seal`, `Abandon`, `Outcome`, `Release`, `Reclaim`, `Mark`, `Doom`, `Dropped`.
//! * **Leader**: decides on what the log says at one time and commits at a later one, or dies in between; the
//!   next leader has the log and nothing else. What a leader remembers is a hint, and a hint may as well be late; but for
//!   the small files that it alone knows, whose numbers end with it. It also judges what disks hold and its log does
//!   not name.
//! * **Client**: plans, writes, seals, sends a doomed chunk again, retries under its key, gives up, falls silent
//!   at any point. One writes a new file, one updates a file that someone else deletes meanwhile and shares a
//!   chunk with it.
//! * **Nodes**: store, tombstone, refuse late writes of what they have tombstoned. They obey a drop order of any
//!   epoch: irreversible doom is what makes that harmless.
//! * **Messages**: once sent, never taken out; each may arrive at any later time, again, or never. So everything
//!   that may be sent is sent at once, and everything that may be decided is decided at once: waiting would allow
//!   nothing more, and would only multiply the states.
//!
//! # What is left out
//!
//! * Raft itself: each log is one sequence of entries that survives. A proposal that is committed and whose
//!   proposer does not learn of it is covered, because every role acts on the logs alone.
//! * Time: a deadline, a window or a timeout may end at any moment. Therefore also the *least* times: the undo
//!   window of the trash, the deadline of a mark, the reads under way when a chunk is doomed.
//! * Copies coming and going: lost disks, repair, placement, receipts for copies that have left, fencing of copy
//!   and adopt orders by epoch. A chunk is written to all nodes of the model at once.
//! * Several clusters, leases for small files, quotas, lost state and rebuild, and two clients that race for one
//!   name with new files (the update against the deletion is the one race over the path).

// Numbers in messages come from the names log's own counter: one without a row is a mistake in the model, and ends it.
#![allow(clippy::indexing_slicing)]

mod state;

mod cluster;
mod names;

mod arrivals;
mod protocol;
mod roles;

mod properties;
mod repair;
mod rules;

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model};

use crate::protocol::{Protocol, Writes};
use crate::repair::Settled;
use crate::rules::Broken;

/// A new file on two nodes, from its first message to its last tombstone, under two deaths of the leader.
fn new_file() -> Protocol {
    Protocol {
        writes: Writes::NewFile,
        nodes: 2,
        crashes_max: 2,
        names_crashes_max: 0,
        restores_max: 1,
        broken: None,
        settled: Settled::default(),
    }
}

/// A new file that only its leader knows until it is sealed, on two nodes, under a death of the leader.
fn small_file() -> Protocol {
    Protocol {
        writes: Writes::SmallFile,
        crashes_max: 1,
        restores_max: 0,
        ..new_file()
    }
}

/// A small file whose session the names layer's leader alone knows at first, on one node, under a death of that leader.
fn small_session() -> Protocol {
    Protocol {
        nodes: 1,
        crashes_max: 0,
        names_crashes_max: 1,
        ..small_file()
    }
}

/// An update that shares a chunk with a version which someone deletes meanwhile.
fn update() -> Protocol {
    Protocol {
        writes: Writes::Update,
        nodes: 1,
        crashes_max: 0,
        restores_max: 0,
        ..new_file()
    }
}

/// Visits every state. `states_min` keeps the model from shrinking to nothing unnoticed.
fn holds(protocol: Protocol, states_min: usize) {
    let checker = protocol.checker().spawn_bfs().join();
    println!(
        "{} states, {} steps deep",
        checker.unique_state_count(),
        checker.max_depth()
    );
    checker.assert_properties();
    assert!(
        checker.unique_state_count() >= states_min,
        "the model has lost states"
    );
}

/// Breaks one rule and finds the property that notices.
fn is_noticed(scenario: Protocol, broken: Broken, property: &'static str) {
    let wanted = HasDiscoveries::AllOf(BTreeSet::from([property]));
    let protocol = Protocol {
        broken: Some(broken),
        ..scenario
    };
    let checker = protocol.checker().finish_when(wanted).spawn_bfs().join();
    let path = checker.assert_any_discovery(property);
    println!("{broken:?} breaks \"{property}\":");
    for action in path.into_actions() {
        println!("    {action:?}");
    }
}

#[test]
fn a_new_file_is_safe_and_comes_to_rest() {
    holds(new_file(), 10_000);
}

#[test]
fn a_small_file_is_safe_and_comes_to_rest() {
    holds(small_file(), 10_000);
}

#[test]
fn a_session_in_memory_is_safe_and_comes_to_rest() {
    holds(small_session(), 500_000);
}

#[test]
fn what_a_names_leader_alone_knew_has_to_be_recorded_as_lost() {
    is_noticed(small_session(), Broken::LostNotRecorded, properties::ONE_OUTCOME);
}

#[test]
fn a_key_is_looked_at_again_when_its_session_gets_a_row() {
    is_noticed(
        small_session(),
        Broken::KeyNotLookedAtAgain,
        properties::ONE_VERSION_PER_KEY,
    );
}

#[test]
fn what_the_leader_alone_knows_is_not_dead() {
    is_noticed(
        small_file(),
        Broken::UnrecordedIsDead,
        properties::READERS_FIND_CHUNKS,
    );
}

#[test]
fn a_number_ends_with_the_leader_that_alone_knew_it() {
    is_noticed(
        small_file(),
        Broken::SealUnderAnOldNumber,
        properties::READERS_FIND_CHUNKS,
    );
}

#[test]
fn an_update_against_a_deletion_is_safe_and_comes_to_rest() {
    holds(update(), 250_000);
}

#[test]
#[ignore = "takes minutes: the same with two nodes, with a restore, and with a leader that dies"]
fn an_update_is_safe_in_wider_scenarios() {
    holds(Protocol { nodes: 2, ..update() }, 500_000);
    holds(
        Protocol {
            restores_max: 1,
            ..update()
        },
        500_000,
    );
    holds(
        Protocol {
            crashes_max: 1,
            ..update()
        },
        500_000,
    );
}

#[test]
fn doom_has_to_look_at_the_manifests_again() {
    is_noticed(
        update(),
        Broken::DoomDoesNotLookAgain,
        properties::HELD_IS_NOT_DOOMED,
    );
    is_noticed(
        update(),
        Broken::DoomDoesNotLookAgain,
        properties::READERS_FIND_CHUNKS,
    );
}

#[test]
fn a_seal_may_not_name_a_doomed_chunk() {
    is_noticed(update(), Broken::SealNamesDoomed, properties::HELD_IS_NOT_DOOMED);
    is_noticed(update(), Broken::SealNamesDoomed, properties::READERS_FIND_CHUNKS);
}

#[test]
fn a_sealed_upload_may_not_be_abandoned() {
    is_noticed(
        new_file(),
        Broken::AbandonAfterSeal,
        properties::SEALED_OR_ABANDONED,
    );
}

#[test]
fn unknown_is_not_refused() {
    is_noticed(new_file(), Broken::UnknownIsRefused, properties::ONE_OUTCOME);
    is_noticed(
        new_file(),
        Broken::UnknownIsRefused,
        properties::RECLAIMED_ON_ORDERS,
    );
    is_noticed(
        new_file(),
        Broken::UnknownIsRefused,
        properties::READERS_FIND_CHUNKS,
    );
}

#[test]
fn absent_is_not_refused() {
    is_noticed(new_file(), Broken::AbsentIsRefused, properties::ONE_OUTCOME);
}

#[test]
fn outcomes_are_kept_until_acknowledged() {
    is_noticed(new_file(), Broken::ForgetsTooEarly, properties::SETTLES);
}

#[test]
fn releases_are_sent_until_acknowledged() {
    is_noticed(new_file(), Broken::ReleaseSentOnce, properties::SETTLES);
}

#[test]
fn keys_have_to_be_remembered() {
    is_noticed(
        new_file(),
        Broken::KeyNotRemembered,
        properties::ONE_VERSION_PER_KEY,
    );
}

#[test]
fn failure_needs_a_committed_abort() {
    is_noticed(
        new_file(),
        Broken::FailureWithoutAbort,
        properties::TOLD_THE_TRUTH,
    );
}

#[test]
fn only_the_doomed_are_dropped() {
    is_noticed(update(), Broken::DropsMarked, properties::DROPPED_AFTER_DOOM);
    is_noticed(update(), Broken::DropsMarked, properties::READERS_FIND_CHUNKS);
}

#[test]
fn dropped_means_tombstoned_on_every_node_for_good() {
    is_noticed(
        new_file(),
        Broken::DroppedWithoutTombstones,
        properties::DROPPED_AFTER_DOOM,
    );
    is_noticed(
        new_file(),
        Broken::TombstoneForgotten,
        properties::DROPPED_AFTER_DOOM,
    );
}
