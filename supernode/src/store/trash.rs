//! The trash: what was deleted or replaced, until its time is over (P6).

use std::time::Duration;

use common::ids::{BucketId, DirectoryId, VersionId};
use common::lifecycle::VersionEvent;
use common::time::ClusterTime;
use rusqlite::{Connection, OptionalExtension, params};

use super::counter::Counter;
use super::number::{number, sql};
use super::schema::{TRASH, unreadable};
use super::{bucket, tree, user, version};

/// What a row of the trash holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// One version.
    Version(VersionId),
    /// A directory and whatever is in it.
    Directory(DirectoryId),
}

const KIND_VERSION: u8 = 1;
const KIND_DIRECTORY: u8 = 2;

/// Where something was when it came into the trash.
#[derive(Clone, Debug)]
pub(crate) struct Origin<'a> {
    /// In which bucket.
    pub(crate) bucket: BucketId,
    /// In which directory.
    pub(crate) directory: DirectoryId,
    /// Under which name there.
    pub(crate) name: &'a str,
    /// Its whole path; empty for what came with a directory above it.
    pub(crate) path: &'a str,
}

/// When it came into the trash, and how long it stays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stay {
    /// Names time.
    pub(crate) now: ClusterTime,
    /// Zero: due at once.
    pub(crate) keep: Duration,
}

/// A row of the trash.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Which.
    pub(crate) id: u64,
    /// What.
    pub(crate) kept: Kept,
    /// Whose.
    pub(crate) bucket: BucketId,
    /// When its time is over.
    pub(crate) due: ClusterTime,
}

/// Puts a published version, to which no path points any longer, into the trash.
pub(crate) fn put_version(
    connection: &Connection,
    id: VersionId,
    origin: &Origin<'_>,
    stay: Stay,
) -> rusqlite::Result<()> {
    let Some(row) = version::by_id(connection, id)? else {
        return Err(unreadable(format!(
            "a path points at version {id}, which has no row"
        )));
    };
    let state = row
        .state
        .next(VersionEvent::Trash)
        .map_err(|error| unreadable(error.to_string()))?;
    let trash_id = insert(connection, Kept::Version(id), origin, stay)?;
    version::set_state(connection, id, state, trash_id)?;
    let change = user::Change {
        files: -1,
        ..user::Change::default()
    };
    user::charge(connection, bucket::owner(connection, row.bucket)?, change)
}

/// Moves a directory, whatever it contains, into the trash: one row.
pub(crate) fn put_directory(
    connection: &Connection,
    id: DirectoryId,
    origin: &Origin<'_>,
    stay: Stay,
) -> rusqlite::Result<()> {
    let trash_id = insert(connection, Kept::Directory(id), origin, stay)?;
    tree::reparent(connection, id, DirectoryId::new(TRASH), &trash_id.to_string())
}

fn insert(connection: &Connection, kept: Kept, origin: &Origin<'_>, stay: Stay) -> rusqlite::Result<u64> {
    let trash_id = Counter::Trash.next(connection)?;
    let (kind, target) = match kept {
        Kept::Version(id) => (KIND_VERSION, id.get()),
        Kept::Directory(id) => (KIND_DIRECTORY, id.get()),
    };
    connection
        .prepare_cached(
            "INSERT INTO trash (trash_id, due_millis, kind, target, bucket_id, directory_id, name, path, trashed_millis)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            sql(trash_id),
            sql((stay.now + stay.keep).as_millis()),
            kind,
            sql(target),
            sql(origin.bucket.get()),
            sql(origin.directory.get()),
            origin.name,
            origin.path,
            sql(stay.now.as_millis()),
        ])?;
    Ok(trash_id)
}

/// The row whose time was over first, if any is.
pub(crate) fn due(connection: &Connection, now: ClusterTime) -> rusqlite::Result<Option<Row>> {
    connection
        .prepare_cached(
            "SELECT trash_id, kind, target, bucket_id, due_millis FROM trash
             WHERE due_millis <= ?1 ORDER BY due_millis, trash_id LIMIT 1",
        )?
        .query_row([sql(now.as_millis())], |row| {
            let target = number(row, 2)?;
            Ok(Row {
                id: number(row, 0)?,
                kept: match row.get::<_, u8>(1)? {
                    KIND_VERSION => Kept::Version(VersionId::new(target)),
                    KIND_DIRECTORY => Kept::Directory(DirectoryId::new(target)),
                    other => return Err(unreadable(format!("the trash has a row of kind {other}"))),
                },
                bucket: BucketId::new(number(row, 3)?),
                due: ClusterTime::from_millis(number(row, 4)?),
            })
        })
        .optional()
}

/// Removes a row.
pub(crate) fn remove(connection: &Connection, trash_id: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM trash WHERE trash_id = ?1")?
        .execute([sql(trash_id)])?;
    Ok(())
}

/// Whether the version that the row holds was at `name` in `directory` when it was put there.
pub(crate) fn was_at(
    connection: &Connection,
    trash_id: u64,
    directory: DirectoryId,
    name: &str,
) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM trash WHERE trash_id = ?1 AND kind = 1 AND directory_id = ?2 AND name = ?3)",
        )?
        .query_row(params![sql(trash_id), sql(directory.get()), name], |row| row.get(0))
}
