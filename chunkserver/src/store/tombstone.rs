//! Tombstones: attempts that were ordered dropped and never come back.
//!
//! A tombstone has two tasks. It keeps the attempt's bytes from counting until they are gone from the disk: that is
//! the entry in state `Dropped`, which stays in the index and in every checkpoint until then. And it refuses a late
//! write of the same attempt: that is this set, bounded, the oldest first to be forgotten, since no write outlives its
//! grant by long.

use std::collections::{BTreeSet, VecDeque};

use common::ids::AttemptId;

/// Tombstones remembered per disk after the bytes are gone (16 bytes each in a checkpoint).
pub(super) const TOMBSTONES_PER_DISK_MAX: usize = 256 << 10;

#[derive(Default)]
pub(super) struct Tombstones {
    known: BTreeSet<AttemptId>,
    /// Oldest first.
    order: VecDeque<AttemptId>,
}

impl Tombstones {
    pub(super) fn contains(&self, attempt: AttemptId) -> bool {
        self.known.contains(&attempt)
    }

    pub(super) fn insert(&mut self, attempt: AttemptId) {
        if self.known.insert(attempt) {
            self.order.push_back(attempt);
        }
    }

    /// Forgets the oldest beyond the limit, except those whose bytes are still there.
    pub(super) fn trim(&mut self, has_bytes: impl Fn(AttemptId) -> bool) {
        let mut left = self.order.len();
        while self.order.len() > TOMBSTONES_PER_DISK_MAX && left > 0 {
            left -= 1;
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if has_bytes(oldest) {
                self.order.push_back(oldest);
            } else {
                self.known.remove(&oldest);
            }
        }
    }

    pub(super) fn oldest_first(&self) -> impl ExactSizeIterator<Item = AttemptId> {
        self.order.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::Epoch;

    #[test]
    fn the_oldest_are_forgotten_unless_needed() {
        let attempt = |sequence| AttemptId::new(Epoch::new(1), sequence);
        let mut tombstones = Tombstones::default();
        for sequence in 0..TOMBSTONES_PER_DISK_MAX as u64 + 2 {
            tombstones.insert(attempt(sequence));
        }
        tombstones.trim(|oldest| oldest == attempt(0));
        assert!(tombstones.contains(attempt(0)));
        assert!(!tombstones.contains(attempt(1)));
        assert!(!tombstones.contains(attempt(2)));
        assert!(tombstones.contains(attempt(3)));
        assert_eq!(tombstones.oldest_first().len(), TOMBSTONES_PER_DISK_MAX);
    }
}
