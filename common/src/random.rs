//! The randomness seam: the operating system's source, or a seeded one that repeats itself.

use std::sync::Arc;

use aws_lc_rs::rand::SecureRandom;
use parking_lot::Mutex;

/// A cloneable handle to a source of random numbers.
#[derive(Clone)]
pub struct Random(Source);

#[derive(Clone)]
enum Source {
    System,
    /// State of a SplitMix64 generator (Steele, Lea, Flood 2014), shared by all clones.
    Seeded(Arc<Mutex<u64>>),
}

impl Random {
    /// The operating system's source, fit for keys.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A source that gives the same numbers for the same seed. Never for keys.
    pub fn seeded(seed: u64) -> Self {
        Self(Source::Seeded(Arc::new(Mutex::new(seed))))
    }

    /// Fills `out`.
    ///
    /// # Panics
    /// If the operating system has no randomness to give: nothing safe can be done without.
    pub fn fill(&self, out: &mut [u8]) {
        match &self.0 {
            Source::System => aws_lc_rs::rand::SystemRandom::new()
                .fill(out)
                .expect("the operating system gives random bytes"),
            Source::Seeded(state) => {
                let mut state = state.lock();
                for part in out.chunks_mut(8) {
                    let bytes = splitmix(&mut state).to_le_bytes();
                    part.copy_from_slice(bytes.get(..part.len()).unwrap_or_default());
                }
            }
        }
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }

    /// Any number.
    pub fn number(&self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    /// A number below `bound`; 0 if `bound` is 0. The bias is at most `bound / 2^64`.
    pub fn below(&self, bound: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from 0 up to, but not including, 1.
    pub fn unit(&self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl std::fmt::Debug for Random {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Source::System => "Random(system)",
            Source::Seeded(_) => "Random(seeded)",
        })
    }
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_repeat() {
        assert_eq!(Random::seeded(7).bytes::<24>(), Random::seeded(7).bytes::<24>());
        assert_ne!(Random::seeded(7).number(), Random::seeded(8).number());
        let random = Random::seeded(1);
        assert!((0..1000).all(|_| random.below(3) < 3 && random.unit() < 1.0));
        assert_eq!(random.below(0), 0);
    }
}
