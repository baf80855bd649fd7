//! What every directory has below it, kept with its row: how many files, their bytes, and how long and deep paths get.
//!
//! Invariants: `files` and `bytes` equal what a walk would count, in the trash as well; they change with the row of the file
//! or directory itself, by one statement for the whole way up, so that counting, deleting and moving a tree cost its
//! depth and not its size. `longest` and `deepest` are bounds: they grow with what comes and do not shrink with what goes,
//! so that a move may be refused for a path that is gone, but never makes a path that no request can name.

use common::ids::DirectoryId;
use common::path::{PATH_BYTES_MAX, RemotePath};
use rusqlite::{Connection, params};

use super::number::{amount, number, sql};
use crate::core::refusal::Refusal;

/// The most components of a path: each may be a row to write.
pub(crate) const PATH_DEPTH_MAX: usize = 255;

/// What is below a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Below {
    /// Files, at any depth.
    pub(crate) files: u64,
    /// Their sizes together.
    pub(crate) bytes: u64,
    /// No path from here is longer, in bytes, each component with its slash.
    pub(crate) longest: u64,
    /// No path from here has more components.
    pub(crate) deepest: u64,
}

impl Below {
    /// One file `name` of `bytes`.
    pub(crate) const fn file(name: &str, bytes: u64) -> Self {
        Self {
            files: 1,
            bytes,
            ..Self::under(name, Self::NOTHING)
        }
    }

    /// A directory `name` with `inside`, as its parent has it below.
    pub(crate) const fn under(name: &str, inside: Self) -> Self {
        Self {
            longest: inside.longest + 1 + name.len() as u64,
            deepest: inside.deepest + 1,
            ..inside
        }
    }

    /// Nothing.
    pub(crate) const NOTHING: Self = Self {
        files: 0,
        bytes: 0,
        longest: 0,
        deepest: 0,
    };

    /// Whether all of this has paths within their limits where the directory is at `path`.
    ///
    /// # Errors
    /// `Invalid`: something may not.
    pub(crate) fn fits_at(&self, path: &RemotePath) -> Result<(), Refusal> {
        let bytes = path.as_str().len() as u64 + self.longest;
        let depth = path.components().count() as u64 + self.deepest;
        if bytes <= PATH_BYTES_MAX as u64 && depth <= PATH_DEPTH_MAX as u64 {
            return Ok(());
        }
        Err(Refusal::invalid(
            "E_PATH",
            format!(
                "what is in the directory would have paths of up to {bytes} bytes and {depth} components there; at most \
                 {PATH_BYTES_MAX} bytes and {PATH_DEPTH_MAX} components are allowed"
            ),
        )
        .hint("choose a place nearer to the bucket, or shorter names"))
    }
}

/// What is below `directory`.
pub(crate) fn of(connection: &Connection, directory: DirectoryId) -> rusqlite::Result<Below> {
    connection
        .prepare_cached(
            "SELECT files_below, bytes_below, longest_below, deepest_below FROM directories WHERE directory_id = ?1",
        )?
        .query_row([sql(directory.get())], |row| {
            Ok(Below {
                files: number(row, 0)?,
                bytes: number(row, 1)?,
                longest: number(row, 2)?,
                deepest: number(row, 3)?,
            })
        })
}

/// `more` came into `directory`.
pub(super) fn add(connection: &Connection, directory: DirectoryId, more: Below) -> rusqlite::Result<()> {
    let (files, bytes) = (amount(more.files)?, amount(more.bytes)?);
    change(
        connection,
        directory,
        (files, bytes),
        (more.longest, more.deepest),
    )
}

/// `less` went from `directory`.
pub(super) fn take(connection: &Connection, directory: DirectoryId, less: Below) -> rusqlite::Result<()> {
    let (files, bytes) = (amount(less.files)?, amount(less.bytes)?);
    change(connection, directory, (-files, -bytes), (0, 0))
}

fn change(
    connection: &Connection,
    directory: DirectoryId,
    (files, bytes): (i64, i64),
    (longest, deepest): (u64, u64),
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "WITH RECURSIVE up (id, longest, deepest) AS (
                 VALUES (?1, ?4, ?5)
                 UNION ALL
                 SELECT d.parent_id, up.longest + 1 + octet_length(d.name), up.deepest + 1
                 FROM up CROSS JOIN directories d ON d.directory_id = up.id)
             UPDATE directories SET files_below = files_below + ?2, bytes_below = bytes_below + ?3,
                 longest_below = max(longest_below, up.longest), deepest_below = max(deepest_below, up.deepest)
             FROM up WHERE directory_id = up.id",
        )?
        .execute(params![
            sql(directory.get()),
            files,
            bytes,
            sql(longest),
            sql(deepest)
        ])?;
    Ok(())
}
