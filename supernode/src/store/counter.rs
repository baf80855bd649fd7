//! Numbers that never repeat, handed out by committed commands.

use rusqlite::{Connection, OptionalExtension, params};

use super::number::{number, sql};

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Counter {
    /// Users.
    User,
    /// Buckets.
    Bucket,
    /// Directories.
    Directory,
    /// Uploads, and with them versions.
    Upload,
    /// Not handed out: every upload up to this number has had a row, is recorded as lost, or was never begun.
    UploadsClosed,
    /// Not handed out: a time in milliseconds; keys born before it are refused.
    KeysRefusedBefore,
    /// Rows of the trash.
    Trash,
    /// Clusters, as the tables name them.
    Cluster,
    /// Signing keys.
    SigningKey,
}

impl Counter {
    const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Bucket => "bucket",
            Self::Directory => "directory",
            Self::Upload => "upload",
            Self::UploadsClosed => "uploads_closed",
            Self::KeysRefusedBefore => "keys_refused_before",
            Self::Trash => "trash",
            Self::Cluster => "cluster",
            Self::SigningKey => "signing_key",
        }
    }

    /// The next number.
    pub(crate) fn next(self, connection: &Connection) -> rusqlite::Result<u64> {
        self.advance(connection, 1)
    }

    /// Hands out `count` numbers, at least one; the last of them.
    pub(crate) fn advance(self, connection: &Connection, count: u64) -> rusqlite::Result<u64> {
        connection
            .prepare_cached(
                "INSERT INTO counters (name, value) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET value = value + ?2 RETURNING value",
            )?
            .query_row(params![self.name(), sql(count.max(1))], |row| number(row, 0))
    }

    /// Raises the counter to `value`, if it is lower.
    pub(crate) fn raise(self, connection: &Connection, value: u64) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "INSERT INTO counters (name, value) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET value = max(value, ?2)",
            )?
            .execute(params![self.name(), sql(value)])?;
        Ok(())
    }

    /// The last number handed out; 0 before the first.
    pub(crate) fn last(self, connection: &Connection) -> rusqlite::Result<u64> {
        let found = connection
            .prepare_cached("SELECT value FROM counters WHERE name = ?1")?
            .query_row([self.name()], |row| number(row, 0))
            .optional()?;
        Ok(found.unwrap_or(0))
    }
}
