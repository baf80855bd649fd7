//! The way of every call: counted, admitted, named, limited in time.
//!
//! Invariant: a handler runs in a task of its own. A caller who hangs up, or whose time is over, ends the wait and never
//! the work, because a commit under way must be seen through (its bookkeeping as well).

use std::future::Future;
use std::sync::Arc;

use common::error::Kind;
use common::ids::{IdempotencyKey, RequestId};
use prost::Message;
use proto::control::Peer;
use proto::error::RpcError;
use proto::names_log::v1 as log;
use proto::{AUTHORIZATION_HEADER, IDEMPOTENCY_BORN_HEADER, IDEMPOTENCY_KEY_HEADER};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};
use tracing::Instrument;

use crate::admission::Admission;
use crate::context::Context;

/// A call as its handler sees it, besides the message.
#[derive(Debug)]
pub(super) struct Call {
    /// The supernode.
    pub(super) context: Arc<Context>,
    /// What follows `Bearer`; empty where there was nothing.
    pub(super) token: String,
    /// Where the caller sent a key: the key and its birth.
    key: Option<(IdempotencyKey, u64)>,
    /// The other end of the connection.
    peer: Option<Peer>,
}

impl Call {
    /// How the names group recognises a repetition of this call by `user`.
    pub(super) fn dedupe(&self, user: common::ids::UserId) -> Option<log::Dedupe> {
        self.key.map(|(key, born)| log::Dedupe {
            user_id: user.get(),
            key: key.bytes().to_vec().into(),
            key_born_millis: born,
            // Known once there is a command: see `Context::propose`.
            command_digest: Vec::new().into(),
        })
    }

    /// Checks that the other end proved to be a chunkserver of the cluster named `cluster`.
    pub(super) fn require_cluster(&self, cluster: &str) -> Result<(), RpcError> {
        let role = common::tls::Role::Chunkserver(cluster.to_owned());
        if self.peer.as_ref().is_some_and(|peer| peer.has_role(&role)) {
            return Ok(());
        }
        Err(RpcError::new(
            Kind::Denied,
            "E_CERTIFICATE",
            format!("the connection's certificate is not one of cluster '{cluster}'"),
        ))
    }
}

/// Serves one call named `name` with `handle`, on a place of `lane`.
pub(super) async fn serve<Q, R, H, F>(
    context: &Arc<Context>,
    lane: &Admission,
    name: &'static str,
    request: Request<Q>,
    handle: H,
) -> Result<Response<R>, Status>
where
    Q: Message,
    R: Message + 'static,
    H: FnOnce(Call, Q) -> F,
    F: Future<Output = Result<R, RpcError>> + Send + 'static,
{
    let begun = context.clock.moment();
    let id = RequestId::new(context.random.bytes());
    context.metrics.request(name, request.get_ref().encoded_len());
    let span = tracing::debug_span!("request", call = name, %id);
    let outcome = admitted(context, lane, request, handle).instrument(span).await;
    let took = context.clock.moment().since(begun);
    let counted = outcome
        .as_ref()
        .map(Message::encoded_len)
        .map_err(|error| error.kind);
    context.metrics.reply(name, counted, took);
    match outcome {
        Ok(reply) => Ok(Response::new(reply)),
        Err(error) => {
            tracing::debug!(call = name, %id, kind = %error.kind, code = error.code, %error, "request failed");
            let error = RpcError {
                request_id: id.to_string(),
                ..error
            };
            Err(error.into())
        }
    }
}

async fn admitted<Q, R, H, F>(
    context: &Arc<Context>,
    lane: &Admission,
    request: Request<Q>,
    handle: H,
) -> Result<R, RpcError>
where
    R: Send + 'static,
    H: FnOnce(Call, Q) -> F,
    F: Future<Output = Result<R, RpcError>> + Send + 'static,
{
    let call = Call {
        context: Arc::clone(context),
        token: token(request.metadata()),
        key: key(request.metadata())?,
        peer: Peer::of(&request).cloned(),
    };
    let place = lane.admit().await?;
    let work = handle(call, request.into_inner());
    let task = async move {
        let outcome = work.await;
        drop(place);
        outcome
    };
    let running = tokio::spawn(task.in_current_span());
    let limit = context.config.limits.request_time_max.get();
    match context.clock.timeout(limit, running).await {
        Some(Ok(outcome)) => outcome,
        Some(Err(error)) => {
            tracing::error!(%error, "a request handler panicked");
            Err(RpcError::new(
                Kind::Retry,
                "E_INTERNAL",
                "the request could not be handled",
            ))
        }
        None => Err(RpcError::new(
            Kind::Retry,
            "E_DEADLINE",
            "the request took too long; it may still be carried out",
        )),
    }
}

fn token(metadata: &MetadataMap) -> String {
    let header = metadata.get(AUTHORIZATION_HEADER);
    let text = header.and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.strip_prefix("Bearer ").unwrap_or_default().trim().to_owned()
}

fn key(metadata: &MetadataMap) -> Result<Option<(IdempotencyKey, u64)>, RpcError> {
    let Some(header) = metadata.get(IDEMPOTENCY_KEY_HEADER) else {
        return Ok(None);
    };
    let born = metadata.get(IDEMPOTENCY_BORN_HEADER);
    let parsed = || {
        let key = header.to_str().ok()?.parse().ok()?;
        Some((key, born?.to_str().ok()?.parse().ok()?))
    };
    parsed().map(Some).ok_or_else(|| {
        RpcError::new(
            Kind::Invalid,
            "E_KEY",
            format!(
                "{IDEMPOTENCY_KEY_HEADER} has 32 hexadecimal digits, and {IDEMPOTENCY_BORN_HEADER} beside it \
                 milliseconds"
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(entries: &[(&'static str, &str)]) -> MetadataMap {
        let mut map = MetadataMap::new();
        for (name, value) in entries {
            map.insert(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn headers_are_read() {
        let digits = "0102030405060708090a0b0c0d0e0f10";
        let both = metadata(&[(IDEMPOTENCY_KEY_HEADER, digits), (IDEMPOTENCY_BORN_HEADER, "77")]);
        assert_eq!(key(&both).unwrap().map(|(_, born)| born), Some(77));
        assert_eq!(key(&metadata(&[])), Ok(None));
        for bad in [
            metadata(&[(IDEMPOTENCY_KEY_HEADER, digits)]),
            metadata(&[(IDEMPOTENCY_KEY_HEADER, "xyz"), (IDEMPOTENCY_BORN_HEADER, "77")]),
            metadata(&[(IDEMPOTENCY_KEY_HEADER, digits), (IDEMPOTENCY_BORN_HEADER, "-1")]),
        ] {
            assert_eq!(key(&bad).unwrap_err().kind, Kind::Invalid);
        }
        assert_eq!(token(&metadata(&[(AUTHORIZATION_HEADER, "Bearer abc")])), "abc");
        assert_eq!(token(&metadata(&[(AUTHORIZATION_HEADER, "Basic abc")])), "");
        assert_eq!(token(&metadata(&[])), "");
    }
}
