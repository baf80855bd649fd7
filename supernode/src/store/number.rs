//! Numbers and messages between Rust and SQLite. Whatever does not fit, or does not decode, is an error: the state is
//! damaged or about to be, and the member must stop rather than go on with something else (P5, P12).

use prost::Message;
use rusqlite::Row;
use rusqlite::types::{ToSql, ToSqlOutput};

use super::schema::unreadable;

/// The largest number that the tables keep.
pub(crate) const NUMBER_MAX: u64 = i64::MAX as u64;

/// A number on its way into a statement, which fails where SQLite cannot keep it as it is. Commands with such numbers are
/// refused before they are applied (`apply/numbers.rs`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct SqlNumber(u64);

/// `number` for a statement.
pub(crate) const fn sql(number: u64) -> SqlNumber {
    SqlNumber(number)
}

/// `number` as an amount to add or take away.
pub(crate) fn amount(number: u64) -> rusqlite::Result<i64> {
    i64::try_from(number)
        .map_err(|_| unreadable(format!("{number} is larger than any number that the tables keep")))
}

impl ToSql for SqlNumber {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        amount(self.0).map(ToSqlOutput::from)
    }
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

/// The flag in column `at`: 0 or 1.
pub(crate) fn flag(row: &Row<'_>, at: usize) -> rusqlite::Result<bool> {
    match row.get(at)? {
        0_i64 => Ok(false),
        1 => Ok(true),
        other => Err(rusqlite::Error::IntegralValueOutOfRange(at, other)),
    }
}

/// The message in column `at`.
pub(crate) fn decode<M: Message + Default>(row: &Row<'_>, at: usize) -> rusqlite::Result<M> {
    let bytes = row.get_ref(at)?.as_blob()?;
    M::decode(bytes).map_err(|error| unreadable(format!("a row's column {at} cannot be decoded: {error}")))
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn numbers_are_kept_as_they_are_or_not_at_all() {
        let tables = Connection::open_in_memory().unwrap();
        let kept = |given: u64| tables.query_row("SELECT ?1", [sql(given)], |row| number(row, 0));
        for given in [0, 1, NUMBER_MAX] {
            assert_eq!(kept(given).unwrap(), given);
        }
        for given in [NUMBER_MAX + 1, u64::MAX] {
            assert!(kept(given).is_err() && amount(given).is_err());
        }
        for damaged in [-1_i64, i64::MIN] {
            assert!(
                tables
                    .query_row("SELECT ?1", [damaged], |row| number(row, 0))
                    .is_err()
            );
            assert!(
                tables
                    .query_row("SELECT ?1", [damaged], |row| number_or_none(row, 0))
                    .is_err()
            );
            assert!(
                tables
                    .query_row("SELECT ?1", [damaged], |row| flag(row, 0))
                    .is_err()
            );
        }
        assert!(tables.query_row("SELECT 2", [], |row| flag(row, 0)).is_err());
        assert!(
            tables
                .query_row("SELECT NULL", [], |row| number_or_none(row, 0))
                .unwrap()
                .is_none()
        );
    }
}
