//! Which members have little space left on the disk of their log (P11).
//!
//! Every member measures its own disk and tells the leader with each reply to it. A voter whose disk is full ends, and a
//! group that loses its voters one by one ends with them: so the leader takes nothing that adds while any voter that it
//! hears is near its reserve.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::time::Moment;
use parking_lot::Mutex;

/// A report that is older says nothing any more: the member is gone, and needs no space meanwhile.
const REPORT_AGE_MAX: Duration = Duration::from_secs(10);

/// What a member says about its disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Space {
    pub(crate) free_bytes: u64,
    /// Kept free for what frees.
    pub(crate) reserve_bytes: u64,
}

/// What a command does to the disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Need {
    /// It frees, or keeps the group going without adding to it.
    Frees,
    /// It ends work that was admitted while there was space: it may use half of the reserve.
    Concludes,
    /// It adds.
    Adds,
}

impl Space {
    /// Whether nothing that adds fits any more.
    pub(crate) fn is_short(self) -> bool {
        !self.allows(Need::Adds)
    }

    fn allows(self, need: Need) -> bool {
        match need {
            Need::Frees => true,
            Need::Concludes => self.free_bytes >= self.reserve_bytes / 2,
            Need::Adds => self.free_bytes >= self.reserve_bytes,
        }
    }
}

/// The last reports of members that are near their reserve, this one included.
#[derive(Debug, Default)]
pub(crate) struct SpaceBoard {
    /// Whether `short` holds anything: looked at for every proposal.
    any: AtomicBool,
    short: Mutex<BTreeMap<u64, (Space, Moment)>>,
    here: Mutex<Option<Space>>,
}

impl SpaceBoard {
    /// This member measured its own disk.
    pub(crate) fn measured(&self, node: u64, space: Space, now: Moment) {
        *self.here.lock() = Some(space);
        self.told(node, space, now);
    }

    /// What this member measured last.
    pub(crate) fn here(&self) -> Option<Space> {
        *self.here.lock()
    }

    /// `node` reports its space.
    pub(crate) fn told(&self, node: u64, space: Space, now: Moment) {
        let enough = space.allows(Need::Adds);
        if enough && !self.any.load(Ordering::Relaxed) {
            return;
        }
        let mut short = self.short.lock();
        let before = match enough {
            true => short.remove(&node),
            false => short.insert(node, (space, now)),
        };
        self.any.store(!short.is_empty(), Ordering::Relaxed);
        let Space {
            free_bytes,
            reserve_bytes,
        } = space;
        match (before.is_some(), enough) {
            (true, true) => tracing::info!(node, free_bytes, "the metadata disk of a member has space again"),
            (false, false) => tracing::error!(
                node,
                free_bytes,
                reserve_bytes,
                "the metadata disk of a member is nearly full: its group takes nothing that adds"
            ),
            _ => {}
        }
    }

    /// The first of `voters` whose disk does not allow `need`. `voters` is asked for only if some member is near its
    /// reserve.
    pub(crate) fn in_the_way<V>(&self, need: Need, now: Moment, voters: impl FnOnce() -> V) -> Option<u64>
    where
        V: IntoIterator<Item = u64>,
    {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let voters = voters();
        let short = self.short.lock();
        voters.into_iter().find(|node| {
            short
                .get(node)
                .is_some_and(|(space, at)| now.since(*at) < REPORT_AGE_MAX && !space.allows(need))
        })
    }
}

#[cfg(test)]
mod tests {
    use common::time::ManualTime;

    use super::*;

    #[test]
    fn the_shortest_voter_decides() {
        let time = ManualTime::default();
        let now = || time.clock().moment();
        let board = SpaceBoard::default();
        let space = |free_bytes| Space {
            free_bytes,
            reserve_bytes: 100,
        };
        let way = |need| board.in_the_way(need, now(), || [1, 2, 3]);
        board.measured(1, space(100), now());
        assert_eq!((board.here(), way(Need::Adds)), (Some(space(100)), None));
        board.told(3, space(99), now());
        assert_eq!(way(Need::Adds), Some(3));
        board.told(3, space(50), now());
        assert_eq!(way(Need::Adds), Some(3));
        assert_eq!((way(Need::Concludes), way(Need::Frees)), (None, None));
        board.told(3, space(49), now());
        assert_eq!((way(Need::Concludes), way(Need::Frees)), (Some(3), None));
        // A learner's disk stops nobody.
        assert_eq!(board.in_the_way(Need::Adds, now(), || [1, 2]), None);
        time.advance(REPORT_AGE_MAX);
        assert_eq!(way(Need::Adds), None, "nothing was heard of it for long");
        board.told(3, space(10), now());
        board.told(3, space(200), now());
        assert_eq!(way(Need::Adds), None);
    }
}
