//! Local trees: which files an upload of a directory takes, and what they are called remotely.

use std::path::{Path, PathBuf};

use common::path::RemotePath;

use super::failure::{Exit, Failure};
use super::glob::Selection;
use super::kept::LeftOut;

/// A local file found by a walk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Found {
    /// Where it is.
    pub local: PathBuf,
    /// Its path below the walk's beginning, with slashes.
    pub relative: String,
    /// Its length.
    pub size: u64,
}

/// What a walk found.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Tree {
    /// Regular files, in order of their paths.
    pub files: Vec<Found>,
    /// Directories without anything in them that is taken, the walk's beginning as the empty path; none where only
    /// what matches is taken.
    pub empty_directories: Vec<String>,
    /// What cannot be taken: names that are not UTF-8, directories that cannot be read.
    pub failed: Vec<(String, Failure)>,
    /// Symbolic links, sockets, devices.
    pub left_out: LeftOut,
}

/// Walks `root`. Symbolic links are followed only where `follow` says so.
pub(super) fn walk(root: &Path, selection: &Selection, follow: bool) -> Tree {
    let mut tree = Tree::default();
    let mut directories: Vec<String> = Vec::new();
    let walker = walkdir::WalkDir::new(root)
        .min_depth(1)
        .follow_links(follow)
        .sort_by_file_name();
    let wanted = walker.into_iter().filter_entry(|entry| {
        let excluded = |path: String| selection.excludes_directory(&path);
        !entry.file_type().is_dir() || !relative(root, entry.path()).is_some_and(excluded)
    });
    for entry in wanted {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let path = error.path().unwrap_or(root).display().to_string();
                let failure = Failure::new(
                    Exit::Other,
                    "E_LOCAL_FILE",
                    format!("cannot walk {path}: {error}"),
                );
                tree.failed.push((path, failure));
                continue;
            }
        };
        let Some(path) = relative(root, entry.path()) else {
            let shown = entry.path().display().to_string();
            let message = format!("the name {shown:?} is not UTF-8, which remote names are");
            tree.failed
                .push((shown, Failure::new(Exit::Usage, "E_PATH", message)));
            continue;
        };
        let kind = entry.file_type();
        if kind.is_dir() {
            directories.push(path);
        } else if !kind.is_file() {
            let count = if kind.is_symlink() {
                &mut tree.left_out.symbolic_links
            } else {
                &mut tree.left_out.special_files
            };
            *count += 1;
        } else if selection.takes(&path) {
            let size = entry.metadata().map(|metadata| metadata.len()).unwrap_or(0);
            tree.files.push(Found {
                local: entry.into_path(),
                relative: path,
                size,
            });
        }
    }
    if !selection.has_includes() {
        let is_empty = directories.is_empty() && tree.files.is_empty() && tree.failed.is_empty();
        tree.empty_directories = childless(directories, &tree.files);
        // The beginning itself.
        tree.empty_directories.extend(is_empty.then(String::new));
    }
    tree
}

/// The directories that contain neither a file that is taken nor another directory.
fn childless(directories: Vec<String>, files: &[Found]) -> Vec<String> {
    let parents: std::collections::BTreeSet<&str> = files
        .iter()
        .map(|file| file.relative.as_str())
        .chain(directories.iter().map(String::as_str))
        .filter_map(|path| path.rsplit_once('/').map(|(parent, _)| parent))
        .collect();
    let empty = directories.iter().filter(|path| !parents.contains(path.as_str()));
    empty.cloned().collect()
}

fn relative(root: &Path, path: &Path) -> Option<String> {
    let below = path.strip_prefix(root).ok()?;
    let parts: Option<Vec<&str>> = below.iter().map(|part| part.to_str()).collect();
    parts.map(|parts| parts.join("/"))
}

/// The name that `local` has by itself: its last component, also for `.` and `dir/`.
///
/// # Errors
/// It has none (`/`), or it is not UTF-8.
pub(super) fn own_name(local: &Path) -> Result<String, Failure> {
    let resolved;
    let named = match local.file_name() {
        Some(_) => local,
        None => {
            resolved = local
                .canonicalize()
                .map_err(|error| Failure::local("cannot read", local, &error))?;
            &resolved
        }
    };
    named
        .file_name()
        .and_then(|name| name.to_str())
        .map(str::to_owned)
        .ok_or_else(|| {
            Failure::usage(format!("{} has no name that could be kept", local.display()))
                .hint("name the whole destination, for example /me/name")
        })
}

/// Where the remote file `relative` goes below the local directory `base`. Remote components are never `..`, empty or
/// absolute ([`RemotePath`]), so that nothing leaves `base`.
pub(super) fn local_below(base: &Path, below: &RemotePath, path: &RemotePath) -> Option<PathBuf> {
    let skipped = below.components().count();
    below.contains(path).then(|| {
        let mut local = base.to_owned();
        local.extend(path.components().skip(skipped));
        local
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_takes_what_is_wanted() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for path in ["src/deep/a.rs", "src/b.rs", "target/junk.rs", "notes.txt"] {
            let file = root.join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, path).unwrap();
        }
        std::fs::create_dir_all(root.join("empty/er")).unwrap();
        std::os::unix::fs::symlink("notes.txt", root.join("link")).unwrap();
        let all = walk(root, &Selection::new(&[], &["target".to_owned()]).unwrap(), false);
        let names: Vec<&str> = all.files.iter().map(|file| file.relative.as_str()).collect();
        assert_eq!(names, ["notes.txt", "src/b.rs", "src/deep/a.rs"]);
        assert_eq!(all.empty_directories, ["empty/er"]);
        assert_eq!((all.left_out.symbolic_links, all.left_out.special_files), (1, 0));
        let rust = walk(root, &Selection::new(&["*.rs".to_owned()], &[]).unwrap(), false);
        assert_eq!((rust.files.len(), rust.empty_directories.len()), (3, 0));
        let nothing = walk(&root.join("empty/er"), &Selection::default(), false);
        assert_eq!(nothing.empty_directories, [""]);
        assert_eq!(walk(root, &Selection::default(), true).files.len(), 5);
    }

    #[test]
    fn a_name_that_is_not_text_is_told() {
        use std::os::unix::ffi::OsStrExt;
        let directory = tempfile::tempdir().unwrap();
        let name = std::ffi::OsStr::from_bytes(b"bad\xff");
        std::fs::write(directory.path().join(name), "x").unwrap();
        let tree = walk(directory.path(), &Selection::default(), false);
        assert_eq!((tree.files.len(), tree.failed.len()), (0, 1));
    }

    #[test]
    fn directories_have_names() {
        assert_eq!(own_name(Path::new("a/b/")).unwrap(), "b");
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            own_name(Path::new(".")).unwrap(),
            here.file_name().unwrap().to_str().unwrap()
        );
        assert!(own_name(Path::new("/")).is_err());
    }

    #[test]
    fn downloads_stay_below_their_directory() {
        let path = |text: &str| text.parse::<RemotePath>().unwrap();
        let at = local_below(Path::new("/tmp/d"), &path("/me/src"), &path("/me/src/a/b"));
        assert_eq!(at, Some(PathBuf::from("/tmp/d/a/b")));
        assert_eq!(
            local_below(Path::new("/tmp/d"), &path("/me/src"), &path("/me/other")),
            None
        );
    }
}
