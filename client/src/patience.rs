//! Nodes that ask for a moment: waiting for them is no failure, and has a limit of its own.
//!
//! Invariant: Busy never counts as a failed try. Whoever is told to wait comes back with backoff and jitter, until
//! [`crate::Limits::busy_wait_max`] has passed without any progress.

use std::time::Duration;

use common::error::Kind;
use common::retry::{Backoff, Schedule};
use common::time::Moment;
use proto::bulk::error::Error as DataError;
use proto::bulk::grant;

use crate::settings::Settings;

const WAITS: Schedule = Schedule {
    first: Duration::from_millis(50),
    longest: Duration::from_secs(2),
    tries_max: u32::MAX,
};

/// Whether the node serves, and asks for a moment: it is busy, or has not heard the newest leader's keys yet. No reason to
/// avoid it.
pub(crate) fn is_busy(error: &DataError) -> bool {
    match error {
        DataError::NoneFree { .. } => true,
        DataError::Failed(failure) => {
            failure.kind == Kind::Busy || failure.code == grant::Error::UnknownKey.code()
        }
        DataError::Refused { goodbye, .. } => goodbye.kind == Kind::Busy,
        _ => false,
    }
}

/// The waits of one piece of work.
pub(crate) struct Patience {
    backoff: Backoff,
    since: Option<Moment>,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self {
            backoff: WAITS.start(),
            since: None,
        }
    }

    /// Something has moved: the limit and the waits begin anew.
    pub(crate) fn progress(&mut self) {
        *self = Self::new();
    }

    /// How long to wait, at least `floor`; `None` once the limit is reached.
    pub(crate) fn next(&mut self, settings: &Settings, floor: Duration) -> Option<Duration> {
        let now = settings.seams.clock.moment();
        let since = *self.since.get_or_insert(now);
        if now.since(since) >= settings.limits.busy_wait_max {
            return None;
        }
        let wait = self.backoff.next(&settings.seams.random, Duration::ZERO)?;
        // What a node asks for is a floor, with jitter on top: those it told to wait must not come back together.
        Some(floor + wait)
    }
}
