//! Commits that an open upload will never be published (P4: only after this may a client report failure). So a token that
//! is no longer good still ends its own user's uploads: otherwise a user who is disabled could not learn that they failed.

use common::ids::UploadId;
use common::lifecycle::Session as State;
use proto::names_log::v1 as log;

use super::opening::{self, Found};
use super::{At, Stop, open_upload};
use crate::core::permission::{Ask, check};
use crate::core::refusal::Refusal;
use crate::store::session::{self, End};
use crate::store::user;

pub(super) fn apply(at: At<'_>, command: &log::AbortUpload) -> Result<log::UploadState, Stop> {
    let caller = user::holder(at.tables, command.caller.unwrap_or_default())?;
    let id = UploadId::new(command.upload_id);
    let (found, has_row) = match opening::find(at, id, command.opening.as_ref())? {
        Found::Recorded(session) => (Some(session), true),
        Found::Unrecorded(session) => (Some(session), false),
        Found::KeyTaken | Found::Lost | Found::Nothing => (None, false),
    };
    let ask = Ask::Upload {
        id,
        owner: found.as_ref().map(|session| session.user),
    };
    check(caller, ask)?;
    let mut session = found.ok_or_else(|| Refusal::no_upload(id))?;
    if session.state == State::Open {
        let end = End::Aborted { recorded: false };
        match has_row {
            true => session::end(at.tables, &session, &end, at.now)?,
            false => session::insert_ended(at.tables, &session, &end, at.now)?,
        }
        session.state = State::Aborted;
    }
    open_upload::reply(at, &session)
}
