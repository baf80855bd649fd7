//! Sending one chunk to a node, block by block.
//!
//! Invariant: [`Put::finish`] returns a receipt only for exactly the attempt, the length and the digest that were sent.
//! A failure says which node failed, the one asked or the delegate behind it, and is noticed while sending.

use common::ids::{AttemptId, Digest};
use common::units::BLOCK_BYTES;

use super::blocks;
use super::dial::Connection;
use super::error::Error;
use super::frame::{DATA_BYTES_MAX, Malformed, RequestNumber};
use super::message::{PutBegin, PutEnd};
use super::receipt::Receipt;
use super::transport::Frame;

/// A put under way. Dropping it without [`Put::finish`] or [`Put::abort`] ends the connection, and with it the put at
/// every node.
#[derive(Debug)]
pub struct Put<'c> {
    connection: &'c mut Connection,
    request: RequestNumber,
    attempt: AttemptId,
    length: u64,
}

impl Connection {
    /// Begins a put. Nothing is sent before the first blocks are.
    ///
    /// # Errors
    /// The connection is not reusable.
    pub fn put(&mut self, begin: &PutBegin) -> Result<Put<'_>, Error> {
        let request = self.begin_request()?;
        self.writer.control(request, begin);
        Ok(Put {
            connection: self,
            request,
            attempt: begin.attempt,
            length: 0,
        })
    }
}

impl Put<'_> {
    /// Sends the next blocks: exactly [`DATA_BYTES_MAX`] bytes, or fewer at the end of the chunk, and a checksum for
    /// every block ([`blocks::checksums`]). Returns when the stream has taken them. Must not be dropped
    /// before it ends; the put and its connection would be.
    ///
    /// # Errors
    /// The connection broke, a node failed or was too slow, or the blocks do not follow the last.
    pub async fn send(&mut self, data: &[u8], checksums: &[u64]) -> Result<(), Error> {
        let follows = self.length.is_multiple_of(DATA_BYTES_MAX as u64)
            && (1..=DATA_BYTES_MAX).contains(&data.len())
            && blocks::count(data.len()) == checksums.len();
        let first_block = u32::try_from(self.length / BLOCK_BYTES as u64);
        let (true, Ok(first_block)) = (follows, first_block) else {
            return Err(self.misuse("blocks that do not follow the last"));
        };
        self.connection.torn = true;
        let written = self.connection.write(first_block, checksums, data).await;
        self.judge_write(written)?;
        self.length += data.len() as u64;
        self.failure_so_far()
    }

    /// Says that all blocks were sent, and what they make. Returns when they are durable at every node.
    ///
    /// # Errors
    /// As [`Put::send`], or the answer did not come in time: the chunk may be stored or not then. A new attempt is
    /// always safe.
    pub async fn finish(self, digest: Digest) -> Result<Receipt, Error> {
        let mut put = self;
        if put.length == 0 {
            return Err(put.misuse("a chunk without bytes"));
        }
        let end = PutEnd {
            length: put.length,
            digest,
        };
        put.connection.writer.control(put.request, &end);
        put.connection.torn = true;
        let written = put.connection.write(0, &[], &[]).await;
        put.judge_write(written)?;
        let limit = put.connection.deadlines.answer;
        let frame = put.connection.answer("confirm the chunk", limit).await?;
        let receipt = put.receipt(&frame, &end)?;
        put.connection.end_request();
        Ok(receipt)
    }

    /// Gives the put up in good order: the nodes forget what they received, the connection stays usable.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn abort(self) -> Result<(), Error> {
        let mut put = self;
        if put.connection.torn {
            return Err(put.misuse("the connection broke within a frame"));
        }
        put.connection.writer.cancel(put.request);
        put.connection.torn = true;
        let written = put.connection.write(0, &[], &[]).await;
        put.judge_write(written)?;
        put.connection.end_request();
        Ok(())
    }

    fn receipt(&self, frame: &Frame, end: &PutEnd) -> Result<Receipt, Error> {
        let malformed = |source| Error::protocol(self.connection.target.node, source);
        let receipt: Receipt = frame.decode().map_err(malformed)?;
        let statement = &receipt.statement;
        let same = statement.attempt == self.attempt
            && statement.length == end.length
            && statement.digest == end.digest
            && !receipt.copies.is_empty();
        if same {
            Ok(receipt)
        } else {
            Err(malformed(Malformed::Field("receipt")))
        }
    }

    /// A write that failed or got stuck often means that the other side said why: its last words are the better error.
    fn judge_write(&mut self, written: Option<std::io::Result<()>>) -> Result<(), Error> {
        let node = self.connection.target.node;
        let limit = self.connection.deadlines.frame;
        let error = match written {
            Some(Ok(())) => {
                self.connection.torn = false;
                return Ok(());
            }
            Some(Err(source)) => Error::Broken { node, source },
            None => Error::Timeout {
                node,
                what: "take a frame",
                limit,
            },
        };
        self.failure_so_far()?;
        Err(error)
    }

    /// The put's failure, if it has arrived already.
    fn failure_so_far(&mut self) -> Result<(), Error> {
        while let Some(next) = self.connection.reader.next_now() {
            if let Some(frame) = self.connection.sift(next)? {
                let unexpected = Malformed::Unexpected(frame.frame_type);
                return Err(Error::protocol(self.connection.target.node, unexpected));
            }
        }
        Ok(())
    }

    fn misuse(&self, what: &'static str) -> Error {
        Error::Misuse {
            node: self.connection.target.node,
            what,
        }
    }
}
