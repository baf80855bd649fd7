//! The JSON of commands that change names: what was planned, what was done.

use serde::Serialize;

use common::path::RemotePath;

use super::EntryShape;
use crate::names::{Deleted, Entry, TrashItem};

/// What `--dry-run` says of one path.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedShape {
    /// The path that would be concerned.
    pub path: String,
    /// Always true.
    pub dry_run: bool,
}

impl PlannedShape {
    /// For `path`.
    pub fn new(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            dry_run: true,
        }
    }
}

/// A copy, move or replacement that `--dry-run` plans.
#[derive(Clone, Debug, Serialize)]
pub struct MoveShape {
    /// The remote source.
    pub path: String,
    /// Where it would go.
    pub destination: String,
    /// Always true.
    pub dry_run: bool,
}

impl MoveShape {
    /// From `from` to `to`.
    pub fn planned(from: &RemotePath, to: &RemotePath) -> Self {
        Self {
            path: from.to_string(),
            destination: to.to_string(),
            dry_run: true,
        }
    }
}

/// A file that `--dry-run` would transfer to the installation.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedUploadShape {
    /// The local file, or `-`.
    pub source: String,
    /// Where it would go.
    pub path: String,
    /// Its length, where known.
    pub size: Option<u64>,
    /// Updates: the version that is current now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Always true.
    pub dry_run: bool,
}

/// A file that `--dry-run` would transfer from the installation.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedDownloadShape {
    /// The remote file.
    pub path: String,
    /// The local file, or `-`.
    pub destination: String,
    /// Its length.
    pub size: Option<u64>,
    /// Always true.
    pub dry_run: bool,
}

/// What was moved.
#[derive(Clone, Debug, Serialize)]
pub struct MovedShape {
    /// Where it was.
    pub from: String,
    /// What it is now.
    #[serde(flatten)]
    pub entry: EntryShape,
}

impl MovedShape {
    /// `moved` was at `from`.
    pub fn new(from: &RemotePath, moved: &Entry) -> Self {
        Self {
            from: from.to_string(),
            entry: EntryShape::from(moved),
        }
    }
}

/// What was deleted.
#[derive(Clone, Debug, Serialize)]
pub struct DeletedShape {
    /// Where it was.
    pub path: String,
    /// How many files.
    pub files: u64,
    /// What they held.
    pub bytes: u64,
}

impl DeletedShape {
    /// `deleted` was at `path`.
    pub fn new(path: &str, deleted: Deleted) -> Self {
        Self {
            path: path.to_owned(),
            files: deleted.files,
            bytes: deleted.size.get(),
        }
    }
}

/// An item of the trash.
#[derive(Clone, Debug, Serialize)]
pub struct TrashShape {
    /// Its number.
    pub id: u64,
    /// `file` or `directory`.
    pub kind: &'static str,
    /// Where it was.
    pub path: String,
    /// Files: the version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Files: the length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// How long ago it was put there.
    pub trashed_ago_millis: u64,
    /// When it is released, counted from now.
    pub due_in_millis: u64,
}

impl From<&TrashItem> for TrashShape {
    fn from(item: &TrashItem) -> Self {
        let millis = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self {
            id: item.id,
            kind: if item.is_file { "file" } else { "directory" },
            path: item.path.to_string(),
            version: item.version.map(common::ids::VersionId::get),
            size: item.size.map(common::units::ByteCount::get),
            trashed_ago_millis: millis(item.trashed_ago),
            due_in_millis: millis(item.due_in),
        }
    }
}

/// What came back out of the trash.
#[derive(Clone, Debug, Serialize)]
pub struct RestoredShape {
    /// The number that the item had.
    pub id: u64,
    /// What it is now.
    #[serde(flatten)]
    pub entry: EntryShape,
}

impl RestoredShape {
    /// Item `id` is `entry` again.
    pub fn new(id: u64, entry: &Entry) -> Self {
        Self {
            id,
            entry: EntryShape::from(entry),
        }
    }
}

/// What left the trash for good.
#[derive(Clone, Debug, Serialize)]
pub struct EmptiedShape {
    /// At or below which path it was.
    pub path: String,
    /// How many items.
    pub items: u64,
}
