//! The trash: what was deleted or replaced, until its time is over (P6).

use std::time::Duration;

use common::ids::{BucketId, DirectoryId, VersionId};
use common::lifecycle::VersionEvent;
use common::path::RemotePath;
use common::time::ClusterTime;
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};

use super::counter::Counter;
use super::number::{NUMBER_MAX, number, sql};
use super::schema::{TRASH, unreadable};
use super::{tree, version};

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
    version::set_state(connection, id, state, trash_id)
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
            sql((stay.now + stay.keep).as_millis().min(NUMBER_MAX)),
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
            Ok(Row {
                id: number(row, 0)?,
                kept: kept(row.get(1)?, number(row, 2)?)?,
                bucket: BucketId::new(number(row, 3)?),
                due: ClusterTime::from_millis(number(row, 4)?),
            })
        })
        .optional()
}

/// What can be brought back: a row that came into the trash by itself, with its place.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Which row.
    pub(crate) id: u64,
    /// What.
    pub(crate) kept: Kept,
    /// Whose.
    pub(crate) bucket: BucketId,
    /// Where it was.
    pub(crate) path: String,
    /// Names time.
    pub(crate) trashed: ClusterTime,
    /// When its time is over.
    pub(crate) due: ClusterTime,
}

const ITEM_COLUMNS: &str = "trash_id, kind, target, bucket_id, path, trashed_millis, due_millis";

impl Item {
    /// Whether it was at or below `path`.
    ///
    /// # Errors
    /// Where it was is no path: the row is damaged.
    pub(crate) fn was_within(&self, path: &RemotePath) -> rusqlite::Result<bool> {
        let was: RemotePath = self
            .path
            .parse()
            .map_err(|error| unreadable(format!("item {} of the trash: {error}", self.id)))?;
        Ok(path.contains(&was))
    }

    /// Reads [`ITEM_COLUMNS`].
    fn read(row: &SqlRow<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: number(row, 0)?,
            kept: kept(row.get(1)?, number(row, 2)?)?,
            bucket: BucketId::new(number(row, 3)?),
            path: row.get(4)?,
            trashed: ClusterTime::from_millis(number(row, 5)?),
            due: ClusterTime::from_millis(number(row, 6)?),
        })
    }
}

/// The item with this number, if it can still be brought back at `now`.
pub(crate) fn item(connection: &Connection, id: u64, now: ClusterTime) -> rusqlite::Result<Option<Item>> {
    connection
        .prepare_cached(&format!(
            "SELECT {ITEM_COLUMNS} FROM trash WHERE trash_id = ?1 AND path != '' AND due_millis > ?2"
        ))?
        .query_row(params![sql(id), sql(now.as_millis())], Item::read)
        .optional()
}

/// Items of a bucket that came before `before`, the newest first, at most `limit`.
pub(crate) fn items(
    connection: &Connection,
    bucket: BucketId,
    before: u64,
    limit: u32,
) -> rusqlite::Result<Vec<Item>> {
    connection
        .prepare_cached(&format!(
            "SELECT {ITEM_COLUMNS} FROM trash WHERE bucket_id = ?1 AND path != '' AND trash_id < ?2
             ORDER BY trash_id DESC LIMIT ?3"
        ))?
        .query_map(params![sql(bucket.get()), sql(before), limit], Item::read)?
        .collect()
}

/// Items of all buckets that came before `before`, the newest first, at most `limit`.
pub(crate) fn items_of_all(connection: &Connection, before: u64, limit: u32) -> rusqlite::Result<Vec<Item>> {
    connection
        .prepare_cached(&format!(
            "SELECT {ITEM_COLUMNS} FROM trash WHERE path != '' AND trash_id < ?1 ORDER BY trash_id DESC LIMIT ?2"
        ))?
        .query_map(params![sql(before), limit], Item::read)?
        .collect()
}

/// Makes an item due now.
pub(crate) fn hasten(connection: &Connection, trash_id: u64, now: ClusterTime) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE trash SET due_millis = ?2 WHERE trash_id = ?1")?
        .execute(params![sql(trash_id), sql(now.as_millis())])?;
    Ok(())
}

/// Takes a version out of the trash; its path points at it again.
pub(crate) fn take_version(connection: &Connection, item: &Item, id: VersionId) -> rusqlite::Result<()> {
    let Some(row) = version::by_id(connection, id)? else {
        return Err(unreadable(format!(
            "the trash holds version {id}, which has no row"
        )));
    };
    let state = row
        .state
        .next(VersionEvent::Restore)
        .map_err(|error| unreadable(error.to_string()))?;
    version::set_state(connection, id, state, 0)?;
    remove(connection, item.id)
}

fn kept(kind: u8, target: u64) -> rusqlite::Result<Kept> {
    match kind {
        KIND_VERSION => Ok(Kept::Version(VersionId::new(target))),
        KIND_DIRECTORY => Ok(Kept::Directory(DirectoryId::new(target))),
        other => Err(unreadable(format!("the trash has a row of kind {other}"))),
    }
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
