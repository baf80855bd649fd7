//! What sources name, and what a destination means.
//!
//! Invariants: a path that exists is itself and never a pattern, in each of its components. What a destination means
//! depends on how it is written and never on what stands there: with a slash at the end it means *into*, without one
//! *as*, so that a command run twice does the same twice.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use common::error::Kind;
use common::glob::{Glob, has_wildcard, literal};
use common::path::RemotePath;

use super::failure::{Exit, Failure};
use super::remote::Remote;
use crate::Client;
use crate::names::{Entry, ListOptions};

/// What one or several sources name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Named {
    /// Each once, in order.
    pub(super) entries: Vec<Entry>,
    /// Whether a pattern chose some of them.
    pub(super) by_pattern: bool,
}

impl Named {
    /// Leaves out what lies below another of the entries: whoever takes a directory takes it along.
    pub(super) fn outermost(mut self) -> Self {
        let directories: std::collections::BTreeSet<RemotePath> = self
            .entries
            .iter()
            .filter(|entry| !entry.is_file())
            .map(|entry| entry.path.clone())
            .collect();
        self.entries.retain(|entry| {
            let above = std::iter::successors(entry.path.parent(), RemotePath::parent);
            !above.into_iter().any(|path| directories.contains(&path))
        });
        self
    }
}

/// What stands at `path`; `None` for nothing.
///
/// # Errors
/// Nobody answers, or looking is not allowed.
pub(super) async fn look(client: &Client, path: &RemotePath) -> Result<Option<Entry>, Failure> {
    match client.stat(path).await {
        Ok(entry) => Ok(Some(entry)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(Failure::from(error).at(path.as_str())),
    }
}

/// The nearest entry at or above `path`; `None` where not even the bucket can be seen.
///
/// # Errors
/// Nobody answers, or looking is not allowed.
pub(super) async fn nearest(client: &Client, path: &RemotePath) -> Result<Option<Entry>, Failure> {
    let mut at = Some(path.clone());
    while let Some(path) = at.filter(|path| !path.is_root()) {
        if let Some(entry) = look(client, &path).await? {
            return Ok(Some(entry));
        }
        at = path.parent();
    }
    Ok(None)
}

/// What all of `remotes` name together; all of them exist, or nothing is returned.
///
/// # Errors
/// Nothing is at one of them, or nothing matches it.
pub(super) async fn expand_all(client: &Client, remotes: &[Remote]) -> Result<Named, Failure> {
    let mut seen = std::collections::BTreeSet::new();
    let mut all = Named::default();
    for remote in remotes {
        let named = expand(client, remote).await?;
        all.by_pattern |= named.by_pattern;
        let new = named
            .entries
            .into_iter()
            .filter(|entry| seen.insert(entry.path.clone()));
        all.entries.extend(new);
    }
    Ok(all)
}

/// What `remote` names: the entry at the path, or what its pattern matches, in order of path.
///
/// # Errors
/// Nothing is there, or nothing matches.
pub(super) async fn expand(client: &Client, remote: &Remote) -> Result<Named, Failure> {
    let path = &remote.path;
    let entries = match client.stat(path).await {
        Ok(entry) if remote.directory && entry.is_file() => {
            return Err(not_a_directory(path.as_str()).hint("a slash at the end means a directory"));
        }
        Ok(entry) => {
            return Ok(Named {
                entries: vec![entry],
                by_pattern: false,
            });
        }
        Err(error) if error.kind() == Kind::NotFound && has_wildcard(path.as_str()) => {
            matching(client, path).await?
        }
        Err(error) => return Err(Failure::from(error).at(path.as_str())),
    };
    let wanted = entries
        .into_values()
        .filter(|entry| !(remote.directory && entry.is_file()));
    let entries: Vec<Entry> = wanted.collect();
    if entries.is_empty() {
        return Err(Failure::new(
            Exit::NotFound,
            "E_NOT_FOUND",
            format!("nothing is at {path}, and nothing matches it"),
        )
        .at(path.as_str())
        .hint("quote the pattern, so that the shell leaves it alone"));
    }
    Ok(Named {
        entries,
        by_pattern: true,
    })
}

/// Follows the pattern component by component; from one with `**` on, everything below is matched.
async fn matching(client: &Client, pattern: &RemotePath) -> Result<BTreeMap<RemotePath, Entry>, Failure> {
    let components: Vec<&str> = pattern.components().collect();
    let mut found = vec![RemotePath::root()];
    let mut entries = BTreeMap::new();
    for (at, component) in components.iter().enumerate() {
        let mut next = BTreeMap::new();
        for directory in &found {
            if let Some(entry) = look(client, &directory.join(component)?).await? {
                next.insert(entry.path.clone(), entry);
            } else if component.contains("**") {
                let rest = components.get(at..).unwrap_or_default().join("/");
                below(client, directory, &rest, &mut entries).await?;
            } else {
                children(client, directory, component, &mut next).await?;
            }
        }
        if at + 1 == components.len() {
            entries.append(&mut next);
        }
        found = next
            .into_values()
            .filter(|entry| !entry.is_file())
            .map(|entry| entry.path)
            .collect();
    }
    Ok(entries)
}

/// Adds the entries of `directory` whose names match `component`, which is no name there.
async fn children(
    client: &Client,
    directory: &RemotePath,
    component: &str,
    found: &mut BTreeMap<RemotePath, Entry>,
) -> Result<(), Failure> {
    if !has_wildcard(component) {
        let name = literal(component);
        if name != component
            && let Some(entry) = look(client, &directory.join(&name)?).await?
        {
            found.insert(entry.path.clone(), entry);
        }
        return Ok(());
    }
    // What is no pattern either matches nothing.
    let Ok(glob) = Glob::parse(component) else {
        return Ok(());
    };
    let mut pages = client.list(directory, ListOptions::default());
    while let Some(page) = pages.next_page().await? {
        let matching = page
            .into_iter()
            .filter(|entry| entry.path.name().is_some_and(|name| glob.matches(name)));
        found.extend(matching.map(|entry| (entry.path.clone(), entry)));
    }
    Ok(())
}

/// Adds everything below `directory` whose path below it matches `pattern`.
async fn below(
    client: &Client,
    directory: &RemotePath,
    pattern: &str,
    found: &mut BTreeMap<RemotePath, Entry>,
) -> Result<(), Failure> {
    let Ok(glob) = Glob::parse(&format!("/{pattern}")) else {
        return Ok(());
    };
    let skipped = directory.as_str().trim_end_matches('/').len() + 1;
    let mut directories = VecDeque::from([directory.clone()]);
    while let Some(directory) = directories.pop_front() {
        let mut pages = client.list(&directory, ListOptions::default());
        while let Some(page) = pages.next_page().await? {
            for entry in page {
                if !entry.is_file() {
                    directories.push_back(entry.path.clone());
                }
                if entry
                    .path
                    .as_str()
                    .get(skipped..)
                    .is_some_and(|path| glob.matches(path))
                {
                    found.insert(entry.path.clone(), entry);
                }
            }
        }
    }
    Ok(())
}

/// What a destination means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Meaning {
    /// The source keeps its name in this directory.
    Into,
    /// The source gets this name.
    As,
}

/// What `to` means. `several`: more than one source may go there.
///
/// # Errors
/// Several sources cannot all have one name.
pub(super) fn meaning(to: &str, several: bool) -> Result<Meaning, Failure> {
    let last = to.rsplit('/').next().unwrap_or(to);
    if matches!(last, "" | "." | "..") {
        return Ok(Meaning::Into);
    }
    if several {
        return Err(Failure::usage(format!("several sources cannot all become {to}"))
            .hint(format!("write {to}/ to put them into that directory")));
    }
    Ok(Meaning::As)
}

/// Whether several sources may go to one destination: there are several, or a pattern that may match several.
pub(super) fn are_several(sources: &[Remote], named: &Named) -> bool {
    sources.len() > 1 || named.by_pattern
}

/// Refuses what could not become `to`, before anything moves: a file where a directory stands, or the other way round.
///
/// # Errors
/// `E_IS_A_DIRECTORY`, `E_NOT_A_DIRECTORY`; or nobody answers.
pub(super) async fn check_remote(client: &Client, to: &RemotePath, is_file: bool) -> Result<(), Failure> {
    match nearest(client, to).await? {
        Some(there) if there.path == *to && there.is_file() == is_file => Ok(()),
        Some(there) if there.is_file() => Err(not_a_directory(there.path.as_str())),
        Some(there) if there.path == *to => Err(is_a_directory(to.as_str())),
        _ => Ok(()),
    }
}

/// As [`check_remote`] for a local destination.
///
/// # Errors
/// `E_IS_A_DIRECTORY`, `E_NOT_A_DIRECTORY`.
pub(super) fn check_local(to: &Path, meaning: Meaning, is_file: bool) -> Result<(), Failure> {
    let shown = to.display().to_string();
    // Without the slash at the end, with which a file is not found.
    let to: std::path::PathBuf = to.components().collect();
    // What cannot be looked at is told when it is written.
    match (std::fs::metadata(to), meaning) {
        (Ok(there), Meaning::As) if is_file && there.is_dir() => Err(is_a_directory(&shown)),
        (Ok(there), Meaning::As) if !is_file && !there.is_dir() => Err(not_a_directory(&shown)),
        (Ok(there), Meaning::Into) if !there.is_dir() => Err(not_a_directory(&shown)),
        _ => Ok(()),
    }
}

fn is_a_directory(path: &str) -> Failure {
    Failure::new(
        Exit::Conflict,
        "E_IS_A_DIRECTORY",
        format!("{path} is a directory"),
    )
    .at(path)
    .hint(format!("write {path}/ to put something into it"))
}

fn not_a_directory(path: &str) -> Failure {
    Failure::new(Exit::Conflict, "E_NOT_A_DIRECTORY", format!("{path} is a file")).at(path)
}

/// Refuses two sources that would take each other's place.
///
/// # Errors
/// Two targets are one: a usage error with both sources.
pub(super) fn check_distinct<'a>(pairs: impl IntoIterator<Item = (String, &'a str)>) -> Result<(), Failure> {
    let mut taken: BTreeMap<String, &str> = BTreeMap::new();
    for (target, source) in pairs {
        if let Some(other) = taken.insert(target.clone(), source) {
            return Err(same_target(other, source, &target));
        }
    }
    Ok(())
}

/// `first` and `second` would both become `target`.
pub(super) fn same_target(first: &str, second: &str, target: &str) -> Failure {
    Failure::usage(format!("{first} and {second} would both become {target}"))
        .at(target)
        .hint("give them different names or destinations")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_means_what_it_says() {
        for (to, several, expected) in [
            ("/me/x/", false, Some(Meaning::Into)),
            ("/me/x/", true, Some(Meaning::Into)),
            ("/me/x", false, Some(Meaning::As)),
            ("/me/x", true, None),
            ("/", false, Some(Meaning::Into)),
            (".", true, Some(Meaning::Into)),
            ("../..", false, Some(Meaning::Into)),
            ("back", false, Some(Meaning::As)),
            ("a.", false, Some(Meaning::As)),
        ] {
            assert_eq!(meaning(to, several).ok(), expected, "{to}");
        }
    }

    #[test]
    fn a_destination_is_not_of_another_kind() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f");
        std::fs::write(&file, "x").unwrap();
        let code = |to: &Path, meaning, is_file| {
            check_local(to, meaning, is_file)
                .err()
                .map(|failure| failure.code)
        };
        assert_eq!(
            code(directory.path(), Meaning::As, true).as_deref(),
            Some("E_IS_A_DIRECTORY")
        );
        assert_eq!(
            code(&file, Meaning::As, false).as_deref(),
            Some("E_NOT_A_DIRECTORY")
        );
        assert_eq!(
            code(&file, Meaning::Into, true).as_deref(),
            Some("E_NOT_A_DIRECTORY")
        );
        assert_eq!(code(&file, Meaning::As, true), None);
        assert_eq!(code(&directory.path().join("new"), Meaning::Into, true), None);
    }

    #[test]
    fn two_sources_have_two_targets() {
        let pair = |target: &str, source: &'static str| (target.to_owned(), source);
        assert!(check_distinct([pair("/x/a", "1/a"), pair("/x/b", "1/b")]).is_ok());
        let failure =
            check_distinct([pair("/x/a", "1/a"), pair("/x/b", "b"), pair("/x/a", "2/a")]).unwrap_err();
        assert!(
            failure.message.contains("1/a") && failure.message.contains("2/a"),
            "{failure}"
        );
        assert_eq!(failure.exit, Exit::Usage);
    }
}
