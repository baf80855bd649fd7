//! Which version is read, and where its chunks are.
//!
//! Invariant: one download reads one version, the one found first, whatever happens to the path meanwhile. Manifests
//! are immutable; only where copies are and the grants for them change, and are asked for again when they fail.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::digest;
use common::error::Kind;
use common::ids::{AttemptId, ClusterId, Digest, DiskId, NodeId, VersionId};
use common::path::RemotePath;
use common::time::Moment;
use common::units::CHUNK_BYTES_MAX;
use parking_lot::Mutex;
use proto::bulk::dial::Target;
use proto::bulk::pool::Pool;
use proto::files::v1 as files;
use proto::names::v1 as names;

use super::placement::ReplicaState;
use crate::error::Error;
use crate::names::{Entry, EntryKind, NodeCondition};
use crate::routing::{Ask, Group, Router, Try};

/// Chunks in one page of a manifest, as the servers allow.
pub(super) const PAGE_CHUNKS_MAX: u32 = 1024;

/// One version, ready to be read.
pub(super) struct Version {
    pub(super) router: Arc<Router>,
    pub(super) entry: Entry,
    pub(super) path: RemotePath,
    pub(super) version: VersionId,
    pub(super) size: u64,
    pub(super) digest: Digest,
    holders: Vec<Holder>,
    ticket: Mutex<(Bytes, Moment)>,
}

/// A cluster that holds the version.
struct Holder {
    group: Arc<Group>,
    pool: Pool,
    name: String,
}

/// Some consecutive chunks of a version.
pub(super) struct Page {
    pub(super) cluster: ClusterId,
    pub(super) cluster_name: String,
    pub(super) chunk_bytes: u64,
    pub(super) chunk_count: u32,
    pub(super) chunks: Vec<Arc<Chunk>>,
}

/// One chunk and where to read it.
pub(super) struct Chunk {
    pub(super) index: u32,
    /// Where it begins in the file.
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) digest: Digest,
    pub(super) attempt: AttemptId,
    pub(super) copies: Vec<Copy>,
    pub(super) pool: Pool,
}

/// A copy of a chunk.
#[derive(Clone)]
pub(super) struct Copy {
    pub(super) target: Target,
    pub(super) disk: DiskId,
    pub(super) node_name: String,
    pub(super) host: String,
    pub(super) zone: String,
    pub(super) state: ReplicaState,
    pub(super) condition: NodeCondition,
    pub(super) grant: Bytes,
}

/// Finds `version` of the file at `path`, or its current one.
pub(super) async fn find(
    router: &Arc<Router>,
    path: &RemotePath,
    version: Option<VersionId>,
) -> Result<Version, Error> {
    let reply = resolve(router, path, version).await?;
    let entry: Entry = reply
        .entry
        .clone()
        .ok_or_else(|| Error::protocol("a resolved path without an entry"))?
        .try_into()?;
    let EntryKind::File {
        version: found,
        size,
        digest,
        ..
    } = &entry.kind
    else {
        return Err(Error::NotAFile(path.clone()));
    };
    let (found, size, digest) = (*found, size.get(), *digest);
    if version.is_some_and(|wanted| wanted != found) {
        return Err(Error::protocol("another version than was asked for"));
    }
    if size == 0 && digest != digest::empty() {
        return Err(Error::WrongDigest { path: path.clone() });
    }
    let holders = reply.clusters.iter().map(|location| {
        Ok(Holder {
            group: router.cluster(location)?,
            pool: router.pool(location)?,
            name: location.name.clone(),
        })
    });
    let holders: Vec<Holder> = holders.collect::<Result<_, Error>>()?;
    if holders.is_empty() && size > 0 {
        return Err(Error::protocol("a file that no cluster holds"));
    }
    Ok(Version {
        path: path.clone(),
        version: found,
        size,
        digest,
        holders,
        ticket: Mutex::new(ticket_of(router, &reply)),
        router: Arc::clone(router),
        entry,
    })
}

async fn resolve(
    router: &Router,
    path: &RemotePath,
    version: Option<VersionId>,
) -> Result<names::ResolveReply, Error> {
    let request = names::ResolveRequest {
        path: path.to_string(),
        version: version.map(VersionId::get),
    };
    let send = |one: Try| {
        let request = one.request(request.clone());
        async move { one.names().resolve(request).await }
    };
    router.ask(Ask::any("resolve", router.supernodes()), send).await
}

fn ticket_of(router: &Router, reply: &names::ResolveReply) -> (Bytes, Moment) {
    let life = Duration::from_millis(reply.ticket_expires_in_millis);
    let renew_at = router.settings.seams.clock.moment() + life.mul_f64(2.0 / 3.0);
    (reply.ticket.clone(), renew_at)
}

impl Version {
    /// The chunks from `first` on, at most `limit`: from the first cluster that gives them.
    pub(super) async fn page(&self, first: u32, limit: u32) -> Result<Page, Error> {
        let mut failure = None;
        for holder in &self.holders {
            match self.page_from(holder, first, limit).await {
                Ok(page) => return Ok(page),
                Err(error) => {
                    tracing::debug!(cluster = %holder.name, %error, "no manifest from this cluster");
                    failure.get_or_insert(error);
                }
            }
        }
        Err(failure.unwrap_or_else(|| Error::protocol("a file that no cluster holds")))
    }

    async fn page_from(&self, holder: &Holder, first: u32, limit: u32) -> Result<Page, Error> {
        let mut ticket = self.ticket(false).await?;
        let mut ask = Ask::any("get manifest", &holder.group);
        let mut renewed = false;
        loop {
            let request = files::GetManifestRequest {
                ticket: ticket.clone(),
                version: self.version.get(),
                first_index: first,
                limit: Some(limit),
            };
            let send = |one: Try| {
                let request = one.request(request.clone());
                async move { one.files().get_manifest(request).await }
            };
            match self.router.ask(ask, send).await {
                Ok(reply) => {
                    self.router.moves_bytes();
                    return self.check(holder, reply, first, limit);
                }
                Err(error) if error.kind() == Kind::Denied && !renewed => {
                    renewed = true;
                    ticket = self.ticket(true).await?;
                }
                // A member that is behind does not know a new version yet; the leader does.
                Err(error) if error.kind() == Kind::NotFound && !ask.of_leader => {
                    ask = Ask::leader("get manifest", &holder.group);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn ticket(&self, anew: bool) -> Result<Bytes, Error> {
        let (ticket, renew_at) = self.ticket.lock().clone();
        if !anew && self.router.settings.seams.clock.moment() < renew_at {
            return Ok(ticket);
        }
        match resolve(&self.router, &self.path, Some(self.version)).await {
            Ok(reply) => {
                let fresh = ticket_of(&self.router, &reply);
                *self.ticket.lock() = fresh.clone();
                Ok(fresh.0)
            }
            // The old one is still good for a while.
            Err(error) if !anew && error.kind().is_passing() => Ok(ticket),
            Err(error) => Err(error),
        }
    }

    /// A manifest is believed only where it fits what the names layer said (P3).
    fn check(
        &self,
        holder: &Holder,
        reply: files::GetManifestReply,
        first: u32,
        limit: u32,
    ) -> Result<Page, Error> {
        let wrong = |what: &str| Error::protocol(format!("a manifest of {} with {what}", self.path));
        let same = reply.version == self.version.get()
            && reply.size == self.size
            && reply.digest.as_ref() == self.digest.bytes();
        if !same {
            return Err(wrong("another version, size or digest than the path"));
        }
        if !reply.chunk_bytes.is_power_of_two() || reply.chunk_bytes > CHUNK_BYTES_MAX {
            return Err(wrong("a chunk length that is none"));
        }
        if u64::from(reply.chunk_count) != self.size.div_ceil(reply.chunk_bytes) {
            return Err(wrong("another number of chunks than its size makes"));
        }
        let expected = reply.chunk_count.saturating_sub(first).min(limit);
        if reply.chunks.is_empty() && expected > 0 {
            return Err(wrong("chunks missing"));
        }
        let chunks = (first..).zip(reply.chunks).map(|(index, wire)| {
            let offset = u64::from(index) * reply.chunk_bytes;
            let length = self.size.saturating_sub(offset).min(reply.chunk_bytes);
            if wire.index != index || wire.length != length || length == 0 {
                return Err(wrong("chunks that do not follow each other"));
            }
            chunk(wire, offset, &holder.pool).map(Arc::new)
        });
        Ok(Page {
            cluster: ClusterId::try_from(reply.cluster_id.as_ref()).map_err(|_| wrong("no cluster"))?,
            cluster_name: holder.name.clone(),
            chunk_bytes: reply.chunk_bytes,
            chunk_count: reply.chunk_count,
            chunks: chunks.collect::<Result<_, _>>()?,
        })
    }
}

fn chunk(wire: files::ChunkLocation, offset: u64, pool: &Pool) -> Result<Chunk, Error> {
    let index = wire.index;
    let wrong = |what| Error::protocol(format!("chunk {index} of a manifest without {what}"));
    let copies = wire.replicas.into_iter().map(|replica| {
        let (state, condition) = (replica.state(), replica.node_state());
        Ok(Copy {
            target: Target {
                node: NodeId::new(replica.node_id),
                address: replica.data,
            },
            disk: DiskId::try_from(replica.disk_id.as_ref()).map_err(|_| wrong("a disk"))?,
            node_name: replica.node,
            host: replica.host,
            zone: replica.zone,
            state: state.into(),
            condition: condition.into(),
            grant: replica.grant,
        })
    });
    Ok(Chunk {
        index,
        offset,
        length: wire.length,
        digest: Digest::try_from(wire.digest.as_ref()).map_err(|_| wrong("a digest"))?,
        attempt: AttemptId::try_from(wire.attempt.as_ref()).map_err(|_| wrong("an attempt"))?,
        copies: copies.collect::<Result<_, Error>>()?,
        pool: pool.clone(),
    })
}

impl From<files::ReplicaState> for ReplicaState {
    fn from(wire: files::ReplicaState) -> Self {
        match wire {
            files::ReplicaState::Unspecified => ReplicaState::Unknown,
            files::ReplicaState::Stored => ReplicaState::Stored,
            files::ReplicaState::Suspect => ReplicaState::Suspect,
            files::ReplicaState::Leaving => ReplicaState::Leaving,
        }
    }
}
