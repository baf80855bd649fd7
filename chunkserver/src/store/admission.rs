//! Admits a record: whether it may be written, and to which disk.
//!
//! Invariant (P10): nobody waits in here for another writer. A primary that held a segment while it waited for its
//! delegate, which waited for a segment in turn, could wait for ever; so what there is no room for is refused.

use std::sync::Arc;

use common::error::Kind;
use common::ids::AttemptId;

use super::error::Error;
use super::index::{Entry, State};
use super::packer::SMALL_WRITERS_PER_DISK_MAX;
use super::record::{Layout, RecordMeta};
use super::space::Promise;
use super::writer::{Begun, Open, Progress, Writer, is_length, layout_for};
use super::{DiskHandle, Inner};

/// What stands in the way of a new record.
enum Presence {
    Absent,
    Same(AttemptId),
}

impl Inner {
    pub(super) async fn begin(self: Arc<Self>, meta: RecordMeta, length_max: u64) -> Result<Begun, Error> {
        if !is_length(length_max) {
            let reason = format!(
                "attempt {}: a chunk cannot be {length_max} bytes long",
                meta.attempt
            );
            return Err(Error::Invalid { reason });
        }
        self.check_open()?;
        if let Presence::Same(attempt) = self.presence(&meta)? {
            return Ok(Begun::Stored(self.stored(attempt).await?));
        }
        match layout_for(length_max) {
            Layout::Packed => self.begin_packed(meta, length_max).await,
            Layout::Bulk => {
                // In a task of its own, so that a segment is not lost when the caller goes away.
                let runtime = self.runtime.clone();
                let begun = runtime.spawn(self.begin_bulk(meta, length_max)).await;
                begun.map_err(|_| Error::Closed)?
            }
        }
    }

    async fn begin_packed(self: Arc<Self>, meta: RecordMeta, length_max: u64) -> Result<Begun, Error> {
        let bytes = Layout::Packed.record_bytes(length_max);
        let mut refusal = Refusal::default();
        for handle in self.by_preference().await {
            match self.promise(&handle, bytes, false) {
                Ok(promise) => {
                    self.reserve(&meta, &handle)?;
                    let open = self.open(&handle, meta, length_max, promise);
                    return Ok(Begun::Writing(Writer::new(open)));
                }
                Err(error) => refusal.add(error),
            }
        }
        Err(refusal.into_error(bytes))
    }

    async fn begin_bulk(self: Arc<Self>, meta: RecordMeta, length_max: u64) -> Result<Begun, Error> {
        let bytes = Layout::Bulk.record_bytes(length_max);
        let mut refusal = Refusal::default();
        for handle in self.by_preference().await {
            let promise = match self.promise(&handle, bytes, true) {
                Ok(promise) => promise,
                Err(error) => {
                    refusal.add(error);
                    continue;
                }
            };
            self.reserve(&meta, &handle)?;
            let mut open = self.open(&handle, meta.clone(), length_max, promise);
            match handle.disk.acquire().await {
                Ok(segment) => {
                    let segment = open.segment.insert(segment);
                    match segment.allocate(bytes, 0).await {
                        Ok(()) => return Ok(Begun::Writing(Writer::new(open))),
                        Err(error) => refusal.add(error),
                    }
                }
                Err(error) => refusal.add(error),
            }
            open.abandon().await;
        }
        Err(refusal.into_error(bytes))
    }

    fn open(
        self: &Arc<Self>,
        handle: &DiskHandle,
        meta: RecordMeta,
        length_max: u64,
        promise: Promise,
    ) -> Open {
        Open {
            inner: Arc::clone(self),
            disk: Arc::clone(&handle.disk),
            meta,
            length_max,
            segment: None,
            promise,
            progress: Progress::default(),
        }
    }

    /// Disks that may take a record, the best first: without trouble, much free space, few writers.
    async fn by_preference(&self) -> Vec<DiskHandle> {
        let mut disks = Vec::with_capacity(self.disks.len());
        for (at, handle) in self.disks.iter().enumerate() {
            if handle.disk.refusal().is_none() {
                handle.disk.measure().await;
            }
            let room = handle.disk.space.room();
            let troubled = handle.disk.trouble().is_some();
            let score = room.free / (1 + u64::from(room.writers));
            disks.push(((troubled, std::cmp::Reverse(score), at), handle.clone()));
        }
        disks.sort_by_key(|(score, _)| *score);
        disks.into_iter().map(|(_, handle)| handle).collect()
    }

    fn promise(&self, handle: &DiskHandle, bytes: u64, bulk: bool) -> Result<Promise, Error> {
        let disk = &handle.disk;
        if let Some(reason) = disk.refusal() {
            let reason = format!("{}: {reason}", disk.disk.describe());
            return Err(Error::Unwritable { reason });
        }
        let limit = if bulk {
            self.config.writers_per_disk_max
        } else {
            SMALL_WRITERS_PER_DISK_MAX
        };
        disk.space
            .promise(bytes, bulk, limit)
            .map_err(|refused| match refused {
                super::space::Refused::Full => Error::Full { bytes },
                super::space::Refused::Busy => Error::Busy {
                    what: "chunks written",
                },
            })
    }

    /// Enters the attempt as being written, unless somebody was faster.
    fn reserve(&self, meta: &RecordMeta, handle: &DiskHandle) -> Result<(), Error> {
        self.index.write(|content| {
            let attempt = meta.attempt;
            if content.has_tombstone(attempt) {
                return Err(Error::Dropped { attempt });
            }
            if content.writing.contains_key(&attempt) || content.records.contains_key(&attempt) {
                return Err(Error::Conflict {
                    attempt,
                    state: "being written by another",
                });
            }
            content.writing.insert(attempt, handle.disk.number);
            Ok(())
        })
    }

    fn presence(&self, meta: &RecordMeta) -> Result<Presence, Error> {
        let attempt = meta.attempt;
        let conflict = |state| Err(Error::Conflict { attempt, state });
        self.index.read(|content| {
            if content.has_tombstone(attempt) {
                return Err(Error::Dropped { attempt });
            }
            if content.writing.contains_key(&attempt) {
                return conflict("being written by another");
            }
            match content.records.get(&attempt) {
                None => Ok(Presence::Absent),
                Some(entry) => match entry.state {
                    State::Stored if is_same(entry, meta) => Ok(Presence::Same(attempt)),
                    State::Stored => conflict("stored with another upload, version or index"),
                    State::Suspect => conflict("stored but damaged"),
                    State::Dropped => Err(Error::Dropped { attempt }),
                },
            }
        })
    }
}

fn is_same(entry: &Entry, meta: &RecordMeta) -> bool {
    entry.upload == meta.upload && entry.version == meta.version && entry.index == meta.index
}

/// Why no disk would do: busy goes before full (it passes), full before failed (it says what to do).
#[derive(Default)]
struct Refusal(Option<Error>);

impl Refusal {
    fn add(&mut self, error: Error) {
        let rank = |error: &Error| match error.kind() {
            Kind::Busy => 2,
            Kind::Full => 1,
            _ => 0,
        };
        if self.0.as_ref().is_none_or(|known| rank(&error) > rank(known)) {
            self.0 = Some(error);
        }
    }

    fn into_error(self, bytes: u64) -> Error {
        match self.0 {
            Some(error) if error.kind() == Kind::Full => Error::Full { bytes },
            Some(error) => error,
            None => Error::Unwritable {
                reason: "it has no data directories".to_owned(),
            },
        }
    }
}
