//! Sets aside a cluster that is lost for good.

use common::error::Kind;
use proto::error::RpcError;
use proto::names::v1 as wire;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;

use super::serve::Call;
use super::session::Session;
use crate::context::refused;
use crate::core::permission::{Ask, check};
use crate::core::refusal::Refusal;

pub(super) async fn handle(
    call: Call,
    request: wire::RetireClusterRequest,
) -> Result<wire::RetireClusterReply, RpcError> {
    let context = &call.context;
    let session = Session::of(&call).await?;
    context.leading()?;
    context
        .read_local(move |tables| {
            let caller = session.user(tables)?.caller();
            Ok(check(caller, Ask::Administer("retire clusters"))?)
        })
        .await?;
    let policy = context.policy();
    let heard = context.board.all(policy).into_values();
    let mut lately =
        heard.filter(|report| report.status.name == request.name && report.age <= policy.silence_max);
    if lately.next().is_some() {
        return Err(refused(
            Refusal::new(
                Kind::Conflict,
                "E_CLUSTER_ALIVE",
                format!("cluster {} still reports", request.name),
            )
            .hint("only a cluster that is lost is retired; stop its nodes first if that is meant"),
        ));
    }
    let command = log::RetireCluster {
        caller: Some(session.claim()),
        name: request.name.clone(),
    };
    let dedupe = call.dedupe(session.user_id());
    context.propose(Command::RetireCluster(command), dedupe).await?;
    tracing::warn!(cluster = request.name, "cluster retired");
    Ok(wire::RetireClusterReply {})
}
