//! What a path shows: a file with its current version, a directory, or a bucket.

use common::ids::{Digest, DirectoryId, VersionId};
use common::path::RemotePath;
use proto::names_log::v1 as log;
use rusqlite::{Connection, OptionalExtension, Row};

use crate::core::permission::Caller;
use crate::core::refusal::Refusal;
use crate::store::apply::Stop;
use crate::store::bucket;
use crate::store::number::{decode, number, sql};
use crate::store::schema::ROOT;
use crate::store::tree::{self, Spot};

/// What kind of thing an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Has a version.
    File,
    /// Below a bucket.
    Directory,
    /// At the top.
    Bucket,
}

/// One line of a listing. Where it is, whoever asked knows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// File, directory or bucket.
    pub(crate) kind: Kind,
    /// Absolute.
    pub(crate) path: String,
    /// Who uploaded the file, or owns the bucket.
    pub(crate) owner: String,
    /// Modified, or created where it is no file. For people.
    pub(crate) modified_wall_millis: u64,
    /// What is kept with a directory; a file's is its version's.
    pub(crate) metadata: Vec<log::Metadata>,
    /// Files only.
    pub(crate) file: Option<File>,
}

/// The current version of a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct File {
    /// Which.
    pub(crate) version: VersionId,
    /// Its length.
    pub(crate) size_bytes: u64,
    /// BLAKE3 of its content.
    pub(crate) digest: Digest,
    /// In order of key.
    pub(crate) metadata: Vec<log::Metadata>,
    /// Name of the cluster that holds it.
    pub(crate) cluster: String,
    /// Who uploaded it.
    pub(crate) owner: String,
    /// For people.
    pub(crate) modified_wall_millis: u64,
}

/// The columns from which [`File::read`] reads, of `versions v`, `users u` and `clusters c`.
pub(super) const FILE_COLUMNS: &str =
    "v.version_id, v.size_bytes, v.digest, v.modified_wall_millis, v.metadata, u.name, c.name";
/// The joins that give [`FILE_COLUMNS`] from a `version_id` of the table before.
pub(super) const FILE_JOINS: &str =
    "JOIN users u ON u.user_id = v.user_id JOIN clusters c ON c.cluster = v.cluster";

impl File {
    /// Reads [`FILE_COLUMNS`] from column `first` on.
    pub(super) fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            version: VersionId::new(number(row, first)?),
            size_bytes: number(row, first + 1)?,
            digest: Digest::new(row.get(first + 2)?),
            modified_wall_millis: number(row, first + 3)?,
            metadata: metadata(row, first + 4)?,
            owner: row.get(first + 5)?,
            cluster: row.get(first + 6)?,
        })
    }
}

/// What an entry weighs besides its texts, in bytes.
const ENTRY_BYTES: usize = 128;

impl Entry {
    /// About how many bytes the entry has on the wire.
    pub(super) fn weight_bytes(&self) -> usize {
        let of_file = self.file.iter().flat_map(|file| &file.metadata);
        let metadata = self.metadata.iter().chain(of_file);
        let texts: usize = metadata.map(|one| one.key.len() + one.value.len()).sum();
        ENTRY_BYTES + self.path.len() + texts
    }

    /// The entry of a file at `path`.
    pub(crate) fn of_file(path: String, file: File) -> Self {
        Self {
            kind: Kind::File,
            path,
            owner: file.owner.clone(),
            modified_wall_millis: file.modified_wall_millis,
            metadata: Vec::new(),
            file: Some(file),
        }
    }

    /// The entry of the place above all buckets.
    pub(crate) fn of_root() -> Self {
        Self {
            kind: Kind::Directory,
            path: "/".to_owned(),
            owner: String::new(),
            modified_wall_millis: 0,
            metadata: Vec::new(),
            file: None,
        }
    }
}

/// The version with its names, published or in the trash.
pub(crate) fn file_of_version(connection: &Connection, version: VersionId) -> rusqlite::Result<Option<File>> {
    connection
        .prepare_cached(&format!(
            "SELECT {FILE_COLUMNS} FROM versions v {FILE_JOINS} WHERE v.version_id = ?1"
        ))?
        .query_row([sql(version.get())], |row| File::read(row, 0))
        .optional()
}

/// What is at `path`, as `caller` may see it.
///
/// # Errors
/// `NotFound`: nothing, or nothing that the caller may know of.
pub(crate) fn stat(connection: &Connection, caller: Caller, path: &RemotePath) -> Result<Entry, Stop> {
    if path.is_root() {
        return Ok(Entry::of_root());
    }
    let bucket = bucket::of_path(connection, caller, path)?;
    match tree::look(connection, &bucket, path)? {
        Spot::File { version, .. } => {
            let file = file_of_version(connection, version)?.ok_or_else(|| Refusal::no_path(path))?;
            Ok(Entry::of_file(path.as_str().to_owned(), file))
        }
        Spot::Directory(id) => {
            let entry = directory(connection, path.as_str().to_owned(), id)?;
            Ok(entry.ok_or_else(|| Refusal::no_path(path))?)
        }
        Spot::Nothing { .. } | Spot::BelowFile(_) => Err(Refusal::no_path(path).into()),
    }
}

/// The entry of the directory or bucket `id`, which is at `path`.
pub(super) fn directory(
    connection: &Connection,
    path: String,
    id: DirectoryId,
) -> rusqlite::Result<Option<Entry>> {
    connection
        .prepare_cached(
            "SELECT d.parent_id, d.created_wall_millis, d.metadata, u.name FROM directories d
             JOIN buckets b ON b.bucket_id = d.bucket_id JOIN users u ON u.user_id = b.owner
             WHERE d.directory_id = ?1",
        )?
        .query_row([sql(id.get())], |row| {
            let kind = match number(row, 0)? {
                ROOT => Kind::Bucket,
                _ => Kind::Directory,
            };
            Ok(Entry {
                kind,
                path,
                owner: row.get(3)?,
                modified_wall_millis: number(row, 1)?,
                metadata: metadata(row, 2)?,
                file: None,
            })
        })
        .optional()
}

/// The metadata in column `at`.
pub(super) fn metadata(row: &Row<'_>, at: usize) -> rusqlite::Result<Vec<log::Metadata>> {
    Ok(decode::<log::MetadataList>(row, at)?.entries)
}
