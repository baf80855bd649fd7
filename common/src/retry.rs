//! How often and how soon to try again: exponential backoff with full jitter, within a budget.

use std::time::Duration;

use crate::random::Random;

/// A schedule of waits. Waits are random between half and the whole of a span that doubles up to a maximum.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// The first span.
    pub first: Duration,
    /// The longest span.
    pub longest: Duration,
    /// How many tries in all, the first included.
    pub tries_max: u32,
}

impl Schedule {
    /// For calls on a local network: 20 ms to 1 s, 40 tries (about 35 s), which outlives an election.
    pub const CONTROL: Schedule = Schedule {
        first: Duration::from_millis(20),
        longest: Duration::from_secs(1),
        tries_max: 40,
    };

    /// Begins the schedule.
    pub fn start(self) -> Backoff {
        Backoff {
            schedule: self,
            tries: 1,
            span: self.first,
        }
    }
}

/// A schedule under way.
#[derive(Clone, Debug)]
pub struct Backoff {
    schedule: Schedule,
    tries: u32,
    span: Duration,
}

impl Backoff {
    /// The wait before the next try, at least `floor` (what a busy peer asked for); `None` when the budget is spent.
    pub fn next(&mut self, random: &Random, floor: Duration) -> Option<Duration> {
        if self.tries >= self.schedule.tries_max {
            return None;
        }
        self.tries += 1;
        let wait = self.span.mul_f64(0.5 + random.unit() / 2.0);
        self.span = (self.span * 2).min(self.schedule.longest);
        Some(wait.max(floor))
    }

    /// Tries so far, the first included.
    pub const fn tries(&self) -> u32 {
        self.tries
    }

    /// After progress: the budget and the spans begin anew.
    pub fn reset(&mut self) {
        *self = self.schedule.start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_end() {
        let random = Random::seeded(3);
        let schedule = Schedule {
            first: Duration::from_millis(10),
            longest: Duration::from_millis(40),
            tries_max: 5,
        };
        let mut backoff = schedule.start();
        let waits: Vec<_> = std::iter::from_fn(|| backoff.next(&random, Duration::ZERO)).collect();
        assert_eq!(waits.len(), 4);
        for (wait, span) in waits.iter().zip([10, 20, 40, 40]) {
            let span = Duration::from_millis(span);
            assert!(*wait >= span / 2 && *wait <= span, "{wait:?} for {span:?}");
        }
    }
}
