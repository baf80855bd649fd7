//! Which chunks have plans, which need one, and which to plan ahead of need. Pure.
//!
//! Invariant: a plan is handed out once, and only while its grants are good for long enough to send the chunk. Plans
//! that name a node which failed are thrown away unused: planning commits nothing, so this costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use common::ids::{AttemptId, NodeId};
use common::time::Moment;
use proto::bulk::dial::Target;
use proto::files::v1 as files;

use crate::error::Error;

/// A plan whose grants end sooner than this is not begun with.
const GRANT_LIFE_MIN: Duration = Duration::from_secs(1);
/// A node that failed is avoided by plans for further chunks for so long.
const AVOID_FOR: Duration = Duration::from_secs(15);
/// Nodes avoided at most in one request.
const AVOID_NODES_MAX: usize = 16;
/// Chunks in one request, as the servers allow.
const REQUEST_CHUNKS_MAX: usize = 64;

/// Where to send one chunk, and with which permits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Plan {
    pub(super) index: u32,
    pub(super) attempt: AttemptId,
    pub(super) primary: Target,
    pub(super) delegate: Option<NodeId>,
    pub(super) grant: Bytes,
    pub(super) delegate_grant: Bytes,
    pub(super) expires: Moment,
}

impl Plan {
    pub(super) fn from_wire(wire: files::ChunkPlan, now: Moment) -> Result<Self, Error> {
        let attempt = AttemptId::try_from(wire.attempt.as_ref())
            .map_err(|_| Error::protocol("a chunk plan without an attempt"))?;
        let primary = wire
            .primary
            .ok_or_else(|| Error::protocol("a chunk plan without a primary"))?;
        Ok(Self {
            index: wire.index,
            attempt,
            primary: Target {
                node: NodeId::new(primary.node_id),
                address: primary.data,
            },
            delegate: wire.delegate.map(|delegate| NodeId::new(delegate.node_id)),
            grant: wire.grant,
            delegate_grant: wire.delegate_grant,
            expires: now + Duration::from_millis(wire.expires_in_millis),
        })
    }

    fn names(&self, node: NodeId) -> bool {
        self.primary.node == node || self.delegate == Some(node)
    }
}

/// What is known of the chunks ahead.
pub(super) struct Book {
    chunk_bytes: u64,
    /// The length of the source; `None` for a stream.
    size: Option<u64>,
    ahead_max: usize,
    stored: BTreeMap<u32, Plan>,
    /// The first chunk that was never asked for.
    next: u32,
    failed: BTreeMap<NodeId, Moment>,
    /// Chunks that need no plan: already stored.
    skipped: BTreeSet<u32>,
}

impl Book {
    pub(super) fn new(chunk_bytes: u64, size: Option<u64>, ahead_max: usize, skipped: BTreeSet<u32>) -> Self {
        Self {
            chunk_bytes,
            size,
            ahead_max: ahead_max.clamp(1, REQUEST_CHUNKS_MAX / 2),
            stored: BTreeMap::new(),
            next: 0,
            failed: BTreeMap::new(),
            skipped,
        }
    }

    /// The plan for `index`, if there is one that avoids `avoid`.
    pub(super) fn take(&mut self, index: u32, avoid: &[NodeId], now: Moment) -> Option<Plan> {
        let plan = self.stored.remove(&index)?;
        let fit = now + GRANT_LIFE_MIN < plan.expires && !avoid.iter().any(|node| plan.names(*node));
        fit.then_some(plan)
    }

    /// New plans, as they arrived.
    pub(super) fn put(&mut self, plans: impl Iterator<Item = Plan>) {
        self.stored.extend(plans.map(|plan| (plan.index, plan)));
    }

    /// `node` failed: what was planned with it is planned anew.
    pub(super) fn failed(&mut self, node: NodeId, now: Moment) {
        self.stored.retain(|_, plan| !plan.names(node));
        self.failed.insert(node, now + AVOID_FOR);
    }

    /// Whether it is time to plan ahead.
    pub(super) fn is_low(&self) -> bool {
        self.stored.len() < self.ahead_max.div_ceil(2) && self.following().next().is_some()
    }

    /// What to ask for: the chunks in `wanted` with the nodes that each must avoid, and, where `ahead`, some that
    /// follow.
    pub(super) fn request<'a>(
        &mut self,
        wanted: impl Iterator<Item = (u32, &'a [NodeId])>,
        ahead: bool,
        now: Moment,
    ) -> Vec<files::ChunkRequest> {
        self.failed.retain(|_, until| *until > now);
        let mut chunks: BTreeMap<u32, Vec<NodeId>> = BTreeMap::new();
        for (index, avoid) in wanted.take(REQUEST_CHUNKS_MAX / 2) {
            chunks.insert(index, avoid.to_vec());
            if index >= self.next {
                self.next = index + 1;
            }
        }
        let room = self.ahead_max.saturating_sub(self.stored.len());
        let following: Vec<u32> = self.following().take(if ahead { room } else { 0 }).collect();
        for index in following {
            chunks.insert(index, Vec::new());
            self.next = index + 1;
        }
        chunks
            .into_iter()
            .map(|(index, avoid)| self.chunk_request(index, avoid))
            .collect()
    }

    fn chunk_request(&self, index: u32, mut avoid: Vec<NodeId>) -> files::ChunkRequest {
        avoid.extend(self.failed.keys());
        avoid.sort();
        avoid.dedup();
        let start = u64::from(index) * self.chunk_bytes;
        files::ChunkRequest {
            index,
            length_hint: self
                .size
                .map(|size| size.saturating_sub(start).min(self.chunk_bytes))
                .filter(|length| *length != 0),
            avoid_nodes: avoid
                .iter()
                .take(AVOID_NODES_MAX)
                .map(|node| node.get())
                .collect(),
        }
    }

    fn following(&self) -> impl Iterator<Item = u32> + '_ {
        let count = self
            .size
            .map_or(u64::from(u32::MAX), |size| size.div_ceil(self.chunk_bytes));
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        (self.next..count).filter(|index| !self.skipped.contains(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: u64 = 1 << 20;

    fn plan(index: u32, primary: u64, delegate: u64, life: u64) -> Plan {
        Plan {
            index,
            attempt: AttemptId::default(),
            primary: Target {
                node: NodeId::new(primary),
                address: String::new(),
            },
            delegate: Some(NodeId::new(delegate)),
            grant: Bytes::new(),
            delegate_grant: Bytes::new(),
            expires: Moment::new(Duration::from_secs(life)),
        }
    }

    fn indices(requests: &[files::ChunkRequest]) -> Vec<u32> {
        requests.iter().map(|request| request.index).collect()
    }

    #[test]
    fn plans_are_asked_for_ahead_up_to_the_end() {
        let now = Moment::default();
        let mut book = Book::new(CHUNK, Some(5 * CHUNK + 7), 4, BTreeSet::from([2]));
        let asked = book.request([(0, &[][..])].into_iter(), true, now);
        assert_eq!(indices(&asked), [0, 1, 3, 4, 5]);
        assert_eq!(asked.last().unwrap().length_hint, Some(7));
        assert!(!book.is_low());
        book.put([0, 1, 3].map(|index| plan(index, 1, 2, 60)).into_iter());
        assert!(book.take(0, &[], now).is_some());
        assert!(book.take(0, &[], now).is_none());
    }

    #[test]
    fn failed_nodes_are_avoided_for_a_while() {
        let now = Moment::default();
        let mut book = Book::new(CHUNK, None, 2, BTreeSet::new());
        book.put([plan(0, 1, 2, 60), plan(1, 2, 3, 60), plan(2, 3, 4, 60)].into_iter());
        book.failed(NodeId::new(2), now);
        assert!(book.take(0, &[], now).is_none() && book.take(1, &[], now).is_none());
        assert!(book.take(2, &[NodeId::new(4)], now).is_none());
        let asked = book.request([(0, &[NodeId::new(9)][..])].into_iter(), true, now);
        assert_eq!(asked[0].avoid_nodes, [2, 9]);
        assert_eq!(asked[0].length_hint, None);
        let later = now + AVOID_FOR + Duration::from_millis(1);
        let asked = book.request([(0, &[][..])].into_iter(), false, later);
        assert!(asked[0].avoid_nodes.is_empty());
    }

    #[test]
    fn plans_about_to_expire_are_not_used() {
        let mut book = Book::new(CHUNK, None, 2, BTreeSet::new());
        book.put([plan(0, 1, 2, 1)].into_iter());
        assert!(book.take(0, &[], Moment::default()).is_none());
    }
}
