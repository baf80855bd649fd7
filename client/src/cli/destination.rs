//! Whether a remote destination means a directory, and which files a remote source means.

use common::glob::{Glob, has_wildcard};
use common::path::RemotePath;

use super::failure::{Exit, Failure};
use super::remote::Remote;
use crate::Client;
use crate::names::{Entry, ListOptions};

/// Whether `to` is a directory: it says so by a slash at its end, or it is one.
///
/// # Errors
/// Nobody answers, or looking is not allowed.
pub(super) async fn is_directory(client: &Client, to: &Remote) -> Result<bool, Failure> {
    if to.directory || to.path.is_root() {
        return Ok(true);
    }
    match client.stat(&to.path).await {
        Ok(entry) => Ok(!entry.is_file()),
        Err(error) if error.kind() == common::error::Kind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What `remote` names: the entry at the path, or what its glob matches, in order of name.
///
/// # Errors
/// Nothing is there, or nothing matches.
pub(super) async fn expand(client: &Client, remote: &Remote) -> Result<Vec<Entry>, Failure> {
    let path = &remote.path;
    match client.stat(path).await {
        Ok(entry) => return Ok(vec![entry]),
        Err(error) if error.kind() == common::error::Kind::NotFound && has_wildcard(path.as_str()) => {}
        Err(error) => return Err(error.into()),
    }
    let mut found = vec![None];
    for component in path.components() {
        let mut next = Vec::new();
        for above in &found {
            let above: &Option<Entry> = above;
            let directory = above
                .as_ref()
                .map_or_else(RemotePath::root, |entry| entry.path.clone());
            if above.as_ref().is_some_and(Entry::is_file) {
                continue;
            }
            next.extend(
                children(client, &directory, component)
                    .await?
                    .into_iter()
                    .map(Some),
            );
        }
        found = next;
    }
    let found: Vec<Entry> = found.into_iter().flatten().collect();
    if found.is_empty() {
        return Err(
            Failure::new(Exit::NotFound, "E_NOT_FOUND", format!("nothing matches {path}"))
                .hint("quote the pattern, so that the shell leaves it alone"),
        );
    }
    Ok(found)
}

async fn children(client: &Client, directory: &RemotePath, component: &str) -> Result<Vec<Entry>, Failure> {
    if !has_wildcard(component) {
        return match client.stat(&directory.join(component)?).await {
            Ok(entry) => Ok(vec![entry]),
            Err(error) if error.kind() == common::error::Kind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        };
    }
    let glob = Glob::parse(component)?;
    let all = client.list(directory, ListOptions::default()).all().await?;
    let matching = all
        .into_iter()
        .filter(|entry| entry.path.name().is_some_and(|name| glob.matches(name)));
    Ok(matching.collect())
}
