//! What the names layer keeps, as clients see it; and what clients write, checked.

use std::collections::HashMap;

use common::ids::UploadId;
use common::lifecycle::Session as State;
use common::path::RemotePath;
use consensus::GroupStatus;
use proto::error::RpcError;
use proto::names::v1 as wire;
use proto::names_log::v1 as log;

use crate::board::Board;
use crate::context::refused;
use crate::core::refusal::Refusal;
use crate::store::cluster::Cluster;
use crate::store::number::NUMBER_MAX;
use crate::store::read::entry::{Entry, Kind};
use crate::store::read::uploads::Upload;
use crate::store::user::User;

/// A path as a client wrote it.
///
/// # Errors
/// `Invalid`, with the reason.
pub(super) fn path(text: &str) -> Result<RemotePath, RpcError> {
    text.parse()
        .map_err(|error: common::path::Error| refused(Refusal::invalid("E_PATH", error.to_string())))
}

/// A number as a client wrote it.
///
/// # Errors
/// `Invalid`: larger than any that this installation gives out.
pub(super) fn number(number: u64) -> Result<u64, RpcError> {
    match number <= NUMBER_MAX {
        true => Ok(number),
        false => Err(refused(Refusal::number(number))),
    }
}

/// A user, without the password.
pub(super) fn user(user: &User) -> wire::User {
    let role = if user.admin {
        wire::UserRole::Admin
    } else {
        wire::UserRole::User
    };
    wire::User {
        user_id: user.id.get(),
        name: user.name.clone(),
        role: role.into(),
        enabled: user.enabled,
        quota_bytes: user.quota_bytes,
        used_bytes: user.used_bytes,
        created_wall_millis: user.created_wall_millis,
    }
}

/// An entry.
pub(super) fn entry(entry: Entry) -> wire::Entry {
    let kind = match entry.kind {
        Kind::File => wire::EntryKind::File,
        Kind::Directory => wire::EntryKind::Directory,
        Kind::Bucket => wire::EntryKind::Bucket,
    };
    let mut shown = wire::Entry {
        kind: kind.into(),
        path: entry.path,
        modified_wall_millis: entry.modified_wall_millis,
        owner: entry.owner,
        metadata: pairs(entry.metadata),
        ..wire::Entry::default()
    };
    if let Some(file) = entry.file {
        shown.version = file.version.get();
        shown.size = file.size_bytes;
        shown.digest = file.digest.bytes().to_vec().into();
        shown.metadata = pairs(file.metadata);
        shown.clusters = vec![file.cluster];
    }
    shown
}

fn pairs(metadata: Vec<log::Metadata>) -> HashMap<String, String> {
    metadata.into_iter().map(|one| (one.key, one.value)).collect()
}

/// How an upload stands.
pub(super) fn upload(upload: Upload) -> wire::UploadStatus {
    let session = upload.session;
    wire::UploadStatus {
        upload_id: session.id.get(),
        state: state(session.state).into(),
        entry: upload.entry.map(entry),
        refused_code: session.refused_code,
        refused_message: session.refused_message,
    }
}

/// An open upload.
pub(super) fn open_upload(id: UploadId) -> wire::UploadStatus {
    wire::UploadStatus {
        upload_id: id.get(),
        state: wire::UploadState::Open.into(),
        ..wire::UploadStatus::default()
    }
}

/// The state of a session.
pub(super) const fn state(state: State) -> wire::UploadState {
    match state {
        State::Open => wire::UploadState::Open,
        State::Published => wire::UploadState::Published,
        State::Refused => wire::UploadState::Refused,
        State::Aborted => wire::UploadState::Aborted,
    }
}

/// Where a cluster is reached; which member leads, as far as the leader of the names group has heard.
pub(super) fn cluster(cluster: &Cluster, board: &Board) -> wire::ClusterLocation {
    let leader = board.leader_of(cluster.id);
    let endpoint = |member: &log::Member| wire::Endpoint {
        node_id: member.node_id,
        control: member.control.clone(),
        data: member.data.clone(),
        leader: leader.is_some_and(|leader| leader.get() == member.node_id),
    };
    wire::ClusterLocation {
        cluster_id: cluster.id.bytes().to_vec().into(),
        name: cluster.name.clone(),
        generation: cluster.generation.get(),
        members: cluster.members.iter().map(endpoint).collect(),
    }
}

/// Where the supernodes are reached.
pub(super) fn supernodes(status: &GroupStatus) -> Vec<wire::Endpoint> {
    let leader = status.leader.as_ref().map(|leader| leader.node_id);
    let active = status.members.iter().filter(|member| member.active);
    let endpoints = active.map(|member| wire::Endpoint {
        node_id: member.node_id.get(),
        control: member.control.clone(),
        data: member.data.clone(),
        leader: leader == Some(member.node_id),
    });
    endpoints.collect()
}
