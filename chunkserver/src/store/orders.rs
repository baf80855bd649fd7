//! Orders of the leader that destroy: drops, and the epochs that fence them.
//!
//! Invariant (P6, P7): an order acts only after its epoch is durable here, and never below the highest seen. A drop
//! acts only after its tombstone is durable, and is answered only then; what was answered never comes back.

use std::collections::BTreeMap;

use common::fail;
use common::ids::{AttemptId, Epoch};

use super::error::Error;
use super::index::{DiskNumber, Note};
use super::{Inner, reclaim};

/// Attempts in one order.
pub const DROPS_PER_ORDER_MAX: usize = 10_000;

impl Inner {
    pub(super) async fn raise_epoch(&self, epoch: Epoch) -> Result<(), Error> {
        let highest = *self.epoch.lock();
        if epoch < highest {
            return Err(Error::Stale { epoch, highest });
        }
        if epoch == highest {
            return Ok(());
        }
        // On every disk that takes writes: the disk that keeps it must not be the one that fails next.
        let mut durable = false;
        let mut failure = None;
        for handle in &self.disks {
            match handle.journal.append(vec![Note::Epoch(epoch)]).await {
                Ok(()) => durable = true,
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if !durable => Err(error),
            _ => {
                let mut highest = self.epoch.lock();
                *highest = (*highest).max(epoch);
                Ok(())
            }
        }
    }

    pub(super) async fn drop_attempts(&self, epoch: Epoch, attempts: &[AttemptId]) -> Result<(), Error> {
        if attempts.len() > DROPS_PER_ORDER_MAX {
            let reason = format!("an order drops at most {DROPS_PER_ORDER_MAX} attempts");
            return Err(Error::Invalid { reason });
        }
        self.check_open()?;
        self.raise_epoch(epoch).await?;
        fail::point("replica.tombstoned:before");
        let mut failure = None;
        for (disk, notes) in self.by_disk(attempts) {
            let handle = self.handle(disk)?;
            match handle.journal.append(notes).await {
                Ok(()) => {
                    fail::point("replica.tombstoned:after");
                    reclaim::punch_dropped(&handle.disk).await;
                }
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Tombstones still to be written, by the disk that has the record, or will: those of unknown attempts go to the
    /// first disk that takes writes.
    fn by_disk(&self, attempts: &[AttemptId]) -> BTreeMap<DiskNumber, Vec<Note>> {
        let healthy = self
            .disks
            .iter()
            .find(|handle| handle.disk.disk.poisoned().is_none());
        let fallback = healthy.map_or(DiskNumber(0), |handle| handle.disk.number);
        let mut notes: BTreeMap<DiskNumber, Vec<Note>> = BTreeMap::new();
        self.index.read(|content| {
            for attempt in attempts {
                if content.has_tombstone(*attempt) {
                    continue;
                }
                let record = content.records.get(attempt).map(|entry| entry.disk);
                let disk = record.or_else(|| content.writing.get(attempt).copied());
                let list = notes.entry(disk.unwrap_or(fallback)).or_default();
                list.push(Note::Tombstone(*attempt));
            }
        });
        notes
    }
}
