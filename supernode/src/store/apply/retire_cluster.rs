//! Sets a cluster aside that is lost for good, and lets go in bounded steps of what waits for it (P8).
//!
//! What the cluster has not recorded is taken as recorded: it is fenced from now on, so that nobody can ask again.

use proto::names_log::v1 as log;

use super::{At, Stop};
use crate::core::permission::{Ask, check};
use crate::core::refusal::Refusal;
use crate::store::{cluster, session, user};

/// The most rows that one step touches.
const ROWS_PER_COMMAND_MAX: u32 = 1000;

pub(super) fn apply(at: At<'_>, command: &log::RetireCluster) -> Result<log::Done, Stop> {
    let caller = user::caller(at.tables, command.caller)?.caller();
    check(caller, Ask::Administer("retire clusters"))?;
    let found = cluster::by_name(at.tables, &command.name)?;
    let found = found.ok_or_else(|| Refusal::no_cluster(&command.name))?;
    cluster::retire(at.tables, found.number)?;
    Ok(log::Done {})
}

pub(super) fn settle(at: At<'_>, command: &log::SettleRetired) -> Result<log::Worked, Stop> {
    let limit = command.limit.clamp(1, ROWS_PER_COMMAND_MAX);
    let mut left = limit;
    for retired in cluster::all(at.tables)?
        .into_iter()
        .filter(|cluster| cluster.retired)
    {
        let recorded = retired.releases_recorded;
        let releases = cluster::releases_waiting(at.tables, retired.number, recorded, left)?;
        if let Some((last, _)) = releases.last() {
            cluster::releases_recorded(at.tables, retired.number, *last)?;
        }
        left = left.saturating_sub(u32::try_from(releases.len()).unwrap_or(u32::MAX));
        let aborted = session::aborted_unrecorded(at.tables, retired.number, left)?;
        for id in &aborted {
            session::set_recorded(at.tables, *id)?;
        }
        left = left.saturating_sub(u32::try_from(aborted.len()).unwrap_or(u32::MAX));
        if left == 0 {
            break;
        }
    }
    Ok(log::Worked {
        count: u64::from(limit - left),
        more: left == 0,
        bytes: 0,
    })
}
