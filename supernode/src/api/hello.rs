//! The first call on a connection: versions, where the supernodes are, the group's time.

use common::error::Kind;
use proto::error::RpcError;
use proto::names::v1 as wire;
use proto::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};

use super::serve::Call;
use super::show;

pub(super) async fn handle(call: Call, request: wire::HelloRequest) -> Result<wire::HelloReply, RpcError> {
    let version = PROTOCOL_VERSION.min(request.protocol_version_max);
    if version < PROTOCOL_VERSION_MIN || version < request.protocol_version_min {
        return Err(RpcError::new(
            Kind::Invalid,
            "E_PROTOCOL",
            format!(
                "this supernode speaks protocol versions {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION}, the caller {} \
                 to {}",
                request.protocol_version_min, request.protocol_version_max
            ),
        )
        .hint("upgrade the older side"));
    }
    tracing::debug!(agent = request.agent, version, "hello");
    let status = call.context.group.status();
    Ok(wire::HelloReply {
        protocol_version: version,
        names_group_id: status.cluster_id.bytes().to_vec().into(),
        names_time_millis: call.context.now().as_millis(),
        supernodes: show::supernodes(&status),
        dedupe_window_millis: call.context.config.timings.dedupe_window.as_millis(),
    })
}
