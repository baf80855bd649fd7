//! The gate that queries pass: who is at work, and whether new ones wait so that the write-ahead log can begin anew.
//!
//! SQLite begins its write-ahead log anew only when no reader is at work. While the gate is held nobody begins; the end
//! of the last query asks for a checkpoint, so that nothing depends on a next commit.
//!
//! Invariants: no query waits here for longer than [`HOLD_MAX`]; readers that this gate does not count (a snapshot that
//! is copied) keep nobody waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::time::{Clock, Moment};
use parking_lot::Mutex;
use tokio::sync::watch;

/// How long new queries wait at most.
const HOLD_MAX: Duration = Duration::from_secs(1);
/// How long nobody is held after a hold that led to nothing.
const REST: Duration = Duration::from_secs(4);

pub(super) struct Gate {
    clock: Clock,
    standing: Mutex<Standing>,
    /// Whether new queries wait.
    held: watch::Sender<bool>,
    /// How often they did.
    holds: AtomicU64,
    /// Asks for a checkpoint.
    ask: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Standing {
    /// Queries at work.
    running: usize,
    /// Since when new ones are held.
    since: Option<Moment>,
    /// No new hold before.
    rest_until: Option<Moment>,
}

/// A query at work.
pub(super) struct Pass(Arc<Gate>);

impl Gate {
    /// A gate that calls `ask` when the last query ends while new ones are held.
    pub(super) fn new(clock: Clock, ask: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            clock,
            standing: Mutex::default(),
            held: watch::Sender::new(false),
            holds: AtomicU64::new(0),
            ask: Box::new(ask),
        }
    }

    /// Lets a query begin, at once or after the hold.
    pub(super) async fn pass(self: &Arc<Self>) -> Pass {
        let mut held = self.held.subscribe();
        let opened = async {
            while !self.try_begin() {
                // The sender is in `self`: this does not fail.
                let _ = held.wait_for(|held| !held).await;
            }
        };
        if self.clock.timeout(HOLD_MAX, opened).await.is_none() {
            self.end_long_hold();
            self.standing.lock().running += 1;
        }
        Pass(Arc::clone(self))
    }

    fn try_begin(&self) -> bool {
        let mut standing = self.standing.lock();
        let free = standing.since.is_none();
        standing.running += usize::from(free);
        free
    }

    /// Keeps new queries waiting, unless that led to nothing a short while ago; whether they wait.
    pub(super) fn hold(&self) -> bool {
        self.end_long_hold();
        let now = self.clock.moment();
        let mut standing = self.standing.lock();
        if standing.since.is_some() {
            return true;
        }
        if standing.rest_until.is_some_and(|until| now < until) {
            return false;
        }
        standing.since = Some(now);
        self.holds.fetch_add(1, Ordering::Relaxed);
        self.held.send_replace(true);
        true
    }

    /// Whether new queries wait.
    pub(super) fn is_held(&self) -> bool {
        self.standing.lock().since.is_some()
    }

    /// Whether new queries wait and none is at work: a checkpoint that is not complete now has another reader in its way.
    pub(super) fn is_clear(&self) -> bool {
        let standing = self.standing.lock();
        standing.since.is_some() && standing.running == 0
    }

    /// Queries go on, and may be held again whenever that is needed.
    pub(super) fn release(&self) {
        let mut standing = self.standing.lock();
        standing.rest_until = None;
        if standing.since.take().is_some() {
            self.held.send_replace(false);
        }
    }

    /// Queries go on, and are not held again for a while.
    pub(super) fn give_up(&self) {
        self.rest(&mut self.standing.lock());
    }

    fn end_long_hold(&self) {
        let now = self.clock.moment();
        let mut standing = self.standing.lock();
        if standing.since.is_some_and(|since| now.since(since) >= HOLD_MAX) {
            self.rest(&mut standing);
        }
    }

    fn rest(&self, standing: &mut Standing) {
        if standing.since.take().is_some() {
            standing.rest_until = Some(self.clock.moment() + REST);
            self.held.send_replace(false);
        }
    }

    /// How often queries were held.
    pub(super) fn holds(&self) -> u64 {
        self.holds.load(Ordering::Relaxed)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut standing = self.0.standing.lock();
        standing.running = standing.running.saturating_sub(1);
        let last = standing.running == 0 && standing.since.is_some();
        drop(standing);
        if last {
            (self.0.ask)();
        }
    }
}

#[cfg(test)]
mod tests {
    use common::time::ManualTime;

    use super::*;

    fn gate() -> (ManualTime, Arc<Gate>, Arc<AtomicU64>) {
        let time = ManualTime::default();
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        let ask = move || {
            count.fetch_add(1, Ordering::SeqCst);
        };
        let gate = Arc::new(Gate::new(time.clock(), ask));
        (time, gate, asked)
    }

    #[tokio::test]
    async fn the_end_of_the_last_query_asks_for_the_checkpoint_that_new_ones_wait_for() {
        let (_time, gate, asked) = gate();
        drop(gate.pass().await);
        assert_eq!(asked.load(Ordering::SeqCst), 0, "nobody waits");
        let (one, other) = (gate.pass().await, gate.pass().await);
        assert!(gate.hold());
        assert!(!gate.is_clear());
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.pass().await }
        });
        drop(one);
        tokio::task::yield_now().await;
        assert_eq!(asked.load(Ordering::SeqCst), 0, "one is at work");
        drop(other);
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert!(gate.is_clear() && !waiting.is_finished());
        gate.release();
        drop(waiting.await.unwrap());
        assert!(gate.hold(), "what led to something is done again at once");
    }

    #[tokio::test]
    async fn a_query_that_does_not_end_keeps_others_waiting_for_a_moment_only() {
        let (time, gate, _asked) = gate();
        let endless = gate.pass().await;
        assert!(gate.hold());
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.pass().await }
        });
        while gate.held.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
        time.advance(HOLD_MAX);
        drop(waiting.await.unwrap());
        assert!(!gate.hold(), "it led to nothing");
        time.advance(REST);
        assert!(gate.hold());
        drop(endless);
    }

    #[tokio::test]
    async fn a_reader_that_no_gate_counts_keeps_nobody_waiting() {
        let (_time, gate, _asked) = gate();
        assert!(gate.hold());
        assert!(gate.is_clear());
        gate.give_up();
        drop(gate.pass().await);
        assert!(!gate.hold(), "it led to nothing");
    }
}
