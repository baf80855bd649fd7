//! Tables of the cluster's state machine. A change adds a version here and, once there are releases, a migration at a
//! feature level; nothing is ever reinterpreted (P12).
//!
//! States are the codes of [`common::lifecycle`]; ids and times are `INTEGER` (up to [`NUMBER_MAX`]), attempts,
//! disk ids and digests are `BLOB`. Disks are numbered, so that a replica's row is small: replicas are what there is
//! most of. Which versions hold a chunk is found without an index on every manifest row: a chunk knows the place that
//! made it, and only rows that share it from another version are indexed by attempt.

use common::time::ClusterTime;
use rusqlite::types::{FromSqlError, ToSql, ToSqlOutput};
use rusqlite::{Connection, Row, Transaction};

/// The version of the tables that this build writes.
pub const VERSION: u32 = 2;

const TABLES: &str = "
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE notices (
    name TEXT PRIMARY KEY,
    text TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE nodes (
    node_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    control TEXT NOT NULL,
    data TEXT NOT NULL,
    zone TEXT NOT NULL,
    host TEXT NOT NULL,
    state INTEGER NOT NULL,
    changed_millis INTEGER NOT NULL
) STRICT;

CREATE TABLE disks (
    disk INTEGER PRIMARY KEY,
    node_id INTEGER NOT NULL,
    disk_id BLOB NOT NULL,
    present INTEGER NOT NULL,
    replicas INTEGER NOT NULL,
    UNIQUE (node_id, disk_id)
) STRICT;

CREATE TABLE uploads (
    number INTEGER PRIMARY KEY,
    upload_id INTEGER NOT NULL UNIQUE,
    state INTEGER NOT NULL,
    chunk_bytes INTEGER NOT NULL,
    heard_millis INTEGER NOT NULL,
    ended_millis INTEGER
) STRICT;
CREATE INDEX uploads_open ON uploads (heard_millis) WHERE state = 1;
CREATE INDEX uploads_ended ON uploads (ended_millis) WHERE ended_millis IS NOT NULL;

CREATE TABLE versions (
    version INTEGER PRIMARY KEY,
    number INTEGER NOT NULL,
    state INTEGER NOT NULL,
    size INTEGER NOT NULL,
    digest BLOB NOT NULL,
    chunk_bytes INTEGER NOT NULL,
    chunk_count INTEGER NOT NULL,
    modified_wall_millis INTEGER NOT NULL,
    refused_code TEXT NOT NULL DEFAULT '',
    refused_message TEXT NOT NULL DEFAULT '',
    marking INTEGER NOT NULL DEFAULT 0,
    marked_to INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX versions_sealed ON versions (version) WHERE state = 1;
CREATE INDEX versions_marking ON versions (version) WHERE marking = 1;

CREATE TABLE manifest (
    version INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    attempt BLOB NOT NULL,
    shared INTEGER NOT NULL,
    PRIMARY KEY (version, idx)
) STRICT, WITHOUT ROWID;
CREATE INDEX manifest_shared ON manifest (attempt) WHERE shared = 1;

CREATE TABLE chunks (
    attempt BLOB PRIMARY KEY,
    version INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    length INTEGER NOT NULL,
    digest BLOB NOT NULL,
    state INTEGER NOT NULL,
    deadline_millis INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX chunks_marked ON chunks (deadline_millis) WHERE state = 2;

CREATE TABLE replicas (
    attempt BLOB NOT NULL,
    disk INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    state INTEGER NOT NULL,
    PRIMARY KEY (attempt, disk)
) STRICT, WITHOUT ROWID;

CREATE TABLE drops (
    disk INTEGER NOT NULL,
    attempt BLOB NOT NULL,
    due_millis INTEGER NOT NULL,
    PRIMARY KEY (disk, attempt)
) STRICT, WITHOUT ROWID;
CREATE INDEX drops_due ON drops (disk, due_millis);

CREATE TABLE outcomes_unreported (version INTEGER PRIMARY KEY) STRICT;
CREATE TABLE abandons_unreported (upload_id INTEGER PRIMARY KEY) STRICT;

CREATE TABLE keys (
    key_id INTEGER PRIMARY KEY,
    secret BLOB NOT NULL,
    made_millis INTEGER NOT NULL
) STRICT;
";

/// Creates the tables in a new database.
///
/// # Errors
/// SQLite's.
pub fn create(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(TABLES)?;
    transaction.execute(
        "INSERT INTO counters (name, value) VALUES ('schema', ?1)",
        [VERSION],
    )?;
    Ok(())
}

/// Checks that this build knows the tables.
///
/// # Errors
/// SQLite's; or the tables are of another version.
pub fn check(connection: &Connection) -> rusqlite::Result<()> {
    let found: u32 = connection.query_row("SELECT value FROM counters WHERE name = 'schema'", [], |row| {
        row.get(0)
    })?;
    if found == VERSION {
        return Ok(());
    }
    Err(unreadable(format!(
        "the cluster's tables are of version {found}; this build knows only version {VERSION}"
    )))
}

/// State or a command that this build cannot read: the member stops rather than guess (P12).
pub(super) fn unreadable(reason: String) -> rusqlite::Error {
    FromSqlError::Other(reason.into()).into()
}

/// The largest number that the tables keep.
pub(super) const NUMBER_MAX: u64 = i64::MAX as u64;

/// A number on its way into a statement, which fails where SQLite cannot keep it as it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct SqlNumber(u64);

/// `number` for a statement.
pub(super) const fn to_sql(number: u64) -> SqlNumber {
    SqlNumber(number)
}

/// `number` as an amount to add or take away.
pub(super) fn amount(number: u64) -> rusqlite::Result<i64> {
    i64::try_from(number).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

impl ToSql for SqlNumber {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        amount(self.0).map(ToSqlOutput::from)
    }
}

/// The number in column `at`.
///
/// # Errors
/// It is none that this build writes: the state is damaged, and the member must stop (P5).
pub(super) fn number(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    let stored: i64 = row.get(at)?;
    u64::try_from(stored).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(at, stored))
}

/// The flag in column `at`: 0 or 1.
///
/// # Errors
/// As [`number`].
pub(super) fn flag(row: &Row<'_>, at: usize) -> rusqlite::Result<bool> {
    match row.get(at)? {
        0_i64 => Ok(false),
        1 => Ok(true),
        other => Err(rusqlite::Error::IntegralValueOutOfRange(at, other)),
    }
}

/// `millis` after `now`, and no later than the tables can say.
pub(super) fn later(now: ClusterTime, millis: u64) -> ClusterTime {
    ClusterTime::from_millis(now.as_millis().saturating_add(millis).min(NUMBER_MAX))
}

/// A stored value that no build of ours wrote.
pub(super) fn corrupt(error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    FromSqlError::Other(Box::new(error)).into()
}
