//! The disk seam, and every fsync of ours.
//!
//! Two parts. [`write_durably`], [`rename_durably`] and [`sync_directory`] serve small files that are written at
//! start or by a command. [`Disk`] is one data directory as the chunk store sees it: positioned, page-aligned
//! reads and writes, preallocation, holes, and explicit durability. It has two drivers: [`directory`] (a real one)
//! and [`simulated`] (one in memory that loses, tears and damages on demand).
//!
//! Invariant (P11): after a failed fsync the disk is poisoned for the life of the process: every later change is
//! refused with [`Error::Poisoned`]. After another change that failed because of the medium it is stopped, and every
//! later change refused with [`Error::Stopped`], until [`Disk::probe`] succeeds. Want of descriptors, memory or space
//! refuses what met it and nothing else. Reads are always answered. See [`health`].
//!
//! **The contract**, which both drivers keep:
//! - An operation begins when its method is called, not when its future is first polled, and runs to its end even if
//!   the future is dropped. Operations that are in flight together may take effect in any order.
//! - What a write changed is durable after a sync of the same file that was called when the write had answered. Until
//!   then a power cut may keep any part of it, in units of [`SECTOR_BYTES`].
//! - A file that was created is there after a power cut once [`Disk::sync_directory`] has answered; [`Disk::rename`]
//!   and [`Disk::remove`] include that.
//! - Offsets are multiples of [`PAGE_BYTES`]; so is the length of every part of a write. Parts whose memory does not
//!   begin at a page boundary are written as well, at the price of a copy.
//! - Space that was allocated or punched reads as zeros. Allocation does not change a file's length.
//!
//! It does not own: what the bytes mean, checksums, retries.

pub mod buffer;
pub mod directory;
pub mod health;
mod raw;
pub mod simulated;

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::{self, Write};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Kind;
use crate::units::ByteCount;
use buffer::AlignedBuf;
use health::{Health, Standing};

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
    /// Removes a file; durable once the directory is synced.
    fn remove(&self, name: &str) -> Pending<io::Result<()>>;
    /// Renames a file, over an existing one if there is one; durable once the directory is synced.
    fn rename(&self, from: &str, to: &str) -> Pending<io::Result<()>>;
    /// Makes creations, removals and renames durable. Needs no new descriptor.
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
    /// The medium refused a change; nothing is written to this disk until a probe succeeds.
    #[error("{disk} is not written to at present, because {reason}; it is tried again from time to time")]
    Stopped {
        /// Which disk.
        disk: String,
        /// What failed first.
        reason: String,
    },
    /// An earlier fsync failed; nothing is written to this disk until the process is started again.
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
    /// No descriptors or no memory, or interrupted: passes by itself.
    #[error("cannot {operation} {name} on {disk} at present")]
    Exhausted {
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
            Error::Stopped { .. } | Error::Poisoned { .. } | Error::Exhausted { .. } | Error::Io { .. } => {
                Kind::Retry
            }
            Error::Full { .. } => Kind::Full,
            Error::NotFound { .. } => Kind::NotFound,
            Error::Busy { .. } => Kind::Busy,
        }
    }

    /// Whether bytes cannot be read because the medium does not give them: no want of memory, descriptors or access.
    pub fn is_of_medium(&self) -> bool {
        match self {
            Error::Io { source, .. } => health::is_of_medium(source),
            _ => false,
        }
    }
}

/// The file which a probe writes.
const PROBE: &str = "probe.new";

/// A cloneable handle to one data directory.
#[derive(Clone)]
pub struct Disk {
    driver: Arc<dyn Driver>,
    health: Arc<Health>,
}

impl Disk {
    /// A disk that `driver` carries.
    pub fn new(driver: Arc<dyn Driver>) -> Self {
        let health = Arc::new(Health::new(driver.describe()));
        Self { driver, health }
    }

    /// For messages: which disk this is.
    pub fn describe(&self) -> &str {
        &self.health.disk
    }

    /// How far the disk can be used.
    pub fn standing(&self) -> Standing {
        self.health.standing()
    }

    /// Why the disk is not written to, if so.
    pub fn stopped(&self) -> Option<String> {
        match self.health.standing() {
            Standing::Working | Standing::Strained(_) => None,
            Standing::Stopped(reason) | Standing::Poisoned(reason) => Some(reason),
        }
    }

    /// Whether the disk may be written to.
    ///
    /// # Errors
    /// [`Error::Stopped`], [`Error::Poisoned`].
    pub fn check(&self) -> Result<(), Error> {
        self.health.check()
    }

    /// Writes, syncs, reads back and removes a file of its own. If all of it succeeds, a disk that is strained or
    /// stopped works again.
    ///
    /// # Errors
    /// What failed; [`Error::Poisoned`] at once if the disk is poisoned.
    pub async fn probe(&self) -> Result<(), Error> {
        if let Err(poisoned @ Error::Poisoned { .. }) = self.health.check() {
            return Err(poisoned);
        }
        let probing = self.health.begin_probe();
        let (driver, health) = (&self.driver, &self.health);
        match driver.remove(PROBE).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(health.refused("remove", PROBE, error));
            }
            _ => {}
        }
        let file = driver.open(PROBE, OpenMode::Create).await;
        let file = file.map_err(|error| health.refused("create", PROBE, error))?;
        let page = AlignedBuf::copied_from(&[0x5a; PAGE_BYTES]);
        let written = file.write(0, vec![page.freeze()]).await;
        written.map_err(|error| health.unwritten(PROBE, error))?;
        let synced = file.sync().await;
        synced.map_err(|error| health.unsynced(PROBE, error))?;
        drop(file);
        let file = driver.open(PROBE, OpenMode::ReadDirect).await;
        let file = file.map_err(|error| health.wrap("open", PROBE, error))?;
        let read = file.read(0, PAGE_BYTES, AlignedBuf::unpooled(PAGE_BYTES)).await;
        let read = read.map_err(|error| health.wrap("read", PROBE, error))?;
        if read.as_slice() != [0x5a; PAGE_BYTES] {
            let error = io::Error::from_raw_os_error(libc::EIO);
            return Err(health.refused("read back", PROBE, error));
        }
        let removed = driver.remove(PROBE).await;
        removed.map_err(|error| health.refused("remove", PROBE, error))?;
        let synced = driver.sync_directory().await;
        synced.map_err(|error| health.unsynced("the directory", error))?;
        health.lift(probing);
        Ok(())
    }

    /// Gives the disk up: no file is opened any more, and once those that are open are closed another process, or
    /// this one, may use it.
    pub fn close(&self) {
        self.driver.close();
    }

    /// Opens the file `name`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Full`], [`Error::Exhausted`], [`Error::Stopped`] and [`Error::Poisoned`] for other
    /// modes than reading, [`Error::Io`].
    pub async fn open(&self, name: &str, mode: OpenMode) -> Result<DiskFile, Error> {
        match mode {
            OpenMode::Create | OpenMode::Update => self.health.check()?,
            OpenMode::Read | OpenMode::ReadDirect => {}
        }
        let file = self.driver.open(name, mode).await;
        let file = file.map_err(|error| match mode {
            OpenMode::Create => self.health.refused("create", name, error),
            OpenMode::Update => self.health.refused("open", name, error),
            OpenMode::Read | OpenMode::ReadDirect => self.health.wrap("open", name, error),
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
    /// [`Error::NotFound`], [`Error::Stopped`], [`Error::Poisoned`], [`Error::Exhausted`], [`Error::Io`].
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        self.health.check()?;
        let outcome = self.driver.remove(name).await;
        outcome.map_err(|error| self.health.refused("remove", name, error))?;
        self.sync_directory().await
    }

    /// Renames `from` to `to` durably, replacing it. After an error it may or may not have taken place.
    ///
    /// # Errors
    /// [`Error::Stopped`], [`Error::Poisoned`], [`Error::Exhausted`], [`Error::Full`], [`Error::Io`].
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        self.health.check()?;
        let outcome = self.driver.rename(from, to).await;
        outcome.map_err(|error| self.health.refused("rename", from, error))?;
        self.sync_directory().await
    }

    /// Makes creations, removals and renames durable. A failure poisons the disk.
    ///
    /// # Errors
    /// [`Error::Stopped`], [`Error::Poisoned`], [`Error::Io`].
    pub async fn sync_directory(&self) -> Result<(), Error> {
        self.health.check()?;
        let outcome = self.driver.sync_directory().await;
        outcome.map_err(|error| self.health.unsynced("the directory", error))
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

    /// Writes `parts` one behind the other at `offset`. A failure for want of space or memory leaves the disk usable,
    /// any other stops it.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Stopped`], [`Error::Poisoned`], [`Error::Busy`], [`Error::Exhausted`], [`Error::Io`].
    pub fn write(&self, offset: u64, parts: Vec<Bytes>) -> Pending<Result<(), Error>> {
        if let Err(stopped) = self.health.check() {
            return Box::pin(async { Err(stopped) });
        }
        let this = self.clone();
        let pending = self.file.write(offset, parts);
        Box::pin(async move {
            pending
                .await
                .map_err(|error| this.health.unwritten(&this.name, error))
        })
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
                .map_err(|error| this.health.unsynced(&this.name, error));
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
}

impl std::fmt::Debug for DiskFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DiskFile({} on {})", self.name, self.health.disk)
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
