//! One newtype per concept, each with one place that parses and prints it.
//!
//! Two families: **counters** (`u64`, printed in decimal) are handed out by a committed Raft entry and therefore
//! never repeat within their group; **tokens** (128 random bits, printed as 32 hex digits) need no coordination.

use std::fmt;
use std::str::FromStr;

/// An identifier did not have the form of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a {kind}: expected {expected}")]
pub struct ParseIdError {
    kind: &'static str,
    expected: &'static str,
    text: String,
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Wraps a number that a committed entry handed out.
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// The number, for wire and disk.
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.parse().map(Self).map_err(|_| ParseIdError {
                    kind: $kind,
                    expected: "a decimal number",
                    text: text.to_owned(),
                })
            }
        }
    };
}

macro_rules! token {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; 16]);

        impl $name {
            /// Wraps 128 bits that came from a random source, the wire or the disk.
            pub const fn new(bits: [u8; 16]) -> Self {
                Self(bits)
            }

            /// The bits, for wire and disk.
            pub const fn bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "("))?;
                write_hex(f, &self.0)?;
                f.write_str(")")
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self).ok_or_else(|| ParseIdError {
                    kind: $kind,
                    expected: "32 hexadecimal digits",
                    text: text.to_owned(),
                })
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = ParseIdError;
            fn try_from(bytes: &[u8]) -> Result<Self, ParseIdError> {
                bytes.try_into().map(Self).map_err(|_| ParseIdError {
                    kind: $kind,
                    expected: "16 bytes",
                    text: format!("{} bytes", bytes.len()),
                })
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseIdError;
            fn try_from(text: String) -> Result<Self, ParseIdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    };
}

counter!(
    /// A member of one Raft group: the log index of its committed join entry (1 for the founder). Kept in the data
    /// directory; never a hostname, an ordinal or an address. An emptied disk is a new node.
    NodeId,
    "node id"
);
counter!(
    /// A leadership: the log index of the `LeaderStarted` entry which it committed before its first order. Orders of
    /// a lower epoch than the highest seen are refused (P7).
    Epoch,
    "epoch"
);
counter!(
    /// A position in one group's Raft log.
    LogIndex,
    "log index"
);
counter!(
    /// An upload session: a number from the names layer's committed counter. One upload makes at most one version.
    UploadId,
    "upload id"
);
counter!(
    /// An upload as its cluster counts it: handed out when the cluster commits `Open`, and written into every chunk
    /// record. At or below the cluster's high-water mark and not live means known dead; above it means lost state.
    UploadNumber,
    "upload number"
);
counter!(
    /// One immutable content of a file. Equal in number to the [`UploadId`] that made it.
    VersionId,
    "version id"
);
counter!(
    /// A user.
    UserId,
    "user id"
);
counter!(
    /// A top-level namespace with an owner and a quota.
    BucketId,
    "bucket id"
);
counter!(
    /// A directory row; its parent and name are columns, so that a rename is one row.
    DirectoryId,
    "directory id"
);
counter!(
    /// Counts how often a cluster's or names group's state was founded or rebuilt.
    Generation,
    "generation"
);
counter!(
    /// A data-plane key of one cluster. Current and previous keys are accepted.
    KeyId,
    "key id"
);

token!(
    /// One Raft group of the installation: a cluster or the names group. Made at founding.
    ClusterId,
    "cluster id"
);
token!(
    /// One data directory of one node. Made when the directory is first used.
    DiskId,
    "disk id"
);
token!(
    /// Chosen by a client for one upload, so that a retry finds the same session (P4).
    IdempotencyKey,
    "idempotency key"
);
token!(
    /// One request, for logs and error messages.
    RequestId,
    "request id"
);
token!(
    /// Made durable by a node before it asks to join, so that a join whose answer was lost is not committed twice.
    JoinNonce,
    "join nonce"
);

impl UploadId {
    /// The version which this upload makes, if it is published.
    pub const fn version(self) -> VersionId {
        VersionId::new(self.0)
    }
}

impl VersionId {
    /// The upload that made this version.
    pub const fn upload(self) -> UploadId {
        UploadId::new(self.0)
    }
}

/// One try at writing one chunk: unique in its cluster without a commit of its own, because an epoch has one leader
/// and a leader counts. Printed as `epoch-sequence`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AttemptId {
    epoch: u64,
    sequence: u64,
}

impl AttemptId {
    /// The `sequence`-th attempt planned by the leader of `epoch`.
    pub const fn new(epoch: Epoch, sequence: u64) -> Self {
        Self {
            epoch: epoch.get(),
            sequence,
        }
    }

    /// The leadership that planned it.
    pub const fn epoch(self) -> Epoch {
        Epoch::new(self.epoch)
    }

    /// Its place in that leadership.
    pub const fn sequence(self) -> u64 {
        self.sequence
    }

    /// 16 bytes, big endian, so that byte order is planning order.
    pub fn to_bytes(self) -> [u8; 16] {
        ((u128::from(self.epoch) << 64) | u128::from(self.sequence)).to_be_bytes()
    }

    /// The inverse of [`AttemptId::to_bytes`].
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let bits = u128::from_be_bytes(bytes);
        Self {
            epoch: (bits >> 64) as u64,
            sequence: bits as u64,
        }
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.sequence)
    }
}

impl fmt::Debug for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AttemptId({self})")
    }
}

impl FromStr for AttemptId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let parse = || {
            let (epoch, sequence) = text.split_once('-')?;
            Some(Self {
                epoch: epoch.parse().ok()?,
                sequence: sequence.parse().ok()?,
            })
        };
        parse().ok_or_else(|| ParseIdError {
            kind: "attempt id",
            expected: "epoch-sequence, both decimal",
            text: text.to_owned(),
        })
    }
}

impl TryFrom<&[u8]> for AttemptId {
    type Error = ParseIdError;
    fn try_from(bytes: &[u8]) -> Result<Self, ParseIdError> {
        bytes.try_into().map(Self::from_bytes).map_err(|_| ParseIdError {
            kind: "attempt id",
            expected: "16 bytes",
            text: format!("{} bytes", bytes.len()),
        })
    }
}

/// A BLAKE3 digest (32 bytes), printed as `b3sum` prints it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Wraps 32 bytes of BLAKE3 output.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for wire and disk.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl TryFrom<&[u8]> for Digest {
    type Error = ParseIdError;
    fn try_from(bytes: &[u8]) -> Result<Self, ParseIdError> {
        bytes.try_into().map(Self).map_err(|_| ParseIdError {
            kind: "digest",
            expected: "32 bytes",
            text: format!("{} bytes", bytes.len()),
        })
    }
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn parse_hex(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_print_and_parse() {
        let id = ClusterId::new([0xab; 16]);
        assert_eq!(id.to_string().parse::<ClusterId>(), Ok(id));
        assert!("abc".parse::<ClusterId>().is_err());
        assert!("+0000000000000000000000000000000".parse::<ClusterId>().is_err());
    }

    #[test]
    fn attempts_order_by_epoch_then_sequence() {
        let early = AttemptId::new(Epoch::new(1), u64::MAX);
        let late = AttemptId::new(Epoch::new(2), 0);
        assert!(early.to_bytes() < late.to_bytes());
        assert_eq!(AttemptId::from_bytes(early.to_bytes()), early);
        assert_eq!(late.to_string().parse::<AttemptId>(), Ok(late));
    }
}
