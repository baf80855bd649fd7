//! What each role does when a message arrives.

use common::lifecycle::{Replica, ReplicaEvent, Session, Version};

use crate::cluster::Sealing;
use crate::protocol::Protocol;
use crate::rules::Broken;
use crate::state::{Answer, Client, Held, Message, Number, Outcome, Proposal, State, Told};

impl Protocol {
    /// One message arrives, for the first time or again.
    pub(crate) fn receive(&self, state: &mut State, message: Message) {
        match message {
            // At the names layer.
            Message::OpenUpload(key) => {
                if let Some(number) = state.names.open(key, self.sessions_held(), self.broken) {
                    state.net.insert(Message::Opened(key, number));
                }
            }
            Message::AbortUpload(number) => {
                if let Some(session) = state.names.abort(number, self.broken) {
                    state.net.insert(Message::SessionEnded(number, session));
                }
            }
            Message::UploadAbandoned(number) => {
                // It brings no opening along.
                if !state.names.is_in_memory(number) {
                    state.names.abort(number, self.broken);
                }
            }
            Message::Publish(number) => {
                let answer = state.names.publish(number, true, self.broken);
                state.net.insert(Message::Published(number, answer));
            }
            Message::Settled(number) => state.names.settled(number),
            Message::ReleaseAcknowledged(number) => state.names.release_acknowledged(number),
            Message::Expire(number) => {
                if state.names.expire(number, self.broken) {
                    state.net.insert(Message::Release(number));
                }
            }
            // At the leader.
            Message::Plan(_)
            | Message::Seal(..)
            | Message::Published(..)
            | Message::SessionAborted(_)
            | Message::Release(_)
            | Message::Tombstoned(..) => self.receive_at_leader(state, message),
            // At the nodes.
            Message::Bytes(chunk) => {
                for disk in &mut state.disks {
                    let replica = disk.entry(chunk).or_insert(Replica::Writing);
                    *replica = match replica.next(ReplicaEvent::Store) {
                        Ok(stored) => stored,
                        Err(_) if self.broken == Some(Broken::TombstoneForgotten) => Replica::Stored,
                        Err(_) => *replica,
                    };
                }
            }
            Message::Drop(node, chunk) => {
                let replica = state.disks[node].entry(chunk).or_insert(Replica::Writing);
                for event in [ReplicaEvent::Leave, ReplicaEvent::Tombstone] {
                    *replica = replica.next(event).unwrap_or(*replica);
                }
                state.net.insert(Message::Tombstoned(node, chunk));
            }
            // At the client.
            Message::Opened(..) | Message::SessionEnded(..) | Message::SendAgain(_) | Message::Report(..) => {
                receive_at_client(state, message)
            }
        }
    }

    /// The leader answers from its log, or decides on an entry. It believes nothing else.
    fn receive_at_leader(&self, state: &mut State, message: Message) {
        match message {
            Message::Plan(chunk) if chunk.numbered_by().is_some() => {
                let row = state.cluster.uploads.get(&chunk.upload);
                let planned = match row {
                    Some(row) => row.upload.may_be_written() && row.numbered_by == chunk.numbered_by(),
                    // The number is the leader's own to give.
                    None => chunk.numbered_by() == Some(state.leader.epoch),
                };
                if planned {
                    if row.is_none() {
                        state.leader.opened.insert(chunk.upload);
                    }
                    state.net.insert(Message::Bytes(chunk));
                }
            }
            Message::Seal(number, [Some(chunk), None]) if chunk.numbered_by().is_some() => {
                let opened = state.leader.opened.contains(&number);
                let own = opened.then_some(state.leader.epoch);
                let old = chunk.numbered_by();
                let number_of_it = match self.broken {
                    Some(Broken::SealUnderAnOldNumber) => old,
                    _ => own,
                };
                if state.cluster.seal_small(number, chunk, number_of_it) {
                    state.leader.opened.remove(&number);
                }
            }
            Message::Plan(chunk) => {
                let planned = state.cluster.plan(chunk);
                if planned {
                    state.net.insert(Message::Bytes(chunk));
                }
            }
            Message::Seal(number, manifest) => {
                let sealing = state.cluster.seal(number, manifest, self.broken);
                if sealing == Sealing::NamesDoomed {
                    state.net.insert(Message::SendAgain(number));
                }
            }
            Message::Published(number, answer) => {
                let outcome = match answer {
                    Answer::Ended(outcome) => Some(outcome),
                    Answer::Forgotten => {
                        (self.broken == Some(Broken::AbsentIsRefused)).then_some(Outcome::Refused)
                    }
                };
                if let (Some(Version::Sealed), Some(outcome)) = (state.cluster.version(number), outcome) {
                    state.leader.proposals.insert(Proposal::Outcome(number, outcome));
                }
            }
            Message::SessionAborted(number) => {
                let row = state.cluster.uploads.get(&number);
                if row.is_none_or(|row| row.upload.may_be_written()) {
                    state.leader.proposals.insert(Proposal::Abandon(number));
                }
            }
            Message::Release(number) => match state.cluster.version(number) {
                Some(Version::Sealed | Version::Published) => {
                    state.leader.proposals.insert(Proposal::Release(number));
                }
                Some(Version::Released | Version::Gone) => {
                    state.net.insert(Message::ReleaseAcknowledged(number));
                }
                Some(Version::Refused | Version::Trashed) | None => {}
            },
            // A tombstone counts once every node has reported one; see `leader_decides`.
            _ => {}
        }
    }
}

fn receive_at_client(state: &mut State, message: Message) {
    match message {
        Message::Opened(key, number) => {
            let waiting = |client: &&mut Client| client.key == key && client.told.is_none();
            for client in state.clients.iter_mut().filter(waiting) {
                client.upload = Some(number);
            }
        }
        Message::SessionEnded(number, Session::Published) | Message::Report(number, Outcome::Published) => {
            tell(state, number, Told::Success);
        }
        Message::SessionEnded(number, session) if session.may_be_reported_failed() => {
            tell(state, number, Told::Failure);
        }
        // The code of the refusal says it: the client opens its upload again.
        Message::Report(number, Outcome::Refused) if state.names.sessions[number].held == Held::Lost => {}
        Message::Report(number, Outcome::Refused) => tell(state, number, Told::Failure),
        Message::SendAgain(number) => {
            for client in state
                .clients
                .iter_mut()
                .filter(|client| client.upload == Some(number))
            {
                client.sends_base_again = true;
            }
        }
        _ => {}
    }
}

/// A client tells its user how the upload ended. It says so once.
pub(crate) fn tell(state: &mut State, number: Number, told: Told) {
    for client in state
        .clients
        .iter_mut()
        .filter(|client| client.upload == Some(number))
    {
        client.told.get_or_insert(told);
    }
}
