//! Cluster time: a counter that only leaders advance, and what each member may say of it.
//!
//! Invariants (P7):
//! - committed stamps never go back: a leader stamps at least what is applied, and applying takes the highest;
//! - [`Timekeeper::now`] is never above what any later leader stamps. A leader runs ahead of what it has applied by at
//!   most `ahead_max`, and a new leader begins by that much above everything committed before it.

use std::time::Duration;

use common::ids::Epoch;
use common::time::{Clock, ClusterTime, Moment};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::state::Applied;

/// What this member knows about time.
pub(crate) struct Timekeeper {
    clock: Clock,
    position: watch::Receiver<Applied>,
    leading: watch::Sender<Option<Leading>>,
    heard: Mutex<Heard>,
    ahead_max: Duration,
}

/// Our leadership, in force: its `LeaderStarted` is applied here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Leading {
    pub(crate) term: u64,
    pub(crate) epoch: Epoch,
    /// Cluster time at `since`.
    base: ClusterTime,
    since: Moment,
}

#[derive(Clone, Copy, Default)]
struct Heard {
    time: ClusterTime,
    at: Option<Moment>,
    /// When `time` last went on. A leader without a quorum soon says the same time over and over.
    advanced: Option<Moment>,
}

impl Timekeeper {
    /// `tick` is how often an idle leader commits.
    pub(crate) fn new(clock: Clock, position: watch::Receiver<Applied>, tick: Duration) -> Self {
        Self {
            clock,
            position,
            leading: watch::Sender::new(None),
            heard: Mutex::new(Heard::default()),
            ahead_max: tick * 2,
        }
    }

    /// The estimate for callers.
    pub(crate) fn now(&self) -> ClusterTime {
        let applied = self.position.borrow().time;
        let leading = *self.leading.borrow();
        match leading {
            Some(leading) => {
                let estimate = leading.base + self.clock.moment().since(leading.since);
                estimate.max(applied).min(applied + self.ahead_max)
            }
            None => applied.max(self.heard.lock().time),
        }
    }

    /// Our leadership, if it is in force.
    pub(crate) fn leading(&self) -> Option<Leading> {
        *self.leading.borrow()
    }

    /// Changes of [`Timekeeper::leading`].
    pub(crate) fn watch(&self) -> watch::Receiver<Option<Leading>> {
        self.leading.subscribe()
    }

    /// What the next entry of `leading` is stamped with.
    pub(crate) fn stamp(&self, leading: Leading) -> ClusterTime {
        let applied = self.position.borrow().time;
        applied.max(leading.base + self.clock.moment().since(leading.since))
    }

    /// What a new leader stamps `LeaderStarted` with, once everything before its leadership is applied here.
    pub(crate) fn first_stamp(&self) -> ClusterTime {
        let position = self.position.borrow();
        match position.leadership {
            Some(_) => position.time + self.ahead_max,
            None => position.time,
        }
    }

    /// How long ago, in cluster time, the last entry was stamped.
    pub(crate) fn idle(&self, leading: Leading) -> Duration {
        self.stamp(leading).since(self.position.borrow().time)
    }

    /// `LeaderStarted` of `term` is applied at `epoch`.
    pub(crate) fn begin(&self, term: u64, epoch: Epoch) {
        let leading = Leading {
            term,
            epoch,
            base: self.position.borrow().time,
            since: self.clock.moment(),
        };
        self.leading.send_replace(Some(leading));
    }

    /// We lead no more.
    pub(crate) fn end(&self) {
        self.leading.send_if_modified(|leading| leading.take().is_some());
    }

    /// A leader said that it is `millis`.
    pub(crate) fn heard(&self, millis: u64) {
        let at = self.clock.moment();
        let said = ClusterTime::from_millis(millis);
        let mut heard = self.heard.lock();
        if said > heard.time {
            heard.time = said;
            heard.advanced = Some(at);
        }
        heard.at = Some(at);
    }

    /// How long the group's time, as leaders say it, has stood still; `None` if none was ever heard.
    pub(crate) fn standing_still(&self) -> Option<Duration> {
        let at = self.heard.lock().advanced?;
        Some(self.clock.moment().since(at))
    }

    /// How long our leadership has been in force; `None` while we do not lead.
    pub(crate) fn leading_for(&self) -> Option<Duration> {
        let leading = self.leading()?;
        Some(self.clock.moment().since(leading.since))
    }

    /// How long no leader was heard; `None` if none ever was.
    pub(crate) fn unheard(&self) -> Option<Duration> {
        let at = self.heard.lock().at?;
        Some(self.clock.moment().since(at))
    }
}

#[cfg(test)]
mod tests {
    use common::time::ManualTime;

    use super::*;
    use crate::schema::Leadership;

    fn at(millis: u64) -> Applied {
        Applied {
            time: ClusterTime::from_millis(millis),
            leadership: Some(Leadership::default()),
            ..Applied::default()
        }
    }

    #[test]
    fn no_estimate_is_above_what_the_next_leader_stamps() {
        let time = ManualTime::default();
        let tick = Duration::from_secs(2);
        let (old_position, watched) = watch::channel(at(1_000));
        let old = Timekeeper::new(time.clock(), watched, tick);
        old.begin(1, Epoch::new(5));
        time.advance(Duration::from_millis(700));
        assert_eq!(old.now().as_millis(), 1_700);
        // The old leader is cut off and goes on believing; the new one has applied what was committed.
        time.advance(Duration::from_secs(60));
        let (_new_position, watched) = watch::channel(at(1_000));
        let new = Timekeeper::new(time.clock(), watched, tick);
        assert!(old.now() <= new.first_stamp());
        old_position.send_replace(at(90_000));
        assert!(old.now() >= ClusterTime::from_millis(90_000));
        old.end();
        assert_eq!(old.leading(), None);
    }

    #[test]
    fn followers_follow_the_heartbeats() {
        let time = ManualTime::default();
        let (_position, watched) = watch::channel(at(10));
        let keeper = Timekeeper::new(time.clock(), watched, Duration::from_secs(2));
        assert_eq!(keeper.unheard(), None);
        keeper.heard(500);
        keeper.heard(400);
        time.advance(Duration::from_secs(3));
        assert_eq!(keeper.now().as_millis(), 500);
        assert_eq!(keeper.unheard(), Some(Duration::from_secs(3)));
        // A leader without a quorum goes on saying what it said.
        keeper.heard(500);
        assert_eq!(keeper.unheard(), Some(Duration::ZERO));
        assert_eq!(keeper.standing_still(), Some(Duration::from_secs(3)));
        keeper.heard(501);
        assert_eq!(keeper.standing_still(), Some(Duration::ZERO));
    }
}
