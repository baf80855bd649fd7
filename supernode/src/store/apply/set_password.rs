//! Changes a user's password. Tokens that were issued before are no longer good.

use proto::names_log::v1 as log;
use rusqlite::params;

use super::{At, Stop, user_id};
use crate::core::permission::{Ask, check};
use crate::store::number::sql;
use crate::store::user;

pub(super) fn apply(at: At<'_>, command: &log::SetPassword) -> Result<log::Done, Stop> {
    let caller = user::caller(at.tables, command.caller)?.caller();
    let target = user::by_id(at.tables, user_id(command.user_id))?;
    let ask = Ask::Account {
        name: target.as_ref().map_or("", |user| &user.name),
        id: target.as_ref().map(|user| user.id),
    };
    check(caller, ask)?;
    at.tables
        .prepare_cached(
            "UPDATE users SET password_hash = ?2, token_generation = token_generation + 1 WHERE user_id = ?1",
        )?
        .execute(params![sql(command.user_id), command.password_hash])?;
    Ok(log::Done {})
}
