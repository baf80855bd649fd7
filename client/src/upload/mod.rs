//! Upload: one source becomes one version, wholly or not at all.
//!
//! The journey: [`session`] opens it at the supernodes, [`plans`] asks the cluster where chunks go, [`send`] puts them
//! there from [`work`], [`seal`] makes them a version. Whatever goes wrong after opening ends in `settle`, which
//! commits an abort at the supernodes before it says that the upload failed, or learns that it was published after all.
//!
//! Invariant (P1, P4): success is reported only for what the names layer published, failure only for what it never will.

mod book;
mod content;
mod ending;
mod feed;
mod growth;
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
mod stamp;
mod stream;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use common::path::RemotePath;
use common::units::ByteCount;
use proto::CHUNKS_PER_VERSION_MAX;
use proto::bulk::receipt::Receipt;

pub(crate) use ending::{abort, forget};
pub use options::{Condition, OnInterrupt, UploadKey, UploadOptions};
pub use receipt::{CopyPlace, UploadReceipt};
pub(crate) use resume::Begun;
pub use resume::{Checkpoint, ResumeState};
pub use source::Source;
pub use stamp::SourceStamp;

use crate::error::Error;
use crate::routing::Router;
use book::Book;
use content::Content;
use ending::Ending;
use seal::{Publication, Sealed};
use send::{Sending, Tally};
use session::{Session, Standing};
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

/// A new upload's key, born now by the names group's time.
pub(crate) async fn new_key(router: &Router) -> Result<UploadKey, Error> {
    let once = router.once().await?;
    Ok(UploadKey {
        key: once.key,
        born: once.born,
    })
}

/// One upload from beginning to end; with `begun` one that goes on.
pub(crate) async fn run(
    router: &Arc<Router>,
    source: Source,
    path: &RemotePath,
    options: UploadOptions,
    begun: Option<Begun>,
) -> Result<UploadReceipt, Error> {
    let beginning = async {
        let input = Input::open(source).await?;
        let key = match options.key {
            Some(key) => key,
            None => new_key(router).await?,
        };
        Ok((input, key))
    };
    let begin = options
        .shutdown
        .guard(beginning)
        .await
        .unwrap_or(Err(Error::Interrupted));
    let (mut input, key) = begin.map_err(|error| ending::not_begun(path, error))?;
    if let Some(begun) = &begun {
        begun.check_source(input.stamp())?;
    }
    let mut lost = 0;
    loop {
        let opening = Box::pin(session::open(router, key, path, input.expected(), &options));
        let opened = options
            .shutdown
            .guard(opening)
            .await
            .unwrap_or(Err(Error::Interrupted));
        let (session, standing) = opened.map_err(|error| ending::not_opened(error, key, path, &options))?;
        let known = begun
            .as_ref()
            .map(|begun| begun.receipts_for(&session))
            .unwrap_or_default();
        options
            .checkpoint
            .begin(key, &session, &options, input.stamp(), &known);
        let session = Arc::new(session);
        match standing {
            Standing::Open => {}
            ended => return ending::already_ended(&session, ended, input, &options, begun.is_some()).await,
        }
        let again = input.again().filter(|_| lost < SESSIONS_LOST_MAX);
        let (source, sealed) = (input.repeatable(), OnceLock::new());
        let work = Box::pin(carry_out(&session, input, &options, known, &sealed));
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
        let ending = Ending {
            session: &session,
            key,
            options: &options,
            source,
            sealed: sealed.get().copied(),
        };
        return ending.settle(cause).await;
    }
}

fn is_session_lost(error: &Error) -> bool {
    matches!(error, Error::Refused { code, .. } if code == session::SESSION_LOST)
}

/// Sends and seals.
async fn carry_out(
    session: &Arc<Session>,
    input: Input,
    options: &UploadOptions,
    known: BTreeMap<u32, Receipt>,
    sealed: &OnceLock<Content>,
) -> Result<UploadReceipt, Error> {
    let limits = &session.router.settings.limits;
    let (size, ahead) = match &input {
        Input::Repeatable(source) => (Some(source.size()), limits.plans_ahead_max),
        Input::Stream(_) => (None, STREAM_PLANS_AHEAD_MAX),
    };
    if let Some(size) = size {
        let chunks = chunks_of(size, session.chunk_bytes)?;
        options.progress.set_total(size, u64::from(chunks));
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
            let chunks = chunks_of(source.size(), session.chunk_bytes)?;
            let works = work::parts(&source, session.chunk_bytes, 0..chunks, &session.router.buffers);
            sending.send_all(works, &mut tally).await?;
            growth::follow(&sending, &mut tally, &source).await?;
            Some(source)
        }
        Input::Stream(Origin::Stream { input, .. }) => {
            let works = work::cut(input, session.chunk_bytes, limits.stream_chunks_held_max);
            sending.send_all(works, &mut tally).await?;
            None
        }
        Input::Stream(_) => return Err(Error::Panicked("a stream that is none".to_owned())),
    };
    let content = tally
        .content()
        .ok_or_else(|| Error::protocol("chunks with a gap between them"))?;
    let content = *sealed.get_or_init(|| content);
    options
        .progress
        .set_total(content.size, u64::from(content.chunks));
    if content.chunks == 0 && again.is_none() {
        plans::touch(session).await?;
    }
    let publication = seal_until_done(&sending, &mut tally, content, again.as_ref()).await?;
    if options.key.is_some() {
        // An earlier process may have sealed the upload with other bytes: that seal stands, whatever this one said.
        ending::check_published(session, content).await?;
    }
    Ok(session.receipt(content, &tally, publication))
}

/// How many chunks `size` bytes are.
fn chunks_of(size: u64, chunk_bytes: u64) -> Result<u32, Error> {
    let chunks = u32::try_from(size.div_ceil(chunk_bytes)).unwrap_or(u32::MAX);
    if chunks <= CHUNKS_PER_VERSION_MAX {
        return Ok(chunks);
    }
    Err(Error::Invalid(format!(
        "{} is more than a file may hold: {CHUNKS_PER_VERSION_MAX} chunks of {}",
        ByteCount::new(size),
        ByteCount::new(chunk_bytes)
    )))
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
            growth::check(sending, tally, source).await?;
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
            // The better error, if it is the reason.
            growth::check(sending, tally, source).await?;
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
