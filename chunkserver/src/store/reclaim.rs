//! Gives the bytes of dropped records back: holes, and the files of segments in which nothing is left.
//!
//! Invariant: only records whose tombstone is durable are touched. A hole that a crash undoes is made again, because
//! the record stays in checkpoints until a sync covers its hole ([`super::checkpoint`]).

use std::collections::BTreeMap;

use common::ids::AttemptId;

use super::disk::StoreDisk;
use super::index::{Entry, SegmentId};

const PUNCH: &str = "give the space of dropped records back";

/// Punches out every dropped record of `disk`, then removes segments that are empty. What fails stays listed and is
/// tried again at the next call. Two calls at once do no harm.
pub(super) async fn punch_dropped(disk: &StoreDisk) {
    if disk.refusal().is_some() {
        return;
    }
    let work = disk.index.read(|content| {
        let mut work: BTreeMap<SegmentId, Vec<(AttemptId, Entry)>> = BTreeMap::new();
        let dropped = content.disks.get(&disk.number).map(|own| &own.unpunched);
        for attempt in dropped.into_iter().flatten() {
            if let Some(entry) = content.records.get(attempt) {
                work.entry(entry.segment).or_default().push((*attempt, *entry));
            }
        }
        work
    });
    for (segment, records) in work {
        let gone = punch(disk, segment, &records).await;
        let bytes = disk
            .index
            .write(|content| gone.iter().map(|attempt| content.forget(*attempt)).sum::<u64>());
        disk.space.remove(bytes);
    }
    disk.remove_empty_segments().await;
}

/// The attempts whose bytes are gone.
async fn punch(disk: &StoreDisk, segment: SegmentId, records: &[(AttemptId, Entry)]) -> Vec<AttemptId> {
    let mut gone = Vec::with_capacity(records.len());
    let file = match disk.open_for_change(segment).await {
        Ok(file) => file,
        Err(super::error::Error::Disk(common::disk::Error::NotFound { .. })) => {
            gone.extend(records.iter().map(|(attempt, _)| *attempt));
            return gone;
        }
        Err(error) => {
            disk.log_failure(PUNCH, &error);
            return gone;
        }
    };
    for (attempt, entry) in records {
        match file.punch(entry.extent.offset(), entry.extent.bytes()).await {
            Ok(()) => gone.push(*attempt),
            Err(error) => {
                disk.log_failure(PUNCH, &error);
                return gone;
            }
        }
    }
    disk.log_success(PUNCH);
    gone
}
