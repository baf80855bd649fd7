//! Uploads: open -> sealed, or open -> abandoned, on one row that only applied commands move.
//!
//! Invariant: an upload's number comes from a committed counter before any attempt is planned for it: leaders reserve
//! numbers in blocks. The row is made when the upload is opened by a command or, if that did not happen, by its seal, in
//! the leadership that gave out the number. So a number at or below the counter whose row is gone or abandoned is known
//! dead (P6, P8), unless that leadership still knows it to be open ([`crate::cluster::open_uploads`]).

use common::ids::{UploadId, UploadNumber};
use common::lifecycle::{Upload, UploadEvent};
use common::time::ClusterTime;
use proto::cluster_log::v1 as wire;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::apply::Moment;
use super::counters::Counter;
use super::schema::{corrupt, number, to_sql};

/// An upload as the log knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UploadRow {
    /// The cluster's number for it.
    pub number: UploadNumber,
    /// The names layer's id.
    pub upload: UploadId,
    /// Where it stands.
    pub state: Upload,
    /// Length of every chunk but the last.
    pub chunk_bytes: u64,
    /// When its client was last heard from, as far as committed.
    pub heard: ClusterTime,
}

/// The effect of `OpenUpload`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opened {
    /// Open, now or before.
    Open(UploadRow),
    /// It has ended.
    Ended(UploadRow),
    /// The limit of open uploads is reached.
    TooMany,
    /// It has no row and is not above what was forgotten: it may have ended.
    Forgotten,
}

const COLUMNS: &str = "number, upload_id, state, chunk_bytes, heard_millis";

fn decode(row: &Row<'_>) -> rusqlite::Result<UploadRow> {
    Ok(UploadRow {
        number: UploadNumber::new(number(row, 0)?),
        upload: UploadId::new(number(row, 1)?),
        state: Upload::from_code(row.get(2)?).map_err(corrupt)?,
        chunk_bytes: number(row, 3)?,
        heard: ClusterTime::from_millis(number(row, 4)?),
    })
}

/// The upload with this id.
pub fn find(connection: &Connection, upload: UploadId) -> rusqlite::Result<Option<UploadRow>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM uploads WHERE upload_id = ?1"))?
        .query_row([to_sql(upload.get())], decode)
        .optional()
}

/// The upload with this number.
pub fn find_number(connection: &Connection, number: UploadNumber) -> rusqlite::Result<Option<UploadRow>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM uploads WHERE number = ?1"))?
        .query_row([to_sql(number.get())], decode)
        .optional()
}

/// The highest upload that has a row, or had one.
pub fn highest(connection: &Connection) -> rusqlite::Result<UploadId> {
    let known = connection
        .prepare_cached("SELECT coalesce(max(upload_id), 0) FROM uploads")?
        .query_row([], upload_id)?;
    Ok(known.max(forgotten(connection)?))
}

/// Uploads up to this one that have no row may have ended and been forgotten (P4): the names layer counts them up, and
/// gave out each of them before the latest forgotten one ended.
pub fn forgotten(connection: &Connection) -> rusqlite::Result<UploadId> {
    Counter::UploadsForgotten.get(connection).map(UploadId::new)
}

/// When the upload with this number came to own nothing any more; `None` while it does, or if it is not known.
pub fn ended(connection: &Connection, upload: UploadNumber) -> rusqlite::Result<Option<ClusterTime>> {
    connection
        .prepare_cached("SELECT ended_millis FROM uploads WHERE number = ?1 AND ended_millis IS NOT NULL")?
        .query_row([to_sql(upload.get())], |row| {
            Ok(ClusterTime::from_millis(number(row, 0)?))
        })
        .optional()
}

/// Open uploads not heard from since `before`, the most silent first.
pub fn silent(connection: &Connection, before: ClusterTime, limit: u32) -> rusqlite::Result<Vec<UploadId>> {
    connection
        .prepare_cached(
            "SELECT upload_id FROM uploads WHERE state = 1 AND heard_millis <= ?1
             ORDER BY heard_millis, number LIMIT ?2",
        )?
        .query_map(params![to_sql(before.as_millis()), limit], upload_id)?
        .collect()
}

/// What holds for an upload of whose end the names layer knows.
const REPORTED: &str = "NOT EXISTS (SELECT 1 FROM abandons_unreported a WHERE a.upload_id = uploads.upload_id) \
     AND NOT EXISTS (SELECT 1 FROM outcomes_unreported o WHERE o.version = uploads.upload_id)";

/// Uploads that ended before `time` and can be forgotten, the longest ended first.
pub fn ended_before(
    connection: &Connection,
    time: ClusterTime,
    limit: u32,
) -> rusqlite::Result<Vec<UploadId>> {
    connection
        .prepare_cached(&format!(
            "SELECT upload_id FROM uploads WHERE ended_millis IS NOT NULL AND ended_millis <= ?1 AND {REPORTED}
             ORDER BY ended_millis LIMIT ?2"
        ))?
        .query_map(params![to_sql(time.as_millis()), limit], upload_id)?
        .collect()
}

/// Uploads abandoned here of which the names layer may not know, in order.
pub fn abandons_unreported(connection: &Connection, limit: u32) -> rusqlite::Result<Vec<UploadId>> {
    connection
        .prepare_cached("SELECT upload_id FROM abandons_unreported ORDER BY upload_id LIMIT ?1")?
        .query_map([limit], upload_id)?
        .collect()
}

fn upload_id(row: &Row<'_>) -> rusqlite::Result<UploadId> {
    Ok(UploadId::new(number(row, 0)?))
}

pub(super) fn open(
    transaction: &Transaction<'_>,
    at: Moment,
    command: &wire::OpenUpload,
) -> rusqlite::Result<Opened> {
    let upload = UploadId::new(command.upload_id);
    if let Some(row) = find(transaction, upload)? {
        let open = row.state.may_be_written();
        return Ok(if open {
            Opened::Open(row)
        } else {
            Opened::Ended(row)
        });
    }
    if upload <= forgotten(transaction)? {
        return Ok(Opened::Forgotten);
    }
    if Counter::UploadsOpen.get(transaction)? >= command.open_max {
        return Ok(Opened::TooMany);
    }
    Counter::UploadsOpen.next(transaction)?;
    let number = match command.upload_number.map(UploadNumber::new) {
        Some(given) if is_reserved(transaction, given)? => given,
        Some(_) | None => next_number(transaction)?,
    };
    insert(transaction, at, number, upload, Upload::Open, command.chunk_bytes).map(Opened::Open)
}

/// Sets `count` numbers aside; the first and the last of them.
pub(super) fn reserve(transaction: &Transaction<'_>, count: u32) -> rusqlite::Result<(u64, u64)> {
    let count = count.max(1);
    let last = Counter::UploadNumber.add(transaction, count.into())?;
    Ok((last - u64::from(count) + 1, last))
}

/// Whether `number` was reserved and belongs to no row.
pub(super) fn is_reserved(connection: &Connection, number: UploadNumber) -> rusqlite::Result<bool> {
    Ok(number.get() != 0
        && number.get() <= Counter::UploadNumber.get(connection)?
        && find_number(connection, number)?.is_none())
}

fn next_number(transaction: &Transaction<'_>) -> rusqlite::Result<UploadNumber> {
    Counter::UploadNumber.next(transaction).map(UploadNumber::new)
}

/// Makes the row of an upload in `state`; one that is not open has ended, unless it was sealed.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    at: Moment,
    number: UploadNumber,
    upload: UploadId,
    state: Upload,
    chunk_bytes: u64,
) -> rusqlite::Result<UploadRow> {
    let row = UploadRow {
        number,
        upload,
        state,
        chunk_bytes,
        heard: at.now,
    };
    let now = to_sql(at.now.as_millis());
    transaction
        .prepare_cached(
            "INSERT INTO uploads (number, upload_id, state, chunk_bytes, heard_millis, ended_millis)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            to_sql(row.number.get()),
            to_sql(upload.get()),
            state.code(),
            to_sql(chunk_bytes),
            now,
            (state == Upload::Abandoned).then_some(now),
        ])?;
    Ok(row)
}

pub(super) fn touch(
    transaction: &Transaction<'_>,
    at: Moment,
    command: &wire::TouchUploads,
) -> rusqlite::Result<()> {
    let mut update = transaction
        .prepare_cached("UPDATE uploads SET heard_millis = ?1 WHERE upload_id = ?2 AND state = 1")?;
    for upload in &command.upload_ids {
        update.execute(params![to_sql(at.now.as_millis()), to_sql(*upload)])?;
    }
    Ok(())
}

/// Abandons what is still open, and answers where each now stands.
pub(super) fn abandon(
    transaction: &Transaction<'_>,
    at: Moment,
    command: &wire::AbandonUploads,
) -> rusqlite::Result<Vec<(UploadId, Upload)>> {
    let silent_since = command.silent_since_millis.map(ClusterTime::from_millis);
    let mut states = Vec::with_capacity(command.upload_ids.len());
    for upload in command.upload_ids.iter().copied().map(UploadId::new) {
        let state = match find(transaction, upload)? {
            None => {
                let number = next_number(transaction)?;
                insert(transaction, at, number, upload, Upload::Abandoned, 0)?.state
            }
            Some(row) if silent_since.is_some_and(|since| row.heard > since) => row.state,
            Some(row) => match row.state.next(UploadEvent::Abandon) {
                Ok(next) => {
                    move_to(transaction, row.number, next, Some(at.now))?;
                    Counter::UploadsOpen.add(transaction, -1)?;
                    next
                }
                Err(_) => row.state,
            },
        };
        if state == Upload::Abandoned {
            transaction
                .prepare_cached("INSERT OR IGNORE INTO abandons_unreported (upload_id) VALUES (?1)")?
                .execute([to_sql(upload.get())])?;
        }
        states.push((upload, state));
    }
    Ok(states)
}

pub(super) fn reported(
    transaction: &Transaction<'_>,
    command: &wire::AbandonsReported,
) -> rusqlite::Result<()> {
    let mut delete = transaction.prepare_cached("DELETE FROM abandons_unreported WHERE upload_id = ?1")?;
    for upload in &command.upload_ids {
        delete.execute([to_sql(*upload)])?;
    }
    Ok(())
}

/// Moves an upload's row; `ended` is when it came to own nothing any more.
pub(super) fn move_to(
    transaction: &Transaction<'_>,
    number: UploadNumber,
    state: Upload,
    ended: Option<ClusterTime>,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE uploads SET state = ?1, ended_millis = ?2 WHERE number = ?3")?
        .execute(params![
            state.code(),
            ended.map(|time| to_sql(time.as_millis())),
            to_sql(number.get())
        ])?;
    Ok(())
}

/// Forgets uploads that ended long ago, with their versions' rows; those the names layer still has to hear of stay.
pub(super) fn forget(transaction: &Transaction<'_>, command: &wire::ForgetUploads) -> rusqlite::Result<u32> {
    let (mut forgotten, mut highest) = (0, Counter::UploadsForgotten.get(transaction)?);
    for upload in &command.upload_ids {
        let number: Option<i64> = transaction
            .prepare_cached(&format!(
                "SELECT number FROM uploads WHERE upload_id = ?1 AND ended_millis IS NOT NULL AND ended_millis <= ?2
                 AND {REPORTED}"
            ))?
            .query_row(
                params![to_sql(*upload), to_sql(command.ended_before_millis)],
                |row| row.get(0),
            )
            .optional()?;
        let Some(number) = number else {
            continue;
        };
        transaction
            .prepare_cached("DELETE FROM uploads WHERE number = ?1")?
            .execute([number])?;
        transaction
            .prepare_cached("DELETE FROM versions WHERE version = ?1 AND state = 6")?
            .execute([to_sql(*upload)])?;
        highest = highest.max(*upload);
        forgotten += 1;
    }
    Counter::UploadsForgotten.set(transaction, highest)?;
    Ok(forgotten)
}
