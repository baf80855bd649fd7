//! Keeps the log of a process of `dbfs up` within bounds: its stderr is a file that nobody else looks after.
//!
//! Invariant: a log and the one before it together take at most about twice [`BYTES_MAX`]. The file itself stays, since
//! stderr leads to it: its content moves to `NAME.log.old`, and it is emptied. A line that is written in between is lost.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::time::Clock;

/// From this length on a log is set aside.
const BYTES_MAX: u64 = 16 << 20;
const PERIOD: Duration = Duration::from_secs(10);

/// Looks after the log at `path`, without end.
pub(crate) async fn keep_bounded(path: PathBuf, clock: Clock) {
    loop {
        clock.sleep(PERIOD).await;
        let file = path.clone();
        let bounded = tokio::task::spawn_blocking(move || bound(&file, BYTES_MAX)).await;
        if let Ok(Err(error)) = bounded {
            tracing::warn!(path = %path.display(), %error, "the log cannot be kept within bounds");
        }
    }
}

fn bound(path: &Path, bytes_max: u64) -> io::Result<()> {
    if std::fs::metadata(path)?.len() <= bytes_max {
        return Ok(());
    }
    let copied = std::fs::copy(path, path.with_extension("log.old"));
    // Also where there is no room for the copy: a log must not fill the disk of the data.
    File::options().write(true).open(path)?.set_len(0)?;
    copied.map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_log_is_set_aside_and_written_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("alpha-1.log");
        let mut stderr = File::options().create(true).append(true).open(&path).unwrap();
        stderr.write_all(&[b'a'; 100]).unwrap();
        bound(&path, 100).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 100);
        stderr.write_all(b"b").unwrap();
        bound(&path, 100).unwrap();
        stderr.write_all(b"after").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"after");
        let old = directory.path().join("alpha-1.log.old");
        assert_eq!(std::fs::metadata(&old).unwrap().len(), 101);
        // The one before is replaced, and a copy that cannot be made stops nothing.
        std::fs::remove_file(&old).unwrap();
        std::fs::create_dir(&old).unwrap();
        stderr.write_all(&[b'c'; 101]).unwrap();
        assert!(bound(&path, 100).is_err());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    }
}
