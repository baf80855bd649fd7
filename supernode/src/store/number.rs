//! Numbers between Rust (unsigned) and SQLite (signed 64 bits).

use rusqlite::Row;

/// `number` as SQLite keeps it. Bounds at the edge keep everything below 2^63; what is beyond is kept as the largest.
pub(crate) fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The number in column `at`.
pub(crate) fn number(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(at)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(at, value))
}

/// The flag in column `at`.
pub(crate) fn flag(row: &Row<'_>, at: usize) -> rusqlite::Result<bool> {
    Ok(row.get::<_, i64>(at)? != 0)
}
