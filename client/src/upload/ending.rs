//! How an upload ends where it does not simply succeed: what is certain, what is not, and what an earlier process left.
//!
//! Invariant (P1, P4): success is reported only for a version that was published with the bytes of this very source.
//! What an earlier process published under the same key is compared first: its source may have been another.

use std::sync::Arc;
use std::time::Duration;

use common::error::Kind;
use common::ids::UploadId;
use common::path::RemotePath;
use common::units::ByteCount;

use super::content::Content;
use super::receipt::UploadReceipt;
use super::repeatable::Repeatable;
use super::resume::ResumeState;
use super::seal::{self, Publication, Sealed};
use super::send::Tally;
use super::session::{self, Expected, Session, Standing};
use super::work::Input;
use super::{UploadKey, UploadOptions};
use crate::error::Error;
use crate::names::{Entry, EntryKind};
use crate::routing::Router;

/// How long the cluster of a version that is published already may be asked for details.
const DETAILS_WAIT: Duration = Duration::from_secs(5);

/// An upload that was not even opened by this call.
pub(super) fn not_begun(path: &RemotePath, error: Error) -> Error {
    Error::UploadFailed {
        path: path.clone(),
        upload: None,
        source: Box::new(error),
    }
}

/// An upload that could not even be opened. With a key of its own it cannot have been published by anyone; with a key
/// from outside an earlier call may have, and only a clear answer excludes that.
pub(super) fn not_opened(error: Error, key: UploadKey, path: &RemotePath, options: &UploadOptions) -> Error {
    if options.key.is_none() || is_clear(&error) {
        return not_begun(path, error);
    }
    Error::OutcomeUnknown {
        path: path.clone(),
        upload: None,
        key: key.key,
        source: Box::new(error),
    }
}

/// An answer that says of an upload that it is not there, and not merely that nothing can be said.
fn is_clear(error: &Error) -> bool {
    matches!(
        error.kind(),
        Kind::Denied | Kind::NotFound | Kind::Full | Kind::Conflict
    )
}

/// An upload that did not come to its end by itself.
pub(super) struct Ending<'a> {
    pub(super) session: &'a Session,
    pub(super) key: UploadKey,
    pub(super) options: &'a UploadOptions,
    /// What was uploaded, where it can be read again.
    pub(super) source: Option<Arc<Repeatable>>,
    /// What was to be sealed, where it came so far.
    pub(super) sealed: Option<Content>,
}

impl Ending<'_> {
    /// Makes sure that the upload will never be published, or learns that it was. It failed because of `cause`.
    pub(super) async fn settle(self, cause: Error) -> Result<UploadReceipt, Error> {
        let session = self.session;
        let (path, upload) = (session.path.clone(), Some(session.upload));
        let wait = session.router.settings.limits.outcome_wait_max;
        let mut standing = session::abort(&session.router, session.upload, wait).await;
        if session.is_repeatable() && matches!(&standing, Err(error) if error.kind() == Kind::NotFound) {
            standing = abort_by_key(&session.router, self.key, &path, self.options, wait).await;
        }
        let unknown = |cause| Error::OutcomeUnknown {
            path: path.clone(),
            upload,
            key: self.key.key,
            source: Box::new(cause),
        };
        let source = match standing {
            Ok(Standing::Published(entry)) => match self.compare(&entry).await {
                Ok(()) => return Ok(session.receipt_of_entry(entry, false).await),
                Err(error) => error,
            },
            Ok(Standing::Refused { code, message }) => Error::Refused { code, message },
            Ok(Standing::Aborted) => cause,
            Ok(Standing::Open) => return Err(unknown(cause)),
            Err(error) => {
                tracing::warn!(upload = %session.upload, %error, "the upload could not be aborted");
                return Err(unknown(cause));
            }
        };
        Err(Error::UploadFailed {
            path,
            upload,
            source: Box::new(source),
        })
    }

    /// Fails where the version that was published does not have the bytes of this upload.
    async fn compare(&self, entry: &Entry) -> Result<(), Error> {
        if self.options.key.is_none() {
            // Nobody else knows the key: it is what this call sealed.
            return Ok(());
        }
        let content = match (self.sealed, &self.source) {
            (Some(content), _) => content,
            (None, Some(source)) => {
                let input = Input::Repeatable(Arc::clone(source));
                Content::of_input(self.session, input).await?
            }
            // What is left of a stream says nothing of the whole.
            (None, None) => return Err(other_bytes()),
        };
        if content.is_of(entry) {
            Ok(())
        } else {
            Err(other_bytes())
        }
    }
}

fn other_bytes() -> Error {
    Error::NotResumable(
        "it was published by an earlier run, with other bytes than the source has now".to_owned(),
    )
}

/// Fails where the upload was published with other bytes than `content`.
pub(super) async fn check_published(session: &Session, content: Content) -> Result<(), Error> {
    match session.standing().await? {
        Standing::Published(entry) if content.is_of(&entry) => Ok(()),
        _ => Err(other_bytes()),
    }
}

/// The session was lost, or only the key is left: what the key leads to is aborted, or has ended.
async fn abort_by_key(
    router: &Arc<Router>,
    key: UploadKey,
    path: &RemotePath,
    options: &UploadOptions,
    wait: Duration,
) -> Result<Standing, Error> {
    let nothing = Expected {
        size: None,
        repeatable: false,
    };
    match session::open(router, key, path, nothing, options).await {
        Ok((session, Standing::Open)) => session::abort(router, session.upload, wait).await,
        Ok((_, ended)) => Ok(ended),
        // The key leads to nothing, and will not: an upload of it could not even be opened.
        Err(error) if is_clear(&error) => Ok(Standing::Aborted),
        Err(error) => Err(error),
    }
}

/// The key belongs to an upload that has ended.
pub(super) async fn already_ended(
    session: &Session,
    standing: Standing,
    input: Input,
    options: &UploadOptions,
    goes_on: bool,
) -> Result<UploadReceipt, Error> {
    let source = match standing {
        Standing::Published(entry) => {
            let reading = Content::of_input(session, input);
            let content = options.shutdown.guard(reading).await;
            match content.unwrap_or(Err(Error::Interrupted)) {
                Ok(content) if content.is_of(&entry) => {
                    return Ok(session.receipt_of_entry(entry, true).await);
                }
                Ok(_) => other_bytes(),
                Err(error) => error,
            }
        }
        // Judged at its time; what goes on now is judged anew.
        Standing::Refused { code, message } if goes_on => {
            Error::NotResumable(format!("an earlier run of it was refused: {message} [{code}]"))
        }
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

/// Makes sure that the upload of `state` is not published from now on.
pub(crate) async fn forget(router: &Arc<Router>, state: &ResumeState) -> Result<(), Error> {
    let (path, _, options) = match state.restore(UploadOptions::default()) {
        Ok(restored) => restored,
        // Written by another build, or damaged: nobody can go on with it.
        Err(_) => return Ok(()),
    };
    let wait = router.settings.limits.outcome_wait_max;
    match abort_by_key(router, state.key, &path, &options, wait).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_upload_over() => Ok(()),
        Err(error) => Err(error),
    }
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

impl Session {
    pub(super) fn receipt(&self, content: Content, tally: &Tally, publication: Publication) -> UploadReceipt {
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
            EntryKind::Directory | EntryKind::Bucket => common::digest::empty(),
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
