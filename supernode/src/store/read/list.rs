//! The entries of one directory in order of name, or all files below it in order of path.

use common::ids::{DirectoryId, UserId};
use common::path::RemotePath;
use rusqlite::{Connection, params};

use super::entry::{self, Entry, FILE_COLUMNS, FILE_JOINS, File, Kind};
use super::walk::{Bound, Budget, Start, Step, Walk};
use crate::core::page;
use crate::core::permission::Caller;
use crate::core::refusal::Refusal;
use crate::store::apply::Stop;
use crate::store::bucket;
use crate::store::number::{number, sql};
use crate::store::schema::ROOT;
use crate::store::tree::{self, Spot};

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Listing<'a> {
    /// A directory, a bucket, or `/`.
    pub(crate) path: &'a RemotePath,
    /// Only what begins with this.
    pub(crate) prefix: &'a str,
    /// Everything below: directories as well.
    pub(crate) directories: bool,
    /// Where the page before ended.
    pub(crate) position: Option<&'a str>,
    /// Entries of a page.
    pub(crate) limit: usize,
    /// What may be spent on a page.
    pub(crate) budget: Budget,
}

/// A page ends early when its entries weigh more than this, so that a reply stays well below what callers take.
const PAGE_BYTES_MAX: usize = 2 << 20;

/// A page, and the token of the next one (empty: there is none).
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Page {
    /// In order.
    pub(crate) entries: Vec<Entry>,
    /// For the next page.
    pub(crate) token: String,
    weight_bytes: usize,
}

impl Page {
    /// Whether one more entry fits, of at most `limit`.
    pub(super) fn has_room(&self, limit: usize) -> bool {
        self.entries.len() < limit && self.weight_bytes < PAGE_BYTES_MAX
    }

    /// Adds an entry.
    pub(super) fn push(&mut self, entry: Entry) {
        self.weight_bytes += entry.weight_bytes();
        self.entries.push(entry);
    }
}

/// Where listings and searches below `path` begin, if `caller` may see it.
///
/// # Errors
/// `NotFound`, or a file is there.
pub(super) fn start(connection: &Connection, caller: Caller, path: &RemotePath) -> Result<Start, Stop> {
    if path.is_root() {
        return Ok(Start::Buckets((!caller.admin).then_some(caller.id)));
    }
    let bucket = bucket::of_path(connection, caller, path)?;
    match tree::look(connection, &bucket, path)? {
        Spot::Directory(id) => Ok(Start::Directory(id)),
        Spot::File { .. } => Err(Refusal::not_a_directory(path.as_str()).into()),
        Spot::Nothing { .. } | Spot::BelowFile(_) => Err(Refusal::no_path(path).into()),
    }
}

/// All files (and, where asked for, directories) below the path, in order of their whole paths.
pub(crate) fn recursive(connection: &Connection, caller: Caller, asked: &Listing<'_>) -> Result<Page, Stop> {
    let start = start(connection, caller, asked.path)?;
    let mut walk = Walk::new(
        connection,
        start,
        asked.prefix,
        asked.position,
        asked.budget.clone(),
    )?;
    if asked.directories {
        walk = walk.with_directories();
    }
    let mut page = Page::default();
    while page.has_room(asked.limit) {
        match walk.step()? {
            Step::File(below, file) => page.push(Entry::of_file(join(asked.path, &below), *file)),
            Step::Directory(below, id) => {
                let entry = entry::directory(connection, join(asked.path, &below), id)?;
                entry.into_iter().for_each(|entry| page.push(entry));
            }
            Step::Unnameable(below) => return Err(Refusal::unnameable(&join(asked.path, &below)).into()),
            Step::Paused => break,
            Step::End => return Ok(page),
        }
    }
    page.token = page::token(walk.position());
    Ok(page)
}

/// The absolute path of what is `below` the directory at `path`.
pub(super) fn join(path: &RemotePath, below: &str) -> String {
    if path.is_root() {
        format!("/{below}")
    } else {
        format!("{path}/{below}")
    }
}

/// The entries of the directory itself.
pub(crate) fn flat(connection: &Connection, caller: Caller, asked: &Listing<'_>) -> Result<Page, Stop> {
    let start = start(connection, caller, asked.path)?;
    let wanted = asked.limit + 1;
    let mut entries: Vec<(String, Entry)> = match start {
        Start::Directory(id) => {
            let mut all = files(connection, id, asked, wanted)?;
            all.extend(directories(connection, id, asked, wanted)?);
            all
        }
        Start::Buckets(owner) => buckets(connection, owner, asked, wanted)?,
    };
    entries.sort_by(|(left, _), (right, _)| left.cmp(right));
    entries.retain(|(name, _)| name.starts_with(asked.prefix));
    let mut page = Page::default();
    let mut last = String::new();
    for (name, entry) in entries {
        if !page.has_room(asked.limit) {
            page.token = page::token(&last);
            break;
        }
        page.push(entry);
        last = name;
    }
    Ok(page)
}

fn files(
    connection: &Connection,
    directory: DirectoryId,
    asked: &Listing<'_>,
    limit: usize,
) -> rusqlite::Result<Vec<(String, Entry)>> {
    let bound = Bound::new(asked.prefix, asked.position);
    connection
        .prepare_cached(&format!(
            "SELECT f.name, {FILE_COLUMNS} FROM files f CROSS JOIN versions v ON v.version_id = f.version_id {FILE_JOINS}
             WHERE f.directory_id = ?1 AND f.name {} ?2 ORDER BY f.name LIMIT ?3",
            bound.operator()
        ))?
        .query_map(params![sql(directory.get()), bound.text(), sql(limit as u64)], |row| {
            let name: String = row.get(0)?;
            let file = File::read(row, 1)?;
            Ok((name.clone(), Entry::of_file(join(asked.path, &name), file)))
        })?
        .collect()
}

fn directories(
    connection: &Connection,
    parent: DirectoryId,
    asked: &Listing<'_>,
    limit: usize,
) -> rusqlite::Result<Vec<(String, Entry)>> {
    let bound = Bound::new(asked.prefix, asked.position);
    connection
        .prepare_cached(&format!(
            "SELECT d.name, d.created_wall_millis, u.name, d.metadata FROM directories d
             JOIN buckets b ON b.bucket_id = d.bucket_id JOIN users u ON u.user_id = b.owner
             WHERE d.parent_id = ?1 AND d.name {} ?2 ORDER BY d.name LIMIT ?3",
            bound.operator()
        ))?
        .query_map(
            params![sql(parent.get()), bound.text(), sql(limit as u64)],
            |row| place(row, asked.path, Kind::Directory),
        )?
        .collect()
}

fn buckets(
    connection: &Connection,
    owner: Option<UserId>,
    asked: &Listing<'_>,
    limit: usize,
) -> rusqlite::Result<Vec<(String, Entry)>> {
    let bound = Bound::new(asked.prefix, asked.position);
    let (filter, within) = match owner {
        Some(owner) => ("b.owner = ?1", owner.get()),
        None => ("d.parent_id = ?1", ROOT),
    };
    connection
        .prepare_cached(&format!(
            "SELECT b.name, d.created_wall_millis, u.name, d.metadata FROM buckets b
             JOIN directories d ON d.directory_id = b.directory_id JOIN users u ON u.user_id = b.owner
             WHERE {filter} AND b.name {} ?2 ORDER BY b.name LIMIT ?3",
            bound.operator()
        ))?
        .query_map(params![sql(within), bound.text(), sql(limit as u64)], |row| {
            place(row, asked.path, Kind::Bucket)
        })?
        .collect()
}

fn place(row: &rusqlite::Row<'_>, above: &RemotePath, kind: Kind) -> rusqlite::Result<(String, Entry)> {
    let name: String = row.get(0)?;
    let entry = Entry {
        kind,
        path: join(above, &name),
        owner: row.get(2)?,
        modified_wall_millis: number(row, 1)?,
        metadata: entry::metadata(row, 3)?,
        file: None,
    };
    Ok((name, entry))
}
