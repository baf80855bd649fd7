//! The state of the whole installation, and the messages that travel between its parts.

use std::collections::{BTreeMap, BTreeSet};

use common::lifecycle::{Chunk, Replica, Session, Upload, Version};

/// The idempotency key of a client, which is all that names the client here.
pub(crate) type Key = u8;

/// The key of the one client that uploads.
pub(crate) const CLIENT_KEY: Key = 1;

/// The number of an upload, from the names log's committed counter, or a block reserved from it. The session, the upload and the version that
/// comes of it share this number.
pub(crate) type Number = usize;

/// A chunk: the upload that wrote it, and its place among what that upload wrote. The chunk of a small file has a slot
/// for each leadership under whose number it may be written ([`ChunkId::lone`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ChunkId {
    pub(crate) upload: Number,
    pub(crate) slot: u8,
}

/// The first slot of lone chunks.
const LONE: u8 = 2;

impl ChunkId {
    /// The chunk of a small file, written under the number that the leadership of `epoch` gave the upload.
    pub(crate) const fn lone(upload: Number, epoch: u8) -> Self {
        Self {
            upload,
            slot: LONE + epoch,
        }
    }

    /// The leadership whose number a lone chunk carries.
    pub(crate) const fn numbered_by(self) -> Option<u8> {
        self.slot.checked_sub(LONE)
    }
}

/// The chunks that a version consists of: at most two of them here.
pub(crate) type Manifest = [Option<ChunkId>; 2];

/// Everything. Logs and disks survive a crash; the leader's memory does not; messages may do anything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) names: NamesLog,
    pub(crate) cluster: ClusterLog,
    pub(crate) disks: Vec<Disk>,
    pub(crate) leader: Leader,
    pub(crate) clients: Vec<Client>,
    /// Every message that was ever sent. None is ever taken out: it may arrive at any later time, again, or never.
    pub(crate) net: BTreeSet<Message>,
}

/// The supernodes' Raft group, as its state machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct NamesLog {
    /// By number; its length is the committed counter.
    pub(crate) sessions: Vec<SessionRow>,
    /// What the one path of the model points at: the only thing that makes a version visible.
    pub(crate) path: Option<Number>,
    /// How often something was taken out of the trash, which the model bounds.
    pub(crate) restores: u8,
    /// How often its leader died.
    pub(crate) crashes: u8,
}

/// Where a session is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Held {
    /// In the log, as a row.
    InLog,
    /// By the names layer's leader alone, which took its number from a reserved block.
    InMemory,
    /// In the log, as lost: nothing will come of it.
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SessionRow {
    pub(crate) held: Held,
    pub(crate) key: Key,
    pub(crate) session: Session,
    /// Present once published.
    pub(crate) version: Option<Version>,
    /// The cluster has not yet acknowledged how the session ended.
    pub(crate) outcome_owed: bool,
    /// The outbox row: the cluster has not yet acknowledged the release.
    pub(crate) release_owed: bool,
    /// The dedupe window is over and the session is no longer known. The rest of the row is then for properties to look
    /// at, and for no rule.
    pub(crate) forgotten: bool,
}

/// The cluster's Raft group, as its state machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ClusterLog {
    pub(crate) uploads: BTreeMap<Number, UploadRow>,
    pub(crate) chunks: BTreeMap<ChunkId, Chunk>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UploadRow {
    pub(crate) upload: Upload,
    /// Present once sealed.
    pub(crate) version: Option<Version>,
    pub(crate) manifest: Manifest,
    /// Of a small file: the leadership that gave the number under which it is recorded.
    pub(crate) numbered_by: Option<u8>,
}

/// One node's disk: what was never written has no entry.
pub(crate) type Disk = BTreeMap<ChunkId, Replica>;

/// The cluster leader's memory. A crash empties it, and another leads under the next epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Leader {
    pub(crate) epoch: u8,
    /// Decided on what the log said at some time, and not yet committed. A proposal of an earlier epoch is never
    /// committed, which is why a crash empties this.
    pub(crate) proposals: BTreeSet<Proposal>,
    /// Small files to which this leadership gave a number. The log knows them when they are recorded or sealed.
    pub(crate) opened: BTreeSet<Number>,
}

/// An entry of the cluster log on which the leader decides. (`Open` and `Seal` are decided by a client's message.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Proposal {
    /// Of a small file that lasts.
    Open(Number),
    Abandon(Number),
    Outcome(Number, Outcome),
    Release(Number),
    Reclaim(Number),
    Mark(ChunkId),
    Doom(ChunkId),
    Dropped(ChunkId),
}

/// How an upload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Outcome {
    Published,
    Refused,
}

/// What the names layer answers to a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Answer {
    Ended(Outcome),
    /// The number is at or below the high-water mark and no longer known: the cluster has acknowledged its outcome
    /// before, and will find it in its own log. It says nothing about which outcome that was.
    Forgotten,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    pub(crate) key: Key,
    /// Where the client writes an update: it names the chunk of this version in its seal.
    pub(crate) base: Option<Number>,
    /// The session it was told of.
    pub(crate) upload: Option<Number>,
    /// It writes a small file, which its leader alone may know until it is sealed.
    pub(crate) small: bool,
    /// It was told that the base's chunk is doomed, and sends that chunk itself.
    pub(crate) sends_base_again: bool,
    /// What it has told its user. Nothing told is "outcome unknown".
    pub(crate) told: Option<Told>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Told {
    Success,
    Failure,
}

/// Everything that travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Message {
    // Client to names layer, and back.
    OpenUpload(Key),
    Opened(Key, Number),
    AbortUpload(Number),
    SessionEnded(Number, Session),
    // Client to leader, and back; client to node.
    Plan(ChunkId),
    Bytes(ChunkId),
    Seal(Number, Manifest),
    SendAgain(Number),
    Report(Number, Outcome),
    // Leader to names layer, and back.
    Publish(Number),
    Published(Number, Answer),
    UploadAbandoned(Number),
    Settled(Number),
    ReleaseAcknowledged(Number),
    // Names layer to leader, from its outbox.
    SessionAborted(Number),
    Release(Number),
    // Leader to node, and back.
    Drop(usize, ChunkId),
    Tombstoned(usize, ChunkId),
    // Names layer's expiry to its own log: decided on what the log said at some time.
    Expire(Number),
}
