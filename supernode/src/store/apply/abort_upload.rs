//! Commits that an open upload will never be published (P4: only after this may a client report failure).

use common::ids::UploadId;
use common::lifecycle::Session as State;
use proto::names_log::v1 as log;

use super::{At, Stop, open_upload};
use crate::core::permission::{Ask, check};
use crate::core::refusal::Refusal;
use crate::store::session::{self, End};
use crate::store::user;

pub(super) fn apply(at: At<'_>, command: &log::AbortUpload) -> Result<log::UploadState, Stop> {
    let caller = user::caller(at.tables, command.caller)?.caller();
    let id = UploadId::new(command.upload_id);
    let found = session::by_id(at.tables, id)?;
    let ask = Ask::Upload {
        id,
        owner: found.as_ref().map(|session| session.user),
    };
    check(caller, ask)?;
    let mut session = found.ok_or_else(|| Refusal::no_upload(id))?;
    if session.state == State::Open {
        let end = End::Aborted { recorded: false };
        session::end(at.tables, &session, &end, at.now)?;
        session.state = State::Aborted;
    }
    open_upload::reply(at, &session)
}
