//! Reclaim: marks, dooms and drops chunks that nothing holds.
//!
//! Invariant (P6): a chunk that a manifest of a version in force names is never doomed, whatever was planned: the
//! manifests are looked at again when `DoomChunks` is applied. Doom cannot be undone, so that from then on no seal may
//! name the chunk; the orders to drop go out only after the longest read grant has run out.

use std::collections::BTreeSet;

use common::ids::{AttemptId, NodeId, VersionId};
use common::lifecycle::{Chunk, ChunkEvent, Node, Replica, ReplicaEvent, Version};
use common::time::ClusterTime;
use proto::cluster_log::v1 as wire;
use rusqlite::{Connection, Row, Transaction, params};

use super::apply::Moment;
use super::counters::{self, Counter};
use super::manifests::{self, ChunkRow};
use super::schema::{amount, later, number, to_sql};
use super::{nodes, replicas, versions};

/// What became of chunks in one command.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reclaimed {
    /// Chunks marked, to be judged after their deadline.
    pub marked: u32,
    /// Chunks doomed.
    pub doomed: u32,
    /// Chunks found to be held after all.
    pub spared: u32,
    /// Chunks without a copy left, now forgotten.
    pub dropped: u32,
    /// Versions whose last chunk went.
    pub versions_gone: u32,
}

/// Refused or released versions whose chunks are not all marked, in order.
pub fn to_mark(connection: &Connection, limit: u32) -> rusqlite::Result<Vec<VersionId>> {
    connection
        .prepare_cached("SELECT version FROM versions WHERE marking = 1 ORDER BY version LIMIT ?1")?
        .query_map([limit], |row| Ok(VersionId::new(number(row, 0)?)))?
        .collect()
}

/// Marked chunks whose deadline has passed at `now`, the earliest first.
pub fn to_judge(connection: &Connection, now: ClusterTime, limit: u32) -> rusqlite::Result<Vec<AttemptId>> {
    connection
        .prepare_cached(
            "SELECT attempt FROM chunks WHERE state = 2 AND deadline_millis <= ?1
             ORDER BY deadline_millis, attempt LIMIT ?2",
        )?
        .query_map(params![to_sql(now.as_millis()), limit], attempt)?
        .collect()
}

/// What `node` is to drop at `now`: the same share for each of its disks, so that one which drops nothing keeps no
/// other waiting.
pub fn orders(
    connection: &Connection,
    node: NodeId,
    now: ClusterTime,
    limit: u32,
) -> rusqlite::Result<Vec<AttemptId>> {
    if counters::reclaim_stopped(connection)?.is_some() {
        return Ok(Vec::new());
    }
    let disks = nodes::disks_of(connection, node)?;
    let share = limit / u32::try_from(disks.len()).unwrap_or(u32::MAX).max(1);
    let mut all = Vec::new();
    for disk in disks {
        let mut due = connection.prepare_cached(
            "SELECT attempt FROM drops WHERE disk = ?1 AND due_millis <= ?2
             ORDER BY due_millis, attempt LIMIT ?3",
        )?;
        let due = due.query_map(params![disk, to_sql(now.as_millis()), share.max(1)], attempt)?;
        for attempt in due {
            all.push(attempt?);
        }
    }
    Ok(all)
}

/// A node that left for good, and what it was to drop: it will report nothing.
pub fn left_behind(
    connection: &Connection,
    limit: u32,
) -> rusqlite::Result<Option<(NodeId, Vec<AttemptId>)>> {
    for node in nodes::all(connection)? {
        if node.state != Node::Gone {
            continue;
        }
        for disk in nodes::disks_of(connection, node.node)? {
            let attempts: Vec<AttemptId> = connection
                .prepare_cached("SELECT attempt FROM drops WHERE disk = ?1 ORDER BY attempt LIMIT ?2")?
                .query_map(params![disk, limit], attempt)?
                .collect::<rusqlite::Result<_>>()?;
            if !attempts.is_empty() {
                return Ok(Some((node.node, attempts)));
            }
        }
    }
    Ok(None)
}

fn attempt(row: &Row<'_>) -> rusqlite::Result<AttemptId> {
    Ok(AttemptId::from_bytes(row.get(0)?))
}

/// Whether a manifest of a version in force names the chunk.
pub fn is_held(connection: &Connection, chunk: &ChunkRow) -> rusqlite::Result<bool> {
    Ok(names_of(connection, chunk)?
        .iter()
        .any(|(_, _, state)| state.holds_chunks()))
}

/// Every manifest row that names the chunk, with its version's state: at the place that made it, and where it is shared.
fn names_of(connection: &Connection, chunk: &ChunkRow) -> rusqlite::Result<Vec<(VersionId, u32, Version)>> {
    connection
        .prepare_cached(
            "SELECT m.version, m.idx, v.state FROM manifest m JOIN versions v ON v.version = m.version
             WHERE m.version = ?1 AND m.idx = ?2 AND m.attempt = ?3
             UNION
             SELECT m.version, m.idx, v.state FROM manifest m JOIN versions v ON v.version = m.version
             WHERE m.shared = 1 AND m.attempt = ?3
             ORDER BY 1, 2",
        )?
        .query_map(
            params![to_sql(chunk.version.get()), chunk.index, chunk.attempt.to_bytes()],
            |row| {
                let state = Version::from_code(row.get(2)?).map_err(super::schema::corrupt)?;
                Ok((VersionId::new(number(row, 0)?), row.get(1)?, state))
            },
        )?
        .collect()
}

pub(super) fn mark(
    transaction: &Transaction<'_>,
    at: Moment,
    command: &wire::MarkVersions,
) -> rusqlite::Result<Reclaimed> {
    let mut done = Reclaimed::default();
    let mut left = command.chunks_max;
    for version in &command.versions {
        let limit = left;
        let rows = mark_one(
            transaction,
            at,
            VersionId::new(*version),
            limit,
            command,
            &mut done,
        )?;
        // A version without chunks costs something, too.
        left = left.saturating_sub(rows.max(1));
    }
    Ok(done)
}

/// Marks up to `limit` chunks of a version; how many rows were looked at.
fn mark_one(
    transaction: &Transaction<'_>,
    at: Moment,
    version: VersionId,
    limit: u32,
    command: &wire::MarkVersions,
    done: &mut Reclaimed,
) -> rusqlite::Result<u32> {
    let Some(ToMark { from, rows }) = next_to_mark(transaction, version, limit)? else {
        return Ok(0);
    };
    let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    let deadline = later(at.now, command.undo_window_millis);
    let finished = count < limit;
    let mut marked_to = from;
    for (index, attempt) in rows {
        marked_to = index + 1;
        let Some(chunk) = manifests::find_chunk(transaction, attempt)? else {
            remove_name(transaction, version, index)?;
            continue;
        };
        if is_held(transaction, &chunk)? {
            remove_name(transaction, version, index)?;
        } else if let Ok(next) = chunk.state.next(ChunkEvent::Mark) {
            set_state(transaction, attempt, next, deadline)?;
            done.marked += 1;
        }
    }
    transaction
        .prepare_cached("UPDATE versions SET marking = ?1, marked_to = ?2 WHERE version = ?3")?
        .execute(params![!finished, marked_to, to_sql(version.get())])?;
    if versions::end_if_empty(transaction, version, at.now)? {
        done.versions_gone += 1;
    }
    Ok(count)
}

/// Where marking stands, and the manifest rows from there.
struct ToMark {
    from: u32,
    rows: Vec<(u32, AttemptId)>,
}

/// What to mark of `version` next; `None` if there is nothing (now).
fn next_to_mark(
    transaction: &Transaction<'_>,
    version: VersionId,
    limit: u32,
) -> rusqlite::Result<Option<ToMark>> {
    if limit == 0 || counters::reclaim_stopped(transaction)?.is_some() {
        return Ok(None);
    }
    let from: Option<u32> = transaction
        .prepare_cached("SELECT marked_to FROM versions WHERE version = ?1 AND marking = 1")?
        .query_map([to_sql(version.get())], |row| row.get(0))?
        .next()
        .transpose()?;
    let Some(from) = from else {
        return Ok(None);
    };
    let rows = transaction
        .prepare_cached(
            "SELECT idx, attempt FROM manifest WHERE version = ?1 AND idx >= ?2 ORDER BY idx LIMIT ?3",
        )?
        .query_map(params![to_sql(version.get()), from, limit], |row| {
            Ok((row.get(0)?, AttemptId::from_bytes(row.get(1)?)))
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Some(ToMark { from, rows }))
}

pub(super) fn doom(
    transaction: &Transaction<'_>,
    at: Moment,
    command: &wire::DoomChunks,
) -> rusqlite::Result<Reclaimed> {
    let mut done = Reclaimed::default();
    if counters::reclaim_stopped(transaction)?.is_some() {
        return Ok(done);
    }
    let due = later(at.now, command.drop_delay_millis);
    for bytes in &command.attempts {
        let Ok(attempt) = AttemptId::try_from(bytes.as_ref()) else {
            continue;
        };
        let Some(chunk) = manifests::find_chunk(transaction, attempt)? else {
            continue;
        };
        if chunk.state != Chunk::Marked || chunk.deadline > at.now {
            continue;
        }
        if is_held(transaction, &chunk)? {
            spare(transaction, at, &chunk, &mut done)?;
        } else if let Ok(next) = chunk.state.next(ChunkEvent::Doom) {
            set_state(transaction, attempt, next, due)?;
            order_drops(transaction, &chunk, due)?;
            Counter::Chunks.add(transaction, -1)?;
            Counter::ChunkBytes.add(transaction, -amount(chunk.length)?)?;
            done.doomed += 1;
            drop_if_bare(transaction, at, attempt, &mut done)?;
        }
    }
    Ok(done)
}

/// The chunk lives on; the versions that no longer hold it let go of it.
fn spare(
    transaction: &Transaction<'_>,
    at: Moment,
    chunk: &ChunkRow,
    done: &mut Reclaimed,
) -> rusqlite::Result<()> {
    if let Ok(next) = chunk.state.next(ChunkEvent::Spare) {
        set_state(transaction, chunk.attempt, next, ClusterTime::default())?;
        done.spared += 1;
    }
    for (version, index, state) in names_of(transaction, chunk)? {
        if !state.holds_chunks() {
            remove_name(transaction, version, index)?;
            done.versions_gone += u32::from(versions::end_if_empty(transaction, version, at.now)?);
        }
    }
    Ok(())
}

fn order_drops(transaction: &Transaction<'_>, chunk: &ChunkRow, due: ClusterTime) -> rusqlite::Result<()> {
    let rows = replicas::of(transaction, chunk.attempt)?;
    let counted = rows.len();
    for row in rows {
        if let Ok(next) = row.state.next(ReplicaEvent::Leave) {
            replicas::set_state(transaction, chunk.attempt, row.disk, next)?;
        }
        if row.state == Replica::Suspect {
            Counter::SuspectReplicas.add(transaction, -1)?;
        }
        transaction
            .prepare_cached("INSERT OR IGNORE INTO drops (disk, attempt, due_millis) VALUES (?1, ?2, ?3)")?
            .execute(params![
                row.disk,
                chunk.attempt.to_bytes(),
                to_sql(due.as_millis())
            ])?;
    }
    if counted < 2 {
        Counter::SingleCopyChunks.add(transaction, -1)?;
    }
    Ok(())
}

/// Records tombstones which `node` reported. What was not ordered is not recorded: only a doomed chunk loses copies.
pub(super) fn dropped(
    transaction: &Transaction<'_>,
    at: Moment,
    command: &wire::ChunksDropped,
) -> rusqlite::Result<Reclaimed> {
    let node = NodeId::new(command.node_id);
    let mut done = Reclaimed::default();
    for bytes in &command.attempts {
        let Ok(attempt) = AttemptId::try_from(bytes.as_ref()) else {
            continue;
        };
        if let Some(row) = replicas::at_node(transaction, node, attempt)? {
            tombstone(transaction, at, attempt, row, &mut done)?;
        }
    }
    Ok(done)
}

fn tombstone(
    transaction: &Transaction<'_>,
    at: Moment,
    attempt: AttemptId,
    row: replicas::ReplicaRow,
    done: &mut Reclaimed,
) -> rusqlite::Result<()> {
    if row.state.next(ReplicaEvent::Tombstone).is_err() {
        return Ok(());
    }
    let key = params![attempt.to_bytes(), row.disk];
    transaction
        .prepare_cached("DELETE FROM replicas WHERE attempt = ?1 AND disk = ?2")?
        .execute(key)?;
    transaction
        .prepare_cached("DELETE FROM drops WHERE attempt = ?1 AND disk = ?2")?
        .execute(key)?;
    nodes::count_replicas(transaction, row.disk, -1)?;
    drop_if_bare(transaction, at, attempt, done)
}

/// Forgets a doomed chunk that has no copy left, and with it every name it had.
fn drop_if_bare(
    transaction: &Transaction<'_>,
    at: Moment,
    attempt: AttemptId,
    done: &mut Reclaimed,
) -> rusqlite::Result<()> {
    if !replicas::of(transaction, attempt)?.is_empty() {
        return Ok(());
    }
    let Some(chunk) = manifests::find_chunk(transaction, attempt)? else {
        return Ok(());
    };
    if chunk.state.next(ChunkEvent::Drop).is_err() {
        return Ok(());
    }
    let names = names_of(transaction, &chunk)?;
    transaction
        .prepare_cached("DELETE FROM chunks WHERE attempt = ?1")?
        .execute([attempt.to_bytes()])?;
    done.dropped += 1;
    let mut touched = BTreeSet::new();
    for (version, index, _) in names {
        remove_name(transaction, version, index)?;
        touched.insert(version);
    }
    for version in touched {
        done.versions_gone += u32::from(versions::end_if_empty(transaction, version, at.now)?);
    }
    Ok(())
}

fn remove_name(transaction: &Transaction<'_>, version: VersionId, index: u32) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM manifest WHERE version = ?1 AND idx = ?2")?
        .execute(params![to_sql(version.get()), index])?;
    Ok(())
}

fn set_state(
    transaction: &Transaction<'_>,
    attempt: AttemptId,
    state: Chunk,
    deadline: ClusterTime,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE chunks SET state = ?1, deadline_millis = ?2 WHERE attempt = ?3")?
        .execute(params![
            state.code(),
            to_sql(deadline.as_millis()),
            attempt.to_bytes()
        ])?;
    Ok(())
}
