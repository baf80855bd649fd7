//! `Seal`: an open upload becomes a sealed version with its manifest, or nothing changes.
//!
//! Invariant (P1, P3): a manifest names only chunks that may be named (never a doomed one) whose copies are on disks
//! that the log knows as present. The leader has verified receipts before it proposes; what may have changed since is
//! judged here again.

use std::collections::{BTreeMap, BTreeSet};

use common::ids::{AttemptId, Digest, DiskId, NodeId, UploadId, UploadNumber};
use common::lifecycle::{Chunk, Replica, Upload, UploadEvent, Version};
use proto::cluster_log::v1 as wire;
use rusqlite::{Transaction, params};

use super::apply::Moment;
use super::counters::Counter;
use super::schema::{amount, to_sql};
use super::uploads::UploadRow;
use super::{manifests, nodes, uploads, versions};

/// The effect of `Seal`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sealed {
    /// Sealed now.
    Now,
    /// Sealed before with this content: what was recorded then stands.
    Before,
    /// Sealed before with other content, which stands.
    Otherwise,
    /// Abandoned before: it will never be sealed.
    Abandoned,
    /// No upload of this id and number is known, and the number is not one that it could be recorded under now.
    Unknown,
    /// These chunks cannot be named; they have to be sent again.
    NeedChunks(Vec<u32>),
    /// The command is not well-formed.
    Malformed,
}

/// A field of the wrong length: a bug of the proposer.
struct Malformed;

struct Named {
    attempt: AttemptId,
    length: u64,
    digest: Digest,
    disks: Vec<i64>,
    shared: bool,
}

/// The upload as it stands: its row, or none yet.
enum Found {
    Row(UploadRow),
    /// Under a reserved number, with this length of every chunk but the last.
    New(u64),
}

fn find(transaction: &Transaction<'_>, command: &wire::Seal) -> rusqlite::Result<Result<Found, Sealed>> {
    let number = UploadNumber::new(command.upload_number);
    let found = uploads::find(transaction, UploadId::new(command.upload_id))?;
    Ok(match found {
        Some(row) => match row.state {
            Upload::Open if row.number == number => Ok(Found::Row(row)),
            Upload::Open => Err(Sealed::Unknown),
            Upload::Sealed if versions::is_content(transaction, command)? => Err(Sealed::Before),
            Upload::Sealed => Err(Sealed::Otherwise),
            Upload::Abandoned => Err(Sealed::Abandoned),
        },
        None if UploadId::new(command.upload_id) <= uploads::forgotten(transaction)? => Err(Sealed::Unknown),
        None => match command.chunk_bytes {
            Some(chunk_bytes) if uploads::is_reserved(transaction, number)? => Ok(Found::New(chunk_bytes)),
            Some(_) | None => Err(Sealed::Unknown),
        },
    })
}

pub(super) fn seal(
    transaction: &Transaction<'_>,
    at: Moment,
    command: &wire::Seal,
) -> rusqlite::Result<Sealed> {
    let upload = UploadId::new(command.upload_id);
    let number = UploadNumber::new(command.upload_number);
    let found = match find(transaction, command)? {
        Ok(found) => found,
        Err(sealed) => return Ok(sealed),
    };
    let Ok(next) = Upload::Open.next(UploadEvent::Seal) else {
        return Ok(Sealed::Unknown);
    };
    let Ok(digest) = Digest::try_from(command.digest.as_ref()) else {
        return Ok(Sealed::Malformed);
    };
    let mut disks = BTreeMap::new();
    let mut named = Vec::with_capacity(command.chunks.len());
    let mut need = Vec::new();
    let mut attempts = BTreeSet::new();
    for (index, chunk) in (0_u32..).zip(&command.chunks) {
        match name(transaction, &mut disks, chunk)? {
            Ok(Some(one)) if attempts.insert(one.attempt) => named.push(one),
            // One attempt has one place: a second row of it would end every member.
            Ok(Some(_)) => return Ok(Sealed::Malformed),
            Ok(None) => need.push(index),
            Err(Malformed) => return Ok(Sealed::Malformed),
        }
    }
    if !need.is_empty() {
        return Ok(Sealed::NeedChunks(need));
    }
    let chunk_bytes = match found {
        Found::Row(row) => {
            uploads::move_to(transaction, number, next, None)?;
            Counter::UploadsOpen.add(transaction, -1)?;
            row.chunk_bytes
        }
        Found::New(chunk_bytes) => {
            uploads::insert(transaction, at, number, upload, next, chunk_bytes)?;
            chunk_bytes
        }
    };
    insert_version(transaction, command, chunk_bytes, &digest)?;
    insert_chunks(transaction, upload, &named)?;
    Ok(Sealed::Now)
}

/// What `chunk` names, `None` where it cannot be named.
fn name(
    transaction: &Transaction<'_>,
    disks: &mut BTreeMap<(NodeId, DiskId), Option<i64>>,
    chunk: &wire::SealedChunk,
) -> rusqlite::Result<Result<Option<Named>, Malformed>> {
    let Ok(attempt) = AttemptId::try_from(chunk.attempt.as_ref()) else {
        return Ok(Err(Malformed));
    };
    let Ok(digest) = Digest::try_from(chunk.digest.as_ref()) else {
        return Ok(Err(Malformed));
    };
    let mut one = Named {
        attempt,
        length: chunk.length,
        digest,
        disks: Vec::with_capacity(chunk.copies.len()),
        shared: false,
    };
    if let Some(known) = manifests::find_chunk(transaction, attempt)? {
        let same = known.length == chunk.length && known.digest == digest;
        one.shared = true;
        return Ok(Ok((same && known.state.may_be_named()).then_some(one)));
    }
    for copy in &chunk.copies {
        let Ok(disk_id) = DiskId::try_from(copy.disk_id.as_ref()) else {
            return Ok(Err(Malformed));
        };
        let key = (NodeId::new(copy.node_id), disk_id);
        let disk = match disks.get(&key) {
            Some(known) => *known,
            None => {
                let found = nodes::present_disk(transaction, key.0, key.1)?;
                disks.insert(key, found);
                found
            }
        };
        match disk {
            Some(disk) if !one.disks.contains(&disk) => one.disks.push(disk),
            Some(_) => {}
            None => return Ok(Ok(None)),
        }
    }
    Ok(Ok((!one.disks.is_empty()).then_some(one)))
}

fn insert_version(
    transaction: &Transaction<'_>,
    command: &wire::Seal,
    chunk_bytes: u64,
    digest: &Digest,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO versions (version, number, state, size, digest, chunk_bytes, chunk_count,
                                   modified_wall_millis)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            to_sql(UploadId::new(command.upload_id).version().get()),
            to_sql(command.upload_number),
            Version::Sealed.code(),
            to_sql(command.size),
            digest.bytes(),
            to_sql(chunk_bytes),
            command.chunks.len() as i64,
            to_sql(command.modified_wall_millis),
        ])?;
    Ok(())
}

fn insert_chunks(transaction: &Transaction<'_>, upload: UploadId, named: &[Named]) -> rusqlite::Result<()> {
    let version = to_sql(upload.version().get());
    let mut manifest = transaction
        .prepare_cached("INSERT INTO manifest (version, idx, attempt, shared) VALUES (?1, ?2, ?3, ?4)")?;
    let mut chunks = transaction.prepare_cached(
        "INSERT INTO chunks (attempt, version, idx, length, digest, state, deadline_millis)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)",
    )?;
    let mut replicas = transaction
        .prepare_cached("INSERT INTO replicas (attempt, disk, generation, state) VALUES (?1, ?2, 1, ?3)")?;
    let mut per_disk: BTreeMap<i64, i64> = BTreeMap::new();
    let (mut count, mut bytes, mut single) = (0, 0_u64, 0);
    for (index, one) in (0_u32..).zip(named) {
        let attempt = one.attempt.to_bytes();
        manifest.execute(params![version, index, attempt, one.shared])?;
        if one.shared {
            continue;
        }
        chunks.execute(params![
            attempt,
            version,
            index,
            to_sql(one.length),
            one.digest.bytes(),
            Chunk::Live.code(),
        ])?;
        for disk in &one.disks {
            replicas.execute(params![attempt, disk, Replica::Stored.code()])?;
            *per_disk.entry(*disk).or_default() += 1;
        }
        count += 1;
        bytes = bytes.saturating_add(one.length);
        single += i64::from(one.disks.len() < 2);
    }
    for (disk, change) in per_disk {
        nodes::count_replicas(transaction, disk, change)?;
    }
    Counter::Chunks.add(transaction, count)?;
    Counter::ChunkBytes.add(transaction, amount(bytes)?)?;
    Counter::SingleCopyChunks.add(transaction, single)?;
    Ok(())
}
