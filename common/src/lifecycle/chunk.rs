//! A chunk: up to 64 MiB of a version, shared by every version whose manifest names it.

use super::IllegalMove;

states! {
    /// A chunk in the cluster log. A mark is a suspicion, which a re-check may lift; a doom is a judgement, which
    /// nothing lifts: that is why a seal may name a marked chunk and may never name a doomed one.
    Chunk is "chunk" {
        /// Readable; written once, while its upload is open; may be named by a new manifest. Repaired when copies are
        /// lost. Moved on by `Mark` (the leader, once no manifest seems to name it and its upload is not open).
        Live = 1 "live",
        /// As live in every respect, but waiting for a deadline in cluster time, which is kept beside the state. Moved
        /// on by `Doom` after the deadline, which looks again at the manifests when it is applied: doomed, or spared.
        Marked = 2 "marked",
        /// Readable only under grants that were given before; not repaired; may not be named: a seal that does is
        /// refused and the client sends the chunk again. Irreversible. Moved on by `Dropped`, once every node has
        /// written its tombstone; the nodes are told after the longest read grant has run out.
        Doomed = 3 "doomed",
        /// No copy is left. Final.
        Dropped = 4 "dropped",
    }
}

events! {
    /// What the cluster log applies to a chunk.
    ChunkEvent moves Chunk {
        /// `Mark` with a deadline.
        Mark -> Marked "chunk.marked",
        /// `Doom` was applied and found a manifest that names the chunk, or its upload open.
        Spare -> Live "chunk.spared",
        /// `Doom` was applied and found nothing that names the chunk.
        Doom -> Doomed "chunk.doomed",
        /// `Dropped`: every copy is tombstoned.
        Drop -> Dropped "chunk.dropped",
    }
}

impl Chunk {
    /// The state after `event`.
    pub const fn next(self, event: ChunkEvent) -> Result<Self, IllegalMove> {
        use ChunkEvent as On;
        match (self, event) {
            (Self::Live, On::Mark) | (Self::Marked, On::Spare | On::Doom) | (Self::Doomed, On::Drop) => {
                Ok(event.target())
            }
            (Self::Live, On::Spare | On::Doom | On::Drop)
            | (Self::Marked, On::Mark | On::Drop)
            | (Self::Doomed, On::Mark | On::Spare | On::Doom)
            | (Self::Dropped, On::Mark | On::Spare | On::Doom | On::Drop) => Err(event.illegal_from(self)),
        }
    }

    /// May a new manifest name it?
    pub const fn may_be_named(self) -> bool {
        match self {
            Self::Live | Self::Marked => true,
            Self::Doomed | Self::Dropped => false,
        }
    }
}
