//! Page-aligned buffers, pooled and bounded: bytes are read from a socket straight into one and written from it to
//! the disk, without a copy and without touching cold memory.
//!
//! Invariant (P10): the buffers of a pool that are in use never exceed its limit, nor do those it keeps for reuse.
//! A reused buffer holds old bytes of strangers in its spare room; only [`AlignedBuf::advance`] makes bytes part of
//! the content, so advance exactly over what was filled (P9).

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::PAGE_BYTES;
use super::raw::Pages;
use crate::units::ByteCount;

/// The sizes in which a pool hands out buffers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum BufferSize {
    /// 16 KiB: headers, trailers, control frames.
    Page,
    /// 80 KiB: one 64 KiB block and what surrounds it.
    Block,
    /// 1 MiB and 64 KiB: the unit of bulk transfer and its slack.
    Bulk,
}

impl BufferSize {
    const ALL: [BufferSize; 3] = [BufferSize::Page, BufferSize::Block, BufferSize::Bulk];

    /// The capacity of such a buffer in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            BufferSize::Page => 16 << 10,
            BufferSize::Block => 80 << 10,
            BufferSize::Bulk => (1 << 20) + (64 << 10),
        }
    }

    /// The smallest size with room for `bytes`; `None` above [`BufferSize::Bulk`].
    pub fn fitting(bytes: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|size| size.bytes() >= bytes)
    }

    const fn slot(self) -> usize {
        match self {
            BufferSize::Page => 0,
            BufferSize::Block => 1,
            BufferSize::Bulk => 2,
        }
    }

    const fn permits(self) -> u32 {
        (self.bytes() / PAGE_BYTES) as u32
    }
}

/// Memory at a page boundary: content from the start, then spare room. Its memory goes back to the pool it came from
/// when it, or the last [`Bytes`] made of it, is dropped.
pub struct AlignedBuf {
    /// Present until dropped.
    pages: Option<Pages>,
    length: usize,
    home: Option<Home>,
}

struct Home {
    pool: Arc<Shared>,
    size: BufferSize,
    _permit: OwnedSemaphorePermit,
}

impl AlignedBuf {
    /// An empty buffer outside any pool, with room for at least `capacity` bytes.
    pub fn unpooled(capacity: usize) -> Self {
        Self {
            pages: Some(Pages::new(capacity)),
            length: 0,
            home: None,
        }
    }

    /// A buffer outside any pool with a copy of `content`.
    pub fn copied_from(content: &[u8]) -> Self {
        let mut buffer = Self::unpooled(content.len());
        // There is room: the capacity is at least the length.
        let _ = buffer.extend(content);
        buffer
    }

    /// Bytes of room in all.
    pub fn capacity(&self) -> usize {
        self.memory().len()
    }

    /// Bytes of content.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no content.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The content.
    pub fn as_slice(&self) -> &[u8] {
        self.memory().get(..self.length).unwrap_or_default()
    }

    /// The content, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        let length = self.length;
        self.memory_mut().get_mut(..length).unwrap_or_default()
    }

    /// The room behind the content. What is read into its beginning becomes content with [`AlignedBuf::advance`].
    pub fn spare_mut(&mut self) -> &mut [u8] {
        let length = self.length;
        self.memory_mut().get_mut(length..).unwrap_or_default()
    }

    /// Makes the next `count` bytes of the spare room content; no more than there is room.
    pub fn advance(&mut self, count: usize) {
        self.length = self.length.saturating_add(count).min(self.capacity());
    }

    /// Appends `bytes`; false, and nothing is appended, if there is no room.
    #[must_use]
    pub fn extend(&mut self, bytes: &[u8]) -> bool {
        let Some(room) = self.spare_mut().get_mut(..bytes.len()) else {
            return false;
        };
        room.copy_from_slice(bytes);
        self.length += bytes.len();
        true
    }

    /// Appends zeros up to the next multiple of `unit` bytes, or the capacity.
    pub fn pad(&mut self, unit: usize) {
        let target = self.length.next_multiple_of(unit).min(self.capacity());
        let count = target - self.length;
        if let Some(room) = self.spare_mut().get_mut(..count) {
            room.fill(0);
        }
        self.length = target;
    }

    /// Drops all content behind the first `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// The content as shared, sliceable bytes; the memory goes home when the last of them is dropped.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }

    fn memory(&self) -> &[u8] {
        self.pages.as_ref().map(Pages::as_slice).unwrap_or_default()
    }

    fn memory_mut(&mut self) -> &mut [u8] {
        self.pages.as_mut().map(Pages::as_mut_slice).unwrap_or_default()
    }
}

impl AsRef<[u8]> for AlignedBuf {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl std::fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuf({} of {} bytes)", self.length, self.capacity())
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        if let (Some(pages), Some(home)) = (self.pages.take(), self.home.take()) {
            home.pool.keep(home.size, pages);
        }
    }
}

/// A bounded source of buffers; clones share the limit.
///
/// A task that waits for a buffer while it holds another can wait for ever if everyone does: take all that one step
/// needs at once, or use [`BufferPool::try_take`].
#[derive(Clone)]
pub struct BufferPool(Arc<Shared>);

struct Shared {
    room: Arc<Semaphore>,
    bytes_max: usize,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    bytes: usize,
    pages: [Vec<Pages>; 3],
}

impl BufferPool {
    /// A pool whose buffers in use hold at most `bytes_max`, and at least one [`BufferSize::Bulk`].
    pub fn new(bytes_max: ByteCount) -> Self {
        let pages_max = usize::try_from(bytes_max.get()).unwrap_or(usize::MAX) / PAGE_BYTES;
        let pages = pages_max.clamp(
            BufferSize::Bulk.bytes() / PAGE_BYTES,
            (u32::MAX as usize).min(Semaphore::MAX_PERMITS),
        );
        Self(Arc::new(Shared {
            room: Arc::new(Semaphore::new(pages)),
            bytes_max: pages * PAGE_BYTES,
            idle: Mutex::default(),
        }))
    }

    /// An empty buffer; waits until the limit allows it. Waiters are served in order.
    pub async fn take(&self, size: BufferSize) -> AlignedBuf {
        let room = Arc::clone(&self.0.room);
        let permit = room
            .acquire_many_owned(size.permits())
            .await
            .expect("the semaphore of a pool is never closed");
        self.fetch(size, permit)
    }

    /// An empty buffer, or `None` where the limit does not allow it now.
    pub fn try_take(&self, size: BufferSize) -> Option<AlignedBuf> {
        let room = Arc::clone(&self.0.room);
        let permit = room.try_acquire_many_owned(size.permits()).ok()?;
        Some(self.fetch(size, permit))
    }

    /// Bytes of room of the buffers in use.
    pub fn bytes_in_use(&self) -> ByteCount {
        let free = self.0.room.available_permits() * PAGE_BYTES;
        ByteCount::new(self.0.bytes_max.saturating_sub(free) as u64)
    }

    fn fetch(&self, size: BufferSize, permit: OwnedSemaphorePermit) -> AlignedBuf {
        let kept = self.0.idle.lock().fetch(size);
        AlignedBuf {
            pages: Some(kept.unwrap_or_else(|| Pages::new(size.bytes()))),
            length: 0,
            home: Some(Home {
                pool: Arc::clone(&self.0),
                size,
                _permit: permit,
            }),
        }
    }
}

impl std::fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BufferPool({:?} in use)", self.bytes_in_use())
    }
}

impl Shared {
    fn keep(&self, size: BufferSize, pages: Pages) {
        let mut idle = self.idle.lock();
        if idle.bytes + size.bytes() <= self.bytes_max
            && let Some(slot) = idle.pages.get_mut(size.slot())
        {
            slot.push(pages);
            idle.bytes += size.bytes();
        }
    }
}

impl Idle {
    fn fetch(&mut self, size: BufferSize) -> Option<Pages> {
        let pages = self.pages.get_mut(size.slot())?.pop()?;
        self.bytes = self.bytes.saturating_sub(size.bytes());
        Some(pages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_grows_within_the_capacity() {
        let mut buffer = AlignedBuf::unpooled(5000);
        assert_eq!(buffer.capacity(), 8192);
        assert!(buffer.extend(b"hello"));
        buffer.spare_mut()[..3].copy_from_slice(b"you");
        buffer.advance(3);
        assert_eq!(buffer.as_slice(), b"helloyou");
        assert!(!buffer.extend(&[0; 8192]));
        buffer.pad(4096);
        assert_eq!(buffer.len(), 4096);
        buffer.advance(usize::MAX);
        assert_eq!(buffer.len(), 8192);
        assert_eq!(buffer.as_slice().as_ptr() as usize % PAGE_BYTES, 0);
    }

    #[tokio::test]
    async fn a_pool_is_bounded_and_reuses_memory() {
        let pool = BufferPool::new(ByteCount::new(2 * BufferSize::Bulk.bytes() as u64));
        let mut first = pool.take(BufferSize::Bulk).await;
        assert!(first.extend(b"content"));
        let address = first.as_slice().as_ptr();
        let second = pool.try_take(BufferSize::Bulk).unwrap();
        assert!(pool.try_take(BufferSize::Page).is_none());
        let shared = first.freeze();
        let slice = shared.slice(..);
        drop(shared);
        assert!(
            pool.try_take(BufferSize::Page).is_none(),
            "a slice keeps the buffer"
        );
        drop(slice);
        let again = pool.take(BufferSize::Bulk).await;
        assert_eq!(again.as_slice().as_ptr(), address);
        assert!(again.is_empty());
        drop((again, second));
        assert_eq!(pool.bytes_in_use(), ByteCount::new(0));
    }

    #[tokio::test]
    async fn waiters_go_on_when_a_buffer_comes_back() {
        let pool = BufferPool::new(ByteCount::new(0));
        let held = pool.take(BufferSize::Bulk).await;
        let waiter = tokio::spawn({
            let pool = pool.clone();
            async move { pool.take(BufferSize::Block).await.capacity() }
        });
        drop(held);
        assert_eq!(waiter.await.unwrap(), BufferSize::Block.bytes());
    }
}
