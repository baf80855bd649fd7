//! Releases what has been in the trash for its time, in bounded steps.
//!
//! A directory is emptied a few rows at a time: its files are released, the directories in it become rows of the trash of
//! their own. So no step's cost depends on how deep or how large a tree is.

use common::ids::{DirectoryId, VersionId};
use common::lifecycle::VersionEvent;
use common::time::ClusterTime;
use proto::names_log::v1 as log;
use rusqlite::params;
use std::time::Duration;

use super::{At, Stop};
use crate::store::number::{number, sql};
use crate::store::schema::unreadable;
use crate::store::trash::{self, Kept, Origin, Row, Stay};
use crate::store::{tree, version};

/// The most rows that one command touches.
pub(crate) const ROWS_PER_COMMAND_MAX: u32 = 1000;

pub(super) fn apply(at: At<'_>, command: &log::ExpireTrash) -> Result<log::Worked, Stop> {
    let mut work = Work {
        left: command.limit.clamp(1, ROWS_PER_COMMAND_MAX),
        released: 0,
        bytes: 0,
    };
    while work.left > 0 {
        let Some(row) = trash::due(at.tables, at.now)? else {
            break;
        };
        match row.kept {
            Kept::Version(id) => {
                work.release(at, id)?;
                trash::remove(at.tables, row.id)?;
                work.left = work.left.saturating_sub(1);
            }
            Kept::Directory(id) => work.empty(at, &row, id)?,
        }
    }
    let more = work.left == 0 && trash::due(at.tables, at.now)?.is_some();
    Ok(log::Worked {
        count: work.released,
        more,
        bytes: work.bytes,
    })
}

struct Work {
    left: u32,
    released: u64,
    bytes: u64,
}

impl Work {
    fn release(&mut self, at: At<'_>, id: VersionId) -> Result<(), Stop> {
        let Some(row) = version::by_id(at.tables, id)? else {
            return Err(Stop::Sql(unreadable(format!(
                "the trash holds version {id}, which has no row"
            ))));
        };
        version::release(at.tables, &row)?;
        self.released += 1;
        self.bytes = self.bytes.saturating_add(row.size_bytes);
        Ok(())
    }

    /// A version that a file in a trashed directory still pointed at: into the trash and out of it in one move.
    fn release_from_directory(&mut self, at: At<'_>, id: VersionId) -> Result<(), Stop> {
        let Some(row) = version::by_id(at.tables, id)? else {
            return Err(Stop::Sql(unreadable(format!(
                "a file points at version {id}, which has no row"
            ))));
        };
        let trashed = row
            .state
            .next(VersionEvent::Trash)
            .map_err(|error| Stop::Sql(unreadable(error.to_string())))?;
        version::set_state(at.tables, id, trashed, 0)?;
        self.release(at, id)
    }

    fn empty(&mut self, at: At<'_>, row: &Row, directory: DirectoryId) -> Result<(), Stop> {
        for (name, version) in files(at, directory, self.left)? {
            tree::unpoint(at.tables, directory, &name)?;
            self.release_from_directory(at, version)?;
            self.left = self.left.saturating_sub(1);
        }
        for (name, child) in children(at, directory, self.left)? {
            let origin = Origin {
                bucket: row.bucket,
                directory,
                name: &name,
                path: "",
            };
            // Due when its parent was, so that it is next.
            let stay = Stay {
                now: ClusterTime::from_millis(row.due.as_millis()),
                keep: Duration::ZERO,
            };
            trash::put_directory(at.tables, child, &origin, stay)?;
            self.left = self.left.saturating_sub(1);
        }
        if tree::is_empty(at.tables, directory)? {
            tree::remove(at.tables, directory)?;
            trash::remove(at.tables, row.id)?;
            self.left = self.left.saturating_sub(1);
        }
        Ok(())
    }
}

fn files(at: At<'_>, directory: DirectoryId, limit: u32) -> rusqlite::Result<Vec<(String, VersionId)>> {
    at.tables
        .prepare_cached("SELECT name, version_id FROM files WHERE directory_id = ?1 ORDER BY name LIMIT ?2")?
        .query_map(params![sql(directory.get()), limit], |row| {
            Ok((row.get(0)?, VersionId::new(number(row, 1)?)))
        })?
        .collect()
}

fn children(at: At<'_>, directory: DirectoryId, limit: u32) -> rusqlite::Result<Vec<(String, DirectoryId)>> {
    at.tables
        .prepare_cached(
            "SELECT name, directory_id FROM directories WHERE parent_id = ?1 ORDER BY name LIMIT ?2",
        )?
        .query_map(params![sql(directory.get()), limit], |row| {
            Ok((row.get(0)?, DirectoryId::new(number(row, 1)?)))
        })?
        .collect()
}
