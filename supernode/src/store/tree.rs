//! Directories and files: how a path is followed, made and moved.
//!
//! Invariant: a directory is one row (parent, name), so that moving it moves whatever is below it; a name in a directory
//! is a file or a directory, never both. Whoever writes here has looked first ([`look`]).

use common::ids::{BucketId, DirectoryId, VersionId};
use common::path::RemotePath;
use prost::Message;
use proto::names_log::v1 as log;
use rusqlite::{Connection, OptionalExtension, params};

use super::below::{self, Below};
use super::bucket::Bucket;
use super::counter::Counter;
use super::number::{number, sql};
use crate::core::publication::Target;

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    /// A directory, or the bucket's own.
    Directory(DirectoryId),
    /// A file: the directory that has it, and its current version.
    File {
        /// Where.
        directory: DirectoryId,
        /// Which content.
        version: VersionId,
    },
    /// Nothing: the directories from `above` on are missing, and the last name.
    Nothing {
        /// The deepest directory of the path that exists.
        above: DirectoryId,
        /// The names below it, the last component included.
        missing: Vec<String>,
    },
    /// A component before the last is a file: its path.
    BelowFile(String),
}

impl Spot {
    /// The spot as a publication sees it.
    pub(crate) fn target(&self) -> Target {
        match self {
            Spot::Directory(_) => Target::Directory,
            Spot::File { version, .. } => Target::File(*version),
            Spot::Nothing { .. } => Target::Nothing,
            Spot::BelowFile(file) => Target::BelowFile(file.clone()),
        }
    }
}

/// Follows `path` in its `bucket`.
pub(crate) fn look(connection: &Connection, bucket: &Bucket, path: &RemotePath) -> rusqlite::Result<Spot> {
    let below: Vec<&str> = path.components().skip(1).collect();
    let mut current = bucket.directory;
    for (at, name) in below.iter().enumerate() {
        if let Some(child) = child(connection, current, name)? {
            current = child;
            continue;
        }
        let rest = below.get(at..).unwrap_or_default();
        let Some(version) = file(connection, current, name)? else {
            return Ok(Spot::Nothing {
                above: current,
                missing: rest.iter().map(|name| (*name).to_owned()).collect(),
            });
        };
        return Ok(if rest.len() == 1 {
            Spot::File {
                directory: current,
                version,
            }
        } else {
            let upto = below.get(..=at).unwrap_or_default().join("/");
            Spot::BelowFile(format!("/{}/{upto}", bucket.name))
        });
    }
    Ok(Spot::Directory(current))
}

/// The directory `name` in `parent`.
pub(crate) fn child(
    connection: &Connection,
    parent: DirectoryId,
    name: &str,
) -> rusqlite::Result<Option<DirectoryId>> {
    connection
        .prepare_cached("SELECT directory_id FROM directories WHERE parent_id = ?1 AND name = ?2")?
        .query_row(params![sql(parent.get()), name], |row| {
            Ok(DirectoryId::new(number(row, 0)?))
        })
        .optional()
}

fn file(connection: &Connection, directory: DirectoryId, name: &str) -> rusqlite::Result<Option<VersionId>> {
    connection
        .prepare_cached("SELECT version_id FROM files WHERE directory_id = ?1 AND name = ?2")?
        .query_row(params![sql(directory.get()), name], |row| {
            Ok(VersionId::new(number(row, 0)?))
        })
        .optional()
}

/// Whether nothing is in the directory.
pub(crate) fn is_empty(connection: &Connection, directory: DirectoryId) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT NOT EXISTS (SELECT 1 FROM files WHERE directory_id = ?1)
                AND NOT EXISTS (SELECT 1 FROM directories WHERE parent_id = ?1)",
        )?
        .query_row([sql(directory.get())], |row| row.get(0))
}

/// Makes the directories `names`, each in the one before, the first in `above`; the last one's id.
pub(crate) fn make(
    connection: &Connection,
    bucket: BucketId,
    above: DirectoryId,
    names: &[String],
    wall_millis: u64,
) -> rusqlite::Result<DirectoryId> {
    // What each will have below it is known before it is made, so that those above are counted up once.
    let mut inside = Below::NOTHING;
    let mut chain = Vec::with_capacity(names.len());
    for name in names.iter().rev() {
        chain.push((name, inside));
        inside = Below::under(name, inside);
    }
    let mut current = above;
    for (name, inside) in chain.into_iter().rev() {
        let id = DirectoryId::new(Counter::Directory.next(connection)?);
        insert(connection, (id, bucket, current), name, wall_millis, inside)?;
        current = id;
    }
    if !names.is_empty() {
        below::add(connection, above, inside)?;
    }
    Ok(current)
}

/// Makes one directory's row, without metadata: its id, its bucket and its parent. Those above are not told.
pub(crate) fn insert(
    connection: &Connection,
    (id, bucket, parent): (DirectoryId, BucketId, DirectoryId),
    name: &str,
    wall_millis: u64,
    inside: Below,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO directories (directory_id, bucket_id, parent_id, name, created_wall_millis, metadata,
             files_below, bytes_below, longest_below, deepest_below) VALUES (?1, ?2, ?3, ?4, ?5, x'', 0, 0, ?6, ?7)",
        )?
        .execute(params![
            sql(id.get()),
            sql(bucket.get()),
            sql(parent.get()),
            name,
            sql(wall_millis),
            sql(inside.longest),
            sql(inside.deepest)
        ])?;
    Ok(())
}

/// Replaces what is kept with a directory.
pub(crate) fn set_metadata(
    connection: &Connection,
    directory: DirectoryId,
    metadata: Vec<log::Metadata>,
) -> rusqlite::Result<()> {
    let metadata = log::MetadataList { entries: metadata };
    connection
        .prepare_cached("UPDATE directories SET metadata = ?2 WHERE directory_id = ?1")?
        .execute(params![sql(directory.get()), metadata.encode_to_vec()])?;
    Ok(())
}

/// Moves a directory: one row, whatever is in it, and the figures of those above it.
pub(crate) fn reparent(
    connection: &Connection,
    directory: DirectoryId,
    parent: DirectoryId,
    name: &str,
) -> rusqlite::Result<()> {
    let inside = below::of(connection, directory)?;
    let before = connection
        .prepare_cached("SELECT parent_id FROM directories WHERE directory_id = ?1")?
        .query_row([sql(directory.get())], |row| {
            Ok(DirectoryId::new(number(row, 0)?))
        })?;
    below::take(connection, before, inside)?;
    connection
        .prepare_cached("UPDATE directories SET parent_id = ?2, name = ?3 WHERE directory_id = ?1")?
        .execute(params![sql(directory.get()), sql(parent.get()), name])?;
    below::add(connection, parent, Below::under(name, inside))
}

/// Removes the row of an empty directory.
pub(crate) fn remove(connection: &Connection, directory: DirectoryId) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM directories WHERE directory_id = ?1")?
        .execute([sql(directory.get())])?;
    Ok(())
}

/// Makes `name` in `directory`, where nothing is, point at `version`.
pub(crate) fn point(
    connection: &Connection,
    directory: DirectoryId,
    name: &str,
    version: VersionId,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO files (directory_id, name, version_id) VALUES (?1, ?2, ?3)")?
        .execute(params![sql(directory.get()), name, sql(version.get())])?;
    below::add(
        connection,
        directory,
        Below::file(name, size(connection, version)?),
    )
}

/// Removes `name` from `directory`, which has a file of that name; its version still has a row.
pub(crate) fn unpoint(connection: &Connection, directory: DirectoryId, name: &str) -> rusqlite::Result<()> {
    let version = connection
        .prepare_cached("DELETE FROM files WHERE directory_id = ?1 AND name = ?2 RETURNING version_id")?
        .query_row(params![sql(directory.get()), name], |row| {
            Ok(VersionId::new(number(row, 0)?))
        })?;
    below::take(
        connection,
        directory,
        Below::file(name, size(connection, version)?),
    )
}

/// Of a version that a name points at.
fn size(connection: &Connection, version: VersionId) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT size_bytes FROM versions WHERE version_id = ?1")?
        .query_row([sql(version.get())], |row| number(row, 0))
}
