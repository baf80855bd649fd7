//! `Seal`: fixes an upload's content, has it published, and waits for the outcome.
//!
//! Invariant: what is answered as published or refused is committed in this cluster's log; whatever else happens, the
//! request can be repeated, here or at the next leader, and finds what was recorded (P4).

use std::sync::Arc;

use common::error::Kind;
use common::ids::{Digest, DiskId, NodeId, UploadId};
use common::lifecycle::Upload;
use common::time::WallTime;
use prost::Message;
use proto::bulk::receipt::Receipt;
use proto::cluster_log::v1 as log;
use proto::error::RpcError;
use proto::files::v1 as wire;
use proto::ticket::v1::Upload as UploadTicket;
use proto::{CHUNKS_PER_VERSION_MAX, CONTROL_MESSAGE_BYTES_MAX};

use super::outcome::{self, Content};
use crate::cluster::Cluster;
use crate::cluster::core::durability::Spread;
use crate::cluster::core::seal::{self as core, Claim, Terms, Verdict};
use crate::cluster::leadership::Leadership;
use crate::cluster::open_uploads::OpenUpload;
use crate::cluster::store::seal::Sealed;
use crate::cluster::store::{Reply, uploads, versions};
use crate::cluster::unpublished;
use crate::config::Durability;

/// Seals of up to so many chunks are judged where they arrive.
const CHUNKS_INLINE_MAX: usize = 32;
/// Copies on one chunk's receipt.
const COPIES_MAX: usize = 8;

pub(super) async fn seal(
    cluster: Arc<Cluster>,
    request: wire::SealRequest,
) -> Result<wire::SealReply, RpcError> {
    let (ticket, _) = cluster.upload_ticket(&request.ticket, request.upload_id)?;
    let leadership = cluster.lead()?;
    let upload = UploadId::new(request.upload_id);
    let wait_millis = request.wait_millis;
    // What this leader opened itself needs no query; the log judges it again when the seal is applied.
    let known = match leadership.uploads.find(upload) {
        Some(_) => Some(Upload::Open),
        None if !leadership.uploads.may_have_row(upload) => None,
        None => cluster
            .read_local(move |connection| uploads::find(connection, upload))
            .await?
            .map(|row| row.state),
    };
    // Before the seal is committed, so that no outcome passes by unheard.
    let decided = cluster.outcomes.wait(upload.version());
    match known {
        Some(Upload::Sealed) => check_content(&cluster, &request).await?,
        Some(Upload::Abandoned) => return Ok(abandoned()),
        Some(Upload::Open) | None => {
            cluster.check_formed()?;
            // An empty file has no chunks, so that nothing was planned for it.
            let open = cluster
                .open_upload(&leadership, upload, ticket.chunk_bytes)
                .await?;
            let done = seal_now(&cluster, &leadership, &ticket, open, request).await?;
            match done {
                Done::Sealed(content) => {
                    leadership.uploads.ended(upload);
                    leadership.unpublished.add(content.sealed);
                    return outcome::wait(&cluster, decided, upload.version(), Some(content), wait_millis)
                        .await;
                }
                Done::Other(Sealed::Now | Sealed::Before) => {}
                Done::Other(Sealed::Otherwise) => {
                    leadership.uploads.ended(upload);
                    return Err(sealed_otherwise(upload));
                }
                Done::Other(Sealed::Abandoned) => {
                    leadership.uploads.ended(upload);
                    return Ok(abandoned());
                }
                Done::Other(Sealed::NeedChunks(indices)) => return Ok(need(indices)),
                Done::Other(Sealed::Unknown | Sealed::Malformed) => {
                    let message = format!("upload {upload} could not be sealed: the log knows it otherwise");
                    return Err(RpcError::new(Kind::Fatal, "E_SEAL", message));
                }
            }
            leadership.uploads.ended(upload);
        }
    }
    outcome::wait(&cluster, decided, upload.version(), None, wait_millis).await
}

/// Checks that an upload which is sealed has the content that the request would seal it with.
async fn check_content(cluster: &Cluster, request: &wire::SealRequest) -> Result<(), RpcError> {
    let upload = UploadId::new(request.upload_id);
    let row = cluster
        .read_local(move |connection| versions::find(connection, upload.version()))
        .await?;
    match row {
        Some(row) if !row.is_content(request.size, &request.digest) => Err(sealed_otherwise(upload)),
        Some(_) | None => Ok(()),
    }
}

fn sealed_otherwise(upload: UploadId) -> RpcError {
    let message = format!("upload {upload} was sealed before with other content, which stands");
    RpcError::new(Kind::Conflict, "E_UPLOAD_ENDED", message).hint("ask for its outcome")
}

/// What came of a seal.
enum Done {
    /// It is sealed by this request.
    Sealed(Content),
    Other(Sealed),
}

fn abandoned() -> wire::SealReply {
    wire::SealReply {
        outcome: Some(wire::seal_reply::Outcome::Abandoned(wire::Abandoned {})),
    }
}

fn need(indices: Vec<u32>) -> wire::SealReply {
    wire::SealReply {
        outcome: Some(wire::seal_reply::Outcome::Need(wire::NeedChunks { indices })),
    }
}

async fn seal_now(
    cluster: &Arc<Cluster>,
    leadership: &Leadership,
    ticket: &UploadTicket,
    open: OpenUpload,
    request: wire::SealRequest,
) -> Result<Done, RpcError> {
    if request.receipts.len() > CHUNKS_PER_VERSION_MAX as usize {
        let message = format!("a version may have at most {CHUNKS_PER_VERSION_MAX} chunks");
        return Err(RpcError::new(Kind::Invalid, "E_TOO_MANY_CHUNKS", message));
    }
    let disks = cluster.directory().await?.disks_for_seal();
    let keys = leadership.keys();
    let size_max = ticket.size_max;
    let copies_min = match cluster.config.durability {
        Durability::Full => 2,
        Durability::Reduced => 1,
    };
    let modified_wall_millis = cluster.clock.wall().as_millis();
    let chunks = request.receipts.len();
    let work = move || {
        let terms = Terms {
            number: open.number,
            version: UploadId::new(request.upload_id).version(),
            chunk_bytes: open.chunk_bytes,
            size_max,
            copies_min,
            keys: &keys,
            disks: &disks,
        };
        judge(&terms, &request, modified_wall_millis, !open.recorded)
    };
    // Two MACs per chunk: large uploads take a while.
    let judged = if chunks <= CHUNKS_INLINE_MAX {
        work()?
    } else {
        cluster.compute(work).await??
    };
    let command = match judged {
        Judged::Seal(command) => command,
        Judged::NeedChunks(indices) => return Ok(Done::Other(Sealed::NeedChunks(indices))),
    };
    let content = content(&command)?;
    match cluster
        .commit(leadership.epoch, log::command::Command::Seal(command))
        .await?
    {
        Reply::Sealed(Sealed::Now) => {
            cluster.metrics.sealed.inc();
            Ok(Done::Sealed(content))
        }
        Reply::Sealed(other) => Ok(Done::Other(other)),
        _ => Ok(Done::Other(Sealed::Unknown)),
    }
}

/// What `command` fixes, as its outcome is told.
fn content(command: &log::Seal) -> Result<Content, RpcError> {
    let digest = Digest::try_from(command.digest.as_ref())
        .map_err(|error| RpcError::new(Kind::Invalid, "E_INVALID", error.to_string()))?;
    let mut spread = Spread::new();
    for chunk in &command.chunks {
        let nodes = chunk.copies.iter().map(|copy| NodeId::new(copy.node_id));
        *spread.entry(nodes.collect()).or_default() += 1;
    }
    Ok(Content {
        sealed: unpublished::Sealed {
            version: UploadId::new(command.upload_id).version(),
            size: command.size,
            digest,
            modified: WallTime::from_millis(command.modified_wall_millis),
        },
        spread,
    })
}

enum Judged {
    Seal(log::Seal),
    NeedChunks(Vec<u32>),
}

fn judge(
    terms: &Terms<'_>,
    request: &wire::SealRequest,
    modified_wall_millis: u64,
    unrecorded: bool,
) -> Result<Judged, RpcError> {
    let invalid = |message: String| RpcError::new(Kind::Invalid, "E_INVALID", message);
    let receipts = request
        .receipts
        .iter()
        .map(Receipt::try_from)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| invalid(error.to_string()))?;
    if receipts.iter().any(|receipt| receipt.copies.len() > COPIES_MAX) {
        return Err(invalid(format!("a receipt may name at most {COPIES_MAX} copies")));
    }
    let digest = Digest::try_from(request.digest.as_ref()).map_err(|error| invalid(error.to_string()))?;
    let claim = Claim {
        receipts: &receipts,
        size: request.size,
        digest,
    };
    let verdict = core::judge(terms, &claim)
        .map_err(|refusal| RpcError::new(refusal.kind(), refusal.code(), refusal.to_string()))?;
    let copies = match verdict {
        Verdict::NeedChunks(indices) => return Ok(Judged::NeedChunks(indices)),
        Verdict::Sealable(copies) => copies,
    };
    let command = log::Seal {
        upload_id: request.upload_id,
        upload_number: terms.number.get(),
        size: request.size,
        digest: request.digest.clone(),
        modified_wall_millis,
        chunk_bytes: unrecorded.then_some(terms.chunk_bytes),
        chunks: receipts
            .iter()
            .zip(&copies)
            .map(|(receipt, copies)| sealed_chunk(receipt, copies))
            .collect(),
    };
    if command.encoded_len() > CONTROL_MESSAGE_BYTES_MAX / 2 {
        return Err(invalid("the manifest is too large".to_owned()));
    }
    Ok(Judged::Seal(command))
}

fn sealed_chunk(receipt: &Receipt, copies: &[(NodeId, DiskId)]) -> log::SealedChunk {
    let said = &receipt.statement;
    log::SealedChunk {
        attempt: said.attempt.to_bytes().to_vec().into(),
        length: said.length,
        digest: said.digest.bytes().to_vec().into(),
        copies: copies
            .iter()
            .map(|(node, disk)| log::Copy {
                node_id: node.get(),
                disk_id: disk.bytes().to_vec().into(),
            })
            .collect(),
    }
}
