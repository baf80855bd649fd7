//! Reads and writes frames on any stream of bytes.
//!
//! Invariant: payload is never copied where it need not be. [`FrameReader::data`] reads from the stream straight into
//! memory of the caller, [`FrameWriter::data`] writes it from there; only small frames are gathered, so that a small
//! put costs one write.

use std::future::Future;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::activity::Activity;
use super::frame::{DataHead, FrameType, HEADER_BYTES, Header, Malformed, PREFACE, RequestNumber};
use super::message::Body;

const READ_BUFFER_BYTES: usize = 32 << 10;
/// Data up to this length is gathered with the frames around it instead of being written by itself.
const GATHERED_BYTES_MAX: usize = 16 << 10;

/// A frame could not be read or written. The stream is of no further use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream failed.
    #[error("the stream failed")]
    Io(#[from] io::Error),
    /// The stream holds something else than frames.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// A frame whose data, if any, has not been read yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// What it says.
    pub frame_type: FrameType,
    /// The request concerned.
    pub request: RequestNumber,
    /// The body, checked against its checksum.
    pub body: Vec<u8>,
    /// Bytes of data behind it: read them with [`FrameReader::data`], or they are skipped.
    pub data_length: usize,
}

impl Frame {
    /// The body as `B`.
    ///
    /// # Errors
    /// The frame is of another type, or its body is malformed.
    pub fn decode<B: Body>(&self) -> Result<B, Malformed> {
        if self.frame_type == B::FRAME_TYPE {
            B::decode(&self.body)
        } else {
            Err(Malformed::Unexpected(self.frame_type))
        }
    }
}

/// Reads frames.
#[derive(Debug)]
pub struct FrameReader<R> {
    inner: R,
    buffer: BytesMut,
    /// Data of the last frame that nobody has read yet.
    data_left: usize,
    activity: Activity,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads from `inner`.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            buffer: BytesMut::with_capacity(READ_BUFFER_BYTES),
            data_left: 0,
            activity: Activity::default(),
        }
    }

    /// The same, counting in `activity` what arrives.
    #[must_use]
    pub fn counting(mut self, activity: &Activity) -> Self {
        self.activity = activity.clone();
        self
    }

    /// Reads the bytes with which the stream begins.
    ///
    /// # Errors
    /// They are others: the peer speaks another protocol.
    pub async fn preface(&mut self) -> Result<(), Error> {
        while self.buffer.len() < PREFACE.len() {
            if self.fill().await? == 0 {
                return Err(Malformed::Truncated.into());
            }
        }
        if self.buffer.starts_with(PREFACE) {
            self.buffer.advance(PREFACE.len());
            Ok(())
        } else {
            Err(Malformed::Preface.into())
        }
    }

    /// The next frame; `None` where the stream ends between frames. Data of the last frame that was not read is
    /// skipped, and so is PROGRESS, which has done its work by arriving. May be dropped and called again without losing anything.
    ///
    /// # Errors
    /// The stream fails, ends within a frame, or holds something else.
    pub async fn next(&mut self) -> Result<Option<Frame>, Error> {
        loop {
            let skipped = self.data_left.min(self.buffer.len());
            self.buffer.advance(skipped);
            self.data_left -= skipped;
            if self.data_left == 0
                && let Some(frame) = self.buffered()?
            {
                if frame.frame_type == FrameType::Progress {
                    continue;
                }
                self.data_left = frame.data_length;
                return Ok(Some(frame));
            }
            if self.fill().await? == 0 {
                return if self.data_left == 0 && self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(Malformed::Truncated.into())
                };
            }
        }
    }

    /// The next frame, if it can be read without waiting.
    pub fn next_now(&mut self) -> Option<Result<Option<Frame>, Error>> {
        let mut context = Context::from_waker(Waker::noop());
        match std::pin::pin!(self.next()).poll(&mut context) {
            Poll::Ready(next) => Some(next),
            Poll::Pending => None,
        }
    }

    /// Fills `into` with the next data of the last frame. Must not be dropped before it ends: the stream would be
    /// out of step.
    ///
    /// # Errors
    /// The stream fails or ends, or the frame has less data.
    pub async fn data(&mut self, into: &mut [u8]) -> Result<(), Error> {
        self.data_left = self.data_left.checked_sub(into.len()).ok_or(Malformed::Lengths)?;
        let buffered = self.buffer.len().min(into.len());
        let (here, rest) = into.split_at_mut(buffered);
        self.buffer.copy_to_slice(here);
        self.activity.add_payload(buffered);
        let mut rest = rest;
        while !rest.is_empty() {
            let count = self.inner.read(rest).await?;
            if count == 0 {
                return Err(Malformed::Truncated.into());
            }
            self.activity.add_read(count);
            self.activity.add_payload(count);
            rest = rest.split_at_mut(count).1;
        }
        Ok(())
    }

    /// Takes in what has arrived, without waiting and without looking at it, so that a side which writes notices that the
    /// other side lives. An error, or the end of the stream, is met by the next read.
    pub fn poke(&mut self) {
        if self.buffer.len() < READ_BUFFER_BYTES {
            let mut context = Context::from_waker(Waker::noop());
            let _ = std::pin::pin!(self.fill()).poll(&mut context);
        }
    }

    fn buffered(&mut self) -> Result<Option<Frame>, Malformed> {
        let Some((header, rest)) = self.buffer.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let header = Header::decode(header)?;
        let Some(body) = rest.get(..header.body_length) else {
            return Ok(None);
        };
        header.check_body(body)?;
        let body = body.to_vec();
        self.buffer.advance(HEADER_BYTES + header.body_length);
        Ok(Some(Frame {
            frame_type: header.frame_type,
            request: header.request,
            body,
            data_length: header.data_length,
        }))
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.buffer
            .reserve(READ_BUFFER_BYTES - self.buffer.len() % READ_BUFFER_BYTES);
        let count = self.inner.read_buf(&mut self.buffer).await?;
        self.activity.add_read(count);
        Ok(count)
    }
}

/// Writes frames.
#[derive(Debug)]
pub struct FrameWriter<W> {
    inner: W,
    /// Frames which wait for [`FrameWriter::flush`] or for large data.
    gathered: Vec<u8>,
    activity: Activity,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Writes to `inner`.
    pub fn new(inner: W) -> Self {
        Self {
            inner,
            gathered: Vec::with_capacity(GATHERED_BYTES_MAX),
            activity: Activity::default(),
        }
    }

    /// The same, counting in `activity` what leaves.
    #[must_use]
    pub fn counting(mut self, activity: &Activity) -> Self {
        self.activity = activity.clone();
        self
    }

    /// The stream, for other use; what was gathered and not written is lost.
    pub fn into_inner(self) -> W {
        self.inner
    }

    /// Gathers the bytes with which the stream begins.
    pub fn preface(&mut self) {
        self.gathered.extend_from_slice(PREFACE);
    }

    /// Gathers a control frame.
    pub fn control<B: Body>(&mut self, request: RequestNumber, body: &B) {
        self.bare(B::FRAME_TYPE, request, &body.encode());
    }

    /// Gathers a cancellation.
    pub fn cancel(&mut self, request: RequestNumber) {
        self.bare(FrameType::Cancel, request, &[]);
    }

    /// Gathers the word that payload has arrived.
    pub fn progress(&mut self) {
        self.bare(FrameType::Progress, RequestNumber::CONNECTION, &[]);
    }

    /// Bytes that were gathered and not written.
    pub fn gathered(&self) -> usize {
        self.gathered.len()
    }

    /// Writes a data frame: `data` begins with block `first_block` and has `checksums`. Small data is only gathered.
    /// Must not be dropped before it ends: the stream would be out of step.
    ///
    /// # Errors
    /// The stream fails.
    pub async fn data(
        &mut self,
        request: RequestNumber,
        first_block: u32,
        checksums: &[u64],
        data: &[u8],
    ) -> io::Result<()> {
        let mut body = Vec::with_capacity(4 + 8 * checksums.len());
        DataHead::encode(first_block, checksums, &mut body);
        let header = Header::new(FrameType::Data, request, &body, data.len());
        self.gathered.extend_from_slice(&header.encode());
        self.gathered.extend_from_slice(&body);
        if data.len() <= GATHERED_BYTES_MAX {
            self.gathered.extend_from_slice(data);
            if self.gathered.len() > 4 * GATHERED_BYTES_MAX {
                self.write_gathered().await?;
            }
            return Ok(());
        }
        let done = write_both(&mut self.inner, &self.gathered, data, &self.activity).await;
        self.gathered.clear();
        done
    }

    /// Writes all that was gathered and sees it off.
    ///
    /// # Errors
    /// The stream fails.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.write_gathered().await?;
        self.inner.flush().await
    }

    /// Writes as much of what was gathered as the stream takes without waiting; the rest stays gathered. Only between
    /// frames that are written otherwise.
    ///
    /// # Errors
    /// The stream fails.
    pub fn flush_now(&mut self) -> io::Result<()> {
        let mut context = Context::from_waker(Waker::noop());
        let mut inner = std::pin::Pin::new(&mut self.inner);
        while !self.gathered.is_empty() {
            match inner.as_mut().poll_write(&mut context, &self.gathered) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    self.activity.add_written(count);
                    self.gathered.drain(..count);
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(()),
            }
        }
        match inner.poll_flush(&mut context) {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// Sees everything off and ends this direction of the stream.
    ///
    /// # Errors
    /// The stream fails.
    pub async fn close(&mut self) -> io::Result<()> {
        self.write_gathered().await?;
        self.inner.shutdown().await
    }

    async fn write_gathered(&mut self) -> io::Result<()> {
        let done = write_both(&mut self.inner, &self.gathered, &[], &self.activity).await;
        self.gathered.clear();
        done
    }

    fn bare(&mut self, frame_type: FrameType, request: RequestNumber, body: &[u8]) {
        let header = Header::new(frame_type, request, body, 0);
        self.gathered.extend_from_slice(&header.encode());
        self.gathered.extend_from_slice(body);
    }
}

/// Writes `head` and then `data`, in as few calls as the stream takes.
async fn write_both<W: AsyncWrite + Unpin>(
    to: &mut W,
    head: &[u8],
    data: &[u8],
    activity: &Activity,
) -> io::Result<()> {
    let mut slices = [IoSlice::new(head), IoSlice::new(data)];
    let mut left = &mut slices[..];
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        let written = to.write_vectored(left).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        activity.add_written(written);
        IoSlice::advance_slices(&mut left, written);
    }
    Ok(())
}
