//! `dbfs leader`: who leads the names group and each cluster.

use super::context::Context;
use super::failure::{Exit, Failure};
use super::human;
use super::status_shapes::GroupShape;

/// Shows who leads the names group and each cluster.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Only this cluster, or `names`
    #[arg(value_name = "CLUSTER")]
    cluster: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// The cluster asked for is not known, or has no leader.
pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let session = context.session_without_quorum().await?;
    let installation = session.client.status().await?;
    let mut groups = vec![GroupShape::names(&installation.names)];
    groups.extend(installation.clusters.iter().map(GroupShape::cluster));
    if let Some(wanted) = &args.cluster {
        groups.retain(|group| group.name == *wanted);
        let Some(group) = groups.first() else {
            return Err(Failure::new(
                Exit::NotFound,
                "E_NOT_FOUND",
                format!("there is no cluster '{wanted}'"),
            )
            .hint("`dbfs leader` shows them all"));
        };
        if group.leader.is_none() {
            return Err(Failure::new(
                Exit::Unavailable,
                "E_NO_LEADER",
                format!("cluster {wanted} has no leader"),
            )
            .hint("an election takes a few seconds; a majority of its voters must run"));
        }
    }
    let console = &context.console;
    if console.is_json() {
        return groups.iter().try_for_each(|group| console.object(group));
    }
    let rows: Vec<Vec<String>> = groups
        .iter()
        .map(|group| {
            vec![
                group.name.clone(),
                group.leader.clone().unwrap_or_else(|| "none".to_owned()),
                group.leader_control.clone().unwrap_or_default(),
                format!("term {}", group.term),
            ]
        })
        .collect();
    human::table(&rows, &[])
        .iter()
        .try_for_each(|line| console.line(line))
}
