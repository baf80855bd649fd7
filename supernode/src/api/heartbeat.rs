//! A cluster's report: presence and load for the leader's memory, what changed for the log, and back to the cluster
//! releases, aborted uploads, keys and the group's time.
//!
//! Invariant: nothing is acknowledged before it is committed here, and nothing stops being sent before the cluster has
//! said that it is committed there. Each part of a report is taken in by itself: one that cannot be keeps none of the
//! others, and no answer, back.

use common::error::Kind;
use common::ids::{ClusterId, Epoch};
use proto::error::RpcError;
use proto::names::v1::ClusterStatus;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;
use proto::names_log::v1::reply::Body as Reply;
use proto::registry::v1 as wire;
use rusqlite::Connection;

use super::serve::Call;
use super::show;
use crate::context::{refused, unexpected};
use crate::core::refusal::Refusal;
use crate::store::apply::Stop;
use crate::store::cluster::{self, Cluster};
use crate::store::session;

/// The most releases of one reply.
const RELEASES_MAX: u32 = 1000;
/// The most aborted uploads of one reply, and abandoned ones of one request.
const UPLOADS_MAX: usize = 1000;

pub(super) async fn handle(
    call: Call,
    request: wire::HeartbeatRequest,
) -> Result<wire::HeartbeatReply, RpcError> {
    let context = &call.context;
    let status = request.status.unwrap_or_default();
    call.require_cluster(&status.name)?;
    let ours = context.leading()?;
    let id = ClusterId::try_from(request.cluster_id.as_ref())
        .map_err(|error| refused(Refusal::invalid("E_CLUSTER_ID", error.to_string())))?;
    if request.abandoned_uploads.len() > UPLOADS_MAX {
        return Err(RpcError::new(
            Kind::Invalid,
            "E_TOO_MANY",
            format!("at most {UPLOADS_MAX} abandoned uploads in one report"),
        ));
    }
    let epoch = Epoch::new(request.epoch);
    context.board.check_epoch(ours, id, epoch).map_err(refused)?;
    let registered = register(&call, id, &status).await?;
    let recorded = registered.releases_recorded;
    context
        .board
        .hear(ours, epoch, status, registered)
        .map_err(refused)?;
    if request.releases_recorded > recorded {
        let command = log::ReleasesRecorded {
            cluster_id: id.bytes().to_vec().into(),
            sequence: request.releases_recorded,
        };
        // A cluster that contradicts us here still needs its keys, the time and the rest.
        if let Err(error) = context.propose(Command::ReleasesRecorded(command), None).await {
            tracing::error!(cluster = %id, %error, "what the cluster has recorded of its releases cannot be taken in");
        }
    }
    let abandoned = match abandon(&call, id, request.abandoned_uploads).await {
        Ok(abandoned) => abandoned,
        Err(error) => {
            tracing::warn!(cluster = %id, %error, "uploads that the cluster abandoned are not recorded yet");
            Vec::new()
        }
    };
    answer(&call, id, abandoned).await
}

/// Registers the cluster, or commits what changed about it; its row.
async fn register(call: &Call, id: ClusterId, status: &ClusterStatus) -> Result<Cluster, RpcError> {
    let context = &call.context;
    let known = context
        .read_local(move |tables| Ok(cluster::by_id(tables, id)?))
        .await?;
    let members = members(status);
    if let Some(retired) = known.as_ref().filter(|known| known.retired) {
        return Err(refused(Refusal::retired(&retired.name)));
    }
    let is_new = known.is_none();
    if let Some(known) = known
        && known.name == status.name
        && known.generation.get() == status.generation
        && known.site == status.site
        && (known.members == members || members.is_empty())
    {
        return Ok(known);
    }
    let command = log::RegisterCluster {
        cluster_id: id.bytes().to_vec().into(),
        name: status.name.clone(),
        generation: status.generation,
        site: status.site.clone(),
        members,
    };
    context.propose(Command::RegisterCluster(command), None).await?;
    if is_new {
        tracing::info!(cluster = status.name, %id, "cluster registered");
    }
    context.cluster(id).await
}

fn members(status: &ClusterStatus) -> Vec<log::Member> {
    let known = status.nodes.iter().filter_map(|node| node.member.as_ref());
    let mut members: Vec<log::Member> = known
        .map(|member| log::Member {
            node_id: member.node_id,
            control: member.control.clone(),
            data: member.data.clone(),
        })
        .collect();
    members.sort_by_key(|member| member.node_id);
    members
}

async fn abandon(call: &Call, id: ClusterId, upload_ids: Vec<u64>) -> Result<Vec<u64>, RpcError> {
    if upload_ids.is_empty() {
        return Ok(upload_ids);
    }
    let command = log::AbandonedUploads {
        cluster_id: id.bytes().to_vec().into(),
        upload_ids,
    };
    match call
        .context
        .propose(Command::AbandonedUploads(command), None)
        .await?
    {
        Reply::Recorded(recorded) => Ok(recorded.upload_ids),
        _ => Err(unexpected()),
    }
}

struct Waiting {
    releases: Vec<wire::Release>,
    aborted: Vec<u64>,
}

fn waiting(tables: &Connection, id: ClusterId) -> Result<Waiting, Stop> {
    let cluster = cluster::by_id(tables, id)?.ok_or_else(Refusal::unknown_cluster)?;
    let releases =
        cluster::releases_waiting(tables, cluster.number, cluster.releases_recorded, RELEASES_MAX)?;
    let aborted = session::aborted_unrecorded(tables, cluster.number, UPLOADS_MAX as u32)?;
    Ok(Waiting {
        releases: releases
            .into_iter()
            .map(|(sequence, version)| wire::Release {
                sequence,
                version: version.get(),
            })
            .collect(),
        aborted: aborted.into_iter().map(|upload| upload.get()).collect(),
    })
}

async fn answer(call: &Call, id: ClusterId, abandoned: Vec<u64>) -> Result<wire::HeartbeatReply, RpcError> {
    let context = &call.context;
    let waiting = context.read_local(move |tables| waiting(tables, id)).await?;
    let group = context.group.status();
    let keys = context.keyring.verifying().into_iter();
    Ok(wire::HeartbeatReply {
        names_group_id: group.cluster_id.bytes().to_vec().into(),
        names_time_millis: context.now().as_millis(),
        keys: keys
            .map(|key| wire::VerifyingKey {
                key_id: key.id().get(),
                key: key.public().to_vec().into(),
            })
            .collect(),
        releases: waiting.releases,
        abandoned_recorded: abandoned,
        supernodes: show::supernodes(&group),
        aborted_uploads: waiting.aborted,
    })
}
