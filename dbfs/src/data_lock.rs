//! One process per data directory: a lock that the operating system releases when the process ends, however it ends.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;

use client::cli::failure::{Exit, Failure};

const LOCK_NAME: &str = "process.lock";

/// Held while this process uses a data directory.
#[derive(Debug)]
pub(crate) struct DataLock {
    _file: File,
}

impl DataLock {
    /// Takes the lock of `data_dir`, which is created where it is missing.
    ///
    /// # Errors
    /// Another process has it, or the directory cannot be used.
    pub(crate) fn take(data_dir: &Path) -> Result<Self, Failure> {
        let fail = |error: &std::io::Error| Failure::local("cannot use the data directory", data_dir, error);
        std::fs::create_dir_all(data_dir).map_err(|error| fail(&error))?;
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(data_dir.join(LOCK_NAME))
            .map_err(|error| fail(&error))?;
        if file.try_lock().is_err() {
            let mut holder = String::new();
            // Only for the message.
            let _ = file.read_to_string(&mut holder);
            let holder = match holder.trim() {
                "" => String::new(),
                pid => format!(" (process {pid})"),
            };
            return Err(Failure::new(
                Exit::Conflict,
                "E_DATA_DIR_IN_USE",
                format!(
                    "another process{holder} uses the data directory {}",
                    data_dir.display()
                ),
            )
            .hint("stop that process first, or name another data_dir"));
        }
        let write = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        write.map_err(|error| fail(&error))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_user() {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().join("data");
        let first = DataLock::take(&data_dir).unwrap();
        let failure = DataLock::take(&data_dir).unwrap_err();
        assert_eq!(failure.code, "E_DATA_DIR_IN_USE");
        assert!(
            failure.message.contains(&std::process::id().to_string()),
            "{failure}"
        );
        drop(first);
        DataLock::take(&data_dir).unwrap();
    }
}
