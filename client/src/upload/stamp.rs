//! What tells whether a local file is still the one that was looked at before.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Which file it was, how long, and when its content was last changed. Kept with the state of an interrupted upload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct SourceStamp {
    /// In bytes.
    pub size: u64,
    /// Seconds and nanoseconds.
    pub modified: (i64, i64),
    /// Its number in its file system.
    pub inode: u64,
    /// Its file system.
    pub device: u64,
}

impl SourceStamp {
    /// The stamp of the file that `path` names now. Blocks on the disk.
    ///
    /// # Errors
    /// What the operating system reports.
    pub fn of(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|metadata| Self::of_metadata(&metadata))
    }

    pub(super) fn of_metadata(metadata: &Metadata) -> Self {
        Self {
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            inode: metadata.ino(),
            device: metadata.dev(),
        }
    }
}

/// What was seen of an open file: its stamp, and when anything about it was changed last (its mode and links too).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    pub(super) stamp: SourceStamp,
    changed: (i64, i64),
}

/// What happened to an open file since it was last looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// Its mode, its links or its name; or its content, by someone who set the time of change back.
    Touched,
    /// It is longer. What it had before may be as it was.
    Grown,
    /// Its content, as its length and its time of change say.
    Content,
}

impl Seen {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            stamp: SourceStamp::of_metadata(metadata),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// What happened between `self` and `later`.
    pub(super) fn change_to(&self, later: &Self) -> Change {
        if later.stamp.size > self.stamp.size {
            Change::Grown
        } else if later.stamp.size != self.stamp.size || later.stamp.modified != self.stamp.modified {
            Change::Content
        } else if later.changed != self.changed {
            Change::Touched
        } else {
            Change::None
        }
    }
}
