//! A node: one chunkserver, under the identity that its join entry gave it.

use super::IllegalMove;

states! {
    /// One chunkserver as the cluster log sees it.
    Node is "node" {
        /// Known, and being reconciled: what it holds is compared by digest before anything counts or goes. Not read,
        /// not written, not chosen. Moved on by the leader: admitted, or died.
        Joining = 1 "joining",
        /// Read, written and chosen for new data. Moved on by the leader (suspected) or the operator (draining).
        Live = 2 "live",
        /// Not heard from, for less than `dead_after`. Read when nothing better is left; writes in flight may end; not
        /// chosen for new data. Its copies are not replaced yet. Moved on by the leader: cleared, or died.
        Suspect = 3 "suspect",
        /// Not heard from for `dead_after`. Not read, not written, not chosen; its copies are made again elsewhere.
        /// Moved on by its return, which starts with joining, or by the operator: gone.
        Dead = 4 "dead",
        /// Being emptied. Read, as the source of copies too; writes in flight may end; not chosen for new data. Moved on
        /// by the leader (gone, once nothing is left on it; died) or the operator (kept).
        Draining = 5 "draining",
        /// Left for good; its identity is never used again, and its disks are new nodes when they come back. Final.
        Gone = 6 "gone",
    }
}

events! {
    /// What the cluster log applies to a node.
    NodeEvent moves Node {
        /// Reconciled with the log.
        Admit -> Live "node.admitted",
        /// Its connection closed or its heartbeats stopped.
        Suspect -> Suspect "node.suspected",
        /// Heard again in time.
        Clear -> Live "node.cleared",
        /// Not heard from for `dead_after`.
        Die -> Dead "node.died",
        /// A dead node is heard again. An order to drain that its death cut short has to be given again.
        Return -> Joining "node.returned",
        /// The operator wants it emptied.
        Drain -> Draining "node.draining",
        /// The operator takes the order to drain back.
        Keep -> Live "node.kept",
        /// A draining node is empty, or the operator gives a dead one up.
        Leave -> Gone "node.gone",
    }
}

impl Node {
    /// The state after `event`.
    pub const fn next(self, event: NodeEvent) -> Result<Self, IllegalMove> {
        use NodeEvent as On;
        match (self, event) {
            (Self::Joining, On::Admit | On::Die)
            | (Self::Live, On::Suspect | On::Drain)
            | (Self::Suspect, On::Clear | On::Die)
            | (Self::Dead, On::Return | On::Leave)
            | (Self::Draining, On::Die | On::Keep | On::Leave) => Ok(event.target()),
            (Self::Joining, On::Suspect | On::Clear | On::Return | On::Drain | On::Keep | On::Leave)
            | (Self::Live, On::Admit | On::Clear | On::Die | On::Return | On::Keep | On::Leave)
            | (Self::Suspect, On::Admit | On::Suspect | On::Return | On::Drain | On::Keep | On::Leave)
            | (Self::Dead, On::Admit | On::Suspect | On::Clear | On::Die | On::Drain | On::Keep)
            | (Self::Draining, On::Admit | On::Suspect | On::Clear | On::Return | On::Drain)
            | (Self::Gone, On::Admit | On::Suspect | On::Clear | On::Die)
            | (Self::Gone, On::Return | On::Drain | On::Keep | On::Leave) => Err(event.illegal_from(self)),
        }
    }

    /// May the planner choose it for new data?
    pub const fn may_be_chosen(self) -> bool {
        match self {
            Self::Live => true,
            Self::Joining | Self::Suspect | Self::Dead | Self::Draining | Self::Gone => false,
        }
    }

    /// May a new grant to read from it be given?
    pub const fn may_be_read(self) -> bool {
        match self {
            Self::Live | Self::Suspect | Self::Draining => true,
            Self::Joining | Self::Dead | Self::Gone => false,
        }
    }
}
