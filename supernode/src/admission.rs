//! Who gets a place: a bounded number of requests under way, a bounded number that wait for a bounded time, and "busy,
//! try again after" for the rest (P10).
//!
//! Invariant: a place is a guard that moves with the work and is given back however the work ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::error::Kind;
use common::time::Clock;
use proto::error::RpcError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What callers are told to wait when every place is taken.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// The places for one kind of work. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    places: Arc<Semaphore>,
    waiting: Arc<AtomicU32>,
    waiting_max: u32,
    wait_max: Duration,
    clock: Clock,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Admission {
    /// `places_max` at once, `waiting_max` more that wait, each at most for `wait_max`.
    pub(crate) fn new(places_max: u32, waiting_max: u32, wait_max: Duration, clock: Clock) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places_max as usize)),
            waiting: Arc::default(),
            waiting_max,
            wait_max,
            clock,
        }
    }

    /// A place, as soon as there is one.
    ///
    /// # Errors
    /// `Busy`, with how long to wait.
    pub(crate) async fn admit(&self) -> Result<Place, RpcError> {
        if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(Place { _permit: permit });
        }
        let Some(_seat) = Seat::take(&self.waiting, self.waiting_max) else {
            return Err(busy());
        };
        let turn = Arc::clone(&self.places).acquire_owned();
        match self.clock.timeout(self.wait_max, turn).await {
            Some(Ok(permit)) => Ok(Place { _permit: permit }),
            Some(Err(_)) | None => Err(busy()),
        }
    }

    /// A place, if there is one now.
    pub(crate) fn try_admit(&self) -> Option<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Place { _permit: permit })
    }
}

fn busy() -> RpcError {
    RpcError::new(
        Kind::Busy,
        "E_BUSY",
        "this supernode has as many requests as it takes",
    )
    .retry_after(RETRY_AFTER)
}

/// One of the waiting, until it is dropped.
struct Seat<'a>(&'a AtomicU32);

impl<'a> Seat<'a> {
    fn take(waiting: &'a AtomicU32, max: u32) -> Option<Self> {
        let taken = waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
            (count < max).then_some(count + 1)
        });
        taken.ok().map(|_| Self(waiting))
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_rest_is_told_to_come_back() {
        let admission = Admission::new(1, 1, Duration::from_secs(60), Clock::real());
        let first = admission.admit().await.unwrap();
        let waiter = tokio::spawn({
            let admission = admission.clone();
            async move { admission.admit().await }
        });
        while admission.waiting.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
        let refused = admission.admit().await.unwrap_err();
        assert_eq!((refused.kind, refused.retry_after), (Kind::Busy, RETRY_AFTER));
        assert!(admission.try_admit().is_none());
        drop(first);
        let second = waiter.await.unwrap().unwrap();
        assert_eq!(admission.waiting.load(Ordering::Acquire), 0);
        drop(second);
        assert!(admission.try_admit().is_some());
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let admission = Admission::new(1, 5, Duration::from_millis(1), Clock::real());
        let _first = admission.admit().await.unwrap();
        assert_eq!(admission.admit().await.unwrap_err().kind, Kind::Busy);
        assert_eq!(admission.waiting.load(Ordering::Acquire), 0);
    }
}
