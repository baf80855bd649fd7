//! What can be done about an error. Every error enum of ours maps to a [`Kind`]; only kinds drive retries.

use std::fmt;

/// What a caller can do about an error.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Passing: the same request may succeed if it is sent again, here or elsewhere.
    Retry,
    /// Sent to a member that does not lead: send it to the one that does.
    NotLeader,
    /// Made under an epoch, generation or plan which is no longer in force: make it anew.
    Stale,
    /// The thing named does not exist, or the caller may not know that it does.
    NotFound,
    /// The caller is who they say but may not do this, or did not say who they are.
    Denied,
    /// A limit is reached: try again after the stated time.
    Busy,
    /// Bytes failed their checksum.
    Corrupt,
    /// No space, or over quota.
    Full,
    /// A condition of the caller's did not hold (`if-match`, existence).
    Conflict,
    /// The request can never succeed as it is.
    Invalid,
    /// This process must not go on.
    Fatal,
}

impl Kind {
    /// All kinds, in wire order.
    pub const ALL: [Kind; 11] = [
        Kind::Retry,
        Kind::NotLeader,
        Kind::Stale,
        Kind::NotFound,
        Kind::Denied,
        Kind::Busy,
        Kind::Corrupt,
        Kind::Full,
        Kind::Conflict,
        Kind::Invalid,
        Kind::Fatal,
    ];

    /// Whether the same request may succeed later or elsewhere without anyone changing it.
    pub const fn is_passing(self) -> bool {
        matches!(self, Kind::Retry | Kind::NotLeader | Kind::Stale | Kind::Busy)
    }

    /// The stable number of this kind on the wire, from 1.
    pub fn code(self) -> u32 {
        Self::ALL
            .iter()
            .position(|kind| *kind == self)
            .map_or(0, |at| at as u32 + 1)
    }

    /// The inverse of [`Kind::code`]; what a newer peer invented is treated as passing.
    pub fn from_code(code: u32) -> Kind {
        let at = usize::try_from(code).unwrap_or(0).wrapping_sub(1);
        Self::ALL.get(at).copied().unwrap_or(Kind::Retry)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An error and the errors below it, on one line: `open segment: permission denied`.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(below) = source {
        let below_text = below.to_string();
        if !text.ends_with(&below_text) {
            text.push_str(": ");
            text.push_str(&below_text);
        }
        source = below.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_keep_their_wire_numbers() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_code(kind.code()), kind);
        }
        assert_eq!(Kind::Retry.code(), 1);
        assert_eq!(Kind::Fatal.code(), 11);
        assert_eq!(Kind::from_code(99), Kind::Retry);
    }
}
