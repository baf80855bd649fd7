//! Suspects and gives up nodes that were not heard.

use std::sync::Arc;

use common::ids::NodeId;
use common::lifecycle::NodeEvent;
use common::time::Moment;
use proto::cluster_log::v1::{MoveNode, MoveNodes, NodeMove, command::Command as C};
use proto::error::RpcError;

use crate::cluster::Cluster;
use crate::cluster::core::presence::{self, Patience};
use crate::cluster::leadership::Leadership;

pub(super) async fn run(cluster: Arc<Cluster>, leadership: Arc<Leadership>) {
    let timings = &cluster.config.timings;
    let patience = Patience {
        suspect_after: timings.suspect_after.get(),
        dead_after: timings.dead_after.get(),
    };
    let period = timings.heartbeat_period.get().min(patience.suspect_after / 4);
    let mut since = leadership.since;
    let mut looked = cluster.clock.moment();
    loop {
        cluster.clock.sleep(period).await;
        let now = cluster.clock.moment();
        if now.since(looked) > patience.suspect_after / 2 {
            // It was this process that stood still: nobody could be heard meanwhile.
            since = now;
        }
        looked = now;
        if let Err(error) = look(&cluster, &leadership, patience, since).await {
            tracing::warn!(%error, "cannot record which nodes are silent");
        }
    }
}

async fn look(
    cluster: &Cluster,
    leadership: &Leadership,
    patience: Patience,
    since: Moment,
) -> Result<(), RpcError> {
    let directory = cluster.directory().await?;
    let heard = leadership.presence(&directory);
    let due = presence::due(cluster.clock.moment(), since, patience, &heard);
    if due.is_empty() {
        return Ok(());
    }
    let moves = due
        .iter()
        .filter_map(|(node, event)| to_wire(*node, *event))
        .collect();
    cluster
        .commit(leadership.epoch, C::MoveNodes(MoveNodes { moves }))
        .await?;
    cluster.directory.changed();
    for (node, event) in due {
        tracing::warn!(%node, arrow = %event, "a node is silent");
        cluster.metrics.moves.with_label_values(&[event.arrow()]).inc();
    }
    Ok(())
}

fn to_wire(node: NodeId, event: NodeEvent) -> Option<MoveNode> {
    let to = match event {
        NodeEvent::Suspect => NodeMove::Suspect,
        NodeEvent::Die => NodeMove::Die,
        NodeEvent::Clear => NodeMove::Clear,
        NodeEvent::Drain => NodeMove::Drain,
        NodeEvent::Keep => NodeMove::Keep,
        NodeEvent::Leave => NodeMove::Leave,
        NodeEvent::Admit | NodeEvent::Return => return None,
    };
    Some(MoveNode {
        node_id: node.get(),
        r#move: to.into(),
    })
}
