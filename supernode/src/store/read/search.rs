//! Files whose name or path matches. A page looks at a bounded number of rows and may therefore be short, or empty, and
//! still have a next one.

use common::glob::Pattern;
use common::path::RemotePath;
use rusqlite::Connection;

use super::entry::{Entry, File};
use super::list::{Page, join, start};
use super::walk::{Budget, Step, Walk};
use crate::core::page;
use crate::core::permission::Caller;
use crate::core::refusal::Refusal;
use crate::store::apply::Stop;

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Query<'a> {
    /// Below which directory.
    pub(crate) path: &'a RemotePath,
    /// What the name or path must match.
    pub(crate) pattern: &'a Pattern,
    /// Least size in bytes.
    pub(crate) size_min: Option<u64>,
    /// Largest size in bytes.
    pub(crate) size_max: Option<u64>,
    /// Modified then or later.
    pub(crate) newer_wall_millis: Option<u64>,
    /// Where the page before ended.
    pub(crate) position: Option<&'a str>,
    /// Entries of a page.
    pub(crate) limit: usize,
    /// What may be spent on a page.
    pub(crate) budget: Budget,
}

impl Query<'_> {
    fn wants(&self, path: &str, file: &File) -> bool {
        self.pattern.matches(path)
            && self.size_min.is_none_or(|least| file.size_bytes >= least)
            && self.size_max.is_none_or(|most| file.size_bytes <= most)
            && self
                .newer_wall_millis
                .is_none_or(|since| file.modified_wall_millis >= since)
    }
}

/// One page of what matches.
pub(crate) fn search(connection: &Connection, caller: Caller, query: &Query<'_>) -> Result<Page, Stop> {
    let start = start(connection, caller, query.path)?;
    let mut walk = Walk::new(connection, start, "", query.position, query.budget.clone())?;
    let mut page = Page::default();
    while page.has_room(query.limit) {
        match walk.step()? {
            Step::File(below, file) if query.wants(&below, &file) => {
                page.push(Entry::of_file(join(query.path, &below), *file));
            }
            Step::File(..) | Step::Directory(..) => {}
            Step::Unnameable(below) => return Err(Refusal::unnameable(&join(query.path, &below)).into()),
            Step::Paused => break,
            Step::End => return Ok(page),
        }
    }
    page.token = page::token(walk.position());
    Ok(page)
}
