//! What is at a path.

use proto::error::RpcError;
use proto::names::v1 as wire;

use super::serve::Call;
use super::session::Session;
use super::show;
use crate::store::read::entry;

pub(super) async fn handle(call: Call, request: wire::StatRequest) -> Result<wire::Entry, RpcError> {
    let session = Session::of(&call).await?;
    let path = show::path(&request.path)?;
    let found = call
        .context
        .read(move |tables| entry::stat(tables, session.user(tables)?.caller(), &path))
        .await?;
    Ok(show::entry(found))
}
