//! Begins an upload: the cluster is chosen from what the leader has heard, everything else is decided when the command is
//! applied. The same key gives the same session, and a fresh ticket each time. The session of a client that can repeat
//! everything is kept in memory ([`crate::open_sessions`]) where nothing speaks against it as far as is known; what
//! may, the command decides.

use std::sync::Arc;

use common::error::Kind;
use common::ids::{ClusterId, Epoch, Generation, IdempotencyKey, UploadId, UserId};
use common::lifecycle::Session as State;
use common::path::RemotePath;
use common::units::CHUNK_BYTES_MAX;
use proto::error::RpcError;
use proto::names::v1 as wire;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;
use proto::names_log::v1::reply::Body as Reply;
use proto::ticket::{self, Purpose};

use super::serve::Call;
use super::session::Session;
use super::show;
use crate::context::{refused, unexpected};
use crate::core::fingerprint;
use crate::core::metadata::Metadata;
use crate::core::refusal::Refusal;
use crate::open_sessions::OpenSession;
use crate::store::apply::{At, Stop, foresee_upload};
use crate::store::cluster::Cluster;
use crate::store::read::uploads::{self, Upload};
use crate::store::{cluster, session};

/// The longest path hint in a ticket, in bytes.
const PATH_HINT_BYTES_MAX: usize = 256;

pub(super) async fn handle(
    call: Call,
    request: wire::OpenUploadRequest,
) -> Result<wire::UploadSession, RpcError> {
    let context = &call.context;
    let session = Session::of(&call).await?;
    let epoch = context.leading()?;
    let path = show::path(&request.path)?;
    let key = IdempotencyKey::try_from(request.idempotency_key.as_ref())
        .map_err(|error| refused(Refusal::invalid("E_KEY", error.to_string())))?;
    let metadata = Metadata::new(request.metadata.clone()).map_err(refused)?;
    if request.repeatable {
        context.sessions.begin(context, epoch).await?;
        let known = match context.sessions.by_key(epoch, session.user_id(), key) {
            Some(known) => Some(known),
            None => remember(&call, epoch, session, key, &path, &request, &metadata).await?,
        };
        if let Some(known) = known {
            let asked = command(&call, session, &path, request, metadata, None);
            return unrecorded(&call, epoch, &known, &asked).await;
        }
    }
    let chosen = choose(&call, epoch, session.user_id(), key, request.size_hint).await?;
    let command = command(&call, session, &path, request, metadata, chosen);
    let Reply::Upload(opened) = context.propose(Command::OpenUpload(command), None).await? else {
        return Err(unexpected());
    };
    let id = UploadId::new(opened.upload_id);
    let user = session.user_id();
    let size_max = opened.size_max;
    if opened.made {
        let cluster = ClusterId::try_from(opened.cluster_id.as_ref()).map_err(|_| unexpected())?;
        let cluster = context.registered(epoch, cluster).await?;
        return present(&call, Found::made(opened), &cluster, user, size_max);
    }
    let (upload, cluster) = context
        .read_local(move |tables| details(tables, user, id))
        .await?;
    present(&call, upload.into(), &cluster, user, size_max)
}

/// Opens a session that we alone know; `None` where the log has to decide.
async fn remember(
    call: &Call,
    epoch: Epoch,
    session: Session,
    key: IdempotencyKey,
    path: &RemotePath,
    request: &wire::OpenUploadRequest,
    metadata: &Metadata,
) -> Result<Option<Arc<OpenSession>>, RpcError> {
    let context = &call.context;
    let user = session.user_id();
    let Some(of_user) = context.sessions.room(epoch, user, key) else {
        return Ok(None);
    };
    let chosen = context
        .board
        .assign(epoch, request.size_hint, context.policy(), &context.random);
    let (Ok(chosen), Ok(())) = (chosen, context.group.check_space()) else {
        return Ok(None);
    };
    let cluster = context.registered(epoch, chosen).await?;
    let mut upload = command(
        call,
        session,
        path,
        request.clone(),
        metadata.clone(),
        Some(chosen),
    );
    upload.open_per_user_max = upload.open_per_user_max.saturating_sub(of_user);
    let now = context.now();
    let foreseen = context
        .read_lagging(move |tables| match foresee_upload(At { tables, now }, &upload) {
            // It may not hold any more.
            Err(Stop::Refused(_)) => Ok(None),
            foreseen => Ok(foreseen?.map(|size_max| (upload, size_max))),
        })
        .await?;
    let Some((upload, size_max)) = foreseen else {
        return Ok(None);
    };
    let opening = OpenSession {
        user,
        key,
        opening: log::Opening {
            upload_id: 0,
            upload: Some(upload),
            generation: cluster.generation.get(),
        },
        size_max,
        since: context.clock.moment(),
    };
    context.sessions.open(context, epoch, opening).await.map(Some)
}

/// The answer for a session that we alone know.
async fn unrecorded(
    call: &Call,
    epoch: Epoch,
    session: &OpenSession,
    asked: &log::OpenUpload,
) -> Result<wire::UploadSession, RpcError> {
    if session.path() != asked.path || session.command_digest() != asked.command_digest.as_ref() {
        return Err(refused(Refusal::key_reused()));
    }
    let cluster = ClusterId::try_from(session.cluster_id()).map_err(|_| unexpected())?;
    let cluster = call.context.registered(epoch, cluster).await?;
    let found = Found {
        state: State::Open,
        generation: Generation::new(session.opening.generation),
        path: session.path().to_owned(),
        status: show::open_upload(session.id()),
    };
    present(call, found, &cluster, session.user, session.size_max)
}

/// A session, as the answer needs it.
struct Found {
    state: State,
    generation: Generation,
    path: String,
    status: wire::UploadStatus,
}

impl Found {
    /// One that this call has made.
    fn made(opened: log::UploadState) -> Self {
        Self {
            state: State::Open,
            generation: Generation::new(opened.generation),
            path: opened.path,
            status: show::open_upload(UploadId::new(opened.upload_id)),
        }
    }
}

impl From<Upload> for Found {
    fn from(upload: Upload) -> Self {
        Self {
            state: upload.session.state,
            generation: upload.session.generation,
            path: upload.session.path.clone(),
            status: show::upload(upload),
        }
    }
}

/// The cluster for a new session; none where there already is a session for the key and no cluster can be chosen.
async fn choose(
    call: &Call,
    epoch: Epoch,
    user: UserId,
    key: IdempotencyKey,
    size_hint: Option<u64>,
) -> Result<Option<ClusterId>, RpcError> {
    let context = &call.context;
    let chosen = context
        .board
        .assign(epoch, size_hint, context.policy(), &context.random);
    match chosen {
        Ok(cluster) => Ok(Some(cluster)),
        Err(refusal) => {
            let known = context
                .read_local(move |tables| Ok(session::by_key(tables, user, key)?.is_some()))
                .await?;
            if known { Ok(None) } else { Err(refused(refusal)) }
        }
    }
}

fn command(
    call: &Call,
    session: Session,
    path: &RemotePath,
    request: wire::OpenUploadRequest,
    metadata: Metadata,
    chosen: Option<ClusterId>,
) -> log::OpenUpload {
    let config = &call.context.config;
    let condition = request.condition.unwrap_or_default();
    let condition = Some(log::Condition {
        if_absent: condition.if_absent,
        if_version: condition.if_version,
        if_present: condition.if_present,
    });
    let metadata = metadata.into_log();
    log::OpenUpload {
        command_digest: fingerprint::of_upload(path.as_str(), condition, &metadata),
        caller: Some(session.claim()),
        idempotency_key: request.idempotency_key,
        key_born_millis: request.key_born_millis,
        path: path.as_str().to_owned(),
        size_hint: request.size_hint,
        condition,
        metadata,
        cluster_id: chosen.map_or_else(Vec::new, |id| id.bytes().to_vec()).into(),
        open_per_user_max: u64::from(config.limits.uploads_open_per_user_max),
        failed_per_user_max: Some(u64::from(config.limits.uploads_failed_per_user_max)),
    }
}

fn details(tables: &rusqlite::Connection, user: UserId, id: UploadId) -> Result<(Upload, Cluster), Stop> {
    // The command was applied for this user: the session is theirs.
    let caller = crate::core::permission::Caller {
        id: user,
        admin: false,
    };
    let upload = uploads::get(tables, caller, id)?;
    let cluster = cluster::by_number(tables, upload.session.cluster)?;
    let cluster = cluster.ok_or_else(Refusal::unknown_cluster)?;
    Ok((upload, cluster))
}

fn present(
    call: &Call,
    found: Found,
    cluster: &Cluster,
    user: UserId,
    size_max: Option<u64>,
) -> Result<wire::UploadSession, RpcError> {
    let context = &call.context;
    let lifetime = context.config.timings.upload_ticket_lifetime;
    let purpose = Purpose::Upload(ticket::v1::Upload {
        upload_id: found.status.upload_id,
        cluster_id: cluster.id.bytes().to_vec().into(),
        chunk_bytes: CHUNK_BYTES_MAX,
        size_max,
        path_hint: hint(&found.path),
    });
    let ticket = match found.state {
        // With a published upload's ticket the cluster can still be asked how it ended.
        State::Open | State::Published => {
            context
                .keyring
                .sign(context.now(), lifetime.get(), user, purpose)?
        }
        State::Refused | State::Aborted => Vec::new(),
    };
    if found.generation != cluster.generation && found.state == State::Open {
        return Err(RpcError::new(
            Kind::Conflict,
            "E_GENERATION",
            format!("cluster {} was rebuilt since the upload was opened", cluster.name),
        )
        .hint("abort the upload and begin a new one"));
    }
    Ok(wire::UploadSession {
        upload_id: found.status.upload_id,
        cluster: Some(show::cluster(cluster, &context.board)),
        ticket: ticket.into(),
        ticket_expires_in_millis: lifetime.as_millis(),
        chunk_bytes: CHUNK_BYTES_MAX,
        status: Some(found.status),
    })
}

/// The end of the path, for people who look at a chunk.
fn hint(path: &str) -> String {
    let excess = path.len().saturating_sub(PATH_HINT_BYTES_MAX);
    let from = (excess..=path.len()).find(|at| path.is_char_boundary(*at));
    path.get(from.unwrap_or(0)..).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_short_texts() {
        assert_eq!(hint("/me/x"), "/me/x");
        let long = format!("/{}", "\u{e4}".repeat(300));
        assert!(hint(&long).len() <= PATH_HINT_BYTES_MAX && long.ends_with(&hint(&long)));
    }
}
