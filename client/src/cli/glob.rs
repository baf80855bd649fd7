//! `--include` and `--exclude`: patterns of the one dialect (`common::glob`) over paths below where a selection begins.

use common::glob::Glob;

use super::failure::{Exit, Failure};

impl From<common::glob::Error> for Failure {
    fn from(error: common::glob::Error) -> Self {
        Self::new(Exit::Usage, "E_PATTERN", error.to_string())
    }
}

/// With includes only what matches one of them, and never what matches an exclude.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    include: Vec<Glob>,
    exclude: Vec<Glob>,
    /// What lies below a directory that matches an exclude.
    exclude_below: Vec<Glob>,
}

impl Selection {
    /// From the texts of the command line.
    ///
    /// # Errors
    /// One is no pattern.
    pub(super) fn new(include: &[String], exclude: &[String]) -> Result<Self, Failure> {
        let globs = |texts: &[String]| {
            let globs: Result<Vec<Glob>, _> = texts.iter().map(|text| Glob::parse(text)).collect();
            globs
        };
        let below: Vec<String> = exclude
            .iter()
            .map(|text| format!("{}/", text.trim_end_matches('/')))
            .collect();
        Ok(Self {
            include: globs(include)?,
            exclude: globs(exclude)?,
            exclude_below: globs(&below)?,
        })
    }

    /// Whether only what matches is taken, so that directories mean nothing by themselves.
    pub(super) fn has_includes(&self) -> bool {
        !self.include.is_empty()
    }

    /// Whether the file at `path`, relative to where the selection begins, is wanted.
    pub(super) fn takes(&self, path: &str) -> bool {
        let matches = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(path));
        (self.include.is_empty() || matches(&self.include))
            && !matches(&self.exclude)
            && !matches(&self.exclude_below)
    }

    /// Whether the directory at `path` is excluded with all below it.
    pub(super) fn excludes_directory(&self, path: &str) -> bool {
        let inside = format!("{path}/");
        self.exclude_below.iter().any(|glob| glob.matches(&inside))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(include: &[&str], exclude: &[&str]) -> Selection {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Selection::new(&texts(include), &texts(exclude)).unwrap()
    }

    #[test]
    fn excludes_win() {
        let some = selection(&["*.rs"], &["gen*"]);
        assert!(some.takes("src/a.rs") && !some.takes("a.txt") && !some.takes("src/gen.rs"));
        assert!(selection(&[], &[]).takes("anything"));
    }

    /// An upload prunes directories and a download sees files only: an exclude means the same to both.
    #[test]
    fn an_excluded_directory_is_excluded_with_all_below_it() {
        for exclude in ["target", "target/", "**/target/**", "**/target"] {
            let without = selection(&[], &[exclude]);
            for path in ["target/a.rs", "deep/target/b/a.rs"] {
                assert!(!without.takes(path), "{exclude} {path}");
            }
            assert!(without.excludes_directory("target") && without.excludes_directory("deep/target"));
            assert!(!without.excludes_directory("src") && without.takes("src/a.rs"));
            assert!(!without.excludes_directory("retarget"), "{exclude}");
        }
        assert!(
            selection(&[], &["target/"]).takes("target"),
            "a file is no directory"
        );
        assert!(!selection(&[], &["/target"]).excludes_directory("deep/target"));
    }
}
