//! Everything this crate persists or puts into the log, with its tags and versions (P12). Nothing else in the crate
//! encodes.
//!
//! In a member's directory:
//!
//! | file | content |
//! |---|---|
//! | `lock` | held while a process uses the directory |
//! | `identity` | [`Identity`], framed by [`seal`]: who this member is; written durably before it acts on it |
//! | `log.db` | the Raft log: SQLite, WAL, `synchronous=FULL` |
//! | `state.current` | which generation of the state machine is in force (decimal) |
//! | `state-N.db` | the state machine: SQLite, WAL, `synchronous=NORMAL` (what a crash takes is replayed) |
//! | `incoming-*`, `outgoing-*` | snapshots under way, an incoming one named after its digest; removed at start |
//!
//! A log entry is one tag byte, then its content: nothing ([`TAG_BLANK`]), an [`Entry`] ([`TAG_ENTRY`]) or a
//! [`Membership`] ([`TAG_MEMBERSHIP`]). The same bytes travel between members. In `log.db` each row carries
//! [`row_checksum`] over index, term and content.

use std::io;

use common::checksum::crc64;
use common::ids::{ClusterId, JoinNonce, NodeId};
use common::time::ClusterTime;
use prost::Message;
use prost::bytes::{BufMut, Bytes, BytesMut};

use crate::machine::FeatureLevel;
use crate::status::MemberRecord;

/// Version of `log.db`.
pub(crate) const LOG_FORMAT: u32 = 1;
/// Version of the `consensus_*` tables in the state machine.
pub(crate) const STATE_FORMAT: u32 = 3;
/// Version of [`Identity`].
pub(crate) const IDENTITY_FORMAT: u32 = 1;
/// Version of [`Entry`]. A member that meets a higher one ends: it must be upgraded first.
pub(crate) const ENTRY_FORMAT: u32 = 1;

/// An entry without content, which a new leader appends.
pub(crate) const TAG_BLANK: u8 = 0;
/// An [`Entry`] follows.
pub(crate) const TAG_ENTRY: u8 = 1;
/// A [`Membership`] follows.
pub(crate) const TAG_MEMBERSHIP: u8 = 2;

/// Tables of `log.db`.
pub(crate) const LOG_TABLES: &str = "
CREATE TABLE IF NOT EXISTS meta (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log (
    idx INTEGER PRIMARY KEY,
    term INTEGER NOT NULL,
    payload BLOB NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
";

/// Our tables in the state machine; the tier's stand beside them.
pub(crate) const STATE_TABLES: &str = "
CREATE TABLE IF NOT EXISTS consensus_state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    position BLOB NOT NULL,
    membership BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS consensus_members (
    node INTEGER PRIMARY KEY,
    nonce BLOB NOT NULL UNIQUE,
    active INTEGER NOT NULL,
    record BLOB NOT NULL,
    -- Cluster time in ms at which the member was set aside; 0 while it takes part.
    aside_since INTEGER NOT NULL DEFAULT 0
) STRICT;
";

/// Keys of `meta` in `log.db`. Values are framed by [`seal`].
pub(crate) mod meta_key {
    /// [`super::Owner`].
    pub(crate) const OWNER: &str = "owner";
    /// [`super::Vote`].
    pub(crate) const VOTE: &str = "vote";
    /// [`super::LogId`]: known to be committed.
    pub(crate) const COMMITTED: &str = "committed";
    /// [`super::LogId`]: everything up to here was removed.
    pub(crate) const PURGED: &str = "purged";
}

/// Whose directory this is, and how far its making got.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Identity {
    #[prost(uint32, tag = "1")]
    pub(crate) format: u32,
    #[prost(string, tag = "2")]
    pub(crate) group: String,
    #[prost(enumeration = "Stage", tag = "3")]
    pub(crate) stage: i32,
    /// Empty while joining.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) cluster: Vec<u8>,
    /// 0 while joining.
    #[prost(uint64, tag = "5")]
    pub(crate) node: u64,
    #[prost(bytes = "vec", tag = "6")]
    pub(crate) nonce: Vec<u8>,
}

/// How far the making of a member got. Each is durable before the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Stage {
    /// Never written.
    Unknown = 0,
    /// A nonce is chosen; the group may or may not have given us an id for it.
    Joining = 1,
    /// The group's ids are known; the stores may not exist yet.
    Joined = 2,
    /// A cluster id is chosen; the log may or may not hold its first entry.
    Founding = 3,
    /// The stores exist: from now on a missing one is a fault, never a reason to begin anew.
    Member = 4,
}

/// Whose `log.db` this is.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Owner {
    #[prost(uint32, tag = "1")]
    pub(crate) format: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) cluster: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub(crate) node: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Message)]
pub(crate) struct LogId {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) index: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Vote {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) node: u64,
    #[prost(bool, tag = "3")]
    pub(crate) committed: bool,
}

/// Who votes and who only stores. Two configs while one is replaced by the other.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Membership {
    #[prost(message, optional, tag = "1")]
    pub(crate) log_id: Option<LogId>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) configs: Vec<Voters>,
    #[prost(uint64, repeated, tag = "3")]
    pub(crate) nodes: Vec<u64>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Voters {
    #[prost(uint64, repeated, tag = "1")]
    pub(crate) nodes: Vec<u64>,
}

/// Where the state machine stands; one row, written with every batch.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Position {
    #[prost(uint32, tag = "1")]
    pub(crate) format: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) cluster: Vec<u8>,
    /// Absent before the first entry.
    #[prost(message, optional, tag = "3")]
    pub(crate) applied: Option<LogId>,
    #[prost(uint64, tag = "4")]
    pub(crate) cluster_time: u64,
    /// Commands applied so far.
    #[prost(uint64, tag = "5")]
    pub(crate) sequence: u64,
    /// Absent before the first leadership.
    #[prost(message, optional, tag = "6")]
    pub(crate) leadership: Option<Leadership>,
    /// The feature level in force.
    #[prost(uint32, tag = "7")]
    pub(crate) level: u32,
}

/// The leadership in force.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Leadership {
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) node: u64,
}

/// What travels ahead of a snapshot's file.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct SnapshotMeta {
    #[prost(uint32, tag = "1")]
    pub(crate) format: u32,
    #[prost(message, optional, tag = "2")]
    pub(crate) applied: Option<LogId>,
    #[prost(message, optional, tag = "3")]
    pub(crate) membership: Option<Membership>,
}

/// One log entry.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Entry {
    #[prost(uint32, tag = "1")]
    pub(crate) format: u32,
    /// Stamped by the leader; applied as the highest seen.
    #[prost(uint64, tag = "2")]
    pub(crate) cluster_time: u64,
    #[prost(oneof = "Kind", tags = "3, 4, 5, 6, 7, 8, 9, 10")]
    pub(crate) kind: Option<Kind>,
}

/// What a log entry does.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Kind {
    /// The tier's commands, in order.
    #[prost(message, tag = "3")]
    Commands(Commands),
    /// A leadership begins; its epoch is the index of this entry.
    #[prost(message, tag = "4")]
    LeaderStarted(LeaderStarted),
    /// A new member; its id is the index of this entry, unless its nonce is known.
    #[prost(message, tag = "5")]
    Join(Join),
    /// A member's own record; a member that was set aside takes part again.
    #[prost(message, tag = "6")]
    Announce(Announce),
    /// Time goes on.
    #[prost(message, tag = "7")]
    Tick(Tick),
    /// A member that stays away takes no part until it announces itself.
    #[prost(message, tag = "8")]
    SetAside(SetAside),
    /// The record of a member that was set aside goes; it makes a new one when it announces itself.
    #[prost(message, tag = "9")]
    Forget(Forget),
    /// The group works at a higher feature level from here on, if all members still know it.
    #[prost(message, tag = "10")]
    RaiseLevel(RaiseLevel),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Commands {
    #[prost(message, repeated, tag = "1")]
    pub(crate) commands: Vec<Command>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Command {
    /// Refused under any other epoch.
    #[prost(uint64, optional, tag = "1")]
    pub(crate) epoch: Option<u64>,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) body: Bytes,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct LeaderStarted {
    #[prost(uint64, tag = "1")]
    pub(crate) node: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) term: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Join {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) nonce: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    pub(crate) record: Option<Record>,
    #[prost(uint64, tag = "3")]
    pub(crate) members_max: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Announce {
    #[prost(uint64, tag = "1")]
    pub(crate) node: u64,
    #[prost(message, optional, tag = "2")]
    pub(crate) record: Option<Record>,
    /// For a member without a row, which gets one: the founder, which has no join entry, and a member that was forgotten.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) nonce: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Tick {}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct SetAside {
    #[prost(uint64, tag = "1")]
    pub(crate) node: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct RaiseLevel {
    #[prost(uint32, tag = "1")]
    pub(crate) level: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Forget {
    #[prost(uint64, tag = "1")]
    pub(crate) node: u64,
}

/// [`MemberRecord`] as it is stored.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Record {
    #[prost(string, tag = "1")]
    pub(crate) control: String,
    #[prost(string, tag = "2")]
    pub(crate) data: String,
    #[prost(string, tag = "3")]
    pub(crate) name: String,
    #[prost(string, tag = "4")]
    pub(crate) zone: String,
    #[prost(string, tag = "5")]
    pub(crate) host: String,
    #[prost(uint32, tag = "6")]
    pub(crate) level: u32,
}

impl From<&MemberRecord> for Record {
    fn from(record: &MemberRecord) -> Self {
        Self {
            control: record.control.clone(),
            data: record.data.clone(),
            name: record.name.clone(),
            zone: record.zone.clone(),
            host: record.host.clone(),
            level: record.level.get(),
        }
    }
}

impl From<Record> for MemberRecord {
    fn from(record: Record) -> Self {
        Self {
            control: record.control,
            data: record.data,
            name: record.name,
            zone: record.zone,
            host: record.host,
            level: FeatureLevel::new(record.level),
        }
    }
}

impl Identity {
    pub(crate) fn new(group: &str, stage: Stage, nonce: JoinNonce) -> Self {
        Self {
            format: IDENTITY_FORMAT,
            group: group.to_owned(),
            stage: stage.into(),
            cluster: Vec::new(),
            node: 0,
            nonce: nonce.bytes().to_vec(),
        }
    }

    /// This identity with the group's ids, at `stage`.
    pub(crate) fn with_ids(mut self, stage: Stage, cluster: ClusterId, node: NodeId) -> Self {
        self.stage = stage.into();
        self.cluster = cluster.bytes().to_vec();
        self.node = node.get();
        self
    }
}

/// An entry as it stands in the log, tag first.
pub(crate) fn encode_entry(time: ClusterTime, kind: Kind) -> Bytes {
    let entry = Entry {
        format: ENTRY_FORMAT,
        cluster_time: time.as_millis(),
        kind: Some(kind),
    };
    tagged(TAG_ENTRY, &entry)
}

/// `message` behind `tag`.
pub(crate) fn tagged(tag: u8, message: &impl Message) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + message.encoded_len());
    out.put_u8(tag);
    message.encode_raw(&mut out);
    out.freeze()
}

/// The inverse of [`encode_entry`].
pub(crate) fn decode_entry(payload: &Bytes) -> io::Result<Entry> {
    let entry = match payload.split_first() {
        Some((&TAG_ENTRY, _)) => Entry::decode(payload.slice(1..)).map_err(invalid)?,
        _ => return Err(invalid("a log entry has an unknown tag")),
    };
    if entry.format > ENTRY_FORMAT {
        return Err(invalid(format!(
            "a log entry has format {}, this build reads up to {ENTRY_FORMAT}: upgrade this member",
            entry.format
        )));
    }
    if entry.kind.is_none() || 1 + entry.encoded_len() != payload.len() {
        return Err(unknown("a log entry"));
    }
    Ok(entry)
}

/// A tier's command. Decoding drops what this build does not know, which shows in the length.
pub(crate) fn decode_command<C: Message + Default>(body: Bytes) -> io::Result<C> {
    let length = body.len();
    let command = C::decode(body).map_err(invalid)?;
    if command.encoded_len() != length {
        return Err(unknown("a command"));
    }
    Ok(command)
}

fn unknown(what: &str) -> io::Error {
    invalid(format!(
        "{what} holds something that this build does not know: upgrade this member"
    ))
}

/// `message` with a checksum behind it, for single values.
pub(crate) fn seal(message: &impl Message) -> Vec<u8> {
    let mut out = message.encode_to_vec();
    let checksum = crc64(&out);
    out.extend_from_slice(&checksum.to_be_bytes());
    out
}

/// The inverse of [`seal`].
pub(crate) fn open<T: Message + Default>(what: &str, sealed: &[u8]) -> io::Result<T> {
    let broken = || invalid(format!("{what} fails its checksum"));
    let (content, checksum) = sealed.split_last_chunk::<8>().ok_or_else(broken)?;
    if crc64(content) != u64::from_be_bytes(*checksum) {
        return Err(broken());
    }
    T::decode(content).map_err(invalid)
}

/// The checksum of a row of the log: over its place as well, so that a row that stands elsewhere fails.
pub(crate) fn row_checksum(index: u64, term: u64, payload: &[u8]) -> u64 {
    let mut place = [0_u8; 24];
    let parts = [index, term, crc64(payload)];
    for (slot, part) in place.chunks_exact_mut(8).zip(parts) {
        slot.copy_from_slice(&part.to_be_bytes());
    }
    crc64(&place)
}

/// Bytes that are not what they should be.
pub(crate) fn invalid(reason: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_is_noticed() {
        let vote = Vote {
            term: 7,
            node: 3,
            committed: true,
        };
        let sealed = seal(&vote);
        assert_eq!(open::<Vote>("vote", &sealed).unwrap(), vote);
        for at in 0..sealed.len() {
            let mut broken = sealed.clone();
            broken[at] ^= 1;
            assert!(open::<Vote>("vote", &broken).is_err());
        }
        assert_ne!(row_checksum(1, 2, b"x"), row_checksum(2, 1, b"x"));
    }

    #[test]
    fn formats_are_frozen() {
        let entry = encode_entry(
            ClusterTime::from_millis(300),
            Kind::Commands(Commands {
                commands: vec![Command {
                    epoch: Some(5),
                    body: Bytes::from_static(b"ab"),
                }],
            }),
        );
        assert_eq!(
            entry.as_ref(),
            [1, 8, 1, 16, 172, 2, 26, 8, 10, 6, 8, 5, 18, 2, b'a', b'b']
        );
        assert_eq!(decode_entry(&entry).unwrap().cluster_time, 300);
        assert_eq!(row_checksum(1, 2, b"abc"), 9_623_840_569_329_122_096);
    }

    #[test]
    fn newer_entries_are_refused() {
        let entry = Entry {
            format: ENTRY_FORMAT + 1,
            cluster_time: 0,
            kind: None,
        };
        assert!(decode_entry(&tagged(TAG_ENTRY, &entry)).is_err());
        assert!(decode_entry(&Bytes::new()).is_err());
        // A kind of a newer build, under a tag that this one does not know.
        let newer = Bytes::from_static(&[TAG_ENTRY, 8, 1, 0xfa, 0x01, 0]);
        assert!(decode_entry(&newer).unwrap_err().to_string().contains("upgrade"));
    }
}
