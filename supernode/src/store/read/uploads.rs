//! How an upload stands, and which sessions the leader may forget.

use common::ids::UploadId;
use common::lifecycle::Session as State;
use common::time::ClusterTime;
use rusqlite::Connection;

use super::entry::{Entry, file_of_version};
use crate::core::permission::{Ask, Caller, check};
use crate::core::refusal::Refusal;
use crate::store::apply::{Stop, may_be_forgotten};
use crate::store::number::{number, sql};
use crate::store::session::{self, Session};

/// A session, and what its path shows where it was published and not yet released.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    /// The row.
    pub(crate) session: Session,
    /// Where the version still has a row.
    pub(crate) entry: Option<Entry>,
}

/// The upload, where `caller` opened it or administers.
///
/// # Errors
/// `NotFound` otherwise, whether it is somebody else's or nobody's.
pub(crate) fn get(connection: &Connection, caller: Caller, id: UploadId) -> Result<Upload, Stop> {
    let found = session::by_id(connection, id)?;
    let ask = Ask::Upload {
        id,
        owner: found.as_ref().map(|session| session.user),
    };
    check(caller, ask)?;
    let session = found.ok_or_else(|| Refusal::no_upload(id))?;
    let entry = match session.state {
        State::Published => {
            file_of_version(connection, id.version())?.map(|file| Entry::of_file(session.path.clone(), file))
        }
        State::Open | State::Refused | State::Aborted => None,
    };
    Ok(Upload { session, entry })
}

/// Sessions that nobody could need if keys born before `refused_before` were refused, those that ended first, at most
/// `limit`; whatever else is kept.
pub(crate) fn forgettable(
    connection: &Connection,
    refused_before: ClusterTime,
    limit: u32,
) -> rusqlite::Result<Vec<UploadId>> {
    let mut kept = Vec::new();
    for id in session::settled_before(connection, refused_before, limit)? {
        let session = session::by_id(connection, id)?;
        if session.is_some_and(|session| may_be_forgotten(&session, refused_before)) {
            kept.push(id);
        }
    }
    Ok(kept)
}

/// How many sessions are open, counted up to `limit`.
pub(crate) fn open_count(connection: &Connection, limit: u64) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT count(*) FROM (SELECT 1 FROM uploads WHERE state = 1 LIMIT ?1)")?
        .query_row([sql(limit)], |row| number(row, 0))
}
