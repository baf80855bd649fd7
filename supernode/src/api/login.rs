//! Exchanges a password for a token. Unknown names, wrong passwords and disabled users get one answer, after the same
//! work (P9).

use common::error::Kind;
use proto::error::RpcError;
use proto::names::v1 as wire;
use zeroize::Zeroizing;

use super::serve::Call;
use super::{session, show};
use crate::core::user_name::PASSWORD_BYTES_MAX;
use crate::store::user::{self, User};

pub(super) async fn handle(call: Call, request: wire::LoginRequest) -> Result<wire::LoginReply, RpcError> {
    let context = &call.context;
    let password = Zeroizing::new(request.password);
    let name = request.user;
    let found = context
        .read(move |tables| Ok(user::by_name(tables, &name)?))
        .await?;
    let known = found.as_ref().map(|user| user.password_hash.clone());
    let known = known.filter(|_| password.len() <= PASSWORD_BYTES_MAX);
    let right = context.passwords.check(password, known).await?;
    let user = found
        .filter(|user: &User| right && user.enabled)
        .ok_or_else(wrong)?;
    Ok(wire::LoginReply {
        token: session::issue(context, &user)?,
        expires_in_millis: context.config.timings.token_lifetime.as_millis(),
        user: Some(show::user(&user)),
    })
}

fn wrong() -> RpcError {
    RpcError::new(Kind::Denied, "E_LOGIN", "the user name or the password is wrong")
}
