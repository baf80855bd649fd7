//! Frames: a fixed header, a small body, and for data frames a run of blocks behind it.
//!
//! Invariant: a stream that is out of step is noticed before a length of it is believed, because the header carries a
//! checksum of itself, and a length above its limit ends the connection (P10). The body has a checksum of its own; the
//! blocks have theirs in the body ([`super::blocks`]), so that nothing is summed twice on the way.
//!
//! Pure: no input or output here. [`super::transport`] moves frames.

use common::checksum::crc64;

use super::blocks;

/// The first bytes in both directions, before the first frame.
pub const PREFACE: &[u8; 8] = b"DBFSBULK";

/// Length of a frame's header.
pub const HEADER_BYTES: usize = 24;
/// The longest body of a frame.
pub const BODY_BYTES_MAX: usize = 16 << 10;
/// The most payload that one data frame carries: 16 blocks.
pub const DATA_BYTES_MAX: usize = 1 << 20;

const MARKER: u8 = 0xdb;
const CHECKSUM_BYTES: usize = 8;
const FIRST_BLOCK_BYTES: usize = 4;

/// Names one request of a connection: chosen by the side that asks, in use by at most one request at a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct RequestNumber(u32);

impl RequestNumber {
    /// Frames that concern the connection as a whole.
    pub const CONNECTION: RequestNumber = RequestNumber(0);

    /// From the wire.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// For the wire.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number after this one; never [`RequestNumber::CONNECTION`].
    #[must_use]
    pub const fn next(self) -> Self {
        match self.0.checked_add(1) {
            Some(next) => Self(next),
            None => Self(1),
        }
    }
}

/// What a frame says. 64 to 79 are reserved for the one-round-trip frames of small files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameType {
    /// First frame in both directions.
    Hello,
    /// Last frame of the side that ends the connection.
    Goodbye,
    /// Begins a put.
    PutBegin,
    /// A run of blocks, of a put or of a get.
    Data,
    /// All blocks of the put were sent.
    PutEnd,
    /// The asking side is no longer interested.
    Cancel,
    /// Asks for a range of a chunk.
    Get,
    /// Payload has arrived, or a request waits for its turn: the sender of this lives and the link carries.
    Progress,
    /// The put is durable.
    Stored,
    /// All blocks of the get were sent.
    GetEnd,
    /// The request is over without success.
    Failed,
}

impl FrameType {
    const ALL: [(FrameType, u8); 11] = [
        (FrameType::Hello, 1),
        (FrameType::Goodbye, 2),
        (FrameType::PutBegin, 16),
        (FrameType::Data, 17),
        (FrameType::PutEnd, 18),
        (FrameType::Cancel, 19),
        (FrameType::Get, 20),
        (FrameType::Progress, 21),
        (FrameType::Stored, 32),
        (FrameType::GetEnd, 33),
        (FrameType::Failed, 34),
    ];

    fn code(self) -> u8 {
        let found = Self::ALL.iter().find(|(frame_type, _)| *frame_type == self);
        found.map_or(0, |(_, code)| *code)
    }

    fn from_code(code: u8) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, of)| *of == code);
        found.map(|(frame_type, _)| *frame_type)
    }
}

/// The bytes are not a frame of this protocol. The connection is of no further use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// The stream does not begin as this protocol does.
    #[error("the other side does not speak the bulk protocol")]
    Preface,
    /// The bytes where a header should be are none.
    #[error("the stream is out of step: no frame header where one was due")]
    Header,
    /// A body differs from its checksum.
    #[error("a frame's body does not match its checksum")]
    BodyChecksum,
    /// A frame of a kind that was not agreed on.
    #[error("frame type {0} is not known")]
    UnknownType(u8),
    /// Flags that were not agreed on.
    #[error("frame flags {0:#x} are not known")]
    UnknownFlags(u16),
    /// The body is above its limit.
    #[error("a frame body of {0} bytes is above the limit of {BODY_BYTES_MAX}")]
    BodyTooLong(u32),
    /// The data is above its limit.
    #[error("a data frame of {0} bytes is above the limit of {DATA_BYTES_MAX}")]
    DataTooLong(u32),
    /// Body and data do not fit together.
    #[error("the lengths of a frame contradict each other")]
    Lengths,
    /// The stream ended within a frame.
    #[error("the connection ended within a frame")]
    Truncated,
    /// A body that does not decode, or with a field of the wrong form.
    #[error("the field '{0}' of a frame is malformed")]
    Field(&'static str),
    /// A frame that has no place here.
    #[error("a {0:?} frame was not expected here")]
    Unexpected(FrameType),
}

/// A frame's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// What the frame says.
    pub frame_type: FrameType,
    /// The request concerned.
    pub request: RequestNumber,
    /// Length of the body, at most [`BODY_BYTES_MAX`].
    pub body_length: usize,
    /// Length of the data behind the body, at most [`DATA_BYTES_MAX`].
    pub data_length: usize,
    body_checksum: u32,
}

impl Header {
    /// The header for `body` with `data_length` bytes of data behind it.
    pub fn new(frame_type: FrameType, request: RequestNumber, body: &[u8], data_length: usize) -> Self {
        debug_assert!(
            body.len() <= BODY_BYTES_MAX && data_length <= DATA_BYTES_MAX,
            "limits"
        );
        Self {
            frame_type,
            request,
            body_length: body.len(),
            data_length,
            body_checksum: crc64(body) as u32,
        }
    }

    /// As it travels, big endian: marker, type, flags, request, body length, data length, checksum of the body,
    /// checksum of these (both the low 32 bits of a CRC-64/NVME).
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let fields: [&[u8]; 5] = [
            &[MARKER, self.frame_type.code(), 0, 0],
            &self.request.0.to_be_bytes(),
            &(self.body_length as u32).to_be_bytes(),
            &(self.data_length as u32).to_be_bytes(),
            &self.body_checksum.to_be_bytes(),
        ];
        let (fixed, checksum) = out.split_at_mut(HEADER_BYTES - 4);
        for (slot, field) in fixed.chunks_exact_mut(4).zip(fields) {
            slot.copy_from_slice(field);
        }
        checksum.copy_from_slice(&(crc64(fixed) as u32).to_be_bytes());
        out
    }

    /// The inverse of [`Header::encode`].
    ///
    /// # Errors
    /// The bytes are no header, or announce something beyond this protocol's limits.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Malformed> {
        let (fixed, checksum) = bytes.split_at(HEADER_BYTES - 4);
        let mut words = fixed
            .chunks_exact(4)
            .map(|word| word.try_into().map_or(0, u32::from_be_bytes));
        let mut word = || words.next().unwrap_or_default();
        let (kind, request, body_length, data_length, body_checksum) =
            (word(), word(), word(), word(), word());
        let [marker, code, flags_high, flags_low] = kind.to_be_bytes();
        if marker != MARKER || checksum != (crc64(fixed) as u32).to_be_bytes() {
            return Err(Malformed::Header);
        }
        let flags = u16::from_be_bytes([flags_high, flags_low]);
        if flags != 0 {
            return Err(Malformed::UnknownFlags(flags));
        }
        let frame_type = FrameType::from_code(code).ok_or(Malformed::UnknownType(code))?;
        if body_length as usize > BODY_BYTES_MAX {
            return Err(Malformed::BodyTooLong(body_length));
        }
        if data_length as usize > DATA_BYTES_MAX {
            return Err(Malformed::DataTooLong(data_length));
        }
        let header = Self {
            frame_type,
            request: RequestNumber(request),
            body_length: body_length as usize,
            data_length: data_length as usize,
            body_checksum,
        };
        if header.lengths_agree() {
            Ok(header)
        } else {
            Err(Malformed::Lengths)
        }
    }

    fn lengths_agree(&self) -> bool {
        if self.frame_type == FrameType::Data {
            let checksums = blocks::count(self.data_length) * CHECKSUM_BYTES;
            self.data_length > 0 && self.body_length == FIRST_BLOCK_BYTES + checksums
        } else {
            self.data_length == 0
        }
    }

    /// Checks the body that came with this header.
    ///
    /// # Errors
    /// It differs from the one that was sent.
    pub fn check_body(&self, body: &[u8]) -> Result<(), Malformed> {
        if crc64(body) as u32 == self.body_checksum {
            Ok(())
        } else {
            Err(Malformed::BodyChecksum)
        }
    }
}

/// The body of a data frame: which blocks follow, and their checksums.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DataHead {
    /// The number of the first block in the chunk, from 0.
    pub first_block: u32,
    /// One for every block.
    pub checksums: Vec<u64>,
}

impl DataHead {
    /// Appends the body for `checksums` from `first_block` on.
    pub fn encode(first_block: u32, checksums: &[u64], out: &mut Vec<u8>) {
        out.extend_from_slice(&first_block.to_be_bytes());
        for checksum in checksums {
            out.extend_from_slice(&checksum.to_be_bytes());
        }
    }

    /// The inverse of [`DataHead::encode`].
    ///
    /// # Errors
    /// The body has a length that no data frame has.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let (first, rest) = body
            .split_first_chunk::<FIRST_BLOCK_BYTES>()
            .ok_or(Malformed::Lengths)?;
        let (sums, []) = rest.as_chunks::<CHECKSUM_BYTES>() else {
            return Err(Malformed::Lengths);
        };
        Ok(Self {
            first_block: u32::from_be_bytes(*first),
            checksums: sums.iter().map(|sum| u64::from_be_bytes(*sum)).collect(),
        })
    }
}

#[cfg(test)]
mod tests;
