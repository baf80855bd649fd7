//! Replicas: one stored attempt on one disk.

use common::ids::{AttemptId, NodeId};
use common::lifecycle::{Replica, ReplicaEvent};
use proto::cluster_log::v1 as wire;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::counters::Counter;
use super::schema::{corrupt, to_sql};

/// A replica as the log knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplicaRow {
    /// The log's number of the disk.
    pub disk: i64,
    /// Where it stands.
    pub state: Replica,
}

/// The replicas of `attempt`, in order of disk.
pub fn of(connection: &Connection, attempt: AttemptId) -> rusqlite::Result<Vec<ReplicaRow>> {
    connection
        .prepare_cached("SELECT disk, state FROM replicas WHERE attempt = ?1 ORDER BY disk")?
        .query_map([attempt.to_bytes()], |row| {
            Ok(ReplicaRow {
                disk: row.get(0)?,
                state: Replica::from_code(row.get(1)?).map_err(corrupt)?,
            })
        })?
        .collect()
}

/// The replica of `attempt` at `node`: disk and state.
pub(super) fn at_node(
    connection: &Connection,
    node: NodeId,
    attempt: AttemptId,
) -> rusqlite::Result<Option<ReplicaRow>> {
    connection
        .prepare_cached(
            "SELECT r.disk, r.state FROM replicas r JOIN disks d ON d.disk = r.disk
             WHERE r.attempt = ?1 AND d.node_id = ?2 ORDER BY r.disk LIMIT 1",
        )?
        .query_row(params![attempt.to_bytes(), to_sql(node.get())], |row| {
            Ok(ReplicaRow {
                disk: row.get(0)?,
                state: Replica::from_code(row.get(1)?).map_err(corrupt)?,
            })
        })
        .optional()
}

pub(super) fn set_state(
    transaction: &Transaction<'_>,
    attempt: AttemptId,
    disk: i64,
    state: Replica,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE replicas SET state = ?1 WHERE attempt = ?2 AND disk = ?3")?
        .execute(params![state.code(), attempt.to_bytes(), disk])?;
    Ok(())
}

/// Marks damaged copies as suspect; returns how many were not so before.
pub(super) fn suspect(
    transaction: &Transaction<'_>,
    command: &wire::SuspectReplicas,
) -> rusqlite::Result<u32> {
    let node = NodeId::new(command.node_id);
    let mut moved = 0;
    for bytes in &command.attempts {
        let Ok(attempt) = AttemptId::try_from(bytes.as_ref()) else {
            continue;
        };
        let Some(row) = at_node(transaction, node, attempt)? else {
            continue;
        };
        if let Ok(next) = row.state.next(ReplicaEvent::Suspect) {
            set_state(transaction, attempt, row.disk, next)?;
            moved += 1;
        }
    }
    Counter::SuspectReplicas.add(transaction, i64::from(moved))?;
    Ok(moved)
}
