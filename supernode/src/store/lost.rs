//! Numbers of sessions that ended with the leader that alone knew them: no version ever comes of them.

use common::ids::UploadId;
use rusqlite::{Connection, OptionalExtension, params};

use super::counter::Counter;
use super::number::{number, sql};

/// Whether the session is lost.
pub(crate) fn contains(connection: &Connection, id: UploadId) -> rusqlite::Result<bool> {
    let last = connection
        .prepare_cached("SELECT last FROM uploads_lost WHERE first <= ?1 ORDER BY first DESC LIMIT 1")?
        .query_row([sql(id.get())], |row| number(row, 0))
        .optional()?;
    Ok(last.is_some_and(|last| id.get() <= last))
}

/// Records that the sessions from `first` to `last` are lost. None of them may have a row.
pub(crate) fn add(connection: &Connection, first: u64, last: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO uploads_lost (first, last) VALUES (?1, ?2)")?
        .execute(params![sql(first), sql(last)])?;
    Ok(())
}

/// Records as lost what was given out and has no row, and closes these numbers, at most `limit` of them; whether there
/// are more.
pub(crate) fn close(connection: &Connection, limit: u64) -> rusqlite::Result<bool> {
    let closed = Counter::UploadsClosed.last(connection)?;
    let given = Counter::Upload.last(connection)?;
    let last = given.min(closed.saturating_add(limit));
    let mut unseen = closed + 1;
    let mut recorded = connection.prepare_cached(
        "SELECT upload_id, upload_id FROM uploads WHERE upload_id BETWEEN ?1 AND ?2
         UNION ALL SELECT first, last FROM uploads_lost WHERE first BETWEEN ?1 AND ?2 ORDER BY 1",
    )?;
    let recorded: Vec<(u64, u64)> = recorded
        .query_map([sql(unseen), sql(last)], |row| {
            Ok((number(row, 0)?, number(row, 1)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    for (first, end) in recorded {
        if unseen < first {
            add(connection, unseen, first - 1)?;
        }
        unseen = end + 1;
    }
    if unseen <= last {
        add(connection, unseen, last)?;
    }
    Counter::UploadsClosed.raise(connection, last)?;
    Ok(last < given)
}
