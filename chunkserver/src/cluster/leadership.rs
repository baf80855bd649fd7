//! What a leader knows beyond the log: when each node was last heard, how loaded it is, which uploads are under way.
//!
//! Invariant (P7): one value per epoch. It is made when the epoch begins, and every order given from it is committed
//! under that epoch or carries it; nothing of it outlives the epoch. Attempt ids need no commit: an epoch has one
//! leader, and the leader counts.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::ids::{AttemptId, DiskId, Epoch, NodeId, UploadId};
use common::shutdown::Shutdown;
use common::time::Moment;
use parking_lot::{Mutex, RwLock};
use proto::bulk::grant::DataPlaneKeys;
use tokio::sync::Notify;

use super::core::placement::Candidate;
use super::core::presence::Heard;
use super::directory::{Directory, domain};
use super::open_uploads::OpenUploads;
use super::unpublished::Unpublished;

/// One epoch of this process's leadership.
pub(crate) struct Leadership {
    pub(crate) epoch: Epoch,
    pub(crate) since: Moment,
    /// Given when the epoch is over, or the process ends.
    pub(crate) over: Shutdown,
    pub(crate) unpublished: Unpublished,
    /// There is something to reclaim.
    pub(crate) reclaimable: Notify,
    attempts: AtomicU64,
    /// Guards what each node last said.
    nodes: Mutex<BTreeMap<NodeId, Said>>,
    /// Guards which nodes were refused as second incarnations since they last heard of it.
    rivals: Mutex<BTreeSet<NodeId>>,
    pub(crate) uploads: OpenUploads,
    /// Upload numbers that are reserved and not given out.
    pub(crate) numbers: tokio::sync::Mutex<Range<u64>>,
    keys: RwLock<Arc<DataPlaneKeys>>,
}

/// What a node last said of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    pub(crate) at: Moment,
    pub(crate) incarnation: Vec<u8>,
    pub(crate) load: NodeLoad,
    pub(crate) disks: Vec<DiskSaid>,
    /// Planned there and perhaps not begun; halved with every heartbeat.
    planned_bytes: u64,
}

/// Who sent a heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Heartbeat {
    /// The process that was heard before, or the first one.
    Usual,
    /// Another process, after the one before had fallen silent.
    Restarted,
    /// Another process while the one before is still heard: a copy. Nothing was taken in.
    Rival,
}

/// How busy a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeLoad {
    pub(crate) cpu_permille: u32,
    pub(crate) memory_permille: u32,
    pub(crate) capacity_bytes: u64,
    pub(crate) used_bytes: u64,
    pub(crate) free_bytes: u64,
    pub(crate) in_flight_bytes: u64,
}

/// One disk of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiskSaid {
    pub(crate) id: DiskId,
    pub(crate) path: String,
    pub(crate) capacity_bytes: u64,
    pub(crate) used_bytes: u64,
    pub(crate) free_bytes: u64,
    /// Why it takes no writes; empty if it does.
    pub(crate) refuses_because: String,
}

impl Said {
    pub(crate) fn new(at: Moment, incarnation: Vec<u8>, load: NodeLoad, disks: Vec<DiskSaid>) -> Self {
        Self {
            at,
            incarnation,
            load,
            disks,
            planned_bytes: 0,
        }
    }
}

impl Leadership {
    /// For an epoch that begins when the tables have rows of uploads up to `rows_up_to`.
    pub(crate) fn new(
        epoch: Epoch,
        since: Moment,
        over: Shutdown,
        keys: DataPlaneKeys,
        rows_up_to: UploadId,
    ) -> Self {
        Self {
            epoch,
            since,
            over,
            unpublished: Unpublished::default(),
            reclaimable: Notify::new(),
            attempts: AtomicU64::new(0),
            nodes: Mutex::default(),
            rivals: Mutex::default(),
            uploads: OpenUploads::new(rows_up_to),
            numbers: tokio::sync::Mutex::default(),
            keys: RwLock::new(Arc::new(keys)),
        }
    }

    /// An attempt id that was never given out.
    pub(crate) fn next_attempt(&self) -> AttemptId {
        AttemptId::new(self.epoch, self.attempts.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// All data-plane keys that the log knows, the current one first.
    pub(crate) fn keys(&self) -> Arc<DataPlaneKeys> {
        Arc::clone(&self.keys.read())
    }

    pub(crate) fn replace_keys(&self, keys: DataPlaneKeys) {
        *self.keys.write() = Arc::new(keys);
    }

    /// Takes in what a node says now, unless another process of the same identity was heard within `fence`: one identity
    /// lives once.
    pub(crate) fn heard(&self, node: NodeId, said: Said, fence: Duration) -> Heartbeat {
        let mut nodes = self.nodes.lock();
        let before = nodes.get(&node);
        let restarted = before.is_some_and(|before| before.incarnation != said.incarnation);
        if restarted && before.is_some_and(|before| said.at.since(before.at) < fence) {
            self.rivals.lock().insert(node);
            return Heartbeat::Rival;
        }
        let before = nodes.remove(&node);
        let planned_bytes = before.map_or(0, |before| before.planned_bytes / 2);
        nodes.insert(
            node,
            Said {
                planned_bytes,
                ..said
            },
        );
        if restarted {
            Heartbeat::Restarted
        } else {
            Heartbeat::Usual
        }
    }

    /// Whether another process was refused as `node` since this was asked last.
    pub(crate) fn rival_heard(&self, node: NodeId) -> bool {
        self.rivals.lock().remove(&node)
    }

    /// What each node last said.
    pub(crate) fn said(&self) -> BTreeMap<NodeId, Said> {
        self.nodes.lock().clone()
    }

    /// When each node of `directory` was last heard.
    pub(crate) fn presence(&self, directory: &Directory) -> Vec<Heard> {
        let nodes = self.nodes.lock();
        let rows = directory.nodes.values();
        rows.map(|row| Heard {
            node: row.node,
            state: row.state,
            at: nodes.get(&row.node).map(|said| said.at),
        })
        .collect()
    }

    /// The nodes that may be chosen for new data.
    pub(crate) fn candidates(&self, directory: &Directory) -> Vec<Candidate> {
        let nodes = self.nodes.lock();
        let chosen = directory.nodes.values().filter(|row| row.state.may_be_chosen());
        chosen
            .filter_map(|row| {
                let said = nodes.get(&row.node)?;
                let writable = said.disks.iter().filter(|disk| disk.refuses_because.is_empty());
                // A chunk goes to one disk: what matters is the roomiest, not the sum.
                let roomiest = writable.map(|disk| disk.free_bytes).max()?;
                Some(Candidate {
                    domain: domain(row),
                    cpu_permille: said.load.cpu_permille,
                    memory_permille: said.load.memory_permille,
                    free_bytes: roomiest.saturating_sub(said.planned_bytes),
                    in_flight_bytes: said.load.in_flight_bytes.saturating_add(said.planned_bytes),
                })
            })
            .collect()
    }

    /// Notes that `bytes` will be sent to `node`.
    pub(crate) fn planned(&self, node: NodeId, bytes: u64) {
        if let Some(said) = self.nodes.lock().get_mut(&node) {
            said.planned_bytes = said.planned_bytes.saturating_add(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use common::lifecycle::Node;

    use super::*;
    use crate::cluster::store::nodes::NodeRow;

    fn leadership() -> Leadership {
        Leadership::new(
            Epoch::new(3),
            Moment::default(),
            Shutdown::new(),
            DataPlaneKeys::default(),
            UploadId::default(),
        )
    }

    fn said(free_bytes: u64, refuses: bool) -> Said {
        Said {
            disks: vec![DiskSaid {
                id: DiskId::new([1; 16]),
                path: "/disks/1".to_owned(),
                capacity_bytes: 1 << 30,
                used_bytes: 0,
                free_bytes,
                refuses_because: if refuses { "it is full" } else { "" }.to_owned(),
            }],
            ..Said::default()
        }
    }

    fn directory(states: &[Node]) -> Directory {
        let rows = (1..).zip(states).map(|(node, state)| NodeRow {
            node: NodeId::new(node),
            name: String::new(),
            control: String::new(),
            data: String::new(),
            zone: format!("z{node}"),
            host: format!("h{node}"),
            state: *state,
        });
        Directory::new(rows.collect(), Vec::new())
    }

    #[test]
    fn only_live_nodes_that_were_heard_and_take_writes_are_candidates() {
        let leadership = leadership();
        let directory = directory(&[Node::Live, Node::Suspect, Node::Live, Node::Live, Node::Draining]);
        for (node, refuses) in [(1, false), (2, false), (3, true), (5, false)] {
            leadership.heard(NodeId::new(node), said(100, refuses), Duration::ZERO);
        }
        let candidates = leadership.candidates(&directory);
        let nodes: Vec<u64> = candidates.iter().map(|one| one.domain.node.get()).collect();
        assert_eq!(nodes, [1]);
        assert_eq!(
            directory.copy_sets().pairs(),
            6,
            "suspect and unheard nodes keep their partners"
        );
    }

    #[test]
    fn what_is_planned_takes_room_until_heartbeats_say_otherwise() {
        let leadership = leadership();
        let directory = directory(&[Node::Live]);
        let node = NodeId::new(1);
        let free = |leadership: &Leadership| leadership.candidates(&directory)[0].free_bytes;
        leadership.heard(node, said(1_000, false), Duration::ZERO);
        leadership.planned(node, 400);
        assert_eq!(free(&leadership), 600);
        leadership.heard(node, said(1_000, false), Duration::ZERO);
        assert_eq!(free(&leadership), 800);
    }

    #[test]
    fn one_identity_lives_once() {
        let leadership = leadership();
        let node = NodeId::new(1);
        let fence = Duration::from_millis(1500);
        let beat = |millis: u64, incarnation: u8| {
            let said = Said {
                at: Moment::new(Duration::from_millis(millis)),
                incarnation: vec![incarnation],
                ..said(100, false)
            };
            leadership.heard(node, said, fence)
        };
        assert_eq!(beat(1_000, 1), Heartbeat::Usual);
        assert_eq!(beat(1_400, 2), Heartbeat::Rival, "the first one is alive");
        assert_eq!(beat(1_500, 1), Heartbeat::Usual);
        assert!(leadership.rival_heard(node) && !leadership.rival_heard(node));
        assert_eq!(
            beat(2_900, 2),
            Heartbeat::Rival,
            "a copy does not wear the fence down"
        );
        assert_eq!(leadership.said()[&node].incarnation, [1]);
        assert_eq!(beat(3_000, 2), Heartbeat::Restarted, "the first one is silent");
        assert_eq!(beat(3_100, 1), Heartbeat::Rival);
    }

    #[test]
    fn attempts_never_repeat() {
        let leadership = leadership();
        assert_ne!(leadership.next_attempt(), leadership.next_attempt());
    }
}
