//! A version: one immutable content of a file, from its manifest to its end.
//!
//! Two logs hold a row for it. The names log says what it means (published, refused, trashed, released) and is the only
//! one to do so; the cluster log seals it, hears from the names layer what became of it, and reclaims it. The invariant:
//! the cluster is behind the names log or level with it, never ahead, so that "unknown" never becomes "refused" and
//! nothing sealed is reclaimed but on a committed release or refusal.
//!
//! [`Version::next`] is the whole life. [`Version::heard`] is the cluster's row, which may skip what it was never told:
//! the cluster does not know the trash, and a release that overtakes the news of the publication says both.

use super::IllegalMove;

states! {
    /// One immutable content of a file.
    Version is "version" {
        /// Has a manifest, is not visible: not readable by anyone who follows a name. Never writable, here or later.
        /// Holds its chunks. Moved on by the names log alone: published or refused, however long that takes.
        Sealed = 1 "sealed",
        /// Readable by its name (until a later version takes the name, and then it is trashed). Holds its chunks, which
        /// an update may name again. Moved on by the names log: trashed.
        Published = 2 "published",
        /// Never was and never will be readable. No longer holds its chunks. Moved on by the cluster log: gone.
        Refused = 3 "refused",
        /// Readable through the trash only. Holds its chunks. Moved on by the names log: restored, or released when its
        /// time in the trash is over. The cluster is not told.
        Trashed = 4 "trashed",
        /// Not readable, but for reads that began before and whose grants still run. No longer holds its chunks. There
        /// is no way back. Moved on by the cluster log: gone.
        Released = 5 "released",
        /// Its manifest has been removed. Final.
        Gone = 6 "gone",
    }
}

events! {
    /// What moves a version.
    VersionEvent moves Version {
        /// Names log: publish was applied and every condition held.
        Publish -> Published "version.published",
        /// Names log: publish was applied and a condition did not hold, or the session was aborted.
        Refuse -> Refused "version.refused",
        /// Names log: deleted, or another version took the name.
        Trash -> Trashed "version.trashed",
        /// Names log: taken out of the trash.
        Restore -> Published "version.restored",
        /// Names log: its time in the trash is over; an outbox row per cluster goes with it.
        Release -> Released "version.released",
        /// Cluster log: none of its chunks is waiting for it any more.
        Reclaim -> Gone "version.gone",
    }
}

/// What a row of the cluster log does when it hears an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Heard {
    /// The row moves to this state.
    Moves(Version),
    /// Late or doubled: the row is already there or beyond. Acknowledged again, nothing changes.
    OldNews,
}

impl Version {
    /// The state after `event`: the whole life, as the names log and the reclaiming cluster move it.
    pub const fn next(self, event: VersionEvent) -> Result<Self, IllegalMove> {
        use VersionEvent as On;
        match (self, event) {
            (Self::Sealed, On::Publish | On::Refuse)
            | (Self::Published, On::Trash)
            | (Self::Trashed, On::Restore | On::Release)
            | (Self::Refused | Self::Released, On::Reclaim) => Ok(event.target()),
            (Self::Sealed, On::Trash | On::Restore | On::Release | On::Reclaim)
            | (Self::Published, On::Publish | On::Refuse | On::Restore | On::Release | On::Reclaim)
            | (Self::Trashed, On::Publish | On::Refuse | On::Trash | On::Reclaim)
            | (Self::Refused | Self::Released, On::Publish | On::Refuse | On::Trash)
            | (Self::Refused | Self::Released, On::Restore | On::Release)
            | (Self::Gone, On::Publish | On::Refuse | On::Trash)
            | (Self::Gone, On::Restore | On::Release | On::Reclaim) => Err(event.illegal_from(self)),
        }
    }

    /// What the cluster log's row does when `event` is applied to it. An error is a contradiction between the two
    /// logs (refused after published, say) and calls for an operator: nothing is reclaimed on it.
    pub const fn heard(self, event: VersionEvent) -> Result<Heard, IllegalMove> {
        use VersionEvent as On;
        match (self, event) {
            (Self::Sealed, On::Publish | On::Refuse | On::Release)
            | (Self::Published, On::Release)
            | (Self::Refused | Self::Released, On::Reclaim) => Ok(Heard::Moves(event.target())),
            (Self::Published, On::Publish)
            | (Self::Refused, On::Refuse)
            | (Self::Released, On::Publish | On::Release)
            | (Self::Gone, On::Publish | On::Refuse | On::Release | On::Reclaim) => Ok(Heard::OldNews),
            (Self::Sealed, On::Reclaim)
            | (Self::Published, On::Refuse | On::Reclaim)
            | (Self::Refused, On::Publish | On::Release)
            | (Self::Released, On::Refuse)
            | (Self::Trashed, On::Publish | On::Refuse | On::Release | On::Reclaim)
            | (
                Self::Sealed | Self::Published | Self::Refused | Self::Trashed | Self::Released | Self::Gone,
                On::Trash | On::Restore,
            ) => Err(event.illegal_from(self)),
        }
    }

    /// Does its manifest keep the chunks it names from being doomed?
    pub const fn holds_chunks(self) -> bool {
        match self {
            Self::Sealed | Self::Published | Self::Trashed => true,
            Self::Refused | Self::Released | Self::Gone => false,
        }
    }

    /// Is what became of it known: published or refused, or later than that?
    pub const fn has_outcome(self) -> bool {
        match self {
            Self::Sealed => false,
            Self::Published | Self::Refused | Self::Trashed | Self::Released | Self::Gone => true,
        }
    }
}
