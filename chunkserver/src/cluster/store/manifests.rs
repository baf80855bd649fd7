//! Reading manifests: a version's chunks in order, and the copies of each.

use std::collections::{BTreeMap, BTreeSet};

use common::ids::{AttemptId, Digest, VersionId};
use common::lifecycle::Chunk;
use common::time::ClusterTime;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::replicas::{self, ReplicaRow};
use super::schema::{corrupt, number, to_sql};

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
        version: VersionId::new(number(row, 1)?),
        index: row.get(2)?,
        length: number(row, 3)?,
        digest: Digest::new(row.get(4)?),
        state: Chunk::from_code(row.get(5)?).map_err(corrupt)?,
        deadline: ClusterTime::from_millis(number(row, 6)?),
    })
}

/// For which versions those of `attempts` that are chunks were made. What lies close together is read in one pass.
pub fn versions_of(
    connection: &Connection,
    attempts: &BTreeSet<AttemptId>,
) -> rusqlite::Result<BTreeMap<AttemptId, VersionId>> {
    let mut found = BTreeMap::new();
    let (Some(first), Some(last)) = (attempts.first(), attempts.last()) else {
        return Ok(found);
    };
    // Every chunk has two copies on a few nodes, so that few rows of the range are none of the attempts.
    let rows_max = attempts.len().saturating_mul(8);
    let mut rows = 0;
    let mut passed = None;
    let mut statement = connection.prepare_cached(
        "SELECT attempt, version FROM chunks WHERE attempt BETWEEN ?1 AND ?2 ORDER BY attempt LIMIT ?3",
    )?;
    let limit = i64::try_from(rows_max).unwrap_or(i64::MAX);
    let mut range = statement.query(params![first.to_bytes(), last.to_bytes(), limit])?;
    while let Some(row) = range.next()? {
        let attempt = AttemptId::from_bytes(row.get(0)?);
        rows += 1;
        passed = Some(attempt);
        if attempts.contains(&attempt) {
            found.insert(attempt, VersionId::new(number(row, 1)?));
        }
    }
    if let Some(passed) = passed.filter(|_| rows >= rows_max) {
        for attempt in attempts.iter().filter(|attempt| **attempt > passed) {
            if let Some(chunk) = find_chunk(connection, *attempt)? {
                found.insert(*attempt, chunk.version);
            }
        }
    }
    Ok(found)
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

/// How the chunks of `version` are spread: the disks of stored copies, and how many chunks have exactly these.
pub fn spread(connection: &Connection, version: VersionId) -> rusqlite::Result<BTreeMap<BTreeSet<i64>, u32>> {
    let mut query = connection.prepare_cached(
        "SELECT m.idx, r.disk FROM manifest m LEFT JOIN replicas r ON r.attempt = m.attempt AND r.state = 2
         WHERE m.version = ?1 ORDER BY m.idx, r.disk",
    )?;
    let mut rows = query.query([to_sql(version.get())])?;
    let mut spread: BTreeMap<BTreeSet<i64>, u32> = BTreeMap::new();
    let mut current: Option<(u32, BTreeSet<i64>)> = None;
    while let Some(row) = rows.next()? {
        let (index, disk): (u32, Option<i64>) = (row.get(0)?, row.get(1)?);
        match &mut current {
            Some((at, disks)) if *at == index => disks.extend(disk),
            _ => {
                let finished = current.replace((index, disk.into_iter().collect()));
                if let Some((_, disks)) = finished {
                    *spread.entry(disks).or_default() += 1;
                }
            }
        }
    }
    if let Some((_, disks)) = current {
        *spread.entry(disks).or_default() += 1;
    }
    Ok(spread)
}
