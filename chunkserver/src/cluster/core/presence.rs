//! Which nodes are to be suspected or given up, from when they were last heard.
//!
//! Invariant: silence is measured on the leader's monotonic clock and only while it leads. A new leader has heard
//! nobody yet and gives everyone a grace period first (P7).

use std::time::Duration;

use common::ids::NodeId;
use common::lifecycle::{Node, NodeEvent};
use common::time::Moment;

/// How long silence may last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// Until a node is suspected.
    pub suspect_after: Duration,
    /// Until it is given up.
    pub dead_after: Duration,
}

/// A node and when it was last heard by this leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heard {
    /// Which.
    pub node: NodeId,
    /// Where it stands, as committed.
    pub state: Node,
    /// When it was last heard; `None` if not since this leadership began.
    pub at: Option<Moment>,
}

/// The moves that are due at `now` under a leadership that began at `since`.
pub fn due(now: Moment, since: Moment, patience: Patience, nodes: &[Heard]) -> Vec<(NodeId, NodeEvent)> {
    let grace_ends = since + patience.suspect_after;
    nodes
        .iter()
        .filter_map(|heard| {
            let silent = now.since(heard.at.unwrap_or_default().max(grace_ends));
            let event = match heard.state {
                Node::Live if silent >= patience.suspect_after => NodeEvent::Suspect,
                Node::Suspect | Node::Joining | Node::Draining if silent >= patience.dead_after => {
                    NodeEvent::Die
                }
                Node::Live | Node::Suspect | Node::Joining | Node::Draining | Node::Dead | Node::Gone => {
                    return None;
                }
            };
            Some((heard.node, event))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        suspect_after: Duration::from_secs(2),
        dead_after: Duration::from_secs(30),
    };

    fn at(seconds: u64) -> Moment {
        Moment::new(Duration::from_secs(seconds))
    }

    fn moves(now: u64, state: Node, heard: Option<u64>) -> Option<NodeEvent> {
        let heard = Heard {
            node: NodeId::new(1),
            state,
            at: heard.map(at),
        };
        due(at(now), at(100), PATIENCE, &[heard])
            .first()
            .map(|(_, event)| *event)
    }

    #[test]
    fn silence_is_suspected_then_final() {
        assert_eq!(moves(111, Node::Live, Some(110)), None);
        assert_eq!(moves(112, Node::Live, Some(110)), Some(NodeEvent::Suspect));
        assert_eq!(moves(139, Node::Suspect, Some(110)), None);
        assert_eq!(moves(140, Node::Suspect, Some(110)), Some(NodeEvent::Die));
        assert_eq!(moves(999, Node::Dead, Some(110)), None);
        assert_eq!(moves(140, Node::Draining, Some(110)), Some(NodeEvent::Die));
    }

    #[test]
    fn a_new_leader_waits_for_everyone() {
        assert_eq!(moves(103, Node::Live, None), None);
        assert_eq!(moves(104, Node::Live, None), Some(NodeEvent::Suspect));
        assert_eq!(moves(131, Node::Suspect, None), None);
        assert_eq!(moves(132, Node::Suspect, None), Some(NodeEvent::Die));
    }
}
