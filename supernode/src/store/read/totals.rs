//! Sums over all users, and how much a directory holds.

use common::path::RemotePath;
use rusqlite::Connection;

use crate::core::permission::Caller;
use crate::core::refusal::Refusal;
use crate::store::apply::Stop;
use crate::store::number::number;
use crate::store::tree::{self, Spot};
use crate::store::{below, bucket, version};

/// Files and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Total {
    /// How many.
    pub(crate) files: u64,
    /// Their sizes together.
    pub(crate) bytes: u64,
}

/// What all users keep: files that paths name; bytes with those of the trash.
pub(crate) fn installation(connection: &Connection) -> rusqlite::Result<Total> {
    let bytes = connection
        .prepare_cached("SELECT coalesce(sum(used_bytes), 0) FROM users")?
        .query_row([], |row| number(row, 0))?;
    let files = connection
        .prepare_cached(
            "SELECT coalesce(sum(d.files_below), 0) FROM buckets b CROSS JOIN directories d ON d.directory_id = b.directory_id",
        )?
        .query_row([], |row| number(row, 0))?;
    Ok(Total { files, bytes })
}

/// What is at or below `path`.
pub(crate) fn below(connection: &Connection, caller: Caller, path: &RemotePath) -> Result<Total, Stop> {
    let bucket = bucket::of_path(connection, caller, path)?;
    match tree::look(connection, &bucket, path)? {
        Spot::File { version, .. } => {
            let row = version::by_id(connection, version)?.ok_or_else(|| Refusal::no_path(path))?;
            Ok(Total {
                files: 1,
                bytes: row.size_bytes,
            })
        }
        Spot::Directory(id) => {
            let found = below::of(connection, id)?;
            Ok(Total {
                files: found.files,
                bytes: found.bytes,
            })
        }
        Spot::Nothing { .. } | Spot::BelowFile(_) => Err(Refusal::no_path(path).into()),
    }
}
