//! A member's directory: one process at a time, one member for ever.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use common::disk::write_durably;
use common::net::Greeting;

use crate::error::Error;
use crate::schema::{self, IDENTITY_FORMAT, Identity, Stage};

const LOCK: &str = "lock";
const IDENTITY: &str = "identity";

/// A locked directory. Unlocked when dropped.
pub(crate) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Locks the directory at `path`, creating it if absent.
    pub(crate) fn lock(path: &Path) -> Result<Self, Error> {
        let refuse = |reason: String| refusal(path, reason);
        // It holds secrets: keys, digests of passwords.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| refuse(format!("cannot be created: {error}")))?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK))
            .map_err(|error| refuse(format!("cannot be locked: {error}")))?;
        match file.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: file,
            }),
            Err(TryLockError::WouldBlock) => Err(refuse("another process is using it".to_owned())),
            Err(TryLockError::Error(error)) => Err(refuse(format!("cannot be locked: {error}"))),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.path.join("log.db")
    }

    /// The identity in it, of a member of the group `label`; `None` in an empty directory.
    pub(crate) fn identity(&self, label: &str) -> Result<Option<Identity>, Error> {
        let refuse = |reason: String| refusal(&self.path, reason);
        let sealed = match std::fs::read(self.path.join(IDENTITY)) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return match self.first_file()? {
                    None => Ok(None),
                    Some(name) => Err(refuse(format!(
                        "it holds '{name}' but no identity: it is not a group's directory, or a damaged one; empty \
                         it to let a new member join"
                    ))),
                };
            }
            Err(error) => return Err(refuse(format!("its identity cannot be read: {error}"))),
        };
        let identity: Identity =
            schema::open("its identity", &sealed).map_err(|error| refuse(error.to_string()))?;
        if identity.format > IDENTITY_FORMAT {
            return Err(refuse("it was written by a newer version".to_owned()));
        }
        if identity.group != label {
            return Err(refuse(format!(
                "it belongs to the group '{}', not to '{label}'",
                identity.group
            )));
        }
        Ok(Some(identity))
    }

    pub(crate) fn save(&self, identity: &Identity) -> Result<(), Error> {
        write_durably(&self.path.join(IDENTITY), &schema::seal(identity), 0o600)
            .map_err(|error| refusal(&self.path, format!("its identity cannot be written: {error}")))
    }

    /// Something in the directory that is not ours by any crash before the first identity.
    fn first_file(&self) -> Result<Option<String>, Error> {
        let unreadable = |error: io::Error| refusal(&self.path, format!("cannot be read: {error}"));
        for entry in std::fs::read_dir(&self.path).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            let name = name.to_string_lossy();
            if name != LOCK && !name.starts_with(IDENTITY) {
                return Ok(Some(name.into_owned()));
            }
        }
        Ok(None)
    }
}

/// What a process says that starts with this directory, before it serves.
pub(crate) fn greeting(path: &Path) -> Greeting {
    let sealed = match std::fs::read(path.join(IDENTITY)) {
        Ok(sealed) => sealed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Greeting::WithoutGroup,
        Err(_) => return Greeting::Starting,
    };
    match schema::open::<Identity>("its identity", &sealed) {
        Ok(identity) if identity.stage() == Stage::Joining => Greeting::WithoutGroup,
        _ => Greeting::Starting,
    }
}

pub(crate) fn refusal(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::Directory {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}
