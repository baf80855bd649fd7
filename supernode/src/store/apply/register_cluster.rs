//! Registers a cluster at its first heartbeat, and keeps what changed about it later.

use common::error::Kind;
use common::ids::Generation;
use proto::names_log::v1 as log;

use super::{At, Stop, cluster_id};
use crate::core::refusal::Refusal;
use crate::store::cluster::{self, Cluster, ClusterNumber};
use crate::store::counter::Counter;

/// The most members whose addresses are kept.
const MEMBERS_MAX: usize = 256;

pub(super) fn apply(at: At<'_>, command: log::RegisterCluster) -> Result<log::Done, Stop> {
    let id = cluster_id(&command.cluster_id)?;
    let mut members = command.members;
    members.truncate(MEMBERS_MAX);
    let number = match cluster::by_id(at.tables, id)? {
        Some(known) => {
            judge_known(&known, &command.name, command.generation)?;
            known.number
        }
        None => {
            if let Some(other) = cluster::by_name(at.tables, &command.name)? {
                return Err(name_taken(&other).into());
            }
            ClusterNumber::new(Counter::Cluster.next(at.tables)?)
        }
    };
    let row = Cluster {
        number,
        id,
        name: command.name,
        generation: Generation::new(command.generation),
        site: command.site,
        members,
        releases_made: 0,
        releases_recorded: 0,
        retired: false,
    };
    cluster::put(at.tables, &row)?;
    Ok(log::Done {})
}

fn judge_known(known: &Cluster, name: &str, generation: u64) -> Result<(), Refusal> {
    if known.retired {
        return Err(Refusal::retired(&known.name));
    }
    if known.name != name {
        return Err(Refusal::new(
            Kind::Conflict,
            "E_CLUSTER_NAME",
            format!(
                "cluster {} is registered as '{}', not as '{name}'",
                known.id, known.name
            ),
        ));
    }
    if generation < known.generation.get() {
        return Err(Refusal::stale_generation(name, known.generation, generation));
    }
    Ok(())
}

fn name_taken(other: &Cluster) -> Refusal {
    Refusal::new(
        Kind::Conflict,
        "E_CLUSTER_EXISTS",
        format!("another cluster is registered as '{}': {}", other.name, other.id),
    )
    .hint("was the cluster founded twice? give the new one another name, or restore the old one's data")
}
