//! Does everything come to rest once faults stop? (P8: nothing leaks for ever.)
//!
//! From any state, every message is lost, the leader dies, the clients are silent for ever; then the loops of the names
//! layer, the leader and the nodes run until none of them has anything left to do. What stands then must be at
//! rest. It is a stronger question than whether a message that was sent may still arrive: the loops have to find
//! their work in the logs and on the disks alone.

use std::collections::HashMap;
use std::sync::Mutex;

use common::lifecycle::{Chunk, Session, Upload, Version};
use stateright::Model;

use crate::protocol::Protocol;
use crate::state::{ChunkId, Leader, Number, State};

/// More steps than any run of the loops takes; a run that takes more does not come to rest.
const STEPS_MAX: usize = 500;

/// The durable states that were looked at, and what was found.
#[derive(Default)]
pub(crate) struct Settled(Mutex<HashMap<State, bool>>);

impl Protocol {
    /// Does everything come to rest from here?
    pub(crate) fn settles(&self, state: &State) -> bool {
        let mut durable = State {
            leader: Leader::default(),
            clients: vec![],
            net: [].into(),
            ..state.clone()
        };
        durable.names.change_leader();
        durable.names.crashes = 0;
        let mut known = self.settled.0.lock().expect("no property panics while it looks");
        if let Some(settles) = known.get(&durable) {
            return *settles;
        }
        let settles = self.runs_to_rest(durable.clone());
        known.insert(durable, settles);
        settles
    }

    fn runs_to_rest(&self, mut state: State) -> bool {
        self.act(&mut state);
        for _ in 0..STEPS_MAX {
            let mut actions = vec![];
            self.progress(&state, &mut actions);
            let next = actions
                .into_iter()
                .find_map(|action| self.next_state(&state, action));
            match next {
                Some(next) => state = next,
                None => return is_at_rest(&state),
            }
        }
        false
    }
}

/// Nothing is open, owed or waiting, and only what a published version names is kept.
fn is_at_rest(state: &State) -> bool {
    let sessions = state.names.sessions.iter().all(|row| {
        let owes_nothing = row.forgotten || (row.session != Session::Open && !row.outcome_owed);
        owes_nothing && !row.release_owed && row.version != Some(Version::Trashed)
    });
    let is_readable = |number: Number| {
        state
            .names
            .sessions
            .get(number)
            .is_some_and(|row| row.version == Some(Version::Published))
    };
    let uploads = state
        .cluster
        .uploads
        .iter()
        .all(|(number, row)| match row.upload {
            Upload::Open => false,
            Upload::Abandoned => true,
            Upload::Sealed => match row.version {
                Some(Version::Published) => is_readable(*number),
                version => version == Some(Version::Gone),
            },
        });
    let chunks = state.cluster.chunks.iter().all(|(id, chunk)| match chunk {
        Chunk::Live => state.cluster.is_held(*id),
        Chunk::Marked | Chunk::Doomed => false,
        Chunk::Dropped => true,
    });
    let unknown =
        |chunk: &ChunkId| chunk.numbered_by().is_some() && !state.cluster.chunks.contains_key(chunk);
    let disks = state.disks.iter().all(|disk| {
        let mut held = disk.iter().filter(|(_, replica)| replica.counts());
        held.all(|(chunk, _)| !unknown(chunk))
    });
    sessions && uploads && chunks && disks
}
