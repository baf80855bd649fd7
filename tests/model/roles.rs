//! What each role does of its own accord.
//!
//! Whatever a role may send it has sent, and whatever it may decide it has decided, as soon as it may. Nothing is lost
//! by that: a message may still arrive late or never, a decision be committed late or never, and meanwhile the logs
//! move on.

use common::lifecycle::{Chunk, Replica, Session, Upload, Version};

use crate::protocol::Protocol;
use crate::rules::Broken;
use crate::state::{ChunkId, Disk, Message, Number, Outcome, Proposal, State};

impl Protocol {
    /// Lets every role act on the state as it is.
    pub(crate) fn act(&self, state: &mut State) {
        let mut sent = vec![];
        client_sends(state, &mut sent);
        names_sends(state, &mut sent);
        self.leader_sends(state, &mut sent);
        state.net.extend(sent);
        let mut decided = vec![];
        self.leader_decides(state, &mut decided);
        state.leader.proposals.extend(decided);
    }

    /// The leader publishes what is sealed, reports what has ended and orders drops, all from its log: a new leader
    /// goes on where the last one died.
    fn leader_sends(&self, state: &State, sent: &mut Vec<Message>) {
        for (number, row) in &state.cluster.uploads {
            let number = *number;
            match row.version {
                Some(Version::Sealed) => sent.push(Message::Publish(number)),
                Some(Version::Published | Version::Released) => {
                    sent.push(Message::Report(number, Outcome::Published));
                }
                Some(Version::Refused) => sent.push(Message::Report(number, Outcome::Refused)),
                Some(Version::Gone | Version::Trashed) | None => {}
            }
            if row.upload == Upload::Abandoned {
                sent.push(Message::UploadAbandoned(number));
            }
            if row.upload == Upload::Abandoned || row.version.is_some_and(Version::has_outcome) {
                sent.push(Message::Settled(number));
            }
        }
        let to_drop = |life: Chunk| {
            life == Chunk::Doomed || (life == Chunk::Marked && self.broken == Some(Broken::DropsMarked))
        };
        for (chunk, _) in state.cluster.chunks.iter().filter(|(_, life)| to_drop(**life)) {
            sent.extend((0..self.nodes).map(|node| Message::Drop(node, *chunk)));
        }
        self.leader_judges_inventories(state, sent);
    }

    /// What a disk holds and neither the log nor the leader's own memory has a use for goes.
    fn leader_judges_inventories(&self, state: &State, sent: &mut Vec<Message>) {
        let in_flight = |chunk: &ChunkId| {
            let here = chunk.numbered_by() == Some(state.leader.epoch);
            here && state.leader.opened.contains(&chunk.upload)
                && self.broken != Some(Broken::UnrecordedIsDead)
        };
        for (node, disk) in state.disks.iter().enumerate() {
            let held = disk.iter().filter(|(_, replica)| replica.counts());
            let dead = held.filter(|(chunk, _)| state.cluster.has_no_use_for(**chunk) && !in_flight(chunk));
            sent.extend(dead.map(|(chunk, _)| Message::Drop(node, *chunk)));
        }
    }

    /// The leader decides, on what its log says now, what is to be abandoned and reclaimed.
    fn leader_decides(&self, state: &State, decided: &mut Vec<Proposal>) {
        let unrecorded = |number: &&Number| !state.cluster.uploads.contains_key(*number);
        let lasting = state.leader.opened.iter().filter(unrecorded);
        decided.extend(lasting.map(|number| Proposal::Open(*number)));
        for (number, row) in &state.cluster.uploads {
            let sealed = row.version == Some(Version::Sealed);
            if row.upload.may_be_written() || (sealed && self.broken == Some(Broken::AbandonAfterSeal)) {
                decided.push(Proposal::Abandon(*number));
            }
            if sealed && self.broken == Some(Broken::UnknownIsRefused) {
                decided.push(Proposal::Outcome(*number, Outcome::Refused));
            }
            if state.cluster.may_reclaim(*number) {
                decided.push(Proposal::Reclaim(*number));
            }
        }
        for (chunk, life) in &state.cluster.chunks {
            let wanted = || state.cluster.is_held(*chunk) || state.cluster.is_being_written(*chunk);
            let heard_from = |node| state.net.contains(&Message::Tombstoned(node, *chunk));
            match life {
                Chunk::Live if !wanted() => decided.push(Proposal::Mark(*chunk)),
                Chunk::Marked => decided.push(Proposal::Doom(*chunk)),
                Chunk::Doomed
                    if (0..self.nodes).all(heard_from)
                        || self.broken == Some(Broken::DroppedWithoutTombstones) =>
                {
                    decided.push(Proposal::Dropped(*chunk));
                }
                Chunk::Live | Chunk::Doomed | Chunk::Dropped => {}
            }
        }
    }
}

/// A client plans and writes its chunks, seals, sends a chunk again when told to, and may give up at any time. A silent
/// or dead one is one whose messages do not arrive.
fn client_sends(state: &State, sent: &mut Vec<Message>) {
    for client in state.clients.iter().filter(|client| client.told.is_none()) {
        let Some(number) = client.upload else { continue };
        if client.small {
            send_small(state, number, sent);
            continue;
        }
        let own = |slot| ChunkId { upload: number, slot };
        let base = client.base.map(|upload| ChunkId { upload, slot: 0 });
        let again = client.base.filter(|_| client.sends_base_again).map(|_| own(1));
        sent.push(Message::AbortUpload(number));
        let mut written = [Some(own(0)), again].into_iter().flatten();
        sent.extend(written.clone().map(Message::Plan));
        let stored = |id| move |disk: &Disk| disk.get(&id).copied().is_some_and(Replica::counts);
        if written.all(|id| state.disks.iter().all(stored(id))) {
            sent.push(Message::Seal(number, [Some(own(0)), again.or(base)]));
        }
    }
}

/// A client with a small file: it asks whoever leads for a number, and seals with whatever it once wrote.
fn send_small(state: &State, number: Number, sent: &mut Vec<Message>) {
    sent.push(Message::AbortUpload(number));
    for epoch in 0..=state.leader.epoch {
        let chunk = ChunkId::lone(number, epoch);
        sent.push(Message::Plan(chunk));
        let counts = |disk: &Disk| disk.get(&chunk).copied().is_some_and(Replica::counts);
        if state.disks.iter().all(counts) {
            sent.push(Message::Seal(number, [Some(chunk), None]));
        }
    }
}

/// The names layer empties the trash and works off its outbox.
fn names_sends(state: &State, sent: &mut Vec<Message>) {
    for (number, row) in state.names.sessions.iter().enumerate() {
        if row.version == Some(Version::Trashed) {
            sent.push(Message::Expire(number));
        }
        if row.release_owed {
            sent.push(Message::Release(number));
        }
        if !row.forgotten && row.session == Session::Aborted && row.outcome_owed {
            sent.push(Message::SessionAborted(number));
        }
    }
}
