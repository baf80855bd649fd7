//! An upload as the names layer and the cluster know it: its ticket, its cluster, its end.
//!
//! Invariant: the ticket in use is fresh. Asking again with the upload's key returns the same session and a new
//! ticket, so that an upload may take longer than a ticket lives.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::error::Kind;
use common::ids::{ClusterId, UploadId};
use common::path::RemotePath;
use common::time::Moment;
use common::units::CHUNK_BYTES_MAX;
use parking_lot::Mutex;
use proto::bulk::pool::Pool;
use proto::names::v1 as names;
use tonic::{Response, Status};

use super::{Condition, UploadKey, UploadOptions};
use crate::error::Error;
use crate::names::Entry;
use crate::routing::{Ask, Group, Router, Try};

/// The shortest chunk length that is believed: one BLAKE3 subtree of some use.
const CHUNK_BYTES_MIN: u64 = 64 << 10;

/// The code of a refusal which says that the session was lost: the upload is opened again with the same key.
pub(super) const SESSION_LOST: &str = "E_SESSION_LOST";

/// An upload that was opened.
pub(super) struct Session {
    pub(super) router: Arc<Router>,
    pub(super) upload: UploadId,
    pub(super) path: RemotePath,
    pub(super) chunk_bytes: u64,
    pub(super) cluster_name: String,
    pub(super) cluster_id: ClusterId,
    pub(super) cluster: Arc<Group>,
    pub(super) pool: Pool,
    request: names::OpenUploadRequest,
    ticket: Mutex<Ticket>,
}

#[derive(Clone)]
struct Ticket {
    bytes: Bytes,
    /// Renewed from here on: after two thirds of its life.
    renew_at: Moment,
}

/// How an upload stands at the names layer.
pub(super) enum Standing {
    Open,
    Published(Entry),
    Refused { code: String, message: String },
    Aborted,
}

impl Standing {
    fn of(status: names::UploadStatus) -> Result<Self, Error> {
        Ok(match status.state() {
            names::UploadState::Open => Standing::Open,
            names::UploadState::Aborted => Standing::Aborted,
            names::UploadState::Refused => Standing::Refused {
                code: status.refused_code,
                message: status.refused_message,
            },
            names::UploadState::Published => {
                let entry = status
                    .entry
                    .ok_or_else(|| Error::protocol("a published upload without an entry"))?;
                Standing::Published(entry.try_into()?)
            }
            names::UploadState::Unspecified => return Err(Error::protocol("an upload in no known state")),
        })
    }
}

/// What an upload that is opened will bring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    /// In bytes; `None` where it is not known.
    pub(super) size: Option<u64>,
    /// All of it can and will be sent again should the session be lost.
    pub(super) repeatable: bool,
}

/// Opens the upload, or finds the one that was opened with the same key.
pub(super) async fn open(
    router: &Arc<Router>,
    key: UploadKey,
    path: &RemotePath,
    expected: Expected,
    options: &UploadOptions,
) -> Result<(Session, Standing), Error> {
    let request = names::OpenUploadRequest {
        idempotency_key: key.key.bytes().to_vec().into(),
        key_born_millis: key.born.as_millis(),
        path: path.to_string(),
        size_hint: expected.size,
        condition: Some(options.condition.into()),
        metadata: options.metadata.clone().into_iter().collect(),
        repeatable: expected.repeatable,
    };
    let wire = send_open(router, &request).await?;
    let standing = Standing::of(wire.status.clone().unwrap_or_default())?;
    let location = wire
        .cluster
        .clone()
        .ok_or_else(|| Error::protocol("an upload without a cluster"))?;
    let believable =
        wire.chunk_bytes.is_power_of_two() && (CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&wire.chunk_bytes);
    if !believable {
        return Err(Error::protocol(format!(
            "a chunk length of {} bytes",
            wire.chunk_bytes
        )));
    }
    let session = Session {
        cluster: router.cluster(&location)?,
        cluster_id: Router::cluster_id(&location)?,
        pool: router.pool(&location)?,
        router: Arc::clone(router),
        upload: UploadId::new(wire.upload_id),
        path: path.clone(),
        chunk_bytes: wire.chunk_bytes,
        cluster_name: location.name,
        request,
        ticket: Mutex::new(Ticket::of(router, &wire)),
    };
    Ok((session, standing))
}

async fn send_open(
    router: &Router,
    request: &names::OpenUploadRequest,
) -> Result<names::UploadSession, Error> {
    let send = |one: Try| {
        let request = one.request(request.clone());
        async move { one.names().open_upload(request).await }
    };
    router
        .ask(Ask::leader("open upload", router.supernodes()), send)
        .await
}

impl Ticket {
    fn of(router: &Router, wire: &names::UploadSession) -> Self {
        let life = Duration::from_millis(wire.ticket_expires_in_millis);
        Self {
            bytes: wire.ticket.clone(),
            renew_at: router.settings.seams.clock.moment() + life.mul_f64(2.0 / 3.0),
        }
    }
}

impl From<Condition> for names::Condition {
    fn from(condition: Condition) -> Self {
        let none = names::Condition::default();
        match condition {
            Condition::Any => none,
            Condition::Absent => Self {
                if_absent: true,
                ..none
            },
            Condition::Present => Self {
                if_present: true,
                ..none
            },
            Condition::Version(version) => Self {
                if_version: Some(version.get()),
                ..none
            },
        }
    }
}

impl Session {
    /// Whether the session may be lost, and all be sent again.
    pub(super) fn is_repeatable(&self) -> bool {
        self.request.repeatable
    }

    /// Asks the cluster, with a fresh ticket. `send` makes one try.
    pub(super) async fn ask<T, F, A>(&self, ask: Ask<'_>, send: F) -> Result<T, Error>
    where
        F: Fn(Bytes, Try) -> A,
        A: Future<Output = Result<Response<T>, Status>>,
    {
        let ticket = self.ticket().await?;
        let answer = self.router.ask(ask, |one| send(ticket.clone(), one)).await;
        match answer {
            // The cluster's time may be ahead of ours: one more try with a ticket of now.
            Err(error) if error.kind() == Kind::Denied => {
                let ticket = self.renew().await?;
                self.router.ask(ask, |one| send(ticket.clone(), one)).await
            }
            answer => answer,
        }
    }

    /// How the upload stands at the supernodes now.
    pub(super) async fn standing(&self) -> Result<Standing, Error> {
        Standing::of(
            send_open(&self.router, &self.request)
                .await?
                .status
                .unwrap_or_default(),
        )
    }

    async fn ticket(&self) -> Result<Bytes, Error> {
        let ticket = self.ticket.lock().clone();
        if self.router.settings.seams.clock.moment() < ticket.renew_at {
            return Ok(ticket.bytes);
        }
        match self.renew().await {
            Ok(fresh) => Ok(fresh),
            // The old one is still good for a while; the supernodes may be back by then.
            Err(error) if error.kind().is_passing() => Ok(ticket.bytes),
            Err(error) => Err(error),
        }
    }

    async fn renew(&self) -> Result<Bytes, Error> {
        let wire = send_open(&self.router, &self.request).await?;
        if wire.upload_id != self.upload.get() {
            return Err(if self.is_repeatable() {
                Error::Refused {
                    code: SESSION_LOST.to_owned(),
                    message: "the supernodes know another session for the upload's key".to_owned(),
                }
            } else {
                Error::protocol("another upload for the same key")
            });
        }
        let ticket = Ticket::of(&self.router, &wire);
        let bytes = ticket.bytes.clone();
        *self.ticket.lock() = ticket;
        Ok(bytes)
    }
}

/// Commits at the supernodes that `upload` will never be published, or learns how it ended instead.
pub(super) async fn abort(
    router: &Router,
    upload: UploadId,
    give_up_after: Duration,
) -> Result<Standing, Error> {
    let send = |one: Try| {
        let request = one.request(names::AbortUploadRequest {
            upload_id: upload.get(),
        });
        async move { one.names().abort_upload(request).await }
    };
    let ask = Ask {
        give_up_after: Some(give_up_after),
        ..Ask::leader("abort upload", router.supernodes())
    };
    Standing::of(router.ask(ask, send).await?)
}
