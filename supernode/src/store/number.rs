//! Numbers between Rust (unsigned) and SQLite (signed 64 bits).

use prost::Message;
use rusqlite::Row;

use super::schema::unreadable;

/// `number` as SQLite keeps it. Bounds at the edge keep everything below 2^63; what is beyond is kept as the largest.
pub(crate) fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The number in column `at`.
pub(crate) fn number(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(at)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(at, value))
}

/// The number in column `at`, where there is one.
pub(crate) fn number_or_none(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<u64>> {
    let value: Option<i64> = row.get(at)?;
    value
        .map(|value| u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(at, value)))
        .transpose()
}

/// The flag in column `at`.
pub(crate) fn flag(row: &Row<'_>, at: usize) -> rusqlite::Result<bool> {
    Ok(row.get::<_, i64>(at)? != 0)
}

/// The message in column `at`.
///
/// # Errors
/// What is there does not decode: the state is damaged, and the member must stop rather than go on without it (P5).
pub(crate) fn decode<M: Message + Default>(row: &Row<'_>, at: usize) -> rusqlite::Result<M> {
    let bytes = row.get_ref(at)?.as_blob()?;
    M::decode(bytes).map_err(|error| unreadable(format!("a row's column {at} cannot be decoded: {error}")))
}
