//! Which stored attempts are known to be dead.
//!
//! Invariant (P6): nothing is dead for merely being unknown. An upload's number comes from a committed counter before
//! any attempt is planned for it, and a seal names its attempts for ever; so an attempt without a chunk row is dead when
//! its upload has ended, is long forgotten or ended with the leader that alone knew it, in flight while it is open, and
//! proof of lost state when its number was never reserved here. What the leader in office alone knows to be open is not
//! judged at all.

use common::ids::{UploadNumber, VersionId};
use common::lifecycle::Upload;
use common::time::ClusterTime;

/// What a node says it stores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Item {
    /// The upload, as the cluster counted when it was written.
    pub number: UploadNumber,
    /// The version it was written for.
    pub version: VersionId,
}

/// What the log knows of the upload with the item's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// The version it makes.
    pub version: VersionId,
    /// Where it stands.
    pub state: Upload,
    /// When it ended; of an open one, when it was last heard from.
    pub since: ClusterTime,
}

/// What is to become of the attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// In use, in flight, or not certain.
    Keep,
    /// To be dropped.
    Dead,
    /// Its number was never given out in this log, or to another upload: state was lost.
    BeyondKnowledge,
}

/// Judges one item. `has_chunk`: the log has a chunk of this attempt, in whatever state.
pub fn judge(
    item: Item,
    has_chunk: bool,
    known: Option<Known>,
    high_water: UploadNumber,
    abandoned_before: ClusterTime,
) -> Fate {
    if item.number > high_water || known.is_some_and(|known| known.version != item.version) {
        return Fate::BeyondKnowledge;
    }
    if has_chunk {
        return Fate::Keep;
    }
    match known.map(|known| (known.state, known.since)) {
        None | Some((Upload::Sealed, _)) => Fate::Dead,
        Some((Upload::Open, _)) => Fate::Keep,
        Some((Upload::Abandoned, since)) if since <= abandoned_before => Fate::Dead,
        Some((Upload::Abandoned, _)) => Fate::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEM: Item = Item {
        number: UploadNumber::new(5),
        version: VersionId::new(50),
    };

    fn fate(has_chunk: bool, state: Option<Upload>, high_water: u64) -> Fate {
        let known = state.map(|state| Known {
            version: VersionId::new(50),
            state,
            since: ClusterTime::from_millis(100),
        });
        let before = ClusterTime::from_millis(200);
        judge(ITEM, has_chunk, known, UploadNumber::new(high_water), before)
    }

    #[test]
    fn only_what_has_ended_is_dead() {
        assert_eq!(fate(false, Some(Upload::Open), 9), Fate::Keep);
        assert_eq!(fate(false, Some(Upload::Sealed), 9), Fate::Dead);
        assert_eq!(fate(false, Some(Upload::Abandoned), 9), Fate::Dead);
        assert_eq!(fate(false, None, 9), Fate::Dead);
        assert_eq!(fate(false, None, 5), Fate::Dead);
    }

    #[test]
    fn what_a_manifest_may_name_stays() {
        for state in [None, Some(Upload::Sealed), Some(Upload::Abandoned)] {
            assert_eq!(fate(true, state, 9), Fate::Keep);
        }
    }

    #[test]
    fn lost_state_is_noticed() {
        assert_eq!(fate(false, None, 4), Fate::BeyondKnowledge);
        assert_eq!(fate(true, None, 4), Fate::BeyondKnowledge);
        let other = Known {
            version: VersionId::new(51),
            state: Upload::Abandoned,
            since: ClusterTime::default(),
        };
        let high_water = UploadNumber::new(9);
        let judged = judge(ITEM, false, Some(other), high_water, ClusterTime::from_millis(1));
        assert_eq!(judged, Fate::BeyondKnowledge);
    }

    #[test]
    fn the_recently_abandoned_can_still_be_looked_at() {
        let known = Known {
            version: VersionId::new(50),
            state: Upload::Abandoned,
            since: ClusterTime::from_millis(300),
        };
        let before = ClusterTime::from_millis(200);
        let judged = judge(ITEM, false, Some(known), UploadNumber::new(9), before);
        assert_eq!(judged, Fate::Keep);
    }
}
