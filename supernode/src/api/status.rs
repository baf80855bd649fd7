//! The whole installation: groups, leaders, nodes, space. The leader knows what clusters say; a supernode that follows
//! sends the caller there, and answers itself only when there is no leader.
//!
//! Everyone who can log in sees health and space; what others store (counts of files, uploads, bytes) is for
//! administrators (P9).

use std::collections::BTreeMap;
use std::time::Duration;

use common::ids::ClusterId;
use proto::error::RpcError;
use proto::names::v1 as wire;
use rusqlite::Connection;

use super::serve::Call;
use super::session::Session;
use crate::board::Shown;
use crate::context::Context;
use crate::core::permission::{Ask, check};
use crate::store::apply::Stop;
use crate::store::cluster::{self, Cluster};
use crate::store::read::totals::{Total, installation};
use crate::store::read::uploads::open_count;

/// Open uploads are counted up to here.
const UPLOADS_COUNTED_MAX: u64 = 100_000;

struct Facts {
    clusters: Vec<Cluster>,
    /// For administrators.
    amounts: Option<(Total, u64)>,
}

pub(super) async fn handle(call: Call, _: wire::StatusRequest) -> Result<wire::StatusReply, RpcError> {
    let context = &call.context;
    let session = Session::of(&call).await?;
    // A leader that was not heard of for long may be gone, and with it the majority.
    if let Err(error) = context.leading()
        && error.leader.is_some()
        && context.group.sees_quorum()
    {
        return Err(error);
    }
    let facts = context.scan_local(move |tables| look(tables, session)).await?;
    let mut heard = context.board.all(context.policy());
    let clusters = facts
        .clusters
        .iter()
        .filter(|cluster| !cluster.retired)
        .map(|cluster| show(cluster, &mut heard, facts.amounts.is_some()));
    let clusters = clusters.collect();
    let (total, mut uploads_open) = facts.amounts.unwrap_or_default();
    if facts.amounts.is_some()
        && let Some(ours) = context.group.epoch()
    {
        uploads_open += context.sessions.count(ours);
    }
    Ok(wire::StatusReply {
        names: Some(group(context)),
        clusters,
        files: total.files,
        logical_bytes: total.bytes,
        uploads_open,
    })
}

fn look(tables: &Connection, session: Session) -> Result<Facts, Stop> {
    let caller = session.user(tables)?.caller();
    let amounts = match check(caller, Ask::Administer("see what others store")) {
        Ok(()) => Some((installation(tables)?, open_count(tables, UPLOADS_COUNTED_MAX)?)),
        Err(_) => None,
    };
    Ok(Facts {
        clusters: cluster::all(tables)?,
        amounts,
    })
}

fn show(cluster: &Cluster, heard: &mut BTreeMap<ClusterId, Shown>, amounts: bool) -> wire::ClusterStatus {
    let Some(report) = heard.remove(&cluster.id) else {
        return unheard(cluster);
    };
    let mut status = wire::ClusterStatus::clone(&report.status);
    status.report_age_millis = Some(millis(report.age));
    status.accepts_files = report.refuses_because.is_none();
    status.refuses_because = report.refuses_because.unwrap_or_default();
    if !amounts {
        status.chunks = 0;
        status.uploads_open = 0;
    }
    status
}

fn unheard(cluster: &Cluster) -> wire::ClusterStatus {
    let node = |member: &proto::names_log::v1::Member| wire::NodeStatus {
        member: Some(wire::GroupMember {
            node_id: member.node_id,
            control: member.control.clone(),
            data: member.data.clone(),
            ..wire::GroupMember::default()
        }),
        ..wire::NodeStatus::default()
    };
    wire::ClusterStatus {
        cluster_id: cluster.id.bytes().to_vec().into(),
        name: cluster.name.clone(),
        generation: cluster.generation.get(),
        nodes: cluster.members.iter().map(node).collect(),
        report_age_millis: None,
        refuses_because: "not heard from yet by the supernode that answers".to_owned(),
        site: cluster.site.clone(),
        ..wire::ClusterStatus::default()
    }
}

fn group(context: &Context) -> wire::GroupStatus {
    let (status, mut reach) = (context.group.status(), context.group.reach());
    let member = |member: &consensus::Member| {
        let reach = reach.remove(&member.node_id);
        wire::GroupMember {
            node_id: member.node_id.get(),
            name: member.name.clone(),
            control: member.control.clone(),
            data: member.data.clone(),
            zone: member.zone.clone(),
            host: member.host.clone(),
            voter: member.voter,
            state: reach
                .map_or(wire::MemberState::Unspecified, |reach| reach.condition.into())
                .into(),
            silent_millis: reach.map(|reach| millis(reach.silent_for)),
            lag_entries: reach.and_then(|reach| reach.lag_entries),
        }
    };
    // Without a quorum a leader leads nothing.
    let leader = status.leader.as_ref().filter(|_| context.group.sees_quorum());
    wire::GroupStatus {
        group_id: status.cluster_id.bytes().to_vec().into(),
        term: status.term,
        leader_node_id: leader.map(|leader| leader.node_id.get()),
        members: status.members.iter().map(member).collect(),
        voters_wanted: context.config.voters,
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
