//! Who may hold memory, and how much.
//!
//! Invariants (P10): the memory of a put is promised as a whole before its first byte is read, and the promise lasts
//! until the last of its buffers is back. A put that was let in therefore never waits for memory that another put
//! holds, and the sum of all promises is bounded. Puts of clients and puts of other nodes have lanes of their own: a
//! put of a client may wait for another node, a put of a node waits for this node's disk alone, so there is no circle
//! of nodes waiting for each other. Principals take turns, and none holds more than its share ([`super::turns`]).

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use common::disk::buffer::{AlignedBuf, BufferPool, BufferSize};
use common::ids::UserId;
use common::time::Clock;
use common::units::ByteCount;
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::turns::{Turn, Turns};

const PAGE_BYTES: usize = common::disk::PAGE_BYTES;

/// The memory for puts of one kind of sender.
pub(super) struct Lane {
    room: Turns,
    pool: BufferPool,
    in_flight: IntGauge,
}

impl Lane {
    /// `bytes_max` of memory, of which one principal may hold `share`.
    pub(super) fn new(bytes_max: ByteCount, share: ByteCount, in_flight: IntGauge) -> Self {
        let pages = |bytes: ByteCount| bytes.get() / PAGE_BYTES as u64;
        Self {
            room: Turns::new(pages(bytes_max), pages(share)),
            pool: BufferPool::new(bytes_max),
            in_flight,
        }
    }

    /// Promises `count` buffers of `size` to `principal`, waiting for at most `wait_max`; `None` then.
    pub(super) async fn admit(
        &self,
        principal: UserId,
        count: u32,
        size: BufferSize,
        clock: &Clock,
        wait_max: Duration,
    ) -> Option<Window> {
        let pages = (size.bytes() / PAGE_BYTES) as u64 * u64::from(count);
        let room = clock
            .timeout(wait_max, self.room.take(principal, pages))
            .await??;
        let bytes = i64::try_from(pages)
            .unwrap_or(i64::MAX)
            .saturating_mul(PAGE_BYTES as i64);
        self.in_flight.add(bytes);
        Some(Window(Arc::new(Promise {
            pool: self.pool.clone(),
            size,
            slots: Arc::new(Semaphore::new(count as usize)),
            bytes,
            in_flight: self.in_flight.clone(),
            _room: room,
        })))
    }
}

/// The memory promised to one put.
#[derive(Clone)]
pub(crate) struct Window(Arc<Promise>);

struct Promise {
    pool: BufferPool,
    size: BufferSize,
    slots: Arc<Semaphore>,
    bytes: i64,
    in_flight: IntGauge,
    _room: Turn,
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.in_flight.sub(self.bytes);
    }
}

impl Window {
    /// A way to the same buffers that does not keep the promise alive.
    pub(crate) fn watch(&self) -> WeakWindow {
        WeakWindow(Arc::downgrade(&self.0))
    }

    /// The next of the promised buffers; waits until one of them is back.
    pub(crate) async fn take(&self) -> WindowBuffer {
        let slot = Arc::clone(&self.0.slots).acquire_owned().await;
        WindowBuffer {
            buffer: self.0.pool.take(self.0.size).await,
            _slot: slot.expect("the semaphore of a window is never closed"),
            _promise: Arc::clone(&self.0),
        }
    }
}

/// A window as those see it who fill its buffers but do not own the put.
pub(crate) struct WeakWindow(Weak<Promise>);

impl WeakWindow {
    /// As [`Window::take`]; `None` when the put is over.
    pub(crate) async fn take(&self) -> Option<WindowBuffer> {
        let window = Window(self.0.upgrade()?);
        Some(window.take().await)
    }
}

/// A promised buffer. Its place in the window is free again when it, or the last [`Bytes`] made of it, is dropped.
pub(crate) struct WindowBuffer {
    // Dropped in this order: the memory is back before its place is free.
    buffer: AlignedBuf,
    _slot: OwnedSemaphorePermit,
    _promise: Arc<Promise>,
}

impl WindowBuffer {
    /// Room for `length` bytes, if the buffer has it.
    pub(crate) fn room(&mut self, length: usize) -> Option<&mut [u8]> {
        self.buffer.spare_mut().get_mut(..length)
    }

    /// The first `length` bytes, which have been filled, as shared bytes.
    pub(crate) fn freeze(mut self, length: usize) -> Bytes {
        self.buffer.advance(length);
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for WindowBuffer {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_slice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_promise_lasts_until_the_last_buffer_is_back() {
        let gauge = IntGauge::new("in_flight", "test").unwrap();
        let bulk = BufferSize::Bulk.bytes() as i64;
        let all = ByteCount::new(2 * bulk as u64);
        let lane = Lane::new(all, all, gauge.clone());
        // Not a manual clock: on one of those a wait of no time ends only when the time is moved.
        let clock = Clock::real();
        let admit = |count| {
            let (lane, clock) = (&lane, &clock);
            async move {
                lane.admit(UserId::new(1), count, BufferSize::Bulk, clock, Duration::ZERO)
                    .await
            }
        };
        let window = admit(2).await.unwrap();
        assert_eq!(gauge.get(), 2 * bulk);
        assert!(
            admit(1).await.is_none(),
            "all is promised, though nothing is used"
        );
        let mut buffer = window.take().await;
        buffer.room(3).unwrap().copy_from_slice(b"abc");
        let bytes = buffer.freeze(3);
        drop(window);
        assert!(admit(1).await.is_none(), "one buffer is still out");
        assert_eq!(&bytes[..], b"abc");
        drop(bytes);
        assert_eq!(gauge.get(), 0);
        assert!(admit(2).await.is_some());
    }
}
