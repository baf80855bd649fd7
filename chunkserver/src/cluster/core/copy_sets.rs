//! Which nodes share chunks with which: a bounded number of pairs, so that the loss of two nodes at once seldom takes
//! both copies of anything (Cidon et al., "Copysets", USENIX ATC 2013).
//!
//! Invariant: the pairs depend on the nodes of the cluster alone, not on which of them are up at the moment, so that
//! they stay the same while nodes come and go. Every node has a partner in another zone where there is another zone,
//! otherwise on another host where there is one (P1).

use std::collections::{BTreeMap, BTreeSet};

use common::ids::NodeId;

/// How often the nodes are strung into a ring; each ring adds at most one pair per node.
pub const RINGS: u64 = 4;

/// A node and the domains it can be lost with.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Domain {
    /// Which.
    pub node: NodeId,
    /// Its zone.
    pub zone: String,
    /// Its machine.
    pub host: String,
}

/// The partners of every node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CopySets {
    partners: BTreeMap<NodeId, BTreeSet<NodeId>>,
}

impl CopySets {
    /// The pairs for these nodes: all there are while they are few, otherwise at most [`RINGS`] per node.
    pub fn new(nodes: &[Domain]) -> Self {
        let mut sets = Self::default();
        if nodes.len() as u64 <= 2 * RINGS + 1 {
            for (at, one) in nodes.iter().enumerate() {
                for other in nodes.iter().skip(at + 1) {
                    sets.join(one.node, other.node);
                }
            }
            return sets;
        }
        for ring in 0..RINGS {
            let mut order: Vec<&Domain> = nodes.iter().collect();
            order.sort_by_key(|domain| (mix(domain.node.get(), ring), domain.node));
            for (at, one) in order.iter().enumerate() {
                let others = order.iter().cycle().skip(at + 1).take(order.len() - 1);
                if let Some(partner) = others.min_by_key(|other| closeness(one, other)) {
                    sets.join(one.node, partner.node);
                }
            }
        }
        sets
    }

    /// Whether `one` and `other` may hold copies of the same chunk.
    pub fn are_partners(&self, one: NodeId, other: NodeId) -> bool {
        self.partners.get(&one).is_some_and(|all| all.contains(&other))
    }

    /// How many pairs there are.
    pub fn pairs(&self) -> usize {
        self.partners.values().map(BTreeSet::len).sum::<usize>() / 2
    }

    fn join(&mut self, one: NodeId, other: NodeId) {
        self.partners.entry(one).or_default().insert(other);
        self.partners.entry(other).or_default().insert(one);
    }
}

/// How much of a fate two nodes share: 0 in different zones, 1 in one zone, 2 on one machine.
pub fn closeness(one: &Domain, other: &Domain) -> u8 {
    if one.host == other.host {
        2
    } else {
        u8::from(one.zone == other.zone)
    }
}

/// A number that looks random but is the same everywhere (the finaliser of SplitMix64).
fn mix(node: u64, ring: u64) -> u64 {
    let mut z = node
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(ring.wrapping_mul(0xd1b5_4a32_d192_ed03));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domains(count: u64, zones: u64) -> Vec<Domain> {
        (1..=count)
            .map(|node| Domain {
                node: NodeId::new(node),
                zone: format!("z{}", node % zones),
                host: format!("h{node}"),
            })
            .collect()
    }

    #[test]
    fn pairs_are_bounded_and_leave_the_zone() {
        for count in [10, 17, 30, 64] {
            let nodes = domains(count, 3);
            let sets = CopySets::new(&nodes);
            assert!(sets.pairs() <= (count * RINGS) as usize);
            for one in &nodes {
                let far = nodes
                    .iter()
                    .any(|other| sets.are_partners(one.node, other.node) && closeness(one, other) == 0);
                assert!(far, "{one:?} has no partner in another zone");
            }
        }
    }

    #[test]
    fn few_nodes_are_all_partners() {
        let sets = CopySets::new(&domains(5, 1));
        assert_eq!(sets.pairs(), 10);
    }
}
