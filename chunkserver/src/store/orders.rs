//! Orders of the leader that destroy: drops, and the epochs that fence them.
//!
//! Invariant (P6, P7): an order acts only after its epoch is durable here, and never below the highest seen. A drop
//! acts only after its tombstone is durable, and is answered only then; what was answered never comes back.
//!
//! Every disk carries out its own part of an order: a disk that refuses or hangs keeps its own drops waiting and nobody
//! else's.

use std::collections::BTreeMap;

use common::fail;
use common::ids::{AttemptId, DiskId, Epoch};
use futures::future::join_all;
use tokio::task::JoinSet;

use super::error::Error;
use super::index::{DiskNumber, Note};
use super::{DiskHandle, Inner, reclaim};

/// Attempts in one order.
pub const DROPS_PER_ORDER_MAX: usize = 10_000;

const NOTE_DROPS: &str = "write down what is dropped";

/// How long the other disks get to persist an epoch once one disk has.
const EPOCH_GRACE: std::time::Duration = std::time::Duration::from_millis(500);

/// An order to drop, split by the disks that carry it out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// Attempts whose tombstones are durable already.
    pub done: Vec<AttemptId>,
    /// The others, by the disk that holds the record or will hold its tombstone.
    pub by_disk: BTreeMap<DiskId, Vec<AttemptId>>,
}

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
        let mut raising = JoinSet::new();
        for handle in &self.disks {
            let journal = handle.journal.clone();
            let append = async move { journal.append(vec![Note::Epoch(epoch)]).await };
            raising.spawn_on(append, &self.runtime);
        }
        let mut failure = Error::Closed;
        while let Some(ended) = raising.join_next().await {
            match ended {
                Ok(Ok(())) => {
                    let others = async { while raising.join_next().await.is_some() {} };
                    // A disk that hangs persists the epoch later, or never: one copy is enough to be safe.
                    let _ = self.clock.timeout(EPOCH_GRACE, others).await;
                    raising.detach_all();
                    let mut highest = self.epoch.lock();
                    *highest = (*highest).max(epoch);
                    return Ok(());
                }
                Ok(Err(error)) => failure = error,
                // The store's runtime ends.
                Err(_) => {}
            }
        }
        Err(failure)
    }

    pub(super) async fn drop_attempts(&self, epoch: Epoch, attempts: &[AttemptId]) -> Result<Dropped, Error> {
        if attempts.len() > DROPS_PER_ORDER_MAX {
            let reason = format!("an order drops at most {DROPS_PER_ORDER_MAX} attempts");
            return Err(Error::Invalid { reason });
        }
        self.check_open()?;
        self.raise_epoch(epoch).await?;
        let drops = self.split_drops(attempts);
        let parts = drops.by_disk.into_iter().map(|(disk, attempts)| async move {
            let outcome = self.drop_on(disk, epoch, &attempts).await;
            if outcome.is_ok() {
                self.punch_dropped(disk).await;
            }
            (attempts, outcome)
        });
        let mut dropped = Dropped {
            attempts: drops.done,
            ..Dropped::default()
        };
        for (attempts, outcome) in join_all(parts).await {
            match outcome {
                Ok(()) => dropped.attempts.extend(attempts),
                Err(error) => {
                    dropped.left += attempts.len();
                    dropped.failure = dropped.failure.or(Some(error));
                }
            }
        }
        Ok(dropped)
    }

    /// Makes the tombstones of `attempts` durable on `disk`.
    pub(super) async fn drop_on(
        &self,
        disk: DiskId,
        epoch: Epoch,
        attempts: &[AttemptId],
    ) -> Result<(), Error> {
        self.check_open()?;
        self.raise_epoch(epoch).await?;
        fail::point("replica.tombstoned:before");
        let notes = attempts.iter().map(|attempt| Note::Tombstone(*attempt)).collect();
        let handle = self.handle_of(disk)?;
        match handle.journal.append(notes).await {
            Ok(()) => handle.disk.log_success(NOTE_DROPS),
            Err(error) => {
                // The leader repeats its order with every heartbeat.
                handle.disk.log_failure(NOTE_DROPS, &error);
                return Err(error);
            }
        }
        fail::point("replica.tombstoned:after");
        Ok(())
    }

    /// Gives the bytes of dropped records on `disk` back, as far as the disk allows now.
    pub(super) async fn punch_dropped(&self, disk: DiskId) {
        if let Ok(handle) = self.handle_of(disk) {
            reclaim::punch_dropped(&handle.disk).await;
        }
    }

    /// Splits an order. Attempts that are unknown go to the first disk that takes writes.
    pub(super) fn split_drops(&self, attempts: &[AttemptId]) -> Drops {
        let healthy = self.disks.iter().find(|handle| handle.disk.refusal().is_none());
        let fallback = healthy.map_or(DiskNumber(0), |handle| handle.disk.number);
        let mut drops = Drops::default();
        self.index.read(|content| {
            for attempt in attempts {
                if content.has_tombstone(*attempt) {
                    drops.done.push(*attempt);
                    continue;
                }
                let record = content.records.get(attempt).map(|entry| entry.disk);
                let number = record.or_else(|| content.writing.get(attempt).copied());
                if let Ok(handle) = self.handle(number.unwrap_or(fallback)) {
                    let of_disk = drops.by_disk.entry(handle.disk.owner.disk);
                    of_disk.or_default().push(*attempt);
                }
            }
        });
        drops
    }

    fn handle_of(&self, disk: DiskId) -> Result<&DiskHandle, Error> {
        let found = self.disks.iter().find(|handle| handle.disk.owner.disk == disk);
        found.ok_or(Error::Closed)
    }
}

/// What became of an order.
#[derive(Debug, Default)]
pub struct Dropped {
    /// These have durable tombstones.
    pub attempts: Vec<AttemptId>,
    /// How many have none, because their disks refused.
    pub left: usize,
    /// Why, of the first of them.
    pub failure: Option<Error>,
}
