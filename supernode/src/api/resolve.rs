//! Where a version is, with a ticket for reading it.

use common::ids::VersionId;
use proto::error::RpcError;
use proto::names::v1 as wire;
use proto::ticket::{self, Purpose};

use super::serve::Call;
use super::session::Session;
use super::show;
use crate::store::read::resolve::resolve;

pub(super) async fn handle(
    call: Call,
    request: wire::ResolveRequest,
) -> Result<wire::ResolveReply, RpcError> {
    let context = &call.context;
    let session = Session::of(&call).await?;
    let path = show::path(&request.path)?;
    let wanted = request.version.map(show::number).transpose()?.map(VersionId::new);
    let found = context
        .read(move |tables| resolve(tables, session.user(tables)?.caller(), &path, wanted))
        .await?;
    let lifetime = context.config.timings.read_ticket_lifetime;
    let purpose = Purpose::Read(ticket::v1::Read {
        version: found.version.get(),
        cluster_id: found.cluster.id.bytes().to_vec().into(),
    });
    let ticket = context
        .keyring
        .sign(context.now(), lifetime.get(), session.user_id(), purpose)?;
    Ok(wire::ResolveReply {
        clusters: vec![show::cluster(&found.cluster, &context.board)],
        entry: Some(show::entry(found.entry)),
        ticket: ticket.into(),
        ticket_expires_in_millis: lifetime.as_millis(),
    })
}
