//! A row that says what no build of ours wrote fails whoever reads it: nothing is made up in its place (P5).

use common::ids::{NodeId, UploadId, VersionId};
use common::time::ClusterTime;
use proto::cluster_log::v1 as wire;
use rusqlite::Connection;
use wire::command::Command as C;

use super::log::{Log, abandon, attempt};
use crate::cluster::store::counters::Counter;
use crate::cluster::store::{keys, manifests, nodes, reclaim, uploads, versions};

/// Columns by which rows are found: with another value there the row is another one, or none.
const NAMES_OF_ROWS: [&str; 9] = [
    "node_id",
    "disk",
    "number",
    "upload_id",
    "version",
    "idx",
    "key_id",
    "value",
    "shared",
];
/// Read by statements alone.
const UNREAD: [(&str, &str); 5] = [
    ("drops", "due_millis"),
    ("nodes", "changed_millis"),
    ("versions", "marking"),
    ("versions", "marked_to"),
    ("replicas", "generation"),
];

fn full() -> Log {
    let mut log = Log::with_nodes(2);
    log.apply(C::RotateKeys(wire::RotateKeys {
        secret: vec![5; 32].into(),
        kept_max: 2,
    }));
    log.open(1);
    log.apply(abandon(&[2], None));
    log.sealed(3, &[1, 2]);
    log.outcome(3, true);
    log.sealed(4, &[3]);
    log.outcome(4, false);
    log.mark(4, 10);
    log.now += 1_000;
    log.doom(&[3]);
    log
}

fn ids(connection: &Connection, statement: &str) -> Vec<u64> {
    let mut statement = connection.prepare(statement).unwrap();
    let rows = statement.query_map([], |row| row.get::<_, i64>(0)).unwrap();
    rows.map(|id| id.unwrap() as u64).collect()
}

/// Reads every row; also what a join leaves out counts as damage.
fn read_everything(connection: &Connection) -> rusqlite::Result<()> {
    let missing = || rusqlite::Error::QueryReturnedNoRows;
    let far = ClusterTime::from_millis(1 << 40);
    let found = nodes::all(connection)?;
    nodes::disks(connection)?;
    let mut orders = Vec::new();
    for row in &found {
        orders.extend(reclaim::orders(connection, row.node, far, 10)?);
    }
    if orders.len() < 2 {
        return Err(missing());
    }
    keys::all(connection)?;
    for id in ids(connection, "SELECT upload_id FROM uploads") {
        let row = uploads::find(connection, UploadId::new(id))?.ok_or_else(missing)?;
        uploads::ended(connection, row.number)?;
    }
    for id in ids(connection, "SELECT version FROM versions") {
        versions::find(connection, VersionId::new(id))?;
    }
    let row = versions::find(connection, VersionId::new(3))?.ok_or_else(missing)?;
    let placed = manifests::placed(connection, row.version, 0, 10)?;
    let whole = placed.len() == row.chunk_count as usize && placed.iter().all(|one| one.replicas.len() == 2);
    let doomed = manifests::find_chunk(connection, attempt(3))?.ok_or_else(missing)?;
    if !whole || crate::cluster::store::replicas::of(connection, doomed.attempt)?.len() != 2 {
        return Err(missing());
    }
    Ok(())
}

fn columns(connection: &Connection, of: &str) -> Vec<(String, String)> {
    let mut statement = connection
        .prepare(
            "SELECT m.name, c.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c
             WHERE m.type = 'table' AND c.type = ?1 ORDER BY 1, 2",
        )
        .unwrap();
    let rows = statement.query_map([of], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().collect::<rusqlite::Result<_>>().unwrap()
}

fn damaged_and_read(log: &Log, table: &str, column: &str, value: &str) {
    log.connection.execute_batch("SAVEPOINT damage").unwrap();
    let statement = format!(
        "UPDATE {table} SET {column} = {value} WHERE rowid IN
         (SELECT rowid FROM {table} WHERE {column} IS NOT NULL LIMIT 1)"
    );
    let by_key = format!(
        "UPDATE {table} SET {column} = {value} WHERE {column} IN
         (SELECT {column} FROM {table} WHERE {column} IS NOT NULL LIMIT 1)"
    );
    let changed = log
        .connection
        .execute(&statement, [])
        .or_else(|_| log.connection.execute(&by_key, []))
        .unwrap();
    assert!(changed > 0, "nothing in {table}.{column}");
    let outcome = read_everything(&log.connection);
    assert!(
        outcome.is_err(),
        "{table}.{column} = {value} was read as if nothing were wrong"
    );
    log.connection
        .execute_batch("ROLLBACK TO damage; RELEASE damage")
        .unwrap();
}

#[test]
fn damaged_rows_fail_their_readers() {
    let log = full();
    read_everything(&log.connection).unwrap();
    let blobs = columns(&log.connection, "BLOB");
    assert!(blobs.len() >= 8, "{blobs:?}");
    for (table, column) in &blobs {
        damaged_and_read(&log, table, column, "x'ff'");
    }
    for (table, column) in columns(&log.connection, "INTEGER") {
        let unread = UNREAD.contains(&(table.as_str(), column.as_str()));
        if !unread && !NAMES_OF_ROWS.contains(&column.as_str()) {
            damaged_and_read(&log, &table, &column, "-1");
        }
    }
    log.connection
        .execute("UPDATE counters SET value = -1 WHERE name = 'chunks'", [])
        .unwrap();
    assert!(Counter::Chunks.get(&log.connection).is_err());
    assert!(nodes::present_disk(&log.connection, NodeId::new(1), common::ids::DiskId::new([1; 16])).is_ok());
}
