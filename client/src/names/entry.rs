//! Files, directories and buckets, as the names layer tells of them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use common::ids::{Digest, VersionId};
use common::path::RemotePath;
use common::time::WallTime;
use common::units::ByteCount;
use proto::names::v1 as wire;

use crate::error::Error;

/// What stands at a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Where.
    pub path: RemotePath,
    /// Whose; empty where not told.
    pub owner: String,
    /// When it was last changed, by the wall clock of a leader.
    pub modified: WallTime,
    /// What was given along with the upload of the file, or kept with the directory; keys as in [`proto::metadata`].
    pub metadata: BTreeMap<String, String>,
    /// What.
    pub kind: EntryKind,
}

/// What stands at a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// A file, as of one version.
    File {
        /// The version.
        version: VersionId,
        /// Its length.
        size: ByteCount,
        /// BLAKE3 of its content.
        digest: Digest,
        /// Names of the clusters that hold it.
        clusters: Vec<String>,
    },
    /// A directory.
    Directory,
    /// A top-level directory with an owner and a quota.
    Bucket,
}

impl Entry {
    /// Whether it is a file.
    pub const fn is_file(&self) -> bool {
        matches!(self.kind, EntryKind::File { .. })
    }

    /// The file's length; zero for what is no file.
    pub fn size(&self) -> ByteCount {
        match &self.kind {
            EntryKind::File { size, .. } => *size,
            EntryKind::Directory | EntryKind::Bucket => ByteCount::new(0),
        }
    }

    /// The file's version; `None` for what is no file.
    pub const fn version(&self) -> Option<VersionId> {
        match &self.kind {
            EntryKind::File { version, .. } => Some(*version),
            EntryKind::Directory | EntryKind::Bucket => None,
        }
    }
}

impl TryFrom<wire::Entry> for Entry {
    type Error = Error;
    fn try_from(wire: wire::Entry) -> Result<Self, Error> {
        let path: RemotePath = wire
            .path
            .parse()
            .map_err(|_| Error::protocol(format!("an entry with the path {:?}", wire.path)))?;
        let kind = match wire.kind() {
            wire::EntryKind::Directory => EntryKind::Directory,
            wire::EntryKind::Bucket => EntryKind::Bucket,
            wire::EntryKind::File => EntryKind::File {
                version: VersionId::new(wire.version),
                size: ByteCount::new(wire.size),
                digest: Digest::try_from(wire.digest.as_ref())
                    .map_err(|_| Error::protocol(format!("{path} without a digest")))?,
                clusters: wire.clusters,
            },
            wire::EntryKind::Unspecified => {
                return Err(Error::protocol(format!(
                    "{path} is of a kind that this build does not know"
                )));
            }
        };
        Ok(Self {
            path,
            owner: wire.owner,
            modified: WallTime::from_millis(wire.modified_wall_millis),
            metadata: wire.metadata.into_iter().collect(),
            kind,
        })
    }
}

/// What [`crate::Client::list`] shows.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Also everything below, with whole paths in order: files, and with `directories` also these.
    pub recursive: bool,
    /// With `recursive`: directories as well, each before what is in it.
    pub directories: bool,
    /// Only names (recursive: paths below the directory) that begin with this.
    pub prefix: String,
    /// Entries per page; `None` for as many as the server gives (1000).
    pub page_entries_max: Option<NonZeroU32>,
}

/// What [`crate::Client::search`] looks for.
#[derive(Clone, Debug, Default)]
pub struct SearchQuery {
    /// A substring of the name, or a glob where it contains `*`, `?` or `[`; with a slash, a glob of the path below.
    pub pattern: String,
    /// At least so long.
    pub size_min: Option<ByteCount>,
    /// At most so long.
    pub size_max: Option<ByteCount>,
    /// Modified at or after.
    pub newer: Option<WallTime>,
    /// Entries per page; `None` for as many as the server gives.
    pub page_entries_max: Option<NonZeroU32>,
}

/// How [`crate::Client::delete`] deletes.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeleteOptions {
    /// A directory with all its content.
    pub recursive: bool,
    /// Past the trash.
    pub permanent: bool,
    /// Only if this is the current version.
    pub if_version: Option<VersionId>,
}

/// What was deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deleted {
    /// How many files.
    pub files: u64,
    /// How much they held.
    pub size: ByteCount,
}
