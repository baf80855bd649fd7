//! Raises what is committed about keys that no longer count, and forgets sessions and replies which only such keys can
//! ask for (P4, P8).
//!
//! Invariant: a row goes only once the cluster's log has recorded the outcome, so that an answer is never made up from
//! the absence of a row. (Tempting: to answer "refused" for whatever is not known. It fails when the question is a late
//! copy of one whose version was published and has been released since; `tests/model` shows it.)

use common::ids::UploadId;
use common::lifecycle::Session as State;
use common::time::ClusterTime;
use proto::names_log::v1 as log;

use super::{At, Stop, requests};
use crate::core::dedupe;
use crate::store::counter::Counter;
use crate::store::session::{self, Session};

/// The most sessions, and the most replies, that one command forgets.
pub(crate) const ROWS_PER_COMMAND_MAX: u32 = 1000;

pub(super) fn apply(at: At<'_>, command: &log::Forget) -> Result<log::Worked, Stop> {
    let wanted = command.keys_refused_before_millis.min(at.now.as_millis());
    Counter::KeysRefusedBefore.raise(at.tables, wanted)?;
    let refused_before = requests::keys_refused_before(at.tables)?;
    Counter::UploadsClosed.raise(at.tables, command.closed_up_to)?;
    let closed = Counter::UploadsClosed.last(at.tables)?;
    let mut count = 0;
    for id in command.upload_ids.iter().take(ROWS_PER_COMMAND_MAX as usize) {
        let found = session::by_id(at.tables, UploadId::new(*id))?;
        // What is not closed would be taken for lost.
        if let Some(session) = found.filter(|session| *id <= closed && may_go(session, refused_before)) {
            session::remove(at.tables, &session)?;
            count += 1;
        }
    }
    let limit = command.keys_limit.min(ROWS_PER_COMMAND_MAX);
    let replies = requests::forget(at.tables, refused_before, limit)?;
    Ok(log::Worked {
        count: count + replies as u64,
        more: limit > 0 && replies as u64 >= u64::from(limit),
        bytes: 0,
    })
}

/// Whether nothing can need the row of `session` once keys born before `refused_before` are refused.
pub(crate) fn may_go(session: &Session, refused_before: ClusterTime) -> bool {
    let answered = session.state != State::Open && session.recorded;
    answered && dedupe::may_forget(session.key_born, session.ended, refused_before)
}
