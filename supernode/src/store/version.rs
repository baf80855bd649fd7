//! Rows of versions: published, or in the trash. A released version has no row here, only one in the outbox.

use common::ids::{BucketId, Digest, UserId, VersionId};
use common::lifecycle::{Version as State, VersionEvent};
use prost::Message;
use proto::names_log::v1 as log;
use rusqlite::{Connection, OptionalExtension, params};

use super::cluster::ClusterNumber;
use super::number::{amount, decode, number, sql};
use super::schema::unreadable;
use super::{bucket, cluster, user};

/// A version.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    /// Which.
    pub(crate) id: VersionId,
    /// Published or trashed.
    pub(crate) state: State,
    /// In whose account.
    pub(crate) bucket: BucketId,
    /// Who uploaded it.
    pub(crate) user: UserId,
    /// Where it is.
    pub(crate) cluster: ClusterNumber,
    /// Its length.
    pub(crate) size_bytes: u64,
    /// BLAKE3 of its content.
    pub(crate) digest: Digest,
    /// For people.
    pub(crate) modified_wall_millis: u64,
    /// In order of key.
    pub(crate) metadata: log::MetadataList,
    /// Its row in the trash; 0 for none.
    pub(crate) trash_id: u64,
}

/// The version with this id.
pub(crate) fn by_id(connection: &Connection, id: VersionId) -> rusqlite::Result<Option<Version>> {
    connection
        .prepare_cached(
            "SELECT state, bucket_id, user_id, cluster, size_bytes, digest, modified_wall_millis, metadata, trash_id
             FROM versions WHERE version_id = ?1",
        )?
        .query_row([sql(id.get())], |row| {
            Ok(Version {
                id,
                state: state(row.get(0)?)?,
                bucket: BucketId::new(number(row, 1)?),
                user: UserId::new(number(row, 2)?),
                cluster: ClusterNumber::new(number(row, 3)?),
                size_bytes: number(row, 4)?,
                digest: Digest::new(row.get(5)?),
                modified_wall_millis: number(row, 6)?,
                metadata: decode(row, 7)?,
                trash_id: number(row, 8)?,
            })
        })
        .optional()
}

fn state(code: u8) -> rusqlite::Result<State> {
    State::from_code(code).map_err(|error| unreadable(error.to_string()))
}

/// Makes the row of a version that was just published.
pub(crate) fn insert(connection: &Connection, version: &Version) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO versions (version_id, state, bucket_id, user_id, cluster, size_bytes, digest,
             modified_wall_millis, metadata, trash_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            sql(version.id.get()),
            version.state.code(),
            sql(version.bucket.get()),
            sql(version.user.get()),
            sql(version.cluster.get()),
            sql(version.size_bytes),
            version.digest.bytes(),
            sql(version.modified_wall_millis),
            version.metadata.encode_to_vec(),
            sql(version.trash_id),
        ])?;
    Ok(())
}

/// Records that the version stands in `state`, under `trash_id` where that is the trash.
pub(crate) fn set_state(
    connection: &Connection,
    id: VersionId,
    state: State,
    trash_id: u64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE versions SET state = ?2, trash_id = ?3 WHERE version_id = ?1")?
        .execute(params![sql(id.get()), state.code(), sql(trash_id)])?;
    Ok(())
}

/// Releases a version in the trash: its row goes, and its cluster will be told until it has recorded that. There is no
/// way back (P6: whatever leads here was committed before, and waited for its time).
pub(crate) fn release(connection: &Connection, version: &Version) -> rusqlite::Result<()> {
    version
        .state
        .next(VersionEvent::Release)
        .map_err(|error| unreadable(error.to_string()))?;
    connection
        .prepare_cached("DELETE FROM versions WHERE version_id = ?1")?
        .execute([sql(version.id.get())])?;
    cluster::add_release(connection, version.cluster, version.id)?;
    let change = user::Change {
        used: -amount(version.size_bytes)?,
        ..user::Change::default()
    };
    user::charge(connection, bucket::owner(connection, version.bucket)?, change)
}
