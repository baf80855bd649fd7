//! What is kept of a local file besides its bytes: when it was last modified, and whether its owner may execute it.
//!
//! Kept as metadata under the system's own keys (`proto::metadata`) by `upload -r`, and given back by `download -r`. What is
//! not kept is said in the result: symbolic links and special files are left out and counted; owners, other permissions,
//! extended attributes and hard links are not looked at.

use std::collections::BTreeMap;
use std::fs::{File, FileTimes, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use proto::metadata::{EXECUTABLE, MODIFIED_NANOS, TRUE};
use serde::Serialize;

use super::failure::Failure;
use super::human;

/// What no command keeps.
const NEVER_KEPT: [&str; 4] = ["owners", "other permissions", "extended attributes", "hard links"];

/// The executable bits that go with the read bits of a mode.
const fn executable(mode: u32) -> u32 {
    mode | ((mode & 0o444) >> 2)
}

/// The metadata to be kept with a file or directory.
pub(super) fn of(found: &Metadata) -> BTreeMap<String, String> {
    let mut kept = BTreeMap::new();
    let nanos = found
        .mtime()
        .checked_mul(1_000_000_000)
        .and_then(|nanos| nanos.checked_add(found.mtime_nsec()));
    kept.extend(nanos.map(|nanos| (MODIFIED_NANOS.to_owned(), nanos.to_string())));
    if found.is_file() && found.mode() & 0o100 != 0 {
        kept.insert(EXECUTABLE.to_owned(), TRUE.to_owned());
    }
    kept
}

/// Gives back to the local file or directory what was kept of it.
///
/// # Errors
/// The local file system refuses.
pub(super) fn give_back(local: &Path, metadata: &BTreeMap<String, String>) -> Result<(), Failure> {
    let give = || {
        // A pipe that is written through is nothing to open.
        let found = std::fs::metadata(local)?;
        if !found.is_file() && !found.is_dir() {
            return Ok(());
        }
        let file = File::open(local)?;
        if found.is_file() && metadata.get(EXECUTABLE).is_some_and(|value| value == TRUE) {
            let mut permissions = found.permissions();
            permissions.set_mode(executable(permissions.mode()));
            file.set_permissions(permissions)?;
        }
        let nanos = metadata.get(MODIFIED_NANOS).and_then(|text| text.parse().ok());
        match nanos.and_then(moment) {
            Some(modified) => file.set_times(FileTimes::new().set_modified(modified)),
            None => Ok(()),
        }
    };
    give().map_err(|error| Failure::local("cannot set the time and mode of", local, &error))
}

fn moment(nanos: i64) -> Option<SystemTime> {
    let span = Duration::from_nanos(nanos.unsigned_abs());
    if nanos < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(span)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(span)
    }
}

/// What a transfer of trees did, at its end.
#[derive(Clone, Debug, Serialize)]
pub(super) struct SummaryShape {
    /// Always true.
    pub summary: bool,
    /// Files that were transferred.
    pub files: u64,
    /// What they hold.
    pub bytes: u64,
    /// What was left out.
    pub left_out: LeftOut,
    /// What is never kept.
    pub never_kept: [&'static str; 4],
}

impl SummaryShape {
    /// Of so many files.
    pub(super) fn new(files: usize, bytes: u64, left_out: LeftOut) -> Self {
        Self {
            summary: true,
            files: files as u64,
            bytes,
            left_out,
            never_kept: NEVER_KEPT,
        }
    }
}

/// What was left out of a tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub(super) struct LeftOut {
    /// Symbolic links.
    pub symbolic_links: u64,
    /// Sockets, pipes, devices.
    pub special_files: u64,
}

impl LeftOut {
    /// In words; `None` for nothing.
    pub(super) fn words(self) -> Option<String> {
        let count = |number, thing| (number > 0).then(|| human::count(number, thing));
        let links = count(self.symbolic_links, "symbolic link");
        let specials = count(self.special_files, "special file");
        let all: Vec<String> = links.into_iter().chain(specials).collect();
        (!all.is_empty()).then(|| all.join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back() {
        let place = tempfile::tempdir().unwrap();
        for (name, seconds, nanos, mode) in [
            ("new", 1_700_000_000, 123_456_789, 0o755),
            ("old", -5, 999_999_999, 0o644),
            ("epoch", 0, 0, 0o700),
        ] {
            let (from, to) = (place.path().join(name), place.path().join(format!("{name}.back")));
            std::fs::write(&from, "x").unwrap();
            std::fs::write(&to, "x").unwrap();
            std::fs::set_permissions(&to, PermissionsExt::from_mode(0o640)).unwrap();
            std::fs::set_permissions(&from, PermissionsExt::from_mode(mode)).unwrap();
            let modified = moment(seconds * 1_000_000_000 + nanos).unwrap();
            File::options()
                .append(true)
                .open(&from)
                .unwrap()
                .set_times(FileTimes::new().set_modified(modified))
                .unwrap();
            let kept = of(&std::fs::metadata(&from).unwrap());
            assert!(
                kept.iter()
                    .all(|(key, value)| proto::metadata::is_allowed(key, value)),
                "{kept:?}"
            );
            give_back(&to, &kept).unwrap();
            let back = std::fs::metadata(&to).unwrap();
            assert_eq!((back.mtime(), back.mtime_nsec()), (seconds, nanos), "{name}");
            // Executable for whoever may read it.
            let expected = if mode & 0o100 == 0 { 0o640 } else { 0o750 };
            assert_eq!(back.mode() & 0o777, expected, "{name}");
        }
    }

    #[test]
    fn what_was_left_out_has_words() {
        assert_eq!(LeftOut::default().words(), None);
        let some = LeftOut {
            symbolic_links: 1,
            special_files: 2,
        };
        assert_eq!(
            some.words().as_deref(),
            Some("1 symbolic link and 2 special files")
        );
    }
}
