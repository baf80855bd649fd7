//! The steps of the model, as actions on the [`State`].
//!
//! A step is one of: a message arrives (any that was ever sent, again and again), an entry on which the leader decided
//! is committed, the leader dies, or someone outside acts. After each, every role acts on where it led (`roles.rs`).
//! What an arrival does is in `arrivals.rs`, and what an entry does in `names.rs` and `cluster.rs`.

use std::collections::BTreeMap;

use common::lifecycle::{Chunk, Replica, Session, Upload, Version};
use stateright::{Model, Property};

use crate::arrivals::tell;
use crate::properties;
use crate::repair::Settled;
use crate::rules::Broken;
use crate::state::{
    Answer, CLIENT_KEY, ChunkId, Client, ClusterLog, Held, Key, Leader, Message, NamesLog, Number, Outcome,
    Proposal, SessionRow, State, Told, UploadRow,
};

/// Sessions that a key may have led to, the lost ones among them.
const SESSIONS_MAX: usize = 2;

/// What a client starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writes {
    /// A new file.
    NewFile,
    /// A new file that is recorded by its seal, unless it lasts.
    SmallFile,
    /// An update of a file that is there: the seal names the one chunk of version 0 besides its own.
    Update,
}

/// One scenario: what is there, and how much may go wrong.
pub(crate) struct Protocol {
    pub(crate) writes: Writes,
    pub(crate) nodes: usize,
    pub(crate) crashes_max: u8,
    /// Of the names layer's leader. Where it may die, it alone knows a session at first.
    pub(crate) names_crashes_max: u8,
    pub(crate) restores_max: u8,
    pub(crate) broken: Option<Broken>,
    pub(crate) settled: Settled,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A message arrives: for the first time or not, early or late. What never arrives was lost.
    Receive(Message),
    /// A publish arrives, and its conditions do not hold.
    ReceivePublishInVain(Number),
    /// An entry that the leader decided on before is committed and applied.
    Commit(Proposal),
    /// The leader dies; another leads.
    LeaderCrash,
    /// The names layer's leader dies; another leads.
    NamesLeaderCrash,
    /// The names layer opens an upload again under a key, and does not see yet that the key led to one before.
    OpenLagging(Key),
    /// A session that lasts gets its row.
    RecordSession(Number),
    /// A publication that an earlier leader of the names layer proposed is committed.
    CommitLatePublish(Number),
    /// The names layer aborts a session that has been silent too long.
    AbortSilentSession(Number),
    /// The dedupe window of a session is over.
    Forget(Number),
    /// Someone deletes the file.
    Delete,
    /// Someone takes a version out of the trash.
    Restore(Number),
    /// A client reports failure of its own accord, which is against the rules.
    GiveUp(Number),
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            names: NamesLog::default(),
            cluster: ClusterLog::default(),
            disks: vec![BTreeMap::new(); self.nodes],
            leader: Leader::default(),
            clients: vec![],
            net: [Message::OpenUpload(CLIENT_KEY)].into(),
        };
        if self.writes == Writes::Update {
            publish_base(&mut state);
        }
        let base = (self.writes == Writes::Update).then_some(0);
        state.clients.push(Client {
            key: CLIENT_KEY,
            base,
            upload: None,
            small: self.writes == Writes::SmallFile,
            sends_base_again: false,
            told: None,
        });
        self.act(&mut state);
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.progress(state, actions);
        self.misfortune(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        self.step(&mut state, action);
        if state == *last {
            return None;
        }
        self.act(&mut state);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(self)
    }
}

/// Version 0 has been published long ago. Its messages are still under way, as all messages are.
fn publish_base(state: &mut State) {
    let chunk = ChunkId { upload: 0, slot: 0 };
    state.names.sessions.push(SessionRow {
        held: Held::InLog,
        key: 0,
        session: Session::Published,
        version: Some(Version::Published),
        outcome_owed: false,
        release_owed: false,
        forgotten: true,
    });
    state.names.path = Some(0);
    let (upload, version) = (Upload::Sealed, Some(Version::Published));
    state.cluster.uploads.insert(
        0,
        UploadRow {
            upload,
            version,
            manifest: [Some(chunk), None],
            numbered_by: None,
        },
    );
    state.cluster.chunks.insert(chunk, Chunk::Live);
    for disk in &mut state.disks {
        disk.insert(chunk, Replica::Stored);
    }
    let published = Message::Published(0, Answer::Ended(Outcome::Published));
    let report = Message::Report(0, Outcome::Published);
    state.net.extend([
        Message::Publish(0),
        published,
        Message::Settled(0),
        report,
        Message::Bytes(chunk),
    ]);
}

/// What may happen next.
impl Protocol {
    /// What was sent arrives, what was decided is committed, what was silent too long is aborted.
    pub(crate) fn progress(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend(state.net.iter().copied().map(Action::Receive));
        actions.extend(state.leader.proposals.iter().copied().map(Action::Commit));
        for (number, row) in state.names.sessions.iter().enumerate() {
            if row.held == Held::InMemory {
                actions.push(Action::RecordSession(number));
            } else if !row.forgotten && row.session == Session::Open {
                actions.push(Action::AbortSilentSession(number));
            }
        }
    }

    /// Where sessions begin to be known.
    pub(crate) fn sessions_held(&self) -> Held {
        match self.names_crashes_max {
            0 => Held::InLog,
            _ => Held::InMemory,
        }
    }

    /// The leader dies, conditions fail, users change their minds, windows close.
    fn misfortune(&self, state: &State, actions: &mut Vec<Action>) {
        if state.leader.epoch < self.crashes_max {
            actions.push(Action::LeaderCrash);
        }
        if state.names.crashes < self.names_crashes_max {
            actions.push(Action::NamesLeaderCrash);
        }
        if self.names_crashes_max > 0 && state.names.sessions.len() < SESSIONS_MAX {
            actions.push(Action::OpenLagging(CLIENT_KEY));
        }
        if state.names.path.is_some() {
            actions.push(Action::Delete);
        }
        for (number, row) in state.names.sessions.iter().enumerate() {
            let asked = state.net.contains(&Message::Publish(number));
            if asked && row.session == Session::Open {
                actions.push(Action::ReceivePublishInVain(number));
            }
            if asked && row.held == Held::Lost {
                actions.push(Action::CommitLatePublish(number));
            }
            if row.version == Some(Version::Trashed) && state.names.restores < self.restores_max {
                actions.push(Action::Restore(number));
            }
            if state.names.may_forget(number, self.broken) {
                actions.push(Action::Forget(number));
            }
        }
        if self.broken == Some(Broken::FailureWithoutAbort) {
            actions.extend(
                state
                    .clients
                    .iter()
                    .filter_map(|client| client.upload)
                    .map(Action::GiveUp),
            );
        }
    }
}

/// What happens then.
impl Protocol {
    fn step(&self, state: &mut State, action: Action) {
        match action {
            Action::Receive(message) => self.receive(state, message),
            Action::ReceivePublishInVain(number) => {
                let answer = state.names.publish(number, false, self.broken);
                state.net.insert(Message::Published(number, answer));
            }
            Action::Commit(proposal) => {
                state.leader.proposals.remove(&proposal);
                let epoch = state.leader.epoch;
                self.apply(&mut state.cluster, proposal, epoch);
            }
            Action::LeaderCrash => {
                state.leader = Leader {
                    epoch: state.leader.epoch + 1,
                    ..Leader::default()
                };
            }
            Action::NamesLeaderCrash => state.names.change_leader(),
            Action::OpenLagging(key) => {
                if let Some(number) = state.names.open_lagging(key) {
                    state.net.insert(Message::Opened(key, number));
                }
            }
            Action::RecordSession(number) => state.names.record(number, self.broken),
            Action::CommitLatePublish(number) => {
                let answer = state.names.publish_late(number, self.broken);
                state.net.insert(Message::Published(number, answer));
            }
            Action::AbortSilentSession(number) => {
                state.names.abort(number, self.broken);
            }
            Action::Forget(number) => state.names.forget(number),
            Action::Delete => state.names.trash(),
            Action::Restore(number) => state.names.restore(number),
            Action::GiveUp(number) => tell(state, number, Told::Failure),
        }
    }

    fn apply(&self, cluster: &mut ClusterLog, proposal: Proposal, epoch: u8) {
        match proposal {
            Proposal::Open(number) => cluster.record(number, epoch),
            Proposal::Abandon(number) => cluster.abandon(number, self.broken),
            Proposal::Outcome(number, outcome) => cluster.outcome(number, outcome),
            Proposal::Release(number) => cluster.release(number),
            Proposal::Reclaim(number) => cluster.reclaim(number),
            Proposal::Mark(chunk) => cluster.mark(chunk),
            Proposal::Doom(chunk) => cluster.doom(chunk, self.broken),
            Proposal::Dropped(chunk) => cluster.dropped(chunk),
        }
    }
}
