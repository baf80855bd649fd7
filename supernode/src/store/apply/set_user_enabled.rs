//! Forbids or allows a user to log in. Forbidding also ends every token that was issued before.

use common::error::Kind;
use proto::names_log::v1 as log;
use rusqlite::params;

use super::{At, Stop, user_id};
use crate::core::permission::{Ask, check};
use crate::core::refusal::Refusal;
use crate::store::number::sql;
use crate::store::user;

pub(super) fn apply(at: At<'_>, command: &log::SetUserEnabled) -> Result<log::Done, Stop> {
    let caller = user::caller(at.tables, command.caller)?.caller();
    check(caller, Ask::Administer("enable or disable users"))?;
    let Some(target) = user::by_id(at.tables, user_id(command.user_id))? else {
        return Err(Refusal::no_user("").into());
    };
    if target.enabled == command.enabled {
        return Ok(log::Done {});
    }
    if !command.enabled && target.admin && enabled_administrators(at)? <= 1 {
        return Err(Refusal::new(
            Kind::Conflict,
            "E_LAST_ADMIN",
            format!("'{}' is the last enabled administrator", target.name),
        )
        .hint("create or enable another administrator first")
        .into());
    }
    at.tables
        .prepare_cached(
            "UPDATE users SET enabled = ?2, token_generation = token_generation + 1 WHERE user_id = ?1",
        )?
        .execute(params![sql(command.user_id), command.enabled])?;
    Ok(log::Done {})
}

fn enabled_administrators(at: At<'_>) -> rusqlite::Result<i64> {
    at.tables.query_row(
        "SELECT count(*) FROM (SELECT 1 FROM users WHERE admin = 1 AND enabled = 1 LIMIT 2)",
        [],
        |row| row.get(0),
    )
}
