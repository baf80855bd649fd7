//! The keys that sign tickets: the current and the previous one, as secret seeds.

use common::ids::KeyId;
use common::time::ClusterTime;
use rusqlite::{Connection, Row, params};

use super::number::{number, sql};
use super::schema::unreadable;

/// How many keys are kept: tickets signed with the previous one are good until they expire.
const KEYS_KEPT: u32 = 2;

/// Bytes of a seed.
pub(crate) const SEED_BYTES: usize = 32;

/// A signing key.
#[derive(Clone)]
pub(crate) struct Seed {
    /// Which.
    pub(crate) id: KeyId,
    /// 32 secret bytes.
    pub(crate) bytes: zeroize::Zeroizing<Vec<u8>>,
    /// Names time.
    pub(crate) made: ClusterTime,
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Seed({}, made at {:?})", self.id, self.made)
    }
}

/// The keys, the current one first.
pub(crate) fn all(connection: &Connection) -> rusqlite::Result<Vec<Seed>> {
    connection
        .prepare_cached("SELECT key_id, seed, made_millis FROM signing_keys ORDER BY key_id DESC")?
        .query_map([], |row| {
            Ok(Seed {
                id: KeyId::new(number(row, 0)?),
                bytes: seed(row, 1)?,
                made: ClusterTime::from_millis(number(row, 2)?),
            })
        })?
        .collect()
}

fn seed(row: &Row<'_>, at: usize) -> rusqlite::Result<zeroize::Zeroizing<Vec<u8>>> {
    let bytes = zeroize::Zeroizing::new(row.get::<_, Vec<u8>>(at)?);
    match bytes.len() {
        SEED_BYTES => Ok(bytes),
        other => Err(unreadable(format!("a signing key's seed has {other} bytes"))),
    }
}

/// Makes `seed` the current key and forgets all but the one before.
pub(crate) fn rotate(connection: &Connection, seed: &Seed) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO signing_keys (key_id, seed, made_millis) VALUES (?1, ?2, ?3)")?
        .execute(params![
            sql(seed.id.get()),
            seed.bytes.as_slice(),
            sql(seed.made.as_millis())
        ])?;
    connection
        .prepare_cached(
            "DELETE FROM signing_keys WHERE key_id NOT IN
             (SELECT key_id FROM signing_keys ORDER BY key_id DESC LIMIT ?1)",
        )?
        .execute([KEYS_KEPT])?;
    Ok(())
}
