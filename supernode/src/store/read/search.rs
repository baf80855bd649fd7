//! Files whose name or path matches. A page looks at a bounded number of rows and may therefore be short, or empty, and
//! still have a next one.

use common::path::RemotePath;
use rusqlite::Connection;

use super::entry::{Entry, File};
use super::list::{Page, join, start};
use super::walk::{Step, Walk};
use crate::core::glob::Pattern;
use crate::core::page;
use crate::core::permission::Caller;
use crate::store::apply::Stop;

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Query<'a> {
    /// Below which directory.
    pub(crate) path: &'a RemotePath,
    /// What the name or path must match.
    pub(crate) pattern: &'a Pattern,
    /// Least size in bytes.
    pub(crate) size_min: u64,
    /// Largest size in bytes; 0 for no limit.
    pub(crate) size_max: u64,
    /// Modified then or later; 0 for no limit.
    pub(crate) newer_wall_millis: u64,
    /// Where the page before ended.
    pub(crate) position: Option<&'a str>,
    /// Entries of a page.
    pub(crate) limit: usize,
    /// Rows that may be read for a page.
    pub(crate) rows_max: u32,
}

impl Query<'_> {
    fn wants(&self, path: &str, file: &File) -> bool {
        self.pattern.matches(path)
            && file.size_bytes >= self.size_min
            && (self.size_max == 0 || file.size_bytes <= self.size_max)
            && file.modified_wall_millis >= self.newer_wall_millis
    }
}

/// One page of what matches.
pub(crate) fn search(connection: &Connection, caller: Caller, query: &Query<'_>) -> Result<Page, Stop> {
    let start = start(connection, caller, query.path)?;
    let mut walk = Walk::new(connection, start, "", query.position, query.rows_max)?;
    let mut page = Page::default();
    while page.has_room(query.limit) {
        match walk.step()? {
            Step::File(below, file) if query.wants(&below, &file) => {
                page.push(Entry::of_file(join(query.path, &below), *file));
            }
            Step::File(..) => {}
            Step::Paused => break,
            Step::End => return Ok(page),
        }
    }
    page.token = page::token(walk.position());
    Ok(page)
}
