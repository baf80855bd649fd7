//! Which cluster gets a new file.
//!
//! Two candidates are drawn among the clusters that can take the file, and the one that would be less burdened by it
//! gets it ("the power of two choices", Mitzenmacher 2001). The burden is what is on its way to a cluster, with this
//! file, divided by the cluster's strength (free disk, idle CPU, free memory), so that files arrive in proportion to
//! strength even when many are opened between two heartbeats: what was assigned since counts as being on its way.

use std::time::Duration;

use common::error::Kind;
use common::random::Random;
use common::units::ByteCount;

use super::refusal::Refusal;

/// What a file counts for in the balance when its size is not known.
pub(crate) const ASSUMED_BYTES: u64 = 64 << 20;
/// The least that a file counts for in the balance: even an empty one costs a seal and a publication.
pub(crate) const FILE_BYTES_MIN: u64 = 1 << 20;

/// No cluster's strength is below this, so that a burden is always a number.
const STRENGTH_MIN: f64 = 0.01;

/// A cluster as its last heartbeat describes it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Candidate<Id> {
    /// Which.
    pub(crate) id: Id,
    /// Since the last heartbeat arrived; `None` before the first.
    pub(crate) silent_for: Option<Duration>,
    /// Whether it says that it takes new files.
    pub(crate) accepts_files: bool,
    /// Thousandths of its CPU that are busy.
    pub(crate) cpu_permille: u32,
    /// Thousandths of its memory that are used.
    pub(crate) memory_permille: u32,
    /// Bytes of disk in all.
    pub(crate) capacity_bytes: u64,
    /// Bytes which new data may still take.
    pub(crate) free_bytes: u64,
    /// Bytes on their way there, by its own count and by assignments it does not know of yet.
    pub(crate) on_the_way_bytes: u64,
    /// The part of them that is known: only that takes room, an assumption refuses nobody.
    pub(crate) booked_bytes: u64,
}

/// When a cluster may be chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// A cluster not heard from for so long is left out.
    pub(crate) silence_max: Duration,
    /// A cluster with a larger part of its disk in use gets no new files, in thousandths.
    pub(crate) high_water_permille: u32,
}

/// Chooses among `candidates` for a file of `size_hint` bytes (`None`: not known).
///
/// # Errors
/// `Full`: all that are well have no room. `Retry`: none is well.
pub(crate) fn choose<Id: Copy>(
    candidates: &[Candidate<Id>],
    size_hint: Option<u64>,
    policy: Policy,
    random: &Random,
) -> Result<Id, Refusal> {
    let well: Vec<&Candidate<Id>> = candidates
        .iter()
        .filter(|candidate| candidate.is_well(policy))
        .collect();
    if well.is_empty() {
        return Err(Refusal::new(
            Kind::Retry,
            "E_NO_CLUSTER",
            "no cluster takes new files at the moment",
        )
        .hint("`dbfs status` says why each of them does not"));
    }
    let fit: Vec<&Candidate<Id>> = well
        .into_iter()
        .filter(|candidate| candidate.has_room(size_hint, policy))
        .collect();
    let (first, second) = draw_two(&fit, random).ok_or_else(|| no_space(size_hint))?;
    let bytes = counted(size_hint);
    Ok(if second.burden(bytes) < first.burden(bytes) {
        second.id
    } else {
        first.id
    })
}

/// Why a cluster gets no new files, even small ones; `None` where it does.
pub(crate) fn why_not<Id>(candidate: &Candidate<Id>, policy: Policy) -> Option<String> {
    match candidate.silent_for {
        None => Some("not heard from yet".to_owned()),
        Some(silence) if silence > policy.silence_max => {
            Some(format!("not heard from for {} s", silence.as_secs()))
        }
        Some(_) if !candidate.accepts_files => Some("the cluster takes no new files".to_owned()),
        Some(_) if !candidate.has_room(Some(FILE_BYTES_MIN), policy) => Some(format!(
            "its disks are full: {} of {} left for new data, {} % are kept back",
            ByteCount::new(candidate.free_bytes),
            ByteCount::new(candidate.capacity_bytes),
            1000_u32.saturating_sub(policy.high_water_permille) / 10
        )),
        Some(_) => None,
    }
}

/// What a file of `size_hint` bytes counts for in the balance.
pub(crate) fn counted(size_hint: Option<u64>) -> u64 {
    size_hint.map_or(ASSUMED_BYTES, |size| size.max(FILE_BYTES_MIN))
}

fn no_space(size_hint: Option<u64>) -> Refusal {
    let what = match size_hint {
        None => "the file".to_owned(),
        Some(0) => "even an empty file".to_owned(),
        Some(size) => ByteCount::new(size).to_string(),
    };
    Refusal::new(
        Kind::Full,
        "E_NO_SPACE",
        format!("no cluster has room for {what}"),
    )
    .hint("add disks or a cluster, or release what was deleted: `dbfs trash empty`")
}

/// Two different ones where there are two.
fn draw_two<'a, T>(from: &[&'a T], random: &Random) -> Option<(&'a T, &'a T)> {
    let count = from.len() as u64;
    let first = random.below(count);
    let second = (first + 1 + random.below(count.saturating_sub(1))) % count.max(1);
    let at = |index: u64| from.get(usize::try_from(index).ok()?).copied();
    Some((at(first)?, at(second)?))
}

impl<Id> Candidate<Id> {
    fn is_well(&self, policy: Policy) -> bool {
        self.accepts_files
            && self
                .silent_for
                .is_some_and(|silence| silence <= policy.silence_max)
    }

    /// Room for twice the file and what is known to be on its way besides (every byte is kept at least twice), below the
    /// high-water mark.
    fn has_room(&self, size_hint: Option<u64>, policy: Policy) -> bool {
        let kept_back = u128::from(self.capacity_bytes)
            * u128::from(1000_u32.saturating_sub(policy.high_water_permille))
            / 1000;
        let wanted = (u128::from(self.booked_bytes) + u128::from(size_hint.unwrap_or(0))) * 2;
        u128::from(self.free_bytes) > kept_back + wanted
    }

    fn strength(&self) -> f64 {
        let free = if self.capacity_bytes == 0 {
            0.0
        } else {
            self.free_bytes as f64 / self.capacity_bytes as f64
        };
        let idle = |permille: u32| 1.0 - f64::from(permille.min(1000)) / 1000.0;
        let strength = free.min(1.0) * idle(self.cpu_permille) * idle(self.memory_permille);
        strength.max(STRENGTH_MIN)
    }

    fn burden(&self, bytes: u64) -> f64 {
        (self.on_the_way_bytes as f64 + bytes as f64) / self.strength()
    }
}

#[cfg(test)]
mod tests;
