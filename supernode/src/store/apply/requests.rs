//! Requests that are no uploads, applied once per key (P4): the first reply is kept and given again.

use common::time::ClusterTime;
use prost::Message;
use proto::names_log::v1 as log;
use rusqlite::{Connection, OptionalExtension, params};

use super::{At, Reply, Stop, key, millis, reply};
use crate::core::dedupe;
use crate::store::number::sql;

/// Runs `work` unless it ran before under the same key. A key outside its window is refused, never applied.
pub(super) fn apply_once(
    at: At<'_>,
    asked: &log::Dedupe,
    work: impl FnOnce() -> Result<Reply, Stop>,
) -> rusqlite::Result<log::Reply> {
    let key = match key(&asked.key) {
        Ok(key) => key,
        Err(refusal) => return reply(Err(refusal.into())),
    };
    if let Some(kept) = find(at.tables, asked.user_id, key.bytes())? {
        return Ok(log::Reply::decode(kept.as_slice()).unwrap_or_default());
    }
    let born = ClusterTime::from_millis(asked.key_born_millis);
    if let Err(refusal) = dedupe::admit(born, at.now, millis(asked.window_millis)) {
        return reply(Err(refusal.into()));
    }
    let given = reply(work())?;
    at.tables
        .prepare_cached(
            "INSERT INTO requests (user_id, idempotency_key, reply, made_millis) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            sql(asked.user_id),
            key.bytes(),
            given.encode_to_vec(),
            sql(at.now.as_millis())
        ])?;
    Ok(given)
}

fn find(tables: &Connection, user: u64, key: &[u8]) -> rusqlite::Result<Option<Vec<u8>>> {
    tables
        .prepare_cached("SELECT reply FROM requests WHERE user_id = ?1 AND idempotency_key = ?2")?
        .query_row(params![sql(user), key], |row| row.get(0))
        .optional()
}

/// Forgets replies given before `before`, at most `limit`; how many there were.
pub(super) fn forget(tables: &Connection, before: ClusterTime, limit: u32) -> rusqlite::Result<usize> {
    tables
        .prepare_cached(
            "DELETE FROM requests WHERE request_id IN
             (SELECT request_id FROM requests ORDER BY request_id LIMIT ?2) AND made_millis < ?1",
        )?
        .execute(params![sql(before.as_millis()), limit])
}

/// Whether the oldest reply may be forgotten at `now`.
pub(crate) fn replies_older_than(
    tables: &Connection,
    now: ClusterTime,
    window: std::time::Duration,
) -> rusqlite::Result<bool> {
    let oldest = tables
        .prepare_cached("SELECT made_millis FROM requests ORDER BY request_id LIMIT 1")?
        .query_row([], |row| crate::store::number::number(row, 0))
        .optional()?;
    Ok(oldest.is_some_and(|made| now > ClusterTime::from_millis(made) + dedupe::keep_for(window)))
}
