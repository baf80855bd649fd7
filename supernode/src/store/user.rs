//! Rows of users: who they are, and what they have taken of their quota.

use common::error::Kind;
use common::ids::UserId;
use proto::names_log::v1 as log;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::apply::Stop;
use super::number::{flag, number, number_or_none, sql};
use crate::core::permission::Caller;
use crate::core::quota::Quota;
use crate::core::refusal::Refusal;

/// A user.
#[derive(Clone, Debug)]
pub(crate) struct User {
    /// Who.
    pub(crate) id: UserId,
    /// Also the name of their bucket.
    pub(crate) name: String,
    /// PHC string of the password.
    pub(crate) password_hash: String,
    /// Whether they administer the installation.
    pub(crate) admin: bool,
    /// Whether they may log in and use tokens.
    pub(crate) enabled: bool,
    /// Tokens of other generations are refused.
    pub(crate) token_generation: u64,
    /// `None`: no limit.
    pub(crate) quota_bytes: Option<u64>,
    /// Kept in their buckets, the trash included.
    pub(crate) used_bytes: u64,
    /// Reserved by open uploads into their buckets.
    pub(crate) reserved_bytes: u64,
    /// Sessions they opened that are open.
    pub(crate) uploads_open: u64,
    /// Sessions they opened that were refused or aborted and have a row.
    pub(crate) uploads_failed: u64,
    /// For people.
    pub(crate) created_wall_millis: u64,
}

const COLUMNS: &str = "user_id, name, password_hash, admin, enabled, token_generation, quota_bytes, used_bytes, \
                       reserved_bytes, uploads_open, uploads_failed, created_wall_millis";

impl User {
    /// What the user's quota leaves, where `own_reservation` of what is reserved belongs to whoever asks.
    pub(crate) const fn quota(&self, own_reservation: u64) -> Quota {
        Quota::new(
            self.quota_bytes,
            self.used_bytes,
            self.reserved_bytes.saturating_sub(own_reservation),
        )
    }

    /// The user as one who asks.
    pub(crate) const fn caller(&self) -> Caller {
        Caller {
            id: self.id,
            admin: self.admin,
        }
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: UserId::new(number(row, 0)?),
            name: row.get(1)?,
            password_hash: row.get(2)?,
            admin: flag(row, 3)?,
            enabled: flag(row, 4)?,
            token_generation: number(row, 5)?,
            quota_bytes: number_or_none(row, 6)?,
            used_bytes: number(row, 7)?,
            reserved_bytes: number(row, 8)?,
            uploads_open: number(row, 9)?,
            uploads_failed: number(row, 10)?,
            created_wall_millis: number(row, 11)?,
        })
    }
}

/// The user with this id.
pub(crate) fn by_id(connection: &Connection, id: UserId) -> rusqlite::Result<Option<User>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM users WHERE user_id = ?1"))?
        .query_row([sql(id.get())], User::read)
        .optional()
}

/// The user with this name.
pub(crate) fn by_name(connection: &Connection, name: &str) -> rusqlite::Result<Option<User>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM users WHERE name = ?1"))?
        .query_row([name], User::read)
        .optional()
}

/// All users in order of name, at most `limit`.
pub(crate) fn all(connection: &Connection, limit: u32) -> rusqlite::Result<Vec<User>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM users ORDER BY name LIMIT ?1"))?
        .query_map([limit], User::read)?
        .collect()
}

/// Who a command says it is for, looked at again: enabled, and with a token that is still good.
///
/// # Errors
/// `Denied` otherwise.
pub(crate) fn caller(connection: &Connection, claimed: Option<log::Caller>) -> Result<User, Stop> {
    let claimed = claimed.unwrap_or_default();
    let user = by_id(connection, UserId::new(claimed.user_id))?;
    Ok(still_good(user, claimed.token_generation)?)
}

/// Who holds the token of `claimed`, whether or not it is still good: for what they may end of their own and learn of it,
/// so that a user who was disabled in the middle of something is told how it ended. Administers only where it is good.
///
/// # Errors
/// `Denied`: there is no such user.
pub(crate) fn holder(connection: &Connection, claimed: log::Caller) -> Result<Caller, Stop> {
    let user = by_id(connection, UserId::new(claimed.user_id))?;
    let holder = user.as_ref().map(User::caller);
    match (still_good(user, claimed.token_generation), holder) {
        (Ok(good), _) => Ok(good.caller()),
        (Err(_), Some(holder)) => Ok(Caller {
            admin: false,
            ..holder
        }),
        (Err(refusal), None) => Err(refusal.into()),
    }
}

/// `user`, where a token of `generation` is good for anything.
///
/// # Errors
/// `Denied`: disabled, or the password was changed.
pub(crate) fn still_good(user: Option<User>, generation: u64) -> Result<User, Refusal> {
    user.filter(|user| user.enabled && user.token_generation == generation)
        .ok_or_else(|| {
            Refusal::new(
                Kind::Denied,
                "E_TOKEN_REVOKED",
                "the token is no longer good: the user was disabled, or the password changed",
            )
            .hint("log in again")
        })
}

/// Changes what a user has taken: bytes kept, bytes reserved.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Change {
    /// Of `used_bytes`.
    pub(crate) used: i64,
    /// Of `reserved_bytes`.
    pub(crate) reserved: i64,
}

/// Applies `change` to the account of `owner`. A figure below zero would be damage, which whoever reads it next notices.
pub(crate) fn charge(connection: &Connection, owner: UserId, change: Change) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE users SET used_bytes = used_bytes + ?2, reserved_bytes = reserved_bytes + ?3 WHERE user_id = ?1",
        )?
        .execute(params![
            sql(owner.get()),
            change.used,
            change.reserved
        ])?;
    Ok(())
}

/// One session more (or fewer) that `user` has open.
pub(crate) fn count_open(connection: &Connection, user: UserId, change: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE users SET uploads_open = uploads_open + ?2 WHERE user_id = ?1")?
        .execute(params![sql(user.get()), change])?;
    Ok(())
}

/// One row more (or fewer) of a session of `user` that was refused or aborted.
pub(crate) fn count_failed(connection: &Connection, user: UserId, change: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE users SET uploads_failed = uploads_failed + ?2 WHERE user_id = ?1")?
        .execute(params![sql(user.get()), change])?;
    Ok(())
}
