//! Nodes and their disks, as committed: who they are, where they stand, which disks they said they have.
//!
//! Owns the rows; how loaded a node is and when it was last heard is the leader's soft state, not the log's.

use std::collections::BTreeSet;

use common::ids::{DiskId, NodeId};
use common::lifecycle::{Node, NodeEvent};
use proto::cluster_log::v1 as wire;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::apply::Moment;
use super::counters::Counter;
use super::schema::{corrupt, flag, number, to_sql};

/// A node as the log knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeRow {
    /// Which.
    pub node: NodeId,
    /// For people.
    pub name: String,
    /// `host:port` of gRPC.
    pub control: String,
    /// `host:port` of the data plane.
    pub data: String,
    /// Failure domain.
    pub zone: String,
    /// Machine.
    pub host: String,
    /// Where it stands.
    pub state: Node,
}

/// A disk as the log knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskRow {
    /// The log's number for it.
    pub disk: i64,
    /// Whose.
    pub node: NodeId,
    /// Its own id.
    pub id: DiskId,
    /// Whether the node said that it has it when last seen.
    pub present: bool,
    /// Replicas on it.
    pub replicas: u64,
}

/// Where a node stands after a command; `None` if the command did not concern it.
pub type Standing = Option<Node>;

const COLUMNS: &str = "node_id, name, control, data, zone, host, state";

fn decode(row: &Row<'_>) -> rusqlite::Result<NodeRow> {
    Ok(NodeRow {
        node: NodeId::new(number(row, 0)?),
        name: row.get(1)?,
        control: row.get(2)?,
        data: row.get(3)?,
        zone: row.get(4)?,
        host: row.get(5)?,
        state: Node::from_code(row.get(6)?).map_err(corrupt)?,
    })
}

/// All nodes in order of their ids.
pub fn all(connection: &Connection) -> rusqlite::Result<Vec<NodeRow>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM nodes ORDER BY node_id"))?
        .query_map([], decode)?
        .collect()
}

/// All disks in order of their numbers.
pub fn disks(connection: &Connection) -> rusqlite::Result<Vec<DiskRow>> {
    connection
        .prepare_cached("SELECT disk, node_id, disk_id, present, replicas FROM disks ORDER BY disk")?
        .query_map([], |row| {
            Ok(DiskRow {
                disk: row.get(0)?,
                node: NodeId::new(number(row, 1)?),
                id: DiskId::new(row.get(2)?),
                present: flag(row, 3)?,
                replicas: number(row, 4)?,
            })
        })?
        .collect()
}

/// The numbers of the disks of `node`, in order.
pub(super) fn disks_of(connection: &Connection, node: NodeId) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached("SELECT disk FROM disks WHERE node_id = ?1")?
        .query_map([to_sql(node.get())], |row| row.get(0))?
        .collect::<rusqlite::Result<BTreeSet<i64>>>()
        .map(|disks| disks.into_iter().collect())
}

fn find(connection: &Connection, node: NodeId) -> rusqlite::Result<Option<NodeRow>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM nodes WHERE node_id = ?1"))?
        .query_row([to_sql(node.get())], decode)
        .optional()
}

/// The number of a disk that its node has.
pub fn present_disk(connection: &Connection, node: NodeId, disk: DiskId) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT disk FROM disks WHERE node_id = ?1 AND disk_id = ?2 AND present = 1")?
        .query_row(params![to_sql(node.get()), disk.bytes()], |row| row.get(0))
        .optional()
}

pub(super) fn count_replicas(transaction: &Transaction<'_>, disk: i64, change: i64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE disks SET replicas = max(0, replicas + ?1) WHERE disk = ?2")?
        .execute([change, disk])?;
    Ok(())
}

/// Records a node that was heard: admits it if it is new or comes back, keeps its addresses and disks up to date. A
/// node that left for good stays gone.
pub(super) fn seen(
    transaction: &Transaction<'_>,
    at: Moment,
    command: &wire::NodeSeen,
) -> rusqlite::Result<Standing> {
    let node = NodeId::new(command.node_id);
    let known = find(transaction, node)?.map(|row| row.state);
    let state = match known {
        None => Node::Joining.next(NodeEvent::Admit).ok(),
        Some(Node::Gone) => return Ok(Some(Node::Gone)),
        Some(Node::Dead) => Node::Dead
            .next(NodeEvent::Return)
            .and_then(|joining| joining.next(NodeEvent::Admit))
            .ok(),
        Some(Node::Joining) => Node::Joining.next(NodeEvent::Admit).ok(),
        Some(Node::Suspect) => Node::Suspect.next(NodeEvent::Clear).ok(),
        Some(Node::Live) => Some(Node::Live),
        Some(Node::Draining) => Some(Node::Draining),
    };
    let Some(state) = state else {
        return Ok(known);
    };
    let changed = known != Some(state);
    transaction
        .prepare_cached(
            "INSERT INTO nodes (node_id, name, control, data, zone, host, state, changed_millis)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (node_id) DO UPDATE SET
                name = excluded.name, control = excluded.control, data = excluded.data,
                zone = excluded.zone, host = excluded.host, state = excluded.state,
                changed_millis = CASE WHEN ?9 THEN excluded.changed_millis ELSE changed_millis END",
        )?
        .execute(params![
            to_sql(command.node_id),
            command.name,
            command.control,
            command.data,
            command.zone,
            command.host,
            state.code(),
            to_sql(at.now.as_millis()),
            changed,
        ])?;
    record_disks(transaction, node, command)?;
    Ok(Some(state))
}

fn record_disks(
    transaction: &Transaction<'_>,
    node: NodeId,
    command: &wire::NodeSeen,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE disks SET present = 0 WHERE node_id = ?1")?
        .execute([to_sql(node.get())])?;
    let reported: BTreeSet<DiskId> = command
        .disk_ids
        .iter()
        .filter_map(|id| DiskId::try_from(id.as_ref()).ok())
        .collect();
    for id in reported {
        let updated = transaction
            .prepare_cached("UPDATE disks SET present = 1 WHERE node_id = ?1 AND disk_id = ?2")?
            .execute(params![to_sql(node.get()), id.bytes()])?;
        if updated == 0 {
            let disk = Counter::Disk.next(transaction)?;
            transaction
                .prepare_cached(
                    "INSERT INTO disks (disk, node_id, disk_id, present, replicas) VALUES (?1, ?2, ?3, 1, 0)",
                )?
                .execute(params![to_sql(disk), to_sql(node.get()), id.bytes()])?;
        }
    }
    Ok(())
}

/// Moves nodes; a move that does not fit where the node stands when it is applied does nothing.
pub(super) fn move_all(
    transaction: &Transaction<'_>,
    at: Moment,
    command: &wire::MoveNodes,
) -> rusqlite::Result<Vec<(NodeId, Standing)>> {
    let mut standings = Vec::with_capacity(command.moves.len());
    for one in &command.moves {
        let node = NodeId::new(one.node_id);
        let known = find(transaction, node)?.map(|row| row.state);
        let next = known
            .zip(event_of(one.r#move()))
            .and_then(|(state, event)| state.next(event).ok());
        if let Some(next) = next {
            transaction
                .prepare_cached("UPDATE nodes SET state = ?1, changed_millis = ?2 WHERE node_id = ?3")?
                .execute(params![
                    next.code(),
                    to_sql(at.now.as_millis()),
                    to_sql(node.get())
                ])?;
        }
        standings.push((node, next.or(known)));
    }
    Ok(standings)
}

const fn event_of(wire: wire::NodeMove) -> Option<NodeEvent> {
    match wire {
        wire::NodeMove::Unspecified => None,
        wire::NodeMove::Suspect => Some(NodeEvent::Suspect),
        wire::NodeMove::Clear => Some(NodeEvent::Clear),
        wire::NodeMove::Die => Some(NodeEvent::Die),
        wire::NodeMove::Drain => Some(NodeEvent::Drain),
        wire::NodeMove::Keep => Some(NodeEvent::Keep),
        wire::NodeMove::Leave => Some(NodeEvent::Leave),
    }
}
