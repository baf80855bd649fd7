//! Changes a password: the caller's own, or as administrator anyone's. Tokens issued before are no longer good.

use common::ids::UserId;
use proto::error::RpcError;
use proto::names::v1 as wire;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;
use rusqlite::Connection;
use zeroize::Zeroizing;

use super::create_user::find;
use super::serve::Call;
use super::session::Session;
use crate::context::refused;
use crate::core::permission::{Ask, check};
use crate::core::user_name::check_password;
use crate::store::apply::Stop;
use crate::store::user;

pub(super) async fn handle(call: Call, request: wire::SetPasswordRequest) -> Result<wire::User, RpcError> {
    let context = &call.context;
    let session = Session::of(&call).await?;
    context.leading()?;
    let asked = request.user;
    let (id, name) = context
        .read_local(move |tables| target(tables, session, &asked))
        .await?;
    let password = Zeroizing::new(request.password);
    check_password(&password).map_err(refused)?;
    let command = log::SetPassword {
        caller: Some(session.claim()),
        user_id: id.get(),
        password_hash: context.passwords.hash(password).await?,
    };
    let dedupe = call.dedupe(session.user_id());
    context.propose(Command::SetPassword(command), dedupe).await?;
    tracing::info!(user = name, "password changed");
    find(&call, name).await
}

fn target(tables: &Connection, session: Session, asked: &str) -> Result<(UserId, String), Stop> {
    let caller = session.user(tables)?;
    if asked.is_empty() || asked == caller.name {
        return Ok((caller.id, caller.name));
    }
    let found = user::by_name(tables, asked)?;
    let ask = Ask::Account {
        name: asked,
        id: found.as_ref().map(|user| user.id),
    };
    check(caller.caller(), ask)?;
    Ok((found.map_or(caller.id, |user| user.id), asked.to_owned()))
}
