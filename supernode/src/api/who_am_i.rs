//! Who the token says the caller is.

use proto::error::RpcError;
use proto::names::v1 as wire;

use super::serve::Call;
use super::session::Session;
use super::show;

pub(super) async fn handle(call: Call, _: wire::WhoAmIRequest) -> Result<wire::User, RpcError> {
    let session = Session::of(&call).await?;
    let user = call.context.read(move |tables| session.user(tables)).await?;
    Ok(show::user(&user))
}
