//! A user's space: what is kept (the trash included, until it is released), and what open uploads have reserved.

use common::error::Kind;
use common::units::{ByteCount, CHUNK_BYTES_MAX};

use super::refusal::Refusal;

/// The largest version: as many whole chunks as a manifest may have.
pub(crate) const VERSION_BYTES_MAX: u64 = proto::CHUNKS_PER_VERSION_MAX as u64 * CHUNK_BYTES_MAX;

/// A quota and what is taken of it, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    limit: u64,
    used: u64,
    reserved: u64,
}

impl Quota {
    /// `limit` 0 means no limit.
    pub(crate) const fn new(limit: u64, used: u64, reserved: u64) -> Self {
        Self {
            limit,
            used,
            reserved,
        }
    }

    /// What a new version may still take; `None` means no limit.
    pub(crate) const fn room(self) -> Option<u64> {
        if self.limit == 0 {
            return None;
        }
        Some(self.limit.saturating_sub(self.used).saturating_sub(self.reserved))
    }

    /// Whether `size` more bytes fit.
    ///
    /// # Errors
    /// `Full`, with the figures.
    pub(crate) fn admit(self, size: u64) -> Result<(), Refusal> {
        match self.room() {
            Some(room) if size > room => Err(Refusal::new(
                Kind::Full,
                "E_QUOTA",
                format!(
                    "{} do not fit: {} of the quota of {} are left",
                    ByteCount::new(size),
                    ByteCount::new(room),
                    ByteCount::new(self.limit)
                ),
            )
            .hint("delete files (permanently, to skip the trash) or ask an administrator for more")),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_means_no_limit() {
        assert!(Quota::new(0, u64::MAX, 7).admit(u64::MAX).is_ok());
        assert_eq!(Quota::new(10, 20, 0).room(), Some(0));
        assert!(Quota::new(10, 20, 0).admit(0).is_ok());
        assert_eq!(
            Quota::new(10, 9, 1).admit(1).map_err(|r| r.kind()),
            Err(Kind::Full)
        );
    }
}
