//! Reading manifests: a version's chunks in order, and the copies of each.

use common::ids::{AttemptId, Digest, VersionId};
use common::lifecycle::Chunk;
use common::time::ClusterTime;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::replicas::{self, ReplicaRow};
use super::schema::{corrupt, from_sql, to_sql};

/// A chunk as the log knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkRow {
    /// The attempt that stored it.
    pub attempt: AttemptId,
    /// The version that made it.
    pub version: VersionId,
    /// Its place there.
    pub index: u32,
    /// Bytes.
    pub length: u64,
    /// Its digest at that place.
    pub digest: Digest,
    /// Where it stands.
    pub state: Chunk,
    /// What it waits for where it is marked or doomed.
    pub deadline: ClusterTime,
}

/// One chunk of a manifest with its copies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    /// The chunk.
    pub chunk: ChunkRow,
    /// Its copies in order of disk.
    pub replicas: Vec<ReplicaRow>,
}

const COLUMNS: &str = "c.attempt, c.version, c.idx, c.length, c.digest, c.state, c.deadline_millis";

fn decode(row: &Row<'_>) -> rusqlite::Result<ChunkRow> {
    Ok(ChunkRow {
        attempt: AttemptId::from_bytes(row.get(0)?),
        version: VersionId::new(from_sql(row.get(1)?)),
        index: row.get(2)?,
        length: from_sql(row.get(3)?),
        digest: Digest::new(row.get(4)?),
        state: Chunk::from_code(row.get(5)?).map_err(corrupt)?,
        deadline: ClusterTime::from_millis(from_sql(row.get(6)?)),
    })
}

/// The chunk stored by `attempt`.
pub fn find_chunk(connection: &Connection, attempt: AttemptId) -> rusqlite::Result<Option<ChunkRow>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM chunks c WHERE c.attempt = ?1"))?
        .query_row([attempt.to_bytes()], decode)
        .optional()
}

/// At most `limit` chunks of `version` from `first` on, in order.
pub fn chunks(
    connection: &Connection,
    version: VersionId,
    first: u32,
    limit: u32,
) -> rusqlite::Result<Vec<ChunkRow>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM manifest m JOIN chunks c ON c.attempt = m.attempt
             WHERE m.version = ?1 AND m.idx >= ?2 ORDER BY m.idx LIMIT ?3"
        ))?
        .query_map(params![to_sql(version.get()), first, limit], decode)?
        .collect()
}

/// As [`chunks`], with the copies of each.
pub fn placed(
    connection: &Connection,
    version: VersionId,
    first: u32,
    limit: u32,
) -> rusqlite::Result<Vec<Placed>> {
    chunks(connection, version, first, limit)?
        .into_iter()
        .map(|chunk| {
            Ok(Placed {
                chunk,
                replicas: replicas::of(connection, chunk.attempt)?,
            })
        })
        .collect()
}
