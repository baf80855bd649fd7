//! The tables of the names group, and why they look like this.
//!
//! Tables are STRICT and have as few indices as the requests need, because every index is paid for at every
//! publication. Numbers that order decisions are names time; columns named `*_wall_millis` are for people. States are
//! the codes of `common::lifecycle`. Nothing here holds a map or a float: members compare their tables byte by byte.

use rusqlite::Connection;

/// The version of these tables, kept in the database (P12).
pub(crate) const SCHEMA_VERSION: i64 = 4;

/// The parent of every bucket's directory.
pub(crate) const ROOT: u64 = 0;
/// The parent of every directory in the trash, each under the number of its trash row.
pub(crate) const TRASH: u64 = 1;
/// Directory ids up to here are kept for fixed meanings.
const DIRECTORY_IDS_RESERVED: u64 = 15;

const TABLES: &str = "
-- The last number handed out of each kind. Numbers never repeat.
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- quota_bytes: NULL for no limit. used_bytes: versions kept in buckets of this user, the trash included. reserved_bytes: by open uploads into them.
-- uploads_open: opened by this user. uploads_failed: of those, rows that are still kept and were refused or aborted.
CREATE TABLE users (
    user_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    admin INTEGER NOT NULL,
    enabled INTEGER NOT NULL,
    token_generation INTEGER NOT NULL,
    quota_bytes INTEGER,
    used_bytes INTEGER NOT NULL,
    reserved_bytes INTEGER NOT NULL,
    uploads_open INTEGER NOT NULL,
    uploads_failed INTEGER NOT NULL,
    created_wall_millis INTEGER NOT NULL
) STRICT;

CREATE INDEX users_admins ON users (enabled) WHERE admin = 1;

CREATE TABLE buckets (
    bucket_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    owner INTEGER NOT NULL,
    directory_id INTEGER NOT NULL
) STRICT;
CREATE INDEX buckets_by_owner ON buckets (owner, name);
CREATE INDEX buckets_by_path ON buckets (owner, name || '/');

-- A bucket's own directory has parent 0 and the bucket's name. The second index gives whole paths in order: what is in
-- the directory `a` comes after the file `a-b`, because a slash comes after a hyphen.
-- The figures of what is below are kept by `below.rs`.
CREATE TABLE directories (
    directory_id INTEGER PRIMARY KEY,
    bucket_id INTEGER NOT NULL,
    parent_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    created_wall_millis INTEGER NOT NULL,
    metadata BLOB NOT NULL,
    files_below INTEGER NOT NULL,
    bytes_below INTEGER NOT NULL,
    longest_below INTEGER NOT NULL,
    deepest_below INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX directories_by_name ON directories (parent_id, name);
CREATE INDEX directories_by_path ON directories (parent_id, name || '/');

-- A name in a directory is a file or a directory, never both.
CREATE TABLE files (
    directory_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    version_id INTEGER NOT NULL,
    PRIMARY KEY (directory_id, name)
) STRICT, WITHOUT ROWID;

-- Versions that are published or in the trash; a released version has no row. trash_id: its row there, or 0.
CREATE TABLE versions (
    version_id INTEGER PRIMARY KEY,
    state INTEGER NOT NULL,
    bucket_id INTEGER NOT NULL,
    user_id INTEGER NOT NULL,
    cluster INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    digest BLOB NOT NULL,
    modified_wall_millis INTEGER NOT NULL,
    metadata BLOB NOT NULL,
    trash_id INTEGER NOT NULL
) STRICT;

-- Upload sessions. reserved_bytes is charged to the owner of the bucket. recorded: the cluster's log knows the outcome.
CREATE TABLE uploads (
    upload_id INTEGER PRIMARY KEY,
    state INTEGER NOT NULL,
    user_id INTEGER NOT NULL,
    idempotency_key BLOB NOT NULL,
    cluster INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    path TEXT NOT NULL,
    charged_to INTEGER NOT NULL,
    reserved_bytes INTEGER NOT NULL,
    if_absent INTEGER NOT NULL,
    if_version INTEGER,
    if_present INTEGER NOT NULL,
    metadata BLOB NOT NULL,
    opened_millis INTEGER NOT NULL,
    touched_millis INTEGER NOT NULL,
    ended_millis INTEGER NOT NULL,
    recorded INTEGER NOT NULL,
    refused_code TEXT NOT NULL,
    refused_message TEXT NOT NULL,
    key_born_millis INTEGER NOT NULL,
    command_digest BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX uploads_by_key ON uploads (user_id, idempotency_key);
CREATE INDEX uploads_open ON uploads (touched_millis) WHERE state = 1;
CREATE INDEX uploads_aborted ON uploads (cluster, upload_id) WHERE state = 4 AND recorded = 0;
CREATE INDEX uploads_settled ON uploads (ended_millis, upload_id) WHERE state != 1 AND recorded = 1;

-- What waits for its time to be over: kind 1 a version (target: version_id, with the place it had), kind 2 a directory
-- (target: directory_id, whose parent is the trash).
CREATE TABLE trash (
    trash_id INTEGER PRIMARY KEY,
    due_millis INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    target INTEGER NOT NULL,
    bucket_id INTEGER NOT NULL,
    directory_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    path TEXT NOT NULL,
    trashed_millis INTEGER NOT NULL
) STRICT;
CREATE INDEX trash_by_due ON trash (due_millis, trash_id);
CREATE INDEX trash_by_bucket ON trash (bucket_id, trash_id) WHERE path != '';

-- Releases on their way to each cluster: gapless sequences, sent until the cluster has recorded them.
CREATE TABLE outbox (
    cluster INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    version_id INTEGER NOT NULL,
    PRIMARY KEY (cluster, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE clusters (
    cluster INTEGER PRIMARY KEY,
    cluster_id BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    generation INTEGER NOT NULL,
    site TEXT NOT NULL,
    members BLOB NOT NULL,
    releases_made INTEGER NOT NULL,
    releases_recorded INTEGER NOT NULL,
    retired INTEGER NOT NULL
) STRICT;

-- Current and previous secret seeds of the keys that sign tickets.
CREATE TABLE signing_keys (
    key_id INTEGER PRIMARY KEY,
    seed BLOB NOT NULL,
    made_millis INTEGER NOT NULL
) STRICT;

-- Replies given under a caller's key (requests other than uploads, which have sessions), each to the command with this
-- digest. latest_millis: when it was given, or the key was born if that is later.
CREATE TABLE requests (
    request_id INTEGER PRIMARY KEY,
    user_id INTEGER NOT NULL,
    idempotency_key BLOB NOT NULL,
    command_digest BLOB NOT NULL,
    reply BLOB NOT NULL,
    latest_millis INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX requests_by_key ON requests (user_id, idempotency_key);
CREATE INDEX requests_by_age ON requests (latest_millis, request_id);

-- Ranges of numbers which were given to sessions of a leader's memory, or set aside for them, when that leader ended.
CREATE TABLE uploads_lost (
    first INTEGER PRIMARY KEY,
    last INTEGER NOT NULL
) STRICT;
";

/// Creates the tables in a new database.
///
/// # Errors
/// SQLite failed.
pub(crate) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TABLE names_schema (only INTEGER PRIMARY KEY, version INTEGER NOT NULL) STRICT",
    )?;
    connection.execute_batch(TABLES)?;
    connection.execute(
        "INSERT INTO counters (name, value) VALUES ('directory', ?1)",
        [super::number::sql(DIRECTORY_IDS_RESERVED)],
    )?;
    connection.execute(
        "INSERT INTO names_schema (only, version) VALUES (1, ?1)",
        [SCHEMA_VERSION],
    )?;
    Ok(())
}

/// Checks that this build knows the tables.
///
/// # Errors
/// SQLite failed, or the tables are of another version.
pub(crate) fn check(connection: &Connection) -> rusqlite::Result<()> {
    let version: i64 =
        connection.query_row("SELECT version FROM names_schema WHERE only = 1", [], |row| {
            row.get(0)
        })?;
    if version == SCHEMA_VERSION {
        return Ok(());
    }
    Err(unreadable(format!(
        "the names tables are of version {version}; this build knows only version {SCHEMA_VERSION}"
    )))
}

/// State or a command that this build cannot read: the member must stop rather than guess (P12).
pub(crate) fn unreadable(reason: String) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(reason.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::lifecycle::Session;

    #[test]
    fn tables_of_other_versions_are_refused() {
        let connection = Connection::open_in_memory().unwrap();
        create(&connection).unwrap();
        check(&connection).unwrap();
        for other in [SCHEMA_VERSION - 1, SCHEMA_VERSION + 1] {
            connection
                .execute("UPDATE names_schema SET version = ?1", [other])
                .unwrap();
            let error = check(&connection).unwrap_err().to_string();
            assert!(error.contains(&format!("version {other}")), "{error}");
        }
    }

    #[test]
    fn partial_indices_name_the_states_by_their_codes() {
        assert_eq!((Session::Open.code(), Session::Aborted.code()), (1, 4));
    }
}
