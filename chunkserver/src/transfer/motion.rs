//! What goes on behind a connection while its client hears nothing: payload that is forwarded, requests that wait for
//! their turn. The connection tells the client with PROGRESS, so that a slow delegate or a long queue is not taken for a
//! node that hangs.
//!
//! Invariant: only what really moves is told. A delegate or a disk that hangs makes silence here, too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use common::time::Clock;
use proto::bulk::activity::Activity;

/// Of one connection; clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Motion(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    steps: AtomicU64,
    queued: AtomicUsize,
}

/// A request that waits for its turn, until this is dropped.
pub(crate) struct Queued(Motion);

impl Motion {
    /// Something was done for a request.
    pub(crate) fn step(&self) {
        self.0.steps.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn queue(&self) -> Queued {
        self.0.queued.fetch_add(1, Ordering::Relaxed);
        Queued(self.clone())
    }

    pub(super) fn steps(&self) -> u64 {
        self.0.steps.load(Ordering::Relaxed)
    }

    pub(super) fn has_queued(&self) -> bool {
        self.0.queued.load(Ordering::Relaxed) > 0
    }

    /// Awaits `work`, which makes steps whenever `from`, the connection to a delegate, moves.
    pub(crate) async fn relay<T>(
        &self,
        from: &Activity,
        clock: &Clock,
        period: Duration,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = std::pin::pin!(work);
        let mut seen = from.moved();
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = clock.sleep(period) => {}
            }
            let now = from.moved();
            if now != seen {
                seen = now;
                self.step();
            }
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.0.queued.fetch_sub(1, Ordering::Relaxed);
    }
}
