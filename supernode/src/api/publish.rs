//! A cluster asks for its sealed versions to become visible: one commit for the batch, an outcome for each.

use common::error::Kind;
use common::ids::{ClusterId, Epoch, UploadId};
use common::lifecycle::{SessionEvent, VersionEvent};
use proto::error::RpcError;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;
use proto::names_log::v1::reply::Body as Reply;
use proto::registry::v1 as wire;

use super::serve::Call;
use crate::arrow::{after, before};
use crate::context::{Context, refused, unexpected};
use crate::core::refusal::Refusal;

/// The most uploads of one request.
const ITEMS_MAX: usize = 1000;
/// The most recorded outcomes of one request.
const RECORDED_MAX: usize = 10_000;

pub(super) async fn handle(
    call: Call,
    request: wire::PublishRequest,
) -> Result<wire::PublishReply, RpcError> {
    let context = &call.context;
    let id = ClusterId::try_from(request.cluster_id.as_ref())
        .map_err(|error| refused(Refusal::invalid("E_CLUSTER_ID", error.to_string())))?;
    let ours = context.leading()?;
    let cluster = context.registered(ours, id).await?;
    call.require_cluster(&cluster.name)?;
    context
        .board
        .check_epoch(ours, id, Epoch::new(request.epoch))
        .map_err(refused)?;
    if request.items.len() > ITEMS_MAX || request.outcomes_recorded.len() > RECORDED_MAX {
        return Err(RpcError::new(
            Kind::Invalid,
            "E_TOO_MANY",
            format!("at most {ITEMS_MAX} uploads and {RECORDED_MAX} recorded outcomes in one request"),
        ));
    }
    context.sessions.begin(context, ours).await?;
    let command = log::Publish {
        cluster_id: request.cluster_id.clone(),
        generation: request.generation,
        items: items(context, ours, request.items, &request.cluster_id),
        outcomes_recorded: request.outcomes_recorded,
        trash_keep_millis: context.config.timings.trash_keep.as_millis(),
    };
    let decides = !command.items.is_empty();
    if decides {
        pass(before, true, true);
    }
    let Reply::Outcomes(all) = context.propose(Command::Publish(command), None).await? else {
        return Err(unexpected());
    };
    let decided = all
        .outcomes
        .iter()
        .filter(|outcome| !outcome.undecided)
        .map(|outcome| UploadId::new(outcome.upload_id));
    context.sessions.recorded(ours, decided);
    if decides {
        let published = all.outcomes.iter().any(|outcome| outcome.published);
        let refused = all
            .outcomes
            .iter()
            .any(|outcome| !outcome.published && !outcome.undecided);
        pass(after, published, refused);
    }
    Ok(wire::PublishReply {
        outcomes: all.outcomes.into_iter().map(outcome).collect(),
    })
}

/// Passes the fail points of the arrows along which a publication may go.
fn pass(side: fn(&str), published: bool, refused: bool) {
    if published {
        side(SessionEvent::Publish.arrow());
        side(VersionEvent::Publish.arrow());
    }
    if refused {
        side(SessionEvent::Refuse.arrow());
        side(VersionEvent::Refuse.arrow());
    }
}

/// The items for the log: where only we know the session, its opening comes along.
fn items(
    context: &Context,
    ours: Epoch,
    items: Vec<wire::PublishItem>,
    cluster_id: &[u8],
) -> Vec<log::PublishItem> {
    let item = |item: wire::PublishItem| {
        let session = context.sessions.find(ours, UploadId::new(item.upload_id));
        let session = session.filter(|session| session.cluster_id() == cluster_id);
        log::PublishItem {
            upload_id: item.upload_id,
            size: item.size,
            digest: item.digest,
            modified_wall_millis: item.modified_wall_millis,
            opening: session.map(|session| session.opening.clone()),
        }
    };
    items.into_iter().map(item).collect()
}

fn outcome(outcome: log::PublishOutcome) -> wire::PublishOutcome {
    wire::PublishOutcome {
        upload_id: outcome.upload_id,
        published: outcome.published,
        refused_code: outcome.refused_code,
        refused_message: outcome.refused_message,
        undecided: outcome.undecided,
    }
}
