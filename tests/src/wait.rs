//! Waiting for conditions, never for time.

use std::time::{Duration, Instant};

/// How long a condition may take before a test calls it failed. Generous: these are limits of patience, not of speed.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// Polls `condition` until it gives a value.
///
/// # Panics
/// If it has given none after a minute; the message names `what`.
pub fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, condition)
}

/// As [`until`], with a patience of one's own.
///
/// # Panics
/// If the condition has given no value by then.
#[allow(
    clippy::disallowed_methods,
    reason = "a test watches real processes by the real clock"
)]
pub fn within<T>(patience: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(
            start.elapsed() < patience,
            "gave up after {patience:?} waiting for {what}"
        );
        std::thread::sleep(POLL);
    }
}
