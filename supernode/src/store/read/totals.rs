//! Sums over all users, and how much a directory holds.

use common::path::RemotePath;
use rusqlite::Connection;

use super::list::start;
use super::walk::{Step, Walk};
use crate::core::permission::Caller;
use crate::store::apply::Stop;
use crate::store::number::number;
use crate::store::read::entry::stat;

/// Files and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Total {
    /// How many.
    pub(crate) files: u64,
    /// Their sizes together.
    pub(crate) bytes: u64,
}

/// What all users keep; the bytes include the trash.
pub(crate) fn installation(connection: &Connection) -> rusqlite::Result<Total> {
    connection
        .prepare_cached("SELECT coalesce(sum(files), 0), coalesce(sum(used_bytes), 0) FROM users")?
        .query_row([], |row| {
            Ok(Total {
                files: number(row, 0)?,
                bytes: number(row, 1)?,
            })
        })
}

/// What is at or below `path`, counted up to `rows_max` rows: beyond that the figures are lower bounds.
pub(crate) fn below(
    connection: &Connection,
    caller: Caller,
    path: &RemotePath,
    rows_max: u32,
) -> Result<Total, Stop> {
    let entry = stat(connection, caller, path)?;
    if let Some(file) = entry.file {
        return Ok(Total {
            files: 1,
            bytes: file.size_bytes,
        });
    }
    let mut walk = Walk::new(connection, start(connection, caller, path)?, "", None, rows_max)?;
    let mut total = Total::default();
    while let Step::File(_, file) = walk.step()? {
        total.files += 1;
        total.bytes = total.bytes.saturating_add(file.size_bytes);
    }
    Ok(total)
}
