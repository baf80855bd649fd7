//! What this leadership has sealed and not yet seen through: versions to ask the names layer about, and outcomes it has
//! not been told to be recorded here.
//!
//! Soft state, filled by the seals of this leadership and from the tables by [`crate::cluster::background::publish`]:
//! whatever is missing here is found there. So it may be incomplete, and what does not fit is left out.

use std::collections::{BTreeMap, BTreeSet};

use common::ids::{Digest, VersionId};
use common::time::WallTime;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::store::versions::VersionRow;

/// The most versions, and the most outcomes, that are kept.
const KEPT_MAX: usize = 10_000;

/// A sealed version, as the names layer is told of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sealed {
    /// Which.
    pub(crate) version: VersionId,
    /// Bytes of content.
    pub(crate) size: u64,
    /// BLAKE3 of the content.
    pub(crate) digest: Digest,
    /// Wall clock of the leader that sealed it.
    pub(crate) modified: WallTime,
}

impl From<VersionRow> for Sealed {
    fn from(row: VersionRow) -> Self {
        Self {
            version: row.version,
            size: row.size,
            digest: row.digest,
            modified: row.modified,
        }
    }
}

#[derive(Default)]
pub(crate) struct Unpublished {
    /// There is something to ask.
    pub(crate) added: Notify,
    /// Guards the lists.
    lists: Mutex<Lists>,
}

#[derive(Default)]
struct Lists {
    waiting: BTreeMap<VersionId, Sealed>,
    /// Asked about, or decided and not recorded.
    under_way: BTreeSet<VersionId>,
    /// Recorded here, which the names layer may not know.
    recorded: BTreeSet<VersionId>,
}

impl Unpublished {
    /// Notes a sealed version.
    pub(crate) fn add(&self, sealed: Sealed) {
        let mut lists = self.lists.lock();
        if lists.waiting.len() < KEPT_MAX && !lists.under_way.contains(&sealed.version) {
            lists.waiting.insert(sealed.version, sealed);
        }
        drop(lists);
        self.added.notify_one();
    }

    /// Takes versions to ask about, at most `limit`; they are under way until [`Unpublished::settled`].
    pub(crate) fn take(&self, limit: usize) -> Vec<Sealed> {
        let mut lists = self.lists.lock();
        let mut taken = Vec::new();
        while taken.len() < limit {
            let Some((version, sealed)) = lists.waiting.pop_first() else {
                break;
            };
            lists.under_way.insert(version);
            taken.push(sealed);
        }
        taken
    }

    /// They are recorded, or must be asked about again by whoever finds them in the tables.
    pub(crate) fn settled(&self, versions: impl IntoIterator<Item = VersionId>) {
        let mut lists = self.lists.lock();
        for version in versions {
            lists.under_way.remove(&version);
        }
    }

    /// Asks about them again.
    pub(crate) fn put_back(&self, taken: Vec<Sealed>) {
        self.settled(taken.iter().map(|sealed| sealed.version));
        taken.into_iter().for_each(|sealed| self.add(sealed));
    }

    /// Notes outcomes that are recorded here.
    pub(crate) fn recorded(&self, versions: impl IntoIterator<Item = VersionId>) {
        let mut lists = self.lists.lock();
        for version in versions {
            if lists.recorded.len() < KEPT_MAX {
                lists.recorded.insert(version);
            }
        }
    }

    /// Takes recorded outcomes, to tell the names layer; what is not told is found in the tables again.
    pub(crate) fn take_recorded(&self, limit: usize) -> Vec<VersionId> {
        let mut lists = self.lists.lock();
        let mut taken = Vec::new();
        while taken.len() < limit {
            let Some(version) = lists.recorded.pop_first() else {
                break;
            };
            taken.push(version);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(version: u64) -> Sealed {
        Sealed {
            version: VersionId::new(version),
            size: 1,
            digest: Digest::new([0; 32]),
            modified: WallTime::from_millis(0),
        }
    }

    #[test]
    fn what_is_under_way_is_not_asked_about_twice() {
        let list = Unpublished::default();
        for version in [3, 1, 2] {
            list.add(sealed(version));
        }
        let taken = list.take(2);
        assert_eq!(taken, [sealed(1), sealed(2)]);
        list.add(sealed(1));
        assert_eq!(list.take(9), [sealed(3)]);
        list.put_back(taken);
        assert_eq!(list.take(1), [sealed(1)]);
        list.settled([VersionId::new(1)]);
        list.add(sealed(1));
        assert_eq!(list.take(9), [sealed(1), sealed(2)]);
    }

    #[test]
    fn recorded_outcomes_are_told_once() {
        let list = Unpublished::default();
        list.recorded([VersionId::new(2), VersionId::new(1)]);
        assert_eq!(list.take_recorded(1), [VersionId::new(1)]);
        assert_eq!(list.take_recorded(9), [VersionId::new(2)]);
        assert!(list.take_recorded(9).is_empty());
    }
}
