//! Begins an upload session, or finds the one that the key began.
//!
//! Invariant (P4): a key leads to one session. A key of which nothing is known is taken only while it counts
//! ([`dedupe`]); a session that is found is given back to the same command however old its key is, because giving it
//! back applies nothing.

use common::error::Kind;
use common::ids::{ClusterId, Generation, IdempotencyKey, UploadId, UserId, VersionId};
use common::lifecycle::Session as State;
use common::time::ClusterTime;
use proto::names_log::v1 as log;

use super::{At, Stop, cluster_id, key, path, requests};
use crate::core::dedupe;
use crate::core::publication::{Case, Condition, judge};
use crate::core::quota::VERSION_BYTES_MAX;
use crate::core::refusal::Refusal;
use crate::store::cluster::{self, Cluster, ClusterNumber};
use crate::store::counter::Counter;
use crate::store::session::{self, Session};
use crate::store::user::User;
use crate::store::{bucket, tree, user};

pub(super) fn apply(at: At<'_>, command: log::OpenUpload) -> Result<log::UploadState, Stop> {
    let caller = user::caller(at.tables, command.caller)?;
    let key = key(&command.idempotency_key)?;
    if let Some(found) = session::by_key(at.tables, caller.id, key)? {
        return again(at, &found, &command);
    }
    admit_key(at, &command)?;
    let owner = judge_opening(at, &caller, &command)?;
    let cluster = chosen(at, &command)?;
    let id = UploadId::new(Counter::Upload.next(at.tables)?);
    // With its row the number is closed, if all below are.
    if Counter::UploadsClosed.last(at.tables)? + 1 == id.get() {
        Counter::UploadsClosed.raise(at.tables, id.get())?;
    }
    let session = Session {
        charged_to: owner.id,
        reserved_bytes: reservation(&command),
        ..new_session(
            at,
            id,
            caller.id,
            key,
            (cluster.number, cluster.generation),
            &command,
        )
    };
    session::insert(at.tables, &session)?;
    Ok(session.reply(cluster.id, size_max(&owner, 0), true))
}

/// An open session as `upload` asks for it, which reserves nothing yet. `cluster` is where its bytes go, and that
/// cluster's generation.
pub(super) fn new_session(
    at: At<'_>,
    id: UploadId,
    user: UserId,
    key: IdempotencyKey,
    cluster: (ClusterNumber, Generation),
    upload: &log::OpenUpload,
) -> Session {
    Session {
        id,
        state: State::Open,
        user,
        key,
        key_born: ClusterTime::from_millis(upload.key_born_millis),
        command_digest: upload.command_digest.to_vec(),
        cluster: cluster.0,
        generation: cluster.1,
        path: upload.path.clone(),
        charged_to: user,
        reserved_bytes: 0,
        condition: condition(upload.condition.unwrap_or_default()),
        metadata: log::MetadataList {
            entries: upload.metadata.clone(),
        },
        opened: at.now,
        touched: at.now,
        ended: ClusterTime::default(),
        recorded: false,
        refused_code: String::new(),
        refused_message: String::new(),
    }
}

/// Bytes that a quota leaves; `None` for no limit.
pub(crate) type Room = Option<u64>;

/// What applying `command` would answer for a key of which nothing is known: what the quota leaves;
/// `None` where a session is known.
///
/// # Errors
/// What the command would be refused for.
pub(crate) fn foresee(at: At<'_>, command: &log::OpenUpload) -> Result<Option<Room>, Stop> {
    let caller = user::caller(at.tables, command.caller)?;
    if session::by_key(at.tables, caller.id, key(&command.idempotency_key)?)?.is_some() {
        return Ok(None);
    }
    admit_key(at, command)?;
    let owner = judge_opening(at, &caller, command)?;
    Ok(Some(size_max(&owner, 0)))
}

pub(super) fn admit_key(at: At<'_>, command: &log::OpenUpload) -> Result<(), Stop> {
    let born = ClusterTime::from_millis(command.key_born_millis);
    Ok(dedupe::admit(
        born,
        at.now,
        requests::keys_refused_before(at.tables)?,
    )?)
}

/// Everything that can be said against the upload before a byte is sent; its bucket's owner.
fn judge_opening(at: At<'_>, caller: &User, command: &log::OpenUpload) -> Result<User, Stop> {
    let path = path(&command.path)?;
    let bucket = bucket::of_path(at.tables, caller.caller(), &path)?;
    if caller.uploads_open >= command.open_per_user_max {
        return Err(Refusal::new(
            Kind::Busy,
            "E_TOO_MANY_UPLOADS",
            format!("{} uploads are open already", caller.uploads_open),
        )
        .hint("finish or abort some of them")
        .into());
    }
    if caller.uploads_failed >= command.failed_per_user_max.unwrap_or(u64::MAX) {
        return Err(Refusal::new(
            Kind::Busy,
            "E_TOO_MANY_UPLOADS",
            format!(
                "{} uploads that ended without a file are remembered already",
                caller.uploads_failed
            ),
        )
        .hint("wait: each is forgotten when its key cannot be used any more")
        .into());
    }
    let size_bytes = reservation(command);
    if size_bytes > VERSION_BYTES_MAX {
        return Err(Refusal::too_large(size_bytes).into());
    }
    let condition = condition(command.condition.unwrap_or_default());
    if condition.contradicts_itself() {
        return Err(Refusal::invalid("E_CONDITION", "the path cannot both have no file and have one").into());
    }
    let owner = if bucket.owner == caller.id {
        caller.clone()
    } else {
        user::by_id(at.tables, bucket.owner)?.ok_or_else(|| Refusal::no_path(&path))?
    };
    let case = Case {
        path: path.as_str(),
        target: tree::look(at.tables, &bucket, &path)?.target(),
        condition,
        size_bytes,
        quota: owner.quota(0),
    };
    judge(&case)?;
    Ok(owner)
}

fn condition(asked: log::Condition) -> Condition {
    Condition {
        if_absent: asked.if_absent,
        if_version: asked.if_version.map(VersionId::new),
        if_present: asked.if_present,
    }
}

fn chosen(at: At<'_>, command: &log::OpenUpload) -> Result<Cluster, Stop> {
    let found = match command.cluster_id.is_empty() {
        true => None,
        false => cluster::by_id(at.tables, cluster_id(&command.cluster_id)?)?,
    };
    found.filter(|cluster| !cluster.retired).ok_or_else(|| {
        Stop::Refused(Refusal::new(
            Kind::Retry,
            "E_NO_CLUSTER",
            "no cluster takes new files at the moment",
        ))
    })
}

fn again(at: At<'_>, found: &Session, command: &log::OpenUpload) -> Result<log::UploadState, Stop> {
    if found.path != command.path || found.command_digest != command.command_digest.as_ref() {
        return Err(Refusal::key_reused().into());
    }
    session::touch(at.tables, found.id, at.now)?;
    reply(at, found)
}

/// What a command answers about a session that was there before.
pub(super) fn reply(at: At<'_>, session: &Session) -> Result<log::UploadState, Stop> {
    let cluster = cluster::by_number(at.tables, session.cluster)?;
    let owner = user::by_id(at.tables, session.charged_to)?;
    let room = owner.map_or(Some(0), |owner| size_max(&owner, session.reserved_bytes));
    let id = cluster.map_or_else(|| ClusterId::new([0; 16]), |cluster| cluster.id);
    Ok(session.reply(id, room, false))
}

/// What the quota leaves for an upload that has reserved `own_reservation`.
fn size_max(owner: &User, own_reservation: u64) -> Room {
    owner.quota(own_reservation).room()
}

/// What an upload reserves: what its client expects, and nothing where that is not known.
pub(super) fn reservation(upload: &log::OpenUpload) -> u64 {
    upload.size_hint.unwrap_or(0)
}
