//! What is in the trash and can still be brought back, the newest first.

use common::path::RemotePath;
use common::time::ClusterTime;
use rusqlite::Connection;

use crate::core::permission::Caller;
use crate::store::apply::Stop;
use crate::store::bucket;
use crate::store::trash::{Item, Kept, items, items_of_all};
use crate::store::version;

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked<'a> {
    /// Items that were at or below it.
    pub(crate) path: &'a RemotePath,
    /// Only items with a lower number.
    pub(crate) before: u64,
    /// Items of a page.
    pub(crate) limit: usize,
    /// Rows that may be read for a page.
    pub(crate) rows_max: u32,
}

/// An item with the size of its version, where it is one.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// The row.
    pub(crate) item: Item,
    /// Files only.
    pub(crate) size_bytes: Option<u64>,
}

/// A page, and the number behind which the next one begins (`None`: there is none).
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    /// The newest first.
    pub(crate) items: Vec<Shown>,
    /// For the next page.
    pub(crate) next: Option<u64>,
}

/// One page.
pub(crate) fn list(
    connection: &Connection,
    caller: Caller,
    asked: &Asked<'_>,
    now: ClusterTime,
) -> Result<Page, Stop> {
    let rows = if asked.path.is_root() {
        of_all(connection, caller, asked)?
    } else {
        let bucket = bucket::of_path(connection, caller, asked.path)?;
        items(connection, bucket.id, asked.before, asked.rows_max)?
    };
    let full = rows.len() >= asked.rows_max as usize;
    let mut page = Page::default();
    for item in rows {
        if page.items.len() >= asked.limit {
            return Ok(page);
        }
        page.next = Some(item.id);
        if item.was_within(asked.path)? && item.due > now {
            page.items.push(show(connection, item)?);
        }
    }
    if !full {
        page.next = None;
    }
    Ok(page)
}

fn of_all(connection: &Connection, caller: Caller, asked: &Asked<'_>) -> rusqlite::Result<Vec<Item>> {
    if caller.admin {
        return items_of_all(connection, asked.before, asked.rows_max);
    }
    match bucket::of_owner(connection, caller.id)? {
        Some(bucket) => items(connection, bucket.id, asked.before, asked.rows_max),
        None => Ok(Vec::new()),
    }
}

fn show(connection: &Connection, item: Item) -> rusqlite::Result<Shown> {
    let size_bytes = match item.kept {
        Kept::Version(id) => version::by_id(connection, id)?.map(|version| version.size_bytes),
        Kept::Directory(_) => None,
    };
    Ok(Shown { item, size_bytes })
}
