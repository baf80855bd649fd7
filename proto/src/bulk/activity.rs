//! Whether anything moves on a connection: the difference between a slow link and a dead one.
//!
//! A wait on the data plane has no limit for a whole frame, which a slow link may not keep. It ends when nothing at all
//! moved for its limit. Bytes that this side handed to the operating system say little about the other side, so whoever
//! receives payload says so from time to time (PROGRESS frames), and whoever sends counts that as movement.
//!
//! Invariant: PROGRESS is sent for payload alone. Two sides that wait for each other therefore hear nothing, and notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::time::Clock;

/// A wait looks so many times per limit.
const LOOKS_PER_LIMIT: u32 = 8;

/// What one connection has moved so far; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Activity(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    read: AtomicU64,
    written: AtomicU64,
    payload: AtomicU64,
}

impl Activity {
    /// Bytes that arrived, of every kind.
    pub fn read(&self) -> u64 {
        self.0.read.load(Ordering::Relaxed)
    }

    /// Bytes that moved in either direction.
    pub fn moved(&self) -> u64 {
        self.read().wrapping_add(self.0.written.load(Ordering::Relaxed))
    }

    /// Bytes of blocks that arrived.
    pub fn payload(&self) -> u64 {
        self.0.payload.load(Ordering::Relaxed)
    }

    pub(super) fn add_read(&self, bytes: usize) {
        self.0.read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn add_written(&self, bytes: usize) {
        self.0.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn add_payload(&self, bytes: usize) {
        self.0.payload.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Waits for `work` while `count` goes on changing; `None` once it has not changed for `limit` (an eighth more at most).
/// `look` runs several times per limit, also where nothing moves.
pub async fn while_moving<T>(
    clock: &Clock,
    limit: Duration,
    count: impl Fn() -> u64,
    work: impl Future<Output = T>,
    mut look: impl FnMut(),
) -> Option<T> {
    let mut work = std::pin::pin!(work);
    let mut quiet = Quiet::new(count());
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Some(done),
            () = clock.sleep(tick(limit)) => {}
        }
        look();
        if quiet.lasts(count()) {
            return None;
        }
    }
}

/// The time between two looks at a wait with `limit`.
pub(super) fn tick(limit: Duration) -> Duration {
    (limit / LOOKS_PER_LIMIT).max(Duration::from_millis(1))
}

/// How many looks in a row saw nothing new.
#[derive(Debug)]
pub(super) struct Quiet {
    seen: u64,
    looks: u32,
}

impl Quiet {
    pub(super) const fn new(seen: u64) -> Self {
        Self { seen, looks: 0 }
    }

    /// Takes in one more look; returns whether the limit is reached.
    pub(super) const fn lasts(&mut self, now: u64) -> bool {
        if now != self.seen {
            self.seen = now;
            self.looks = 0;
            return false;
        }
        self.looks += 1;
        self.looks > LOOKS_PER_LIMIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Moves time on in small steps until `waiting` has ended.
    async fn settle<T>(time: &common::time::ManualTime, waiting: impl Future<Output = T>) -> (T, Duration) {
        let begun = time.clock().moment();
        let mut waiting = std::pin::pin!(waiting);
        loop {
            tokio::select! {
                biased;
                done = &mut waiting => return (done, time.clock().moment().since(begun)),
                () = tokio::task::yield_now() => time.advance(Duration::from_millis(10)),
            }
        }
    }

    #[tokio::test]
    async fn slow_is_not_stuck() {
        let time = common::time::ManualTime::default();
        let clock = time.clock();
        let activity = Activity::default();
        let limit = Duration::from_secs(1);
        // Ten bytes, one in 0.9 s each: nine times the limit in all.
        let trickle = async {
            for _ in 0..10 {
                clock.sleep(Duration::from_millis(900)).await;
                activity.add_read(1);
            }
            "arrived"
        };
        let waiting = while_moving(&clock, limit, || activity.moved(), trickle, || {});
        assert_eq!(settle(&time, waiting).await.0, Some("arrived"));

        let stuck = std::future::pending::<()>();
        let waiting = while_moving(&clock, limit, || activity.moved(), stuck, || {});
        let (outcome, took) = settle(&time, waiting).await;
        assert_eq!(outcome, None);
        assert!(took >= limit && took < limit * 2, "{took:?}");
    }
}
