//! Reading a range of one chunk from a node.
//!
//! Invariant (P3): [`Get::next`] hands out only blocks that match the checksums made where the chunk was written, in
//! order and without a gap.

use common::ids::AttemptId;
use common::units::BLOCK_BYTES;

use super::blocks;
use super::dial::Connection;
use super::error::Error;
use super::frame::{DataHead, FrameType, Malformed, RequestNumber};
use super::message::{GetEnd, GetRequest};

/// A get under way. Dropping it before [`Get::next`] said that it is over ends the connection, and with it the work at
/// the node.
#[derive(Debug)]
pub struct Get<'c> {
    connection: &'c mut Connection,
    request: RequestNumber,
    attempt: AttemptId,
    next_block: u64,
    /// The end of the range, in bytes, and rounded up to a whole block.
    end: u64,
    end_block: u64,
    chunk_length: Option<u64>,
}

/// A run of verified blocks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// Where in the chunk the run begins, in bytes; whole blocks, so it may begin before the range asked for.
    pub offset: u64,
    /// How many bytes were received; may go beyond the range asked for.
    pub length: usize,
    /// The checksum of every block, for whoever passes them on.
    pub checksums: Vec<u64>,
}

impl Connection {
    /// Asks for a range of a chunk.
    ///
    /// # Errors
    /// The connection is not reusable or broke.
    pub async fn get(&mut self, request: &GetRequest) -> Result<Get<'_>, Error> {
        let number = self.begin_request()?;
        self.writer.control(number, request);
        let (node, limit) = (self.target.node, self.deadlines.frame);
        match self.write(0, &[], &[]).await {
            Some(Ok(())) => {}
            Some(Err(source)) => return Err(Error::Broken { node, source }),
            None => {
                let what = "take a request";
                return Err(Error::Timeout { node, what, limit });
            }
        }
        let end = request.offset.saturating_add(request.length);
        Ok(Get {
            connection: self,
            request: number,
            attempt: request.attempt,
            next_block: request.offset / BLOCK_BYTES as u64,
            end,
            end_block: end.div_ceil(BLOCK_BYTES as u64),
            chunk_length: None,
        })
    }
}

impl Get<'_> {
    /// Receives the next blocks into the beginning of `into`, which has room for
    /// [`DATA_BYTES_MAX`](super::frame::DATA_BYTES_MAX); `None` when the range is complete. Must not be dropped before
    /// it ends; the connection would be.
    ///
    /// # Errors
    /// The node failed, broke the protocol, was too slow or sent a damaged block (`Corrupt` names it).
    pub async fn next(&mut self, into: &mut [u8]) -> Result<Option<Received>, Error> {
        if self.chunk_length.is_some() {
            return Ok(None);
        }
        let node = self.connection.target.node;
        let malformed = |source| Error::protocol(node, source);
        let limit = self.connection.deadlines.frame;
        let frame = self.connection.answer("send the next blocks", limit).await?;
        if frame.frame_type == FrameType::GetEnd {
            let end: GetEnd = frame.decode().map_err(malformed)?;
            if self.next_block != self.end_block || end.chunk_length < self.end {
                return Err(malformed(Malformed::Lengths));
            }
            self.chunk_length = Some(end.chunk_length);
            self.connection.end_request();
            return Ok(None);
        }
        if frame.frame_type != FrameType::Data {
            return Err(malformed(Malformed::Unexpected(frame.frame_type)));
        }
        let head = DataHead::decode(&frame.body).map_err(malformed)?;
        let count = blocks::count(frame.data_length) as u64;
        let in_order =
            u64::from(head.first_block) == self.next_block && self.next_block + count <= self.end_block;
        let whole =
            frame.data_length.is_multiple_of(BLOCK_BYTES) || self.next_block + count == self.end_block;
        if !in_order || !whole {
            return Err(malformed(Malformed::Lengths));
        }
        let into = into.get_mut(..frame.data_length).ok_or(Error::Misuse {
            node,
            what: "a buffer too short for a data frame",
        })?;
        match self.connection.receive(into).await {
            Some(done) => done.map_err(|error| Error::of_transport(node, error))?,
            None => {
                let what = "send the rest of a frame";
                return Err(Error::Timeout { node, what, limit });
            }
        }
        blocks::verify(self.attempt, head.first_block, into, &head.checksums).map_err(|corrupt| {
            Error::Corrupt {
                node,
                attempt: self.attempt,
                block: corrupt.0,
            }
        })?;
        self.next_block += count;
        Ok(Some(Received {
            offset: u64::from(head.first_block) * BLOCK_BYTES as u64,
            length: frame.data_length,
            checksums: head.checksums,
        }))
    }

    /// The length of the whole chunk; known once [`Get::next`] said that the range is complete.
    pub fn chunk_length(&self) -> Option<u64> {
        self.chunk_length
    }

    /// The request on this connection, for logs.
    pub fn request(&self) -> RequestNumber {
        self.request
    }
}

#[cfg(test)]
mod tests;
