//! All users for administrators, themselves for others.

use proto::error::RpcError;
use proto::names::v1 as wire;

use super::serve::Call;
use super::session::Session;
use super::show;
use crate::core::permission::{Ask, check};
use crate::store::user;

/// The most users of one reply.
const USERS_MAX: u32 = 10_000;

pub(super) async fn handle(call: Call, _: wire::ListUsersRequest) -> Result<wire::ListUsersReply, RpcError> {
    let session = Session::of(&call).await?;
    let users = call
        .context
        .scan(move |tables| {
            let caller = session.user(tables)?;
            if check(caller.caller(), Ask::Administer("list all users")).is_err() {
                return Ok(vec![caller]);
            }
            Ok(user::all(tables, USERS_MAX)?)
        })
        .await?;
    Ok(wire::ListUsersReply {
        users: users.iter().map(show::user).collect(),
    })
}
