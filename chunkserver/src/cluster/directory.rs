//! The nodes and disks of the cluster as this member has applied them, read once and used for a short while.
//!
//! Invariant: on the leader, which alone proposes changes, the view is dropped with every change it commits; elsewhere
//! it may be half a second old, and only orders copies for readers then, who verify what they read.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use common::ids::{DiskId, NodeId};
use common::lifecycle::Node;
use common::time::Moment;
use parking_lot::Mutex;
use proto::error::RpcError;

use super::core::copy_sets::{CopySets, Domain};
use super::core::durability::Holder;
use super::handle::Cluster;
use super::store::nodes::{self, DiskRow, NodeRow};

/// How long a view may be used.
const FRESH_FOR: Duration = Duration::from_millis(500);

/// Nodes and disks.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub(crate) nodes: BTreeMap<NodeId, NodeRow>,
    pub(crate) disks: BTreeMap<i64, DiskRow>,
    sets: OnceLock<CopySets>,
}

impl Directory {
    pub(crate) fn new(nodes: Vec<NodeRow>, disks: Vec<DiskRow>) -> Self {
        Self {
            nodes: nodes.into_iter().map(|row| (row.node, row)).collect(),
            disks: disks.into_iter().map(|row| (row.disk, row)).collect(),
            sets: OnceLock::new(),
        }
    }

    /// Which nodes may share chunks: all that stay, whether they are up or not.
    pub(crate) fn copy_sets(&self) -> &CopySets {
        self.sets.get_or_init(|| {
            let staying = self.nodes.values().filter(|row| match row.state {
                Node::Joining | Node::Live | Node::Suspect | Node::Dead => true,
                Node::Draining | Node::Gone => false,
            });
            CopySets::new(&staying.map(domain).collect::<Vec<_>>())
        })
    }

    /// Disks that a copy may be recorded on, and whether it counts there: it does on a node that takes writes to the
    /// end (live or draining).
    pub(crate) fn disks_for_seal(&self) -> BTreeMap<(NodeId, DiskId), bool> {
        let present = self.disks.values().filter(|disk| disk.present);
        present
            .filter_map(|disk| {
                let counts = match self.nodes.get(&disk.node)?.state {
                    Node::Live | Node::Draining => true,
                    Node::Joining | Node::Suspect => false,
                    Node::Dead | Node::Gone => return None,
                };
                Some(((disk.node, disk.id), counts))
            })
            .collect()
    }

    /// The nodes as shown to people.
    pub(crate) fn holders(&self) -> BTreeMap<NodeId, Holder> {
        self.nodes
            .values()
            .map(|row| {
                let holder = Holder {
                    node: row.node,
                    name: row.name.clone(),
                    host: row.host.clone(),
                    zone: row.zone.clone(),
                };
                (row.node, holder)
            })
            .collect()
    }
}

/// What a node can be lost with.
pub(crate) fn domain(row: &NodeRow) -> Domain {
    Domain {
        node: row.node,
        zone: row.zone.clone(),
        host: row.host.clone(),
    }
}

/// The view in use. Guards the pair of view and age.
#[derive(Default)]
pub(crate) struct DirectoryCache(Mutex<Cached>);

#[derive(Default)]
struct Cached {
    view: Option<(Moment, Arc<Directory>)>,
    /// Counts changes, so that a view read before a change is not kept after it.
    changes: u64,
}

impl DirectoryCache {
    /// The next use reads anew.
    pub(crate) fn changed(&self) {
        let mut cached = self.0.lock();
        cached.view = None;
        cached.changes += 1;
    }
}

impl Cluster {
    /// Nodes and disks as applied here.
    pub(crate) async fn directory(&self) -> Result<Arc<Directory>, RpcError> {
        let now = self.clock.moment();
        let changes = {
            let cached = self.directory.0.lock();
            match &cached.view {
                Some((as_of, view)) if now.since(*as_of) < FRESH_FOR => return Ok(Arc::clone(view)),
                _ => cached.changes,
            }
        };
        let (nodes, disks) = self
            .read_local(|connection| Ok((nodes::all(connection)?, nodes::disks(connection)?)))
            .await?;
        let view = Arc::new(Directory::new(nodes, disks));
        let mut cached = self.directory.0.lock();
        if cached.changes == changes {
            cached.view = Some((now, Arc::clone(&view)));
        }
        Ok(view)
    }
}
