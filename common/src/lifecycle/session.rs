//! A session: the names layer's side of one upload, found again by its idempotency key.

use super::IllegalMove;

states! {
    /// The names layer's side of one upload. A key leads to one session for as long as the dedupe window lasts; the
    /// row is kept at least until the cluster has acknowledged how the session ended.
    Session is "session" {
        /// Nothing is visible yet: not readable; the client may write to the cluster the session names; holds its
        /// quota reservation. Moved on by `Publish` (from the cluster leader) or by `AbortUpload` (from the client, or
        /// from the names layer when the session has been silent too long).
        Open = 1 "open",
        /// The path has pointed at the version since this was applied: readable. Not writable. Final.
        Published = 2 "published",
        /// The condition, a right or the quota failed when publish was applied: never readable, not writable. Final.
        Refused = 3 "refused",
        /// Given up before it was published: never readable; a publish that comes later is answered "refused". Final.
        /// Only from here, or from refused, may a client report failure.
        Aborted = 4 "aborted",
    }
}

events! {
    /// What the names log applies to a session.
    SessionEvent moves Session {
        /// `Publish` was applied and every condition held.
        Publish -> Published "session.published",
        /// `Publish` was applied and a condition did not hold.
        Refuse -> Refused "session.refused",
        /// `AbortUpload` was applied.
        Abort -> Aborted "session.aborted",
    }
}

impl Session {
    /// The state after `event`.
    pub const fn next(self, event: SessionEvent) -> Result<Self, IllegalMove> {
        match (self, event) {
            (Self::Open, SessionEvent::Publish | SessionEvent::Refuse | SessionEvent::Abort) => {
                Ok(event.target())
            }
            (
                Self::Published | Self::Refused | Self::Aborted,
                SessionEvent::Publish | SessionEvent::Refuse | SessionEvent::Abort,
            ) => Err(event.illegal_from(self)),
        }
    }

    /// May a client report that the upload failed? Everything else is "published" or "outcome unknown".
    pub const fn may_be_reported_failed(self) -> bool {
        match self {
            Self::Refused | Self::Aborted => true,
            Self::Open | Self::Published => false,
        }
    }
}
