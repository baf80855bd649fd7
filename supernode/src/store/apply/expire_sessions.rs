//! Aborts open sessions which nobody has asked about for too long (P8). A client that is still at work asks for a fresh
//! ticket long before that, and each time it does the session counts as touched.

use common::time::ClusterTime;
use proto::names_log::v1 as log;

use super::{At, Stop};
use crate::store::session::{self, End};

/// The most sessions that one command ends.
const SESSIONS_PER_COMMAND_MAX: u32 = 1000;

pub(super) fn apply(at: At<'_>, command: &log::ExpireSessions) -> Result<log::Worked, Stop> {
    let limit = command.limit.clamp(1, SESSIONS_PER_COMMAND_MAX);
    let since = at.now.as_millis().saturating_sub(command.idle_millis);
    let idle = session::idle(at.tables, ClusterTime::from_millis(since), limit)?;
    let mut count = 0;
    for id in &idle {
        if let Some(session) = session::by_id(at.tables, *id)? {
            let end = End::Aborted { recorded: false };
            session::end(at.tables, &session, &end, at.now)?;
            count += 1;
        }
    }
    Ok(log::Worked {
        count,
        more: idle.len() as u64 >= u64::from(limit),
        bytes: 0,
    })
}
