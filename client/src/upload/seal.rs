//! Seal: fixes the version's content at its cluster, and waits until the names layer has made it visible or refused.
//!
//! Invariant: sealing again is safe and is what is done after every lost answer, whoever leads by then. Nothing here
//! concludes from silence.

use std::time::Duration;

use common::ids::NodeId;
use common::time::WallTime;
use proto::files::v1 as files;
use proto::files::v1::seal_reply::Outcome;

use super::content::Content;
use super::receipt::CopyPlace;
use super::send::Tally;
use super::session::Session;
use crate::error::Error;
use crate::names::Durability;
use crate::routing::{Ask, Try};

/// How long a leader may wait for the names layer within one call.
const SERVER_WAIT: Duration = Duration::from_secs(5);

/// How sealing went.
pub(super) enum Sealed {
    Published(Publication),
    /// These chunks must be sent again.
    Need(Vec<u32>),
    Refused {
        code: String,
        message: String,
    },
    /// The upload was given up before it was sealed.
    Abandoned,
}

/// What a leader says of a version that was published.
pub(super) struct Publication {
    pub(super) modified: WallTime,
    pub(super) durability: Durability,
    pub(super) places: Vec<CopyPlace>,
}

/// Seals what `tally` holds, and waits for the outcome for at most the configured time.
pub(super) async fn seal(session: &Session, tally: &Tally, content: Content) -> Result<Sealed, Error> {
    let request = files::SealRequest {
        ticket: bytes::Bytes::new(),
        upload_id: session.upload.get(),
        receipts: tally
            .stored
            .values()
            .map(|stored| (&stored.receipt).into())
            .collect(),
        size: content.size,
        digest: content.digest.bytes().to_vec().into(),
        wait_millis: SERVER_WAIT.as_millis() as u32,
    };
    let ask = Ask {
        server_wait: SERVER_WAIT,
        ..Ask::leader("seal", &session.cluster)
    };
    let send = |ticket, one: Try| {
        let request = one.request(files::SealRequest {
            ticket,
            ..request.clone()
        });
        async move { one.files().seal(request).await }
    };
    let reply = session.ask(ask, send).await?;
    match judge(reply)? {
        Some(sealed) => Ok(sealed),
        None => outcome(session).await,
    }
}

/// Asks how the sealed upload ended until it is known or the time is up.
async fn outcome(session: &Session) -> Result<Sealed, Error> {
    let clock = &session.router.settings.seams.clock;
    let begun = clock.moment();
    loop {
        if let Some(sealed) = ask_outcome(session, SERVER_WAIT).await? {
            return Ok(sealed);
        }
        if clock.moment().since(begun) >= session.router.settings.limits.outcome_wait_max {
            return Err(Error::Call {
                call: "publish",
                source: Box::new(proto::error::RpcError::new(
                    common::error::Kind::Retry,
                    "E_OUTCOME_PENDING",
                    "the upload is sealed, but its cluster has no answer from the supernodes",
                )),
            });
        }
    }
}

/// How the upload ended, as its cluster knows; `None` where it does not know yet.
pub(super) async fn ask_outcome(session: &Session, wait: Duration) -> Result<Option<Sealed>, Error> {
    let ask = Ask {
        server_wait: wait,
        ..Ask::leader("get outcome", &session.cluster)
    };
    let send = |ticket, one: Try| {
        let request = one.request(files::GetOutcomeRequest {
            ticket,
            upload_id: session.upload.get(),
            wait_millis: wait.as_millis() as u32,
        });
        async move { one.files().get_outcome(request).await }
    };
    judge(session.ask(ask, send).await?)
}

fn judge(reply: files::SealReply) -> Result<Option<Sealed>, Error> {
    let outcome = reply
        .outcome
        .ok_or_else(|| Error::protocol("a seal without an outcome"))?;
    Ok(match outcome {
        Outcome::Pending(_) => None,
        Outcome::Need(need) => Some(Sealed::Need(need.indices)),
        Outcome::Abandoned(_) => Some(Sealed::Abandoned),
        Outcome::Refused(refused) => Some(Sealed::Refused {
            code: refused.code,
            message: refused.message,
        }),
        Outcome::Published(published) => Some(Sealed::Published(Publication {
            modified: WallTime::from_millis(published.modified_wall_millis),
            durability: published.durability.unwrap_or_default().into(),
            places: published.places.into_iter().map(CopyPlace::from).collect(),
        })),
    })
}

impl From<files::CopyPlace> for CopyPlace {
    fn from(wire: files::CopyPlace) -> Self {
        Self {
            node: NodeId::new(wire.node_id),
            name: wire.node,
            host: wire.host,
            zone: wire.zone,
            chunks: wire.chunks,
        }
    }
}
