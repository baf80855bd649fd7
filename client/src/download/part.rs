//! The file beside the target which becomes the target once it is complete: `.NAME.dbfs-XXXXXXXX.part`.
//!
//! Invariant: the target is the old file or the whole new one, also after a power cut; an unfinished part never bears
//! the target's name. A part belongs to one process at a time, by a lock on the file.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use common::digest::ChunkHasher;

use super::manifest::Chunk;
use crate::buffer::{Buffers, FRAME_BYTES};
use crate::error::Error;

/// A part file, locked. Everything here blocks on the disk.
pub(super) struct Part {
    file: File,
    path: PathBuf,
    target: PathBuf,
    /// Taken away when it is dropped unfinished.
    fleeting: bool,
}

impl Part {
    /// Opens or creates the part of `target` with `tag`. With `keep` it outlives a failure, and what it holds is
    /// looked at; otherwise it begins empty.
    pub(super) fn open(target: &Path, tag: &str, keep: bool) -> Result<Self, Error> {
        if target.is_dir() {
            let error = io::Error::from(io::ErrorKind::IsADirectory);
            return Err(Error::local("write", target, error));
        }
        let name = target
            .file_name()
            .ok_or_else(|| Error::Invalid(format!("{} names no file", target.display())))?;
        let mut part_name = OsString::from(".");
        part_name.push(name);
        part_name.push(format!(".dbfs-{tag}.part"));
        let path = target.with_file_name(part_name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| Error::local("create", &path, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let error = io::Error::new(io::ErrorKind::ResourceBusy, "another download writes it");
                return Err(Error::local("write", path, error));
            }
            Err(TryLockError::Error(error)) => return Err(Error::local("lock", path, error)),
        }
        let part = Self {
            file,
            path,
            target: target.to_owned(),
            fleeting: !keep,
        };
        if !keep {
            part.set_length(0)?;
        }
        Ok(part)
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
            .map_err(|error| Error::local("write", &self.path, error))
    }

    /// The hasher over `chunk` where the part holds it already, with the manifest's digest.
    pub(super) fn holds(&self, chunk: &Chunk, buffers: &Buffers) -> Option<ChunkHasher> {
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
    pub(super) fn finish(mut self) -> Result<(), Error> {
        common::disk::sync_file(&self.file).map_err(|error| Error::local("write", &self.path, error))?;
        common::disk::rename_durably(&self.path, &self.target)
            .map_err(|error| Error::local("rename", &self.path, error))?;
        self.fleeting = false;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.fleeting {
            // Left behind it harms nobody: it never bears the target's name.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
