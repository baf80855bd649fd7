//! [`NodeContext`]: the node's view of its cluster, cheap to clone and to read.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::ids::{ClusterId, Epoch, NodeId};
use common::time::{Clock, ClusterTime, Moment};
use parking_lot::RwLock;
use proto::bulk::grant::DataPlaneKeys;

/// A cloneable view of what this node last heard from its leader. All reads are from memory and never wait.
#[derive(Clone)]
pub struct NodeContext(Arc<Inner>);

struct Inner {
    node_id: NodeId,
    cluster_id: ClusterId,
    clock: Clock,
    /// Guards the view as a whole, so that keys, time and peers of one heartbeat are seen together.
    view: RwLock<View>,
}

#[derive(Default)]
struct View {
    keys: Arc<DataPlaneKeys>,
    epoch: Epoch,
    time: ClusterTime,
    as_of: Moment,
    peers: Arc<BTreeMap<NodeId, String>>,
}

/// What a heartbeat's reply says.
#[derive(Clone, Debug)]
pub struct Learned {
    /// Cluster time when the reply was made.
    pub time: ClusterTime,
    /// The leadership that made it; already durable at this node.
    pub epoch: Epoch,
    /// The current key first.
    pub keys: DataPlaneKeys,
    /// Data addresses (`host:port`) of the cluster's nodes, this one included.
    pub peers: BTreeMap<NodeId, String>,
}

impl NodeContext {
    /// The view of a node that has heard nothing yet: no keys (so every grant is answered with Retry), time zero.
    pub fn new(node_id: NodeId, cluster_id: ClusterId, clock: Clock) -> Self {
        let view = View {
            as_of: clock.moment(),
            ..View::default()
        };
        Self(Arc::new(Inner {
            node_id,
            cluster_id,
            clock,
            view: RwLock::new(view),
        }))
    }

    /// This node, as its join entry named it.
    pub fn node_id(&self) -> NodeId {
        self.0.node_id
    }

    /// The cluster it belongs to.
    pub fn cluster_id(&self) -> ClusterId {
        self.0.cluster_id
    }

    /// The data-plane keys it accepts, the current one first; empty before the first heartbeat.
    pub fn keys(&self) -> Arc<DataPlaneKeys> {
        Arc::clone(&self.0.view.read().keys)
    }

    /// Cluster time: what the leader last said, counted on by this node's monotonic clock. While there is no leader it
    /// runs ahead of the time in the log, so that grants end early rather than late (P7).
    pub fn now(&self) -> ClusterTime {
        let view = self.0.view.read();
        view.time + self.0.clock.moment().since(view.as_of)
    }

    /// Where `node` serves the data plane (`host:port`); `None` if it is not a node of this cluster as far as known.
    pub fn peer_address(&self, node: NodeId) -> Option<String> {
        self.0.view.read().peers.get(&node).cloned()
    }

    /// The highest leadership this node has heard and made durable.
    pub fn epoch(&self) -> Epoch {
        self.0.view.read().epoch
    }

    /// Takes in what a leader said. Words of an epoch below the highest heard are ignored (P7): the answer of a
    /// deposed leader may arrive late.
    pub fn learn(&self, learned: Learned) {
        let now = self.0.clock.moment();
        let mut view = self.0.view.write();
        if learned.epoch < view.epoch {
            return;
        }
        *view = View {
            keys: Arc::new(learned.keys),
            epoch: learned.epoch,
            time: learned.time,
            as_of: now,
            peers: Arc::new(learned.peers),
        };
    }
}

impl std::fmt::Debug for NodeContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeContext(node {}, epoch {})", self.node_id(), self.epoch())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use common::ids::KeyId;
    use common::time::ManualTime;
    use proto::bulk::grant::DataPlaneKey;

    use super::*;

    fn learned(time: u64, epoch: u64) -> Learned {
        let key = DataPlaneKey::new(KeyId::new(epoch), &[1; 32]);
        Learned {
            time: ClusterTime::from_millis(time),
            epoch: Epoch::new(epoch),
            keys: DataPlaneKeys::new(vec![key]),
            peers: BTreeMap::from([(NodeId::new(2), "127.0.0.1:9".to_owned())]),
        }
    }

    #[test]
    fn time_goes_on_between_heartbeats() {
        let time = ManualTime::default();
        let context = NodeContext::new(NodeId::new(1), ClusterId::new([1; 16]), time.clock());
        assert!(context.keys().current().is_none());
        context.learn(learned(1_000, 5));
        time.advance(Duration::from_millis(300));
        assert_eq!(context.now(), ClusterTime::from_millis(1_300));
        assert_eq!(
            context.peer_address(NodeId::new(2)).as_deref(),
            Some("127.0.0.1:9")
        );
        assert_eq!(context.peer_address(NodeId::new(3)), None);
    }

    #[test]
    fn a_deposed_leader_is_not_heard() {
        let clock = ManualTime::default().clock();
        let context = NodeContext::new(NodeId::new(1), ClusterId::new([1; 16]), clock);
        context.learn(learned(1_000, 5));
        context.learn(learned(9_000, 4));
        assert_eq!(context.epoch(), Epoch::new(5));
        assert_eq!(context.now(), ClusterTime::from_millis(1_000));
        context.learn(learned(900, 6));
        assert_eq!(context.now(), ClusterTime::from_millis(900));
    }
}
