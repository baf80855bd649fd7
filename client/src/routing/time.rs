//! The names group's time, as last told and counted on by the monotonic clock.

use std::time::Duration;

use common::time::{Clock, ClusterTime, Moment};
use parking_lot::Mutex;

/// Counted on for at most so long before the supernodes are asked again: group time stands still while there is no
/// leader, and the count would run ahead.
const COUNTED_MAX: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct NamesClock(Mutex<Option<(ClusterTime, Moment)>>);

impl NamesClock {
    /// A supernode said `time`.
    pub(super) fn set(&self, time: ClusterTime, clock: &Clock) {
        *self.0.lock() = Some((time, clock.moment()));
    }

    /// The time now; `None` where a supernode must be asked.
    pub(super) fn now(&self, clock: &Clock) -> Option<ClusterTime> {
        let (told, at) = (*self.0.lock())?;
        let elapsed = clock.moment().since(at);
        (elapsed <= COUNTED_MAX).then(|| told + elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::time::ManualTime;

    #[test]
    fn time_is_counted_on_for_a_while() {
        let time = ManualTime::default();
        let clock = time.clock();
        let names = NamesClock::default();
        assert_eq!(names.now(&clock), None);
        names.set(ClusterTime::from_millis(5_000), &clock);
        time.advance(Duration::from_secs(2));
        assert_eq!(names.now(&clock), Some(ClusterTime::from_millis(7_000)));
        time.advance(COUNTED_MAX);
        assert_eq!(names.now(&clock), None);
    }
}
