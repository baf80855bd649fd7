//! How this crate opens SQLite, and what a failure of it is.

use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::vfs;

/// A WAL reset in SQLite up to 3.51.2 can corrupt a database; a loose library file can bring an old one back.
const VERSION_MIN: i32 = 3_051_003;
/// Statements kept prepared per connection.
const STATEMENTS_MAX: usize = 256;
/// Pages of WAL after which a writer checkpoints by itself (16 MiB).
const CHECKPOINT_PAGES: u32 = 4096;

/// How long a statement waits for another connection's lock. No checkpoint does.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Pages that a writer keeps in memory, in KiB: what a transaction touches must not be read again.
const WRITER_CACHE_KIB: i64 = 16 << 10;

/// How a connection syncs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sync {
    /// A commit is durable when it returns.
    Full,
    /// A commit survives the process; a power cut may take the latest ones, in order.
    Normal,
}

/// Opens `path` for writing, creating it if absent.
pub(crate) fn open_writer(path: &Path, sync: Sync) -> io::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    open(path, flags, |connection| {
        let synchronous = match sync {
            Sync::Full => "FULL",
            Sync::Normal => "NORMAL",
        };
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
        connection.pragma_update(None, "foreign_keys", "ON")
    })
}

/// Opens `path` for queries only.
pub(crate) fn open_reader(path: &Path) -> io::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    open(path, flags, |connection| {
        connection.pragma_update(None, "query_only", "ON")
    })
}

fn open(
    path: &Path,
    flags: OpenFlags,
    tune: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> io::Result<Connection> {
    if rusqlite::version_number() < VERSION_MIN {
        return Err(failure(format!(
            "SQLite {} can corrupt databases; 3.51.3 or later is needed",
            rusqlite::version()
        )));
    }
    let connection = vfs::open(path, flags).map_err(failure)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection
        .busy_timeout(BUSY_TIMEOUT)
        // Otherwise some statements are planned anew for every value that is bound to them.
        .and_then(|()| connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true))
        .and_then(|_| tune(&connection))
        .map_err(failure)?;
    Ok(connection)
}

/// Opens an empty file for a copy of another database.
pub(crate) fn open_copy(path: &Path) -> io::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    open(path, flags, |connection| {
        connection.pragma_update(None, "synchronous", "OFF")
    })
}

/// Writes as much of the WAL back into the database as can be without waiting, and empties it where no reader is in the
/// way; whether it did.
pub(crate) fn checkpoint(connection: &Connection) -> io::Result<bool> {
    connection.busy_timeout(Duration::ZERO).map_err(failure)?;
    let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failure)?;
    busy.map(|busy| busy == 0).map_err(failure)
}

/// SQLite's word for a failure of the disk or the database.
pub(crate) fn failure(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("SQLite: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_waits_for_no_reader() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let writer = open_writer(&path, Sync::Normal).unwrap();
        writer
            .execute_batch("CREATE TABLE t (k); INSERT INTO t VALUES (1)")
            .unwrap();
        let reader = open_reader(&path).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
        writer.execute_batch("INSERT INTO t VALUES (2)").unwrap();
        let clock = common::time::Clock::real();
        let begun = clock.moment();
        assert!(!checkpoint(&writer).unwrap(), "the reader is in the way");
        assert!(clock.moment().since(begun) < BUSY_TIMEOUT / 2);
        reader.execute_batch("COMMIT").unwrap();
        assert!(checkpoint(&writer).unwrap());
        let wal = std::fs::metadata(directory.path().join("a.db-wal")).unwrap();
        assert_eq!(wal.len(), 0);
    }
}
