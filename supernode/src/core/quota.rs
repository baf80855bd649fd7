//! A user's space: what is kept (the trash included, until it is released), and what open uploads have reserved.

use common::error::Kind;
use common::units::{ByteCount, CHUNK_BYTES_MAX};

use super::refusal::Refusal;

/// The largest version: as many whole chunks as a manifest may have.
pub(crate) const VERSION_BYTES_MAX: u64 = proto::CHUNKS_PER_VERSION_MAX as u64 * CHUNK_BYTES_MAX;

/// A quota and what is taken of it, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    limit: Option<u64>,
    used: u64,
    reserved: u64,
}

impl Quota {
    /// `limit` `None` means no limit.
    pub(crate) const fn new(limit: Option<u64>, used: u64, reserved: u64) -> Self {
        Self {
            limit,
            used,
            reserved,
        }
    }

    /// What a new version may still take; `None` means no limit.
    pub(crate) fn room(self) -> Option<u64> {
        let limit = self.limit?;
        Some(limit.saturating_sub(self.used).saturating_sub(self.reserved))
    }

    /// Whether `size` more bytes fit.
    ///
    /// # Errors
    /// `Full`, with the figures.
    pub(crate) fn admit(self, size: u64) -> Result<(), Refusal> {
        match self.limit.zip(self.room()) {
            Some((limit, room)) if size > room => Err(Refusal::new(
                Kind::Full,
                "E_QUOTA",
                format!(
                    "{} do not fit: {} of the quota of {} are left",
                    ByteCount::new(size),
                    ByteCount::new(room),
                    ByteCount::new(limit)
                ),
            )
            .hint("what is in the trash counts: `dbfs trash empty` releases it; or ask an administrator for more")),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_absent_limit_is_none() {
        assert!(Quota::new(None, u64::MAX, 7).admit(u64::MAX).is_ok());
        assert_eq!(Quota::new(Some(10), 20, 0).room(), Some(0));
        assert!(Quota::new(Some(10), 20, 0).admit(0).is_ok());
        let nothing = Quota::new(Some(0), 0, 0);
        assert!(nothing.admit(0).is_ok());
        assert_eq!(nothing.admit(1).map_err(|r| r.kind()), Err(Kind::Full));
        assert_eq!(
            Quota::new(Some(10), 9, 1).admit(1).map_err(|r| r.kind()),
            Err(Kind::Full)
        );
    }
}
