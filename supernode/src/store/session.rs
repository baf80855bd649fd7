//! Rows of upload sessions.
//!
//! Invariant: a session moves only along `common::lifecycle::Session`, and whoever ends it frees its reservation and its
//! place among the user's open sessions in the same command ([`end`]).

use common::ids::{ClusterId, Generation, IdempotencyKey, UploadId, UserId, VersionId};
use common::lifecycle::{Session as State, SessionEvent};
use common::time::ClusterTime;
use prost::Message;
use proto::names_log::v1 as log;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::cluster::ClusterNumber;
use super::number::{amount, decode, flag, number, number_or_none, sql};
use super::schema::unreadable;
use super::user;
use crate::core::publication::Condition;
use crate::core::refusal::Refusal;

/// The longest sentence about a refusal that is kept, in bytes.
const REFUSED_MESSAGE_BYTES_MAX: usize = 512;

/// An upload session.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// Which; also the number of the version it makes.
    pub(crate) id: UploadId,
    /// Open, published, refused or aborted.
    pub(crate) state: State,
    /// Who opened it.
    pub(crate) user: UserId,
    /// Chosen by the client.
    pub(crate) key: IdempotencyKey,
    /// When, in names time, as the client says.
    pub(crate) key_born: ClusterTime,
    /// Of what the client asked for under the key.
    pub(crate) command_digest: Vec<u8>,
    /// Where the bytes go.
    pub(crate) cluster: ClusterNumber,
    /// The cluster's, when the session was opened.
    pub(crate) generation: Generation,
    /// Where the version will be visible.
    pub(crate) path: String,
    /// Owner of the bucket.
    pub(crate) charged_to: UserId,
    /// Of their quota.
    pub(crate) reserved_bytes: u64,
    /// To be judged at publication.
    pub(crate) condition: Condition,
    /// Handed on to the version.
    pub(crate) metadata: log::MetadataList,
    /// Names time.
    pub(crate) opened: ClusterTime,
    /// When somebody last asked for it while it was open.
    pub(crate) touched: ClusterTime,
    /// Names time; meaningless while it is open.
    pub(crate) ended: ClusterTime,
    /// Whether the cluster's log knows the outcome.
    pub(crate) recorded: bool,
    /// Why it was refused.
    pub(crate) refused_code: String,
    /// In a sentence.
    pub(crate) refused_message: String,
}

const COLUMNS: &str = "upload_id, state, user_id, idempotency_key, cluster, generation, path, charged_to, \
                       reserved_bytes, if_absent, if_version, if_present, metadata, opened_millis, touched_millis, \
                       ended_millis, recorded, refused_code, refused_message, key_born_millis, command_digest";

impl Session {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let state = State::from_code(row.get(1)?).map_err(|error| unreadable(error.to_string()))?;
        Ok(Self {
            id: UploadId::new(number(row, 0)?),
            state,
            user: UserId::new(number(row, 2)?),
            key: IdempotencyKey::new(row.get(3)?),
            cluster: ClusterNumber::new(number(row, 4)?),
            generation: Generation::new(number(row, 5)?),
            path: row.get(6)?,
            charged_to: UserId::new(number(row, 7)?),
            reserved_bytes: number(row, 8)?,
            condition: Condition {
                if_absent: flag(row, 9)?,
                if_version: number_or_none(row, 10)?.map(VersionId::new),
                if_present: flag(row, 11)?,
            },
            metadata: decode(row, 12)?,
            opened: ClusterTime::from_millis(number(row, 13)?),
            touched: ClusterTime::from_millis(number(row, 14)?),
            ended: ClusterTime::from_millis(number(row, 15)?),
            recorded: flag(row, 16)?,
            refused_code: row.get(17)?,
            refused_message: row.get(18)?,
            key_born: ClusterTime::from_millis(number(row, 19)?),
            command_digest: row.get(20)?,
        })
    }

    /// The session as a command's reply shows it, with the `cluster_id` of its cluster and what the quota leaves for it.
    pub(crate) fn reply(&self, cluster_id: ClusterId, size_max: Option<u64>, made: bool) -> log::UploadState {
        log::UploadState {
            upload_id: self.id.get(),
            state: u32::from(self.state.code()),
            user_id: self.user.get(),
            cluster_id: cluster_id.bytes().to_vec().into(),
            generation: self.generation.get(),
            path: self.path.clone(),
            size_max,
            refused_code: self.refused_code.clone(),
            refused_message: self.refused_message.clone(),
            made,
        }
    }
}

/// The session with this id.
pub(crate) fn by_id(connection: &Connection, id: UploadId) -> rusqlite::Result<Option<Session>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM uploads WHERE upload_id = ?1"))?
        .query_row([sql(id.get())], Session::read)
        .optional()
}

/// The session which `user` opened with `key`.
pub(crate) fn by_key(
    connection: &Connection,
    user: UserId,
    key: IdempotencyKey,
) -> rusqlite::Result<Option<Session>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM uploads WHERE user_id = ?1 AND idempotency_key = ?2"
        ))?
        .query_row(params![sql(user.get()), key.bytes()], Session::read)
        .optional()
}

/// Makes the row of an open session, takes its reservation and its place among the user's open ones.
pub(crate) fn insert(connection: &Connection, session: &Session) -> rusqlite::Result<()> {
    insert_row(connection, session)?;
    let change = user::Change {
        reserved: amount(session.reserved_bytes)?,
        ..user::Change::default()
    };
    user::charge(connection, session.charged_to, change)?;
    user::count_open(connection, session.user, 1)
}

/// Makes the row of a session that had none while it was open, and so neither a reservation nor a place.
pub(crate) fn insert_ended(
    connection: &Connection,
    session: &Session,
    end: &End,
    now: ClusterTime,
) -> rusqlite::Result<()> {
    let ended = end.of(session, now)?;
    insert_row(connection, &ended)?;
    count_failed(connection, &ended, 1)
}

/// Counts a session that ended without a version, or forgets it.
fn count_failed(connection: &Connection, session: &Session, change: i64) -> rusqlite::Result<()> {
    match session.state {
        State::Refused | State::Aborted => user::count_failed(connection, session.user, change),
        State::Open | State::Published => Ok(()),
    }
}

fn shortened(message: &str) -> &str {
    message
        .get(..message.floor_char_boundary(REFUSED_MESSAGE_BYTES_MAX))
        .unwrap_or_default()
}

fn insert_row(connection: &Connection, session: &Session) -> rusqlite::Result<()> {
    connection
        .prepare_cached(&format!(
            "INSERT INTO uploads ({COLUMNS}) VALUES
             (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
             ?21)"
        ))?
        .execute(params![
            sql(session.id.get()),
            session.state.code(),
            sql(session.user.get()),
            session.key.bytes(),
            sql(session.cluster.get()),
            sql(session.generation.get()),
            session.path,
            sql(session.charged_to.get()),
            sql(session.reserved_bytes),
            session.condition.if_absent,
            session.condition.if_version.map(|version| sql(version.get())),
            session.condition.if_present,
            session.metadata.encode_to_vec(),
            sql(session.opened.as_millis()),
            sql(session.touched.as_millis()),
            sql(session.ended.as_millis()),
            session.recorded,
            session.refused_code,
            session.refused_message,
            sql(session.key_born.as_millis()),
            session.command_digest,
        ])?;
    Ok(())
}

/// Notes that somebody still wants the session.
pub(crate) fn touch(connection: &Connection, id: UploadId, now: ClusterTime) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE uploads SET touched_millis = ?2 WHERE upload_id = ?1 AND state = 1")?
        .execute(params![sql(id.get()), sql(now.as_millis())])?;
    Ok(())
}

/// How a session ends.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// The path points at its version.
    Published,
    /// It may not be published.
    Refused(Refusal),
    /// Given up; `recorded` where the cluster's log knows that already.
    Aborted {
        /// Whether it does.
        recorded: bool,
    },
}

impl End {
    /// The session as it stands after this.
    fn of(&self, session: &Session, now: ClusterTime) -> rusqlite::Result<Session> {
        let (event, recorded, code, message) = match self {
            End::Published => (SessionEvent::Publish, false, "", ""),
            End::Refused(refusal) => (SessionEvent::Refuse, false, refusal.code(), refusal.message()),
            End::Aborted { recorded } => (SessionEvent::Abort, *recorded, "", ""),
        };
        let state = session.state.next(event);
        Ok(Session {
            state: state.map_err(|error| unreadable(error.to_string()))?,
            recorded,
            refused_code: code.to_owned(),
            ended: now,
            // Of what ended only the outcome is still asked for: the version has the metadata, if there is one.
            metadata: log::MetadataList::default(),
            refused_message: shortened(message).to_owned(),
            ..session.clone()
        })
    }
}

/// Ends an open session: its state, its reservation, its place among the user's open ones.
///
/// # Errors
/// SQLite failed, or the session has ended before: the caller has looked, so that this is no passing matter.
pub(crate) fn end(
    connection: &Connection,
    session: &Session,
    end: &End,
    now: ClusterTime,
) -> rusqlite::Result<()> {
    let ended = end.of(session, now)?;
    connection
        .prepare_cached(
            "UPDATE uploads SET state = ?2, recorded = ?3, refused_code = ?4, refused_message = ?5, ended_millis = ?6,
             metadata = x'' WHERE upload_id = ?1",
        )?
        .execute(params![
            sql(ended.id.get()),
            ended.state.code(),
            ended.recorded,
            ended.refused_code,
            ended.refused_message,
            sql(ended.ended.as_millis())
        ])?;
    let change = user::Change {
        reserved: -amount(session.reserved_bytes)?,
        ..user::Change::default()
    };
    user::charge(connection, session.charged_to, change)?;
    count_failed(connection, &ended, 1)?;
    user::count_open(connection, session.user, -1)
}

/// Notes that the cluster's log knows how the session ended.
pub(crate) fn set_recorded(connection: &Connection, id: UploadId) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE uploads SET recorded = 1 WHERE upload_id = ?1 AND state != 1")?
        .execute([sql(id.get())])?;
    Ok(())
}

/// Open sessions which nobody touched since `since`, the longest untouched first, at most `limit`.
pub(crate) fn idle(
    connection: &Connection,
    since: ClusterTime,
    limit: u32,
) -> rusqlite::Result<Vec<UploadId>> {
    connection
        .prepare_cached(
            "SELECT upload_id FROM uploads WHERE state = 1 AND touched_millis < ?1
             ORDER BY touched_millis, upload_id LIMIT ?2",
        )?
        .query_map(params![sql(since.as_millis()), limit], |row| {
            Ok(UploadId::new(number(row, 0)?))
        })?
        .collect()
}

/// Sessions of `cluster` that were aborted here and that its log does not know of, at most `limit`.
pub(crate) fn aborted_unrecorded(
    connection: &Connection,
    cluster: ClusterNumber,
    limit: u32,
) -> rusqlite::Result<Vec<UploadId>> {
    connection
        .prepare_cached(
            "SELECT upload_id FROM uploads WHERE state = 4 AND recorded = 0 AND cluster = ?1
             ORDER BY upload_id LIMIT ?2",
        )?
        .query_map(params![sql(cluster.get()), limit], |row| {
            Ok(UploadId::new(number(row, 0)?))
        })?
        .collect()
}

/// Sessions that ended before `before` and whose outcomes their clusters have recorded, those that ended first, at most
/// `limit`.
pub(crate) fn settled_before(
    connection: &Connection,
    before: ClusterTime,
    limit: u32,
) -> rusqlite::Result<Vec<UploadId>> {
    connection
        .prepare_cached(
            "SELECT upload_id FROM uploads WHERE state != 1 AND recorded = 1 AND ended_millis < ?1
             ORDER BY ended_millis, upload_id LIMIT ?2",
        )?
        .query_map(params![sql(before.as_millis()), limit], |row| {
            Ok(UploadId::new(number(row, 0)?))
        })?
        .collect()
}

/// Removes the row of a session that ended.
pub(crate) fn remove(connection: &Connection, session: &Session) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM uploads WHERE upload_id = ?1")?
        .execute([sql(session.id.get())])?;
    count_failed(connection, session, -1)
}
