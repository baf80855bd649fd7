//! A limit on the bytes per second of one client, shared by all of its transfers.
//!
//! Whoever moves bytes passes here first; turns are given in the order in which they are asked for. An idle time is
//! not saved up: a limit is there for the sake of others on the same line.

use std::time::Duration;

use common::time::{Clock, Moment};
use common::units::ByteCount;
use parking_lot::Mutex;

/// The lowest limit: below it the nodes take a transfer for stuck.
pub const BYTES_PER_SECOND_MIN: ByteCount = ByteCount::new(128 << 10);
/// The longest that a frame may wait for its turn; half of that a node waits for it.
const TURN_WAIT_MAX: Duration = Duration::from_secs(8);
/// Bytes of a frame at most.
const FRAME_BYTES: u64 = 1 << 20;

/// How many chunks may be under way at once for each to advance often enough under `limit` bytes per second.
pub(crate) fn chunks_at_once(limit: Option<ByteCount>) -> usize {
    let Some(limit) = limit else {
        return usize::MAX;
    };
    let frames = limit.get() * TURN_WAIT_MAX.as_secs() / FRAME_BYTES;
    usize::try_from(frames.max(1)).unwrap_or(usize::MAX)
}

/// Lets so many bytes per second pass, or all.
pub(crate) struct Throttle {
    clock: Clock,
    bytes_per_second: Option<ByteCount>,
    /// When the line is free again.
    free_at: Mutex<Moment>,
}

impl Throttle {
    pub(crate) fn new(clock: Clock, bytes_per_second: Option<ByteCount>) -> Self {
        Self {
            clock,
            bytes_per_second: bytes_per_second.map(|limit| limit.max(BYTES_PER_SECOND_MIN)),
            free_at: Mutex::default(),
        }
    }

    /// Returns when `bytes` may pass.
    pub(crate) async fn pass(&self, bytes: u64) {
        let Some(limit) = self.bytes_per_second else {
            return;
        };
        let wait = {
            let now = self.clock.moment();
            let mut free_at = self.free_at.lock();
            let turn = (*free_at).max(now);
            *free_at = turn + Duration::from_secs_f64(bytes as f64 / limit.get() as f64);
            turn.since(now)
        };
        if !wait.is_zero() {
            self.clock.sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use common::time::ManualTime;

    use super::*;

    #[tokio::test]
    async fn what_passes_keeps_to_the_limit() {
        let time = ManualTime::default();
        let throttle = std::sync::Arc::new(Throttle::new(time.clock(), Some(ByteCount::mib(1))));
        throttle.pass(1 << 20).await;
        let mut next = tokio::spawn({
            let throttle = std::sync::Arc::clone(&throttle);
            async move { throttle.pass(1 << 20).await }
        });
        tokio::task::yield_now().await;
        assert!(!next.is_finished(), "the first second is taken");
        time.advance(Duration::from_secs(1));
        (&mut next).await.unwrap();
        // An hour without traffic is not made up for.
        time.advance(Duration::from_secs(3600));
        throttle.pass(1 << 20).await;
        assert_eq!(
            throttle.free_at.lock().since(time.clock().moment()),
            Duration::from_secs(1)
        );
        Throttle::new(time.clock(), None).pass(u64::MAX).await;
    }

    #[test]
    fn little_goes_on_at_once_under_a_low_limit() {
        assert_eq!(chunks_at_once(Some(BYTES_PER_SECOND_MIN)), 1);
        assert_eq!(chunks_at_once(Some(ByteCount::mib(1))), 8);
        assert_eq!(chunks_at_once(None), usize::MAX);
    }
}
