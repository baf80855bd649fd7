//! Frame buffers that are used again: touching fresh memory costs more than moving the bytes that go into it.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::bulk::frame::DATA_BYTES_MAX;

/// The length of a buffer: one data frame.
pub(crate) const FRAME_BYTES: usize = DATA_BYTES_MAX;

/// The most bytes that are hashed where they are met; more go to a blocking thread. Hashing so many takes less time than
/// waking another thread twice.
pub(crate) const IN_PLACE_BYTES_MAX: usize = 32 << 10;

/// Idle buffers kept at most: as many as two chunks of a stream need.
const IDLE_BUFFERS_MAX: usize = 128;

/// Buffers of [`FRAME_BYTES`]. Clones share them. How many are in use at once is bounded by those who use them.
#[derive(Clone, Default)]
pub(crate) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// A buffer in use; goes back when it, or the last [`Bytes`] made of it, is dropped.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    length: usize,
    home: Buffers,
}

impl Buffers {
    /// A buffer of [`FRAME_BYTES`] with any content.
    pub(crate) fn lease(&self) -> Buffer {
        let idle = self.0.lock().pop();
        Buffer {
            bytes: idle.unwrap_or_else(|| vec![0; FRAME_BYTES]),
            length: 0,
            home: self.clone(),
        }
    }
}

impl Buffer {
    /// All of it.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Its first `length` bytes, to be shared and sent.
    pub(crate) fn freeze(mut self, length: usize) -> Bytes {
        self.length = length.min(self.bytes.len());
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut idle = self.home.0.lock();
        if idle.len() < IDLE_BUFFERS_MAX {
            idle.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back() {
        let buffers = Buffers::default();
        let mut buffer = buffers.lease();
        buffer.space()[..3].copy_from_slice(b"abc");
        let bytes = buffer.freeze(3);
        let clone = bytes.clone();
        assert_eq!(clone, b"abc"[..]);
        drop(bytes);
        assert_eq!(buffers.0.lock().len(), 0);
        drop(clone);
        assert_eq!(buffers.0.lock().len(), 1);
        drop(buffers.lease());
        assert_eq!(buffers.0.lock().len(), 1);
    }
}
