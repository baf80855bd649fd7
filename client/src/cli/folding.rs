//! Names that differ for the installation and are one for the local file system: by case, or by how Unicode writes them.
//!
//! What folds and how is the file system's own affair and may differ by directory. So it is asked: a scratch folder beside
//! the targets gets an empty file of every name, and whichever is there already names the two that clash. Only where a
//! first pair of names shows that anything folds at all.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::destination::same_target;
use super::failure::Failure;

/// A name, and others that a folding file system takes for the same: by case, and with the accent written apart.
const NAME: &str = "dbfs-\u{e9}";
const FOLDED: [&str; 3] = ["DBFS-\u{e9}", "dbfs-\u{c9}", "dbfs-e\u{301}"];

/// A folder of empty files that is removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    /// In `target`, or in what exists of the path to it.
    fn near(target: &Path) -> io::Result<Self> {
        let absolute = std::path::absolute(target)?;
        let existing = absolute.ancestors().find(|path| path.is_dir());
        let folder = existing
            .unwrap_or(Path::new("."))
            .join(format!(".dbfs-names-{}", std::process::id()));
        std::fs::create_dir(&folder)?;
        Ok(Self(folder))
    }

    fn folds(&self) -> io::Result<bool> {
        self.take(Path::new(NAME))?;
        Ok(FOLDED
            .iter()
            .any(|name| self.0.join(name).symlink_metadata().is_ok()))
    }

    /// Makes an empty file; `None` where it is there already. Its number tells it apart from others.
    fn take(&self, relative: &Path) -> io::Result<Option<u64>> {
        let path = self.0.join(relative);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => Ok(Some(file.metadata()?.ino())),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The first two of `pairs` (a path below the target, and its source) that are one file here.
    fn clash<'a>(
        &self,
        pairs: impl IntoIterator<Item = (&'a Path, &'a str)>,
    ) -> io::Result<Option<(String, String)>> {
        let mut sources: HashMap<u64, &str> = HashMap::new();
        for (relative, source) in pairs {
            let Some(number) = self.take(relative)? else {
                let number = self.0.join(relative).symlink_metadata()?.ino();
                let other = sources.get(&number).copied().unwrap_or("another");
                return Ok(Some((other.to_owned(), source.to_owned())));
            };
            sources.insert(number, source);
        }
        Ok(None)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is empty and says by its name what it was.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Refuses sources whose targets, given below `base`, the file system there takes for one.
///
/// # Errors
/// A usage error with the names of two sources.
pub(super) fn check<'a>(
    base: &Path,
    pairs: impl IntoIterator<Item = (&'a Path, &'a str)>,
) -> Result<(), Failure> {
    // A place that cannot be written fails the download itself, with a better message.
    let Ok(scratch) = Scratch::near(base) else {
        return Ok(());
    };
    if !matches!(scratch.folds(), Ok(true)) {
        return Ok(());
    }
    match scratch.clash(pairs) {
        Ok(Some((first, second))) => Err(same_target(&first, &second, "one file here").hint(
            "this file system does not tell their names apart; download them into different directories",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_file_system_takes_for_one_is_named() {
        let place = tempfile::tempdir().unwrap();
        let scratch = Scratch::near(&place.path().join("not/there/yet")).unwrap();
        assert!(
            scratch.0.starts_with(place.path().canonicalize().unwrap())
                || scratch.0.starts_with(place.path())
        );
        let pairs = [("d/a", "/me/d/a"), ("d/b", "/me/d/b"), ("d/../d/a", "/me/d/A")];
        let pairs = pairs.map(|(path, source)| (Path::new(path), source));
        let clash = scratch.clash(pairs).unwrap();
        assert_eq!(clash, Some(("/me/d/a".to_owned(), "/me/d/A".to_owned())));
        let folder = scratch.0.clone();
        drop(scratch);
        assert!(!folder.exists());
    }

    #[test]
    fn a_file_system_that_folds_nothing_is_found_out_by_one_file() {
        let place = tempfile::tempdir().unwrap();
        let scratch = Scratch::near(place.path()).unwrap();
        // Stands for a file system that has both names for one file.
        std::fs::write(scratch.0.join(FOLDED[2]), "").unwrap();
        assert!(scratch.folds().unwrap());
        drop(scratch);
        assert!(
            check(
                place.path(),
                [(Path::new("a"), "/me/a"), (Path::new("A"), "/me/A")]
            )
            .is_ok()
        );
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }
}
