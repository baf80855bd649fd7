//! Room on one disk: what is used, what is promised to writers, what may be promised.
//!
//! Invariant: used and promised bytes together never exceed the capacity less the reserve, however many writers ask
//! at once; a promise is a guard that moves with the work and is given back when dropped.

use std::sync::Arc;
use std::time::Duration;

use common::disk::Space as FileSystem;
use common::time::{Clock, Moment};
use common::units::ByteCount;
use parking_lot::Mutex;

/// How old the file system's word on its free space may be.
const MEASURE_PERIOD: Duration = Duration::from_secs(1);

pub(super) struct Space {
    capacity: Option<u64>,
    reserve: u64,
    /// What others keep free on the file system.
    beside: u64,
    clock: Clock,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    used: u64,
    promised: u64,
    /// Writers that hold a segment.
    writers: u32,
    /// Writers that hold memory alone.
    small_writers: u32,
    file_system: FileSystem,
    /// Promised since the file system was measured.
    promised_since: u64,
    measured: Option<Moment>,
}

/// Why nothing was promised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// No room.
    Full,
    /// Too many writers.
    Busy,
}

/// Room promised to one record.
pub(super) struct Promise {
    space: Arc<Space>,
    bytes: u64,
    holds_segment: bool,
}

impl Counts {
    const fn writers_of(&mut self, holds_segment: bool) -> &mut u32 {
        if holds_segment {
            &mut self.writers
        } else {
            &mut self.small_writers
        }
    }
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) capacity: u64,
    pub(super) used: u64,
    pub(super) promised: u64,
    /// What may still be promised.
    pub(super) free: u64,
    pub(super) writers: u32,
}

impl Space {
    pub(super) fn new(
        capacity: Option<ByteCount>,
        reserve: ByteCount,
        beside: ByteCount,
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new(Self {
            capacity: capacity.map(ByteCount::get),
            reserve: reserve.get(),
            beside: beside.get(),
            clock,
            counts: Mutex::default(),
        })
    }

    /// Whether the file system should be measured again.
    pub(super) fn is_stale(&self) -> bool {
        let now = self.clock.moment();
        let measured = self.counts.lock().measured;
        measured.is_none_or(|at| now.since(at) >= MEASURE_PERIOD)
    }

    pub(super) fn measured(&self, file_system: FileSystem) {
        let mut counts = self.counts.lock();
        counts.file_system = file_system;
        counts.promised_since = 0;
        counts.measured = Some(self.clock.moment());
    }

    pub(super) fn room(&self) -> Room {
        let counts = self.counts.lock();
        self.room_of(&counts)
    }

    fn room_of(&self, counts: &Counts) -> Room {
        let taken = counts.used + counts.promised + self.reserve;
        let available = counts.file_system.available.get();
        let physical = available.saturating_sub(counts.promised_since + self.reserve + self.beside);
        let total = counts.file_system.total.get();
        let capacity = self.capacity.map_or(total, |limit| limit.min(total));
        Room {
            capacity,
            used: counts.used,
            promised: counts.promised,
            free: capacity.saturating_sub(taken).min(physical),
            writers: counts.writers,
        }
    }

    /// Promises `bytes` to one of at most `writers_max` writers of its kind: those that hold a segment, or not.
    pub(super) fn promise(
        self: &Arc<Self>,
        bytes: u64,
        holds_segment: bool,
        writers_max: u32,
    ) -> Result<Promise, Refused> {
        let mut counts = self.counts.lock();
        if self.room_of(&counts).free < bytes {
            return Err(Refused::Full);
        }
        let writers = counts.writers_of(holds_segment);
        if *writers >= writers_max {
            return Err(Refused::Busy);
        }
        *writers += 1;
        counts.promised += bytes;
        counts.promised_since += bytes;
        Ok(Promise {
            space: Arc::clone(self),
            bytes,
            holds_segment,
        })
    }

    /// What recovery found, in place of what was counted before.
    pub(super) fn set_used(&self, bytes: u64) {
        self.counts.lock().used = bytes;
    }

    /// Counts bytes as used that need no promise: journals, checkpoints, heads of segments.
    pub(super) fn add(&self, bytes: u64) {
        self.counts.lock().used += bytes;
    }

    /// Bytes were given back.
    pub(super) fn remove(&self, bytes: u64) {
        let mut counts = self.counts.lock();
        counts.used = counts.used.saturating_sub(bytes);
        // The file system has more than it said; ask again.
        counts.measured = None;
    }
}

impl Promise {
    /// The record is stored and takes `bytes`, at most what was promised.
    pub(super) fn keep(self, bytes: u64) {
        self.space.counts.lock().used += bytes;
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let mut counts = self.space.counts.lock();
        counts.promised = counts.promised.saturating_sub(self.bytes);
        let writers = counts.writers_of(self.holds_segment);
        *writers = writers.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(capacity: Option<u64>, available: u64) -> Arc<Space> {
        let (capacity, none) = (capacity.map(ByteCount::new), ByteCount::default());
        let space = Space::new(capacity, ByteCount::new(100), none, Clock::real());
        space.measured(FileSystem {
            total: ByteCount::new(10_000),
            available: ByteCount::new(available),
        });
        space
    }

    #[test]
    fn promises_never_exceed_the_limit() {
        let space = space(Some(1000), 10_000);
        let first = space.promise(600, true, 9).ok().unwrap();
        assert_eq!(space.promise(301, true, 9).err(), Some(Refused::Full));
        assert_eq!(space.promise(1, true, 1).err(), Some(Refused::Busy));
        let second = space.promise(300, false, 1).ok().unwrap();
        assert_eq!(space.room().free, 0);
        assert_eq!(space.room().writers, 1);
        first.keep(500);
        drop(second);
        assert_eq!((space.room().used, space.room().promised), (500, 0));
        assert_eq!(space.room().free, 400);
        assert_eq!(space.room().writers, 0);
    }

    #[test]
    fn the_file_system_limits_too() {
        let space = space(None, 1000);
        assert_eq!(space.room().free, 900);
        let promise = space.promise(900, true, 9).ok().unwrap();
        promise.keep(900);
        assert!(
            space.promise(1, true, 9).is_err(),
            "what was promised since counts"
        );
        space.remove(900);
        assert!(space.is_stale());
    }

    #[test]
    fn what_others_keep_free_on_the_file_system_is_not_promised() {
        let beside = ByteCount::new(300);
        let space = Space::new(
            Some(ByteCount::new(5_000)),
            ByteCount::new(100),
            beside,
            Clock::real(),
        );
        let measured = |available| {
            space.measured(FileSystem {
                total: ByteCount::new(10_000),
                available: ByteCount::new(available),
            });
            space.room().free
        };
        assert_eq!(measured(9_000), 4_900, "the limit of the directory is its own");
        assert_eq!(measured(1_000), 600);
        assert_eq!(measured(400), 0);
    }
}
