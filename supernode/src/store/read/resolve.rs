//! Where a version is: the current one of a path, or one that was there and is still in the trash.

use common::ids::VersionId;
use common::path::RemotePath;
use rusqlite::Connection;

use super::entry::{Entry, file_of_version};
use crate::core::permission::Caller;
use crate::core::refusal::Refusal;
use crate::store::apply::Stop;
use crate::store::cluster::{self, Cluster};
use crate::store::tree::{self, Spot};
use crate::store::{bucket, trash, version};

/// A version that the caller may read.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    /// What the path shows.
    pub(crate) entry: Entry,
    /// Which content.
    pub(crate) version: VersionId,
    /// Where it is.
    pub(crate) cluster: Cluster,
}

/// Resolves `path`; with `wanted` that version of it.
///
/// # Errors
/// `NotFound`: nothing there, or nothing that the caller may know of; `Conflict`: a directory.
pub(crate) fn resolve(
    connection: &Connection,
    caller: Caller,
    path: &RemotePath,
    wanted: Option<VersionId>,
) -> Result<Resolved, Stop> {
    let bucket = bucket::of_path(connection, caller, path)?;
    let absent = || Stop::Refused(Refusal::no_path(path));
    let spot = tree::look(connection, &bucket, path)?;
    let current = match &spot {
        Spot::File { version, .. } => Some(*version),
        Spot::Nothing { .. } => None,
        Spot::Directory(_) => return Err(Refusal::is_a_directory(path.as_str()).into()),
        Spot::BelowFile(_) => return Err(absent()),
    };
    let id = match wanted {
        None => current.ok_or_else(absent)?,
        Some(wanted) if current == Some(wanted) => wanted,
        Some(wanted) if was_here(connection, path, &spot, wanted)? => wanted,
        Some(_) => return Err(absent()),
    };
    let row = version::by_id(connection, id)?.ok_or_else(absent)?;
    let cluster = cluster::by_number(connection, row.cluster)?.ok_or_else(absent)?;
    let file = file_of_version(connection, id)?.ok_or_else(absent)?;
    Ok(Resolved {
        entry: Entry::of_file(path.as_str().to_owned(), file),
        version: id,
        cluster,
    })
}

/// Whether `wanted` was at the path before it came into the trash, where it still is.
fn was_here(
    connection: &Connection,
    path: &RemotePath,
    spot: &Spot,
    wanted: VersionId,
) -> rusqlite::Result<bool> {
    let directory = match spot {
        Spot::File { directory, .. } => *directory,
        Spot::Nothing { above, missing } if missing.len() == 1 => *above,
        Spot::Nothing { .. } | Spot::Directory(_) | Spot::BelowFile(_) => return Ok(false),
    };
    match version::by_id(connection, wanted)? {
        Some(row) if row.trash_id != 0 => trash::was_at(
            connection,
            row.trash_id,
            directory,
            path.name().unwrap_or_default(),
        ),
        Some(_) | None => Ok(false),
    }
}
