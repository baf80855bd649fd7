//! Login and users: the calls.

use std::time::Duration;

use common::units::ByteCount;
use proto::names::v1 as wire;

use super::{Login, NewUser, User};
use crate::error::Error;
use crate::routing::{Ask, Router, Try};

pub(crate) async fn login(router: &Router, user: &str, password: &str) -> Result<Login, Error> {
    let request = wire::LoginRequest {
        user: user.to_owned(),
        password: password.to_owned(),
    };
    let send = |one: Try| {
        let request = one.request(request.clone());
        async move { one.names().login(request).await }
    };
    // Logging in twice only makes a second token. Any supernode could check a password, the leader is sure to know
    // the newest one.
    let reply: wire::LoginReply = router
        .ask(Ask::leader("login", router.supernodes()), send)
        .await?;
    let user = reply
        .user
        .ok_or_else(|| Error::protocol("a login without a user"))?
        .try_into()?;
    router.set_token(Some(reply.token.clone()));
    Ok(Login {
        token: reply.token,
        expires_in: Duration::from_millis(reply.expires_in_millis),
        user,
    })
}

pub(crate) async fn whoami(router: &Router) -> Result<User, Error> {
    let send = |one: Try| {
        let request = one.request(wire::WhoAmIRequest {});
        async move { one.names().who_am_i(request).await }
    };
    router
        .ask(Ask::any("whoami", router.supernodes()), send)
        .await?
        .try_into()
}

pub(crate) async fn create(router: &Router, user: NewUser) -> Result<User, Error> {
    let request = wire::CreateUserRequest {
        name: user.name,
        password: user.password,
        role: wire::UserRole::from(user.role).into(),
        quota_bytes: user.quota.map(ByteCount::get),
    };
    let once = router.once().await?;
    let send = |one: Try| {
        let request = one.request_once(request.clone(), once);
        async move { one.names().create_user(request).await }
    };
    router
        .ask(Ask::leader("create user", router.supernodes()), send)
        .await?
        .try_into()
}

pub(crate) async fn list(router: &Router) -> Result<Vec<User>, Error> {
    let send = |one: Try| {
        let request = one.request(wire::ListUsersRequest {});
        async move { one.names().list_users(request).await }
    };
    let reply: wire::ListUsersReply = router
        .ask(Ask::any("list users", router.supernodes()), send)
        .await?;
    reply.users.into_iter().map(User::try_from).collect()
}

pub(crate) async fn set_password(router: &Router, user: Option<&str>, password: &str) -> Result<User, Error> {
    let request = wire::SetPasswordRequest {
        user: user.unwrap_or_default().to_owned(),
        password: password.to_owned(),
    };
    let once = router.once().await?;
    let send = |one: Try| {
        let request = one.request_once(request.clone(), once);
        async move { one.names().set_password(request).await }
    };
    router
        .ask(Ask::leader("set password", router.supernodes()), send)
        .await?
        .try_into()
}

pub(crate) async fn set_enabled(router: &Router, user: &str, enabled: bool) -> Result<User, Error> {
    let request = wire::SetUserEnabledRequest {
        user: user.to_owned(),
        enabled,
    };
    let once = router.once().await?;
    let send = |one: Try| {
        let request = one.request_once(request.clone(), once);
        async move { one.names().set_user_enabled(request).await }
    };
    router
        .ask(Ask::leader("enable user", router.supernodes()), send)
        .await?
        .try_into()
}
