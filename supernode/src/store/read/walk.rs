//! All files below a directory, in order of their whole paths, from any position on.
//!
//! Invariants: paths come strictly in byte order, so that a position (the last path seen) is all that a next page
//! needs, whatever changed in between; and a walk reads at most so many rows and takes so much time, after which it says
//! where it stands (P10).
//! In every directory the files (by name) and the directories (by name and slash) are merged; that is path order,
//! because a directory's content begins with its name and a slash.
//!
//! Not owned: who may see what, except above the buckets, where only those of one owner are looked at (P9).

use std::collections::VecDeque;
use std::time::Duration;

use common::ids::{DirectoryId, UserId};
use common::path::PATH_BYTES_MAX;
use common::time::{Clock, Moment};
use rusqlite::{Connection, OptionalExtension, Params, params};

use super::entry::{FILE_COLUMNS, FILE_JOINS, File};
use crate::store::number::{number, sql};
use crate::store::schema::ROOT;

/// Rows read at once from one directory.
const ROWS_PER_FETCH: u32 = 128;

/// How much of a path that is too long is told.
const UNNAMEABLE_SHOWN_BYTES: usize = 256;

/// Where a walk begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// A directory.
    Directory(DirectoryId),
    /// Above the buckets: those of one owner, or all.
    Buckets(Option<UserId>),
}

/// How long one scan may go on before it says where it stands: others wait for its place.
const SCAN_TIME_MAX: Duration = Duration::from_millis(500);

/// How much a walk may do.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    /// Rows that it may read.
    rows: u32,
    /// When it has to pause.
    deadline: Option<(Clock, Moment)>,
}

impl Budget {
    /// Of `rows`, however long they take.
    #[cfg(test)]
    pub(crate) const fn rows(rows: u32) -> Self {
        Self { rows, deadline: None }
    }

    /// Of `rows`, and of as much time as one scan may take from now on.
    pub(crate) fn from_now(rows: u32, clock: &Clock) -> Self {
        Self {
            rows,
            deadline: Some((clock.clone(), clock.moment() + SCAN_TIME_MAX)),
        }
    }

    /// Whose time is up from the beginning.
    #[cfg(test)]
    pub(crate) fn of_no_time() -> Self {
        Self {
            rows: u32::MAX,
            deadline: Some((Clock::real(), Moment::default())),
        }
    }

    fn is_over(&self) -> bool {
        let deadline = self.deadline.as_ref();
        deadline.is_some_and(|(clock, until)| clock.moment() >= *until)
    }
}

/// The next thing a walk finds.
#[derive(Debug)]
pub(crate) enum Step {
    /// A file, by its path below where the walk began.
    File(String, Box<File>),
    /// A directory, before what is in it: only where these are asked for.
    Directory(String, DirectoryId),
    /// Something here has a path that no request can name, so that it cannot be shown: the path, cut short.
    Unnameable(String),
    /// As many rows as were allowed have been read, or the time is up: go on from [`Walk::position`].
    Paused,
    /// There is nothing more.
    End,
}

/// A walk under way.
pub(crate) struct Walk<'c> {
    connection: &'c Connection,
    frames: Vec<Frame>,
    prefix: String,
    budget: Budget,
    position: String,
    /// Whether the position has changed: a walk does not pause before, so that pages always come to an end.
    moved: bool,
    directories: bool,
}

/// One directory on the way down.
struct Frame {
    source: Start,
    /// Path of this directory below the start, with its slash; empty for the start itself.
    base: String,
    files: VecDeque<(String, File)>,
    directories: VecDeque<(String, DirectoryId)>,
    /// Names behind this one are still to be fetched; `None`: all are.
    files_after: Option<Bound>,
    directories_after: Option<Bound>,
}

/// From where on names are wanted.
#[derive(Clone, Debug)]
pub(super) enum Bound {
    /// This one included.
    From(String),
    /// Only what comes after it.
    After(String),
}

impl Bound {
    /// Behind `position`, and not before `prefix`.
    pub(super) fn new(prefix: &str, position: Option<&str>) -> Self {
        match position {
            Some(position) if position >= prefix => Self::After(position.to_owned()),
            Some(_) | None => Self::From(prefix.to_owned()),
        }
    }

    /// What names are compared with.
    pub(super) fn text(&self) -> &str {
        match self {
            Bound::From(text) | Bound::After(text) => text,
        }
    }

    /// How.
    pub(super) const fn operator(&self) -> &'static str {
        match self {
            Bound::From(_) => ">=",
            Bound::After(_) => ">",
        }
    }
}

impl<'c> Walk<'c> {
    /// Files below `start` whose path there begins with `prefix`, those after `position` (of an earlier walk). Stays
    /// within `budget`.
    pub(crate) fn new(
        connection: &'c Connection,
        start: Start,
        prefix: &str,
        position: Option<&str>,
        budget: Budget,
    ) -> rusqlite::Result<Self> {
        let from = Bound::new(prefix, position);
        let mut walk = Self {
            connection,
            frames: Vec::new(),
            prefix: prefix.to_owned(),
            budget,
            position: from.text().to_owned(),
            moved: false,
            directories: false,
        };
        walk.descend(start, &from)?;
        Ok(walk)
    }

    /// The same walk, which hands out directories as well.
    pub(crate) fn with_directories(mut self) -> Self {
        self.directories = true;
        self
    }

    /// The last path that this walk has dealt with.
    pub(crate) fn position(&self) -> &str {
        &self.position
    }

    /// Builds the frames down to where the walk goes on, without reading what lies before.
    fn descend(&mut self, start: Start, from: &Bound) -> rusqlite::Result<()> {
        let mut source = start;
        let mut base = String::new();
        let mut rest = from.text();
        while let Some((name, below)) = rest.split_once('/') {
            let key = format!("{name}/");
            self.budget.rows = self.budget.rows.saturating_sub(1);
            let Some(child) = self.child(source, name)? else {
                self.frames.push(Frame::new(source, base, Bound::From(key)));
                return Ok(());
            };
            let child_base = format!("{base}{key}");
            self.frames.push(Frame::new(source, base, Bound::After(key)));
            base = child_base;
            source = Start::Directory(child);
            rest = below;
        }
        let bound = match from {
            Bound::From(_) => Bound::From(rest.to_owned()),
            Bound::After(_) => Bound::After(rest.to_owned()),
        };
        self.frames.push(Frame::new(source, base, bound));
        Ok(())
    }

    /// The next file.
    pub(crate) fn step(&mut self) -> rusqlite::Result<Step> {
        loop {
            if self.moved && self.budget.is_over() {
                return Ok(Step::Paused);
            }
            let Some(mut frame) = self.frames.pop() else {
                return Ok(Step::End);
            };
            if !self.fill(&mut frame)? {
                return Ok(Step::Paused);
            }
            let file_first = match (frame.files.front(), frame.directories.front()) {
                (None, None) => continue,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some((file, _)), Some((directory, _))) => file < directory,
            };
            let found = if file_first {
                frame
                    .files
                    .pop_front()
                    .map(|(name, file)| Found::File(name, file))
            } else {
                frame
                    .directories
                    .pop_front()
                    .map(|(key, id)| Found::Directory(key, id))
            };
            let base = frame.base.clone();
            self.frames.push(frame);
            if let Some(step) = found.and_then(|found| self.visit(&base, found)) {
                return Ok(step);
            }
        }
    }

    /// What to hand out for `found`, if anything; a directory is entered.
    fn visit(&mut self, base: &str, found: Found) -> Option<Step> {
        let (Found::File(name, _) | Found::Directory(name, _)) = &found;
        let path = format!("{base}{name}");
        let inside = path.starts_with(&self.prefix);
        if !inside && path > self.prefix {
            self.frames.clear();
            return Some(Step::End);
        }
        self.position.clone_from(&path);
        self.moved = true;
        if path.len() > PATH_BYTES_MAX {
            // No command makes such a path; whoever meets one all the same has to know that something is missing.
            self.frames.clear();
            let shown = path.floor_char_boundary(UNNAMEABLE_SHOWN_BYTES);
            return Some(Step::Unnameable(path.get(..shown).unwrap_or_default().to_owned()));
        }
        match found {
            Found::File(_, file) => inside.then(|| Step::File(path, Box::new(file))),
            Found::Directory(_, id) => {
                let shown = self.directories && inside;
                let step = shown.then(|| Step::Directory(path.trim_end_matches('/').to_owned(), id));
                self.budget.rows = self.budget.rows.saturating_sub(u32::from(shown));
                self.frames
                    .push(Frame::new(Start::Directory(id), path, Bound::From(String::new())));
                step
            }
        }
    }

    /// Makes sure that the next file and the next directory of `frame` are known; false when no more rows may be read.
    fn fill(&mut self, frame: &mut Frame) -> rusqlite::Result<bool> {
        let lacks_files = frame.files.is_empty() && frame.files_after.is_some();
        let lacks_directories = frame.directories.is_empty() && frame.directories_after.is_some();
        if (lacks_files || lacks_directories) && self.budget.rows == 0 && self.moved {
            return Ok(false);
        }
        if frame.files.is_empty()
            && let Some(bound) = frame.files_after.take()
        {
            let rows = self.files(frame.source, &bound)?;
            frame.files_after = self.charge(&rows, |(name, _)| name);
            frame.files = rows.into();
        }
        if frame.directories.is_empty()
            && let Some(bound) = frame.directories_after.take()
        {
            let rows = self.directories(frame.source, &bound)?;
            frame.directories_after = self.charge(&rows, |(key, _)| key);
            frame.directories = rows.into();
        }
        Ok(true)
    }

    /// Counts `rows`; where the next ones begin, if there can be any.
    fn charge<T>(&mut self, rows: &[T], name: impl Fn(&T) -> &String) -> Option<Bound> {
        let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        self.budget.rows = self.budget.rows.saturating_sub(count.max(1));
        let full = count >= ROWS_PER_FETCH;
        rows.last()
            .filter(|_| full)
            .map(|last| Bound::After(name(last).clone()))
    }

    fn files(&self, source: Start, bound: &Bound) -> rusqlite::Result<Vec<(String, File)>> {
        let Start::Directory(directory) = source else {
            return Ok(Vec::new());
        };
        let statement = format!(
            "SELECT f.name, {FILE_COLUMNS} FROM files f CROSS JOIN versions v ON v.version_id = f.version_id {FILE_JOINS}
             WHERE f.directory_id = ?1 AND f.name {} ?2 ORDER BY f.name LIMIT {ROWS_PER_FETCH}",
            bound.operator()
        );
        self.connection
            .prepare_cached(&statement)?
            .query_map(params![sql(directory.get()), bound.text()], |row| {
                Ok((row.get(0)?, File::read(row, 1)?))
            })?
            .collect()
    }

    fn directories(&self, source: Start, bound: &Bound) -> rusqlite::Result<Vec<(String, DirectoryId)>> {
        let operator = bound.operator();
        match source {
            Start::Directory(parent) => self.keys(
                &format!(
                    "SELECT name || '/', directory_id FROM directories WHERE parent_id = ?1 AND name || '/' {operator} ?2
                     ORDER BY name || '/' LIMIT {ROWS_PER_FETCH}"
                ),
                params![sql(parent.get()), bound.text()],
            ),
            Start::Buckets(None) => self.keys(
                &format!(
                    "SELECT name || '/', directory_id FROM directories WHERE parent_id = ?1 AND name || '/' {operator} ?2
                     ORDER BY name || '/' LIMIT {ROWS_PER_FETCH}"
                ),
                params![sql(ROOT), bound.text()],
            ),
            Start::Buckets(Some(owner)) => self.keys(
                &format!(
                    "SELECT name || '/', directory_id FROM buckets WHERE owner = ?1 AND name || '/' {operator} ?2
                     ORDER BY name || '/' LIMIT {ROWS_PER_FETCH}"
                ),
                params![sql(owner.get()), bound.text()],
            ),
        }
    }

    fn keys(&self, statement: &str, parameters: impl Params) -> rusqlite::Result<Vec<(String, DirectoryId)>> {
        self.connection
            .prepare_cached(statement)?
            .query_map(parameters, |row| {
                Ok((row.get(0)?, DirectoryId::new(number(row, 1)?)))
            })?
            .collect()
    }

    fn child(&self, source: Start, name: &str) -> rusqlite::Result<Option<DirectoryId>> {
        let by_owner = "SELECT directory_id FROM buckets WHERE owner = ?1 AND name = ?2";
        let by_parent = "SELECT directory_id FROM directories WHERE parent_id = ?1 AND name = ?2";
        let (statement, within) = match source {
            Start::Directory(parent) => (by_parent, parent.get()),
            Start::Buckets(None) => (by_parent, ROOT),
            Start::Buckets(Some(owner)) => (by_owner, owner.get()),
        };
        self.connection
            .prepare_cached(statement)?
            .query_row(params![sql(within), name], |row| {
                Ok(DirectoryId::new(number(row, 0)?))
            })
            .optional()
    }
}

enum Found {
    File(String, File),
    Directory(String, DirectoryId),
}

impl Frame {
    fn new(source: Start, base: String, from: Bound) -> Self {
        Self {
            source,
            base,
            files: VecDeque::new(),
            directories: VecDeque::new(),
            files_after: Some(from.clone()),
            directories_after: Some(from),
        }
    }
}
