//! What stands behind a version or a cluster: copies, hosts, zones.

use std::collections::{BTreeMap, BTreeSet};

use common::ids::NodeId;

/// Who holds a copy, as shown to people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Which node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Its machine.
    pub host: String,
    /// Its zone.
    pub zone: String,
}

/// The least that any chunk has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Durability {
    /// Copies on different nodes.
    pub copies: u32,
    /// Different machines among them.
    pub hosts: u32,
    /// Different zones among them.
    pub zones: u32,
}

/// Sets of nodes, and how many chunks have their copies on exactly these.
pub type Spread = BTreeMap<BTreeSet<NodeId>, u32>;

/// How many chunks each node holds, and the least that any chunk has. A version without chunks has what `target` copies
/// on these holders could have at most: nothing of it can be lost, but no host or zone is claimed that is not there.
pub fn of_chunks(
    spread: &Spread,
    holders: &BTreeMap<NodeId, Holder>,
    target: u32,
) -> (Durability, BTreeMap<NodeId, u32>) {
    let mut places: BTreeMap<NodeId, u32> = BTreeMap::new();
    let mut least: Option<Durability> = None;
    for (nodes, chunks) in spread {
        for node in nodes {
            *places.entry(*node).or_default() += chunks;
        }
        let here = of_nodes(nodes.iter().filter_map(|node| holders.get(node)));
        least = Some(match least {
            None => here,
            Some(so_far) => Durability {
                copies: so_far.copies.min(here.copies),
                hosts: so_far.hosts.min(here.hosts),
                zones: so_far.zones.min(here.zones),
            },
        });
    }
    let nothing = || {
        let all = of_nodes(holders.values());
        Durability {
            copies: all.copies.min(target),
            hosts: all.hosts.min(target),
            zones: all.zones.min(target),
        }
    };
    (least.unwrap_or_else(nothing), places)
}

/// What copies on all of these nodes would have.
pub fn of_nodes<'a>(holders: impl Iterator<Item = &'a Holder>) -> Durability {
    let (mut nodes, mut hosts, mut zones) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for holder in holders {
        nodes.insert(holder.node);
        hosts.insert(&holder.host);
        zones.insert(&holder.zone);
    }
    let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    Durability {
        copies: count(nodes.len()),
        hosts: count(hosts.len()),
        zones: count(zones.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weakest_chunk_decides() {
        let holders: BTreeMap<NodeId, Holder> = (1..=3_u64)
            .map(|node| {
                let holder = Holder {
                    node: NodeId::new(node),
                    name: format!("n{node}"),
                    host: format!("h{}", node.min(2)),
                    zone: "z".to_owned(),
                };
                (holder.node, holder)
            })
            .collect();
        let node = NodeId::new;
        let spread = Spread::from([
            (BTreeSet::from([node(1), node(2)]), 4),
            (BTreeSet::from([node(2), node(3)]), 1),
        ]);
        let (least, places) = of_chunks(&spread, &holders, 2);
        let expected = Durability {
            copies: 2,
            hosts: 1,
            zones: 1,
        };
        assert_eq!(least, expected);
        assert_eq!(places[&node(2)], 5);
        let of_nothing = Durability {
            copies: 2,
            hosts: 2,
            zones: 1,
        };
        assert_eq!(of_chunks(&Spread::new(), &holders, 2).0, of_nothing);
    }
}
