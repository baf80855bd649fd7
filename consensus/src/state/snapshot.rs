//! Snapshots: the state machine's file, pinned at one position, copied for a peer; or received from one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::ids::Digest;
use common::random::Random;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use crate::engine::{self, SnapshotMeta};
use crate::sqlite::{self, failure};
use crate::state::files::{remove_if_there, with_suffix};
use crate::state::outgoing::Outgoing;
use crate::state::tables;

/// Pages copied per step.
const BACKUP_PAGES: i32 = 4096;

/// The data of a snapshot, in one of the places where it can be.
pub(crate) enum SnapshotFile {
    /// Of a state machine to which nothing was applied.
    Nothing,
    /// A reader that holds the state machine at the snapshot's position; nothing is copied until it is sent.
    Outgoing(Arc<Outgoing>),
    /// Complete, verified and synced, to be installed.
    Received(Scratch),
}

pub(crate) struct Pinned {
    connection: Connection,
    directory: PathBuf,
    /// What a copy leaves free.
    reserve_bytes: u64,
}

/// A file that goes when it is no longer needed.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(directory: &Path, prefix: &str) -> Self {
        let name = format!("{prefix}-{:016x}", Random::system().number());
        Self(directory.join(name))
    }

    /// The file at `path`.
    pub(crate) const fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for path in [
            self.0.clone(),
            with_suffix(&self.0, "-wal"),
            with_suffix(&self.0, "-shm"),
        ] {
            // What stays is removed at the next start.
            let _ = remove_if_there(&path);
        }
    }
}

/// The state machine at `path` as it stands now; `None` before anything is applied.
pub(crate) fn pin(
    path: &Path,
    directory: PathBuf,
    reserve_bytes: u64,
) -> io::Result<Option<(SnapshotMeta, Pinned)>> {
    let connection = sqlite::open_reader(path)?;
    // The read transaction stays open as long as the connection: the position cannot move under the copy.
    connection.execute_batch("BEGIN").map_err(failure)?;
    let Some((position, membership)) = tables::load(&connection)? else {
        return Ok(None);
    };
    if position.applied.is_none() {
        return Ok(None);
    }
    let meta = SnapshotMeta {
        last_log_id: position.applied.map(engine::log_id),
        last_membership: engine::stored_membership(&membership)?,
    };
    let pinned = Pinned {
        connection,
        directory,
        reserve_bytes,
    };
    Ok(Some((meta, pinned)))
}

/// A copy of a pinned state machine, with its length and digest.
pub(crate) struct Copy {
    pub(crate) file: Scratch,
    pub(crate) length: u64,
    pub(crate) digest: Digest,
}

impl SnapshotFile {
    /// The file to be installed in `directory`, which must be on one file system with it, complete and synced.
    pub(crate) fn into_file(self, directory: &Path) -> io::Result<Scratch> {
        match self {
            SnapshotFile::Received(file) => Ok(file),
            SnapshotFile::Outgoing(outgoing) => {
                let file = outgoing.take_pinned()?.copy_to(directory)?;
                common::disk::sync_file(&std::fs::File::open(file.path())?)?;
                Ok(file)
            }
            SnapshotFile::Nothing => Err(failure("there is nothing in this snapshot")),
        }
    }
}

impl Pinned {
    /// Copies the file. Takes as long as reading and writing it; blocks the thread.
    pub(crate) fn copy(self) -> io::Result<Copy> {
        let pages: u64 = self
            .connection
            .query_row(
                "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
                [],
                |row| row.get::<_, i64>(0).map(i64::cast_unsigned),
            )
            .map_err(failure)?;
        check_space(&self.directory, pages, self.reserve_bytes)?;
        let file = self.copy_to(&self.directory)?;
        let (length, digest) = digest_of(file.path())?;
        Ok(Copy { file, length, digest })
    }

    fn copy_to(&self, directory: &Path) -> io::Result<Scratch> {
        let file = Scratch::new(directory, "outgoing");
        let mut target = sqlite::open_copy(file.path())?;
        {
            let backup = Backup::new(&self.connection, &mut target).map_err(failure)?;
            loop {
                match backup.step(BACKUP_PAGES).map_err(failure)? {
                    StepResult::More => {}
                    StepResult::Done => break,
                    // Nobody else has the copy open, and the source is pinned.
                    other => return Err(failure(format!("the copy stopped: {other:?}"))),
                }
            }
        }
        Ok(file)
    }
}

/// Whether `bytes` fit into `directory` and leave the reserve.
pub(crate) fn check_space(directory: &Path, bytes: u64, reserve_bytes: u64) -> io::Result<()> {
    let free = common::disk::space_at(directory)?.available.get();
    if free < bytes.saturating_add(reserve_bytes) {
        let text =
            format!("a snapshot needs {bytes} bytes beside the reserve of {reserve_bytes}, {free} are free");
        return Err(io::Error::new(io::ErrorKind::StorageFull, text));
    }
    Ok(())
}

pub(crate) fn digest_of(path: &Path) -> io::Result<(u64, Digest)> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(path)?)?;
    Ok((hasher.count(), Digest::new(*hasher.finalize().as_bytes())))
}
