//! Orders of the leader that destroy: drops, and the epochs that fence them.
//!
//! Invariant (P6, P7): an order acts only after its epoch is durable here, and never below the highest seen. A drop
//! acts only after its tombstone is durable, and is answered only then; what was answered never comes back. A disk that
//! refuses keeps its own drops waiting and nobody else's.

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

    pub(super) async fn drop_attempts(&self, epoch: Epoch, attempts: &[AttemptId]) -> Result<Dropped, Error> {
        if attempts.len() > DROPS_PER_ORDER_MAX {
            let reason = format!("an order drops at most {DROPS_PER_ORDER_MAX} attempts");
            return Err(Error::Invalid { reason });
        }
        self.check_open()?;
        self.raise_epoch(epoch).await?;
        fail::point("replica.tombstoned:before");
        let mut dropped = Dropped::default();
        for (disk, todo) in self.by_disk(attempts) {
            let handle = self.handle(disk)?;
            let notes: Vec<Note> = todo.fresh.iter().copied().map(Note::Tombstone).collect();
            let outcome = if notes.is_empty() {
                Ok(())
            } else {
                handle.journal.append(notes).await
            };
            dropped.attempts.extend(todo.had_tombstone);
            match outcome {
                Ok(()) => {
                    fail::point("replica.tombstoned:after");
                    dropped.attempts.extend(todo.fresh);
                    reclaim::punch_dropped(&handle.disk).await;
                }
                Err(error) => {
                    dropped.left += todo.fresh.len();
                    dropped.failure = dropped.failure.or(Some(error));
                }
            }
        }
        Ok(dropped)
    }

    /// What is to be done on each disk: that which has the record, or will; tombstones of unknown attempts go to the
    /// first disk that takes writes.
    fn by_disk(&self, attempts: &[AttemptId]) -> BTreeMap<DiskNumber, ToDrop> {
        let healthy = self.disks.iter().find(|handle| handle.disk.refusal().is_none());
        let fallback = healthy.map_or(DiskNumber(0), |handle| handle.disk.number);
        let mut all: BTreeMap<DiskNumber, ToDrop> = BTreeMap::new();
        self.index.read(|content| {
            for attempt in attempts {
                if content.has_tombstone(*attempt) {
                    all.entry(fallback).or_default().had_tombstone.push(*attempt);
                    continue;
                }
                let record = content.records.get(attempt).map(|entry| entry.disk);
                let disk = record.or_else(|| content.writing.get(attempt).copied());
                let todo = all.entry(disk.unwrap_or(fallback)).or_default();
                todo.fresh.push(*attempt);
            }
        });
        all
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

/// The attempts of an order that are one disk's business.
#[derive(Default)]
struct ToDrop {
    fresh: Vec<AttemptId>,
    had_tombstone: Vec<AttemptId>,
}
