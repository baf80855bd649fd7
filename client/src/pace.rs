//! How many chunks are under way at once: fewer on a slow link.
//!
//! Chunks that share a slow link all take long, hold memory at nodes for as long, and lose more when one of them fails.
//! [`Pace`] keeps the time of a chunk bounded where fewer at once can do that. Pure: times come in as arguments.

use std::time::Duration;

/// A chunk should not take longer than this.
const CHUNK_TIME_MAX: Duration = Duration::from_secs(60);

/// The parallelism of one transfer.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    most: usize,
    now: usize,
}

impl Pace {
    /// Begins with `most`, and never has more.
    pub(crate) const fn new(most: usize) -> Self {
        let most = if most == 0 { 1 } else { most };
        Self { most, now: most }
    }

    /// How many chunks may be under way.
    pub(crate) const fn at_once(&self) -> usize {
        self.now
    }

    /// A chunk of `bytes` took so long while `under_way` shared the link, itself included.
    pub(crate) fn took(&mut self, bytes: u64, time: Duration, under_way: usize) {
        if bytes == 0 {
            return;
        }
        let share = under_way.max(1) as f64;
        // What one chunk would have taken alone, times how many fit into the time that it may take.
        let alone = (time.as_secs_f64() / share).max(f64::EPSILON);
        let fit = CHUNK_TIME_MAX.as_secs_f64() / alone;
        let fit = if fit >= self.most as f64 {
            self.most
        } else {
            fit as usize
        };
        // Down at once, up one by one.
        self.now = fit.min(self.now + 1).clamp(1, self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_link_carries_few_chunks_at_once_and_a_fast_one_as_many_as_it_may() {
        let mut pace = Pace::new(4);
        pace.took(64 << 20, Duration::from_secs(2), 4);
        assert_eq!(pace.at_once(), 4);
        // 64 MiB at 20 KB/s, four at once.
        pace.took(64 << 20, Duration::from_secs(13_400), 4);
        assert_eq!(pace.at_once(), 1);
        // One alone takes 20 s: three of them take a minute.
        for expected in [2, 3, 3] {
            pace.took(
                1 << 20,
                Duration::from_secs(20 * pace.at_once() as u64),
                pace.at_once(),
            );
            assert_eq!(pace.at_once(), expected);
        }
        pace.took(1 << 20, Duration::ZERO, 1);
        assert_eq!(pace.at_once(), 4);
    }
}
