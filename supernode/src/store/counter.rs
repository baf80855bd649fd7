//! Numbers that never repeat, handed out by committed commands.

use rusqlite::{Connection, OptionalExtension};

use super::number::number;

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
            Self::Trash => "trash",
            Self::Cluster => "cluster",
            Self::SigningKey => "signing_key",
        }
    }

    /// The next number.
    pub(crate) fn next(self, connection: &Connection) -> rusqlite::Result<u64> {
        connection
            .prepare_cached(
                "INSERT INTO counters (name, value) VALUES (?1, 1)
                 ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value",
            )?
            .query_row([self.name()], |row| number(row, 0))
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
