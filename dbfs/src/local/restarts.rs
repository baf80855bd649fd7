//! Which processes that ended are started again, and when: at once, but not one that never lasts.

use std::collections::BTreeMap;
use std::time::Duration;

use common::time::Moment;

/// A process that ends more often than this within the window is tried once a window from then on.
const RESTARTS_MAX: usize = 5;
/// How long a restart counts, and how long a process that never lasts is left alone.
pub(super) const RESTARTS_WINDOW: Duration = Duration::from_secs(60);

/// Each process by itself: one that never lasts keeps no other from being started.
#[derive(Debug, Default)]
pub(super) struct Restarts(BTreeMap<String, Record>);

#[derive(Debug, Default)]
struct Record {
    /// When it was started again lately.
    at: Vec<Moment>,
    /// When it is to be started next; `None` while it runs.
    due: Option<Moment>,
}

impl Restarts {
    /// The process `name` ended at `now`. Whether it is started again at once.
    pub(super) fn ended(&mut self, name: &str, now: Moment) -> bool {
        let record = self.0.entry(name.to_owned()).or_default();
        record.at.retain(|at| now.since(*at) < RESTARTS_WINDOW);
        let lasts = record.at.len() < RESTARTS_MAX;
        record.due = Some(if lasts { now } else { now + RESTARTS_WINDOW });
        lasts
    }

    /// The process `name` could not be started at `now`: it is left alone for a while.
    pub(super) fn gave_up(&mut self, name: String, now: Moment) {
        self.0.entry(name).or_default().due = Some(now + RESTARTS_WINDOW);
    }

    /// Everything that is left alone is to be started now.
    pub(super) fn all_due(&mut self) {
        for record in self.0.values_mut().filter(|record| record.due.is_some()) {
            record.due = Some(Moment::default());
        }
    }

    /// Whether the process `name` is to be started at `now`; it counts as started then.
    pub(super) fn is_due(&mut self, name: &str, now: Moment) -> bool {
        let Some(record) = self.0.get_mut(name) else {
            return false;
        };
        if record.due.is_none_or(|due| due > now) {
            return false;
        }
        record.due = None;
        record.at.push(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_never_lasts_is_tried_now_and_then_and_others_at_once() {
        let mut restarts = Restarts::default();
        let at = |millis| Moment::default() + Duration::from_millis(millis);
        assert!(!restarts.is_due("a", at(0)));
        for time in 0..RESTARTS_MAX as u64 {
            assert!(restarts.ended("a", at(time)));
            assert!(restarts.is_due("a", at(time)) && !restarts.is_due("a", at(time)));
        }
        assert!(!restarts.ended("a", at(10)));
        assert!(!restarts.is_due("a", at(1_000)));
        assert!(restarts.ended("b", at(1_000)) && restarts.is_due("b", at(1_000)));
        restarts.all_due();
        assert!(restarts.is_due("a", at(1_000)) && !restarts.is_due("b", at(1_000)));
        // Its cause may be gone later.
        restarts.gave_up("a".to_owned(), at(1_000));
        assert!(!restarts.is_due("a", at(60_000)) && restarts.is_due("a", at(61_000)));
    }
}
