//! Local files that are made as durable as their file system allows.
//!
//! Some file systems (NFS, FUSE, some container mounts) have no fsync of a directory or no lock on a file. For a client's
//! own files that is worth a warning and no failure: the servers have the data, or will give it again. A sync that
//! exists and fails is a failure.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use common::disk::{sync_directory, sync_file};
use rustix::io::Errno;

/// Whether what was asked for does not exist where it was asked: not a disk that failed.
fn is_missing(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    let missing = [
        Errno::INVAL,
        Errno::NOTSUP,
        Errno::OPNOTSUPP,
        Errno::NOSYS,
        Errno::NOLCK,
        Errno::PERM,
        Errno::BADF,
        Errno::ACCESS,
        Errno::ISDIR,
        Errno::NOTTY,
    ];
    code.is_some_and(|code| missing.iter().any(|errno| errno.raw_os_error() == code))
        || error.kind() == io::ErrorKind::Unsupported
}

/// Warns once in the life of the process.
fn warn_once(told: &AtomicBool, path: &Path, error: &io::Error, what: &str) {
    if !told.swap(true, Ordering::Relaxed) {
        tracing::warn!(path = %path.display(), %error, "{what}");
    }
}

/// Takes what the file system does not have for done.
fn tolerate(result: io::Result<()>, path: &Path) -> io::Result<()> {
    static TOLD: AtomicBool = AtomicBool::new(false);
    match result {
        Err(error) if is_missing(&error) => {
            let what =
                "the file system cannot make names durable: after a power cut the old content may be there";
            warn_once(&TOLD, path, &error, what);
            Ok(())
        }
        result => result,
    }
}

/// Renames `from` to `to` within one file system, durably where it can.
///
/// # Errors
/// What the operating system reports, but for a sync of directories that the file system does not have.
#[allow(
    clippy::disallowed_methods,
    reason = "the directory is synced here, as far as the file system can"
)]
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    let directory = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    tolerate(sync_directory(directory), directory)
}

/// Makes the content of `file` at `path` durable where the file system can.
///
/// # Errors
/// What the operating system reports, but for a sync that the file system does not have.
pub(crate) fn sync(file: &File, path: &Path) -> io::Result<()> {
    tolerate(sync_file(file), path)
}

/// Replaces the content of `path`: after a power cut it is the old content or the new, where the file system can.
///
/// # Errors
/// What the operating system reports; the old content is still in place then.
pub(crate) fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let aside = path.with_file_name(name);
    let written = (|| {
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&aside)?;
        file.write_all(content)?;
        sync(&file, &aside)?;
        rename(&aside, path)
    })();
    if written.is_err() {
        // Half of a content is of use to nobody, and may fill a disk.
        let _ = std::fs::remove_file(&aside);
    }
    written
}

/// Locks `file` at `path` for this process; `false` where another has it. Where there are no locks, everybody has it.
///
/// # Errors
/// What the operating system reports, but for locks that the file system does not have.
pub(crate) fn try_lock(file: &File, path: &Path) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => without_locks(error, path).map(|()| true),
    }
}

/// As [`try_lock`], and waits for whoever has it.
///
/// # Errors
/// As there.
pub(crate) fn lock(file: &File, path: &Path) -> io::Result<()> {
    file.lock().or_else(|error| without_locks(error, path))
}

/// Takes a lock for had where the file system has none.
fn without_locks(error: io::Error, path: &Path) -> io::Result<()> {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !is_missing(&error) {
        return Err(error);
    }
    let what = "the file system has no locks: nothing keeps two processes from writing the same file";
    warn_once(&TOLD, path, &error, what);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_system_does_not_have_is_no_failure() {
        let path = Path::new("/mnt/x");
        for errno in [
            Errno::INVAL,
            Errno::NOTSUP,
            Errno::NOLCK,
            Errno::PERM,
            Errno::NOSYS,
        ] {
            let error = io::Error::from(errno);
            assert!(tolerate(Err(error), path).is_ok(), "{errno}");
            assert!(without_locks(errno.into(), path).is_ok(), "{errno}");
        }
        for errno in [Errno::IO, Errno::NOSPC, Errno::DQUOT, Errno::ROFS] {
            let error = io::Error::from(errno);
            assert!(tolerate(Err(error), path).is_err(), "{errno}");
            assert!(without_locks(errno.into(), path).is_err(), "{errno}");
        }
    }

    #[test]
    fn content_is_replaced_and_half_of_it_is_not_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        write(&path, b"one", 0o600).unwrap();
        write(&path, b"two", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        std::fs::create_dir(directory.path().join("d")).unwrap();
        // A directory cannot be replaced by a file.
        write(&directory.path().join("d"), b"x", 0o600).unwrap_err();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
