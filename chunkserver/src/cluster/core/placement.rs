//! Where a chunk goes: its primary and its delegate.
//!
//! Invariants: two copies are never on one node (P1); a node that is not live, refuses writes, has no room or is to be
//! avoided is never chosen. Zones come first, then hosts, then the bound on pairs ([`super::copy_sets`]): the bound is
//! given up before a zone is. Among what is left, chance decides, weighed by free disk, CPU, memory and bytes in flight.

use common::ids::NodeId;
use common::random::Random;

use super::copy_sets::{CopySets, Domain, closeness};

/// What this many bytes in flight halve a node's weight.
const IN_FLIGHT_HALF_BYTES: f64 = (256_u64 << 20) as f64;
/// The least weight that load leaves: a busy node is still better than none.
const HEADROOM_MIN: f64 = 0.02;

/// A node that may be chosen: live, heard lately, not refusing.
#[derive(Clone, PartialEq, Debug)]
pub struct Candidate {
    /// Who and where.
    pub domain: Domain,
    /// Busy CPU in thousandths.
    pub cpu_permille: u32,
    /// Used memory in thousandths.
    pub memory_permille: u32,
    /// What new data may still take, less what is planned.
    pub free_bytes: u64,
    /// Being received, or planned since it was last heard.
    pub in_flight_bytes: u64,
}

/// How many copies there must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Copies {
    /// Two.
    Two,
    /// Two where there are two nodes, otherwise one.
    TwoOrOne,
}

/// Where a chunk goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Receives it.
    pub primary: NodeId,
    /// Keeps the second copy.
    pub delegate: Option<NodeId>,
}

/// There is no place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Fewer nodes than copies.
    #[error("{available} of the {needed} nodes that a chunk needs can take one")]
    NotEnoughNodes {
        /// Nodes that could be chosen.
        available: usize,
        /// Nodes needed.
        needed: usize,
    },
    /// Nodes enough, but no room.
    #[error("fewer than {needed} nodes have room for {bytes} more bytes")]
    NoSpace {
        /// Nodes needed.
        needed: usize,
        /// For so many bytes.
        bytes: u64,
    },
}

/// Chooses the place for a chunk of `length` bytes which must not go to `avoid`.
///
/// # Errors
/// Too few nodes, or too little room.
pub fn place(
    candidates: &[Candidate],
    sets: &CopySets,
    copies: Copies,
    length: u64,
    avoid: &[NodeId],
    random: &Random,
) -> Result<Place, Refusal> {
    let allowed: Vec<&Candidate> = candidates
        .iter()
        .filter(|candidate| !avoid.contains(&candidate.domain.node))
        .collect();
    let roomy: Vec<&Candidate> = allowed
        .iter()
        .copied()
        .filter(|candidate| candidate.free_bytes >= length)
        .collect();
    let needed = match copies {
        Copies::Two => 2,
        Copies::TwoOrOne => 1,
    };
    if roomy.len() < needed {
        return Err(if allowed.len() < needed {
            Refusal::NotEnoughNodes {
                available: allowed.len(),
                needed,
            }
        } else {
            Refusal::NoSpace {
                needed,
                bytes: length,
            }
        });
    }
    let primary = choose(&roomy, random).ok_or(Refusal::NotEnoughNodes { available: 0, needed })?;
    let others: Vec<&Candidate> = roomy
        .iter()
        .copied()
        .filter(|other| other.domain.node != primary.domain.node)
        .collect();
    let rank = |other: &Candidate| {
        let stranger = !sets.are_partners(primary.domain.node, other.domain.node);
        (closeness(&primary.domain, &other.domain), stranger)
    };
    let best = others.iter().map(|other| rank(other)).min();
    let delegates: Vec<&Candidate> = others
        .iter()
        .copied()
        .filter(|other| Some(rank(other)) == best)
        .collect();
    Ok(Place {
        primary: primary.domain.node,
        delegate: choose(&delegates, random).map(|candidate| candidate.domain.node),
    })
}

/// One of `candidates` by weighted chance; `None` if there are none.
fn choose<'a>(candidates: &[&'a Candidate], random: &Random) -> Option<&'a Candidate> {
    let most_free = candidates
        .iter()
        .map(|candidate| candidate.free_bytes)
        .max()
        .unwrap_or(0);
    let weights: Vec<f64> = candidates
        .iter()
        .map(|candidate| weight(candidate, most_free))
        .collect();
    let mut point = random.unit() * weights.iter().sum::<f64>();
    for (candidate, weight) in candidates.iter().zip(&weights) {
        point -= weight;
        if point < 0.0 {
            return Some(candidate);
        }
    }
    candidates.last().copied()
}

fn weight(candidate: &Candidate, most_free: u64) -> f64 {
    let share = |permille: u32| (1.0 - f64::from(permille.min(1000)) / 1000.0).max(HEADROOM_MIN);
    let space = (candidate.free_bytes as f64 / most_free.max(1) as f64).max(HEADROOM_MIN);
    let flight = IN_FLIGHT_HALF_BYTES / (IN_FLIGHT_HALF_BYTES + candidate.in_flight_bytes as f64);
    space * share(candidate.cpu_permille) * share(candidate.memory_permille).sqrt() * flight
}

#[cfg(test)]
mod tests;
