//! The cluster log: uploads, versions and chunks. Each method is one committed entry, judged when it is applied.

use common::lifecycle::{Chunk, ChunkEvent, Heard, Upload, UploadEvent, Version, VersionEvent};

use crate::rules::Broken;
use crate::state::{ChunkId, ClusterLog, Manifest, Number, Outcome, UploadRow};

/// What became of a seal when it was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sealing {
    /// The version exists; now or since an earlier copy of the same command.
    Sealed,
    /// The upload was abandoned before.
    Abandoned,
    /// The manifest names a chunk that is doomed: the client has to send it again.
    NamesDoomed,
}

impl ClusterLog {
    /// Does a sealed or published version name the chunk?
    pub(crate) fn is_held(&self, chunk: ChunkId) -> bool {
        let names_it = |row: &UploadRow| row.manifest.contains(&Some(chunk));
        self.uploads
            .values()
            .any(|row| row.version.is_some_and(Version::holds_chunks) && names_it(row))
    }

    /// May the upload that wrote the chunk still seal it?
    pub(crate) fn is_being_written(&self, chunk: ChunkId) -> bool {
        self.uploads
            .get(&chunk.upload)
            .is_some_and(|row| row.upload.may_be_written())
    }

    /// The version of an upload, in the state in which this log knows it.
    pub(crate) fn version(&self, number: Number) -> Option<Version> {
        self.uploads.get(&number).and_then(|row| row.version)
    }

    fn row(&mut self, number: Number) -> &mut UploadRow {
        let open = UploadRow {
            upload: Upload::Open,
            version: None,
            manifest: Manifest::default(),
            numbered_by: None,
        };
        self.uploads.entry(number).or_insert(open)
    }

    /// `Open(upload)` of a small file, under the number that the leadership of `epoch` gave it. What is recorded stays.
    pub(crate) fn record(&mut self, number: Number, epoch: u8) {
        if !self.uploads.contains_key(&number) {
            self.row(number).numbered_by = Some(epoch);
        }
    }

    /// `Seal(upload, chunk)` of a small file, recorded now under the number that the leadership of `epoch` gave it if it
    /// has no row yet. The chunk's row is made with it. False where the chunk carries another number.
    pub(crate) fn seal_small(&mut self, number: Number, chunk: ChunkId, epoch: Option<u8>) -> bool {
        let row = self.uploads.get(&number);
        let known = row.map_or(epoch, |row| row.numbered_by);
        let ended = row.is_some_and(|row| !row.upload.may_be_written());
        if ended || known.is_none() || known != chunk.numbered_by() {
            return ended;
        }
        let row = self.row(number);
        row.numbered_by = known;
        if let Ok(sealed) = row.upload.next(UploadEvent::Seal) {
            row.upload = sealed;
            row.version = Some(Version::Sealed);
            row.manifest = [Some(chunk), None];
            self.chunks.insert(chunk, Chunk::Live);
        }
        true
    }

    /// Is a lone chunk that some disk holds dead for all that this log knows? Its upload may still be known to the
    /// leader alone.
    pub(crate) fn has_no_use_for(&self, chunk: ChunkId) -> bool {
        let in_flight = self
            .uploads
            .get(&chunk.upload)
            .is_some_and(|row| row.upload.may_be_written() && row.numbered_by == chunk.numbered_by());
        chunk.numbered_by().is_some() && !self.chunks.contains_key(&chunk) && !in_flight
    }

    /// `Open(upload)`, and a chunk planned for it. False where the upload is no longer open.
    pub(crate) fn plan(&mut self, chunk: ChunkId) -> bool {
        let open = self.row(chunk.upload).upload.may_be_written();
        if open {
            self.chunks.entry(chunk).or_insert(Chunk::Live);
        }
        open
    }

    /// `Seal(upload, manifest)`.
    pub(crate) fn seal(&mut self, number: Number, manifest: Manifest, broken: Option<Broken>) -> Sealing {
        let may_be_named = |id: &ChunkId| self.chunks.get(id).is_some_and(|chunk| chunk.may_be_named());
        let nameable = manifest.iter().flatten().all(may_be_named) || broken == Some(Broken::SealNamesDoomed);
        let row = self.row(number);
        match row.upload.next(UploadEvent::Seal) {
            Ok(sealed) if nameable => {
                *row = UploadRow {
                    upload: sealed,
                    version: Some(Version::Sealed),
                    manifest,
                    numbered_by: None,
                };
                Sealing::Sealed
            }
            Ok(_) => Sealing::NamesDoomed,
            Err(refused) if refused.repeated => Sealing::Sealed,
            Err(_) => Sealing::Abandoned,
        }
    }

    /// `Abandon(upload)`: refused if sealed. An upload never heard of is opened and abandoned, so that a late `Open`
    /// finds it dead.
    pub(crate) fn abandon(&mut self, number: Number, broken: Option<Broken>) {
        let row = self.row(number);
        if let Ok(abandoned) = row.upload.next(UploadEvent::Abandon) {
            row.upload = abandoned;
        } else if broken == Some(Broken::AbandonAfterSeal) {
            row.upload = Upload::Abandoned;
        }
    }

    /// `Outcome(upload, published | refused)`: what the names layer answered to the publish.
    pub(crate) fn outcome(&mut self, number: Number, outcome: Outcome) {
        self.hear(
            number,
            if outcome == Outcome::Published {
                VersionEvent::Publish
            } else {
                VersionEvent::Refuse
            },
        );
    }

    /// `Release(version)`: what the names layer's outbox said.
    pub(crate) fn release(&mut self, number: Number) {
        self.hear(number, VersionEvent::Release);
    }

    /// Does no chunk of this released or refused version wait for it any more?
    pub(crate) fn may_reclaim(&self, number: Number) -> bool {
        let over = matches!(self.version(number), Some(Version::Released | Version::Refused));
        let done = |id: &ChunkId| self.chunks.get(id) == Some(&Chunk::Dropped) || self.is_held(*id);
        over && self
            .uploads
            .get(&number)
            .is_some_and(|row| row.manifest.iter().flatten().all(done))
    }

    /// `Reclaim(version)`: its manifest goes.
    pub(crate) fn reclaim(&mut self, number: Number) {
        if self.may_reclaim(number) {
            self.hear(number, VersionEvent::Reclaim);
            self.row(number).manifest = Manifest::default();
        }
    }

    /// `Mark(chunk)`: on the leader's word alone, because doom looks again.
    pub(crate) fn mark(&mut self, chunk: ChunkId) {
        self.move_chunk(chunk, ChunkEvent::Mark);
    }

    /// `Doom(chunk)`: looks at the manifests now, and dooms for ever or spares.
    pub(crate) fn doom(&mut self, chunk: ChunkId, broken: Option<Broken>) {
        let wanted = self.is_held(chunk) || self.is_being_written(chunk);
        let spare = wanted && broken != Some(Broken::DoomDoesNotLookAgain);
        self.move_chunk(
            chunk,
            if spare {
                ChunkEvent::Spare
            } else {
                ChunkEvent::Doom
            },
        );
    }

    /// `Dropped(chunk)`: every node has said that its tombstone is written.
    pub(crate) fn dropped(&mut self, chunk: ChunkId) {
        self.move_chunk(chunk, ChunkEvent::Drop);
    }

    fn move_chunk(&mut self, id: ChunkId, event: ChunkEvent) {
        if let Some(chunk) = self.chunks.get_mut(&id)
            && let Ok(moved) = chunk.next(event)
        {
            *chunk = moved;
        }
    }

    /// A contradiction between the logs changes nothing here; the properties find it in what stands in the two logs.
    fn hear(&mut self, number: Number, event: VersionEvent) {
        let row = self.row(number);
        if let Some(Ok(Heard::Moves(moved))) = row.version.map(|version| version.heard(event)) {
            row.version = Some(moved);
        }
    }
}
