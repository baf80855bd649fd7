//! Which file is the state machine: generations, and the pointer to the one in force.
//!
//! A snapshot is installed as the next generation, under a name of its own, so that no write-ahead log of the old
//! file can ever be replayed into the new one.
//!
//! Invariant: who opens or syncs the generation in force by its name holds [`Files::hold`], and so does who replaces it: a
//! snapshot that is built never meets a file that an installation has removed.

use std::io;
use std::path::{Path, PathBuf};

use common::disk::{rename_durably, sync_directory, sync_file, write_durably};
use parking_lot::{Mutex, MutexGuard};

use crate::schema::invalid;

const POINTER: &str = "state.current";
const FIRST: u64 = 1;

pub(crate) struct Files {
    directory: PathBuf,
    /// The generation in force.
    current: Mutex<u64>,
    /// Held while the generation in force is opened, synced or replaced, which may take as long as an fsync.
    replacing: Mutex<()>,
}

impl Files {
    pub(crate) fn open(directory: &Path, create: bool) -> io::Result<Self> {
        let pointer = directory.join(POINTER);
        let current = match std::fs::read_to_string(&pointer) {
            Ok(text) => text
                .trim()
                .parse()
                .map_err(|_| invalid("state.current holds no number"))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && create => {
                write_durably(&pointer, FIRST.to_string().as_bytes(), 0o600)?;
                FIRST
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    "state.current is missing although this member has taken part: restore it, or empty the whole \
                     directory and let a new member join",
                ));
            }
            Err(error) => return Err(error),
        };
        let files = Self {
            directory: directory.to_owned(),
            current: Mutex::new(current),
            replacing: Mutex::new(()),
        };
        if !create && !files.current().exists() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!(
                    "{} is missing although state.current names it",
                    files.current().display()
                ),
            ));
        }
        files.remove_leftovers()?;
        Ok(files)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn current(&self) -> PathBuf {
        self.path(*self.current.lock())
    }

    fn path(&self, generation: u64) -> PathBuf {
        self.directory.join(format!("state-{generation}.db"))
    }

    /// Keeps the generation in force what it is. Blocks the thread.
    pub(crate) fn hold(&self) -> MutexGuard<'_, ()> {
        self.replacing.lock()
    }

    /// Makes everything that is committed to the current file durable.
    pub(crate) fn sync_current(&self) -> io::Result<()> {
        self.sync_both(|| common::fail::point("raft.sync:between"))
    }

    fn sync_both(&self, between: impl FnOnce()) -> io::Result<()> {
        let _held = self.hold();
        let current = self.current();
        let wal = with_suffix(&current, "-wal");
        match sync_path(&wal) {
            Ok(()) => {}
            // SQLite removes the WAL only after everything in it is in the database and synced.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        between();
        sync_path(&current)?;
        sync_directory(&self.directory)
    }

    /// Where the next generation belongs, before it is in force.
    pub(crate) fn stage_next(&self, complete: &Path) -> io::Result<(u64, PathBuf)> {
        let next = *self.current.lock() + 1;
        let path = self.path(next);
        for suffix in ["-wal", "-shm"] {
            remove_if_there(&with_suffix(&path, suffix))?;
        }
        rename_durably(complete, &path)?;
        Ok((next, path))
    }

    /// Puts `generation` in force, durably.
    pub(crate) fn switch(&self, generation: u64) -> io::Result<()> {
        common::fail::point("raft.install:before");
        write_durably(
            &self.directory.join(POINTER),
            generation.to_string().as_bytes(),
            0o600,
        )?;
        common::fail::point("raft.install:after");
        *self.current.lock() = generation;
        Ok(())
    }

    /// Removes other generations and unfinished snapshots. Files still open elsewhere live until they are closed.
    pub(crate) fn remove_leftovers(&self) -> io::Result<()> {
        let current = format!("state-{}.db", *self.current.lock());
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let unfinished = name.starts_with("incoming-") || name.starts_with("outgoing-");
            let other = name.starts_with("state-") && !name.starts_with(&current);
            if unfinished || other {
                remove_if_there(&entry.path())?;
            }
        }
        Ok(())
    }
}

fn sync_path(path: &Path) -> io::Result<()> {
    sync_file(&std::fs::File::open(path)?)
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_sync_that_meets_a_replacement_ends_before_it() {
        let directory = tempfile::tempdir().unwrap();
        let files = Arc::new(Files::open(directory.path(), true).unwrap());
        std::fs::write(files.current(), "one").unwrap();
        let staged = directory.path().join("incoming-1");
        std::fs::write(&staged, "two").unwrap();
        let (replaced, waiting) = mpsc::sync_channel(1);
        let replacing = Arc::clone(&files);
        files
            .sync_both(|| {
                std::thread::spawn(move || {
                    let (generation, _) = replacing.stage_next(&staged).unwrap();
                    let _held = replacing.hold();
                    replacing.switch(generation).unwrap();
                    replacing.remove_leftovers().unwrap();
                    replaced.send(()).unwrap();
                });
                let early = waiting.recv_timeout(Duration::from_millis(200));
                assert!(early.is_err(), "it was replaced between the two syncs");
            })
            .unwrap();
        waiting.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!(std::fs::read(files.current()).unwrap(), b"two");
    }
}
