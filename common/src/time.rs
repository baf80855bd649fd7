//! The clock seam and cluster time.
//!
//! Invariant (P7): no decision rests on a wall clock. Durations are measured on a monotonic clock; deadlines that
//! several processes must agree on are [`ClusterTime`]. Wall time is for people: listings, logs, certificates.

use std::future::Future;
use std::ops::Add;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// A point on one process's monotonic clock. Means nothing to another process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Moment(Duration);

impl Moment {
    /// The moment `elapsed` after the clock's beginning.
    pub const fn new(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;
    fn add(self, span: Duration) -> Moment {
        Moment(self.0.saturating_add(span))
    }
}

/// Milliseconds of a group's replicated time: a counter which the leader advances by its monotonic clock and which
/// stands still while there is no leader. Never compared between groups.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct ClusterTime(u64);

impl ClusterTime {
    /// So many milliseconds after the group was founded.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the group was founded.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: ClusterTime) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for ClusterTime {
    type Output = ClusterTime;
    fn add(self, span: Duration) -> ClusterTime {
        ClusterTime(
            self.0
                .saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
        )
    }
}

/// Milliseconds since 1970 by the wall clock. Shown to people, compared by nobody.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct WallTime(u64);

impl WallTime {
    /// So many milliseconds since 1970-01-01 00:00 UTC.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970-01-01 00:00 UTC.
    pub const fn as_millis(self) -> u64 {
        self.0
    }
}

/// A sleep that has been asked for.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where time comes from. Implementations: the machine's clocks, and [`ManualTime`] for tests.
pub trait TimeSource: Send + Sync {
    /// The monotonic clock; never goes back.
    fn moment(&self) -> Moment;
    /// The wall clock; may jump either way.
    fn wall(&self) -> WallTime;
    /// Resolves once the monotonic clock has advanced by `span`.
    fn sleep(&self, span: Duration) -> Sleep;
}

/// A cloneable handle to a source of time.
#[derive(Clone)]
pub struct Clock(Arc<dyn TimeSource>);

impl Clock {
    /// The machine's clocks, through tokio.
    pub fn real() -> Self {
        #[allow(clippy::disallowed_methods, reason = "this is the clock")]
        let start = tokio::time::Instant::now();
        Self(Arc::new(RealTime { start }))
    }

    /// Time from `source`.
    pub fn from_source(source: Arc<dyn TimeSource>) -> Self {
        Self(source)
    }

    /// The current moment.
    pub fn moment(&self) -> Moment {
        self.0.moment()
    }

    /// The wall clock, for people.
    pub fn wall(&self) -> WallTime {
        self.0.wall()
    }

    /// Waits for `span`.
    pub async fn sleep(&self, span: Duration) {
        self.0.sleep(span).await;
    }

    /// Runs `work` for at most `span`; `None` when the time is up. `work` is dropped then.
    pub async fn timeout<F: Future>(&self, span: Duration, work: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = work => Some(output),
            () = self.sleep(span) => None,
        }
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clock({:?})", self.moment())
    }
}

struct RealTime {
    start: tokio::time::Instant,
}

#[allow(clippy::disallowed_methods, reason = "this is the clock")]
impl TimeSource for RealTime {
    fn moment(&self) -> Moment {
        Moment(tokio::time::Instant::now().duration_since(self.start))
    }

    fn wall(&self) -> WallTime {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn sleep(&self, span: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(span))
    }
}

/// Time that moves only when a test says so.
#[derive(Clone, Default)]
pub struct ManualTime(Arc<Mutex<ManualState>>);

#[derive(Default)]
struct ManualState {
    now: Duration,
    sleepers: Vec<(Duration, tokio::sync::oneshot::Sender<()>)>,
}

impl ManualTime {
    /// A clock that reads this time.
    pub fn clock(&self) -> Clock {
        Clock(Arc::new(self.clone()))
    }

    /// Moves time forward and wakes whoever slept until then.
    pub fn advance(&self, span: Duration) {
        let mut state = self.0.lock();
        state.now += span;
        let now = state.now;
        let (due, waiting) = state.sleepers.drain(..).partition(|(until, _)| *until <= now);
        state.sleepers = waiting;
        let due: Vec<_> = due;
        drop(state);
        for (_, wake) in due {
            // A sleeper that was dropped needs no waking.
            let _ = wake.send(());
        }
    }
}

impl TimeSource for ManualTime {
    fn moment(&self) -> Moment {
        Moment(self.0.lock().now)
    }

    fn wall(&self) -> WallTime {
        WallTime(self.0.lock().now.as_millis() as u64)
    }

    fn sleep(&self, span: Duration) -> Sleep {
        let (wake, woken) = tokio::sync::oneshot::channel();
        let mut state = self.0.lock();
        let until = state.now + span;
        state.sleepers.push((until, wake));
        Box::pin(async move {
            let _ = woken.await;
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn manual_time_wakes_those_who_are_due() {
        let time = ManualTime::default();
        let clock = time.clock();
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move {
                clock
                    .timeout(Duration::from_secs(5), std::future::pending::<()>())
                    .await
            }
        });
        tokio::task::yield_now().await;
        time.advance(Duration::from_secs(6));
        assert!(sleeper.await.is_ok_and(|outcome| outcome.is_none()));
        assert_eq!(clock.moment().since(Moment::default()), Duration::from_secs(6));
    }

    #[test]
    fn cluster_time_saturates() {
        let late = ClusterTime::from_millis(u64::MAX) + Duration::from_secs(1);
        assert_eq!(late.as_millis(), u64::MAX);
        assert_eq!(ClusterTime::default().since(late), Duration::ZERO);
    }
}
