//! The real driver: one directory of a file system, worked on by a few threads of its own, so that a disk which
//! hangs holds up nobody but its own callers.
//!
//! Bulk goes around the page cache (`O_DIRECT`), which saves a third of the CPU; where the file system refuses that
//! (tmpfs, some network and overlay file systems) the cache is used and the same syncs make it durable. The
//! directory is locked for as long as the driver or one of its files lives: a second process is refused.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::buffer::AlignedBuf;
use super::{Disk, Driver, DriverFile, OpenMode, PAGE_BYTES, Pending, Space, raw};
use crate::units::ByteCount;

/// Operations of one disk that may wait for a thread; more are refused as busy (P10).
const OPERATIONS_WAITING_MAX: usize = 4096;

/// How to work on a directory.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Go around the page cache where the file system allows it.
    pub direct_io: bool,
    /// How many operations run at once.
    pub threads: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            direct_io: true,
            threads: 8,
        }
    }
}

/// Locks the directory `path`, which must exist, and begins to work on it. Nothing in it is changed.
///
/// # Errors
/// It does not exist, is not a directory, cannot be read, or is in use by another process
/// ([`io::ErrorKind::ResourceBusy`]).
pub fn open(path: &Path, settings: Settings) -> io::Result<Disk> {
    let lock = File::open(path)?;
    if !lock.metadata()?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::new(io::ErrorKind::ResourceBusy, "another process uses it"),
        TryLockError::Error(error) => error,
    })?;
    let workers = Workers::start(settings.threads.max(1))?;
    Ok(Disk::new(Arc::new(Directory {
        path: path.to_owned(),
        direct_io: settings.direct_io,
        lock: Mutex::new(Some(Arc::new(lock))),
        workers,
    })))
}

struct Directory {
    path: PathBuf,
    direct_io: bool,
    /// Guards the lock on the directory; gone when closed.
    lock: Mutex<Option<Arc<File>>>,
    workers: Arc<Workers>,
}

impl Directory {
    fn at(&self, name: &str) -> io::Result<PathBuf> {
        if name.is_empty() || name.contains('/') || name == "." || name == ".." {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(self.path.join(name))
    }
}

impl Driver for Directory {
    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn open(&self, name: &str, mode: OpenMode) -> Pending<io::Result<Arc<dyn DriverFile>>> {
        let path = self.at(name);
        let direct_io = self.direct_io;
        let lock = self.lock.lock().clone();
        let workers = Arc::clone(&self.workers);
        self.workers.run(move || {
            let lock = lock.ok_or_else(closed)?;
            let (file, direct) = open_file(&path?, mode, direct_io)?;
            let opened = Opened {
                file,
                direct,
                _lock: lock,
            };
            Ok(Arc::new(DirectoryFile {
                opened: Arc::new(opened),
                workers,
            }) as Arc<dyn DriverFile>)
        })
    }

    fn list(&self) -> Pending<io::Result<Vec<String>>> {
        let path = self.path.clone();
        self.workers.run(move || {
            let mut names = Vec::new();
            for entry in std::fs::read_dir(path)? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    names.push(entry.file_name().to_string_lossy().into_owned());
                }
            }
            Ok(names)
        })
    }

    fn remove(&self, name: &str) -> Pending<io::Result<()>> {
        let path = self.at(name);
        let lock = self.lock.lock().clone();
        self.workers.run(move || {
            lock.ok_or_else(closed)?;
            std::fs::remove_file(path?)
        })
    }

    #[allow(clippy::disallowed_methods, reason = "the fsync follows in `Disk::rename`")]
    fn rename(&self, from: &str, to: &str) -> Pending<io::Result<()>> {
        let paths = self.at(from).and_then(|from| Ok((from, self.at(to)?)));
        let lock = self.lock.lock().clone();
        self.workers.run(move || {
            lock.ok_or_else(closed)?;
            let (from, to) = paths?;
            std::fs::rename(from, to)
        })
    }

    /// Through the descriptor that holds the lock: opening another may fail for want of descriptors.
    #[allow(clippy::disallowed_methods, reason = "this is the fsync module")]
    fn sync_directory(&self) -> Pending<io::Result<()>> {
        let lock = self.lock.lock().clone();
        self.workers.run(move || match lock {
            Some(directory) => directory.sync_all(),
            // Not begun, as if the queue were full: it says nothing about the disk.
            None => Err(io::ErrorKind::WouldBlock.into()),
        })
    }

    fn space(&self) -> Pending<io::Result<Space>> {
        let path = self.path.clone();
        self.workers.run(move || {
            let (total, available) = raw::space(&path)?;
            Ok(Space {
                total: ByteCount::new(total),
                available: ByteCount::new(available),
            })
        })
    }

    fn close(&self) {
        self.lock.lock().take();
    }
}

fn closed() -> io::Error {
    io::Error::other("the disk was closed")
}

/// Opens `path`; the flag says whether around the page cache.
fn open_file(path: &Path, mode: OpenMode, direct_io: bool) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).mode(0o600);
    match mode {
        OpenMode::Read | OpenMode::ReadDirect => {}
        OpenMode::Create => {
            options.write(true).create_new(true);
        }
        OpenMode::Update => {
            options.write(true);
        }
    }
    if !direct_io || mode == OpenMode::Read {
        return Ok((options.open(path)?, false));
    }
    match options.clone().custom_flags(libc::O_DIRECT).open(path) {
        Ok(file) => Ok((file, true)),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            // Some file systems create the file before they refuse the flag.
            let mut options = options;
            if mode == OpenMode::Create {
                options.create_new(false).create(true);
            }
            Ok((options.open(path)?, false))
        }
        Err(error) => Err(error),
    }
}

struct Opened {
    file: File,
    direct: bool,
    /// A late operation still holds the directory's lock.
    _lock: Arc<File>,
}

struct DirectoryFile {
    opened: Arc<Opened>,
    workers: Arc<Workers>,
}

impl DirectoryFile {
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Opened) -> io::Result<T> + Send + 'static,
    ) -> Pending<io::Result<T>> {
        let opened = Arc::clone(&self.opened);
        self.workers.run(move || work(&opened))
    }
}

impl DriverFile for DirectoryFile {
    fn read(&self, offset: u64, length: usize, mut buffer: AlignedBuf) -> Pending<io::Result<AlignedBuf>> {
        self.run(move |opened| {
            let room = buffer
                .spare_mut()
                .get_mut(..length)
                .ok_or(io::ErrorKind::InvalidInput)?;
            let count = read_fully(&opened.file, room, offset)?;
            buffer.advance(count);
            Ok(buffer)
        })
    }

    fn write(&self, offset: u64, parts: Vec<Bytes>) -> Pending<io::Result<()>> {
        self.run(move |opened| write_fully(opened, &parts, offset))
    }

    #[allow(clippy::disallowed_methods, reason = "this is the fsync module")]
    fn sync(&self) -> Pending<io::Result<()>> {
        self.run(|opened| opened.file.sync_data())
    }

    fn allocate(&self, offset: u64, length: u64) -> Pending<io::Result<()>> {
        self.run(move |opened| match raw::allocate(&opened.file, offset, length) {
            // Without preallocation a full disk is noticed by the write.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
            outcome => outcome,
        })
    }

    fn punch(&self, offset: u64, length: u64) -> Pending<io::Result<()>> {
        self.run(move |opened| raw::punch(&opened.file, offset, length))
    }

    fn cut(&self, length: u64) -> Pending<io::Result<()>> {
        // Cutting at the present length gives allocated space behind it back, too.
        self.run(move |opened| {
            let present = opened.file.metadata()?.len();
            opened.file.set_len(length.min(present))
        })
    }

    fn length(&self) -> Pending<io::Result<u64>> {
        self.run(|opened| Ok(opened.file.metadata()?.len()))
    }
}

fn read_fully(file: &File, room: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = room.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        // A short direct read is the end of the file; going on from an odd position would be refused.
        if !done.is_multiple_of(PAGE_BYTES) {
            break;
        }
    }
    Ok(done)
}

/// Parts that were copied because their memory did not begin at a page boundary, since the process began. Bulk data
/// should not raise it.
pub fn copied_parts() -> u64 {
    COPIED_PARTS.load(Ordering::Relaxed)
}

static COPIED_PARTS: AtomicU64 = AtomicU64::new(0);

fn write_fully(opened: &Opened, parts: &[Bytes], offset: u64) -> io::Result<()> {
    let mut copies = Vec::new();
    if opened.direct {
        if parts.iter().any(|part| !part.len().is_multiple_of(PAGE_BYTES)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let crooked = |part: &&Bytes| !part.as_ptr().addr().is_multiple_of(PAGE_BYTES);
        copies.extend(
            parts
                .iter()
                .filter(crooked)
                .map(|part| AlignedBuf::copied_from(part)),
        );
        COPIED_PARTS.fetch_add(copies.len() as u64, Ordering::Relaxed);
    }
    let mut copies = copies.iter();
    let mut rest: Vec<&[u8]> = Vec::with_capacity(parts.len());
    for part in parts.iter().filter(|part| !part.is_empty()) {
        let straight = !opened.direct || part.as_ptr().addr().is_multiple_of(PAGE_BYTES);
        let copy = if straight { None } else { copies.next() };
        rest.push(copy.map_or(part.as_ref(), AlignedBuf::as_slice));
    }
    let mut at = offset;
    let mut rest = rest.as_slice();
    let mut first: &[u8] = &[];
    loop {
        if first.is_empty() {
            match rest.split_first() {
                None => return Ok(()),
                Some((next, behind)) => (first, rest) = (next, behind),
            }
        }
        let mut batch = Vec::with_capacity(rest.len() + 1);
        batch.push(first);
        batch.extend_from_slice(rest);
        let mut written = match raw::write_vectored_at(&opened.file, &batch, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        at += written as u64;
        while written >= first.len() {
            written -= first.len();
            match rest.split_first() {
                None => return Ok(()),
                Some((next, behind)) => (first, rest) = (next, behind),
            }
        }
        first = first.get(written..).unwrap_or_default();
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// A few threads behind a bounded queue. They end, once the queue is empty, when this is dropped.
struct Workers(Arc<Queue>);

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Workers {
    fn start(threads: usize) -> io::Result<Arc<Self>> {
        let workers = Arc::new(Self(Arc::default()));
        for _ in 0..threads {
            let queue = Arc::clone(&workers.0);
            std::thread::Builder::new()
                .name("disk".to_owned())
                .spawn(move || {
                    while let Some(job) = queue.next() {
                        job();
                    }
                })?;
        }
        Ok(workers)
    }

    /// Queues `work` at once; the future is its answer.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Pending<io::Result<T>> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let job = Box::new(move || {
            // Nobody waits any more: the work was done all the same.
            let _ = answer.send(work());
        });
        if let Err(busy) = self.0.push(job) {
            return Box::pin(async { Err(busy) });
        }
        Box::pin(async move {
            answered
                .await
                .unwrap_or_else(|_| Err(io::Error::other("the operation ended without an answer")))
        })
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.0.waiting.lock().closed = true;
        self.0.wake.notify_all();
    }
}

impl Queue {
    fn push(&self, job: Job) -> io::Result<()> {
        let mut waiting = self.waiting.lock();
        if waiting.jobs.len() >= OPERATIONS_WAITING_MAX {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        waiting.jobs.push_back(job);
        drop(waiting);
        self.wake.notify_one();
        Ok(())
    }

    fn next(&self) -> Option<Job> {
        let mut waiting = self.waiting.lock();
        loop {
            if let Some(job) = waiting.jobs.pop_front() {
                return Some(job);
            }
            if waiting.closed {
                return None;
            }
            self.wake.wait(&mut waiting);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(byte: u8) -> Bytes {
        AlignedBuf::copied_from(&[byte; PAGE_BYTES]).freeze()
    }

    #[tokio::test]
    async fn parts_land_one_behind_the_other() {
        let directory = tempfile::tempdir().unwrap();
        for direct_io in [true, false] {
            let settings = Settings {
                direct_io,
                threads: 2,
            };
            let disk = open(directory.path(), settings).unwrap();
            let file = disk.open("a", OpenMode::Create).await.unwrap();
            let crooked = Bytes::from(vec![9; PAGE_BYTES + 1]).slice(1..);
            let parts = vec![page(1), crooked, page(3)];
            file.allocate(0, 1 << 20).await.unwrap();
            file.write(PAGE_BYTES as u64, parts).await.unwrap();
            file.sync().await.unwrap();
            assert_eq!(file.length().await.unwrap(), 4 * PAGE_BYTES as u64);
            let buffer = file
                .read(0, 1 << 20, AlignedBuf::unpooled(1 << 20))
                .await
                .unwrap();
            let firsts: Vec<u8> = buffer.as_slice().iter().step_by(PAGE_BYTES).copied().collect();
            assert_eq!(firsts, [0, 1, 9, 3]);
            file.punch(PAGE_BYTES as u64, PAGE_BYTES as u64).await.unwrap();
            let hole = file
                .read(PAGE_BYTES as u64, PAGE_BYTES, AlignedBuf::unpooled(1))
                .await
                .unwrap();
            assert!(hole.as_slice().iter().all(|byte| *byte == 0));
            disk.rename("a", "b").await.unwrap();
            assert_eq!(disk.list().await.unwrap(), ["b"]);
            disk.remove("b").await.unwrap();
            assert!(disk.space().await.unwrap().available > ByteCount::new(0));
        }
    }

    #[tokio::test]
    async fn a_directory_has_one_user() {
        let directory = tempfile::tempdir().unwrap();
        let disk = open(directory.path(), Settings::default()).unwrap();
        let second = open(directory.path(), Settings::default()).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::ResourceBusy);
        let file = disk.open("a", OpenMode::Create).await.unwrap();
        drop(disk);
        assert!(
            open(directory.path(), Settings::default()).is_err(),
            "an open file keeps the lock"
        );
        drop(file);
        let disk = open(directory.path(), Settings::default()).unwrap();
        disk.close();
        assert!(open(directory.path(), Settings::default()).is_ok());
        assert!(disk.open("a", OpenMode::Read).await.is_err());
    }

    #[tokio::test]
    async fn names_stay_inside() {
        let directory = tempfile::tempdir().unwrap();
        let disk = open(directory.path(), Settings::default()).unwrap();
        for name in ["", ".", "..", "a/b", "/etc/passwd"] {
            assert!(disk.open(name, OpenMode::Read).await.is_err(), "{name}");
        }
        assert!(matches!(
            disk.open("none", OpenMode::Read).await,
            Err(super::super::Error::NotFound { .. })
        ));
    }
}
