//! Requests that are no uploads, applied once per key (P4): the first reply is kept, and given again to the same command.

use common::time::ClusterTime;
use prost::Message;
use proto::names_log::v1 as log;
use rusqlite::{Connection, OptionalExtension, params};

use super::{At, Reply, Stop, key, reply};
use crate::core::dedupe;
use crate::core::refusal::Refusal;
use crate::store::counter::Counter;
use crate::store::number::{decode, sql};
use crate::store::schema::unreadable;

/// Runs `work` unless it ran before under the same key. A key that no longer counts is refused, never applied.
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
        if kept.command_digest != asked.command_digest.as_ref() {
            return reply(Err(Refusal::key_reused().into()));
        }
        return Ok(kept.reply);
    }
    let born = ClusterTime::from_millis(asked.key_born_millis);
    if let Err(refusal) = dedupe::admit(born, at.now, keys_refused_before(at.tables)?) {
        return reply(Err(refusal.into()));
    }
    let given = reply(work())?;
    at.tables
        .prepare_cached(
            "INSERT INTO requests (user_id, idempotency_key, command_digest, reply, latest_millis)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            sql(asked.user_id),
            key.bytes(),
            asked.command_digest.as_ref(),
            given.encode_to_vec(),
            sql(born.max(at.now).as_millis())
        ])?;
    Ok(given)
}

/// Keys born before this are refused.
pub(crate) fn keys_refused_before(tables: &Connection) -> rusqlite::Result<ClusterTime> {
    Counter::KeysRefusedBefore
        .last(tables)
        .map(ClusterTime::from_millis)
}

pub(super) struct Kept {
    command_digest: Vec<u8>,
    reply: log::Reply,
}

pub(super) fn find(tables: &Connection, user: u64, key: &[u8]) -> rusqlite::Result<Option<Kept>> {
    tables
        .prepare_cached(
            "SELECT command_digest, reply FROM requests WHERE user_id = ?1 AND idempotency_key = ?2",
        )?
        .query_row(params![sql(user), key], |row| {
            let reply: log::Reply = decode(row, 1)?;
            if reply.body.is_none() && reply.refusal.is_none() {
                return Err(unreadable("a kept reply says nothing".to_owned()));
            }
            Ok(Kept {
                command_digest: row.get(0)?,
                reply,
            })
        })
        .optional()
}

/// Forgets replies that only keys born before `refused_before` can ask for, at most `limit`; how many there were.
pub(super) fn forget(
    tables: &Connection,
    refused_before: ClusterTime,
    limit: u32,
) -> rusqlite::Result<usize> {
    tables
        .prepare_cached(
            "DELETE FROM requests WHERE request_id IN
             (SELECT request_id FROM requests WHERE latest_millis < ?1 ORDER BY latest_millis, request_id LIMIT ?2)",
        )?
        .execute(params![sql(refused_before.as_millis()), limit])
}

/// Whether a reply could be forgotten if keys born before `refused_before` were refused.
pub(crate) fn replies_before(tables: &Connection, refused_before: ClusterTime) -> rusqlite::Result<bool> {
    tables
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM requests WHERE latest_millis < ?1)")?
        .query_row([sql(refused_before.as_millis())], |row| row.get(0))
}
