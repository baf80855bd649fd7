//! What a failed operation says about its disk, and what follows for the next one.
//!
//! | failure | the operation | the disk |
//! |---|---|---|
//! | no descriptors, memory or space; interrupted | is refused | is *strained*: it is used as before and says so, until a probe succeeds |
//! | a change that the medium refuses (I/O error, read-only) | is refused | is *stopped*: nothing is written until a probe has written, synced and read back |
//! | an fsync, of a file or of the directory | is refused | is *poisoned*: nothing is written for the life of the process |
//! | a read | is refused | goes on |
//!
//! Invariant (P11): no probe lifts a poison. After a failed fsync the kernel may have dropped the dirty pages, so that a
//! second fsync succeeds and proves nothing; only the recovery of a new process, which reads the medium, starts anew.

use std::io;

use parking_lot::Mutex;

use super::Error;

/// How far a disk can be used.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Standing {
    /// Read and written.
    #[default]
    Working,
    /// Read and written, but something was refused for want of descriptors, memory or space. A probe lifts it.
    Strained(String),
    /// Read only: the medium refused a change. A probe lifts it.
    Stopped(String),
    /// Read only until the process is started again: an fsync failed.
    Poisoned(String),
}

impl Standing {
    const fn rank(&self) -> u8 {
        match self {
            Standing::Working => 0,
            Standing::Strained(_) => 1,
            Standing::Stopped(_) => 2,
            Standing::Poisoned(_) => 3,
        }
    }
}

/// What a failure of the operating system is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// No room on the file system.
    Full,
    /// No descriptors or memory, or interrupted: passes by itself.
    Exhausted,
    /// Our own queue is full.
    Busy,
    Missing,
    /// The medium, or the file system on it.
    Medium,
    Other,
}

fn fault(error: &io::Error) -> Fault {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => return Fault::Full,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::EINTR | libc::EAGAIN) => {
            return Fault::Exhausted;
        }
        Some(
            libc::EIO
            | libc::EROFS
            | libc::ENODEV
            | libc::ENXIO
            | libc::EUCLEAN
            | libc::EBADMSG
            | libc::EILSEQ
            | libc::ENODATA
            | libc::EREMOTEIO
            | libc::ENOTCONN
            | libc::ESHUTDOWN,
        ) => return Fault::Medium,
        _ => {}
    }
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Fault::Full,
        io::ErrorKind::OutOfMemory | io::ErrorKind::Interrupted => Fault::Exhausted,
        io::ErrorKind::WouldBlock => Fault::Busy,
        io::ErrorKind::NotFound => Fault::Missing,
        _ => Fault::Other,
    }
}

/// Whether a read failed because the bytes themselves cannot be had: a bad sector, not a lack of memory or access, and not
/// a device that is gone with everything on it.
pub(super) fn is_of_medium(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EIO | libc::EUCLEAN | libc::EBADMSG | libc::EILSEQ | libc::ENODATA | libc::EREMOTEIO)
    )
}

/// The standing of one disk.
pub(super) struct Health {
    pub(super) disk: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    standing: Standing,
    /// Failures so far, so that a probe does not lift what came after it began.
    failures: u64,
}

/// A probe under way.
#[derive(Clone, Copy)]
pub(super) struct Probing(u64);

impl Health {
    pub(super) fn new(disk: String) -> Self {
        Self {
            disk,
            state: Mutex::default(),
        }
    }

    pub(super) fn standing(&self) -> Standing {
        self.state.lock().standing.clone()
    }

    /// Whether the disk may be written to.
    pub(super) fn check(&self) -> Result<(), Error> {
        let disk = || self.disk.clone();
        match &self.state.lock().standing {
            Standing::Working | Standing::Strained(_) => Ok(()),
            Standing::Stopped(reason) => Err(Error::Stopped {
                disk: disk(),
                reason: reason.clone(),
            }),
            Standing::Poisoned(reason) => Err(Error::Poisoned {
                disk: disk(),
                reason: reason.clone(),
            }),
        }
    }

    /// The standing only gets worse here; the first reason of each standing is kept, and logged once.
    pub(super) fn worsen(&self, to: Standing) {
        let mut state = self.state.lock();
        state.failures += 1;
        if to.rank() <= state.standing.rank() {
            return;
        }
        match &to {
            Standing::Working => {}
            Standing::Strained(reason) => {
                tracing::warn!(disk = %self.disk, reason, "the disk refuses some requests")
            }
            Standing::Stopped(reason) => {
                tracing::error!(disk = %self.disk, reason, "the disk is not written to until a probe succeeds");
            }
            Standing::Poisoned(reason) => {
                tracing::error!(disk = %self.disk, reason, "the disk is not written to until this node is restarted");
            }
        }
        state.standing = to;
    }

    pub(super) fn begin_probe(&self) -> Probing {
        Probing(self.state.lock().failures)
    }

    /// A probe that began then has succeeded.
    pub(super) fn lift(&self, probing: Probing) {
        let mut state = self.state.lock();
        let lifts = matches!(state.standing, Standing::Strained(_) | Standing::Stopped(_));
        if lifts && state.failures == probing.0 {
            tracing::info!(disk = %self.disk, "the disk is used again as before");
            state.standing = Standing::Working;
        }
    }

    /// The error of an fsync.
    pub(super) fn unsynced(&self, name: &str, source: io::Error) -> Error {
        // A full queue of ours means that it was never begun.
        if fault(&source) != Fault::Busy {
            self.worsen(Standing::Poisoned(format!("it could not fsync {name}: {source}")));
        }
        self.wrap("fsync", name, source)
    }

    /// The error of a write: whatever is not want of room or resources casts doubt on the medium.
    pub(super) fn unwritten(&self, name: &str, source: io::Error) -> Error {
        if matches!(fault(&source), Fault::Medium | Fault::Other | Fault::Missing) {
            self.worsen(Standing::Stopped(format!("it could not write {name}: {source}")));
        }
        self.wrap("write", name, source)
    }

    /// The error of another change: only the medium's own faults cast doubt on what comes after.
    pub(super) fn refused(&self, operation: &'static str, name: &str, source: io::Error) -> Error {
        if fault(&source) == Fault::Medium {
            self.worsen(Standing::Stopped(format!(
                "it could not {operation} {name}: {source}"
            )));
        }
        self.wrap(operation, name, source)
    }

    pub(super) fn wrap(&self, operation: &'static str, name: &str, source: io::Error) -> Error {
        let disk = self.disk.clone();
        let fault = fault(&source);
        if matches!(fault, Fault::Full | Fault::Exhausted) {
            self.worsen(Standing::Strained(format!(
                "it could not {operation} {name}: {source}"
            )));
        }
        let name = name.to_owned();
        match fault {
            Fault::Full => Error::Full { disk },
            Fault::Exhausted => Error::Exhausted {
                disk,
                operation,
                name,
                source,
            },
            Fault::Busy => Error::Busy { disk },
            Fault::Missing => Error::NotFound { disk, name },
            Fault::Medium | Fault::Other => Error::Io {
                disk,
                operation,
                name,
                source,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(code: i32) -> io::Error {
        io::Error::from_raw_os_error(code)
    }

    #[test]
    fn what_passes_is_lifted_and_what_an_fsync_left_is_not() {
        for code in [
            libc::EMFILE,
            libc::ENFILE,
            libc::ENOMEM,
            libc::ENOSPC,
            libc::EDQUOT,
        ] {
            let health = Health::new("d".to_owned());
            health.unwritten("a", os(code));
            assert!(matches!(health.standing(), Standing::Strained(_)), "{code}");
            assert!(health.check().is_ok());
            health.lift(health.begin_probe());
            assert_eq!(health.standing(), Standing::Working);
        }
        let health = Health::new("d".to_owned());
        health.unwritten("a", os(libc::EIO));
        assert!(matches!(health.check(), Err(Error::Stopped { .. })));
        let probing = health.begin_probe();
        health.refused("cut", "a", os(libc::EROFS));
        health.lift(probing);
        assert!(health.check().is_err(), "it failed again while it was probed");
        health.lift(health.begin_probe());
        assert!(health.check().is_ok());
        for code in [libc::EIO, libc::ENOSPC, libc::ENOMEM, libc::EMFILE] {
            let health = Health::new("d".to_owned());
            health.unsynced("a", os(code));
            health.lift(health.begin_probe());
            assert!(matches!(health.check(), Err(Error::Poisoned { .. })), "{code}");
        }
    }

    #[test]
    fn only_the_medium_makes_bytes_unreadable() {
        assert!(is_of_medium(&os(libc::EIO)));
        for code in [
            libc::EMFILE,
            libc::ENOMEM,
            libc::EACCES,
            libc::ESTALE,
            libc::EINTR,
            libc::EROFS,
            libc::ENODEV,
            libc::ENXIO,
        ] {
            assert!(!is_of_medium(&os(code)), "{code}");
        }
    }
}
