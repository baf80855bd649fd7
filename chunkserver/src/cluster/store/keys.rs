//! Data-plane keys: made by the leader, known to every member through the log.

use common::ids::KeyId;
use common::time::ClusterTime;
use proto::bulk::grant::{DataPlaneKey, DataPlaneKeys};
use proto::cluster_log::v1 as wire;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::apply::Moment;
use super::counters::Counter;
use super::schema::{number, to_sql};

/// The length of a key.
pub const SECRET_BYTES: usize = 32;

/// A key with its secret, for the nodes of the cluster alone.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Which.
    pub id: KeyId,
    /// 32 bytes.
    pub secret: [u8; SECRET_BYTES],
    /// When it was made.
    pub made: ClusterTime,
}

impl std::fmt::Debug for KeyRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyRow({})", self.id)
    }
}

/// All known keys, the current one first.
pub fn all(connection: &Connection) -> rusqlite::Result<Vec<KeyRow>> {
    connection
        .prepare_cached("SELECT key_id, secret, made_millis FROM keys ORDER BY key_id DESC")?
        .query_map([], |row| {
            Ok(KeyRow {
                id: KeyId::new(number(row, 0)?),
                secret: row.get(1)?,
                made: ClusterTime::from_millis(number(row, 2)?),
            })
        })?
        .collect()
}

/// `rows` ready for use.
pub fn usable(rows: &[KeyRow]) -> DataPlaneKeys {
    DataPlaneKeys::new(
        rows.iter()
            .map(|row| DataPlaneKey::new(row.id, &row.secret))
            .collect(),
    )
}

pub(super) fn rotate(
    transaction: &Transaction<'_>,
    at: Moment,
    command: &wire::RotateKeys,
) -> rusqlite::Result<Option<KeyId>> {
    if command.secret.len() != SECRET_BYTES || command.kept_max == 0 {
        return Ok(None);
    }
    let id = Counter::Key.next(transaction)?;
    transaction.execute(
        "INSERT INTO keys (key_id, secret, made_millis) VALUES (?1, ?2, ?3)",
        params![to_sql(id), command.secret.as_ref(), to_sql(at.now.as_millis())],
    )?;
    let oldest: Option<i64> = transaction
        .query_row(
            "SELECT key_id FROM keys ORDER BY key_id DESC LIMIT 1 OFFSET ?1",
            [command.kept_max],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(oldest) = oldest {
        transaction.execute("DELETE FROM keys WHERE key_id <= ?1", [oldest])?;
    }
    Ok(Some(KeyId::new(id)))
}
