//! Versions: what the names layer said became of each, and how far its release has been carried out.
//!
//! Invariant: the cluster never runs ahead of the names log ([`common::lifecycle::Version::heard`]); a contradiction
//! between the two logs is counted, changes nothing and frees nothing.

use common::ids::{Digest, UploadId, UploadNumber, VersionId};
use common::lifecycle::{Heard, Upload, Version, VersionEvent};
use common::time::{ClusterTime, WallTime};
use proto::cluster_log::v1 as wire;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::counters::Counter;
use super::schema::{corrupt, number, to_sql};
use super::uploads;

/// The longest code and message of a refusal that are kept.
const REFUSAL_TEXT_BYTES_MAX: usize = 512;

/// A version as the log knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VersionRow {
    /// Which.
    pub version: VersionId,
    /// The upload that made it, as the cluster counts.
    pub number: UploadNumber,
    /// Where it stands.
    pub state: Version,
    /// Bytes of content.
    pub size: u64,
    /// BLAKE3 of the content.
    pub digest: Digest,
    /// Length of every chunk but the last.
    pub chunk_bytes: u64,
    /// How many chunks it has.
    pub chunk_count: u32,
    /// Wall clock of the leader that sealed it.
    pub modified: WallTime,
    /// Why it was refused; empty unless it was.
    pub refused_code: String,
    /// One sentence about the refusal.
    pub refused_message: String,
}

impl VersionRow {
    /// Whether it has this size and digest.
    pub fn is_content(&self, size: u64, digest: &[u8]) -> bool {
        self.size == size && self.digest.bytes().as_slice() == digest
    }
}

const COLUMNS: &str = "version, number, state, size, digest, chunk_bytes, chunk_count, modified_wall_millis, \
     refused_code, refused_message";

fn decode(row: &Row<'_>) -> rusqlite::Result<VersionRow> {
    Ok(VersionRow {
        version: VersionId::new(number(row, 0)?),
        number: UploadNumber::new(number(row, 1)?),
        state: Version::from_code(row.get(2)?).map_err(corrupt)?,
        size: number(row, 3)?,
        digest: Digest::new(row.get(4)?),
        chunk_bytes: number(row, 5)?,
        chunk_count: row.get(6)?,
        modified: WallTime::from_millis(number(row, 7)?),
        refused_code: row.get(8)?,
        refused_message: row.get(9)?,
    })
}

/// The row of `version`.
pub fn find(connection: &Connection, version: VersionId) -> rusqlite::Result<Option<VersionRow>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM versions WHERE version = ?1"))?
        .query_row([to_sql(version.get())], decode)
        .optional()
}

/// Whether `seal` has the content that its version was sealed with.
pub(super) fn is_content(connection: &Connection, seal: &wire::Seal) -> rusqlite::Result<bool> {
    let row = find(connection, UploadId::new(seal.upload_id).version())?;
    Ok(row.is_none_or(|row| row.is_content(seal.size, &seal.digest)))
}

/// Sealed versions above `after` whose outcome is not known, in order.
pub fn undecided(connection: &Connection, after: VersionId, limit: u32) -> rusqlite::Result<Vec<VersionRow>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM versions WHERE state = 1 AND version > ?1 ORDER BY version LIMIT ?2"
        ))?
        .query_map(params![to_sql(after.get()), limit], decode)?
        .collect()
}

/// Versions whose outcome is recorded here, of which the names layer may not know, in order.
pub fn outcomes_unreported(connection: &Connection, limit: u32) -> rusqlite::Result<Vec<VersionId>> {
    connection
        .prepare_cached("SELECT version FROM outcomes_unreported ORDER BY version LIMIT ?1")?
        .query_map([limit], |row| Ok(VersionId::new(number(row, 0)?)))?
        .collect()
}

/// The effect of `ReleaseVersions`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Released {
    /// Every release up to this sequence is recorded.
    pub recorded: u64,
    /// How many of these releases named a version that is not known here.
    pub unknown: u32,
    /// How many contradicted what is known here.
    pub contradictions: u32,
}

/// Records outcomes; returns how many contradict what is recorded.
pub(super) fn outcomes(
    transaction: &Transaction<'_>,
    command: &wire::PublishOutcomes,
) -> rusqlite::Result<u32> {
    let mut contradictions = 0;
    for outcome in &command.outcomes {
        let version = VersionId::new(outcome.upload_id);
        let event = if outcome.published {
            VersionEvent::Publish
        } else {
            VersionEvent::Refuse
        };
        match hear(transaction, version, event)? {
            Some(Ok(Heard::Moves(_))) if !outcome.published => {
                transaction
                    .prepare_cached(
                        "UPDATE versions SET refused_code = ?1, refused_message = ?2 WHERE version = ?3",
                    )?
                    .execute(params![
                        shorten(&outcome.refused_code),
                        shorten(&outcome.refused_message),
                        to_sql(version.get())
                    ])?;
            }
            Some(Ok(_)) => {}
            Some(Err(_)) => contradictions += 1,
            None => continue,
        }
        transaction
            .prepare_cached("INSERT OR IGNORE INTO outcomes_unreported (version) VALUES (?1)")?
            .execute([to_sql(version.get())])?;
    }
    let mut delete = transaction.prepare_cached("DELETE FROM outcomes_unreported WHERE version = ?1")?;
    for version in &command.acknowledged {
        delete.execute([to_sql(*version)])?;
    }
    Counter::Contradictions.add(transaction, i64::from(contradictions))?;
    Ok(contradictions)
}

/// Records releases in order of their sequence; one out of order ends it there.
pub(super) fn release(
    transaction: &Transaction<'_>,
    command: &wire::ReleaseVersions,
) -> rusqlite::Result<Released> {
    let mut outcome = Released {
        recorded: Counter::ReleasesRecorded.get(transaction)?,
        ..Released::default()
    };
    for release in &command.releases {
        if release.sequence <= outcome.recorded {
            continue;
        }
        if release.sequence != outcome.recorded + 1 {
            break;
        }
        match hear(
            transaction,
            VersionId::new(release.version),
            VersionEvent::Release,
        )? {
            Some(Ok(_)) => {}
            Some(Err(_)) => outcome.contradictions += 1,
            None => outcome.unknown += 1,
        }
        outcome.recorded = release.sequence;
    }
    Counter::ReleasesRecorded.set(transaction, outcome.recorded)?;
    Counter::Contradictions.add(transaction, i64::from(outcome.contradictions))?;
    Ok(outcome)
}

/// Applies what the names layer said to the version's row; `None` where there is no such row.
fn hear(
    transaction: &Transaction<'_>,
    version: VersionId,
    event: VersionEvent,
) -> rusqlite::Result<Option<Result<Heard, common::lifecycle::IllegalMove>>> {
    let Some(row) = find(transaction, version)? else {
        return Ok(None);
    };
    let heard = row.state.heard(event);
    if let Ok(Heard::Moves(next)) = heard {
        let marking = !next.holds_chunks();
        transaction
            .prepare_cached("UPDATE versions SET state = ?1, marking = ?2 WHERE version = ?3")?
            .execute(params![next.code(), marking, to_sql(version.get())])?;
    }
    Ok(Some(heard))
}

/// Moves `version` to gone once nothing waits for it: its chunks are all marked and no manifest row is left.
pub(super) fn end_if_empty(
    transaction: &Transaction<'_>,
    version: VersionId,
    now: ClusterTime,
) -> rusqlite::Result<bool> {
    let waiting: Option<(bool, bool)> = transaction
        .prepare_cached(
            "SELECT marking, EXISTS (SELECT 1 FROM manifest m WHERE m.version = v.version)
             FROM versions v WHERE version = ?1",
        )?
        .query_row([to_sql(version.get())], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if waiting != Some((false, false)) {
        return Ok(false);
    }
    let Some(row) = find(transaction, version)? else {
        return Ok(false);
    };
    let Ok(Heard::Moves(next)) = row.state.heard(VersionEvent::Reclaim) else {
        return Ok(false);
    };
    transaction
        .prepare_cached("UPDATE versions SET state = ?1 WHERE version = ?2")?
        .execute(params![next.code(), to_sql(version.get())])?;
    uploads::move_to(transaction, row.number, Upload::Sealed, Some(now))?;
    Ok(true)
}

fn shorten(text: &str) -> &str {
    text.get(..text.floor_char_boundary(REFUSAL_TEXT_BYTES_MAX))
        .unwrap_or_default()
}
