//! Forbids or allows a user to log in.

use proto::error::RpcError;
use proto::names::v1 as wire;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;

use super::create_user::find;
use super::serve::Call;
use super::session::Session;
use crate::core::permission::{Ask, check};
use crate::core::refusal::Refusal;
use crate::store::user;

pub(super) async fn handle(call: Call, request: wire::SetUserEnabledRequest) -> Result<wire::User, RpcError> {
    let context = &call.context;
    let session = Session::of(&call).await?;
    context.leading()?;
    let name = request.user.clone();
    let id = context
        .read_local(move |tables| {
            let caller = session.user(tables)?.caller();
            check(caller, Ask::Administer("enable or disable users"))?;
            let found = user::by_name(tables, &name)?;
            Ok(found.ok_or_else(|| Refusal::no_user(&name))?.id)
        })
        .await?;
    let command = log::SetUserEnabled {
        caller: Some(session.claim()),
        user_id: id.get(),
        enabled: request.enabled,
    };
    let dedupe = call.dedupe(session.user_id());
    context.propose(Command::SetUserEnabled(command), dedupe).await?;
    tracing::info!(
        user = request.user,
        enabled = request.enabled,
        "user enabled or disabled"
    );
    find(&call, request.user).await
}
