//! Sessions whose row is made by a command that comes after their opening, and what a leadership records of them.
//!
//! Invariant: a number has a row, is lost, or is known to the present leadership alone; one that is lost or has a row
//! stays so, whatever opening a late command brings along. The first command of a leadership is `CloseUploads`, so that
//! what its predecessors alone knew is lost by then (P4).

use common::ids::{Generation, UploadId, UserId};
use proto::names_log::v1 as log;

use super::{At, Stop, cluster_id, key, open_upload, path};
use crate::store::cluster;
use crate::store::counter::Counter;
use crate::store::session::{self, Session};
use crate::store::{bucket, lost, user};

/// The most numbers that one command sets aside or closes.
const NUMBERS_PER_COMMAND_MAX: u64 = 10_000;

/// What is known of a number.
pub(super) enum Found {
    /// It has a row.
    Recorded(Session),
    /// It has none, and the command brought along what it takes to make it.
    Unrecorded(Session),
    /// It has none, and its key has led to another session by now, or may have.
    KeyTaken,
    /// It is lost.
    Lost,
    /// It never was, or was forgotten.
    Nothing,
}

/// Finds a session, or makes it from `opening`. Writes nothing.
pub(super) fn find(at: At<'_>, id: UploadId, opening: Option<&log::Opening>) -> Result<Found, Stop> {
    if let Some(session) = session::by_id(at.tables, id)? {
        return Ok(Found::Recorded(session));
    }
    if lost::contains(at.tables, id)? {
        return Ok(Found::Lost);
    }
    let Some((opening, upload)) = opening
        .filter(|opening| opening.upload_id == id.get())
        .and_then(|opening| Some((opening, opening.upload.as_ref()?)))
    else {
        return Ok(Found::Nothing);
    };
    let user = UserId::new(upload.caller.unwrap_or_default().user_id);
    let key = key(&upload.idempotency_key)?;
    // What a key that no longer counts has led to may be forgotten.
    match open_upload::admit_key(at, upload) {
        Ok(()) => {}
        Err(Stop::Refused(_)) => return Ok(Found::KeyTaken),
        Err(stop) => return Err(stop),
    }
    if session::by_key(at.tables, user, key)?.is_some() {
        return Ok(Found::KeyTaken);
    }
    let Some(number) = cluster::number_of(at.tables, cluster_id(&upload.cluster_id)?)? else {
        return Ok(Found::Nothing);
    };
    let cluster = (number, Generation::new(opening.generation));
    let session = open_upload::new_session(at, id, user, key, cluster, upload);
    Ok(Found::Unrecorded(session))
}

/// A session that lasts gets its row, its reservation and its place.
pub(super) fn record(at: At<'_>, command: &log::RecordUploads) -> Result<log::Done, Stop> {
    for opening in &command.openings {
        let id = UploadId::new(opening.upload_id);
        match find(at, id, Some(opening))? {
            Found::Unrecorded(session) => {
                let reserved_bytes = opening.upload.as_ref().map_or(0, open_upload::reservation);
                let session = Session {
                    reserved_bytes,
                    charged_to: owner(at, &session)?,
                    ..session
                };
                session::insert(at.tables, &session)?;
            }
            Found::KeyTaken => lost::add(at.tables, id.get(), id.get())?,
            Found::Recorded(_) | Found::Lost | Found::Nothing => {}
        }
    }
    Ok(log::Done {})
}

/// Whose quota the session counts against: the owner of its bucket, and where there is none any more the user.
fn owner(at: At<'_>, session: &Session) -> Result<UserId, Stop> {
    let Some(user) = user::by_id(at.tables, session.user)? else {
        return Ok(session.user);
    };
    let bucket = path(&session.path)
        .map_err(Stop::from)
        .and_then(|path| bucket::of_path(at.tables, user.caller(), &path));
    match bucket {
        Ok(bucket) => Ok(bucket.owner),
        Err(Stop::Refused(_)) => Ok(session.user),
        Err(stop) => Err(stop),
    }
}

/// A leadership begins. Where many numbers are not closed it takes several commands.
pub(super) fn close(at: At<'_>) -> Result<log::Worked, Stop> {
    let more = lost::close(at.tables, NUMBERS_PER_COMMAND_MAX)?;
    Ok(log::Worked {
        count: 0,
        more,
        bytes: 0,
    })
}

/// Sets numbers aside.
pub(super) fn reserve(at: At<'_>, command: &log::ReserveUploads) -> Result<log::Reserved, Stop> {
    Counter::UploadsClosed.raise(at.tables, command.closed_up_to)?;
    let count = command.count.clamp(1, NUMBERS_PER_COMMAND_MAX);
    let last = Counter::Upload.advance(at.tables, count)?;
    Ok(log::Reserved {
        first: last - (count - 1),
        last,
    })
}
