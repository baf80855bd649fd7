//! Upload: one source becomes one version, wholly or not at all.
//!
//! The journey: [`session`] opens it at the supernodes, [`plans`] asks the cluster where chunks go, [`send`] puts them
//! there from [`work`], [`seal`] makes them a version. Whatever goes wrong after opening ends in `settle`, which
//! commits an abort at the supernodes before it says that the upload failed, or learns that it was published after all.
//!
//! Invariant (P1, P4): success is reported only for what the names layer published, failure only for what it never will.

mod book;
mod feed;
mod options;
mod plans;
mod put;
mod receipt;
mod repeatable;
mod resume;
mod seal;
mod send;
mod session;
mod source;
mod stream;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use common::digest;
use common::ids::UploadId;
use common::path::RemotePath;
use common::units::ByteCount;
use proto::CHUNKS_PER_VERSION_MAX;
use proto::bulk::receipt::Receipt;

pub use options::{Condition, OnInterrupt, UploadKey, UploadOptions};
pub use receipt::{CopyPlace, UploadReceipt};
pub use resume::{Checkpoint, ResumeState};
pub use source::Source;

use crate::error::Error;
use crate::names::{Entry, EntryKind};
use crate::routing::Router;
use book::Book;
use seal::{Content, Publication, Sealed};
use send::{Sending, Tally};
use session::{Expected, Session, Standing};
use source::Origin;
use work::{Input, Works};

/// How often a seal may ask for chunks again. Every time, copies were lost between their receipts and the seal.
const SEAL_ROUNDS_MAX: u32 = 8;
/// How often an upload begins again because the supernodes lost its session, each time with a leader.
const SESSIONS_LOST_MAX: u32 = 5;
/// How long to wait before a seal that misses copies is tried again for a stream.
const STREAM_SEAL_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Plans ahead for a stream, which may end at any time.
const STREAM_PLANS_AHEAD_MAX: usize = 2;
/// How long the cluster of a version that is published already may be asked for details.
const DETAILS_WAIT: Duration = Duration::from_secs(5);

/// A new upload's key, born now by the names group's time.
pub(crate) async fn new_key(router: &Router) -> Result<UploadKey, Error> {
    let once = router.once().await?;
    Ok(UploadKey {
        key: once.key,
        born: once.born,
    })
}

/// One upload from beginning to end.
pub(crate) async fn run(
    router: &Arc<Router>,
    source: Source,
    path: &RemotePath,
    options: UploadOptions,
    known: BTreeMap<u32, Receipt>,
) -> Result<UploadReceipt, Error> {
    let failed = |error| Error::UploadFailed {
        path: path.clone(),
        upload: None,
        source: Box::new(error),
    };
    let mut input = Input::open(source).await.map_err(failed)?;
    let key = match options.key {
        Some(key) => key,
        None => new_key(router).await.map_err(failed)?,
    };
    let mut lost = 0;
    loop {
        let opened = session::open(router, key, path, input.expected(), &options).await;
        let (session, standing) = opened.map_err(|error| not_opened(error, key, path, &options))?;
        options.checkpoint.begin(key, &session, &options, &known);
        let session = Arc::new(session);
        match standing {
            Standing::Open => {}
            ended => return already_ended(&session, ended).await,
        }
        let again = input.again().filter(|_| lost < SESSIONS_LOST_MAX);
        let work = Box::pin(carry_out(&session, input, &options, known.clone()));
        let cause = match (options.shutdown.guard(work).await, again) {
            (Some(Ok(receipt)), _) => return Ok(receipt),
            (Some(Err(error)), Some(again)) if is_session_lost(&error) => {
                tracing::info!(upload = %session.upload, "the session was lost: the upload begins again");
                options.progress.restarted();
                (input, lost) = (again, lost + 1);
                continue;
            }
            (Some(Err(error)), _) => error,
            (None, _) if options.on_interrupt == OnInterrupt::Keep => {
                return Err(Error::UploadInterrupted {
                    path: path.clone(),
                    upload: session.upload,
                });
            }
            (None, _) => Error::Interrupted,
        };
        return settle(&session, key, &options, cause).await;
    }
}

fn is_session_lost(error: &Error) -> bool {
    matches!(error, Error::Refused { code, .. } if code == session::SESSION_LOST)
}

/// An upload that could not even be opened. With a key of its own it cannot have been published by anyone; with a key
/// from outside an earlier call may have, and only a clear answer excludes that.
fn not_opened(error: Error, key: UploadKey, path: &RemotePath, options: &UploadOptions) -> Error {
    let clear = is_clear(&error);
    let (path, source) = (path.clone(), Box::new(error));
    if options.key.is_none() || clear {
        Error::UploadFailed {
            path,
            upload: None,
            source,
        }
    } else {
        Error::OutcomeUnknown {
            path,
            upload: None,
            key: key.key,
            source,
        }
    }
}

/// An answer that says of an upload that it is not there, and not merely that nothing can be said.
fn is_clear(error: &Error) -> bool {
    use common::error::Kind;
    matches!(
        error.kind(),
        Kind::Denied | Kind::NotFound | Kind::Full | Kind::Conflict
    )
}

/// Sends and seals.
async fn carry_out(
    session: &Arc<Session>,
    input: Input,
    options: &UploadOptions,
    known: BTreeMap<u32, Receipt>,
) -> Result<UploadReceipt, Error> {
    let limits = &session.router.settings.limits;
    let (size, ahead) = match &input {
        Input::Repeatable(source) => (Some(source.size()), limits.plans_ahead_max),
        Input::Stream(_) => (None, STREAM_PLANS_AHEAD_MAX),
    };
    if let Some(size) = size {
        let chunks = size.div_ceil(session.chunk_bytes);
        if chunks > u64::from(CHUNKS_PER_VERSION_MAX) {
            return Err(Error::Invalid(format!(
                "{} is more than a file may hold: {CHUNKS_PER_VERSION_MAX} chunks of {}",
                ByteCount::new(size),
                ByteCount::new(session.chunk_bytes)
            )));
        }
        options.progress.set_total(size, chunks);
    }
    if size == Some(0) {
        plans::touch(session).await?;
    }
    let skipped: BTreeSet<u32> = known.keys().copied().collect();
    let sending = Sending {
        session: Arc::clone(session),
        plans: plans::start(session, Book::new(session.chunk_bytes, size, ahead, skipped)),
        progress: options.progress.clone(),
        checkpoint: options.checkpoint.clone(),
        known: Arc::new(known),
    };
    let mut tally = Tally::default();
    let again = match input {
        Input::Repeatable(source) => {
            let chunks = u32::try_from(source.size().div_ceil(session.chunk_bytes)).unwrap_or(u32::MAX);
            let works = work::parts(&source, session.chunk_bytes, 0..chunks, &session.router.buffers);
            sending.send_all(works, &mut tally).await?;
            Some(source)
        }
        Input::Stream(Origin::Stream { input, .. }) => {
            let works = work::cut(input, session.chunk_bytes, limits.stream_chunks_held_max);
            sending.send_all(works, &mut tally).await?;
            None
        }
        Input::Stream(_) => return Err(Error::Interrupted),
    };
    let content = tally
        .content()
        .ok_or_else(|| Error::protocol("chunks with a gap between them"))?;
    options
        .progress
        .set_total(content.size, u64::from(content.chunks));
    if content.chunks == 0 && again.is_none() {
        plans::touch(session).await?;
    }
    let publication = seal_until_done(&sending, &mut tally, content, again.as_ref()).await?;
    Ok(session.receipt(content, &tally, publication))
}

/// Seals; sends again what the cluster lost meanwhile, where the source can be read again.
async fn seal_until_done(
    sending: &Sending,
    tally: &mut Tally,
    content: Content,
    again: Option<&Arc<repeatable::Repeatable>>,
) -> Result<Publication, Error> {
    let session = &sending.session;
    let begun = session.router.settings.seams.clock.moment();
    let mut rounds = 0;
    loop {
        if let Some(source) = again {
            source.check_unchanged_soon().await?;
        }
        let need = match seal::seal(session, tally, content).await? {
            Sealed::Published(publication) => return Ok(publication),
            Sealed::Refused { code, message } => return Err(Error::Refused { code, message }),
            Sealed::Abandoned => return Err(abandoned()),
            Sealed::Need(need) => need,
        };
        let Some(source) = again else {
            // A stream cannot be read again, but the nodes that have the copies may come back.
            let clock = &session.router.settings.seams.clock;
            let waited = clock.moment().since(begun);
            if waited < session.router.settings.limits.outcome_wait_max {
                clock.sleep(STREAM_SEAL_AGAIN_AFTER).await;
                continue;
            }
            return Err(Error::NotResumable(format!(
                "{} chunks lost their copies before the end, and a stream cannot be read again",
                need.len()
            )));
        };
        rounds += 1;
        if rounds > SEAL_ROUNDS_MAX {
            return Err(Error::Call {
                call: "seal",
                source: Box::new(proto::error::RpcError::new(
                    common::error::Kind::Retry,
                    "E_COPIES_LOST",
                    "the cluster loses copies of chunks faster than they are sent again",
                )),
            });
        }
        tracing::info!(upload = %session.upload, chunks = need.len(), "chunks must be sent again");
        for index in &need {
            if let Some(stored) = tally.stored.remove(index) {
                sending.progress.undone(stored.end.length);
                sending.progress.chunk_undone();
            }
        }
        let resend = Sending {
            known: Arc::default(),
            ..sending.clone()
        };
        let works: Works = work::parts(
            source,
            session.chunk_bytes,
            need.into_iter(),
            &session.router.buffers,
        );
        resend.send_all(works, tally).await?;
        if tally.content() != Some(content) {
            let again = Arc::clone(source);
            // The better error, if it is the reason.
            again.check_unchanged()?;
            return Err(Error::protocol(
                "a request for chunks that the upload does not have",
            ));
        }
    }
}

fn abandoned() -> Error {
    Error::Refused {
        code: "E_ABANDONED".to_owned(),
        message: "the cluster gave the upload up because nothing was heard of it for too long".to_owned(),
    }
}

/// After a failure: makes sure that the upload will never be published, or learns that it was.
async fn settle(
    session: &Session,
    key: UploadKey,
    options: &UploadOptions,
    cause: Error,
) -> Result<UploadReceipt, Error> {
    let (path, upload) = (session.path.clone(), Some(session.upload));
    let wait = session.router.settings.limits.outcome_wait_max;
    let mut standing = session::abort(&session.router, session.upload, wait).await;
    if session.is_repeatable()
        && matches!(&standing, Err(error) if error.kind() == common::error::Kind::NotFound)
    {
        standing = abort_by_key(session, key, options, wait).await;
    }
    let source = match standing {
        Ok(Standing::Published(entry)) => return Ok(session.receipt_of_entry(entry, false).await),
        Ok(Standing::Refused { code, message }) => Error::Refused { code, message },
        Ok(Standing::Aborted) => cause,
        Ok(Standing::Open) => {
            return Err(Error::OutcomeUnknown {
                path,
                upload,
                key: key.key,
                source: Box::new(cause),
            });
        }
        Err(error) => {
            tracing::warn!(upload = %session.upload, %error, "the upload could not be aborted");
            return Err(Error::OutcomeUnknown {
                path,
                upload,
                key: key.key,
                source: Box::new(cause),
            });
        }
    };
    Err(Error::UploadFailed {
        path,
        upload,
        source: Box::new(source),
    })
}

/// The session was lost: whatever the key leads to is aborted, or has ended.
async fn abort_by_key(
    session: &Session,
    key: UploadKey,
    options: &UploadOptions,
    wait: Duration,
) -> Result<Standing, Error> {
    let nothing = Expected {
        size: None,
        repeatable: false,
    };
    match session::open(&session.router, key, &session.path, nothing, options).await {
        Ok((session, Standing::Open)) => session::abort(&session.router, session.upload, wait).await,
        Ok((_, ended)) => Ok(ended),
        // The key leads to nothing, and will not: an upload of it could not even be opened.
        Err(error) if is_clear(&error) => Ok(Standing::Aborted),
        Err(error) => Err(error),
    }
}

/// The key belongs to an upload that has ended.
async fn already_ended(session: &Session, standing: Standing) -> Result<UploadReceipt, Error> {
    let source = match standing {
        Standing::Published(entry) => return Ok(session.receipt_of_entry(entry, true).await),
        Standing::Refused { code, message } => Error::Refused { code, message },
        Standing::Aborted | Standing::Open => {
            Error::NotResumable("the upload with this key was aborted".to_owned())
        }
    };
    Err(Error::UploadFailed {
        path: session.path.clone(),
        upload: Some(session.upload),
        source: Box::new(source),
    })
}

/// Commits that `upload` will never be published.
pub(crate) async fn abort(router: &Router, upload: UploadId) -> Result<(), Error> {
    let wait = router.settings.limits.outcome_wait_max;
    match session::abort(router, upload, wait).await? {
        Standing::Aborted => Ok(()),
        Standing::Refused { code, message } => Err(Error::Refused { code, message }),
        Standing::Published(entry) => Err(Error::Refused {
            code: "E_PUBLISHED".to_owned(),
            message: format!("upload {upload} was published as {}", entry.path),
        }),
        Standing::Open => Err(Error::protocol("an abort that aborts nothing")),
    }
}

impl Tally {
    /// What the chunks make; `None` where one is missing.
    fn content(&self) -> Option<Content> {
        let count = u32::try_from(self.stored.len()).ok()?;
        if !self.stored.keys().copied().eq(0..count) {
            return None;
        }
        let digests: Vec<_> = self.stored.values().map(|stored| stored.end.digest).collect();
        let digest = match self.stored.get(&0) {
            None => digest::empty(),
            Some(only) if count == 1 => only.end.single?,
            Some(_) => digest::combine(&digests)?,
        };
        Some(Content {
            size: self.stored.values().map(|stored| stored.end.length).sum(),
            digest,
            chunks: count,
        })
    }
}

impl Session {
    fn receipt(&self, content: Content, tally: &Tally, publication: Publication) -> UploadReceipt {
        UploadReceipt {
            path: self.path.clone(),
            version: self.upload.version(),
            upload: self.upload,
            size: ByteCount::new(content.size),
            digest: content.digest,
            modified: Some(publication.modified),
            durability: Some(publication.durability),
            places: publication.places,
            cluster: self.cluster_name.clone(),
            chunks: content.chunks,
            chunks_sent: tally.chunks_sent,
            sent: ByteCount::new(tally.bytes_sent),
            already_published: false,
        }
    }

    /// The receipt of an upload that the supernodes say is published. Details come from its cluster, if it answers.
    async fn receipt_of_entry(&self, entry: Entry, already_published: bool) -> UploadReceipt {
        let clock = &self.router.settings.seams.clock;
        let asking = seal::ask_outcome(self, Duration::ZERO);
        let publication = match clock.timeout(DETAILS_WAIT, asking).await {
            Some(Ok(Some(Sealed::Published(publication)))) => Some(publication),
            _ => None,
        };
        let digest = match &entry.kind {
            EntryKind::File { digest, .. } => *digest,
            EntryKind::Directory | EntryKind::Bucket => digest::empty(),
        };
        UploadReceipt {
            version: self.upload.version(),
            upload: self.upload,
            size: entry.size(),
            digest,
            modified: Some(entry.modified),
            durability: publication.as_ref().map(|publication| publication.durability),
            places: publication
                .map(|publication| publication.places)
                .unwrap_or_default(),
            cluster: self.cluster_name.clone(),
            chunks: u32::try_from(entry.size().get().div_ceil(self.chunk_bytes)).unwrap_or(u32::MAX),
            chunks_sent: 0,
            sent: ByteCount::new(0),
            already_published,
            path: entry.path,
        }
    }
}
