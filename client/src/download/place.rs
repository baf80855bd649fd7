//! What the path of a download's target is, and so how it is written.
//!
//! Invariant: only a regular file, or a name that is free, is ever replaced. Links stay, and what they lead to is
//! written. Pipes, terminals and devices are written through, in order; what cannot be written through is refused.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use common::time::Clock;
use rustix::fs::{OFlags, PROC_SUPER_MAGIC};
use tokio::io::AsyncWrite;
use tokio::net::unix::pipe;

use crate::error::Error;

/// Links that are followed at most, as the kernel does.
const LINKS_MAX: usize = 40;
/// How often it is looked whether a pipe has a reader.
const READER_PERIOD: Duration = Duration::from_millis(20);

/// What a path is.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Kind {
    /// A regular file or a free name, after all links.
    File(PathBuf),
    /// A descriptor of this process: `/dev/stdout`, `/dev/fd/3`.
    Descriptor(PathBuf, Option<u32>),
    Pipe(PathBuf),
    Device(PathBuf),
}

/// How a target is written.
pub(super) enum Place {
    /// Aside, in any order, and renamed in the end.
    File(PathBuf),
    /// Through, in order.
    Through(Through),
}

/// An open target that is written in order.
pub(super) struct Through {
    pub(super) output: Pin<Box<dyn AsyncWrite + Send>>,
    path: PathBuf,
    /// A disk, which is synced in the end.
    disk: Option<File>,
}

/// Whether `path` is the standard output of this process under another name.
pub fn is_stdout(path: &Path) -> bool {
    matches!(look(path), Ok(Kind::Descriptor(_, Some(1))))
}

/// What `path` is, and how it is written. Waits for a reader where it is a pipe.
pub(super) async fn find(path: PathBuf, clock: &Clock) -> Result<Place, Error> {
    let kind = super::blocking(move || look(&path)).await?;
    let (path, options) = match kind {
        Kind::File(path) => return Ok(Place::File(path)),
        Kind::Pipe(path) => return open_pipe(path, clock).await,
        Kind::Descriptor(path, Some(1)) => return Ok(stream(path, tokio::io::stdout())),
        Kind::Descriptor(path, Some(2)) => return Ok(stream(path, tokio::io::stderr())),
        // Whoever wrote to the descriptor before keeps what was written.
        Kind::Descriptor(path, _) => (path, OpenOptions::new().append(true).clone()),
        Kind::Device(path) => (path, OpenOptions::new().write(true).clone()),
    };
    super::blocking(move || open(path, options)).await
}

fn stream(path: PathBuf, output: impl AsyncWrite + Send + 'static) -> Place {
    Place::Through(Through {
        output: Box::pin(output),
        path,
        disk: None,
    })
}

/// Opens a pipe once it has a reader. Asks again and again, so that whoever gives up waiting leaves no thread behind.
async fn open_pipe(path: PathBuf, clock: &Clock) -> Result<Place, Error> {
    loop {
        match pipe::OpenOptions::new().open_sender(&path) {
            Ok(sender) => return Ok(stream(path, sender)),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => {
                clock.sleep(READER_PERIOD).await;
            }
            Err(error) => return Err(Error::local("write", path, error)),
        }
    }
}

fn open(path: PathBuf, mut options: OpenOptions) -> Result<Place, Error> {
    let file = options
        .custom_flags(OFlags::NOCTTY.bits().cast_signed())
        .open(&path)
        .map_err(|error| Error::local("write", &path, error))?;
    let is_disk = file
        .metadata()
        .is_ok_and(|metadata| metadata.is_file() || metadata.file_type().is_block_device());
    let disk = match is_disk {
        true => Some(
            file.try_clone()
                .map_err(|error| Error::local("write", &path, error))?,
        ),
        false => None,
    };
    Ok(Place::Through(Through {
        output: Box::pin(tokio::fs::File::from_std(file)),
        path,
        disk,
    }))
}

impl Through {
    /// What to call once everything was written and flushed, with what is left of the place.
    pub(super) fn split(
        self,
    ) -> (
        Pin<Box<dyn AsyncWrite + Send>>,
        impl FnOnce() -> Result<(), Error> + Send,
    ) {
        let (disk, path) = (self.disk, self.path);
        let finish = move || match disk {
            Some(disk) => {
                crate::durable::sync(&disk, &path).map_err(|error| Error::local("write", &path, error))
            }
            None => Ok(()),
        };
        (self.output, finish)
    }
}

/// Follows the links of `path` one by one: what a link to a descriptor says is not where it leads.
fn look(path: &Path) -> Result<Kind, Error> {
    let cannot = |at: &Path, error| Error::local("write", at, error);
    let mut at = path.to_owned();
    for _ in 0..LINKS_MAX {
        let found = match std::fs::symlink_metadata(&at) {
            Ok(found) => found.file_type(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kind::File(at)),
            Err(error) => return Err(cannot(&at, error)),
        };
        if found.is_symlink() {
            if is_in_proc(&at) {
                let number = own_descriptor(&at);
                return Ok(Kind::Descriptor(at, number));
            }
            let to = std::fs::read_link(&at).map_err(|error| cannot(&at, error))?;
            // An absolute `to` replaces all of it.
            at = at.parent().unwrap_or(Path::new("")).join(to);
        } else if found.is_dir() {
            return Err(cannot(path, io::ErrorKind::IsADirectory.into()));
        } else if found.is_file() {
            return Ok(Kind::File(at));
        } else if found.is_fifo() {
            return Ok(Kind::Pipe(at));
        } else if found.is_socket() {
            let text = format!("{} is a socket, which no file can be written to", path.display());
            return Err(Error::Invalid(text));
        } else {
            return Ok(Kind::Device(at));
        }
    }
    Err(cannot(path, rustix::io::Errno::LOOP.into()))
}

/// Whether `link` is of a `proc` file system, whose links to descriptors lead to no path.
fn is_in_proc(link: &Path) -> bool {
    let parent = link.parent().filter(|parent| !parent.as_os_str().is_empty());
    rustix::fs::statfs(parent.unwrap_or(Path::new("."))).is_ok_and(|found| found.f_type == PROC_SUPER_MAGIC)
}

/// The number of the descriptor of this process that `link` names.
fn own_descriptor(link: &Path) -> Option<u32> {
    let whole = |path: &Path| std::fs::canonicalize(path).ok();
    let directory = whole(link.parent()?)?;
    if whole(Path::new("/proc/self/fd")) != Some(directory) {
        return None;
    }
    link.file_name()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_to_what_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("d")).unwrap();
        std::fs::write(at("d/file"), b"x").unwrap();
        symlink("d/file", at("link")).unwrap();
        symlink("../link", at("d/second")).unwrap();
        symlink("free", at("dangling")).unwrap();
        symlink(at("loop"), at("loop")).unwrap();
        assert_eq!(look(&at("link")).unwrap(), Kind::File(at("d/file")));
        assert_eq!(look(&at("d/second")).unwrap(), Kind::File(at("d/../d/file")));
        assert_eq!(look(&at("dangling")).unwrap(), Kind::File(at("free")));
        assert_eq!(look(&at("none")).unwrap(), Kind::File(at("none")));
        assert!(look(&at("loop")).is_err() && look(&at("d")).is_err());
        assert!(look(&at("d/file/below")).is_err());
        std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        assert!(matches!(look(&at("socket")), Err(Error::Invalid(_))));
    }

    #[test]
    fn devices_and_descriptors_are_known() {
        assert!(matches!(look(Path::new("/dev/null")), Ok(Kind::Device(_))));
        for name in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
            if Path::new(name).symlink_metadata().is_ok() {
                assert!(is_stdout(Path::new(name)), "{name}");
            }
        }
        assert!(!is_stdout(Path::new("/dev/null")));
    }
}
