//! How this crate opens SQLite, and what a failure of it is.

use std::io;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::vfs;

/// A WAL reset in SQLite up to 3.51.2 can corrupt a database; a loose library file can bring an old one back.
const VERSION_MIN: i32 = 3_051_003;
/// Statements kept prepared per connection.
const STATEMENTS_MAX: usize = 256;
/// Pages of WAL after which a writer checkpoints by itself (16 MiB).
const CHECKPOINT_PAGES: u32 = 4096;

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
        .busy_timeout(std::time::Duration::from_secs(10))
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

/// Writes the WAL back into the database and empties it; for quiet moments.
pub(crate) fn checkpoint(connection: &Connection) -> io::Result<()> {
    // A reader in the way is no failure: the next quiet moment comes.
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .map_err(failure)
}

/// SQLite's word for a failure of the disk or the database.
pub(crate) fn failure(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("SQLite: {error}"))
}
