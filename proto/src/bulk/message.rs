//! The bodies of control frames, validated: generated types stop here.

use std::time::Duration;

use common::error::Kind;
use common::ids::{AttemptId, ClusterId, Digest, NodeId};
use prost::Message;

use super::frame::{FrameType, Malformed};
use super::grant;
use super::receipt::Receipt;
use super::v1 as wire;

/// The oldest and the newest version of the bulk protocol that this build speaks (P12).
pub const VERSION_MIN: u32 = 2;
/// See [`VERSION_MIN`].
pub const VERSION_MAX: u32 = 2;

/// The longest path hint, in bytes.
pub const PATH_HINT_BYTES_MAX: usize = 1024;

const TEXT_BYTES_MAX: usize = 1024;

/// A body that one frame type carries.
pub trait Body: Sized {
    /// The frame type.
    const FRAME_TYPE: FrameType;
    /// As it travels.
    fn encode(&self) -> Vec<u8>;
    /// The inverse of [`Body::encode`].
    ///
    /// # Errors
    /// The bytes do not decode, or a field has the wrong form; the error names it.
    fn decode(bytes: &[u8]) -> Result<Self, Malformed>;
}

/// Who speaks, and what they understand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Oldest version of the protocol.
    pub version_min: u32,
    /// Newest version of the protocol.
    pub version_max: u32,
    /// The cluster meant, or the cluster that this is.
    pub cluster: ClusterId,
    /// Optional features, one bit each.
    pub features: u64,
    /// The node that speaks; `None` for those who are not nodes.
    pub node: Option<NodeId>,
}

impl Body for Hello {
    const FRAME_TYPE: FrameType = FrameType::Hello;

    fn encode(&self) -> Vec<u8> {
        wire::Hello {
            version_min: self.version_min,
            version_max: self.version_max,
            cluster_id: self.cluster.bytes().to_vec().into(),
            features: self.features,
            node_id: self.node.map_or(0, NodeId::get),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let hello = wire::Hello::decode(bytes).map_err(|_| Malformed::Field("hello"))?;
        Ok(Self {
            version_min: hello.version_min,
            version_max: hello.version_max,
            cluster: ClusterId::try_from(hello.cluster_id.as_ref())
                .map_err(|_| Malformed::Field("cluster_id"))?,
            features: hello.features,
            node: (hello.node_id != 0).then(|| NodeId::new(hello.node_id)),
        })
    }
}

/// Why the other side ends the connection.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Goodbye {
    /// What the receiver can do.
    pub kind: Kind,
    /// Stable name, for example `E_WRONG_CLUSTER`.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// Come back no sooner than this.
    pub retry_after: Duration,
}

impl Goodbye {
    /// A goodbye of `kind` with a stable `code` and one sentence.
    pub fn new(kind: Kind, code: &str, message: impl Into<String>) -> Self {
        Self {
            kind,
            code: code.to_owned(),
            message: message.into(),
            retry_after: Duration::ZERO,
        }
    }
}

impl Body for Goodbye {
    const FRAME_TYPE: FrameType = FrameType::Goodbye;

    fn encode(&self) -> Vec<u8> {
        wire::Goodbye {
            kind: self.kind.code(),
            code: self.code.clone(),
            message: shortened(&self.message, TEXT_BYTES_MAX),
            retry_after_millis: millis(self.retry_after),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let goodbye = wire::Goodbye::decode(bytes).map_err(|_| Malformed::Field("goodbye"))?;
        Ok(Self {
            kind: Kind::from_code(goodbye.kind),
            code: goodbye.code,
            message: goodbye.message,
            retry_after: Duration::from_millis(goodbye.retry_after_millis.into()),
        })
    }
}

/// Begins a put: the blocks of `attempt` follow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PutBegin {
    /// The permit for the node that receives this.
    pub grant: Vec<u8>,
    /// The permit which it hands on to the delegate; empty where there is none.
    pub delegate_grant: Vec<u8>,
    /// The attempt that the permits are for.
    pub attempt: AttemptId,
    /// How many bytes will follow, at least 1, where known. A hint of at most
    /// [`PIPELINED_BYTES_MAX`](super::pipeline::PIPELINED_BYTES_MAX) is binding.
    pub length_hint: Option<u64>,
    /// Where the file was to be, for the operator's `/lost+found` alone. At most [`PATH_HINT_BYTES_MAX`].
    pub path_hint: String,
}

impl Body for PutBegin {
    const FRAME_TYPE: FrameType = FrameType::PutBegin;

    fn encode(&self) -> Vec<u8> {
        wire::PutBegin {
            grant: self.grant.clone().into(),
            delegate_grant: self.delegate_grant.clone().into(),
            attempt: self.attempt.to_bytes().to_vec().into(),
            length_hint: self.length_hint,
            path_hint: shortened(&self.path_hint, PATH_HINT_BYTES_MAX),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let begin = wire::PutBegin::decode(bytes).map_err(|_| Malformed::Field("put_begin"))?;
        if begin.path_hint.len() > PATH_HINT_BYTES_MAX {
            return Err(Malformed::Field("path_hint"));
        }
        if begin.delegate_grant.len() > grant::GRANT_BYTES {
            return Err(Malformed::Field("delegate_grant"));
        }
        if begin.length_hint == Some(0) {
            return Err(Malformed::Field("length_hint"));
        }
        Ok(Self {
            grant: begin.grant.into(),
            delegate_grant: begin.delegate_grant.into(),
            attempt: attempt(&begin.attempt)?,
            length_hint: begin.length_hint,
            path_hint: begin.path_hint,
        })
    }
}

/// All blocks of a put were sent: this is what they make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PutEnd {
    /// Bytes of payload.
    pub length: u64,
    /// BLAKE3 chaining value of the chunk at its place in the file.
    pub digest: Digest,
}

impl Body for PutEnd {
    const FRAME_TYPE: FrameType = FrameType::PutEnd;

    fn encode(&self) -> Vec<u8> {
        wire::PutEnd {
            length: self.length,
            digest: self.digest.bytes().to_vec().into(),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let end = wire::PutEnd::decode(bytes).map_err(|_| Malformed::Field("put_end"))?;
        Ok(Self {
            length: end.length,
            digest: Digest::try_from(end.digest.as_ref()).map_err(|_| Malformed::Field("digest"))?,
        })
    }
}

impl Body for Receipt {
    const FRAME_TYPE: FrameType = FrameType::Stored;

    fn encode(&self) -> Vec<u8> {
        let receipt = Some(self.into());
        wire::Stored { receipt }.encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let stored = wire::Stored::decode(bytes).map_err(|_| Malformed::Field("stored"))?;
        let receipt = stored.receipt.ok_or(Malformed::Field("receipt"))?;
        Receipt::try_from(&receipt).map_err(|_| Malformed::Field("receipt"))
    }
}

/// Asks for bytes `offset..offset + length` of a chunk, which are sent as whole blocks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GetRequest {
    /// The permit.
    pub grant: Vec<u8>,
    /// The attempt that the permit is for.
    pub attempt: AttemptId,
    /// The first byte wanted.
    pub offset: u64,
    /// How many, at least 1.
    pub length: u64,
}

impl Body for GetRequest {
    const FRAME_TYPE: FrameType = FrameType::Get;

    fn encode(&self) -> Vec<u8> {
        wire::Get {
            grant: self.grant.clone().into(),
            attempt: self.attempt.to_bytes().to_vec().into(),
            offset: self.offset,
            length: self.length,
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let get = wire::Get::decode(bytes).map_err(|_| Malformed::Field("get"))?;
        if get.length == 0 || get.offset.checked_add(get.length).is_none() {
            return Err(Malformed::Field("length"));
        }
        Ok(Self {
            grant: get.grant.into(),
            attempt: attempt(&get.attempt)?,
            offset: get.offset,
            length: get.length,
        })
    }
}

/// All blocks of a get were sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GetEnd {
    /// Bytes of payload of the whole chunk.
    pub chunk_length: u64,
}

impl Body for GetEnd {
    const FRAME_TYPE: FrameType = FrameType::GetEnd;

    fn encode(&self) -> Vec<u8> {
        let chunk_length = self.chunk_length;
        wire::GetEnd { chunk_length }.encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let end = wire::GetEnd::decode(bytes).map_err(|_| Malformed::Field("get_end"))?;
        Ok(Self {
            chunk_length: end.chunk_length,
        })
    }
}

/// A request is over without success.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("node {node}: {message}")]
pub struct Failure {
    /// Who failed: the node that was asked, or the delegate behind it.
    pub node: NodeId,
    /// What the caller can do.
    pub kind: Kind,
    /// Stable name, for example `E_GRANT_EXPIRED`.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// For Busy and Retry: wait at least this long. Zero means: your own backoff.
    pub retry_after: Duration,
    /// Where one block is to blame, its number in the chunk, from 0.
    pub block: Option<u32>,
}

impl Failure {
    /// `node` failed with `kind`, a stable `code` and one sentence.
    pub fn new(node: NodeId, kind: Kind, code: &str, message: impl Into<String>) -> Self {
        Self {
            node,
            kind,
            code: code.to_owned(),
            message: message.into(),
            retry_after: Duration::ZERO,
            block: None,
        }
    }
}

impl Body for Failure {
    const FRAME_TYPE: FrameType = FrameType::Failed;

    fn encode(&self) -> Vec<u8> {
        wire::Failed {
            kind: self.kind.code(),
            code: self.code.clone(),
            message: shortened(&self.message, TEXT_BYTES_MAX),
            retry_after_millis: millis(self.retry_after),
            node_id: self.node.get(),
            block_from_one: self.block.map_or(0, |block| block.saturating_add(1)),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let failed = wire::Failed::decode(bytes).map_err(|_| Malformed::Field("failed"))?;
        Ok(Self {
            node: NodeId::new(failed.node_id),
            kind: Kind::from_code(failed.kind),
            code: failed.code,
            message: failed.message,
            retry_after: Duration::from_millis(failed.retry_after_millis.into()),
            block: failed.block_from_one.checked_sub(1),
        })
    }
}

fn attempt(bytes: &[u8]) -> Result<AttemptId, Malformed> {
    AttemptId::try_from(bytes).map_err(|_| Malformed::Field("attempt"))
}

fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}

/// As much of `text` as `bytes_max` holds.
fn shortened(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::Epoch;

    fn round_trip<B: Body + PartialEq + std::fmt::Debug>(body: B) {
        assert_eq!(B::decode(&body.encode()), Ok(body));
    }

    #[test]
    fn bodies_round_trip() {
        round_trip(Hello {
            version_min: 1,
            version_max: 2,
            cluster: ClusterId::new([3; 16]),
            features: 4,
            node: Some(NodeId::new(5)),
        });
        round_trip(Goodbye::new(Kind::Busy, "E_BUSY", "too many connections"));
        round_trip(PutBegin {
            grant: vec![1; 110],
            delegate_grant: Vec::new(),
            attempt: AttemptId::new(Epoch::new(1), 2),
            length_hint: None,
            path_hint: "/a/b".to_owned(),
        });
        round_trip(PutEnd {
            length: 9,
            digest: Digest::new([1; 32]),
        });
        round_trip(GetRequest {
            grant: vec![],
            attempt: AttemptId::default(),
            offset: 1,
            length: 2,
        });
        round_trip(GetEnd { chunk_length: 7 });
        round_trip(Failure {
            block: Some(0),
            retry_after: Duration::from_millis(30),
            ..Failure::new(NodeId::new(1), Kind::Corrupt, "E_BLOCK_CORRUPT", "block 0")
        });
    }

    #[test]
    fn hostile_bodies_are_refused() {
        assert!(PutBegin::decode(&[0xff; 40]).is_err());
        let empty = GetRequest {
            grant: vec![],
            attempt: AttemptId::default(),
            offset: u64::MAX,
            length: 2,
        };
        assert_eq!(
            GetRequest::decode(&empty.encode()),
            Err(Malformed::Field("length"))
        );
        let long = Failure::new(NodeId::new(1), Kind::Fatal, "E", "ä".repeat(4000));
        assert!(long.encode().len() < 2 * TEXT_BYTES_MAX);
    }
}
