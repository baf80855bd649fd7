//! The disk seam, and every fsync of ours.
//!
//! Two parts. [`write_durably`], [`rename_durably`] and [`sync_directory`] serve small files that are written at
//! start or by a command. [`Disk`] is one data directory as the chunk store sees it: positioned, page-aligned
//! reads and writes, preallocation, holes, and explicit durability. It has two drivers: [`directory`] (a real one)
//! and [`simulated`] (one in memory that loses, tears and damages on demand).
//!
//! Invariant (P11): after a failed fsync or a failed write the disk is poisoned for the life of the process: the
//! kernel may have dropped the dirty pages, so that a second fsync would succeed and prove nothing. The same goes for
//! any other change that fails because of the medium (an I/O error, a file system that turned read-only). Every later
//! change is refused with [`Error::Poisoned`]; reads are still answered.
//!
//! **The contract**, which both drivers keep:
//! - An operation begins when its method is called, not when its future is first polled, and runs to its end even if
//!   the future is dropped. Operations that are in flight together may take effect in any order.
//! - What a write changed is durable after a sync of the same file that was called when the write had answered. Until
//!   then a power cut may keep any part of it, in units of [`SECTOR_BYTES`].
//! - A file that was created is there after a power cut once [`Disk::sync_directory`] has answered; a rename and a
//!   removal include that.
//! - Offsets are multiples of [`PAGE_BYTES`]; so is the length of every part of a write. Parts whose memory does not
//!   begin at a page boundary are written as well, at the price of a copy.
//! - Space that was allocated or punched reads as zeros. Allocation does not change a file's length.
//!
//! It does not own: what the bytes mean, checksums, retries.

pub mod buffer;
pub mod directory;
mod raw;
pub mod simulated;

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::{self, Write};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::error::Kind;
use crate::units::ByteCount;
use buffer::AlignedBuf;

/// The unit of positions, lengths and memory alignment: 4 KiB.
pub const PAGE_BYTES: usize = 4096;

/// What a power cut keeps or loses as a whole: 512 bytes.
pub const SECTOR_BYTES: usize = 512;

/// A result under way.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// For reading, through the operating system's cache.
    Read,
    /// For reading what is on the medium, around the cache where the file system allows it.
    ReadDirect,
    /// A new file for reading and writing; it must not exist.
    Create,
    /// An existing file for reading and writing.
    Update,
}

/// Room on the file system that holds a data directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Space {
    /// All of it.
    pub total: ByteCount,
    /// What may still be used.
    pub available: ByteCount,
}

/// What carries a [`Disk`]: a directory, or memory. Names are plain file names. The contract is this module's.
pub trait Driver: Send + Sync {
    /// For messages: which disk this is.
    fn describe(&self) -> String;
    /// Opens a file.
    fn open(&self, name: &str, mode: OpenMode) -> Pending<io::Result<Arc<dyn DriverFile>>>;
    /// The names of all files, in any order.
    fn list(&self) -> Pending<io::Result<Vec<String>>>;
    /// Removes a file durably.
    fn remove(&self, name: &str) -> Pending<io::Result<()>>;
    /// Renames a file durably, over an existing one if there is one.
    fn rename(&self, from: &str, to: &str) -> Pending<io::Result<()>>;
    /// Makes created files durable as entries.
    fn sync_directory(&self) -> Pending<io::Result<()>>;
    /// Room on the file system.
    fn space(&self) -> Pending<io::Result<Space>>;
    /// Gives the disk up, so that another may use it once the files that are still open are closed.
    fn close(&self);
}

/// An open file of a [`Driver`].
pub trait DriverFile: Send + Sync {
    /// Reads up to `length` bytes at `offset` behind the content of `buffer`; fewer only at the end of the file.
    fn read(&self, offset: u64, length: usize, buffer: AlignedBuf) -> Pending<io::Result<AlignedBuf>>;
    /// Writes `parts` one behind the other at `offset`.
    fn write(&self, offset: u64, parts: Vec<Bytes>) -> Pending<io::Result<()>>;
    /// Makes answered writes durable.
    fn sync(&self) -> Pending<io::Result<()>>;
    /// Reserves space.
    fn allocate(&self, offset: u64, length: u64) -> Pending<io::Result<()>>;
    /// Gives space back.
    fn punch(&self, offset: u64, length: u64) -> Pending<io::Result<()>>;
    /// Ends the file at `length`, and gives back what was allocated behind it.
    fn cut(&self, length: u64) -> Pending<io::Result<()>>;
    /// The file's length in bytes.
    fn length(&self) -> Pending<io::Result<u64>>;
}

/// A disk did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An earlier fsync or write failed; nothing is written to this disk until the process is started again.
    #[error("{disk} is not written to any more, because {reason}; check the disk, then restart this node")]
    Poisoned {
        /// Which disk.
        disk: String,
        /// What failed first.
        reason: String,
    },
    /// No space.
    #[error("{disk} is full")]
    Full {
        /// Which disk.
        disk: String,
    },
    /// No such file.
    #[error("{disk} has no file {name}")]
    NotFound {
        /// Which disk.
        disk: String,
        /// The file's name.
        name: String,
    },
    /// Too many operations wait for this disk.
    #[error("{disk} has too many operations waiting")]
    Busy {
        /// Which disk.
        disk: String,
    },
    /// Anything else the operating system reports.
    #[error("cannot {operation} {name} on {disk}")]
    Io {
        /// Which disk.
        disk: String,
        /// The verb.
        operation: &'static str,
        /// The file's name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// What a caller can do.
    pub const fn kind(&self) -> Kind {
        match self {
            Error::Poisoned { .. } | Error::Io { .. } => Kind::Retry,
            Error::Full { .. } => Kind::Full,
            Error::NotFound { .. } => Kind::NotFound,
            Error::Busy { .. } => Kind::Busy,
        }
    }
}

/// A cloneable handle to one data directory.
#[derive(Clone)]
pub struct Disk {
    driver: Arc<dyn Driver>,
    health: Arc<Health>,
}

impl Disk {
    /// A disk that `driver` carries.
    pub fn new(driver: Arc<dyn Driver>) -> Self {
        let health = Arc::new(Health {
            disk: driver.describe(),
            poisoned: Mutex::default(),
        });
        Self { driver, health }
    }

    /// For messages: which disk this is.
    pub fn describe(&self) -> &str {
        &self.health.disk
    }

    /// Why the disk is not written to any more, if so.
    pub fn poisoned(&self) -> Option<String> {
        self.health.poisoned.lock().clone()
    }

    /// Stops all writing to the disk, as after a failed fsync.
    pub fn poison(&self, reason: &str) {
        self.health.poison(reason);
    }

    /// Gives the disk up: no file is opened any more, and once those that are open are closed another process, or
    /// this one, may use it.
    pub fn close(&self) {
        self.driver.close();
    }

    /// Opens the file `name`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Full`], [`Error::Poisoned`] for other modes than reading, [`Error::Io`].
    pub async fn open(&self, name: &str, mode: OpenMode) -> Result<DiskFile, Error> {
        match mode {
            OpenMode::Create | OpenMode::Update => self.health.check()?,
            OpenMode::Read | OpenMode::ReadDirect => {}
        }
        let file = self.driver.open(name, mode).await;
        let file = file.map_err(|error| match mode {
            OpenMode::Create => self.health.refused("create", name, error),
            OpenMode::Update | OpenMode::Read | OpenMode::ReadDirect => self.health.wrap("open", name, error),
        });
        Ok(DiskFile {
            file: file?,
            name: name.into(),
            health: Arc::clone(&self.health),
        })
    }

    /// The names of all files, sorted.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn list(&self) -> Result<Vec<String>, Error> {
        let names = self.driver.list().await;
        let mut names = names.map_err(|error| self.health.wrap("list", "its files", error))?;
        names.sort();
        Ok(names)
    }

    /// Removes the file `name` durably. After an error it may or may not be there.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Poisoned`], [`Error::Io`].
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        self.health.check()?;
        let outcome = self.driver.remove(name).await;
        outcome.map_err(|error| self.health.refused("remove", name, error))
    }

    /// Renames `from` to `to` durably, replacing it. A failure poisons the disk.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::Io`].
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        self.health.check()?;
        let outcome = self.driver.rename(from, to).await;
        outcome.map_err(|error| self.health.failed("rename", from, error))
    }

    /// Makes created files durable as entries. A failure poisons the disk.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::Io`].
    pub async fn sync_directory(&self) -> Result<(), Error> {
        self.health.check()?;
        let outcome = self.driver.sync_directory().await;
        outcome.map_err(|error| self.health.failed("fsync", "the directory", error))
    }

    /// Room on the file system.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn space(&self) -> Result<Space, Error> {
        let space = self.driver.space().await;
        space.map_err(|error| self.health.wrap("measure", "its space", error))
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Disk({})", self.health.disk)
    }
}

/// An open file; clones share it.
#[derive(Clone)]
pub struct DiskFile {
    file: Arc<dyn DriverFile>,
    name: Arc<str>,
    health: Arc<Health>,
}

impl DiskFile {
    /// The file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads up to `length` bytes at `offset` behind the content of `buffer`, which must have the room; fewer only
    /// at the end of the file.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Busy`].
    pub fn read(&self, offset: u64, length: usize, buffer: AlignedBuf) -> Pending<Result<AlignedBuf, Error>> {
        let this = self.clone();
        let pending = self.file.read(offset, length, buffer);
        Box::pin(async move {
            pending
                .await
                .map_err(|error| this.health.wrap("read", &this.name, error))
        })
    }

    /// Writes `parts` one behind the other at `offset`. A failure for want of space leaves the disk usable, any
    /// other poisons it.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Poisoned`], [`Error::Busy`], [`Error::Io`].
    pub fn write(&self, offset: u64, parts: Vec<Bytes>) -> Pending<Result<(), Error>> {
        self.change("write", |file| file.write(offset, parts))
    }

    /// Makes answered writes durable. A failure poisons the disk.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::Busy`], [`Error::Io`].
    pub fn sync(&self) -> Pending<Result<(), Error>> {
        if let Err(poisoned) = self.health.check() {
            return Box::pin(async { Err(poisoned) });
        }
        let this = self.clone();
        let pending = self.file.sync();
        Box::pin(async move {
            let outcome = pending
                .await
                .map_err(|error| this.health.failed("fsync", &this.name, error));
            // Another file's failure in the meantime casts doubt on this success too.
            outcome.and_then(|()| this.health.check())
        })
    }

    /// Reserves space for `length` bytes at `offset`; the file's length stays.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Poisoned`], [`Error::Busy`], [`Error::Io`].
    pub async fn allocate(&self, offset: u64, length: u64) -> Result<(), Error> {
        self.health.check()?;
        let outcome = self.file.allocate(offset, length).await;
        outcome.map_err(|error| self.health.refused("allocate space for", &self.name, error))
    }

    /// Gives the space of `length` bytes at `offset` back.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::Busy`], [`Error::Io`].
    pub async fn punch(&self, offset: u64, length: u64) -> Result<(), Error> {
        self.health.check()?;
        let outcome = self.file.punch(offset, length).await;
        outcome.map_err(|error| self.health.refused("punch a hole into", &self.name, error))
    }

    /// Ends the file at `length`, no longer than it is, and gives back what was allocated behind it.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::Busy`], [`Error::Io`].
    pub async fn cut(&self, length: u64) -> Result<(), Error> {
        self.health.check()?;
        let outcome = self.file.cut(length).await;
        outcome.map_err(|error| self.health.refused("cut", &self.name, error))
    }

    /// The file's length in bytes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn length(&self) -> Result<u64, Error> {
        let length = self.file.length().await;
        length.map_err(|error| self.health.wrap("measure", &self.name, error))
    }

    fn change(
        &self,
        operation: &'static str,
        begin: impl FnOnce(&dyn DriverFile) -> Pending<io::Result<()>>,
    ) -> Pending<Result<(), Error>> {
        if let Err(poisoned) = self.health.check() {
            return Box::pin(async { Err(poisoned) });
        }
        let this = self.clone();
        let pending = begin(self.file.as_ref());
        Box::pin(async move {
            pending.await.map_err(|error| match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::WouldBlock => {
                    this.health.wrap(operation, &this.name, error)
                }
                _ => this.health.failed(operation, &this.name, error),
            })
        })
    }
}

impl std::fmt::Debug for DiskFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DiskFile({} on {})", self.name, self.health.disk)
    }
}

/// Whether a disk may be written to. Poison is for good.
struct Health {
    disk: String,
    poisoned: Mutex<Option<String>>,
}

impl Health {
    fn check(&self) -> Result<(), Error> {
        match &*self.poisoned.lock() {
            None => Ok(()),
            Some(reason) => Err(Error::Poisoned {
                disk: self.disk.clone(),
                reason: reason.clone(),
            }),
        }
    }

    fn poison(&self, reason: &str) {
        let mut poisoned = self.poisoned.lock();
        if poisoned.is_none() {
            tracing::error!(disk = %self.disk, reason, "the disk is not written to any more");
            *poisoned = Some(reason.to_owned());
        }
    }

    /// The error of an operation after which the disk cannot be trusted.
    fn failed(&self, operation: &'static str, name: &str, source: io::Error) -> Error {
        if source.kind() != io::ErrorKind::WouldBlock {
            self.poison(&format!("it could not {operation} {name}: {source}"));
        }
        self.wrap(operation, name, source)
    }

    /// The error of another change: only the medium's own faults cast doubt on what comes after.
    fn refused(&self, operation: &'static str, name: &str, source: io::Error) -> Error {
        let faults = [libc::EIO, libc::EROFS, libc::ENODEV, libc::ENXIO, libc::EUCLEAN];
        match source.raw_os_error() {
            Some(code) if faults.contains(&code) => self.failed(operation, name, source),
            _ => self.wrap(operation, name, source),
        }
    }

    fn wrap(&self, operation: &'static str, name: &str, source: io::Error) -> Error {
        let disk = self.disk.clone();
        let name = name.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full { disk },
            io::ErrorKind::NotFound => Error::NotFound { disk, name },
            io::ErrorKind::WouldBlock => Error::Busy { disk },
            _ => Error::Io {
                disk,
                operation,
                name,
                source,
            },
        }
    }
}

/// Makes the content and length of an open file durable, for files outside of data directories.
///
/// # Errors
/// What the operating system reports. The content may or may not survive a power cut then.
#[allow(clippy::disallowed_methods, reason = "this is the fsync module")]
pub fn sync_file(file: &std::fs::File) -> io::Result<()> {
    file.sync_all()
}

/// The space of the file system that holds `path`, for what is kept outside of data directories.
///
/// # Errors
/// What the operating system reports.
pub fn space_at(path: &Path) -> io::Result<Space> {
    let (total, free) = raw::space(path)?;
    Ok(Space {
        total: ByteCount::new(total),
        available: ByteCount::new(free),
    })
}

/// Makes the entries of a directory durable: file creations, renames and removals in it.
///
/// # Errors
/// What the operating system reports. The entries may or may not survive a power cut then.
#[allow(clippy::disallowed_methods, reason = "this is the fsync module")]
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Renames `from` to `to` within one file system and makes the new entry durable.
///
/// # Errors
/// What the operating system reports. After an error either name may be there after a power cut.
#[allow(clippy::disallowed_methods, reason = "this is the fsync module")]
pub fn rename_durably(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    sync_directory(parent(to))
}

/// Replaces the content of `path` so that after a power cut it is the old content or the new, never a mixture.
/// `mode` is the file's permission bits, for example `0o600`.
///
/// # Errors
/// What the operating system reports; the old content is still in place then.
#[allow(clippy::disallowed_methods, reason = "this is the fsync module")]
pub fn write_durably(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let aside = path.with_file_name(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&aside)?;
    file.write_all(content)?;
    file.sync_all()?;
    rename_durably(&aside, path)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
