//! Releases up to a sequence number are in the cluster's log: the outbox may forget them.

use common::error::Kind;
use proto::names_log::v1 as log;

use super::{At, Stop, cluster_id};
use crate::core::refusal::Refusal;
use crate::store::cluster;

/// The most releases that one command forgets.
const RELEASES_PER_COMMAND_MAX: u64 = 10_000;

pub(super) fn apply(at: At<'_>, command: &log::ReleasesRecorded) -> Result<log::Done, Stop> {
    let cluster =
        cluster::by_id(at.tables, cluster_id(&command.cluster_id)?)?.ok_or_else(Refusal::unknown_cluster)?;
    if command.sequence > cluster.releases_made {
        return Err(Refusal::new(
            Kind::Retry,
            "E_STATE_LOST",
            format!(
                "cluster {} has recorded release {}, but the names group has made none after {}: state was lost",
                cluster.name, command.sequence, cluster.releases_made
            ),
        )
        .hint("restore the names group before anything is reclaimed")
        .into());
    }
    if command.sequence > cluster.releases_recorded {
        // The cluster says so again with its next heartbeat, until all of them are.
        let most = cluster.releases_recorded.saturating_add(RELEASES_PER_COMMAND_MAX);
        cluster::releases_recorded(at.tables, cluster.number, command.sequence.min(most))?;
    }
    Ok(log::Done {})
}
