//! The `consensus_*` tables of the state machine.

use std::io;
use std::sync::Arc;

use common::time::ClusterTime;
use prost::Message;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::schema::{self, Join, Position, Record};
use crate::sqlite::failure;
use crate::state::MemberRow;

/// The position and membership as stored; `None` in a new file.
pub(crate) fn load(connection: &Connection) -> io::Result<Option<(Position, schema::Membership)>> {
    let row: Option<(Vec<u8>, Vec<u8>)> = connection
        .query_row(
            "SELECT position, membership FROM consensus_state WHERE id = 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()
        .map_err(failure)?;
    let Some((position, membership)) = row else {
        return Ok(None);
    };
    let position: Position = schema::open("the state machine's position", &position)?;
    let (found, known) = (position.format, schema::STATE_FORMAT);
    if found > known {
        return Err(schema::invalid(format!(
            "the state machine has format {found}, this build knows {known}: upgrade this member"
        )));
    }
    if found < known {
        return Err(schema::invalid(format!(
            "the state machine has format {found} of a build that was never released, this build knows {known}: begin \
             with an empty directory"
        )));
    }
    Ok(Some((
        position,
        schema::open("the state machine's membership", &membership)?,
    )))
}

pub(crate) fn create(tx: &Transaction<'_>, position: &Position) -> rusqlite::Result<()> {
    let membership = schema::Membership::default();
    tx.execute(
        "INSERT INTO consensus_state (id, position, membership) VALUES (1, ?1, ?2)",
        params![schema::seal(position), schema::seal(&membership)],
    )
    .map(drop)
}

pub(crate) fn save_position(tx: &Transaction<'_>, position: &Position) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE consensus_state SET position = ?1 WHERE id = 1")?
        .execute([schema::seal(position)])
        .map(drop)
}

pub(crate) fn save_membership(tx: &Transaction<'_>, membership: &schema::Membership) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE consensus_state SET membership = ?1 WHERE id = 1")?
        .execute([schema::seal(membership)])
        .map(drop)
}

pub(crate) fn members(connection: &Connection) -> io::Result<Arc<[MemberRow]>> {
    let mut statement = connection
        .prepare_cached("SELECT node, active, record, aside_since FROM consensus_members ORDER BY node")
        .map_err(failure)?;
    let mut rows = statement.query([]).map_err(failure)?;
    let mut members = Vec::new();
    while let Some(row) = rows.next().map_err(failure)? {
        let record: Vec<u8> = row.get(2).map_err(failure)?;
        let record = Record::decode(record.as_slice()).map_err(schema::invalid)?;
        members.push(MemberRow {
            node: row.get::<_, i64>(0).map_err(failure)?.cast_unsigned(),
            active: row.get(1).map_err(failure)?,
            record: record.into(),
            aside_since: ClusterTime::from_millis(row.get::<_, i64>(3).map_err(failure)?.cast_unsigned()),
        });
    }
    Ok(members.into())
}

/// Makes the joiner a member, or finds the member that it already is. `Ok(Err(..))` says why not.
pub(crate) fn join(tx: &Transaction<'_>, index: u64, join: Join) -> rusqlite::Result<Result<u64, String>> {
    let record = join.record.unwrap_or_default().encode_to_vec();
    let known: Option<i64> = tx
        .query_row(
            "SELECT node FROM consensus_members WHERE nonce = ?1",
            [&join.nonce],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(node) = known {
        tx.execute(
            "UPDATE consensus_members SET active = 1, record = ?2, aside_since = 0 WHERE node = ?1",
            params![node, record],
        )?;
        return Ok(Ok(node.cast_unsigned()));
    }
    let taking_part = "SELECT count(*) FROM consensus_members WHERE active = 1";
    let count: i64 = tx.query_row(taking_part, [], |row| row.get(0))?;
    if count.cast_unsigned() >= join.members_max {
        return Ok(Err(format!(
            "{count} members take part already, the most that may"
        )));
    }
    tx.execute(
        "INSERT INTO consensus_members (node, nonce, active, record) VALUES (?1, ?2, 1, ?3)",
        params![index.cast_signed(), join.nonce, record],
    )?;
    Ok(Ok(index))
}

/// Replaces a member's record and makes it take part. A member without a row gets one: the founder, and one that was
/// forgotten.
pub(crate) fn announce(tx: &Transaction<'_>, announce: schema::Announce) -> rusqlite::Result<()> {
    let record = announce.record.unwrap_or_default().encode_to_vec();
    let node = announce.node.cast_signed();
    let updated = tx.execute(
        "UPDATE consensus_members SET active = 1, record = ?2, aside_since = 0 WHERE node = ?1",
        params![node, record],
    )?;
    if updated == 0 && !announce.nonce.is_empty() {
        // A nonce that has led to another member since is that member's.
        tx.execute(
            "INSERT OR IGNORE INTO consensus_members (node, nonce, active, record) VALUES (?1, ?2, 1, ?3)",
            params![node, announce.nonce, record],
        )?;
    }
    Ok(())
}

pub(crate) fn set_aside(tx: &Transaction<'_>, node: u64, now_millis: u64) -> rusqlite::Result<()> {
    tx.execute(
        "UPDATE consensus_members SET active = 0, aside_since = ?2 WHERE node = ?1 AND active = 1",
        [node.cast_signed(), now_millis.cast_signed()],
    )
    .map(drop)
}

/// Removes the row of a member that takes no part.
pub(crate) fn forget(tx: &Transaction<'_>, node: u64) -> rusqlite::Result<()> {
    tx.execute(
        "DELETE FROM consensus_members WHERE node = ?1 AND active = 0",
        [node.cast_signed()],
    )
    .map(drop)
}
