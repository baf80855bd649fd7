//! A replica: one stored copy of a chunk on a (node, disk), with a generation.

use super::IllegalMove;

states! {
    /// One copy of a chunk. A generation that was once marked leaving never counts again, whatever a late message says:
    /// a copy that is wanted on the same disk after all is a new generation.
    Replica is "replica" {
        /// Planned, or being received. Not readable, written by the one attempt it belongs to, does not count. Moved on
        /// by the cluster log: stored, when both nodes have made it durable; leaving, when the attempt failed.
        Writing = 1 "writing",
        /// Durable. Readable, counts as a copy, may be the source of further copies. Not writable. Moved on by the
        /// cluster log.
        Stored = 2 "stored",
        /// Failed a check, or its node is not heard from. Read only when nothing better is left; does not count, so
        /// that another copy is made; never dropped before that. Moved on by the cluster log: cleared by its
        /// digest, or leaving.
        Suspect = 3 "suspect",
        /// To be dropped by its node. Not readable under new grants, does not count, and never will. Moved on by
        /// the node, whose tombstone is a fsynced record.
        Leaving = 4 "leaving",
        /// The node's disk says that it is no more; a late write of the same attempt is refused. Final.
        Tombstoned = 5 "tombstoned",
    }
}

events! {
    /// What moves a replica.
    ReplicaEvent moves Replica {
        /// The copy is durable.
        Store -> Stored "replica.stored",
        /// A check failed, or its node is not heard from.
        Suspect -> Suspect "replica.suspected",
        /// Its digest was compared and is right.
        Clear -> Stored "replica.cleared",
        /// Surplus, bad, superseded, or its chunk is doomed.
        Leave -> Leaving "replica.leaving",
        /// The node has written the tombstone.
        Tombstone -> Tombstoned "replica.tombstoned",
    }
}

impl Replica {
    /// The state after `event`.
    pub const fn next(self, event: ReplicaEvent) -> Result<Self, IllegalMove> {
        use ReplicaEvent as On;
        match (self, event) {
            (Self::Writing, On::Store | On::Leave)
            | (Self::Stored, On::Suspect | On::Leave)
            | (Self::Suspect, On::Clear | On::Leave)
            | (Self::Leaving, On::Tombstone) => Ok(event.target()),
            (Self::Writing, On::Suspect | On::Clear | On::Tombstone)
            | (Self::Stored, On::Store | On::Clear | On::Tombstone)
            | (Self::Suspect, On::Store | On::Suspect | On::Tombstone)
            | (Self::Leaving, On::Store | On::Suspect | On::Clear | On::Leave)
            | (Self::Tombstoned, On::Store | On::Suspect | On::Clear)
            | (Self::Tombstoned, On::Leave | On::Tombstone) => Err(event.illegal_from(self)),
        }
    }

    /// Does it count towards the copies a chunk should have?
    pub const fn counts(self) -> bool {
        match self {
            Self::Stored => true,
            Self::Writing | Self::Suspect | Self::Leaving | Self::Tombstoned => false,
        }
    }

    /// May a new grant to read it be given? A suspect copy is the last resort, and its blocks are verified as all are.
    pub const fn may_be_read(self) -> bool {
        match self {
            Self::Stored | Self::Suspect => true,
            Self::Writing | Self::Leaving | Self::Tombstoned => false,
        }
    }
}
