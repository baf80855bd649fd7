//! The file beside the target which becomes the target once it is complete: `.NAME.dbfs-XXXXXXXX.part`.
//!
//! Invariant: the target is the old file or the whole new one, also after a power cut; an unfinished part never bears
//! the target's name. A part belongs to one process at a time, by a lock on the file. It stays behind only where a
//! later download can go on with it: not where the local disk is full, the version is gone, or it holds nothing.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::digest::ChunkHasher;
use common::error::Kind;
use rustix::fs::OFlags;

use super::manifest::Chunk;
use crate::buffer::{Buffers, FRAME_BYTES};
use crate::durable;
use crate::error::Error;

/// Longer names are cut in the name of a part, which has to fit where the name itself just fits (255 bytes, on some
/// file systems 143).
const STEM_BYTES_MAX: usize = 100;

/// A part file, locked. Everything here blocks on the disk.
pub(super) struct Part {
    file: File,
    path: PathBuf,
    target: PathBuf,
    /// It holds something that a later download may use.
    holds_something: AtomicBool,
}

/// Takes the part away when it is dropped, unless it is of use. Dropped with the download, not with the last task that
/// writes: the process may end before that.
pub(super) struct PartGuard {
    part: Arc<Part>,
    verdict: Verdict,
}

enum Verdict {
    /// Nobody can go on with it.
    Useless,
    /// A later download may go on with what it holds.
    Resumable,
    /// It bears the target's name now.
    Done,
}

/// What the names of all parts of `name` begin with.
pub(super) fn stem(name: &OsStr) -> OsString {
    let bytes = name.as_bytes();
    let mut stem = b".".to_vec();
    if bytes.len() <= STEM_BYTES_MAX {
        stem.extend(bytes);
    } else {
        // Not within a character: some file systems take whole ones only.
        let within = |byte: &u8| byte & 0xc0 == 0x80;
        let over = bytes.get(..=STEM_BYTES_MAX).unwrap_or_default();
        let cut = over.iter().rposition(|byte| !within(byte)).unwrap_or(0);
        stem.extend(bytes.get(..cut).unwrap_or_default());
        let hash = blake3::hash(bytes).to_hex();
        stem.extend(b"~");
        stem.extend(hash.as_bytes().get(..16).unwrap_or_default());
    }
    stem.extend(b".dbfs-");
    OsString::from_vec(stem)
}

/// Whether all of a range of `file` was written. A file system that cannot tell says yes.
fn is_written(file: &File, offset: u64, length: u64) -> bool {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(offset)) {
        Ok(hole) => hole >= offset.saturating_add(length),
        Err(_) => true,
    }
}

impl Part {
    /// Opens or creates the part of `target` with `tag`. With `resume` it may outlive a failure, and what it holds is
    /// looked at; otherwise it begins empty.
    pub(super) fn open(target: &Path, tag: &str, resume: bool) -> Result<PartGuard, Error> {
        let name = target
            .file_name()
            .ok_or_else(|| Error::Invalid(format!("{} names no file", target.display())))?;
        let mut part_name = stem(name);
        part_name.push(format!("{tag}.part"));
        let path = target.with_file_name(part_name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(|error| Error::local("create", &path, error))?;
        if !durable::try_lock(&file, &path).map_err(|error| Error::local("lock", &path, error))? {
            let error = io::Error::new(io::ErrorKind::ResourceBusy, "another download writes it");
            return Err(Error::local("write", path, error));
        }
        let held = file.metadata().is_ok_and(|metadata| metadata.blocks() > 0);
        let part = Self {
            file,
            path,
            target: target.to_owned(),
            holds_something: AtomicBool::new(held),
        };
        let guard = PartGuard {
            part: Arc::new(part),
            verdict: if resume {
                Verdict::Resumable
            } else {
                Verdict::Useless
            },
        };
        if !resume {
            guard.part.set_length(0)?;
        }
        Ok(guard)
    }

    /// Makes it so long; what is new reads as zeros.
    pub(super) fn set_length(&self, length: u64) -> Result<(), Error> {
        self.file
            .set_len(length)
            .map_err(|error| Error::local("write", &self.path, error))
    }

    /// Writes `bytes` at `offset`.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|error| Error::local("write", &self.path, error))?;
        self.holds_something.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// The hasher over `chunk` where the part holds it already, with the manifest's digest. A chunk that was not written
    /// whole is not read.
    pub(super) fn holds(&self, chunk: &Chunk, buffers: &Buffers) -> Option<ChunkHasher> {
        if !is_written(&self.file, chunk.offset, chunk.length) {
            return None;
        }
        let mut hasher = ChunkHasher::new(chunk.offset);
        let mut done = 0;
        while done < chunk.length {
            let mut buffer = buffers.lease();
            let wanted = usize::try_from(chunk.length - done)
                .unwrap_or(FRAME_BYTES)
                .min(FRAME_BYTES);
            let space = buffer.space().get_mut(..wanted)?;
            self.file.read_exact_at(space, chunk.offset + done).ok()?;
            hasher.update(space);
            done += wanted as u64;
        }
        (hasher.finish() == chunk.digest).then_some(hasher)
    }

    /// Makes it durable and gives it the target's name.
    fn take_name(&self) -> Result<(), Error> {
        durable::sync(&self.file, &self.path).map_err(|error| Error::local("write", &self.path, error))?;
        // What is there may be another than before the download.
        let free = match std::fs::symlink_metadata(&self.target) {
            Ok(found) => found.is_file(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if !free {
            let text = "it is no regular file any more";
            let error = io::Error::new(io::ErrorKind::AlreadyExists, text);
            return Err(Error::local("replace", &self.target, error));
        }
        durable::rename(&self.path, &self.target).map_err(|error| Error::local("rename", &self.path, error))
    }
}

impl PartGuard {
    pub(super) fn part(&self) -> Arc<Part> {
        Arc::clone(&self.part)
    }

    /// The download failed with `error`: says whether another may go on with what the part holds.
    pub(super) fn failed(mut self, error: &Error) {
        // A chunk that cannot be read may be healed, a login renewed; what was verified before stays good.
        let useless = match error {
            Error::Local { .. } | Error::WrongDigest { .. } => true,
            other => other.kind() == Kind::NotFound,
        };
        if useless {
            self.verdict = Verdict::Useless;
        }
    }

    /// Makes it durable and gives it the target's name.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        self.verdict = Verdict::Useless;
        self.part.take_name()?;
        self.verdict = Verdict::Done;
        Ok(())
    }
}

impl Drop for PartGuard {
    fn drop(&mut self) {
        let useless = match self.verdict {
            Verdict::Useless => true,
            Verdict::Resumable => !self.part.holds_something.load(Ordering::Relaxed),
            Verdict::Done => false,
        };
        if useless {
            // Left behind it harms nobody: it never bears the target's name.
            let _ = std::fs::remove_file(&self.part.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts_fit_wherever_the_name_fits() {
        let longest = [
            "x".repeat(255),
            "\u{e4}".repeat(127),
            "\u{20ac}".repeat(85),
            "\u{1f600}".repeat(63),
        ];
        let directory = tempfile::tempdir().unwrap();
        for name in longest {
            let target = directory.path().join(&name);
            let guard = Part::open(&target, "01234567", true).unwrap();
            let part = guard.part.path.file_name().unwrap().to_owned();
            assert!(part.len() <= 143 && part.to_str().is_some(), "{part:?}");
            guard.part.write(0, b"all").unwrap();
            guard.finish().unwrap();
            assert_eq!(std::fs::read(&target).unwrap(), b"all");
        }
        assert_eq!(stem(OsStr::new("f")), ".f.dbfs-");
        let two = ["a", "b"].map(|end| stem(OsStr::new(&("x".repeat(200) + end))));
        assert_ne!(two[0], two[1]);
    }

    #[test]
    fn a_part_stays_only_where_it_is_of_use() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("f");
        let left = || std::fs::read_dir(directory.path()).unwrap().count();
        let full = || Error::local("write", "f", io::ErrorKind::StorageFull.into());
        for (resume, written, error, stays) in [
            (true, false, Error::Interrupted, false),
            (true, true, full(), false),
            (false, true, Error::Interrupted, false),
            (true, true, Error::Interrupted, true),
        ] {
            let guard = Part::open(&target, "01234567", resume).unwrap();
            guard.part.set_length(100).unwrap();
            if written {
                guard.part.write(0, b"half").unwrap();
            }
            // A task that still writes keeps nothing alive.
            let _writer = guard.part();
            guard.failed(&error);
            assert_eq!(left(), usize::from(stays), "{error}");
        }
        // Stopped before it said anything: what an earlier one left stays.
        drop(Part::open(&target, "01234567", true).unwrap());
        assert_eq!(left(), 1);
        drop(Part::open(&target, "01234567", false).unwrap());
        assert_eq!(left(), 0);
    }

    #[test]
    fn what_is_no_file_is_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("f");
        let guard = Part::open(&target, "01234567", true).unwrap();
        std::os::unix::fs::symlink("elsewhere", &target).unwrap();
        guard.finish().unwrap_err();
        assert!(std::fs::symlink_metadata(&target).unwrap().is_symlink());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
