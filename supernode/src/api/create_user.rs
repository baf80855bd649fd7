//! Creates a user and the bucket of the same name.

use proto::error::RpcError;
use proto::names::v1 as wire;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;
use zeroize::Zeroizing;

use super::serve::Call;
use super::session::Session;
use super::show;
use crate::context::refused;
use crate::core::permission::{Ask, check};
use crate::core::refusal::Refusal;
use crate::core::user_name::{check_name, check_password};
use crate::store::user;

pub(super) async fn handle(call: Call, request: wire::CreateUserRequest) -> Result<wire::User, RpcError> {
    let context = &call.context;
    let session = Session::of(&call).await?;
    context.leading()?;
    // Before the password is hashed: only those who may cause the work.
    context
        .read_local(move |tables| {
            let caller = session.user(tables)?.caller();
            Ok(check(caller, Ask::Administer("create users"))?)
        })
        .await?;
    let admin = match request.role() {
        wire::UserRole::Admin => true,
        wire::UserRole::User | wire::UserRole::Unspecified => false,
    };
    let password = Zeroizing::new(request.password);
    check_name(&request.name)
        .and_then(|()| check_password(&password))
        .map_err(refused)?;
    let command = log::CreateUser {
        caller: Some(session.claim()),
        name: request.name.clone(),
        password_hash: context.passwords.hash(password).await?,
        admin,
        quota_bytes: request.quota_bytes,
        wall_millis: context.clock.wall().as_millis(),
        bootstrap: false,
    };
    let dedupe = call.dedupe(session.user_id());
    context.propose(Command::CreateUser(command), dedupe).await?;
    tracing::info!(user = request.name, admin, "user created");
    find(&call, request.name).await
}

/// The user as it stands on the leader now.
pub(super) async fn find(call: &Call, name: String) -> Result<wire::User, RpcError> {
    let user = call
        .context
        .read_local(move |tables| {
            let found = user::by_name(tables, &name)?;
            Ok(found.ok_or_else(|| Refusal::no_user(&name))?)
        })
        .await?;
    Ok(show::user(&user))
}
