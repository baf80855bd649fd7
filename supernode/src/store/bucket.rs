//! Rows of buckets, and the question whose a path is.

use common::ids::{BucketId, DirectoryId, UserId};
use common::path::RemotePath;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::apply::Stop;
use super::number::{number, sql};
use crate::core::permission::{Ask, Caller, check};
use crate::core::refusal::Refusal;

/// A bucket.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    /// Which.
    pub(crate) id: BucketId,
    /// First component of every path in it.
    pub(crate) name: String,
    /// Whose: all of it is charged to them.
    pub(crate) owner: UserId,
    /// Its own directory.
    pub(crate) directory: DirectoryId,
}

impl Bucket {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: BucketId::new(number(row, 0)?),
            name: row.get(1)?,
            owner: UserId::new(number(row, 2)?),
            directory: DirectoryId::new(number(row, 3)?),
        })
    }
}

/// The bucket with this name.
pub(crate) fn by_name(connection: &Connection, name: &str) -> rusqlite::Result<Option<Bucket>> {
    connection
        .prepare_cached("SELECT bucket_id, name, owner, directory_id FROM buckets WHERE name = ?1")?
        .query_row([name], Bucket::read)
        .optional()
}

/// The bucket of a user: each has the one of their name.
pub(crate) fn of_owner(connection: &Connection, owner: UserId) -> rusqlite::Result<Option<Bucket>> {
    connection
        .prepare_cached(
            "SELECT bucket_id, name, owner, directory_id FROM buckets WHERE owner = ?1 ORDER BY name LIMIT 1",
        )?
        .query_row([sql(owner.get())], Bucket::read)
        .optional()
}

/// Who owns the bucket.
pub(crate) fn owner(connection: &Connection, bucket: BucketId) -> rusqlite::Result<UserId> {
    connection
        .prepare_cached("SELECT owner FROM buckets WHERE bucket_id = ?1")?
        .query_row([sql(bucket.get())], |row| Ok(UserId::new(number(row, 0)?)))
}

/// The bucket of `path`, where `caller` may see and change what is in it.
///
/// # Errors
/// `NotFound`, whether there is no such bucket or it is somebody else's (P9).
pub(crate) fn of_path(connection: &Connection, caller: Caller, path: &RemotePath) -> Result<Bucket, Stop> {
    let found = match path.bucket() {
        Some(name) => by_name(connection, name)?,
        None => None,
    };
    let ask = Ask::Path {
        path,
        owner: found.as_ref().map(|bucket| bucket.owner),
    };
    check(caller, ask)?;
    found.ok_or_else(|| Stop::Refused(Refusal::no_path(path)))
}

/// Makes a bucket's row.
pub(crate) fn insert(connection: &Connection, bucket: &Bucket) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO buckets (bucket_id, name, owner, directory_id) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            sql(bucket.id.get()),
            bucket.name,
            sql(bucket.owner.get()),
            sql(bucket.directory.get())
        ])?;
    Ok(())
}
