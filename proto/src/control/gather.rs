//! Writes that follow each other closely leave as one.
//!
//! HTTP/2 sends the head, the body and the end of a message as frames of their own, each handed over by another task
//! and flushed by itself: a call of a few hundred bytes would be four packets, each sealed, sent and met alone. Here a
//! flush waits until the tasks that are ready to run have run; what they write leaves with it. Nothing waits for time to pass.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use bytes::{Buf, BytesMut};
use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are held for company at most; what is longer is not copied.
const HELD_BYTES_MAX: usize = 16 << 10;

/// A stream whose writes are gathered.
#[derive(Debug)]
pub(super) struct Gather<S> {
    stream: S,
    held: BytesMut,
    /// Somebody waits for the end of `turn`.
    flushing: bool,
    turn: Arc<Turn>,
}

/// The time until the tasks that are ready now have run.
#[derive(Debug, Default)]
struct Turn {
    over: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.over.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<S: AsyncWrite + Unpin> Gather<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            held: BytesMut::new(),
            flushing: false,
            turn: Arc::default(),
        }
    }

    /// Ready when everyone who can run now has had a turn since this was first asked.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.turn.task.register(context.waker());
        if !self.flushing {
            self.flushing = true;
            let waker = Waker::from(Arc::clone(&self.turn));
            // The runtime wakes whoever yields after the others; outside of one, at once.
            let _ = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker));
        }
        if !self.turn.over.swap(false, Ordering::Acquire) {
            return Poll::Pending;
        }
        self.flushing = false;
        Poll::Ready(())
    }

    /// Hands what is held to the stream below.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.held))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gather<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        if self.held.len() + length > HELD_BYTES_MAX {
            ready!(self.poll_drain(context))?;
        }
        if length > HELD_BYTES_MAX {
            return Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        }
        for part in parts {
            self.held.extend_from_slice(part);
        }
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.held.is_empty() {
            if self.flushing || self.held.len() < HELD_BYTES_MAX / 2 {
                ready!(self.poll_turn(context));
            }
            ready!(self.poll_drain(context))?;
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_tasks_of_one_turn_write_leaves_together() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let stream = Arc::new(Mutex::new(Gather::new(near)));
        let write = |word: &'static str| {
            let stream = Arc::clone(&stream);
            poll_fn(move |context| Pin::new(&mut *stream.lock()).poll_write(context, word.as_bytes()))
        };
        let tasks = ["one ", "two ", "three"].map(|word| tokio::spawn(write(word)));
        write("zero ").await.unwrap();
        poll_fn(|context| Pin::new(&mut *stream.lock()).poll_flush(context))
            .await
            .unwrap();
        let mut space = [0; 100];
        let count = far.read(&mut space).await.unwrap();
        assert_eq!(&space[..count], b"zero one two three");
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn nothing_is_lost_whatever_its_length_and_at_the_end() {
        let (near, mut far) = tokio::io::duplex(1000);
        let mut writer = Gather::new(near);
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.map(|_| all)
        });
        let mut sent = Vec::new();
        for (turn, length) in [
            1,
            HELD_BYTES_MAX - 1,
            5,
            HELD_BYTES_MAX,
            HELD_BYTES_MAX + 1,
            3 * HELD_BYTES_MAX,
            7,
        ]
        .into_iter()
        .enumerate()
        {
            let bytes = vec![u8::try_from(turn).unwrap(); length];
            writer.write_all(&bytes).await.unwrap();
            if turn % 2 == 0 {
                writer.flush().await.unwrap();
            }
            sent.extend(bytes);
        }
        writer.shutdown().await.unwrap();
        drop(writer);
        assert!(
            reading.await.unwrap().unwrap() == sent,
            "the same bytes in the same order"
        );
    }
}
