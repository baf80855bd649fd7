//! The commands of the names log, one file each, and the dispatch to them.
//!
//! Invariant: applying is all or nothing. A command judges first (reading, and returning [`Stop::Refused`]) and writes
//! after; what SQLite refuses ends the member, because its state can no longer be trusted to equal the others'.
//!
//! | command | file | moves |
//! |---|---|---|
//! | CreateUser, SetPassword, SetUserEnabled | `create_user` `set_password` `set_user_enabled` | |
//! | OpenUpload | `open_upload` | -> session open |
//! | CloseUploads, ReserveUploads, RecordUploads | `opening` | -> session open |
//! | AbortUpload, AbandonedUploads, ExpireSessions | `abort_upload` `abandoned_uploads` `expire_sessions` | session.aborted |
//! | Publish | `publish` | session.published, session.refused, version.published, version.trashed |
//! | Forget | `forget` | rows that no key can find any more |
//! | MakeDirectory, Rename, Delete | `make_directory` `rename` `delete` | version.trashed |
//! | ExpireTrash | `expire_trash` | version.released |
//! | RestoreTrash, EmptyTrash | `restore_trash` `empty_trash` | version.restored |
//! | ReleasesRecorded, RegisterCluster, RotateSigningKey | the same | |
//! | RetireCluster, SettleRetired | `retire_cluster` | |

use common::ids::{ClusterId, IdempotencyKey, UserId};
use common::path::RemotePath;
use common::time::ClusterTime;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;
use proto::names_log::v1::reply::Body as Reply;
use rusqlite::Connection;
use std::time::Duration;

use super::below::PATH_DEPTH_MAX;
use super::schema::unreadable;
use crate::core::refusal::Refusal;

mod abandoned_uploads;
mod abort_upload;
mod create_user;
mod delete;
mod empty_trash;
mod expire_sessions;
mod expire_trash;
mod forget;
mod make_directory;
mod numbers;
mod open_upload;
mod opening;
mod publish;
mod register_cluster;
mod releases_recorded;
mod rename;
mod requests;
mod restore_trash;
mod retire_cluster;
mod rotate_signing_key;
mod set_password;
mod set_user_enabled;

pub(crate) use forget::may_go as may_be_forgotten;
pub(crate) use open_upload::foresee as foresee_upload;
pub(crate) use requests::{keys_refused_before, replies_before};

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

/// Why a command did not do what it says.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It was judged, and nothing changed.
    Refused(Refusal),
    /// SQLite failed: the member must stop.
    Sql(rusqlite::Error),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// Where and when a command is applied.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    /// The transaction of the batch.
    pub(crate) tables: &'a Connection,
    /// The names group's time, the same on every member.
    pub(crate) now: ClusterTime,
}

/// Applies `command`.
///
/// # Errors
/// SQLite failed, or the command is of a newer build: the member must stop.
pub(crate) fn apply(at: At<'_>, command: log::Command) -> rusqlite::Result<log::Reply> {
    if let Err(refusal) = numbers::check(&command) {
        return reply(Err(refusal.into()));
    }
    let Some(body) = command.body else {
        return Err(unreadable(
            "a command of a newer build is in the names log: upgrade this member".to_owned(),
        ));
    };
    let outcome = match command.dedupe {
        None => dispatch(at, body),
        Some(dedupe) => return requests::apply_once(at, &dedupe, || dispatch(at, body)),
    };
    reply(outcome)
}

fn reply(outcome: Result<Reply, Stop>) -> rusqlite::Result<log::Reply> {
    match outcome {
        Ok(body) => Ok(log::Reply {
            refusal: None,
            body: Some(body),
        }),
        Err(Stop::Refused(refusal)) => Ok(log::Reply {
            refusal: Some(encode_refusal(&refusal)),
            body: None,
        }),
        Err(Stop::Sql(error)) => Err(error),
    }
}

fn dispatch(at: At<'_>, body: Command) -> Result<Reply, Stop> {
    Ok(match body {
        Command::CreateUser(command) => Reply::UserMade(create_user::apply(at, &command)?),
        Command::SetPassword(command) => Reply::Done(set_password::apply(at, &command)?),
        Command::SetUserEnabled(command) => Reply::Done(set_user_enabled::apply(at, &command)?),
        Command::OpenUpload(command) => Reply::Upload(open_upload::apply(at, command)?),
        Command::AbortUpload(command) => Reply::Upload(abort_upload::apply(at, &command)?),
        Command::Publish(command) => Reply::Outcomes(publish::apply(at, &command)?),
        Command::AbandonedUploads(command) => Reply::Recorded(abandoned_uploads::apply(at, command)?),
        Command::ExpireSessions(command) => Reply::Worked(expire_sessions::apply(at, &command)?),
        Command::CloseUploads(log::CloseUploads {}) => Reply::Worked(opening::close(at)?),
        Command::ReserveUploads(command) => Reply::Reserved(opening::reserve(at, &command)?),
        Command::RecordUploads(command) => Reply::Done(opening::record(at, &command)?),
        Command::Forget(command) => Reply::Worked(forget::apply(at, &command)?),
        Command::MakeDirectory(command) => Reply::Done(make_directory::apply(at, command)?),
        Command::Rename(command) => Reply::Done(rename::apply(at, &command)?),
        Command::Delete(command) => Reply::Done(delete::apply(at, &command)?),
        Command::ExpireTrash(command) => Reply::Worked(expire_trash::apply(at, &command)?),
        Command::RestoreTrash(command) => Reply::Restored(restore_trash::apply(at, &command)?),
        Command::EmptyTrash(command) => Reply::Worked(empty_trash::apply(at, &command)?),
        Command::ReleasesRecorded(command) => Reply::Done(releases_recorded::apply(at, &command)?),
        Command::RegisterCluster(command) => Reply::Done(register_cluster::apply(at, command)?),
        Command::RetireCluster(command) => Reply::Done(retire_cluster::apply(at, &command)?),
        Command::SettleRetired(command) => Reply::Worked(retire_cluster::settle(at, &command)?),
        Command::RotateSigningKey(command) => Reply::KeyMade(rotate_signing_key::apply(at, command)?),
    })
}

/// A refusal as the log's reply carries it.
pub(crate) fn encode_refusal(refusal: &Refusal) -> log::Refusal {
    log::Refusal {
        kind: refusal.kind().code(),
        code: refusal.code().to_owned(),
        message: refusal.message().to_owned(),
        hint: refusal.hint_text().to_owned(),
    }
}

/// The inverse of [`encode_refusal`].
pub(crate) fn decode_refusal(refusal: log::Refusal) -> Refusal {
    let kind = common::error::Kind::from_code(refusal.kind);
    Refusal::new(kind, &refusal.code, refusal.message).hint(refusal.hint)
}

fn path(text: &str) -> Result<RemotePath, Refusal> {
    let path: RemotePath = text
        .parse()
        .map_err(|error: common::path::Error| Refusal::invalid("E_PATH", error.to_string()))?;
    let depth = path.components().count();
    if depth > PATH_DEPTH_MAX {
        return Err(Refusal::invalid(
            "E_PATH",
            format!("the path has {depth} components; at most {PATH_DEPTH_MAX} are allowed"),
        ));
    }
    Ok(path)
}

fn cluster_id(bytes: &[u8]) -> Result<ClusterId, Refusal> {
    ClusterId::try_from(bytes).map_err(|error| Refusal::invalid("E_CLUSTER_ID", error.to_string()))
}

fn key(bytes: &[u8]) -> Result<IdempotencyKey, Refusal> {
    IdempotencyKey::try_from(bytes).map_err(|error| Refusal::invalid("E_KEY", error.to_string()))
}

const fn user_id(number: u64) -> UserId {
    UserId::new(number)
}

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}
