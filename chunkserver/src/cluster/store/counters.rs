//! Counters and notices: single values of the state machine.

use rusqlite::{Connection, OptionalExtension, params};

use super::schema::{number, to_sql};

/// A counter; 0 until it is first set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counter {
    /// The highest upload number given out: the high-water mark.
    UploadNumber,
    /// The highest upload id whose row was forgotten: uploads up to it that have no row are never begun again.
    UploadsForgotten,
    /// The highest disk number given out.
    Disk,
    /// The highest data-plane key id given out.
    Key,
    /// The sequence of the last release recorded.
    ReleasesRecorded,
    /// Uploads in state open.
    UploadsOpen,
    /// Chunks that are live or marked.
    Chunks,
    /// Their bytes, counted once.
    ChunkBytes,
    /// Of those, chunks sealed with a single copy.
    SingleCopyChunks,
    /// Replicas in state suspect.
    SuspectReplicas,
    /// What the names log said that contradicts this log.
    Contradictions,
    /// 1 while reclaim is stopped.
    ReclaimStopped,
}

impl Counter {
    const fn name(self) -> &'static str {
        match self {
            Counter::UploadNumber => "upload_number",
            Counter::UploadsForgotten => "uploads_forgotten",
            Counter::Disk => "disk",
            Counter::Key => "key",
            Counter::ReleasesRecorded => "releases_recorded",
            Counter::UploadsOpen => "uploads_open",
            Counter::Chunks => "chunks",
            Counter::ChunkBytes => "chunk_bytes",
            Counter::SingleCopyChunks => "single_copy_chunks",
            Counter::SuspectReplicas => "suspect_replicas",
            Counter::Contradictions => "contradictions",
            Counter::ReclaimStopped => "reclaim_stopped",
        }
    }

    /// Its value.
    pub fn get(self, connection: &Connection) -> rusqlite::Result<u64> {
        let stored = connection
            .prepare_cached("SELECT value FROM counters WHERE name = ?1")?
            .query_row([self.name()], |row| number(row, 0))
            .optional()?;
        Ok(stored.unwrap_or(0))
    }

    /// Sets it.
    pub(super) fn set(self, connection: &Connection, value: u64) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "INSERT INTO counters (name, value) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            )?
            .execute(params![self.name(), to_sql(value)])?;
        Ok(())
    }

    /// Adds one and gives the new value.
    pub(super) fn next(self, connection: &Connection) -> rusqlite::Result<u64> {
        self.add(connection, 1)
    }

    /// Adds `change`, never below 0, and gives the new value.
    pub(super) fn add(self, connection: &Connection, change: i64) -> rusqlite::Result<u64> {
        if change == 0 {
            return self.get(connection);
        }
        let value = self.get(connection)?.saturating_add_signed(change);
        self.set(connection, value)?;
        Ok(value)
    }
}

/// Why reclaim is stopped, if it is.
pub fn reclaim_stopped(connection: &Connection) -> rusqlite::Result<Option<String>> {
    if Counter::ReclaimStopped.get(connection)? == 0 {
        return Ok(None);
    }
    let text: Option<String> = connection
        .prepare_cached("SELECT text FROM notices WHERE name = 'reclaim_stopped'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(Some(text.unwrap_or_default()))
}

/// Stops or allows all reclaim.
pub(super) fn set_reclaim(connection: &Connection, stopped: bool, reason: &str) -> rusqlite::Result<()> {
    Counter::ReclaimStopped.set(connection, u64::from(stopped))?;
    connection
        .prepare_cached(
            "INSERT INTO notices (name, text) VALUES ('reclaim_stopped', ?1)
             ON CONFLICT (name) DO UPDATE SET text = excluded.text",
        )?
        .execute([reason])?;
    Ok(())
}
