//! Makes a user and the bucket of the same name.

use common::error::Kind;
use common::ids::{BucketId, DirectoryId};
use proto::names_log::v1 as log;
use rusqlite::params;

use super::{At, Stop};
use crate::core::permission::{Ask, check};
use crate::core::refusal::Refusal;
use crate::core::user_name::check_name;
use crate::store::below::Below;
use crate::store::bucket::{self, Bucket};
use crate::store::counter::Counter;
use crate::store::number::sql;
use crate::store::schema::ROOT;
use crate::store::{tree, user};

pub(super) fn apply(at: At<'_>, command: &log::CreateUser) -> Result<log::UserMade, Stop> {
    if command.bootstrap {
        if an_administrator_exists(at)? {
            return Ok(log::UserMade { user_id: None });
        }
    } else {
        let caller = user::caller(at.tables, command.caller)?;
        check(caller.caller(), Ask::Administer("create users"))?;
    }
    check_name(&command.name)?;
    let name = command.name.as_str();
    if user::by_name(at.tables, name)?.is_some() || bucket::by_name(at.tables, name)?.is_some() {
        return Err(Refusal::new(
            Kind::Conflict,
            "E_USER_EXISTS",
            format!("there is a user or bucket '{name}' already"),
        )
        .into());
    }
    let id = super::user_id(Counter::User.next(at.tables)?);
    at.tables
        .prepare_cached(
            "INSERT INTO users (user_id, name, password_hash, admin, enabled, token_generation, quota_bytes, used_bytes,
             reserved_bytes, uploads_open, uploads_failed, created_wall_millis)
             VALUES (?1, ?2, ?3, ?4, 1, 1, ?5, 0, 0, 0, 0, ?6)",
        )?
        .execute(params![
            sql(id.get()),
            name,
            command.password_hash,
            command.admin,
            command.quota_bytes.map(sql),
            sql(command.wall_millis),
        ])?;
    let bucket = Bucket {
        id: BucketId::new(Counter::Bucket.next(at.tables)?),
        name: name.to_owned(),
        owner: id,
        directory: DirectoryId::new(Counter::Directory.next(at.tables)?),
    };
    bucket::insert(at.tables, &bucket)?;
    tree::insert(
        at.tables,
        (bucket.directory, bucket.id, DirectoryId::new(ROOT)),
        name,
        command.wall_millis,
        Below::NOTHING,
    )?;
    Ok(log::UserMade {
        user_id: Some(id.get()),
    })
}

fn an_administrator_exists(at: At<'_>) -> rusqlite::Result<bool> {
    at.tables.query_row(
        "SELECT EXISTS (SELECT 1 FROM users WHERE admin = 1 LIMIT 1)",
        [],
        |row| row.get(0),
    )
}
